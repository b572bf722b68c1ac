"""What does not fit the training is said before the first part and stays in the catalogue, alike for every source."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import popcat
from popcat.cli import app
from popcat.errors import CatalogWarning
from popcat.pages.report import report
from popcat.run.client import SYNCHRONOUS

RUN = {"draws": 12, "client": SYNCHRONOUS}
COLUMNS = [f"modelflux_{kind}{band}" for band in "ugriz" for kind in ("", "err_")]


@pytest.fixture(scope="module")
def microjansky(galaxies, tmp_path_factory):
    """Fluxes of real galaxies in uJy, without a unit."""
    frame = pd.read_parquet(galaxies)
    path = tmp_path_factory.mktemp("ujy") / "galaxies.parquet"
    frame.assign(**{name: frame[name] * 3.631 for name in COLUMNS}).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def written(microjansky, tiny_model, tmp_path_factory):
    output = tmp_path_factory.mktemp("written") / "out"
    with pytest.warns(CatalogWarning, match=r"DOES NOT FIT .* in uJy\? The survey file says nMgy"):
        return popcat.infer(microjansky, tiny_model, output=output, **RUN)


def test_the_manifest_and_the_repr_say_it(written):
    found = written.manifest.training_check
    assert not found.fits and found.galaxies == 150 and "in uJy" in found.cause
    assert "DOES NOT FIT" in repr(written) and "in uJy" in repr(written)


def test_it_is_the_same_by_every_way_in(microjansky, tiny_model, written, tmp_path):
    lazy = popcat.read_catalog(microjansky, "sdss", rows_per_partition=37)
    for number, source in enumerate((pd.read_parquet(microjansky), lazy)):
        with pytest.warns(CatalogWarning):
            found = popcat.infer(source, tiny_model, output=tmp_path / str(number), **RUN)
        assert found.manifest.training_check == written.manifest.training_check
    for source in (microjansky, lazy):
        with pytest.warns(CatalogWarning, match="in uJy"):
            popcat.infer(source, tiny_model, draws=12, **({} if source is lazy else {"client": SYNCHRONOUS}))


def test_a_rerun_keeps_it(microjansky, tiny_model, written):
    again = popcat.infer(microjansky, tiny_model, output=written.path, **RUN)  # nothing to do, nothing to say
    assert again.manifest.training_check == written.manifest.training_check


def test_a_catalogue_of_before_gains_it_when_its_run_is_given_again(microjansky, tiny_model, written, tmp_path):
    import shutil

    folder = shutil.copytree(written.path, tmp_path / "old")
    path = folder / "_popcat" / "manifest.json"
    content = json.loads(path.read_text())
    del content["training_check"]
    path.write_text(json.dumps(content))
    assert popcat.open_catalog(folder).manifest.training_check is None
    with pytest.warns(CatalogWarning):
        found = popcat.infer(microjansky, tiny_model, output=folder, **RUN)
    assert found.manifest.training_check == written.manifest.training_check


def test_the_report_begins_with_it(written, tmp_path):
    page = report(written.path, tmp_path / "r.html").read_text(encoding="utf-8")
    first = page[page.index('<dl class="trust">') :][:600]
    assert 'badge fail">fail' in first and "does not fit the training" in first and "in uJy" in first


def test_infer_says_it_first_and_last_and_in_json(microjansky, tiny_model, tmp_path):
    arguments = ["infer", str(microjansky), "--posterior", str(tiny_model), "-o", str(tmp_path / "out"), "--draws", "4",
                 "--client", "synchronous", "--json"]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("DOES NOT FIT") == 2
    found = json.loads(result.stdout)["training_check"]
    assert found["fits"] is False and "in uJy" in found["cause"] and found["line"].startswith("DOES NOT FIT")


def test_survey_check_compares_with_the_embedded_posterior_of_the_bands(galaxies, microjansky):
    fits, off = popcat.check_survey(galaxies), popcat.check_survey(microjansky)
    assert fits.training_check.fits and "fit the training" in repr(fits)
    assert off.training_check.posterior == "sdss" and "in uJy" in repr(off)
    named = popcat.check_survey(microjansky, "sdss_nebular").training_check
    assert named.posterior == "sdss_nebular" and "in uJy" in named.cause
    other = popcat.check_survey(galaxies, "sdss", posterior="sdss_nebular")  # whose error floors are smaller
    assert "errors are 2.0 times too large" in other.training_check.cause
    result = CliRunner().invoke(app, ["survey", "check", str(microjansky), "--json"])
    assert json.loads(result.stdout)["training_check"]["fits"] is False and "DOES NOT FIT" in result.stderr


def test_a_survey_without_a_trained_posterior_is_not_compared(galaxies):
    survey = popcat.load_survey("sdss")
    some = survey.model_copy(update={"name": "three", "bands": survey.bands[1:4], "absolute_magnitudes": ()})
    assert popcat.check_survey(galaxies, some).training_check is None


def test_the_check_of_a_catalogue_is_that_of_its_survey_check(microjansky, tiny_model, written):
    found = popcat.check_survey(microjansky, posterior=tiny_model).training_check
    assert found == written.manifest.training_check
    assert np.isfinite([one.value for one in found.measures]).all()

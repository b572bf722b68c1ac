"""What "certified" says wherever it is read: right given the data; never alone where the catalogue does not fit."""

import json

import pandas as pd
import pytest

import popcat
from popcat.catalog.manifest import read_manifest
from popcat.catalog.record import certified_words
from popcat.catalog.training_check import Measure, TrainingCheck
from popcat.columns import certificate_fields
from popcat.galaxies import CERTIFIED_MEANS
from popcat.pages.report import report
from popcat.run.client import SYNCHRONOUS

COLUMNS = [f"modelflux_{kind}{band}" for band in "ugriz" for kind in ("", "err_")]
BUT = "given the data, but the catalogue does not fit the training set"
EFFORT = {"certify": True, "budget_ms": 10.0}
FITS, OFF = (TrainingCheck(posterior="sdss", galaxies=60, measures=[
    Measure(what="brightness given the other bands", band="u", value=rank, low=0.08, high=0.92, detail=detail)])
    for rank, detail in ((0.5, ""), (0.01, "u too bright")))  # fmt: skip


def test_a_line_says_what_a_certificate_means_and_what_does_not_fit():
    good = certified_words(9, 10, FITS)
    assert good == certified_words(9, 10, None) == f"9 of 10 posteriors are certified: {CERTIFIED_MEANS}"
    off = certified_words(9, 10, OFF)
    what = "brightness given the other bands in u (u too bright)"
    assert off == f"9 of 10 posteriors are certified {BUT} ({what}): {CERTIFIED_MEANS}"
    assert certified_words(None, 10, FITS).startswith("column certified: draws are right given")


def test_the_column_and_the_help_say_it(popcat):
    described = {field.name: field.metadata[b"description"].decode() for field in certificate_fields()}
    assert described["certified"].startswith(CERTIFIED_MEANS) and "effective draws >= 100" in described["certified"]
    assert "tests neither the data nor the model" in " ".join(popcat("infer", "--help")[1].replace("│", " ").split())


@pytest.fixture(scope="module")
def microjansky(galaxies, tmp_path_factory):
    """Fluxes of real galaxies in uJy, without a unit: most have a posterior that can be certified."""
    frame = pd.read_parquet(galaxies).iloc[:60]
    path = tmp_path_factory.mktemp("ujy") / "galaxies.parquet"
    frame.assign(**{name: frame[name] * 3.631 for name in COLUMNS}).to_parquet(path)
    return path


def test_a_catalogue_that_does_not_fit_is_nowhere_certified_without_that(popcat, microjansky, tiny_model, tmp_path):
    out = tmp_path / "out"
    status, said, err = popcat("infer", microjansky, "--posterior", tiny_model, "--draws", 12, "--certify",
                               "--budget-ms", 10, "--client", "synchronous", "--json", "-o", out)  # fmt: skip
    assert status == 0
    n = int(pd.read_parquet(out, columns=["certified"])["certified"].sum())
    line = next(line for line in err.splitlines() if "posteriors are certified" in line)
    assert line.startswith(f"{n} of 60 posteriors are certified {BUT} (") and line.endswith(CERTIFIED_MEANS)
    assert json.loads(said)["n_certified"] == n
    status, said, _ = popcat("verify", out)
    assert status == 0
    page = report(out, tmp_path / "r.html").read_text(encoding="utf-8")
    summary = page[page.index('<div class="numbers">') : page.index('<dl class="trust">')]
    assert f'class="fail">{n / 60:.1%}</b><span>certified {BUT}' in summary
    assert f"of the posteriors are certified {BUT} (" in page and CERTIFIED_MEANS in page
    for text in (repr(open_catalog(out)), said):
        assert f"{n} of 60 posteriors {BUT}" in text and CERTIFIED_MEANS in text and "DOES NOT FIT" in text


def open_catalog(path):
    return popcat.open_catalog(path)


def test_a_catalogue_of_before_says_what_it_can(microjansky, tiny_model, tmp_path):
    with pytest.warns(UserWarning):
        popcat.infer(microjansky, tiny_model, output=tmp_path / "out", draws=12, client=SYNCHRONOUS, **EFFORT)
    path = tmp_path / "out" / "_popcat" / "manifest.json"
    content = json.loads(path.read_text())
    del content["n_certified"]
    path.write_text(json.dumps(content))
    assert f"column certified {BUT}" in repr(open_catalog(tmp_path / "out"))
    assert popcat.verify(tmp_path / "out").ok
    assert report(tmp_path / "out", tmp_path / "r.html").is_file()


def test_a_reweighted_catalogue_counts_again(galaxies, tiny_model, tmp_path):
    popcat.infer(galaxies, tiny_model, output=tmp_path / "out", draws=12, client=SYNCHRONOUS, **EFFORT)
    popcat.reweight(tmp_path / "out", lambda draws: -draws["tau_ism"], output=tmp_path / "less_dusty")
    manifest = read_manifest(tmp_path / "less_dusty", type(open_catalog(tmp_path / "out").manifest))
    assert manifest.n_certified == 0, "of twelve draws no hundred are effective"
    assert manifest.status["ok"] == 150

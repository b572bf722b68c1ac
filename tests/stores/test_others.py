"""What else may be in a store: posteriors, libraries, survey files, settings; pages, tables and single files."""

import os
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest
from astropy.io import fits

from popcat import (
    compare,
    draft_survey,
    export,
    fit_noise,
    infer,
    load_posterior,
    load_survey,
    plan,
    report,
    reweight,
    simulate,
    verify,
)
from popcat.cli import main
from popcat.errors import PopcatError
from popcat.forward.noise import noise_of
from popcat.galaxy_model import GalaxyModel
from popcat.io.reading import read_catalog
from popcat.paths import path_of
from popcat.posterior.library import open_library
from popcat.posterior.locations import posterior_folder
from popcat.settings import settings_of

DATA = Path(str(files("popcat") / "data"))
HOW = {"draws": 12, "rows_per_partition": 15, "client": "synchronous"}


@pytest.fixture(scope="module")
def catalog(forty, tmp_path_factory):
    return infer(forty, output=tmp_path_factory.mktemp("made") / "posteriors", **HOW)


@pytest.fixture
def there(catalog, uploaded):
    return uploaded(Path(catalog.path), "copy")


def test_a_posterior_in_a_store_is_the_one_that_was_copied_there(uploaded, forty, catalog):
    url = uploaded(DATA / "models" / "sdss", "trained/sdss")
    assert load_posterior(url).name == load_posterior("sdss").name
    found = infer(forty, url, draws=12)
    pd.testing.assert_frame_equal(found, infer(forty, draws=12))
    before = posterior_folder(url)
    assert posterior_folder(url) == before != posterior_folder("sdss")  # copied once
    (path_of(url) / "notes.txt").put(b"1")
    assert posterior_folder(url) != before  # and again when something changes
    assert plan(forty, url, draws=4, client="synchronous").galaxies == 40


def test_a_posterior_that_is_not_there_is_said(bucket):
    with pytest.raises(PopcatError, match=rf'^no posterior "{bucket}/none": expected a folder'):
        load_posterior(f"{bucket}/none")


def test_survey_files_noise_and_settings_are_read(uploaded, tmp_path, bucket):
    assert load_survey(uploaded(DATA / "surveys" / "sdss.toml", "sdss.toml")) == load_survey("sdss")
    survey = load_survey("sdss")
    assert noise_of(uploaded(DATA / "surveys" / "sdss.noise.json", "n.json"), survey) == noise_of(None, survey)
    (tmp_path / "model.toml").write_text('grid = "bc03_miles_nebular"\n')
    url, expected = uploaded(tmp_path / "model.toml", "model.toml"), GalaxyModel(grid="bc03_miles_nebular")
    assert settings_of(GalaxyModel, url, "galaxy-model") == expected
    for ask in (load_survey, lambda path: settings_of(GalaxyModel, path, "galaxy-model"),
                lambda path: noise_of(path, survey)):  # fmt: skip
        with pytest.raises(PopcatError, match=r"^no .*s3://"):
            ask(f"{bucket}/none.toml")


def test_a_library_is_simulated_into_a_store_and_read_from_it(bucket, tmp_path):
    options = {"seed": 3, "rows_per_partition": 100, "client": "synchronous"}
    there = simulate("sdss", 250, output=f"{bucket}/library", **options)
    here = simulate("sdss", 250, output=tmp_path / "library", **options)
    assert [part.sha256 for part in there.manifest.parts] == [part.sha256 for part in here.manifest.parts]
    assert verify(f"{bucket}/library").ok
    found, expected = open_library(f"{bucket}/library").load(), here.load()
    assert (found.flux == expected.flux).all() and (found.redshift == expected.redshift).all()
    assert there.source(0.2).held_out.flux.shape == here.source(0.2).held_out.flux.shape


def test_a_prior_file_is_read(there, uploaded, bucket, tmp_path):
    (tmp_path / "new.toml").write_text('[tau_ism]\nfamily = "uniform"\nlow = 0.0\nhigh = 2.0\n')
    here = reweight(there, tmp_path / "new.toml", output=tmp_path / "out", client="synchronous")
    found = reweight(there, uploaded(tmp_path / "new.toml", "new.toml"), output=f"{bucket}/out", client="synchronous")
    assert [part.sha256 for part in found.manifest.parts] == [part.sha256 for part in here.manifest.parts]


def test_pages_and_tables_are_written(there, catalog, bucket):
    page = report(there, f"{bucket}/pages/report.html", beside=catalog.path)
    assert str(page) == f"{bucket}/pages/report.html" and b"</html>" in page.read_bytes()
    done = export(there, f"{bucket}/published/table.fits", to="fits")
    with fits.open(path_of(f"{bucket}/published/table.fits").open()) as hdus:
        assert done.rows == len(hdus[1].data) == 40
    with pytest.raises(PopcatError, match="is there already"):
        export(there, f"{bucket}/published/table.fits", to="fits")


def test_a_survey_file_and_a_noise_model_are_written(forty, bucket):
    text = draft_survey(forty, output=f"{bucket}/mine.toml", name="mine")
    assert path_of(f"{bucket}/mine.toml").read_text() == text
    with pytest.raises(PopcatError, match="is there already"):
        draft_survey(forty, output=f"{bucket}/mine.toml")
    noise = fit_noise(read_catalog(DATA / "galaxies_sdss.parquet", "sdss"), output=f"{bucket}/noise.json")
    assert noise_of(f"{bucket}/noise.json", load_survey("sdss")) == noise


def test_two_catalogues_in_a_store_are_compared(there):
    with pytest.raises(PopcatError, match=r"s3://.* --certify|--certify"):
        compare(there, there)


def test_a_calibration_is_kept_on_the_disk(uploaded, capsys, monkeypatch):
    url = uploaded(DATA / "models" / "sdss", "trained/sdss")
    monkeypatch.setattr("sys.argv", ["popcat", "calibrate", "--posterior", url, "-n", "20"])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.count("\n") == 1 and url in said and "got a URL" in said


@pytest.mark.parametrize("line", ["infer GALAXIES -o URL/out --draws 4 --client synchronous", "verify URL/out"])
def test_a_command_names_the_url(line, forty, bucket, capsys, monkeypatch):
    if line.startswith("verify"):
        infer(forty, output=f"{bucket}/out", draws=4, client="synchronous")
    words = line.replace("GALAXIES", str(forty)).replace("URL", bucket).split()
    monkeypatch.setattr("sys.argv", ["popcat", *words])
    with pytest.raises(SystemExit) as end:
        main()
    said = "".join(capsys.readouterr())
    assert end.value.code in (0, None), said
    assert f"{bucket}/out" in said and "s3:/b" not in said
    assert not any(name.startswith("s3") for name in os.listdir())

"""The public names, the example of README, the embedded model, the demo."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import popcat
from popcat import demonstration
from popcat.checks import calibration
from popcat.inference.galaxy_posterior import _MAIN
from popcat.posterior.locations import embedded_posteriors
from popcat.posterior.posterior import load_posterior
from popcat.prior import PRIORS
from popcat.survey import load_survey

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", [name for name in popcat.__all__ if name != "__version__"])
def test_every_public_name_resolves_to_something_documented(name):
    assert getattr(popcat, name).__doc__


def test_an_unknown_name_is_an_attribute_error_that_lists_the_known():
    with pytest.raises(AttributeError, match="read_catalog"):
        popcat.no_such_name  # noqa: B018


def test_readmes_example_is_one_of_the_examples_and_its_output_names_what_that_prints():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code, output = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", readme, re.DOTALL).groups()
    assert code in (ROOT / "examples" / "one_galaxy.py").read_text(encoding="utf-8")
    shown = [line.split()[0] for line in output.splitlines()[1:]]
    assert shown == [*_MAIN, "chi2_best", "log_evidence", "ess", "status"]


def test_the_quickstart_runs_on_what_the_demo_writes(galaxies, tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "catalog.parquet").write_bytes(galaxies.read_bytes())
    script = ROOT / "examples" / "quickstart.py"
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.search(r"\d+ of \d+ galaxies are massive and quiescent", done.stdout)


MODELS = ("galex_sdss_2mass", "sdss", "sdss_nebular")


def test_the_embedded_models_are_small_and_see_the_bands_of_their_surveys():
    assert tuple(embedded_posteriors()) == MODELS
    folder = ROOT / "popcat" / "data" / "models"
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 20e6
    assert load_posterior("sdss").survey == load_survey("sdss")
    for name in MODELS:
        assert load_posterior(name).survey.bands == load_survey(name).bands


@pytest.mark.parametrize("name", MODELS)
def test_the_embedded_models_passed_their_calibration(name):
    from popcat.checks.calibration import calibration_of, require_calibrated
    from popcat.checks.verdict import RUNS

    assert load_posterior(name).draws_mass and load_posterior(name).priors == PRIORS
    for prior in PRIORS:
        assert "passed" in require_calibrated(name, prior).line
        kept = calibration_of(name, prior)
        # errors of a percent, and ten bands, fix luminosities better than a flow of a few minutes' training can
        assert not kept.derived_failures or name != "sdss"
        assert all(column.startswith("abs_mag_") for column in kept.derived_failures)
        assert set(kept.runs) == set(RUNS)
        for run in kept.runs.values():
            assert run.n >= 3800 and run.outside_prior == 0 and run.tarp_max_deviation <= 0.03


@pytest.mark.parametrize("name", MODELS)
def test_the_embedded_models_record_how_they_were_made(name):
    made = load_posterior(name).provenance
    assert made["n_library"] >= 1_000_000
    assert {"library", "library_seed", "grid", "training", "history", "n_library", "validation_log_prob"} <= set(made)
    # a list with one history a member; in the models that were embedded first, that of their only one
    history = made["history"][0] if isinstance(made["history"], list) else made["history"]
    assert history["validation"][history["best_epoch"]] == np.atleast_1d(made["validation_log_prob"])[0]


def test_the_embedded_model_is_calibrated_on_mocks():
    result = popcat.calibrate("sdss", 300, draws=100, runs=("exact",))
    assert result.first.outside_prior == 0
    # 1% of exact posteriors exceed 1.63 / sqrt(n) in one quantity; there are 18
    assert max(result.first.ks.values()) < 2.2 / np.sqrt(300)


def test_the_demo_writes_a_row_for_every_galaxy_a_report_and_a_summary(tmp_path, monkeypatch, galaxies):
    monkeypatch.setattr(demonstration, "GALAXIES", galaxies)
    made = popcat.demo(tmp_path, draws=10, workers=1)
    assert made.n_in == made.n_out == 150 and "150 for 150 galaxies" in repr(made)
    assert json.loads((tmp_path / "summary.json").read_text()) == dataclasses.asdict(made)
    written = pq.read_table(tmp_path / "posteriors" / "part-000000.parquet")
    assert written["object_id"].to_pylist() == pq.read_table(tmp_path / "catalog.parquet")["object_id"].to_pylist()
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_report_of_a_catalogue_shows_the_calibration_kept_with_its_model(tmp_path, galaxies):
    popcat.infer(galaxies, output=tmp_path / "posteriors", draws=10, client="synchronous")
    page = popcat.report(tmp_path / "posteriors", tmp_path / "report.html").read_text(encoding="utf-8")
    kept = calibration.read_calibration(ROOT / "popcat" / "data" / "models" / "sdss" / "calibration")
    assert f"{kept.first.ks['log_mstar']:.3f}" in page

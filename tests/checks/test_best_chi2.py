"""Limits of high_chi2 from mocks: the tail of what draws reach, kept with the posterior, and what infer flags by."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

import popcat
from popcat.checks import best_chi2
from popcat.checks.best_chi2 import DRAWS, as_seen, measure_limits
from popcat.checks.calibration import calibrate, read_calibration, require_calibrated
from popcat.errors import PopcatError
from popcat.galaxies import FLAGS, chi2_limit, observed
from popcat.posterior.locations import embedded_posteriors
from popcat.posterior.posterior import load_posterior
from popcat.posterior.simulated import draw_mocks
from popcat.run.client import SYNCHRONOUS
from popcat.run.runner import How

HERE = How(client=SYNCHRONOUS)


@pytest.fixture(scope="module")
def few_draws():
    """Eight draws at most: what is tested does not depend on how many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(best_chi2, "DRAWS", (1, 2, 8))
        yield


@pytest.fixture(scope="module")
def measured(tiny_model, few_draws):
    return measure_limits(load_posterior(tiny_model), str(tiny_model), 1000, 3, HERE)


def test_one_in_a_thousand_of_its_own_mocks_is_above_a_limit(measured, tiny_model):
    posterior = load_posterior(tiny_model)
    mocks = draw_mocks(posterior, 1000, 3)
    for number, known in ((3, True), (5, False)):
        data = as_seen(mocks, posterior, number, known, 3)
        assert (observed(data.flux, data.flux_err).sum(axis=1) == number).all() and data.is_free.all() != known
        best = posterior.sample(data, 8, 3).chi2.min(axis=1)
        limit = measured.of(np.array([number]), np.array([known]), np.array([8]))
        assert np.sum(best > limit) == 1


def test_with_more_draws_limits_are_no_larger(measured):
    assert measured.mocks == 1000 and measured.draws == [1, 2, 8] and len(measured.known) == len(measured.unknown) == 3
    for limits in (*measured.known, *measured.unknown):
        assert limits == sorted(limits, reverse=True)


def test_they_are_a_function_of_the_seed(measured, tiny_model):
    assert measure_limits(load_posterior(tiny_model), str(tiny_model), 1000, 3, HERE) == measured


def test_few_mocks_have_no_such_tail(tiny_model):
    assert measure_limits(load_posterior(tiny_model), str(tiny_model), 999, 3, HERE) is None


def test_every_embedded_posterior_has_limits_that_are_below_the_law():
    for name in embedded_posteriors():
        for prior in load_posterior(name).priors:
            limits = require_calibrated(name, prior).chi2_limits
            n_bands = np.arange(3, len(load_posterior(name).survey.bands) + 1)
            for known in (True, False):
                found = limits.of(n_bands, np.full(len(n_bands), known), np.full(len(n_bands), 100))
                assert limits.mocks >= 4000 and (found < 0.8 * chi2_limit(n_bands)).all(), name
            assert limits.draws == list(DRAWS)


def test_only_chi2_keeps_the_rest_of_a_calibration(tiny_model, few_draws, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "posterior")
    before = json.loads((folder / "calibration" / "calibration.json").read_text())
    assert before["chi2_limits"] is None
    assert "by the chi2 law" in require_calibrated(folder).line
    made = calibrate(folder, 1000, only_chi2=True, output=folder / "calibration", seed=3, client=SYNCHRONOUS)
    after = json.loads((folder / "calibration" / "calibration.json").read_text())
    assert after.pop("chi2_limits") == made.chi2_limits.model_dump() and before.pop("chi2_limits") is None
    assert after == before and read_calibration(folder / "calibration").chi2_limits == made.chi2_limits
    standing = require_calibrated(folder)
    assert standing.chi2_limits == made.chi2_limits and "law" not in standing.line
    shutil.rmtree(folder / "calibration")
    with pytest.raises(PopcatError, match="has no calibration to keep"):
        calibrate(folder, 1000, only_chi2=True)


def test_infer_flags_by_them_and_a_run_does_not_mix_two(galaxies, tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "posterior")
    made = {"source": galaxies, "posterior": folder, "output": tmp_path / "out", "draws": 8, "client": SYNCHRONOUS}
    by_law = popcat.infer(galaxies, folder, draws=8, client=SYNCHRONOUS)
    path = folder / "calibration" / "calibration.json"
    row = [[2.0]] * 3
    limits = {"mocks": 1000, "tail": 1e-3, "draws": [1], "known": row, "unknown": row}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chi2_limits": limits}))
    catalog = popcat.infer(**made)
    assert catalog.manifest.chi2_limits.model_dump() == limits
    assert popcat.verify(catalog.path).ok
    frame = catalog.to_pandas(["flags", "chi2_best"])
    np.testing.assert_array_equal(frame["flags"] & FLAGS["high_chi2"] != 0, frame["chi2_best"] > 2.0)
    assert (frame["flags"] & FLAGS["high_chi2"] != 0).sum() > (by_law["flags"] & FLAGS["high_chi2"] != 0).sum()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chi2_limits": None}))
    with pytest.raises(PopcatError, match="chi2_limits"):
        popcat.infer(**made)
    assert pd.read_parquet(tmp_path / "out").shape[0] == len(frame)

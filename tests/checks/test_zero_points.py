"""Zero points: offsets that were put into simulated galaxies come out, and what no zero point mends is said."""

from dataclasses import replace

import numpy as np
import pytest

from popcat.checks.beyond_help import beyond_help, run, two_groups
from popcat.checks.zero_points import Fit, Residuals, corrected, fit_offsets, location
from popcat.galaxies import Observation
from popcat.posterior.posterior import load_posterior
from popcat.posterior.simulated import draw_mocks
from popcat.units import POGSON

PUT = np.array([0.0, 0.0, 0.0, 0.15, -0.15])
"""Magnitudes by which the bands ugriz are too bright."""
REFERENCE = 2


@pytest.fixture(scope="module")
def posterior():
    return load_posterior("sdss")


@pytest.fixture(scope="module")
def floors(posterior):
    return np.array([band.error_floor for band in posterior.survey.bands])


@pytest.fixture(scope="module")
def mocks(posterior):
    frame, names = draw_mocks(posterior, 200, 7), posterior.survey.band_names
    flux, err = (frame[[f"{kind}_{name}" for name in names]].to_numpy(dtype=float) for kind in ("flux", "flux_err"))
    return Observation(flux, err, frame["redshift"].to_numpy(), np.full(len(frame), np.nan),
                       frame["object_id"].to_numpy())  # fmt: skip


@pytest.fixture(scope="module")
def fit(posterior, mocks, floors):
    factor = np.exp(PUT / POGSON)
    bright = replace(mocks, flux=mocks.flux * factor, flux_err=mocks.flux_err * factor)
    return fit_offsets(posterior, bright, floors, REFERENCE)


def test_offsets_that_were_put_in_are_recovered_within_their_errors(fit):
    free = np.arange(5) != REFERENCE
    assert fit.is_settled and fit.offset_mag[REFERENCE] == fit.offset_err[REFERENCE] == 0.0
    pull = (fit.offset_mag - PUT)[free] / fit.offset_err[free]
    assert (np.abs(pull) < 2.5).all() and (fit.offset_err[free] <= 0.1 + 1e-9).all()
    assert fit.offset_mag[3] > 0.05 and fit.offset_mag[4] < -0.05


def test_five_bands_hardly_say_how_far_u_is_off(fit):
    """docs/howto/zero_points.md says so."""
    assert fit.offset_err[0] == pytest.approx(0.08, abs=0.01)
    assert fit.offset_err[3] < 0.04


def test_residuals_vanish_with_the_offsets(fit):
    """In units of their scatter, in the mean of the galaxies: with 200 of them 0.07 is one error."""
    def away(residuals):
        return np.abs(np.nanmean(residuals.t, axis=0))

    assert away(fit.after).max() < 0.3 < away(fit.before).max()
    assert np.nanstd(fit.after.t, axis=0) == pytest.approx(np.ones(5), abs=0.3)


def test_nothing_of_mocks_is_beyond_help(fit, mocks):
    assert beyond_help(fit, mocks.redshift) == [None] * 5


def test_a_zero_point_and_a_floor_are_taken_out_as_they_were_put_in(mocks, floors):
    x, new = np.full(5, 0.3), floors + 0.05
    there = corrected(mocks, x, floors, new)
    back = corrected(there, -x, new, floors)
    assert there.flux == pytest.approx(mocks.flux * np.exp(-0.3))
    bare = mocks.flux_err > 1.01 * floors * np.abs(mocks.flux)  # else the error is less than its floor
    assert back.flux_err[bare] == pytest.approx(mocks.flux_err[bare])


def test_a_few_outliers_move_the_mean_by_little():
    random = np.random.default_rng(0)
    sensitivity = random.uniform(5.0, 20.0, 2000)
    t = sensitivity * 0.1 + random.standard_normal(2000)
    t[:100] = 50.0
    mean, influence, _ = location(t, sensitivity)
    error = np.sqrt(np.sum(influence**2))
    assert error == pytest.approx(1.0 / np.sqrt(np.sum(sensitivity**2)), rel=0.3)
    assert mean == pytest.approx(0.1, abs=0.02)


def of(t, mag, offset=0.0):
    """A fit of one band whose residuals are t, in tenths of a magnitude."""
    residuals = Residuals(np.asarray(t)[:, None], np.full((len(t), 1), 10.0 * POGSON), np.asarray(mag)[:, None])
    return Fit(np.array([offset]), np.array([0.01]), np.zeros(1), np.array([len(t)]), 1, True, residuals, residuals)


def test_what_no_zero_point_mends_is_said():
    random = np.random.default_rng(1)
    t, mag, z = random.standard_normal(1000), random.uniform(18.0, 22.0, 1000), random.uniform(0.0, 1.0, 1000)
    assert beyond_help(of(t, mag), z) == [None]
    assert "mag: unit" in beyond_help(of(t, mag, offset=-0.4), z)[0]
    assert "magnitude: aperture" in beyond_help(of(t + 2.0 * (mag - 20.0), mag), z)[0]
    assert "redshift: filter curve" in beyond_help(of(t + 8.0 * z, mag), z)[0]
    assert "two groups of galaxies, 2.0 mag apart" in beyond_help(of(t + 20.0 * (z > 0.7), mag), z)[0]
    assert beyond_help(of(0.3 * t + 3.5 * (np.arange(1000) % 10 < 3), mag), z) == [None]  # within four errors
    assert beyond_help(of(t[:10], mag[:10], offset=2.0), z[:10]) == [None]


def test_heavy_tails_are_one_group():
    random = np.random.default_rng(2)
    assert two_groups(random.standard_t(3, 3000) * 0.2) is None


def test_a_run_is_measured_with_its_error():
    random = np.random.default_rng(3)
    values = random.uniform(0.0, 1.0, 5000)
    size, error = run(values, random.standard_normal(5000) + values, np.full(5000, 10.0))
    assert size == pytest.approx(0.8 * 0.1 * POGSON, abs=4.0 * error) and error < 0.01

"""Features are magnitudes where magnitudes exist, finite everywhere, white over the training set, and storable."""

import json

import numpy as np
import pytest

from popcat.galaxies import asinh_mag
from popcat.posterior.features import Features, fit_features, raw_features
from popcat.units import nmgy_to_ab_mag

SOFTENING = np.array(0.05)
N_BAND = 5


@pytest.fixture(scope="module")
def training_set():
    """Correlated fluxes of five bands, some negative, with their errors and redshifts."""
    random = np.random.default_rng(0)
    flux = 10 ** random.normal(1.0, 0.7, (5000, 1)) * random.uniform(0.5, 2.0, (5000, N_BAND))
    err = 0.3 * np.exp(0.3 * random.standard_normal((5000, N_BAND))) + 0.03 * flux
    return flux + err * random.standard_normal(flux.shape), err, random.uniform(0.01, 0.5, 5000)


@pytest.fixture(scope="module")
def features(training_set):
    return fit_features(*training_set, "Planck13")


def test_a_bright_asinh_magnitude_is_the_ab_magnitude():
    flux = np.array([10.0, 1e3, 1e6])
    np.testing.assert_allclose(asinh_mag(flux, SOFTENING), nmgy_to_ab_mag(flux), atol=1e-4)


def test_a_flux_of_zero_has_a_finite_asinh_magnitude():
    assert asinh_mag(np.array(0.0), SOFTENING) == pytest.approx(22.5 - 2.5 * np.log10(0.05))


def test_asinh_magnitudes_are_finite_and_fall_with_flux_through_zero():
    mag = asinh_mag(np.linspace(-10, 10, 2001), SOFTENING)
    assert np.isfinite(mag).all()
    assert (np.diff(mag) < 0).all()


def test_a_faint_asinh_magnitude_is_linear_and_odd_about_zero():
    zero = asinh_mag(np.array(0.0), SOFTENING)
    small = 1e-4
    up, down = (asinh_mag(np.array(sign * small), SOFTENING) - zero for sign in (1, -1))
    assert up == pytest.approx(-down, rel=1e-9)
    assert up == pytest.approx(-2.5 / np.log(10) * small / (2 * SOFTENING), rel=1e-5)


def test_raw_features_are_magnitudes_errors_redshift_and_modulus(training_set):
    from astropy.cosmology import Planck13

    flux, err, redshift = training_set
    raw = raw_features(flux, err, np.full(N_BAND, 0.05), redshift, "Planck13")
    assert raw.shape == (5000, 2 * N_BAND + 2)
    np.testing.assert_array_equal(raw[:, :N_BAND], asinh_mag(flux, 0.05))
    np.testing.assert_array_equal(raw[:, N_BAND : 2 * N_BAND], np.log10(err))
    np.testing.assert_array_equal(raw[:, -2], redshift)
    np.testing.assert_allclose(raw[:50, -1], Planck13.distmod(redshift[:50]).value, atol=1e-4)


def test_whitened_features_have_mean_zero_and_unit_covariance(training_set, features):
    found = features(*training_set)
    assert found.shape == (5000, features.n_features) and np.all(found[:, -N_BAND:] == 0.0)
    white = found[:, :-N_BAND].astype(float)
    np.testing.assert_allclose(white.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(np.cov(white.T), np.eye(2 * N_BAND + 2), atol=1e-3)


def test_features_that_never_vary_stay_finite(training_set):
    flux, err, redshift = training_set
    features = fit_features(flux, np.ones_like(err), redshift, "Planck13")
    assert np.isfinite(features(flux, np.ones_like(err), redshift)).all()


def test_the_softening_is_of_the_order_of_the_error(training_set, features):
    np.testing.assert_array_equal((training_set[1] < features.softening).mean(axis=0), 0.05)


def test_features_are_finite_float32_for_any_valid_photometry(features):
    flux = np.array([[-1e4] * N_BAND, [0.0] * N_BAND, [1e7] * N_BAND])
    got = features(flux, np.array([[1e-3], [1.0], [1e6]]) * np.ones(N_BAND), np.array([0.001, 0.1, 0.6]))
    assert got.dtype == np.float32
    assert np.isfinite(got).all()


def test_features_are_row_by_row(training_set, features):
    whole = features(*training_set)
    part = features(*(values[100:150] for values in training_set))
    np.testing.assert_allclose(part, whole[100:150], rtol=0, atol=1e-5)


def test_without_a_redshift_the_features_are_the_photometry_alone(training_set):
    flux, err, redshift = training_set
    features = fit_features(flux, err, None, "Planck13")
    assert features(flux, err).shape == (5000, 3 * N_BAND)
    assert np.array_equal(features(flux, err, redshift), features(flux, err))


@pytest.mark.parametrize("missing", [[0], [1, 3], [0, 1, 2, 3, 4]])
def test_a_missing_band_is_predicted_from_the_others_and_said_to_be_missing(training_set, features, missing):
    flux, err, redshift = (values.copy() for values in training_set)
    raw = raw_features(flux, err, features.softening, redshift, "Planck13")
    gone = [*missing, *(b + N_BAND for b in missing)]
    kept = [j for j in range(raw.shape[1]) if j not in gone]
    design = np.column_stack([np.ones(len(raw)), raw[:, kept]])
    filled = raw.copy()
    filled[:, gone] = design @ np.linalg.lstsq(design, raw[:, gone], rcond=None)[0]
    flux[:, missing] = np.nan
    found = features(flux, err, redshift)
    values, vectors = np.linalg.eigh(np.cov(raw.T))
    np.testing.assert_allclose(found[:, :-N_BAND], (filled - raw.mean(0)) @ (vectors / np.sqrt(values)), atol=2e-3)
    assert np.array_equal(found[0, -N_BAND:], np.isin(np.arange(N_BAND), missing))


def test_what_a_missing_band_holds_does_not_matter(training_set, features):
    flux, err, redshift = (values[:100].copy() for values in training_set)
    hidden = err.copy()
    hidden[:, 1] = 0.0
    expected = features(flux, hidden, redshift)
    flux[:, 1] = np.nan
    assert np.array_equal(features(flux, err, redshift), expected)


def test_masks_may_differ_from_row_to_row(training_set, features):
    flux, err, redshift = (values[:200].copy() for values in training_set)
    flux[np.random.default_rng(1).uniform(size=flux.shape) < 0.4] = np.nan
    whole = features(flux, err, redshift)
    alone = np.concatenate([features(flux[i : i + 1], err[i : i + 1], redshift[i : i + 1]) for i in range(200)])
    np.testing.assert_allclose(whole, alone, atol=1e-5)


def test_features_survive_json(training_set, features):
    again = Features.from_dict(json.loads(json.dumps(features.to_dict())))
    assert np.array_equal(again(*training_set), features(*training_set))
    assert again.cosmology == "Planck13"

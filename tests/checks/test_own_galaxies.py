"""A catalogue's galaxies describe themselves without their noise, and tell when a band of one of them is off."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from popcat.checks.flags import MIN_GALAXIES, fit_own_galaxies, improve
from popcat.galaxies import Observation

SOFTENING = np.full(4, 1e-3)


def catalogue(n, seed=0, *, error=0.05, missing=None):
    """Galaxies whose colours follow their redshift within 0.03 mag; errors between half and twice the mean."""
    random = np.random.default_rng(seed)
    redshift = random.uniform(0.05, 0.5, n)
    magnitude = 18 - 2 * redshift[:, None] * np.arange(4) + 0.03 * random.standard_normal((n, 4))
    magnitude += random.standard_normal((n, 1))
    err = error * np.exp(random.uniform(-0.7, 0.7, (n, 4)))
    flux = 10 ** (0.4 * (22.5 - magnitude))
    flux_err = 0.921 * err * flux
    flux = flux + flux_err * random.standard_normal(flux.shape)
    if missing is not None:
        flux[::2, missing] = np.nan
    return Observation(flux, flux_err, redshift, np.full(n, np.nan), np.arange(n))


@pytest.fixture(scope="module")
def own():
    return fit_own_galaxies(catalogue(2400), SOFTENING)


@pytest.mark.parametrize("error", [0.02, 0.05, 0.15])
def test_of_the_catalogues_kind_a_fraction_p_is_below_p_whatever_the_errors(own, error):
    tail, _ = own.band_tails(catalogue(4000, 1, error=error))
    for p in (0.01, 0.1):
        assert np.mean(tail < p) == pytest.approx(p, abs=0.6 * p)


@pytest.mark.parametrize("band", range(4))
def test_a_band_that_is_off_is_flagged_and_named(own, band):
    data = catalogue(300, 2)
    data.flux[:, band] *= 10 ** (0.4 * 0.5)
    tail, found = own.band_tails(data)
    assert np.mean(tail < 0.01) > 0.9
    assert np.mean(found == band) > 0.9


def test_large_errors_excuse_what_small_ones_do_not(own):
    data = catalogue(300, 3)
    data.flux[:, 1] *= 10 ** (0.4 * 0.5)
    tails = (own.band_tails(replace(data, flux_err=data.flux_err * factor))[0] for factor in (1.0, 8.0))
    small, large = (np.mean(tail < 0.01) for tail in tails)
    assert small > 0.9 and large < 0.3


def test_missing_bands_and_redshifts_are_neither_fitted_nor_tested():
    own, data = fit_own_galaxies(catalogue(2400, missing=1), SOFTENING), catalogue(2000, 4, missing=2)
    data.redshift[::3] = np.nan
    tail, band = own.band_tails(data)
    assert np.mean(tail < 0.1) == pytest.approx(0.1, abs=0.05)
    assert not np.isin(band[::2], 2).any()


def test_two_bands_are_too_few(own):
    data = catalogue(5, 5)
    data.flux[:, :2] = np.nan
    tail, band = own.band_tails(data)
    assert np.isnan(tail).all() and (band == -1).all()


def test_few_galaxies_are_not_described():
    assert fit_own_galaxies(catalogue(MIN_GALAXIES - 1), SOFTENING) is None


def test_the_fit_is_a_function_of_the_catalogue(own):
    again = fit_own_galaxies(catalogue(2400), SOFTENING)
    np.testing.assert_array_equal(again.means, own.means)


def test_a_band_that_no_galaxy_has_is_no_obstacle():
    data = catalogue(1000)
    data.flux[:, 3] = np.nan
    tail, _ = fit_own_galaxies(data, SOFTENING).band_tails(data)
    assert np.isfinite(tail).all()


def improved(x, variance, weights, means, covariances):
    """Equations 12 to 14 of Bovy et al. (2011), as they stand there."""
    total = covariances[:, None] + variance[:, :, None] * np.eye(x.shape[1])
    density = np.array([[w * multivariate_normal(m, c).pdf(at) for at, c in zip(x, cs, strict=True)]
                        for w, m, cs in zip(weights, means, total, strict=True)])  # fmt: skip
    share = density / density.sum(axis=0)
    gain = covariances[:, None] @ np.linalg.inv(total)
    expected = means[:, None] + (gain @ (x - means[:, None])[..., None])[..., 0]
    spread = covariances[:, None] - gain @ covariances[:, None]
    new = np.einsum("kn,kni->ki", share, expected) / share.sum(axis=1)[:, None]
    away = expected - new[:, None]
    second = np.einsum("kn,knij->kij", share, away[..., :, None] * away[..., None, :] + spread)
    return share.mean(axis=1), new, second / share.sum(axis=1)[:, None, None]


def test_a_step_of_the_fit_is_that_of_the_paper():
    random = np.random.default_rng(0)
    n, d, k = 60, 3, 2
    x, variance = random.normal(size=(n, d)), random.uniform(0.1, 1.0, size=(n, d))
    variance[::3, 1] = 1e6
    weights, means, half = random.dirichlet(np.ones(k)), random.normal(size=(k, d)), random.normal(size=(k, d, d))
    mixture = weights, means, half @ half.transpose(0, 2, 1) + 0.1 * np.eye(d)
    found, expected = improve(x, variance, *mixture), improved(x, variance, *mixture)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)
    np.testing.assert_allclose(found[2], expected[2] + 1e-5 * np.eye(d), atol=1e-6)

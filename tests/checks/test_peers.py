"""A catalogue's galaxies describe themselves without their noise, and tell when a band of one of them is off."""

import numpy as np
import pytest

from popcat.checks.peers import MIN_GALAXIES, fit_peers

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
    return flux, flux_err, redshift, np.full(n, np.nan)


@pytest.fixture(scope="module")
def peers():
    return fit_peers(*catalogue(2400), SOFTENING)


@pytest.mark.parametrize("error", [0.02, 0.05, 0.15])
def test_of_the_catalogues_kind_a_fraction_p_is_below_p_whatever_the_errors(peers, error):
    tail, _ = peers.band_tails(*catalogue(4000, 1, error=error))
    for p in (0.01, 0.1):
        assert np.mean(tail < p) == pytest.approx(p, abs=0.6 * p)


@pytest.mark.parametrize("band", range(4))
def test_a_band_that_is_off_is_flagged_and_named(peers, band):
    flux, *rest = catalogue(300, 2)
    flux[:, band] *= 10 ** (0.4 * 0.5)
    tail, found = peers.band_tails(flux, *rest)
    assert np.mean(tail < 0.01) > 0.9
    assert np.mean(found == band) > 0.9


def test_large_errors_excuse_what_small_ones_do_not(peers):
    flux, err, *rest = catalogue(300, 3)
    flux[:, 1] *= 10 ** (0.4 * 0.5)
    small, large = (np.mean(peers.band_tails(flux, err * factor, *rest)[0] < 0.01) for factor in (1.0, 8.0))
    assert small > 0.9 and large < 0.3


def test_missing_bands_and_redshifts_are_neither_fitted_nor_judged():
    peers = fit_peers(*catalogue(2400, missing=1), SOFTENING)
    flux, err, redshift, sigma = catalogue(2000, 4, missing=2)
    redshift[::3] = np.nan
    tail, band = peers.band_tails(flux, err, redshift, sigma)
    assert np.mean(tail < 0.1) == pytest.approx(0.1, abs=0.05)
    assert not np.isin(band[::2], 2).any()


def test_two_bands_are_too_few(peers):
    flux, *rest = catalogue(5, 5)
    flux[:, :2] = np.nan
    tail, band = peers.band_tails(flux, *rest)
    assert np.isnan(tail).all() and (band == -1).all()


def test_few_galaxies_have_no_peers():
    assert fit_peers(*catalogue(MIN_GALAXIES - 1), SOFTENING) is None


def test_the_fit_is_a_function_of_the_catalogue(peers):
    again = fit_peers(*catalogue(2400), SOFTENING)
    np.testing.assert_array_equal(again.means, peers.means)


def test_a_band_that_no_galaxy_has_is_no_obstacle():
    flux, *rest = catalogue(1000)
    flux[:, 3] = np.nan
    tail, _ = fit_peers(flux, *rest, SOFTENING).band_tails(flux, *rest)
    assert np.isfinite(tail).all()

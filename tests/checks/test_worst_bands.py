"""A band that is off is found: without it the rest fits."""

from dataclasses import replace

import numpy as np
import pytest

from popcat.checks.flags import worst_bands
from popcat.galaxies import Observation, chi2_of
from popcat.posterior.from_prior import prior_posterior


def photometry(flux, err):
    """One galaxy."""
    return Observation(np.array([flux]), np.array([err]), np.zeros(1), np.full(1, np.nan), np.zeros(1, dtype=int))


def test_chi2_leaves_missing_bands_out():
    model = np.array([[[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]])
    data = photometry([2.0, np.nan, 5.0], [0.5, 1.0, 1.0])
    assert chi2_of(model, data).tolist() == [[4.0 + 4.0, 16.0 + 25.0]]


@pytest.mark.parametrize("err", [0.0, -1.0, np.inf, np.nan])
def test_chi2_leaves_bands_with_a_bad_error_out(err):
    assert chi2_of(np.ones((1, 1, 2)), photometry([2.0, 7.0], [0.5, err])).tolist() == [[4.0]]


def test_an_absurdly_small_error_is_an_infinite_chi2():
    assert chi2_of(np.ones((1, 1, 1)), photometry([2.0], [1e-200])).tolist() == [[np.inf]]


@pytest.mark.parametrize("band", [0, 2, 4])
def test_the_band_that_disagrees_is_named(trained, observed, band):
    posterior, data = trained[0], observed[:10]
    flux = posterior.forward.flux(posterior.prior.from_unit(np.full((10, 11), 0.5)), data.redshift)
    off = flux * np.where(np.arange(5) == band, 60.0, 1.0)
    worst = worst_bands(posterior, replace(data, flux=off, flux_err=0.3 * flux), 0)
    assert np.mean(worst == band) >= 0.9


@pytest.mark.parametrize("band", [1, 2])
def test_it_is_named_too_where_proposals_are_fitted_to_each_galaxy(trained, observed, survey, noise, model, band):
    posterior = prior_posterior(survey, model, prior="flat", noise=noise)
    some = observed[:4]
    flux = posterior.forward.flux(posterior.prior.from_unit(np.full((4, 11), 0.5)), some.redshift)
    off = flux * np.where(np.arange(5) == band, 2.0, 1.0)
    assert (worst_bands(posterior, replace(some, flux=off, flux_err=0.03 * flux), 0) == band).all()
    off[3, 2:] = np.nan
    assert worst_bands(posterior, replace(some, flux=off, flux_err=0.03 * flux)[3:], 0).tolist() == [-1]


def test_with_two_bands_none_can_be_named(trained, observed):
    few = observed.flux[:10].copy()
    few[:, :3] = np.nan
    worst = worst_bands(trained[0], replace(observed[:10], flux=few, flux_err=np.abs(few)), 0)
    assert (worst == -1).all()

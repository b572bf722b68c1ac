"""A band that is off is found: without it the rest fits."""

import numpy as np
import pytest

from popcat.checks.flags import worst_bands
from popcat.forward.model import forward_for
from popcat.galaxies import chi2_of


def test_chi2_leaves_missing_bands_out():
    model = np.array([[[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]])
    flux, err = np.array([[2.0, np.nan, 5.0]]), np.array([[0.5, 1.0, 1.0]])
    assert chi2_of(model, flux, err).tolist() == [[4.0 + 4.0, 16.0 + 25.0]]


@pytest.mark.parametrize("err", [0.0, -1.0, np.inf, np.nan])
def test_chi2_leaves_bands_with_a_bad_error_out(err):
    flux, errors = np.array([[2.0, 7.0]]), np.array([[0.5, err]])
    assert chi2_of(np.ones((1, 1, 2)), flux, errors).tolist() == [[4.0]]


def test_an_absurdly_small_error_is_an_infinite_chi2():
    assert chi2_of(np.ones((1, 1, 1)), np.array([[2.0]]), np.array([[1e-200]])).tolist() == [[np.inf]]


@pytest.fixture
def galaxies(trained, observed):
    """Ten galaxies, and what is needed to fit them."""
    posterior = trained[0]
    forward = forward_for(posterior.survey, posterior.galaxy_model).photometry.flux
    flux, _, redshift, object_id = (values[:10] for values in observed)
    return posterior, forward, flux, redshift, object_id


@pytest.mark.parametrize("band", [0, 2, 4])
def test_the_band_that_is_off_is_named(galaxies, band):
    posterior, forward, _, redshift, object_id = galaxies
    flux = forward(posterior.prior.from_unit(np.full((10, 11), 0.5)), redshift)
    err = 0.3 * flux
    flux[:, band] *= 60.0
    worst = worst_bands(posterior, forward, flux, err, redshift, np.full(10, np.nan), object_id, 0)
    assert np.mean(worst == band) >= 0.9


def test_with_two_bands_none_can_be_named(galaxies):
    posterior, forward, flux, redshift, object_id = galaxies
    few = flux.copy()
    few[:, :3] = np.nan
    worst = worst_bands(posterior, forward, few, np.abs(few), redshift, np.full(10, np.nan), object_id, 0)
    assert (worst == -1).all()

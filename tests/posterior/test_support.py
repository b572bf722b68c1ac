"""Tail probabilities are calibrated for any set of bands, and name what is unlike the training set."""

import dataclasses

import numpy as np
import pytest

from popcat.posterior.support import Support, _steps, fit_support, support_from_file, support_to_bytes

N_BAND = 4


def sample(n, seed):
    """Fluxes of one-parameter colours, errors of a locus with scatter, and redshifts that the colours follow."""
    random = np.random.default_rng(seed)
    redshift = random.uniform(0.05, 0.5, n)
    brightness, colour = random.normal(1.5, 0.4, n), redshift + 0.05 * random.standard_normal(n)
    flux = 10 ** (brightness[:, None] + colour[:, None] * np.arange(N_BAND))
    err = 0.05 * flux * np.exp(0.2 * random.standard_normal(flux.shape)) + 0.1
    return flux + err * random.standard_normal(flux.shape), err, redshift


@pytest.fixture(scope="module")
def support():
    return fit_support(*sample(20_000, 0), np.full(N_BAND, 0.1))


@pytest.fixture
def fresh():
    return sample(4000, 1)


@pytest.mark.parametrize("missing", [[], [0], [1, 3], [0, 1, 2]])
@pytest.mark.parametrize("has_redshift", [True, False])
def test_of_galaxies_like_the_training_set_a_fraction_p_is_below_p(support, fresh, missing, has_redshift):
    flux, err, redshift = fresh
    flux[:, missing] = np.nan
    tails = support.tails(flux, err, redshift if has_redshift else np.full(4000, np.nan))
    for tail in tails:
        for p in (0.01, 0.1, 0.5):
            assert np.mean(tail < p) == pytest.approx(p, abs=4.5 * np.sqrt(p * (1 - p) / 4000) + 0.008)


def test_errors_far_above_the_locus_are_unusual_noise_and_the_band_is_named(support, fresh):
    flux, err, redshift = (values[:200].copy() for values in fresh)
    err[:, 2] *= 20.0
    noise, _ = support.tails(flux, err, redshift)
    assert np.mean(noise < 1e-3) > 0.99
    assert np.mean(support.unusual_noise(flux, err) == 2) > 0.95


def test_colours_that_no_galaxy_has_are_unusual_colours(support, fresh):
    flux, err, redshift = (values[:200].copy() for values in fresh)
    flux[:, 1] *= 6.0
    _, colours = support.tails(flux, err, redshift)
    assert np.mean(colours < 1e-3) > 0.95


def test_a_wrong_redshift_is_an_unusual_colour(support, fresh):
    flux, err, redshift = fresh
    near, far = redshift < 0.1, np.full(len(redshift), 0.45)
    _, right = support.tails(flux[near], err[near], redshift[near])
    _, wrong = support.tails(flux[near], err[near], far[near])
    assert np.mean(wrong < 1e-2) > 0.9 and np.mean(right < 1e-2) < 0.05


def test_a_galaxy_without_bands_has_no_tails(support):
    nothing = np.full((1, N_BAND), np.nan)
    noise, colours = support.tails(nothing, nothing, np.array([0.1]))
    assert np.isnan(noise[0]) and np.isnan(colours[0])
    assert support.unusual_noise(nothing, nothing).tolist() == [-1]


def test_no_galaxies_have_no_tails(support):
    noise, colours = support.tails(np.empty((0, N_BAND)), np.empty((0, N_BAND)), np.empty(0))
    assert noise.shape == colours.shape == (0,)


def test_a_file_loses_nothing_and_is_half_as_large(support, tmp_path):
    content = support_to_bytes(support)
    plain = sum(getattr(support, name).nbytes for name in Support.names)
    assert len(content) < 0.55 * plain
    (tmp_path / "support.safetensors").write_bytes(content)
    read = support_from_file(tmp_path / "support.safetensors")
    for name in Support.names:
        np.testing.assert_array_equal(getattr(read, name), getattr(support, name))
        assert getattr(read, name).dtype == getattr(support, name).dtype
    assert support_to_bytes(read) == content


def test_a_support_of_before_loses_nothing_either(support, tmp_path):
    moved = dataclasses.replace(support, means=support.means + 1e-12, reference=support.reference + np.float32(1e-5))
    (tmp_path / "support.safetensors").write_bytes(support_to_bytes(moved))
    read = support_from_file(tmp_path / "support.safetensors")
    for name in Support.names:
        np.testing.assert_array_equal(getattr(read, name), getattr(moved, name))


def test_a_support_without_reference_galaxies_is_stored_too(support, tmp_path):
    empty = dataclasses.replace(support, reference=support.reference[:0])
    (tmp_path / "support.safetensors").write_bytes(support_to_bytes(empty))
    read = support_from_file(tmp_path / "support.safetensors")
    for name in Support.names:
        np.testing.assert_array_equal(getattr(read, name), getattr(empty, name))


def test_magnitudes_are_as_fine_as_the_sample_needs(support):
    assert (_steps(support.reference)[:N_BAND] < 1e-3).all()

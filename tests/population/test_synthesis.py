"""Synthetic observations: popcat's own fluxes and noise, with gradients."""

import numpy as np
import pytest
import torch

from popcat.forward.noise import add_noise, default_noise
from popcat.forward.photometry import Photometry
from popcat.galaxy_model import GalaxyModel
from popcat.population.cuts import parse_cuts
from popcat.population.synthesis import Space, Synthesis, TorchNoise
from popcat.prior import make_prior
from popcat.survey import load_survey


@pytest.fixture(scope="module")
def synthesis():
    survey, model = load_survey("sdss"), GalaxyModel()
    space = Space(make_prior(model), survey.redshift_range)
    cuts = parse_cuts(["r<19.8"], survey.band_names)
    return Synthesis(Photometry(survey, model), default_noise(survey), cuts, space)


def numbers(n, width, seed=0):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_noise_is_the_noise_models_kernel():
    noise = default_noise(load_survey("sdss"))
    flux = 10 ** np.random.default_rng(0).uniform(-3, 5, (500, 5))
    normals = numbers(500, 10)
    _, err = add_noise(flux, noise, normals.numpy())
    found = TorchNoise(noise).errors(torch.tensor(flux), normals[:, :5])
    np.testing.assert_allclose(found.numpy(), err, rtol=1e-5)


def test_what_is_observed_is_flux_plus_error_times_a_normal_number(synthesis):
    x, normals = numbers(50, synthesis.space.n_dim), numbers(50, 10, 1)
    flux, _ = synthesis.fluxes(x)
    seen = synthesis.observe(x, normals, hard=True)
    torch.testing.assert_close(seen.flux, flux + seen.err * normals[:, 5:])
    np.testing.assert_array_equal(seen.weight.numpy() > 0, seen.flux[:, 2].numpy() > 10 ** (0.4 * 2.7))


def test_fluxes_are_popcats_own(synthesis):
    x = numbers(20, synthesis.space.n_dim)
    flux, redshift = synthesis.fluxes(x)
    theta, z = synthesis.space.arrays(x)
    np.testing.assert_allclose(flux.numpy(), synthesis.photometry.flux(theta, z), rtol=1e-6)
    np.testing.assert_allclose(redshift.numpy(), z)


def test_the_gradient_through_noise_and_selection_is_that_of_finite_differences(synthesis):
    x, normals = 0.3 * numbers(4, synthesis.space.n_dim), numbers(4, 10, 1)

    def value(at):
        seen = synthesis.observe(at, normals, hard=False)
        return (seen.weight + torch.asinh(seen.flux).mean(1)).sum()

    at = x.clone().requires_grad_()
    value(at).backward()
    step = 1e-5
    for column in (0, 9, synthesis.space.n_dim - 1):  # mass, dust, redshift
        moved = torch.zeros_like(x)
        moved[:, column] = step
        slope = (value(x + moved) - value(x - moved)) / (2 * step)
        assert at.grad[:, column].sum().item() == pytest.approx(slope.item(), rel=5e-3, abs=1e-4)


def test_noise_can_be_scaled_away(synthesis):
    x, normals = numbers(10, synthesis.space.n_dim), numbers(10, 10, 1)
    torch.testing.assert_close(synthesis.observe(x, normals, hard=True, noise_scale=0.0).flux, synthesis.fluxes(x)[0])

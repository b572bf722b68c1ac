"""Laws of the map between the flow's space and the galaxy model's."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from popcat.galaxy_model import GalaxyModel
from popcat.population.settings import PopulationSettings
from popcat.population.synthesis import Space, draw, log_density, log_standard_normal, new_flow
from popcat.prior import make_prior


@pytest.fixture(scope="module", params=["flat", "provabgs_warped"])
def space(request):
    return Space(make_prior(GalaxyModel(beta=request.param)), (0.001, 0.6))


def draws(space, n=2000, scale=1.0):
    return scale * torch.randn(n, space.n_dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_it_is_the_priors_own_map(space):
    x = draws(space)
    theta, _ = space.parameters(x)
    np.testing.assert_allclose(theta.numpy(), space.prior.from_unconstrained(x[:, :-1].numpy()), atol=1e-9)


def test_there_and_back(space):
    x = draws(space)
    np.testing.assert_allclose(space.unconstrained(*space.arrays(x)), x.numpy(), atol=2e-5)


def test_no_draw_leaves_the_prior_or_the_redshift_range(space):
    theta, redshift = space.arrays(draws(space, scale=4.0))
    assert space.prior.contains(theta).all()
    assert ((redshift >= 0.001) & (redshift <= 0.6)).all()


def test_redshift_is_uniform_where_x_is_normal(space):
    _, redshift = space.arrays(draws(space))
    assert kstest((redshift - 0.001) / 0.599, "uniform").pvalue > 1e-3


def test_gradients_are_finite_far_out(space):
    x = draws(space, 200, scale=3.0).requires_grad_()
    theta, redshift = space.parameters(x)
    (theta.sum() + redshift.sum()).backward()
    assert torch.isfinite(x.grad).all()


def test_single_precision_on_the_priors_edge_is_brought_inside(space):
    theta, redshift = space.arrays(draws(space, 5))
    theta[:, 0] = space.prior.bounds("log_mstar_formed")[1]
    assert np.isfinite(space.unconstrained(theta.astype(np.float32), redshift)).all()


def test_the_log_density_is_that_of_the_normal():
    assert log_standard_normal(torch.zeros(1, 2)).item() == pytest.approx(-np.log(2 * np.pi))


SETTINGS = PopulationSettings(n_blocks=4, hidden=16, n_bins=4)


def test_a_flow_near_the_identity_draws_what_it_is_given():
    flow, _ = new_flow(SETTINGS, 3, 0)
    noise = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
    x = draw(flow, noise)
    assert (x.mean(0).abs() < 0.3).all()
    assert ((x.std(0) - 1).abs() < 0.5).all()


def test_draws_have_the_density_that_the_flow_says():
    flow, _ = new_flow(SETTINGS, 3, 0)
    noise = torch.randn(100, 3)
    x = draw(flow, noise)
    back, log_det = flow._transform(x, torch.zeros(100, 1))
    torch.testing.assert_close(back, noise, atol=1e-4, rtol=1e-4)
    expected = torch.distributions.Normal(0, 1).log_prob(noise).sum(1) + log_det
    torch.testing.assert_close(log_density(flow, x), expected, atol=1e-3, rtol=1e-3)

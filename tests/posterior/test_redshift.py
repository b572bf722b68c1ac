"""Redshifts are drawn from the density that was given, alone or times a measurement, whatever its modes."""

import numpy as np
import pytest
from scipy.stats import kstest, norm

from popcat.posterior.features import draw_redshift

BOUNDS = (0.1, 0.9)
NODES = np.linspace(*BOUNDS, 41)


def two_modes(z):
    return norm.pdf(z, 0.3, 0.05) + 0.5 * norm.pdf(z, 0.7, 0.08)


@pytest.fixture
def uniform():
    return np.random.default_rng(3).uniform(size=(1, 5000))


def log_nodes(density):
    return np.log(density(NODES) * (BOUNDS[1] - BOUNDS[0]))[None]


def draw(density, uniform, z_obs=np.nan, sigma=np.nan):
    z, log_q = draw_redshift(log_nodes(density), BOUNDS, np.array([z_obs]), np.array([sigma]), uniform)
    return z[0], log_q[0]


def linear_cdf(density, weight=np.ones_like):
    """CDF of the density that is linear between the nodes, times a weight."""
    fine = np.linspace(*BOUNDS, 400_001)
    value = np.interp(fine, NODES, density(NODES)) * weight(fine)
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (value[1:] + value[:-1]))])
    return lambda z: np.interp(z, fine, cumulative / cumulative[-1])


def test_an_unknown_redshift_follows_the_density(uniform):
    z, _ = draw(two_modes, uniform)
    assert kstest(linear_cdf(two_modes)(z), "uniform").pvalue > 0.01
    np.testing.assert_allclose(linear_cdf(two_modes)(z), uniform[0], atol=1e-5)


@pytest.mark.parametrize(("z_obs", "sigma"), [(0.31, 0.02), (0.5, 0.1), (0.7, 1e-4), (0.05, 0.03), (0.95, 0.05)])
def test_a_measured_redshift_follows_the_product(uniform, z_obs, sigma):
    z, _ = draw(two_modes, uniform, z_obs, sigma)
    assert np.all((z >= BOUNDS[0]) & (z <= BOUNDS[1]))
    near = np.linspace(max(BOUNDS[0], z_obs - 8 * sigma), min(BOUNDS[1], z_obs + 8 * sigma), 400_001)
    value = np.interp(near, NODES, two_modes(NODES)) * norm.pdf(near, z_obs, sigma)
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (value[1:] + value[:-1]))])
    np.testing.assert_allclose(np.interp(z, near, cumulative / cumulative[-1]), uniform[0], atol=2e-4)


def test_a_wide_measurement_is_no_measurement(uniform):
    np.testing.assert_allclose(draw(two_modes, uniform, 0.5, 1e4)[0], draw(two_modes, uniform)[0], atol=1e-3)


@pytest.mark.parametrize(("z_obs", "sigma"), [(np.nan, np.nan), (0.4, 0.05)])
def test_log_q_is_the_normalised_density_in_redshift(uniform, z_obs, sigma):
    z, log_q = draw(two_modes, uniform, z_obs, sigma)
    weight = np.ones_like if np.isnan(z_obs) else lambda x: norm.pdf(x, z_obs, sigma)
    fine = np.linspace(*BOUNDS, 400_001)
    value = np.interp(fine, NODES, two_modes(NODES)) * weight(fine)
    expected = np.log(np.interp(z, fine, value) / np.trapezoid(value, fine))
    some = expected > expected.max() - 10
    assert some.mean() > 0.99
    np.testing.assert_allclose(log_q[some], expected[some], atol=5e-3)


def test_a_density_without_mass_at_the_ends_never_draws_them(uniform):
    def inner(z):
        return np.where((z > 0.45) & (z < 0.55), 1.0, 1e-12)

    z, log_q = draw(inner, uniform)
    assert z.min() > 0.42 and z.max() < 0.58
    assert np.isfinite(log_q).all()


def test_galaxies_do_not_share_draws():
    nodes = np.concatenate([log_nodes(two_modes), np.zeros((1, 41))])
    unknown = np.full(2, np.nan)
    z, log_q = draw_redshift(nodes, BOUNDS, unknown, unknown, np.array([[0.25, 0.5], [0.25, 0.5]]))
    np.testing.assert_allclose(z[1], [0.3, 0.5], atol=1e-12)
    np.testing.assert_allclose(log_q[1], -np.log(0.8), atol=1e-12)
    assert np.all(z[0] < 0.4)

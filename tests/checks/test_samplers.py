"""The independent samplers find closed-form posteriors, and its comparisons tell equal samples from unequal ones."""

from types import SimpleNamespace

import numpy as np
import pytest

from popcat.checks.samplers import Galaxy, c2st, quantile_shifts, sample_galaxy
from popcat.distributions import Law, Uniform
from popcat.errors import PopcatError
from popcat.galaxy_model import GalaxyModel
from popcat.prior import make_prior

ERROR = 0.3


class Linear:
    """A prior that is its own unconstrained space: three parameters of which two are free, the third their sum."""

    names = ("a", "b", "c")
    n_unconstrained = 2

    def redshift_law(self, redshift_range):
        return Law(Uniform(), *redshift_range)

    def from_unconstrained(self, w):
        return np.column_stack([w, w.sum(axis=1)])

    def to_unit(self, theta):
        from scipy.special import ndtr

        return ndtr(theta[:, :2])


@pytest.fixture
def linear():
    """Two fluxes a + b and a - b: the posterior of (a, b) is Gaussian."""

    def forward(theta, redshift):
        return np.column_stack([theta[:, 2], theta[:, 0] - theta[:, 1]])

    return Galaxy(forward, Linear(), (0.0, 1.0), np.array([1.0, 0.2]), np.full(2, ERROR), 0.5, np.nan)


@pytest.mark.parametrize("sampler", ["emcee", "nautilus"])
def test_a_gaussian_posterior_is_found(linear, sampler):
    pytest.importorskip(sampler)
    chain = sample_galaxy(linear, np.zeros((10, 2)), 1, sampler=sampler, max_steps=4000)
    matrix = np.array([[1.0, 1.0], [1.0, -1.0]])
    covariance = np.linalg.inv(np.eye(2) + matrix.T @ matrix / ERROR**2)
    mean = covariance @ matrix.T @ linear.flux / ERROR**2
    assert chain.converged
    np.testing.assert_allclose(chain.w.mean(axis=0), mean, atol=0.02)
    np.testing.assert_allclose(chain.w.std(axis=0), np.sqrt(np.diag(covariance)), rtol=0.05)


def test_the_likelihood_leaves_missing_bands_out_and_keeps_its_norm(linear):
    from scipy.stats import norm

    w = np.array([[0.3, 0.1]])
    expected = norm(0.4, ERROR).logpdf(1.0) + norm(0.2, ERROR).logpdf(0.2)
    assert linear.log_likelihood(w)[0] == pytest.approx(expected)
    one = Galaxy(linear.forward, linear.prior, (0.0, 1.0), np.array([1.0, np.nan]), linear.flux_err, 0.5, np.nan)
    assert one.log_likelihood(w)[0] == pytest.approx(norm(0.4, ERROR).logpdf(1.0))


def test_a_measured_redshift_is_a_coordinate_with_its_own_likelihood(linear):
    from scipy.stats import norm

    free = Galaxy(linear.forward, linear.prior, (0.0, 1.0), linear.flux, linear.flux_err, 0.4, 0.05)
    assert free.n_dim == 3
    w = np.array([[0.3, 0.1, 0.0]])
    assert free.to_theta(w)[1] == 0.5
    difference = free.log_likelihood(w) - linear.log_likelihood(w[:, :2])
    assert difference[0] == pytest.approx(norm(0.5, 0.05).logpdf(0.4))


def test_coordinates_and_parameters_are_inverse():
    prior = make_prior(GalaxyModel())
    galaxy = Galaxy(None, prior, (0.001, 0.6), np.ones(5), np.ones(5), np.nan, np.nan)
    w = np.random.default_rng(0).normal(size=(50, galaxy.n_dim))
    np.testing.assert_allclose(galaxy.to_w(*galaxy.to_theta(w)), w, atol=1e-5)


def test_an_unknown_sampler_is_refused(linear):
    with pytest.raises(PopcatError, match='no sampler "hmc": expected prior, emcee or nautilus'):
        sample_galaxy(linear, np.zeros((10, 2)), 1, sampler="hmc")


def test_a_sampler_that_is_not_installed_says_how_to_install_it(linear, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "emcee", None)
    with pytest.raises(PopcatError, match=r"emcee is not installed: pip install emcee"):
        sample_galaxy(linear, np.zeros((10, 2)), 1, sampler="emcee")


def test_a_classifier_cannot_tell_equal_samples_apart_and_can_unequal_ones():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 300, 4))
    assert abs(c2st(a, b) - 0.5) < 0.08
    assert c2st(a, b + 2.0) > 0.9


def test_copies_of_a_draw_do_not_count():
    random = np.random.default_rng(1)
    few = random.normal(size=(60, 4))
    assert abs(c2st(np.repeat(few, 10, axis=0), random.normal(size=(600, 4))) - 0.5) < 0.17
    assert np.isnan(c2st(np.repeat(few[:5], 50, axis=0), random.normal(size=(600, 4))))


def test_shifts_are_in_sigma_of_the_reference():
    reference = np.random.default_rng(2).normal(size=100_000)
    shifts = quantile_shifts(2.0 * reference + 1.0, 2.0 * reference)
    assert list(shifts) == ["p16", "p50", "p84"]
    np.testing.assert_allclose(list(shifts.values()), 0.5, rtol=0.02)
    assert SimpleNamespace(**quantile_shifts(reference, reference)).p50 == 0.0

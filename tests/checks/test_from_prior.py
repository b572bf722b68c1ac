"""Accepted draws of the prior are the posterior: held to a grid of the same model."""

from types import MappingProxyType

import numpy as np
import pytest
from scipy.stats import kstest

from popcat.checks.samplers import Galaxy, accept_from_prior, sample_galaxy
from popcat.distributions import Law, Uniform

LOW, HIGH = 8.0, 12.0
MASS = Law(Uniform(), LOW, HIGH)
FLUX, ERROR = np.array([3.0, 2.0, 2.5]), np.array([0.4, 0.2, 0.3])


def forward(theta, redshift):
    """A mass and a colour."""
    shape = np.column_stack([np.ones(len(theta)), theta[:, 1], 1.0 + theta[:, 1] ** 2])
    return 10 ** (theta[:, :1] - 10.0) * shape


def draw(random, n):
    return np.column_stack([random.uniform(LOW, HIGH, n), random.uniform(0.0, 2.0, n)]), np.full(n, 0.1)


def errors(redshift):
    return ERROR[None]


@pytest.fixture(scope="module")
def grid():
    """Mass, colour and posterior probability of a fine grid; ln of the evidence."""
    mass, colour = np.meshgrid(np.linspace(LOW, HIGH, 2001), np.linspace(0.0, 2.0, 401), indexing="ij")
    theta = np.column_stack([mass.ravel(), colour.ravel()])
    chi2 = np.sum(((forward(theta, None) - FLUX) / ERROR) ** 2, axis=1)
    likelihood = np.exp(-0.5 * chi2) / np.prod(np.sqrt(2 * np.pi) * ERROR)
    return theta, likelihood / likelihood.sum(), np.log(likelihood.mean())


@pytest.fixture(scope="module")
def found():
    return accept_from_prior(forward, MASS, draw, FLUX, errors, 1, max_evaluations=400_000)


@pytest.mark.parametrize("column", [0, 1])
def test_accepted_draws_follow_the_posterior(found, grid, column):
    theta, probability, _ = grid
    values, where = np.unique(theta[:, column], return_inverse=True)
    cdf = np.cumsum(np.bincount(where, weights=probability))
    assert kstest(found[0][:, column], lambda x: np.interp(x, values, cdf)).pvalue > 0.01


def test_the_mean_weight_is_the_evidence(found, grid):
    assert found[2] == pytest.approx(grid[2], abs=0.02)


def test_masses_stay_inside_the_prior():
    theta, *_ = accept_from_prior(forward, Law(Uniform(), 10.0, 10.35), lambda random, n: (
        np.column_stack([random.uniform(10.0, 10.35, n), random.uniform(0.0, 2.0, n)]), np.full(n, 0.1)
    ), FLUX, errors, 1, max_evaluations=200_000)  # fmt: skip
    assert theta[:, 0].min() >= 10.0 and theta[:, 0].max() <= 10.35 and len(theta) > 100


def test_an_impossible_galaxy_has_no_draws_and_does_not_converge():
    flux = np.array([-50.0, -40.0, -30.0])
    theta, *_ = accept_from_prior(forward, MASS, draw, flux, errors, 1, max_evaluations=100_000)
    assert len(theta) < 50


class Flat:
    """A prior of a mass and a colour, uniform."""

    names = ("log_mstar_formed", "colour", "rest")
    low, high = np.array([LOW, 0.0]), np.array([HIGH, 2.0])
    n_unconstrained = 2
    laws = MappingProxyType({"log_mstar_formed": MASS})

    def redshift_law(self, redshift_range):
        return Law(Uniform(), *redshift_range)

    def from_unconstrained(self, w):
        from scipy.special import ndtr

        theta = self.low + (self.high - self.low) * ndtr(w)
        return np.column_stack([theta, np.zeros(len(w))])

    def to_unit(self, theta):
        return (theta[:, :2] - self.low) / (self.high - self.low)


REDSHIFTS = [(0.3, np.nan, 0.0), (0.3, 0.02, 0.02), (np.nan, np.nan, 0.29)]


@pytest.mark.parametrize(("redshift", "error", "spread"), REDSHIFTS)
def test_the_sampler_knows_redshifts_given_measured_and_unknown(redshift, error, spread, grid):
    galaxy = Galaxy(forward, Flat(), (0.0, 1.0), FLUX, ERROR, redshift, error)
    chain = sample_galaxy(galaxy, None, 3, sampler="prior", max_steps=1000)
    theta, z = galaxy.to_theta(chain.w)
    assert chain.converged and len(theta) == chain.n_effective
    assert z.std() == pytest.approx(spread, abs=0.01)
    # the photometry says nothing about this model's redshift, so its evidence is the same; flat in (0, 1)
    assert chain.log_evidence == pytest.approx(grid[2], abs=0.03)
    other = sample_galaxy(galaxy, None, 4, sampler="prior", max_steps=1000)
    assert kstest(theta[:, 0], galaxy.to_theta(other.w)[0][:, 0]).pvalue > 0.01

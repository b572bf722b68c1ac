"""Tempered sequential Monte Carlo finds posteriors and evidences that are known in closed form, or by brute force."""

import numpy as np
import pytest

from popcat.checks.smc import temper

N, D, N_DATA, ERROR = 12, 6, 3, 0.1


@pytest.fixture(scope="module")
def linear():
    """Data y = A x + noise with x ~ N(0, 1): the posterior of each problem is Gaussian, and so is its evidence."""
    random = np.random.default_rng(0)
    a = random.normal(size=(N, N_DATA, D))
    y = np.einsum("nbd,nd->nb", a, random.normal(size=(N, D))) + ERROR * random.normal(size=(N, N_DATA))
    return a, y


def log_likelihood(a, y):
    def log_ratio(x, rows):
        residual = (np.einsum("nbd,nkd->nkb", a[rows], x) - y[rows][:, None]) / ERROR
        return -0.5 * np.sum(residual**2, axis=2) - N_DATA * (np.log(ERROR) + 0.5 * np.log(2.0 * np.pi))

    return log_ratio


@pytest.fixture(scope="module")
def found(linear):
    return temper(log_likelihood(*linear), D, np.arange(N), 3, max_sweeps=np.full(N, 300))


def exact(a, y):
    """Mean, covariance and log evidence."""
    from scipy.stats import multivariate_normal

    covariance = np.linalg.inv(np.eye(D) + a.T @ a / ERROR**2)
    spread = a @ a.T + ERROR**2 * np.eye(N_DATA)
    return covariance @ a.T @ y / ERROR**2, covariance, multivariate_normal(np.zeros(N_DATA), spread).logpdf(y)


def test_every_posterior_is_reached(found):
    assert (found.beta == 1.0).all() and (found.ess > 200).all() and (found.sweeps < 300).all()


def test_evidence_is_that_of_the_closed_form(linear, found):
    expected = np.array([exact(a, y)[2] for a, y in zip(*linear, strict=True)])
    assert np.abs(found.log_evidence - expected).max() < 0.8
    assert abs(np.mean(found.log_evidence - expected)) < 0.2


def test_moments_are_those_of_the_closed_form_to_what_the_ess_allows(linear, found):
    pulls, ratios = [], []
    for i, (a, y) in enumerate(zip(*linear, strict=True)):
        mean, covariance, _ = exact(a, y)
        sigma = np.sqrt(np.diag(covariance))
        pulls.append((found.x[i].mean(axis=0) - mean) / sigma * np.sqrt(found.ess[i]))
        ratios.append(found.x[i].std(axis=0) / sigma)
    assert 0.6 < np.sqrt(np.mean(np.square(pulls))) < 1.6
    assert abs(np.mean(ratios) - 1.0) < 0.05


def test_two_modes_keep_their_weights():
    def log_ratio(x, rows):
        return np.logaddexp(np.log(0.3) - 0.5 * ((x[..., 0] - 2) / 0.1) ** 2, -0.5 * ((x[..., 0] + 2) / 0.1) ** 2)

    found = temper(log_ratio, 2, np.arange(20), 1, max_sweeps=np.full(20, 300))
    share = (found.x[..., 0] > 0).mean(axis=1)
    assert abs(share.mean() - 0.3 / 1.3) < 0.03


def test_a_galaxy_does_not_depend_on_its_neighbours(linear, found):
    a, y = linear
    some = np.array([7, 2])
    alone = temper(log_likelihood(a[some], y[some]), D, some, 3, max_sweeps=np.full(2, 300))
    assert np.array_equal(alone.x, found.x[some])
    assert np.array_equal(alone.log_evidence, found.log_evidence[some])


def test_another_seed_gives_other_particles_of_the_same_posterior(linear, found):
    other = temper(log_likelihood(*linear), D, np.arange(N), 4, max_sweeps=np.full(N, 300))
    assert not np.isin(other.x, found.x).any()
    assert np.abs(other.log_evidence - found.log_evidence).max() < 1.0


def test_a_budget_that_ends_early_is_seen_in_beta(linear):
    short = temper(log_likelihood(*linear), D, np.arange(N), 3, max_sweeps=np.full(N, 2))
    assert (short.beta < 1.0).all() and (short.sweeps == 2).all()


def test_no_galaxies_give_no_particles():
    none = np.zeros(0, dtype=int)
    assert temper(lambda x, rows: x[..., 0], 3, none, 0, max_sweeps=none).x.shape == (0, 512, 3)


def test_a_likelihood_of_zero_somewhere_is_no_obstacle():
    def log_ratio(x, rows):
        return np.where(x[..., 0] > 1.0, 0.0, -np.inf)

    found = temper(log_ratio, 2, np.arange(10), 1, max_sweeps=np.full(10, 200))
    assert (found.x[..., 0] > 1.0).all()
    assert np.abs(found.log_evidence - np.log(0.1587)).max() < 0.5

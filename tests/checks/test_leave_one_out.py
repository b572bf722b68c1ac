"""The closed form of a band given the others is what simulation gives."""

import numpy as np
import pytest
from scipy.stats import kstest, multivariate_normal, norm

from popcat.posterior.support import least, two_sided

WEIGHTS, MEANS = np.array([0.3, 0.7]), np.array([[0.0, 0.0, 0.0], [2.0, -1.0, 1.0]])
COVARIANCES = np.array([[[1.0, 0.8, 0.2], [0.8, 1.0, 0.1], [0.2, 0.1, 0.5]], np.diag([0.5, 0.2, 1.0])])


def draw(n, seed=0):
    random = np.random.default_rng(seed)
    which = random.uniform(size=n) < WEIGHTS[1]
    parts = [random.multivariate_normal(m, c, size=n) for m, c in zip(MEANS, COVARIANCES, strict=True)]
    return np.where(which[:, None], parts[1], parts[0])


def probability(x):
    precision = np.linalg.inv(COVARIANCES)[:, None]
    return two_sided(x - MEANS[:, None], precision, np.log(WEIGHTS))


def test_of_draws_from_the_mixture_a_fraction_p_is_below_p():
    found = probability(draw(20_000))
    for j in range(3):
        assert kstest(found[:, j], "uniform").statistic < 0.012


def test_a_value_is_judged_by_the_density_on_a_line_through_it():
    at = np.array([1.0, -0.3, 0.4])
    line = np.linspace(-12.0, 12.0, 48_001)
    points = np.column_stack([np.full_like(line, at[0]), line, np.full_like(line, at[2])])
    density = sum(w * multivariate_normal(m, c).pdf(points)
                  for w, m, c in zip(WEIGHTS, MEANS, COVARIANCES, strict=True))  # fmt: skip
    below = density[line <= at[1]].sum() / density.sum()
    assert probability(at[None])[0, 1] == pytest.approx(2 * min(below, 1 - below), abs=1e-3)


def test_rows_with_a_precision_of_their_own_are_judged_each_by_it():
    x, scale = draw(50), np.linspace(0.5, 2.0, 50)
    precision = np.eye(3) / scale[:, None, None] ** 2
    found = two_sided(x[None], precision[None], np.zeros(1))
    np.testing.assert_allclose(found, 2 * norm.sf(np.abs(x) / scale[:, None]), rtol=1e-9)


def test_a_batch_changes_nothing():
    x = draw(9000)
    np.testing.assert_allclose(probability(x)[5000:], probability(x[5000:]), rtol=1e-10)


def test_the_least_of_many_counts_how_many_there_are():
    values = np.random.default_rng(1).uniform(size=(20_000, 5))
    tail, band = least(values)
    assert np.mean(tail < 0.05) == pytest.approx(0.05, abs=0.006)
    assert np.array_equal(band, values.argmin(axis=1))


def test_with_two_bands_none_is_least():
    tail, band = least(np.array([[0.1, 0.2, np.nan]]))
    assert np.isnan(tail[0]) and band[0] == -1

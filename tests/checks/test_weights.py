"""Importance weights give the evidence of closed-form problems, and their tail says when they cannot."""

import numpy as np
import pytest
from arviz_stats.base import array_stats

from popcat.checks.weights import importance, reliable_k, resample


def gaussian_weights(sigma, n=40_000, k=4000):
    """ln N(x; 0, 1) - ln N(x; 0, sigma) for draws from N(0, sigma)."""
    x = sigma * np.random.default_rng(0).normal(size=(n // k, k))
    return -0.5 * x**2 * (1.0 - sigma**-2.0) + np.log(sigma)


def test_equal_weights_are_as_good_as_draws():
    found = importance(np.full((2, 500), -3.0))
    np.testing.assert_allclose(found.log_evidence, -3.0)
    np.testing.assert_allclose(found.ess, 500.0)
    assert (found.pareto_k == -np.inf).all()
    np.testing.assert_allclose(found.smoothed, 1.0 / 500.0)


@pytest.mark.parametrize("sigma", [1.5, 3.0])
def test_evidence_and_ess_of_a_gaussian_seen_through_a_wider_one(sigma):
    found = importance(gaussian_weights(sigma))
    # E w^2 = sigma^2 / sqrt(2 sigma^2 - 1), E w = 1
    np.testing.assert_allclose(found.log_evidence, 0.0, atol=0.1)
    np.testing.assert_allclose(found.ess / 4000, np.sqrt(2.0 * sigma**2 - 1.0) / sigma**2, rtol=0.1)
    assert (found.pareto_k < 0.3).all()


def test_a_proposal_that_is_too_narrow_shows_in_the_tail():
    narrow, wide = (importance(gaussian_weights(sigma)).pareto_k for sigma in (0.25, 1.2))
    assert (narrow > reliable_k(4000)).all() and (wide < reliable_k(4000)).all()


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9])
def test_pareto_k_is_the_shape_of_a_pareto_tail(shape):
    u = np.random.default_rng(1).uniform(size=(20, 20_000))
    found = importance(np.log((u**-shape - 1.0) / shape))
    assert abs(found.pareto_k.mean() - shape) < 0.06


def test_smoothing_keeps_the_order_and_raises_no_weight_above_the_largest():
    log_weight = gaussian_weights(0.5)
    found = importance(log_weight)
    raw = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    order = np.argsort(raw, axis=1)
    assert (np.diff(np.take_along_axis(found.smoothed, order, axis=1), axis=1) >= -1e-15).all()
    np.testing.assert_allclose(found.smoothed.sum(axis=1), 1.0)
    # the smallest weight is never in the tail
    smallest = raw.min(axis=1) / found.smoothed.min(axis=1)
    assert (found.smoothed.max(axis=1) * smallest <= raw.max(axis=1) * (1 + 1e-12)).all()


@pytest.mark.parametrize("k", [100, 225, 400, 4000])
@pytest.mark.parametrize("sigma", [0.3, 0.7, 1.5])
def test_shapes_and_smoothed_weights_are_those_of_arviz(sigma, k):
    log_weight = gaussian_weights(sigma, n=5 * k, k=k)
    found, (expected, shape) = importance(log_weight), array_stats.psislw(-log_weight)
    np.testing.assert_allclose(found.pareto_k, shape, rtol=1e-11)
    np.testing.assert_allclose(found.smoothed, np.exp(expected), rtol=1e-11)


def test_weights_of_zero_say_so():
    found = importance(np.array([[-np.inf] * 100, [np.nan] * 100]))
    assert (found.log_evidence == -np.inf).all() and (found.ess == 0).all() and (found.pareto_k == np.inf).all()
    one = importance(np.array([[0.0] + [-np.inf] * 99]))
    assert one.ess[0] == 1.0 and one.log_evidence[0] == pytest.approx(-np.log(100))


def test_weights_are_those_of_each_row_alone():
    log_weight = gaussian_weights(0.7)
    together = importance(log_weight)
    for i in (0, 9):
        alone = importance(log_weight[i : i + 1])
        assert alone.pareto_k[0] == together.pareto_k[i] and np.array_equal(alone.smoothed[0], together.smoothed[i])


def test_resampling_gives_each_draw_its_share():
    weight = np.random.default_rng(2).dirichlet(np.ones(50), size=200)
    chosen = resample(weight, np.random.default_rng(3).uniform(size=200), 100)
    counts = np.apply_along_axis(np.bincount, 1, chosen, minlength=50)
    assert (np.abs(counts - 100 * weight) < 1.0).all()
    np.testing.assert_allclose(counts.mean(axis=0), 100 * weight.mean(axis=0), atol=0.3)

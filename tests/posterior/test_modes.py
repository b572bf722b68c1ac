"""The highest points of a density, and its precision there, against closed forms."""

import numpy as np
import pytest

from popcat.posterior.modes import climb


def linear(design, data):
    """A linear model of data with errors of 1."""

    def evaluate(x):
        residuals = data - x @ design.T
        return -0.5 * np.sum(residuals**2, axis=1), residuals

    return evaluate


def test_a_linear_model_ends_at_the_mean_of_its_posterior_with_its_precision():
    random = np.random.default_rng(0)
    design, data = random.normal(size=(20, 5)), random.normal(size=20)
    evaluate, x = linear(design, data), 3.0 * random.normal(size=(7, 5))
    at, log_density, precision = climb(evaluate, x, evaluate(x)[0], 12)
    exact = design.T @ design + np.eye(5)
    mean = np.linalg.solve(exact, design.T @ data)
    np.testing.assert_allclose(at, np.tile(mean, (7, 1)), atol=1e-3)
    np.testing.assert_allclose(precision, np.tile(exact, (7, 1, 1)), rtol=1e-6)
    np.testing.assert_allclose(log_density, evaluate(mean[None])[0][0] - 0.5 * mean @ mean, rtol=1e-5)


def test_sharp_and_curved_it_ends_where_the_slope_is_zero():
    """exp(x0) + x1 is measured to a hundredth, and x1 - x0^2 to a tenth."""

    def evaluate(x):
        residuals = np.column_stack([100.0 * (3.0 - np.exp(x[:, 0]) - x[:, 1]), 10.0 * (x[:, 1] - x[:, 0] ** 2)])
        return -0.5 * np.sum(residuals**2, axis=1), residuals

    start = np.array([[0.0, 0.0], [-2.0, 2.0], [1.5, -1.0]])
    at, log_density, _ = climb(evaluate, start, evaluate(start)[0], 60)
    np.testing.assert_allclose(np.exp(at[:, 0]) + at[:, 1], 3.0, atol=0.01)
    for away in 0.01 * np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]):
        near = at + away
        assert (evaluate(near)[0] - 0.5 * np.sum(near**2, axis=1) < log_density + 1e-6).all()


@pytest.mark.parametrize("n_steps", [1, 5])
def test_no_step_goes_down_and_none_into_where_the_density_is_zero(n_steps):
    def evaluate(x):
        inside = x[:, 0] < 0.5
        residuals = 4.0 * (2.0 - x[:, :1])
        return np.where(inside, -0.5 * residuals[:, 0] ** 2, -1e12), residuals

    start = np.array([[-1.0], [0.2], [0.7]])
    before = evaluate(start)[0]
    at, log_density, _ = climb(evaluate, start, before, n_steps)
    assert (log_density >= before - 0.5 * start[:, 0] ** 2).all() and np.isfinite(at).all()
    assert (at[:2, 0] < 0.5).all()

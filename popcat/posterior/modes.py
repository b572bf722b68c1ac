"""The highest points of the density of one galaxy's posterior, and its curvature there, by damped Gauss-Newton steps.

In coordinates x the posterior is N(x; 0, 1) R(x), and R is a likelihood of Gaussian errors, times what varies slowly.
With the residuals r(x) in units of the errors, and J their derivatives by x,

    (J^T J + 1 + lambda diag(J^T J + 1)) step = gradient of ln R - x

(Levenberg 1944; Marquardt 1963). lambda shrinks after a step that goes up, and grows after one that does not, which is
not made. J^T J + 1 is the precision of the Gaussian that is the posterior's own near its highest point (Laplace). All
derivatives are differences over +-_STEP, wide enough for tables that are linear between their nodes.
"""

from collections.abc import Callable

import numpy as np

Evaluate = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Of points (n, d): ln R (n,), and the residuals (n, n_residual)."""

_STEP, _LONGEST, _SHORTER = 0.05, 2.0, 0.3
"""Of a difference; the length of a step at most; what a second trial is of the first."""
_DAMPING, _LEAST_DAMPING, _UP, _DOWN = 0.1, 1e-3, 0.3, 4.0
"""lambda: first and least, and its factors after a step up and after none."""
_STEEPEST = 1e6


def climb(
    evaluate: Evaluate, x: np.ndarray, log_ratio: np.ndarray, n_steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where n points (n, d) of ln R (n,) come to: points (n, d), ln of the density there, but for a constant, (n,), and
    precisions (n, d, d).

    >>> def evaluate(x):  # a measurement of 2 with an error of 1/3, of the first coordinate
    ...     residuals = 3.0 * (2.0 - x[:, :1])
    ...     return -0.5 * residuals[:, 0] ** 2, residuals
    >>> at, log_density, precision = climb(evaluate, np.zeros((1, 2)), np.array([-18.0]), 8)
    >>> at.round(2).tolist(), precision.round(1).tolist()
    ([[1.8, 0.0]], [[[10.0, 0.0], [0.0, 1.0]]])
    """
    n, d = x.shape
    eye, damping, rows = np.eye(d), np.full(n, _DAMPING), np.arange(n)
    away = _STEP * np.stack([eye, -eye])
    log_density = log_ratio - 0.5 * np.sum(x**2, axis=1)
    precision = np.repeat(eye[None], n, axis=0)
    for _ in range(n_steps):
        ratio, residuals = evaluate((x[:, None, None] + away).reshape(-1, d))
        ratio, residuals = ratio.reshape(n, 2, d), residuals.reshape(n, 2, d, -1)
        slope = np.clip((ratio[:, 0] - ratio[:, 1]) / (2.0 * _STEP), -_STEEPEST, _STEEPEST) - x
        of_residuals = (residuals[:, 0] - residuals[:, 1]) / (2.0 * _STEP)
        precision = of_residuals @ of_residuals.transpose(0, 2, 1) + eye
        damped = precision * (1.0 + damping[:, None, None] * eye)
        step = np.linalg.solve(damped, slope[..., None])[..., 0]
        step /= np.maximum(np.linalg.norm(step, axis=1) / _LONGEST, 1.0)[:, None]
        trials = np.stack([x + step, x + _SHORTER * step], axis=1)
        found = evaluate(trials.reshape(-1, d))[0].reshape(n, 2) - 0.5 * np.sum(trials**2, axis=2)
        better = found.argmax(axis=1)
        is_up = found[rows, better] > log_density
        x = np.where(is_up[:, None], trials[rows, better], x)
        log_density = np.where(is_up, found[rows, better], log_density)
        damping = np.where(is_up, np.maximum(_UP * damping, _LEAST_DAMPING), _DOWN * damping)
    return x, log_density, precision

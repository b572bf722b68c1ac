"""Ranks of truths among draws, and how far ranks are from uniform: a posterior that is right has uniform ranks."""

import numpy as np


def ranks(truth: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Position of the truth (n,) among draws (n, k), in (0, 1): (draws below + half of the ties + 1/2) / (k + 1).

    Uniform over mocks from the prior if the posterior is exact.

    >>> ranks(np.array([0.5]), np.array([[0.1, 0.2, 0.9]])).tolist()
    [0.625]
    """
    below = (draws < truth[:, None]).sum(axis=1)
    ties = (draws == truth[:, None]).sum(axis=1)
    return (below + 0.5 * ties + 0.5) / (draws.shape[1] + 1)


def ks_distance(values: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance of values in [0, 1] from the uniform distribution.

    >>> round(ks_distance(np.array([0.5])), 2)
    0.5
    """
    ordered = np.sort(values)
    n = len(ordered)
    return float(max(np.max(np.arange(1, n + 1) / n - ordered), np.max(ordered - np.arange(n) / n)))

"""Calibration of a posterior: are truths uniform among draws? (SBC, Talts et al. 2018; p-p curves as in SEDflow.)"""

import numpy as np

# 5% and 1% critical values of sqrt(n) times the Kolmogorov-Smirnov distance.
KS_CRITICAL_5, KS_CRITICAL_1 = 1.358, 1.628


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


def coverage(values: np.ndarray, level: float = 0.68) -> float:
    """Fraction of ranks inside the central interval of this level."""
    return float(np.mean(np.abs(values - 0.5) < 0.5 * level))


def summarise(all_ranks: dict[str, np.ndarray]) -> dict:
    """KS distance and 68% coverage by name, with the critical values for this number of mocks."""
    n = len(next(iter(all_ranks.values())))
    return {
        "n": n,
        "ks": {name: ks_distance(values) for name, values in all_ranks.items()},
        "coverage_68": {name: coverage(values) for name, values in all_ranks.items()},
        "ks_critical_5_percent": KS_CRITICAL_5 / np.sqrt(n),
        "ks_critical_1_percent": KS_CRITICAL_1 / np.sqrt(n),
    }

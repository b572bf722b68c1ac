"""Are truths uniform among draws? Ranks, and how far they are from uniform.

Ranks of one quantity: simulation-based calibration (SBC, Talts et al. 2018), with p-p curves as in SEDflow. Of all
parameters at once: TARP (Lemos et al. 2023).
"""

import numpy as np

from popcat import rng
from popcat.forward.flux_errors import FluxErrors
from popcat.galaxies import chi2_of
from popcat.ranks import ks_distance

COVERAGE_LEVEL = 0.68
_STREAM_TARP = 66


def ks_critical(n: int, tests: int = 1, *, level: float = 0.01) -> float:
    """KS distance that the largest of `tests` uniform samples of n exceeds with probability `level` (Bonferroni).

    >>> round(ks_critical(2000), 3)
    0.036
    """
    from scipy.stats import kstwobign

    return float(kstwobign.isf(level / tests) / np.sqrt(n))


def coverage(values: np.ndarray, level: float = COVERAGE_LEVEL) -> float:
    """Fraction of ranks inside the central interval of this level."""
    return float(np.mean(np.abs(values - 0.5) < 0.5 * level))


def tarp_ranks(truth: np.ndarray, draws: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Fraction of draws nearer to a random reference point than the truth is, (n,): uniform if the joint posterior is
    exact (Lemos et al. 2023, "tests of accuracy with random points").

    truth, reference are (n, d), draws (n, k, d), all in coordinates of like scale.
    """
    far = np.linalg.norm(truth - reference, axis=1)
    near = np.linalg.norm(draws - reference[:, None], axis=2)
    return (np.sum(near < far[:, None], axis=1) + 0.5) / (draws.shape[1] + 1)


def binned_coverage(all_ranks: dict[str, np.ndarray], by: np.ndarray, n_bins: int = 3) -> list[dict]:
    """Coverage of the 68% interval of every quantity in bins of `by` (n,) that hold equal numbers of galaxies.

    Each bin is a dict with low, high, n and coverage_68. A posterior can be right on average and wrong where galaxies
    are faint or far.
    """
    edges = np.quantile(by, np.linspace(0.0, 1.0, n_bins + 1))
    which = np.clip(np.searchsorted(edges, by, side="right") - 1, 0, n_bins - 1)
    return [
        {
            "low": float(edges[i]),
            "high": float(edges[i + 1]),
            "n": int(np.sum(which == i)),
            "coverage_68": {name: coverage(values[which == i]) for name, values in all_ranks.items()},
        }
        for i in range(n_bins)
        if np.any(which == i)
    ]


def summarise(all_ranks: dict[str, np.ndarray]) -> dict:
    """Number of mocks, KS distance and 68% coverage by name."""
    return {
        "n": len(next(iter(all_ranks.values()))),
        "ks": {name: ks_distance(values) for name, values in all_ranks.items()},
        "coverage_68": {name: coverage(values) for name, values in all_ranks.items()},
    }


def tarp_ranks_of(posterior, theta, z_true, sampled, quantities, mocks, seed):
    """TARP ranks in the prior's unit cube, redshift beside it: coordinates of like scale."""
    low, high = posterior.survey.redshift_range
    n, k, d = sampled.shape
    truth = np.column_stack([posterior.prior.to_unit(theta), (z_true - low) / (high - low)])
    unit = posterior.prior.to_unit(sampled.reshape(-1, d)).reshape(n, k, -1)
    z = (quantities["redshift"].astype(float) - low) / (high - low)
    reference = rng.uniform(seed, _STREAM_TARP, mocks["object_id"].to_numpy(), truth.shape[1])
    return tarp_ranks(truth, np.concatenate([unit, z[..., None]], axis=2), reference)


def chi2_tail_of(posterior, data, theta, redshift, n_bands) -> np.ndarray:
    """P(chi2 < chi2(photometry, one posterior draw)), (n,)."""
    from scipy.special import chdtr

    z = np.clip(redshift.astype(float), *posterior.survey.redshift_range)
    err = FluxErrors(posterior.survey)(data, z[:, None])
    return chdtr(n_bands, chi2_of(posterior.forward.flux(theta, z)[:, None], data, err)[:, 0])

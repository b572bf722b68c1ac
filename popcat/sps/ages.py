"""Time bins of the composite population, and what they average of an SSP grid.

Bins follow the published PROVABGS code: edges 0 and 10^(6.05 + 0.1 k) yr of lookback time, the last bin cut at the
age of the universe. In each bin stars have the bin's mass, the metallicity at its midpoint, and the light either of
the SSP averaged over the bin ("average") or of the SSP at its midpoint ("midpoint", as published).
"""

from dataclasses import dataclass

import numpy as np

BINNINGS = ("average", "midpoint")
_N_EDGES = 41
_END_GYR = 14.5


@dataclass(frozen=True)
class TimeBins:
    """Time bins for one galaxy model.

    Attributes
    ----------
    edges_gyr : (n_bin + 1,) lookback time, from 0 to beyond the age of the universe
    n_young : the first n_young bins are behind the birth clouds
    binning : "average" or "midpoint"
    """

    edges_gyr: np.ndarray
    n_young: int
    binning: str

    @property
    def mid_gyr(self) -> np.ndarray:
        return 0.5 * (self.edges_gyr[1:] + self.edges_gyr[:-1])


def time_bins(binning: str, birth_cloud_age_gyr: float) -> TimeBins:
    """The bins of a model. With "average", birth_cloud_age_gyr becomes an edge; with "midpoint", a bin is young if
    its midpoint is.

    >>> bins = time_bins("average", 0.1)
    >>> len(bins.mid_gyr), float(bins.edges_gyr[bins.n_young])
    (43, 0.1)
    """
    edges = np.concatenate([[0.0], 10.0 ** (6.05 + 0.1 * np.arange(_N_EDGES) - 9.0), [_END_GYR]])
    if binning == "average" and birth_cloud_age_gyr > 0.0:
        edges = np.union1d(edges, [birth_cloud_age_gyr])
    age = edges[:-1] if binning == "average" else 0.5 * (edges[1:] + edges[:-1])
    return TimeBins(edges, int(np.sum(age < birth_cloud_age_gyr)), binning)


def row_weights(bins: TimeBins, age_gyr: np.ndarray, low, high) -> np.ndarray:
    """Weights w with L(bin) = sum_a w_a L(t_a) for bins [low, high]: shape (n, n_age), rows sum to one.

    L is linear in ln t between grid ages and constant younger than the first.
    """
    low, high = np.broadcast_arrays(np.asarray(low, dtype=float), np.asarray(high, dtype=float))
    if bins.binning == "midpoint":
        return point_weights(age_gyr, 0.5 * (low + high))
    width = high - low
    thin = np.abs(width) < 1e-9
    integral = _integral_weights(age_gyr, high) - _integral_weights(age_gyr, low)
    return np.where(thin[:, None], point_weights(age_gyr, low), integral / np.where(thin, 1.0, width)[:, None])


def point_weights(age_gyr: np.ndarray, t_gyr) -> np.ndarray:
    """Weights of linear interpolation in ln t: shape (n, n_age); constant outside the grid."""
    t = np.clip(np.atleast_1d(np.asarray(t_gyr, dtype=float)), age_gyr[0], age_gyr[-1])
    left = np.clip(np.searchsorted(age_gyr, t, side="right") - 1, 0, len(age_gyr) - 2)
    fraction = np.log(t / age_gyr[left]) / np.log(age_gyr[left + 1] / age_gyr[left])
    weights = np.zeros((len(t), len(age_gyr)))
    row = np.arange(len(t))
    weights[row, left] = 1.0 - fraction
    weights[row, left + 1] += fraction
    return weights


def _integral_weights(age_gyr: np.ndarray, t_gyr) -> np.ndarray:
    """Weights of int_0^t L dt: each segment of L = a + b ln t integrated in closed form."""
    t = np.atleast_1d(np.asarray(t_gyr, dtype=float))
    a, b = age_gyr[:-1], age_gyr[1:]
    upper = np.clip(t[:, None], a, b)
    span = upper - a
    # int_a^u ln(t / a) dt / ln(b / a)
    rising = (upper * np.log(upper / a) - span) / np.log(b / a)
    weights = np.zeros((len(t), len(age_gyr)))
    weights[:, :-1] += span - rising
    weights[:, 1:] += rising
    weights[:, 0] += np.minimum(t, age_gyr[0])
    weights[:, -1] += np.maximum(t - age_gyr[-1], 0.0)
    return weights

"""What kernels look up of a galaxy model: histories, ages and distances as arrays, and interpolation in them."""

from typing import NamedTuple

import numpy as np

from popcat.sps.fastmath import kernel
from popcat.sps.histories import first_line, straight_bins
from popcat.sps.model import GalaxyModel
from popcat.sps.tables import N_MOMENT

LN_10 = float(np.log(10.0))


class Histories(NamedTuple):
    """What kernels need of bases, bins, cosmology and metallicity grid (all float64, C order)."""

    edges: np.ndarray
    cumulative: np.ndarray
    """(n_edge, n_sfh): int_0^edge of each SFH basis."""
    zh_mid: np.ndarray
    """(n_zh, n_bin): metallicity bases at the bins' midpoints."""
    zh_time: np.ndarray
    zh_value: np.ndarray
    n_young: int
    birth_cloud_age: float
    formed: np.ndarray
    """(n_sfh, n_bin): mass of each SFH basis in the bins."""
    mid: np.ndarray
    n_merged: int
    """The first n_merged bins may be merged: 0, or more than the rows that replace them."""
    sfh_line: np.ndarray
    """(2, n_sfh): value and slope of the SFH bases at t = 0."""
    ln_z: np.ndarray
    per_cell: np.ndarray
    """One over the steps of ln_z."""
    ln1pz_max: float
    age: np.ndarray
    dist_ratio_mpc: np.ndarray
    """d_L / ln(1 + z) at the cosmology's redshift nodes."""
    cumulative_at_age: np.ndarray
    """(n_cosmology, n_sfh): int_0^t_age of each SFH basis at the cosmology's redshift nodes."""


def make_histories(model: GalaxyModel) -> Histories:
    """Arrays for the kernels from a galaxy model."""
    edges, bases, cosmology = model.bins.edges_gyr, model.bases, model.cosmology
    mid, n_merged = model.bins.mid_gyr, straight_bins(bases, edges)
    return Histories(
        edges=edges,
        cumulative=np.ascontiguousarray(bases.cumulative_sfh(edges).T),
        zh_mid=np.stack([np.interp(mid, bases.lookback_gyr, z) for z in bases.zh]),
        zh_time=bases.lookback_gyr,
        zh_value=np.ascontiguousarray(bases.zh.T),
        n_young=model.bins.n_young,
        birth_cloud_age=model.birth_cloud_age_gyr,
        formed=np.diff(bases.cumulative_sfh(edges), axis=1),
        mid=mid,
        n_merged=n_merged if n_merged > 2 * N_MOMENT else 0,
        sfh_line=first_line(bases),
        ln_z=model.grid.log_z_abs * LN_10,
        per_cell=1.0 / np.diff(model.grid.log_z_abs * LN_10),
        ln1pz_max=cosmology.ln1pz_max,
        age=cosmology.age_gyr,
        dist_ratio_mpc=cosmology.dist_ratio_mpc,
        cumulative_at_age=np.ascontiguousarray(bases.cumulative_sfh(cosmology.age_gyr).T),
    )


@kernel(inline="always")
def lookup(x, table):
    """Linear interpolation in a table with unit spacing from 0."""
    i = min(max(int(x), 0), len(table) - 2)
    f = x - i
    return table[i] * (1.0 - f) + table[i + 1] * f


@kernel(inline="always")
def lookup_slope(x, table):
    """Derivative of `lookup`."""
    i = min(max(int(x), 0), len(table) - 2)
    return table[i + 1] - table[i]


@kernel(inline="always")
def time_metallicity(gamma1, gamma2, zh_time, zh_value, t):
    """sum_k gamma_k z_k(t)."""
    i = min(max(np.searchsorted(zh_time, t, side="right") - 1, 0), len(zh_time) - 2)
    f = (t - zh_time[i]) / (zh_time[i + 1] - zh_time[i])
    low = gamma1 * zh_value[i, 0] + gamma2 * zh_value[i, 1]
    high = gamma1 * zh_value[i + 1, 0] + gamma2 * zh_value[i + 1, 1]
    return low * (1.0 - f) + high * f


@kernel(inline="always")
def metal_cell(z, ln_z, per_cell):
    """Cell and fraction of a metallicity, clipped to the grid's."""
    if z <= 0.0:
        return 0, 0.0
    x, q = np.log(z), 0
    while q < len(per_cell) - 1 and x >= ln_z[q + 1]:
        q += 1
    return q, min(max((x - ln_z[q]) * per_cell[q], 0.0), 1.0)


@kernel(inline="always")
def universe(ln1pz, h, theta):
    """Position in the cosmology's tables, age of the universe, and the SFH's integral over it."""
    age, at_age = h.age, h.cumulative_at_age
    x = ln1pz / h.ln1pz_max * (len(age) - 1)
    i = min(max(int(x), 0), len(age) - 2)
    f = x - i
    total = 0.0
    for k in range(4):
        total += theta[1 + k] * (at_age[i, k] * (1.0 - f) + at_age[i + 1, k] * f)
    return x, age[i] * (1.0 - f) + age[i + 1] * f, total

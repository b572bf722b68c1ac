"""What kernels look up of a galaxy model: histories, ages and distances as arrays, and interpolation in them."""

from typing import NamedTuple

import numpy as np

from popcat.forward.histories import first_line, straight_bins
from popcat.forward.ingredients import Ingredients
from popcat.forward.quadrature import fast_exp, kernel, kernel_overload, with_item
from popcat.forward.tables import N_MOMENT

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
    sfh_slots: tuple[float, ...]
    zh_slots: tuple[float, ...]
    """Zeros, one a basis. The length of a tuple is part of its type: kernels are compiled for the numbers of bases,
    and their loops over bases are unrolled."""


def make_histories(ingredients: Ingredients) -> Histories:
    """Arrays for the kernels from a galaxy model."""
    edges, bases, cosmology = ingredients.bins.edges_gyr, ingredients.bases, ingredients.cosmology
    mid, n_merged = ingredients.bins.mid_gyr, straight_bins(bases, edges)
    return Histories(
        edges=edges,
        cumulative=np.ascontiguousarray(bases.cumulative_sfh(edges).T),
        zh_mid=np.stack([np.interp(mid, bases.lookback_gyr, z) for z in bases.zh]),
        zh_time=bases.lookback_gyr,
        zh_value=np.ascontiguousarray(bases.zh.T),
        n_young=ingredients.bins.n_young,
        birth_cloud_age=ingredients.birth_cloud_age_gyr,
        formed=np.ascontiguousarray(np.diff(bases.cumulative_sfh(edges), axis=1)),
        mid=mid,
        n_merged=n_merged if n_merged > 2 * N_MOMENT else 0,
        sfh_line=first_line(bases),
        ln_z=ingredients.grid.log_z_abs * LN_10,
        per_cell=1.0 / np.diff(ingredients.grid.log_z_abs * LN_10),
        ln1pz_max=cosmology.ln1pz_max,
        age=cosmology.age_gyr,
        dist_ratio_mpc=cosmology.dist_ratio_mpc,
        cumulative_at_age=np.ascontiguousarray(bases.cumulative_sfh(cosmology.age_gyr).T),
        sfh_slots=(0.0,) * len(bases.sfh),
        zh_slots=(0.0,) * len(bases.zh),
    )


def mixture(weights, bases):
    """sum_k weights[k] bases[k] over a tuple of weights: no loop, so that a loop around it can be vectorised."""
    return sum(w * basis for w, basis in zip(weights, bases, strict=True))


@kernel_overload(mixture)
def _mixture(weights, bases):
    if len(weights) == 1:
        return lambda weights, bases: weights[0] * bases[0]
    return lambda weights, bases: mixture(weights[:-1], bases) + weights[-1] * bases[len(weights) - 1]


def column_mixture(weights, table, j):
    """sum_k weights[k] table[k, j] over a tuple of weights."""
    return sum(w * table[k, j] for k, w in enumerate(weights))


@kernel_overload(column_mixture)
def _column_mixture(weights, table, j):
    if len(weights) == 1:
        return lambda weights, table, j: weights[0] * table[0, j]
    return lambda weights, table, j: column_mixture(weights[:-1], table, j) + weights[-1] * table[len(weights) - 1, j]


@kernel(inline="always")
def sfh_weights(theta, h):
    """Weights of the SFH bases, as a tuple."""
    beta = h.sfh_slots
    for k in range(len(beta)):
        beta = with_item(beta, k, theta[1 + k])
    return beta


@kernel(inline="always")
def zh_weights(theta, h):
    """Weights of the metallicity bases, as a tuple."""
    gamma = h.zh_slots
    for k in range(len(gamma)):
        gamma = with_item(gamma, k, fast_exp(LN_10 * theta[3 + len(h.sfh_slots) + k]))
    return gamma


@kernel(inline="always")
def burst(theta, t_age, h):
    """Fraction of the mass in the burst, none if it is older than the universe, and its age."""
    first = 1 + len(h.sfh_slots)
    return theta[first] if theta[first + 1] <= t_age else 0.0, theta[first + 1]


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
def node_cell(x, nodes):
    """Index and fraction between ascending nodes, clipped to them, and the fraction's derivative."""
    clipped = min(max(x, nodes[0]), nodes[-1])
    i = min(max(np.searchsorted(nodes, clipped, side="right") - 1, 0), len(nodes) - 2)
    width = nodes[i + 1] - nodes[i]
    return i, (clipped - nodes[i]) / width, 1.0 / width if clipped == x else 0.0


@kernel(inline="always")
def time_metallicity(gamma, zh_time, zh_value, t):
    """sum_k gamma_k z_k(t)."""
    i = min(max(np.searchsorted(zh_time, t, side="right") - 1, 0), len(zh_time) - 2)
    f = (t - zh_time[i]) / (zh_time[i + 1] - zh_time[i])
    return mixture(gamma, zh_value[i]) * (1.0 - f) + mixture(gamma, zh_value[i + 1]) * f


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
    for k in range(len(h.sfh_slots)):
        total += theta[1 + k] * (at_age[i, k] * (1.0 - f) + at_age[i + 1, k] * f)
    return x, age[i] * (1.0 - f) + age[i + 1] * f, total

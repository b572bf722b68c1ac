"""What kernels look up of a galaxy model: histories, ages and distances as arrays, and interpolation in them."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from popcat.forward.histories import first_line
from popcat.forward.ingredients import Ingredients
from popcat.forward.quadrature import fast_exp, kernel, kernel_overload, with_item
from popcat.forward.sfh_laws import FractionalLaw, Law, column_mixture, is_law, make_law, mixture
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
    law: Law | None
    """The star-formation history where it is not `cumulative` and its like: these are of no use then."""


def make_histories(ingredients: Ingredients) -> Histories:
    """Arrays for the kernels from a galaxy model."""
    edges, bases, cosmology = ingredients.bins.edges_gyr, ingredients.bases, ingredients.cosmology
    mid, n_merged = ingredients.bins.mid_gyr, ingredients.n_straight
    fixed = bases if ingredients.moving is None else replace(bases, sfh=np.zeros_like(bases.sfh))
    return Histories(
        edges=edges,
        cumulative=np.ascontiguousarray(fixed.cumulative_sfh(edges).T),
        zh_mid=np.stack([np.interp(mid, bases.lookback_gyr, z) for z in bases.zh]),
        zh_time=bases.lookback_gyr,
        zh_value=np.ascontiguousarray(bases.zh.T),
        n_young=ingredients.bins.n_young,
        birth_cloud_age=ingredients.birth_cloud_age_gyr,
        formed=np.ascontiguousarray(np.diff(fixed.cumulative_sfh(edges), axis=1)),
        mid=mid,
        n_merged=n_merged if n_merged > 2 * N_MOMENT else 0,
        sfh_line=first_line(fixed),
        ln_z=ingredients.grid.log_z_abs * LN_10,
        per_cell=1.0 / np.diff(ingredients.grid.log_z_abs * LN_10),
        ln1pz_max=cosmology.ln1pz_max,
        age=cosmology.age_gyr,
        dist_ratio_mpc=cosmology.dist_ratio_mpc,
        cumulative_at_age=np.ascontiguousarray(fixed.cumulative_sfh(cosmology.age_gyr).T),
        sfh_slots=(0.0,) * len(bases.sfh),
        zh_slots=(0.0,) * len(bases.zh),
        law=make_law(ingredients.moving),
    )


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
def time_gradient(gamma, zh_time, zh_value, t, d_z, at_zh, grad):
    """Add the gradient of `time_metallicity` to that in the weights, from grad[at_zh] on; return that in the time."""
    i = min(max(np.searchsorted(zh_time, t, side="right") - 1, 0), len(zh_time) - 2)
    width = zh_time[i + 1] - zh_time[i]
    f = (t - zh_time[i]) / width
    slope = 0.0
    for k in range(len(gamma)):
        low, high = zh_value[i, k], zh_value[i + 1, k]
        slope += gamma[k] * (high - low)
        grad[at_zh + k] += d_z * (low * (1.0 - f) + high * f)
    return d_z * slope / width


def in_unit(law, t, t_age):
    """A lookback time in the unit of the metallicity history's, Gyr or the age of the universe, and its derivatives."""


@kernel_overload(in_unit)
def _in_unit(law, t, t_age):
    if is_law(law, FractionalLaw):
        return lambda law, t, t_age: (t / t_age, 1.0 / t_age, -t / (t_age * t_age))
    return lambda law, t, t_age: (t, 1.0, 0.0)


def bin_metallicity(law, gamma, zh_mid, j, zh_time, zh_value, mid, t_age):
    """Metallicity at the midpoint of a whole time bin."""


@kernel_overload(bin_metallicity)
def _bin_metallicity(law, gamma, zh_mid, j, zh_time, zh_value, mid, t_age):
    if is_law(law, FractionalLaw):
        return lambda law, gamma, zh_mid, j, zh_time, zh_value, mid, t_age: time_metallicity(gamma, zh_time, zh_value,
                                                                                              mid[j] / t_age)
    return lambda law, gamma, zh_mid, j, zh_time, zh_value, mid, t_age: column_mixture(gamma, zh_mid, j)


def metallicity_gradient(law, gamma, h, j, t_age, d_z, at_zh, grad):
    """Add the gradient of `bin_metallicity` to that in the weights; return that in t_age."""


@kernel_overload(metallicity_gradient)
def _metallicity_gradient(law, gamma, h, j, t_age, d_z, at_zh, grad):
    def fixed(law, gamma, h, j, t_age, d_z, at_zh, grad):
        for k in range(len(gamma)):
            grad[at_zh + k] += d_z * h.zh_mid[k, j]
        return 0.0

    def moving(law, gamma, h, j, t_age, d_z, at_zh, grad):
        t, _, by_age = in_unit(law, h.mid[j], t_age)
        return by_age * time_gradient(gamma, h.zh_time, h.zh_value, t, d_z, at_zh, grad)

    return moving if is_law(law, FractionalLaw) else fixed


@kernel(inline="always")
def ln_metal_cell(x, ln_z, per_cell):
    """Cell and fraction of a metallicity's logarithm, clipped to the grid's."""
    q = 0
    while q < len(per_cell) - 1 and x >= ln_z[q + 1]:
        q += 1
    return q, min(max((x - ln_z[q]) * per_cell[q], 0.0), 1.0)


@kernel(inline="always")
def metal_cell(z, ln_z, per_cell):
    """The same of a metallicity."""
    if z <= 0.0:
        return 0, 0.0
    return ln_metal_cell(np.log(z), ln_z, per_cell)


@kernel(inline="always")
def universe(ln1pz, h):
    """Position in the cosmology's tables, and age of the universe."""
    x = ln1pz / h.ln1pz_max * (len(h.age) - 1)
    return x, lookup(x, h.age)


@kernel(inline="always")
def last_bin(t_age, start, edges):
    """The time bin that the age of the universe cuts, which is `start` or a later one."""
    last = start
    while edges[last + 1] < t_age:
        last += 1
    return last

"""theta -> stars: how much mass, of which age and metallicity, as rows of the band tables; and its gradient.

A galaxy is a list of rows: one a whole time bin, one for the bin that the age of the universe cuts, two ages that
bracket the burst. Row i enters with weight[i] = mass (1 - f, f) at the two metallicities around its own, f being
linear in ln Z. Kernels here are shared by the photometry and the properties.
"""

from typing import NamedTuple

import numba
import numpy as np

from popcat.sps.model import GalaxyModel

LN_10 = float(np.log(10.0))


class Histories(NamedTuple):
    """What kernels need of bases, bins, cosmology and metallicity grid (all float64, C order)."""

    edges: np.ndarray
    cumulative: np.ndarray
    """(n_edge, n_sfh): int_0^edge of each SFH basis."""
    zh_mid: np.ndarray
    """(n_bin, n_zh): metallicity bases at the bins' midpoints."""
    zh_time: np.ndarray
    zh_value: np.ndarray
    n_young: int
    birth_cloud_age: float
    ln_z: np.ndarray
    ln1pz_max: float
    age: np.ndarray
    dist_ratio_mpc: np.ndarray
    """d_L / ln(1 + z) at the cosmology's redshift nodes."""
    cumulative_at_age: np.ndarray
    """(n_cosmology, n_sfh): int_0^t_age of each SFH basis at the cosmology's redshift nodes."""


class Rows(NamedTuple):
    """The rows of one galaxy, overwritten for each; and what the way back needs."""

    row: np.ndarray
    cell: np.ndarray
    """Index of the lower metallicity."""
    young: np.ndarray
    """Whether the row is behind the birth clouds."""
    weight: np.ndarray
    """(n, 2), in the tables' type."""
    formed: np.ndarray
    """Mass before the fraction of the burst and the scale to one Msun."""
    fraction: np.ndarray
    """f, and how it changes with Z: df / dZ, zero beyond the grid."""
    slope: np.ndarray


def make_histories(model: GalaxyModel) -> Histories:
    """Arrays for the kernels from a galaxy model."""
    edges, bases, cosmology = model.bins.edges_gyr, model.bases, model.cosmology
    mid = model.bins.mid_gyr
    return Histories(
        edges=edges,
        cumulative=np.ascontiguousarray(bases.cumulative_sfh(edges).T),
        zh_mid=np.stack([np.interp(mid, bases.lookback_gyr, z) for z in bases.zh], axis=1),
        zh_time=bases.lookback_gyr,
        zh_value=np.ascontiguousarray(bases.zh.T),
        n_young=model.bins.n_young,
        birth_cloud_age=model.birth_cloud_age_gyr,
        ln_z=model.grid.log_z_abs * LN_10,
        ln1pz_max=cosmology.ln1pz_max,
        age=cosmology.age_gyr,
        dist_ratio_mpc=cosmology.dist_ratio_mpc,
        cumulative_at_age=np.ascontiguousarray(bases.cumulative_sfh(cosmology.age_gyr).T),
    )


@numba.njit(nogil=True, cache=True)
def make_rows(n, like):
    """Room for n rows, weights of the type of `like`."""
    index, real = np.zeros((2, n), np.int64), np.zeros((3, n))
    return Rows(index[0], index[1], np.zeros(n, np.bool_), np.zeros((n, 2), like.dtype), real[0], real[1], real[2])


@numba.njit(nogil=True, cache=True, inline="always")
def lookup(x, table):
    """Linear interpolation in a table with unit spacing from 0."""
    i = min(max(int(x), 0), len(table) - 2)
    f = x - i
    return table[i] * (1.0 - f) + table[i + 1] * f


@numba.njit(nogil=True, cache=True, inline="always")
def lookup_slope(x, table):
    """Derivative of `lookup`."""
    i = min(max(int(x), 0), len(table) - 2)
    return table[i + 1] - table[i]


@numba.njit(nogil=True, cache=True, inline="always")
def time_metallicity(gamma1, gamma2, zh_time, zh_value, t):
    """sum_k gamma_k z_k(t)."""
    i = min(max(np.searchsorted(zh_time, t, side="right") - 1, 0), len(zh_time) - 2)
    f = (t - zh_time[i]) / (zh_time[i + 1] - zh_time[i])
    low = gamma1 * zh_value[i, 0] + gamma2 * zh_value[i, 1]
    high = gamma1 * zh_value[i + 1, 0] + gamma2 * zh_value[i + 1, 1]
    return low * (1.0 - f) + high * f


@numba.njit(nogil=True, cache=True, inline="always")
def clip_ln_z(z, ln_z):
    """ln z within the grid's range."""
    if z <= 0.0:
        return ln_z[0]
    return min(max(np.log(z), ln_z[0]), ln_z[-1])


@numba.njit(nogil=True, cache=True, inline="always")
def cell(x, nodes):
    """Index and fraction of x between ascending nodes."""
    i = 0
    while i < len(nodes) - 2 and nodes[i + 1] <= x:
        i += 1
    return i, (x - nodes[i]) / (nodes[i + 1] - nodes[i])


@numba.njit(nogil=True, cache=True, inline="always")
def universe(redshift_ln1pz, h, beta):
    """Position in the cosmology's tables, age of the universe, and the SFH's integral over it."""
    x = redshift_ln1pz / h.ln1pz_max * (len(h.age) - 1)
    i = min(max(int(x), 0), len(h.age) - 2)
    f = x - i
    total = 0.0
    for k in range(4):
        total += beta[k] * (h.cumulative_at_age[i, k] * (1.0 - f) + h.cumulative_at_age[i + 1, k] * f)
    return x, lookup(x, h.age), total


@numba.njit(nogil=True, cache=True, inline="always")
def _set_row(rows, i, row, young, mass, z, ln_z):
    """Row i: a mass at metallicity z."""
    clipped = clip_ln_z(z, ln_z)
    q, f = cell(clipped, ln_z)
    rows.row[i] = row
    rows.cell[i] = q
    rows.young[i] = young
    rows.weight[i, 0] = mass * (1.0 - f)
    rows.weight[i, 1] = mass * f
    rows.fraction[i] = f
    inside = ln_z[0] < clipped < ln_z[-1]
    rows.slope[i] = 1.0 / (z * (ln_z[q + 1] - ln_z[q])) if inside else 0.0


@numba.njit(nogil=True, cache=True, inline="always")
def _burst_age(t_burst, ln_age):
    """Row and fraction of the burst between native ages, and df / dt."""
    ln_t = np.log(t_burst)
    clipped = min(max(ln_t, ln_age[0]), ln_age[-1])
    i = min(max(np.searchsorted(ln_age, clipped, side="right") - 1, 0), len(ln_age) - 2)
    width = ln_age[i + 1] - ln_age[i]
    slope = 1.0 / (t_burst * width) if clipped == ln_t else 0.0
    return i, (clipped - ln_age[i]) / width, slope


@numba.njit(nogil=True, cache=True)
def fill_rows(theta, ln1pz, h, t, rows):
    """Rows of one galaxy, per Msun formed: their number, bins first, the two of a possible burst last."""
    beta = theta[1:5]
    _, t_age, total = universe(ln1pz, h, beta)
    g1, g2, t_burst = 10.0 ** theta[7], 10.0 ** theta[8], theta[6]
    f_burst = theta[5] if t_burst <= t_age else 0.0
    scale = (1.0 - f_burst) / total
    edges, cumulative, zh_mid, ln_z = h.edges, h.cumulative, h.zh_mid, h.ln_z
    last = t.first_cut
    while edges[last + 1] < t_age:
        last += 1
    below = 0.0
    for j in range(last):
        above = 0.0
        for k in range(4):
            above += beta[k] * cumulative[j + 1, k]
        rows.formed[j] = above - below
        z = g1 * zh_mid[j, 0] + g2 * zh_mid[j, 1]
        _set_row(rows, j, j, j < h.n_young, scale * (above - below), z, ln_z)
        below = above
    rows.formed[last] = total - below
    z = time_metallicity(g1, g2, h.zh_time, h.zh_value, 0.5 * (edges[last] + t_age))
    _set_row(rows, last, t.n_whole + last - t.first_cut, False, scale * (total - below), z, ln_z)
    n = last + 1
    if t_burst > t_age:
        return n
    z = time_metallicity(g1, g2, h.zh_time, h.zh_value, t_burst)
    i, f, _ = _burst_age(t_burst, t.burst_ln_age)
    young = t_burst < h.birth_cloud_age
    _set_row(rows, n, t.first_burst + i, young, f_burst * (1.0 - f), z, ln_z)
    _set_row(rows, n + 1, t.first_burst + i + 1, young, f_burst * f, z, ln_z)
    return n + 2


@numba.njit(nogil=True, cache=True)
def rows_gradient(theta, ln1pz, h, t, rows, n, d_weight, grad):
    """Add to grad (12,) the gradient that d_weight (n, 2) = df / dweight implies; return df / dln1pz."""
    beta = theta[1:5]
    x, t_age, total = universe(ln1pz, h, beta)
    g1, g2, t_burst = 10.0 ** theta[7], 10.0 ** theta[8], theta[6]
    has_burst = t_burst <= t_age
    f_burst = theta[5] if has_burst else 0.0
    scale = (1.0 - f_burst) / total
    n_bin = n - 2 if has_burst else n
    last = n_bin - 1
    d_scale, d_total, d_g1, d_g2, d_ln1pz = 0.0, 0.0, 0.0, 0.0, 0.0
    per_ln1pz = (len(h.age) - 1) / h.ln1pz_max
    for j in range(n_bin):
        f = rows.fraction[j]
        d_mass = d_weight[j, 0] * (1.0 - f) + d_weight[j, 1] * f
        d_z = scale * rows.formed[j] * (d_weight[j, 1] - d_weight[j, 0]) * rows.slope[j]
        d_scale += d_mass * rows.formed[j]
        if j < last:
            for k in range(4):
                grad[1 + k] += scale * d_mass * (h.cumulative[j + 1, k] - h.cumulative[j, k])
            d_g1 += d_z * h.zh_mid[j, 0]
            d_g2 += d_z * h.zh_mid[j, 1]
        else:
            for k in range(4):
                grad[1 + k] -= scale * d_mass * h.cumulative[last, k]
            d_total += scale * d_mass
            mid = 0.5 * (h.edges[last] + t_age)
            z1, z2, slope = _time_slopes(g1, g2, h, mid)
            d_g1 += d_z * z1
            d_g2 += d_z * z2
            d_ln1pz += d_z * slope * 0.5 * lookup_slope(x, h.age) * per_ln1pz
    d_total -= d_scale * scale / total
    if has_burst:
        _, f_age, age_slope = _burst_age(t_burst, t.burst_ln_age)
        z1, z2, slope = _time_slopes(g1, g2, h, t_burst)
        f = rows.fraction[n_bin]
        low = d_weight[n_bin, 0] * (1.0 - f) + d_weight[n_bin, 1] * f
        high = d_weight[n_bin + 1, 0] * (1.0 - f) + d_weight[n_bin + 1, 1] * f
        d_f = (d_weight[n_bin, 1] - d_weight[n_bin, 0]) * (1.0 - f_age)
        d_f += (d_weight[n_bin + 1, 1] - d_weight[n_bin + 1, 0]) * f_age
        d_z = f_burst * d_f * rows.slope[n_bin]
        grad[5] += low * (1.0 - f_age) + high * f_age - d_scale / total
        grad[6] += f_burst * (high - low) * age_slope + d_z * slope
        d_g1 += d_z * z1
        d_g2 += d_z * z2
    grad[7] += d_g1 * g1 * LN_10
    grad[8] += d_g2 * g2 * LN_10
    i = min(max(int(x), 0), len(h.age) - 2)
    fx = x - i
    for k in range(4):
        low, high = h.cumulative_at_age[i, k], h.cumulative_at_age[i + 1, k]
        grad[1 + k] += d_total * (low * (1.0 - fx) + high * fx)
        d_ln1pz += d_total * beta[k] * (high - low) * per_ln1pz
    return d_ln1pz


@numba.njit(nogil=True, cache=True, inline="always")
def _time_slopes(g1, g2, h, t):
    """Metallicity bases at a time, and dZ/dt of their mixture."""
    i = min(max(np.searchsorted(h.zh_time, t, side="right") - 1, 0), len(h.zh_time) - 2)
    width = h.zh_time[i + 1] - h.zh_time[i]
    f = (t - h.zh_time[i]) / width
    low1, high1, low2, high2 = h.zh_value[i, 0], h.zh_value[i + 1, 0], h.zh_value[i, 1], h.zh_value[i + 1, 1]
    slope = (g1 * (high1 - low1) + g2 * (high2 - low2)) / width
    return low1 * (1.0 - f) + high1 * f, low2 * (1.0 - f) + high2 * f, slope

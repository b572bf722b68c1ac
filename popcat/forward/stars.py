"""theta -> stars: how much mass, of which age and metallicity, as rows of the band tables; and its gradient.

A galaxy is a list of rows: one a whole time bin, one for the bin that the age of the universe cuts, two ages that
bracket the burst. Row i enters with weight[:, i] = mass (1 - f, f) at the two metallicities around its own, f being
linear in ln Z.

The youngest bins, in which every basis is a straight line in time, are merged into moments of their light in time,
sum_j width_j t_j^p L_j with p = 0, 1, 2: star formation is S0 + S1 t and f is f0 + f1 t if their metallicities share a
cell and differ by less than 5%. Where they do not, or the universe is younger than these bins, they are taken one by
one.

The way back from rows to theta: the gradient of popcat.forward.stars.fill_rows.
"""

from typing import NamedTuple

import numpy as np

from popcat.forward.lookups import (
    LN_10,
    bin_metallicity,
    burst,
    in_unit,
    last_bin,
    lookup_slope,
    metal_cell,
    metallicity_gradient,
    node_cell,
    sfh_weights,
    time_gradient,
    time_metallicity,
    universe,
    zh_weights,
)
from popcat.forward.quadrature import fast_log, kernel
from popcat.forward.sfh_kernels import (
    add_bin_gradient,
    all_formed,
    bin_formed,
    cut_formed,
    formed_so_far,
    history_gradient,
    recent_gradient,
    recent_share,
)
from popcat.forward.sfh_laws import column_mixture, mixture
from popcat.forward.tables import N_MOMENT

MERGE_LN_Z = 0.05
"""Merged bins differ by less than this in ln Z: the curvature of f(t) is then below 3e-4, that of light below 1e-4."""

_SMALLEST = 1e-300
_U = np.uint64


class Rows(NamedTuple):
    """The rows of one galaxy, overwritten for each; and what the way back needs."""

    row: np.ndarray
    cell: np.ndarray
    """Index of the lower metallicity."""
    young: np.ndarray
    """Whether the row is behind the birth clouds."""
    weight: np.ndarray
    """(2, n), in the tables' type."""
    formed: np.ndarray
    """Mass before the fraction of the burst and the scale to one Msun."""
    z: np.ndarray
    """Metallicity, before it is clipped to the grid's."""
    fraction: np.ndarray
    d_formed: np.ndarray
    """Gradient in `formed`."""


def make_rows(n: int, dtype) -> Rows:
    """Room for n rows, with weights of this type."""
    index, real = np.zeros((2, n), np.int64), np.zeros((4, n))
    return Rows(index[0], index[1], np.zeros(n, bool), np.zeros((2, n), dtype), *real)


@kernel(inline="always")
def metal_slope(z, q, f, per_cell):
    """Derivative of the fraction in Z."""
    return per_cell[q] / z if 0.0 < f < 1.0 else 0.0


@kernel(inline="always")
def burst_age(t_burst, ln_age):
    """Row and fraction of the burst between native ages, and df / dt."""
    i, f, slope = node_cell(np.log(t_burst), ln_age)
    return i, f, slope / t_burst


@kernel(inline="always")
def _merge(beta, gamma, scale, t_age, h, t, rows):
    """The young bins as two rows of three moments, if they can be: the number of bins that this takes care of."""
    n_merged, zh_mid, mid, line, ln_z, per_cell = h.n_merged, h.zh_mid, h.mid, h.sfh_line, h.ln_z, h.per_cell
    last = n_merged - 1
    if last < 0 or h.edges[n_merged] >= t_age:
        return 0
    z_a, z_b = column_mixture(gamma, zh_mid, 0), column_mixture(gamma, zh_mid, last)
    q, f_a = metal_cell(z_a, ln_z, per_cell)
    q_b, f_b = metal_cell(z_b, ln_z, per_cell)
    if q != q_b or abs(f_b - f_a) > MERGE_LN_Z * per_cell[q]:
        return 0
    slope = (f_b - f_a) / (mid[last] - mid[0])
    start = f_a - slope * mid[0]
    s0, s1 = scale * mixture(beta, line[0]), scale * mixture(beta, line[1])
    row, metal, young, weight, first = rows.row, rows.cell, rows.young, rows.weight, t.first_merged
    for i in range(2 * N_MOMENT):
        row[i] = first + i
        metal[i] = q
        young[i] = i < N_MOMENT
    for i in range(0, 2 * N_MOMENT, N_MOMENT):
        weight[0, i], weight[1, i] = s0 * (1.0 - start), s0 * start
        weight[0, i + 1], weight[1, i + 1] = s1 * (1.0 - start) - s0 * slope, s1 * start + s0 * slope
        weight[0, i + 2], weight[1, i + 2] = -s1 * slope, s1 * slope
    z, fraction = rows.z, rows.fraction
    z[0], z[1], fraction[0], fraction[1] = z_a, z_b, f_a, f_b
    return n_merged


@kernel(inline="always")
def fill_rows(theta, ln1pz, h, t, rows):
    """Rows of one galaxy, per Msun formed: their number, and that of the bins merged; a possible burst comes last."""
    x, t_age = universe(ln1pz, h)
    beta, gamma = sfh_weights(theta, h), zh_weights(theta, h)
    f_burst, t_burst = burst(theta, t_age, h)
    last = last_bin(t_age, t.first_cut, h.edges)
    total = all_formed(h.law, beta, x, h.cumulative_at_age, t_age, h.edges, last, rows.formed)
    scale = (1.0 - f_burst) / total
    n_merged = _merge(beta, gamma, scale, t_age, h, t, rows)
    shift = n_merged - 2 * N_MOMENT if n_merged > 0 else 0
    n = _fill_bins(beta, gamma, total, scale, t_age, n_merged, shift, last, h, t, rows)
    if t_burst > t_age:
        return n, n_merged
    row, metal, young, weight, z, fraction = rows.row, rows.cell, rows.young, rows.weight, rows.z, rows.fraction
    z_burst = time_metallicity(gamma, h.zh_time, h.zh_value, in_unit(h.law, t_burst, t_age)[0])
    q, f = metal_cell(z_burst, h.ln_z, h.per_cell)
    age, f_age, _ = burst_age(t_burst, t.burst_ln_age)
    first, is_young = t.first_burst + age, t_burst < h.birth_cloud_age
    for i in range(2):
        mass = f_burst * (f_age if i == 1 else 1.0 - f_age)
        row[n + i] = first + i
        metal[n + i] = q
        young[n + i] = is_young
        weight[0, n + i], weight[1, n + i] = mass * (1.0 - f), mass * f
        z[n + i], fraction[n + i] = z_burst, f
    return n + 2, n_merged


@kernel(inline="always")
def _fill_bins(beta, gamma, total, scale, t_age, start, shift, last, h, t, rows):
    """Rows of the time bins from `start` on, the last one cut at the age of the universe: the number of rows so far."""
    edges, cumulative, by_basis, zh = h.edges, h.cumulative, h.formed, h.zh_mid
    row, young, formed, z, n_young = rows.row, rows.young, rows.formed, rows.z, h.n_young
    first, n = _U(start - shift), _U(last + 1 - shift)
    skip = _U(shift)
    for i in range(first, n):
        j = i + skip
        formed[i] = bin_formed(h.law, beta, by_basis, j, formed)
        z[i] = bin_metallicity(h.law, gamma, zh, j, h.zh_time, h.zh_value, h.mid, t_age)
        row[i] = j
        young[i] = j < n_young
    formed[n - 1] = cut_formed(h.law, beta, cumulative, last, total, formed)
    middle, _, _ = in_unit(h.law, 0.5 * (edges[last] + t_age), t_age)
    z[n - 1] = time_metallicity(gamma, h.zh_time, h.zh_value, middle)
    row[n - 1] = t.n_whole + last - t.first_cut
    _weigh(scale, first, n, h, rows)
    return last + 1 - shift


@kernel(inline="always")
def _weigh(scale, first, n, h, rows):
    """Metallicity cells, fractions and weights of rows first to n, in loops without branches."""
    ln_z, per_cell, z, metal, fraction = h.ln_z, h.per_cell, rows.z, rows.cell, rows.fraction
    formed, weight = rows.formed, rows.weight
    for i in range(first, n):
        fraction[i] = fast_log(max(z[i], _SMALLEST))
        metal[i] = 0
    for q in range(1, len(per_cell)):
        node = ln_z[q]
        for i in range(first, n):
            metal[i] += fraction[i] >= node
    for i in range(first, n):
        q = _U(metal[i])
        f = min(max((fraction[i] - ln_z[q]) * per_cell[q], 0.0), 1.0)
        mass = scale * formed[i]
        fraction[i] = f
        weight[0, i] = mass * (1.0 - f)
        weight[1, i] = mass * f


@kernel(inline="always")
def rows_gradient(theta, ln1pz, h, t, rows, n, n_merged, d_weight, d_gas, grad):
    """Gradient in the history that d_weight (2, n) = df / dweight implies, and d_gas; return df / dln1pz.

    d_gas : of popcat.forward.gas_rows, in value and slope of the recent star-formation rate and in t_age. grad
    (n_theta,) comes full of zeros, or with what popcat.forward.gas_rows has added.
    """
    x, t_age = universe(ln1pz, h)
    beta, gamma = sfh_weights(theta, h), zh_weights(theta, h)
    f_burst, t_burst = burst(theta, t_age, h)
    at_burst = 1 + len(beta)
    at_zh = at_burst + 2
    has_burst = t_burst <= t_age
    n_bin = n - 2 if has_burst else n
    first = 2 * N_MOMENT if n_merged > 0 else 0
    last = n_bin - 1 - first + n_merged
    total = formed_so_far(h.law, beta, x, h.cumulative_at_age, last, rows.formed)
    scale = (1.0 - f_burst) / total
    d_scale = _merged_gradient(beta, gamma, scale, h, rows, n_merged, d_weight, grad)
    d_scale += recent_gradient(h.law, beta, scale, d_gas, h.sfh_line, grad)
    d_mass, d_z, d_t_age = 0.0, 0.0, d_gas[2]
    by_basis, per_cell, d_formed = h.formed, h.per_cell, rows.d_formed
    formed, fraction, z, metal = rows.formed, rows.fraction, rows.z, rows.cell
    for i in range(first, n_bin):
        f, j = fraction[i], i - first + n_merged
        d_mass = d_weight[0, i] * (1.0 - f) + d_weight[1, i] * f + recent_share(h.law, d_gas, t.gas.moments, h.mid, j)
        d_z = scale * formed[i] * (d_weight[1, i] - d_weight[0, i]) * metal_slope(z[i], metal[i], f, per_cell)
        d_scale += d_mass * formed[i]
        if j < last:
            add_bin_gradient(h.law, beta, scale * d_mass, by_basis, j, d_formed, grad)
            d_t_age += metallicity_gradient(h.law, gamma, h, j, t_age, d_z, at_zh, grad)
    middle, by_time, by_age = in_unit(h.law, 0.5 * (h.edges[last] + t_age), t_age)
    d_t_age += time_gradient(gamma, h.zh_time, h.zh_value, middle, d_z, at_zh, grad) * (0.5 * by_time + by_age)
    if has_burst:
        d_f_burst, d_t_burst, d_z = _burst_gradient(f_burst, t_burst, n_bin, h, t, rows, d_weight)
        since, by_time, by_age = in_unit(h.law, t_burst, t_age)
        d_since = time_gradient(gamma, h.zh_time, h.zh_value, since, d_z, at_zh, grad)
        grad[at_burst] += d_f_burst - d_scale / total
        grad[at_burst + 1] += d_t_burst + d_since * by_time
        d_t_age += d_since * by_age
    for k in range(len(gamma)):
        grad[at_zh + k] *= gamma[k] * LN_10
    per_ln1pz = (len(h.age) - 1) / h.ln1pz_max
    d_ln1pz, age_slope = d_t_age * lookup_slope(x, h.age) * per_ln1pz, lookup_slope(x, h.age) * per_ln1pz
    d_all = d_scale * scale / total
    return history_gradient(h.law, beta, x, h, t_age, age_slope, last, scale * d_mass, d_all, d_formed, d_ln1pz, grad)


@kernel(inline="always")
def _burst_gradient(f_burst, t_burst, i, h, t, rows, d_weight):
    """Gradient of the burst's rows i and i + 1 in its mass, its age (metallicity apart), and its metallicity."""
    _, f_age, slope = burst_age(t_burst, t.burst_ln_age)
    f = rows.fraction[i]
    low = d_weight[0, i] * (1.0 - f) + d_weight[1, i] * f
    high = d_weight[0, i + 1] * (1.0 - f) + d_weight[1, i + 1] * f
    d_f = (d_weight[1, i] - d_weight[0, i]) * (1.0 - f_age) + (d_weight[1, i + 1] - d_weight[0, i + 1]) * f_age
    d_z = f_burst * d_f * metal_slope(rows.z[i], rows.cell[i], f, h.per_cell)
    return low * (1.0 - f_age) + high * f_age, f_burst * (high - low) * slope, d_z


@kernel(inline="always")
def _merged_gradient(beta, gamma, scale, h, rows, n_merged, d_weight, grad):
    """Gradient of the moments' rows in `scale`; that in the weights of the bases is added to grad."""
    if n_merged == 0:
        return 0.0
    mid, line, zh_mid, per_cell, last = h.mid, h.sfh_line, h.zh_mid, h.per_cell, n_merged - 1
    fraction, z, metal = rows.fraction, rows.z, rows.cell
    slope = (fraction[1] - fraction[0]) / (mid[last] - mid[0])
    start = fraction[0] - slope * mid[0]
    low0, low1, low2 = d_weight[0, 0] + d_weight[0, 3], d_weight[0, 1] + d_weight[0, 4], d_weight[0, 2] + d_weight[0, 5]
    by0 = d_weight[1, 0] + d_weight[1, 3] - low0
    by1 = d_weight[1, 1] + d_weight[1, 4] - low1
    by2 = d_weight[1, 2] + d_weight[1, 5] - low2
    # d / ds0 and d / ds1 for star formation s0 + s1 t
    d_s0 = low0 + start * by0 + slope * by1
    d_s1 = low1 + start * by1 + slope * by2
    s0, s1 = 0.0, 0.0
    for k in range(len(beta)):
        s0 += beta[k] * line[0, k]
        s1 += beta[k] * line[1, k]
        grad[1 + k] += scale * (d_s0 * line[0, k] + d_s1 * line[1, k])
    d_start, d_slope = scale * (s0 * by0 + s1 * by1), scale * (s0 * by1 + s1 * by2)
    d_f_b = (d_slope - mid[0] * d_start) / (mid[last] - mid[0])
    d_z_a = (d_start - d_f_b) * metal_slope(z[0], metal[0], fraction[0], per_cell)
    d_z_b = d_f_b * metal_slope(z[1], metal[0], fraction[1], per_cell)
    for k in range(len(gamma)):
        grad[3 + len(beta) + k] += d_z_a * zh_mid[k, 0] + d_z_b * zh_mid[k, last]
    return s0 * d_s0 + s1 * d_s1

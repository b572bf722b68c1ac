"""theta -> stars: how much mass, of which age and metallicity, as rows of the band tables; and its gradient.

A galaxy is a list of rows: one a whole time bin, one for the bin that the age of the universe cuts, two ages that
bracket the burst. Row i enters with weight[:, i] = mass (1 - f, f) at the two metallicities around its own, f being
linear in ln Z.

The youngest bins, in which every basis is a straight line in time, are merged into moments of their light in time,
sum_j width_j t_j^p L_j with p = 0, 1, 2: star formation is S0 + S1 t and f is f0 + f1 t if their metallicities share a
cell and differ by less than 5%. Where they do not, the bins are taken one by one.
"""

from typing import NamedTuple

import numpy as np

from popcat.sps.fastmath import fast_log, kernel
from popcat.sps.lookups import (
    burst,
    column_mixture,
    metal_cell,
    mixture,
    sfh_weights,
    time_metallicity,
    universe,
    zh_weights,
)
from popcat.sps.tables import N_MOMENT

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


def make_rows(n: int, dtype) -> Rows:
    """Room for n rows, with weights of this type."""
    index, real = np.zeros((2, n), np.int64), np.zeros((3, n))
    return Rows(index[0], index[1], np.zeros(n, bool), np.zeros((2, n), dtype), real[0], real[1], real[2])


@kernel(inline="always")
def metal_slope(z, q, f, per_cell):
    """Derivative of the fraction in Z."""
    return per_cell[q] / z if 0.0 < f < 1.0 else 0.0


@kernel(inline="always")
def burst_age(t_burst, ln_age):
    """Row and fraction of the burst between native ages, and df / dt."""
    ln_t = np.log(t_burst)
    clipped = min(max(ln_t, ln_age[0]), ln_age[-1])
    i = min(max(np.searchsorted(ln_age, clipped, side="right") - 1, 0), len(ln_age) - 2)
    width = ln_age[i + 1] - ln_age[i]
    slope = 1.0 / (t_burst * width) if clipped == ln_t else 0.0
    return i, (clipped - ln_age[i]) / width, slope


@kernel(inline="always")
def _merge(beta, gamma, scale, h, t, rows):
    """The young bins as two rows of three moments, if they can be: the number of bins that this takes care of."""
    n_merged, zh_mid, mid, line, ln_z, per_cell = h.n_merged, h.zh_mid, h.mid, h.sfh_line, h.ln_z, h.per_cell
    last = n_merged - 1
    if last < 0:
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
    _, t_age, total = universe(ln1pz, h, theta)
    beta, gamma = sfh_weights(theta, h), zh_weights(theta, h)
    f_burst, t_burst = burst(theta, t_age, h)
    scale = (1.0 - f_burst) / total
    n_merged = _merge(beta, gamma, scale, h, t, rows)
    shift = n_merged - 2 * N_MOMENT if n_merged > 0 else 0
    n = _fill_bins(beta, gamma, total, scale, t_age, n_merged, shift, h, t, rows)
    if t_burst > t_age:
        return n, n_merged
    row, metal, young, weight, z, fraction = rows.row, rows.cell, rows.young, rows.weight, rows.z, rows.fraction
    z_burst = time_metallicity(gamma, h.zh_time, h.zh_value, t_burst)
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
def _fill_bins(beta, gamma, total, scale, t_age, start, shift, h, t, rows):
    """Rows of the time bins from `start` on, the last one cut at the age of the universe: the number of rows so far."""
    edges, cumulative, by_basis, zh = h.edges, h.cumulative, h.formed, h.zh_mid
    row, young, formed, z, n_young = rows.row, rows.young, rows.formed, rows.z, h.n_young
    last = t.first_cut
    while edges[last + 1] < t_age:
        last += 1
    first, n = _U(start - shift), _U(last + 1 - shift)
    skip = _U(shift)
    for i in range(first, n):
        j = i + skip
        formed[i] = column_mixture(beta, by_basis, j)
        z[i] = column_mixture(gamma, zh, j)
        row[i] = j
        young[i] = j < n_young
    formed[n - 1] = total - mixture(beta, cumulative[last])
    z[n - 1] = time_metallicity(gamma, h.zh_time, h.zh_value, 0.5 * (edges[last] + t_age))
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

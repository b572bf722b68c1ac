"""The way back from rows to theta: the gradient of popcat.sps.stars.fill_rows."""

import numpy as np

from popcat.sps.fastmath import fast_exp, kernel
from popcat.sps.lookups import LN_10, lookup_slope, universe
from popcat.sps.stars import N_MOMENT, burst_age, metal_slope


@kernel()
def rows_gradient(theta, ln1pz, h, t, rows, n, n_merged, d_weight, grad):
    """Add to grad (12,) the gradient that d_weight (2, n) = df / dweight implies; return df / dln1pz."""
    x, t_age, total = universe(ln1pz, h, theta)
    g1, g2, t_burst = fast_exp(LN_10 * theta[7]), fast_exp(LN_10 * theta[8]), theta[6]
    has_burst = t_burst <= t_age
    f_burst = theta[5] if has_burst else 0.0
    scale = (1.0 - f_burst) / total
    n_bin = n - 2 if has_burst else n
    d_scale, d_g1, d_g2 = _merged_gradient(theta, scale, h, rows, n_merged, d_weight, grad)
    first = 2 * N_MOMENT if n_merged > 0 else 0
    last = n_bin - 1 - first + n_merged
    d_mass, d_z = 0.0, 0.0
    by_basis, zh_mid, cumulative, per_cell = h.formed, h.zh_mid, h.cumulative, h.per_cell
    formed, fraction, z, metal = rows.formed, rows.fraction, rows.z, rows.cell
    for i in range(first, n_bin):
        f, j = fraction[i], i - first + n_merged
        d_mass = d_weight[0, i] * (1.0 - f) + d_weight[1, i] * f
        d_z = scale * formed[i] * (d_weight[1, i] - d_weight[0, i]) * metal_slope(z[i], metal[i], f, per_cell)
        d_scale += d_mass * formed[i]
        if j < last:
            for k in range(4):
                grad[1 + k] += scale * d_mass * by_basis[k, j]
            d_g1 += d_z * zh_mid[0, j]
            d_g2 += d_z * zh_mid[1, j]
    for k in range(4):
        grad[1 + k] -= scale * d_mass * cumulative[last, k]
    z1, z2, slope = _time_slopes(g1, g2, h, 0.5 * (h.edges[last] + t_age))
    per_ln1pz = (len(h.age) - 1) / h.ln1pz_max
    d_ln1pz = d_z * slope * 0.5 * lookup_slope(x, h.age) * per_ln1pz
    d_g1 += d_z * z1
    d_g2 += d_z * z2
    if has_burst:
        z1, z2, slope = _time_slopes(g1, g2, h, t_burst)
        d_f_burst, d_t_burst, d_z = _burst_gradient(f_burst, t_burst, n_bin, h, t, rows, d_weight)
        grad[5] += d_f_burst - d_scale / total
        grad[6] += d_t_burst + d_z * slope
        d_g1 += d_z * z1
        d_g2 += d_z * z2
    grad[7] += d_g1 * g1 * LN_10
    grad[8] += d_g2 * g2 * LN_10
    d_total = scale * d_mass - d_scale * scale / total
    i = min(max(int(x), 0), len(h.age) - 2)
    at_age = h.cumulative_at_age
    for k in range(4):
        low, high = at_age[i, k], at_age[i + 1, k]
        grad[1 + k] += d_total * (low + (high - low) * (x - i))
        d_ln1pz += d_total * theta[1 + k] * (high - low) * per_ln1pz
    return d_ln1pz


@kernel()
def _burst_gradient(f_burst, t_burst, i, h, t, rows, d_weight):
    """Gradient of the burst's rows i and i + 1 in its mass, its age (metallicity apart), and its metallicity."""
    _, f_age, slope = burst_age(t_burst, t.burst_ln_age)
    f = rows.fraction[i]
    low = d_weight[0, i] * (1.0 - f) + d_weight[1, i] * f
    high = d_weight[0, i + 1] * (1.0 - f) + d_weight[1, i + 1] * f
    d_f = (d_weight[1, i] - d_weight[0, i]) * (1.0 - f_age) + (d_weight[1, i + 1] - d_weight[0, i + 1]) * f_age
    d_z = f_burst * d_f * metal_slope(rows.z[i], rows.cell[i], f, h.per_cell)
    return low * (1.0 - f_age) + high * f_age, f_burst * (high - low) * slope, d_z


@kernel()
def _merged_gradient(theta, scale, h, rows, n_merged, d_weight, grad):
    """Gradient of the moments' rows: in `scale` and in the two metallicity weights; that in beta is added to grad."""
    if n_merged == 0:
        return 0.0, 0.0, 0.0
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
    for k in range(4):
        s0 += theta[1 + k] * line[0, k]
        s1 += theta[1 + k] * line[1, k]
        grad[1 + k] += scale * (d_s0 * line[0, k] + d_s1 * line[1, k])
    d_start, d_slope = scale * (s0 * by0 + s1 * by1), scale * (s0 * by1 + s1 * by2)
    d_f_b = (d_slope - mid[0] * d_start) / (mid[last] - mid[0])
    d_z_a = (d_start - d_f_b) * metal_slope(z[0], metal[0], fraction[0], per_cell)
    d_z_b = d_f_b * metal_slope(z[1], metal[0], fraction[1], per_cell)
    d_g1 = d_z_a * zh_mid[0, 0] + d_z_b * zh_mid[0, last]
    d_g2 = d_z_a * zh_mid[1, 0] + d_z_b * zh_mid[1, last]
    return s0 * d_s0 + s1 * d_s1, d_g1, d_g2


@kernel(inline="always")
def _time_slopes(g1, g2, h, t):
    """Metallicity bases at a time, and dZ/dt of their mixture."""
    time, value = h.zh_time, h.zh_value
    i = min(max(np.searchsorted(time, t, side="right") - 1, 0), len(time) - 2)
    width = time[i + 1] - time[i]
    f = (t - time[i]) / width
    low1, high1, low2, high2 = value[i, 0], value[i + 1, 0], value[i, 1], value[i + 1, 1]
    slope = (g1 * (high1 - low1) + g2 * (high2 - low2)) / width
    return low1 * (1.0 - f) + high1 * f, low2 * (1.0 - f) + high2 * f, slope

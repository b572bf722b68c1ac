"""The way back from rows to theta: the gradient of popcat.sps.stars.fill_rows."""

import numpy as np

from popcat.sps.fastmath import kernel
from popcat.sps.lookups import LN_10, burst, lookup_slope, sfh_weights, universe, zh_weights
from popcat.sps.stars import N_MOMENT, burst_age, metal_slope


@kernel(inline="always")
def rows_gradient(theta, ln1pz, h, t, rows, n, n_merged, d_weight, grad):
    """Gradient in all of theta but mass and dust that d_weight (2, n) = df / dweight implies; return df / dln1pz.

    grad (n_theta,) comes full of zeros.
    """
    x, t_age, total = universe(ln1pz, h, theta)
    beta, gamma = sfh_weights(theta, h), zh_weights(theta, h)
    f_burst, t_burst = burst(theta, t_age, h)
    at_burst = 1 + len(beta)
    at_zh = at_burst + 2
    has_burst = t_burst <= t_age
    scale = (1.0 - f_burst) / total
    n_bin = n - 2 if has_burst else n
    d_scale = _merged_gradient(beta, gamma, scale, h, rows, n_merged, d_weight, grad)
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
            for k in range(len(beta)):
                grad[1 + k] += scale * d_mass * by_basis[k, j]
            for k in range(len(gamma)):
                grad[at_zh + k] += d_z * zh_mid[k, j]
    for k in range(len(beta)):
        grad[1 + k] -= scale * d_mass * cumulative[last, k]
    slope = _time_gradient(gamma, h, 0.5 * (h.edges[last] + t_age), d_z, grad)
    per_ln1pz = (len(h.age) - 1) / h.ln1pz_max
    d_ln1pz = slope * 0.5 * lookup_slope(x, h.age) * per_ln1pz
    if has_burst:
        d_f_burst, d_t_burst, d_z = _burst_gradient(f_burst, t_burst, n_bin, h, t, rows, d_weight)
        grad[at_burst] += d_f_burst - d_scale / total
        grad[at_burst + 1] += d_t_burst + _time_gradient(gamma, h, t_burst, d_z, grad)
    for k in range(len(gamma)):
        grad[at_zh + k] *= gamma[k] * LN_10
    d_total = scale * d_mass - d_scale * scale / total
    i = min(max(int(x), 0), len(h.age) - 2)
    at_age = h.cumulative_at_age
    for k in range(len(beta)):
        low, high = at_age[i, k], at_age[i + 1, k]
        grad[1 + k] += d_total * (low + (high - low) * (x - i))
        d_ln1pz += d_total * beta[k] * (high - low) * per_ln1pz
    return d_ln1pz


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


@kernel(inline="always")
def _time_gradient(gamma, h, t, d_z, grad):
    """Add the gradient of the metallicity at a time to that in the bases' weights; return that in the time."""
    time, value = h.zh_time, h.zh_value
    i = min(max(np.searchsorted(time, t, side="right") - 1, 0), len(time) - 2)
    width = time[i + 1] - time[i]
    f = (t - time[i]) / width
    slope = 0.0
    for k in range(len(gamma)):
        low, high = value[i, k], value[i + 1, k]
        slope += gamma[k] * (high - low)
        grad[3 + len(h.sfh_slots) + k] += d_z * (low * (1.0 - f) + high * f)
    return d_z * slope / width

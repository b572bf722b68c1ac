"""theta -> gas around young stars, as rows of the band tables beside those of the stars; and its gradient.

Star formation is S0 + S1 t while gas shines, so gas is S0 and S1 times two moments of its light in time, and the burst
times that of its native ages; each (1 - f_esc) times that at log U, linear between nodes, and f_esc times the starlight
that it would take. All has the metallicity of one time bin in the middle: it hardly changes within 10 Myr.
"""

from popcat.forward.component_tables import N_GAS_MOMENT
from popcat.forward.lookups import (
    bin_metallicity,
    burst,
    in_unit,
    last_bin,
    metal_cell,
    metallicity_gradient,
    node_cell,
    sfh_weights,
    time_gradient,
    time_metallicity,
    universe,
    zh_weights,
)
from popcat.forward.quadrature import kernel
from popcat.forward.sfh_kernels import formed_so_far, recent_rate
from popcat.forward.stars import burst_age, metal_slope


@kernel()
def fill_gas(theta, ln1pz, h, first_cut, burst_ln_age, t, rows, n, every):
    """Rows after the first n: the number of all. t : GasTable. `every`: those too that have no light but a gradient."""
    x, t_age = universe(ln1pz, h)
    beta, gamma = sfh_weights(theta, h), zh_weights(theta, h)
    f_burst, t_burst = burst(theta, t_age, h)
    last = last_bin(t_age, first_cut, h.edges)
    total = formed_so_far(h.law, beta, x, h.cumulative_at_age, last, rows.formed)
    rate = recent_rate(h.law, beta, h.sfh_line, t.moments, h.mid, rows.formed)
    z = bin_metallicity(h.law, gamma, h.zh_mid, t.bin, h.zh_time, h.zh_value, h.mid, t_age)
    for k in range(t.n_sets):
        p = _moment(k, t)
        if p >= 0:
            mass = (1.0 - f_burst) / total * rate[p]
            n = _fill_set(theta, k, mass, z, k < N_GAS_MOMENT, h.ln_z, h.per_cell, t, rows, n, every)
    if t_burst <= t_age and t.n_burst > 0:
        age, f_age, _ = burst_age(t_burst, burst_ln_age)
        z = time_metallicity(gamma, h.zh_time, h.zh_value, in_unit(h.law, t_burst, t_age)[0])
        for i in range(2):
            if age + i < t.n_burst:
                mass, is_young = f_burst * (f_age if i == 1 else 1.0 - f_age), t_burst < h.birth_cloud_age
                n = _fill_set(theta, N_GAS_MOMENT + age + i, mass, z, is_young, h.ln_z, h.per_cell, t, rows, n, every)
    return n


@kernel(inline="always")
def _moment(k, t):
    """Which moment in time a set is; -1 for the burst's."""
    if k < N_GAS_MOMENT:
        return k
    last = k - N_GAS_MOMENT - t.n_burst
    return last if last >= 0 else -1


@kernel(inline="always")
def _fill_set(theta, k, mass, z, is_young, ln_z, per_cell, t, rows, n, every):
    """Rows of one set: gas at the two nodes around log U, and the light that escapes it."""
    i_u, f_u, _ = node_cell(theta[t.first], t.log_u)
    f_esc, n_u = theta[t.first + 1], len(t.log_u)
    q, f = metal_cell(z, ln_z, per_cell)
    for j in range(3):
        share = f_esc if j == 2 else (1.0 - f_esc) * (f_u if j == 1 else 1.0 - f_u)
        if every or share * mass != 0.0:
            rows.row[n] = t.row + k * (n_u + 1) + (n_u if j == 2 else i_u + j)
            rows.cell[n] = q
            rows.young[n] = is_young
            rows.weight[0, n], rows.weight[1, n] = share * mass * (1.0 - f), share * mass * f
            rows.formed[n], rows.z[n], rows.fraction[n] = mass, z, f
            n += 1
    return n


@kernel()
def gas_gradient(theta, ln1pz, h, first_cut, burst_ln_age, t, rows, first, n, d_weight, grad):
    """Gradient of rows first to n, made with `every`: to grad that in the metallicity's weights before their logarithm,
    in the burst's and the gas's parameters; returned, for popcat.forward.stars.rows_gradient, those in value and slope
    of the recent star-formation rate times its scale, and in t_age."""
    _, t_age = universe(ln1pz, h)
    beta, gamma = sfh_weights(theta, h), zh_weights(theta, h)
    f_burst, t_burst = burst(theta, t_age, h)
    at_burst = 1 + len(beta)
    _, f_u, per_u = node_cell(theta[t.first], t.log_u)
    f_esc, n_u = theta[t.first + 1], len(t.log_u)
    age, f_age, per_age = burst_age(t_burst, burst_ln_age)
    d_value, d_slope, d_z_now, d_z_burst = 0.0, 0.0, 0.0, 0.0
    for i in range(first, n):
        j = (i - first) % 3
        mass, f = rows.formed[i], rows.fraction[i]
        share = f_esc if j == 2 else (1.0 - f_esc) * (f_u if j == 1 else 1.0 - f_u)
        d_amount = d_weight[0, i] * (1.0 - f) + d_weight[1, i] * f
        d_z = share * mass * (d_weight[1, i] - d_weight[0, i]) * metal_slope(rows.z[i], rows.cell[i], f, h.per_cell)
        if j == 2:
            grad[t.first + 1] += d_amount * mass
        else:
            grad[t.first + 1] -= d_amount * mass * (f_u if j == 1 else 1.0 - f_u)
            grad[t.first] += d_amount * mass * (1.0 - f_esc) * (per_u if j == 1 else -per_u)
        k = (rows.row[i] - t.row) // (n_u + 1)
        p = _moment(k, t)
        if p >= 0:
            d_z_now += d_z
            d_value += d_amount * share * (1.0 - p)
            d_slope += d_amount * share * p
        else:
            is_next = k - N_GAS_MOMENT > age
            d_z_burst += d_z
            grad[at_burst] += d_amount * share * (f_age if is_next else 1.0 - f_age)
            grad[at_burst + 1] += d_amount * share * f_burst * (per_age if is_next else -per_age)
    d_t_age = metallicity_gradient(h.law, gamma, h, t.bin, t_age, d_z_now, at_burst + 2, grad)
    if d_z_burst != 0.0:
        since, by_time, by_age = in_unit(h.law, t_burst, t_age)
        d_since = time_gradient(gamma, h.zh_time, h.zh_value, since, d_z_burst, at_burst + 2, grad)
        grad[at_burst + 1] += d_since * by_time
        d_t_age += d_since * by_age
    return d_value, d_slope, d_t_age

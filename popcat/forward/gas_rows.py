"""theta -> gas around young stars, as rows of the band tables beside those of the stars; and its gradient.

Star formation is S0 + S1 t while gas shines, so gas is S0 and S1 times two moments of its light in time, and the burst
times that of its native ages; each (1 - f_esc) times that at log U, linear between nodes, and f_esc times the starlight
that it would take. All has the metallicity of one time bin in the middle: it hardly changes within 10 Myr.
"""


from popcat.forward.component_tables import N_GAS_MOMENT
from popcat.forward.lookups import (
    burst,
    column_mixture,
    metal_cell,
    mixture,
    node_cell,
    sfh_weights,
    time_metallicity,
    universe,
    zh_weights,
)
from popcat.forward.quadrature import kernel
from popcat.forward.stars import burst_age, metal_slope, time_gradient


@kernel()
def fill_gas(theta, ln1pz, h, burst_ln_age, t, rows, n, every):
    """Rows after the first n: the number of all. t : GasTable. `every`: those too that have no light but a gradient."""
    _, t_age, total = universe(ln1pz, h, theta)
    beta, gamma = sfh_weights(theta, h), zh_weights(theta, h)
    f_burst, t_burst = burst(theta, t_age, h)
    z = column_mixture(gamma, h.zh_mid, t.bin)
    for k in range(t.n_sets):
        p = _moment(k, t)
        if p >= 0:
            mass = (1.0 - f_burst) / total * mixture(beta, h.sfh_line[p])
            n = _fill_set(theta, k, mass, z, k < N_GAS_MOMENT, h.ln_z, h.per_cell, t, rows, n, every)
    if t_burst <= t_age and t.n_burst > 0:
        age, f_age, _ = burst_age(t_burst, burst_ln_age)
        z = time_metallicity(gamma, h.zh_time, h.zh_value, t_burst)
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
def gas_gradient(theta, ln1pz, h, burst_ln_age, t, rows, first, n, d_weight, grad):
    """Gradient of rows first to n, made with `every`: to grad that in the weights of star formation at a fixed scale,
    of metallicity before their logarithm, in the burst and in the gas; returned that in the scale."""
    _, t_age, total = universe(ln1pz, h, theta)
    beta, gamma = sfh_weights(theta, h), zh_weights(theta, h)
    f_burst, t_burst = burst(theta, t_age, h)
    scale, at_burst = (1.0 - f_burst) / total, 1 + len(beta)
    _, f_u, per_u = node_cell(theta[t.first], t.log_u)
    f_esc, n_u = theta[t.first + 1], len(t.log_u)
    age, f_age, per_age = burst_age(t_burst, burst_ln_age)
    d_scale, d_z_now, d_z_burst = 0.0, 0.0, 0.0
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
            d_scale += d_amount * share * mixture(beta, h.sfh_line[p])
            for b in range(len(beta)):
                grad[1 + b] += d_amount * share * scale * h.sfh_line[p, b]
        else:
            is_next = k - N_GAS_MOMENT > age
            d_z_burst += d_z
            grad[at_burst] += d_amount * share * (f_age if is_next else 1.0 - f_age)
            grad[at_burst + 1] += d_amount * share * f_burst * (per_age if is_next else -per_age)
    for b in range(len(gamma)):
        grad[at_burst + 2 + b] += d_z_now * h.zh_mid[b, t.bin]
    if d_z_burst != 0.0:
        grad[at_burst + 1] += time_gradient(gamma, h, t_burst, d_z_burst, grad)
    return d_scale

"""Rows of the band tables -> band fluxes through the dust; and its gradient.

flux_b = M (10 pc / d_L)^2 / (1 + z) sum_c (old_c light_c + young_c light'_c) over the band's columns c, with light and
light' that of the stars (and gas) outside and inside birth clouds, old_c = exp(-tau_ism k(w_c)) and young_c = old_c
exp(-tau_bc C(w_c)). The columns of the 6300 A step have -tau_ism (w / 5500)^n old_c: their step is small. Columns after
those of the bands are of all light in the rest frame, for popcat.forward.added_light.
"""

from typing import NamedTuple

import numpy as np

from popcat.forward.lookups import LN_10, lookup, lookup_slope
from popcat.forward.quadrature import fast_exp, kernel, sum_eight, sum_of
from popcat.forward.table_arrays import KernelTables, law_shape

# Unsigned indices: a signed one may be negative, which numba wraps around, and that keeps loops from being vectorised.
_U = np.uint64


class Columns(NamedTuple):
    """One galaxy, column by column, overwritten for each: light and transmission; and v and gradients in light."""

    light: np.ndarray
    light_young: np.ndarray
    old: np.ndarray
    young: np.ndarray
    v: np.ndarray
    term: np.ndarray
    """(5, n_col), column by column: fluxes, the nucleus's gradient, and that in tau_bc, tau_ism, n_dust, bump_dust and
    ln(1 + z), one after the other."""
    d_light: np.ndarray
    """(2, n_col) in the tables' type: gradient of the light of old and young stars."""
    both: np.ndarray
    """(2, n_col): light and light_young."""
    change: np.ndarray
    """(2, n_col), likewise: light at the tables' next redshift less that at the one before."""
    weight: np.ndarray
    d_weight: np.ndarray
    """(2, K): weights of the tables' components, of old and of young stars, and the gradient in them."""


def make_columns(t: KernelTables) -> Columns:
    """Room for the columns of one galaxy."""
    n, dtype = len(t.band), t.coefficient.dtype
    # the last eight of a band's columns may reach beyond the last column
    light, real = np.zeros((6, n + 8), dtype), np.zeros((8, n))
    of = np.zeros((4, t.coefficient.shape[3] + 8), dtype)
    both = light[:2], light[4:], of[:2], of[2:]
    return Columns(light[0], light[1], real[0], real[1], real[2], real[3:], light[2:4], *both)


@kernel(inline="always")
def _eights(n):
    """popcat.forward.compression.filled."""
    return (_U(n) + _U(7)) // _U(8) * _U(8)


@kernel(inline="always")
def gather(rows, n, iz, fz, t, s):
    """Sum the light of a galaxy's rows, linear in redshift, into s.light and s.light_young."""
    table, block = t.coefficient, _U(t.cells.block[iz])
    component, _, starts, first = t.components
    old, young, start = s.weight[0], s.weight[1], starts[block]
    n_component = _eights(start[len(start) - 1])
    s.weight[:] = 0.0
    for i in range(n):
        target = young if rows.young[i] else old
        q0, q1, r = _U(rows.cell[i]), _U(rows.cell[i] + 1), _U(rows.row[i])
        low, high = rows.weight[0, i], rows.weight[1, i]
        for k in range(n_component):
            target[k] += low * table[block, q0, r, k] + high * table[block, q1, r, k]
    slot = _U(iz) + block
    _expand(s.weight, component[slot], component[slot + _U(1)], 1.0 - fz, fz, start, first, s.both)


@kernel(inline="always")
def _expand(weight, at_z0, at_z1, near, far, start, first, light):
    """Light (2, n_col) of old and young stars, of weights (2, K) of components: near at_z0 + far at_z1 of them."""
    near, far, at = weight.dtype.type(near), weight.dtype.type(far), _U(0)
    for b in range(_U(len(first) - 1)):
        low, high, stride = _U(start[b]), _U(start[b + 1]), _eights(first[b + 1] - first[b])
        for eight in range(_U(0), stride, _U(8)):
            sum_eight(light, _U(first[b]) + eight, weight, low, high, at_z0, at_z1, at + eight, stride, near, far)
        at += stride * (high - low)


@kernel(fastmath={"reassoc", "contract", "nsz"})
def gather_gradient(rows, n, iz, block, fz, coefficient, components, s, d_weight):
    """d_weight (2, n) from s.d_light; the gradient in the fraction between the tables' redshifts is returned.

    block : of cell iz. components : of KernelTables.
    """
    component, turned, starts, first = components
    block, slot = _U(block), _U(iz + block)
    start = starts[block]
    n_component = _eights(start[len(start) - 1])
    zero, d_light, d_of = coefficient.dtype.type(0.0), s.d_light, s.d_weight
    _expand(d_light, turned[slot], turned[slot + _U(1)], 1.0 - fz, fz, first, start, d_of)
    for i in range(n):
        d_own = d_of[1 if rows.young[i] else 0]
        q0, q1, r = _U(rows.cell[i]), _U(rows.cell[i] + 1), _U(rows.row[i])
        a, b = zero, zero
        for k in range(n_component):
            a += d_own[k] * coefficient[block, q0, r, k]
            b += d_own[k] * coefficient[block, q1, r, k]
        d_weight[0, i] = a
        d_weight[1, i] = b
    _expand(s.weight, component[slot], component[slot + _U(1)], -1.0, 1.0, start, first, s.change)
    d_fz = zero
    for c in range(_U(s.change.shape[1])):
        d_fz += d_light[0, c] * s.change[0, c] + d_light[1, c] * s.change[1, c]
    return d_fz


# Loops over columns have no branches, so that they become vector instructions: screen.moves is 1 where a column's node
# moves with redshift, screen.step for those of the step.
@kernel(inline="always")
def transmit(theta, ln1pz, iz, fz, screen, s):
    """Transmission of every column: s.old and s.young."""
    tau_bc, tau_ism = theta[screen.first], theta[screen.first + 1]
    n, e, b, _, _, _ = law_shape(theta, screen)
    old, young, ln_node, moves, step = s.old, s.young, screen.ln_node, screen.moves, screen.step
    near, far = screen.curve[_U(iz)], screen.curve[_U(iz + 1)]
    for c in range(_U(len(ln_node))):
        k = near[0, c] + fz * (far[0, c] - near[0, c])
        bump = near[1, c] + fz * (far[1, c] - near[1, c])
        cloud = near[2, c] + fz * (far[2, c] - near[2, c])
        tilt = fast_exp(n * (ln_node[c] - moves[c] * ln1pz))
        seen = fast_exp(-tau_ism * ((k + e * bump) * tilt + b * bump))
        seen *= 1.0 - step[c] - step[c] * tau_ism * tilt
        old[c] = seen
        young[c] = seen * fast_exp(-tau_bc * cloud)


@kernel()
def transmit_gradient(theta, ln1pz, iz, fz, per_cell, screen, s, factor, grad):
    """Add the gradient of sum(v flux) in the dust to grad; return that in ln(1 + z) through the dust's wavelengths."""
    tau_bc, tau_ism = theta[screen.first], theta[screen.first + 1]
    n, e, b, e_n, b_n, b_bump = law_shape(theta, screen)
    old, young, light, light_young, v = s.old, s.young, s.light, s.light_young, s.v
    ln_node, moves, step = screen.ln_node, screen.moves, screen.step
    d_bc, d_ism, d_n, d_bump, d_ln1pz = s.term[0], s.term[1], s.term[2], s.term[3], s.term[4]
    near, far = screen.curve[_U(iz)], screen.curve[_U(iz + 1)]
    for c in range(_U(len(ln_node))):
        d_k, d_drude, d_cloud = far[0, c] - near[0, c], far[1, c] - near[1, c], far[2, c] - near[2, c]
        k, drude, cloud = near[0, c] + fz * d_k, near[1, c] + fz * d_drude, near[2, c] + fz * d_cloud
        ln_tilt = ln_node[c] - moves[c] * ln1pz
        tilt = fast_exp(n * ln_tilt)
        tilted = (k + e * drude) * tilt
        curve = tilted + b * drude
        from_young = v[c] * young[c] * light_young[c]
        seen = v[c] * old[c] * light[c] + from_young
        d_curve = ((d_k + e * d_drude) * tilt + b * d_drude) * per_cell - n * moves[c] * tilted
        d_bc[c] = -cloud * from_young
        d_ism[c] = -curve * seen
        d_n[c] = step[c] * ln_tilt * seen - tau_ism * (tilted * ln_tilt + (e_n * tilt + b_n) * drude) * seen
        d_bump[c] = -tau_ism * b_bump * drude * seen
        d_ln1pz[c] = -tau_bc * d_cloud * per_cell * from_young - tau_ism * d_curve * seen
    for c in range(_U(len(step))):
        if step[c] > 0.0:
            # proportional to tau_ism, which may be zero: what it is, divided by it
            k, drude = near[0, c] + fz * (far[0, c] - near[0, c]), near[1, c] + fz * (far[1, c] - near[1, c])
            cloud = near[2, c] + fz * (far[2, c] - near[2, c])
            tilt = fast_exp(n * (ln_node[c] - moves[c] * ln1pz))
            seen = fast_exp(-tau_ism * ((k + e * drude) * tilt + b * drude))
            d_ism[c] -= v[c] * tilt * seen * (light[c] + fast_exp(-tau_bc * cloud) * light_young[c])
    first = screen.first
    grad[first] += factor * sum_of(d_bc)
    grad[first + 1] += factor * sum_of(d_ism)
    if screen.n_shape > 0:
        grad[first + 2] += factor * sum_of(d_n)
    if screen.n_shape > 1:
        grad[first + 3] += factor * sum_of(d_bump)
    return factor * sum_of(d_ln1pz)


@kernel(inline="always")
def column_fluxes(s, first_all, factor):
    """s.term[0]: the flux of every column of the bands."""
    light, light_young, old, young, flux = s.light, s.light_young, s.old, s.young, s.term[0]
    for c in range(_U(first_all)):
        flux[c] = factor * (old[c] * light[c] + young[c] * light_young[c])


@kernel(inline="always")
def sum_bands(of_column, first, flux):
    """Band fluxes of one galaxy from those of its columns; first : of Components."""
    for b in range(_U(len(flux))):
        # four sums, because each addition waits for the one before
        p, q, r, t = 0.0, 0.0, 0.0, 0.0
        low, high = _U(first[b]), _U(first[b + 1])
        fours = low + (high - low) // _U(4) * _U(4)
        for c in range(low, fours, _U(4)):
            p += of_column[c]
            q += of_column[c + _U(1)]
            r += of_column[c + _U(2)]
            t += of_column[c + _U(3)]
        for c in range(fours, high):
            p += of_column[c]
        flux[b] = (p + q) + (r + t)


@kernel(inline="always")
def clear_light(s, t):
    """Light of one galaxy in the first band without dust, and behind it."""
    clear, seen = 0.0, 0.0
    step = t.screen.step
    for c in range(_U(t.first_all)):
        if t.band[c] == 0:
            # the columns of the step are not light but its weight with the step
            clear += (1.0 - step[c]) * s.light[c] + (1.0 - step[c]) * s.light_young[c]
            seen += s.old[c] * s.light[c] + s.young[c] * s.light_young[c]
    return clear, seen


@kernel(inline="always")
def distance_factor(log_mass, ln1pz, h):
    """M (10 pc / d_L)^2 / (1 + z), and its logarithmic derivative in ln(1 + z)."""
    x = ln1pz / h.ln1pz_max * (len(h.age) - 1)
    ratio = lookup(x, h.dist_ratio_mpc)
    per_ln1pz = (len(h.age) - 1) / h.ln1pz_max
    slope = -2.0 * (1.0 / ln1pz + lookup_slope(x, h.dist_ratio_mpc) * per_ln1pz / ratio) - 1.0
    return fast_exp(log_mass * LN_10 - ln1pz) * (1e-5 / (ln1pz * ratio)) ** 2, slope

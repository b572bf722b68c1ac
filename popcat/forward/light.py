"""Rows of the band tables -> band fluxes through the dust; and its gradient.

flux_b = M (10 pc / d_L)^2 / (1 + z) sum_c (old_c light_c + young_c light'_c) over the band's columns c, with light and
light' that of the stars outside and inside birth clouds, old_c = exp(-tau_ism k(w_c)) and young_c = old_c
exp(-tau_bc 5500 / w_c). The columns of the 6300 A step have -tau_ism (w / 5500)^n old_c: their step is small.
"""

from typing import NamedTuple

import numpy as np

from popcat.forward.dust import BUMP_CENTRE_AA, BUMP_WIDTH_AA, NORM, R_V, STEP_HIGH_AA
from popcat.forward.lookups import LN_10, dust, lookup, lookup_slope
from popcat.forward.quadrature import fast_exp, kernel
from popcat.forward.tables import STEP_NODES_AA, BandTables

# Unsigned indices: a signed one may be negative, which numba wraps around, and that keeps loops from being vectorised.
_U = np.uint64


class KernelTables(NamedTuple):
    """BandTables as the kernels read them."""

    ln1pz0: float
    step: float
    light: np.ndarray
    burst_ln_age: np.ndarray
    n_whole: int
    first_cut: int
    first_merged: int
    first_burst: int
    moves: np.ndarray
    """(n_col,): 1 where a column's node is in the observed frame, 0 for those of the step, in the rest frame."""
    node: np.ndarray
    ln_node: np.ndarray
    """(n_col,): wavelength of every column, and the logarithm of its ratio to 5500 A."""
    band: np.ndarray
    """(n_col,): band of every column."""


class Columns(NamedTuple):
    """One galaxy, column by column, overwritten for each: light and transmission; and v and gradients in light."""

    light: np.ndarray
    light_young: np.ndarray
    old: np.ndarray
    young: np.ndarray
    v: np.ndarray
    term: np.ndarray
    """(4, n_col): gradient in tau_bc, tau_ism, n_dust and ln(wavelength), column by column."""
    d_light: np.ndarray
    """(2, n_col) in the tables' type: gradient of the light of old and young stars."""


def kernel_tables(tables: BandTables) -> KernelTables:
    """Flat arrays for the kernels."""
    band = np.concatenate([tables.node_band, np.repeat(tables.step_band, len(STEP_NODES_AA))])
    node = np.concatenate([tables.node_aa, np.tile(STEP_NODES_AA, len(tables.step_band))])
    # columns that fill up have no light, wherever they are
    empty = tables.light.shape[3] - len(band)
    node = np.append(node, np.full(empty, STEP_NODES_AA[0]))
    return KernelTables(
        ln1pz0=float(tables.ln1pz[0]),
        step=float(tables.ln1pz[1] - tables.ln1pz[0]),
        light=tables.light,
        burst_ln_age=tables.burst_ln_age,
        n_whole=tables.n_whole,
        first_cut=tables.first_cut,
        first_merged=tables.first_merged,
        first_burst=tables.first_burst,
        moves=(np.arange(len(node)) < len(tables.node_aa)).astype(float),
        node=node,
        ln_node=np.log(node / 5500.0),
        band=np.append(band, np.zeros(empty, dtype=np.int64)),
    )


def make_columns(n: int, dtype) -> Columns:
    """Room for the n columns of one galaxy, with light of this type."""
    light, real = np.zeros((4, n), dtype), np.zeros((7, n))
    return Columns(light[0], light[1], real[0], real[1], real[2], real[3:], light[2:])


@kernel(inline="always")
def redshift_cell(ln1pz, t):
    """Index and fraction between the tables' redshifts."""
    x = (ln1pz - t.ln1pz0) / t.step
    i = min(max(int(x), 0), t.light.shape[0] - 2)
    return i, x - i


@kernel(inline="always")
def gather(rows, n, ln1pz, t, s):
    """Sum the light of a galaxy's rows, linear in redshift, into s.light and s.light_young."""
    s.light[:] = 0.0
    s.light_young[:] = 0.0
    iz, fz = redshift_cell(ln1pz, t)
    table, z0, z1 = t.light, _U(iz), _U(iz + 1)
    near, far = table.dtype.type(1.0 - fz), table.dtype.type(fz)
    for i in range(n):
        target = s.light_young if rows.young[i] else s.light
        q0, q1, r = _U(rows.cell[i]), _U(rows.cell[i] + 1), _U(rows.row[i])
        low, high = rows.weight[0, i], rows.weight[1, i]
        a, b, c, d = near * low, near * high, far * low, far * high
        for k in range(_U(table.shape[3])):
            target[k] += a * table[z0, q0, r, k] + b * table[z0, q1, r, k] + (
                c * table[z1, q0, r, k] + d * table[z1, q1, r, k]
            )


@kernel(fastmath={"reassoc", "contract", "nsz"})
def gather_gradient(rows, n, ln1pz, t, s, d_weight):
    """d_weight (2, n) from s.d_light; the gradient in ln(1 + z) through the tables is returned."""
    iz, fz = redshift_cell(ln1pz, t)
    table, z0, z1 = t.light, _U(iz), _U(iz + 1)
    zero = table.dtype.type(0.0)
    d_fz = 0.0
    for i in range(n):
        d_light = s.d_light[1 if rows.young[i] else 0]
        q0, q1, r = _U(rows.cell[i]), _U(rows.cell[i] + 1), _U(rows.row[i])
        a, b, c, d = zero, zero, zero, zero
        for k in range(_U(table.shape[3])):
            g = d_light[k]
            a += g * table[z0, q0, r, k]
            b += g * table[z0, q1, r, k]
            c += g * table[z1, q0, r, k]
            d += g * table[z1, q1, r, k]
        d_weight[0, i] = (1.0 - fz) * a + fz * c
        d_weight[1, i] = (1.0 - fz) * b + fz * d
        d_fz += rows.weight[0, i] * (c - a) + rows.weight[1, i] * (d - b)
    return d_fz / t.step


@kernel(inline="always")
def _smooth_curve(wave):
    """calzetti_smooth and the bump of unit strength (popcat.forward.dust)."""
    x = 1e4 / wave
    short = 1.17 * (-2.156 + x * (1.509 + x * (-0.198 + x * 0.011))) + 1.78
    long = 1.17 * (-1.857 + 1.04 * x) + 1.78
    k = max(short if wave <= STEP_HIGH_AA else long, 0.0) * (1.0 / NORM)
    width = BUMP_WIDTH_AA * BUMP_WIDTH_AA * wave * wave
    off = wave * wave - BUMP_CENTRE_AA * BUMP_CENTRE_AA
    return k, width / ((off * off + width) * R_V)


@kernel(inline="always")
def _curve_slopes(wave):
    """Derivatives of `_smooth_curve` in ln(wave)."""
    x = 1e4 / wave
    short = -1.17 * x * (1.509 + x * (-0.396 + x * 0.033))
    long = -1.17 * x * 1.04
    slope = short if wave <= STEP_HIGH_AA else long
    slope = slope if 1.17 * (-1.857 + 1.04 * x) + 1.78 > 0.0 else 0.0
    width = BUMP_WIDTH_AA * BUMP_WIDTH_AA * wave * wave
    off = wave * wave - BUMP_CENTRE_AA * BUMP_CENTRE_AA
    bottom = off * off + width
    d_bump = 2.0 * width * (bottom - 2.0 * wave * wave * off - width) / (bottom * bottom * R_V)
    return slope * (1.0 / NORM), d_bump


# Loops over columns have no branches, so that they become vector instructions: t.moves is 1 where a column's node moves
# with redshift, and 0 for those of the step.
@kernel(inline="always")
def transmit(theta, ln1pz, t, s):
    """Transmission of every column: s.old and s.young."""
    tau_bc, tau_ism, n_dust = dust(theta)
    old, young, node, ln_node, moves = s.old, s.young, t.node, t.ln_node, t.moves
    e_bump, shift = 0.85 - 1.9 * n_dust, fast_exp(-ln1pz) - 1.0
    for c in range(_U(len(node))):
        move = moves[c]
        wave = node[c] * (1.0 + move * shift)
        k, bump = _smooth_curve(wave)
        tilt = fast_exp(n_dust * (ln_node[c] - move * ln1pz))
        seen = fast_exp(-tau_ism * (k + e_bump * bump) * tilt)
        seen *= move - (1.0 - move) * tau_ism * tilt
        old[c] = seen
        young[c] = seen * fast_exp(-tau_bc * 5500.0 / wave)


@kernel()
def transmit_gradient(theta, ln1pz, t, s, factor, grad):
    """Add the gradient of sum(v flux) in the dust to grad; return that in ln(1 + z) through the dust's wavelengths."""
    tau_bc, tau_ism, n_dust = dust(theta)
    old, young, light, light_young, v = s.old, s.young, s.light, s.light_young, s.v
    node, ln_node, moves = t.node, t.ln_node, t.moves
    d_bc, d_ism, d_n, d_ln_wave = s.term[0], s.term[1], s.term[2], s.term[3]
    e_bump, shift = 0.85 - 1.9 * n_dust, fast_exp(-ln1pz) - 1.0
    for c in range(_U(len(node))):
        move = moves[c]
        wave = node[c] * (1.0 + move * shift)
        ln_tilt = ln_node[c] - move * ln1pz
        k, bump = _smooth_curve(wave)
        d_k, d_bump = _curve_slopes(wave)
        tilt = fast_exp(n_dust * ln_tilt)
        curve = (k + e_bump * bump) * tilt
        x = 5500.0 / wave
        from_young = v[c] * young[c] * light_young[c]
        seen = v[c] * old[c] * light[c] + from_young
        # the step's columns are proportional to tau_ism, which may be zero
        per_tau = v[c] * tilt * fast_exp(-tau_ism * curve) * (light[c] + fast_exp(-tau_bc * x) * light_young[c])
        d_wave = tau_bc * x * from_young - tau_ism * ((d_k + e_bump * d_bump) * tilt + n_dust * curve) * seen
        d_bc[c] = -x * from_young
        d_ism[c] = -curve * seen - (1.0 - move) * per_tau
        d_n[c] = (1.0 - move) * ln_tilt * seen - tau_ism * (curve * ln_tilt - 1.9 * bump * tilt) * seen
        d_ln_wave[c] = move * d_wave
    first = len(grad) - 3
    grad[first] += factor * _sum(d_bc)
    grad[first + 1] += factor * _sum(d_ism)
    grad[first + 2] += factor * _sum(d_n)
    return -factor * _sum(d_ln_wave)


# Sums in any order are vector instructions; but an order of its own would take fast_exp's rounding apart.
@kernel(fastmath={"reassoc", "contract", "nsz"})
def _sum(term):
    total = 0.0
    for c in range(_U(len(term))):
        total += term[c]
    return total


@kernel(inline="always")
def sum_bands(s, t, factor, flux):
    """Band fluxes of one galaxy from its columns' light and transmission."""
    flux[:] = 0.0
    light, light_young, old, young, band = s.light, s.light_young, s.old, s.young, t.band
    for c in range(len(band)):
        flux[band[c]] += factor * (old[c] * light[c] + young[c] * light_young[c])


@kernel(inline="always")
def clear_light(s, t):
    """Light of one galaxy in the first band without dust."""
    total = 0.0
    for c in range(len(t.band)):
        if t.band[c] == 0:
            # the columns of the step are not light but its weight with the step
            total += t.moves[c] * s.light[c] + t.moves[c] * s.light_young[c]
    return total


@kernel(inline="always")
def distance_factor(log_mass, ln1pz, h):
    """M (10 pc / d_L)^2 / (1 + z), and its logarithmic derivative in ln(1 + z)."""
    x = ln1pz / h.ln1pz_max * (len(h.age) - 1)
    ratio = lookup(x, h.dist_ratio_mpc)
    per_ln1pz = (len(h.age) - 1) / h.ln1pz_max
    slope = -2.0 * (1.0 / ln1pz + lookup_slope(x, h.dist_ratio_mpc) * per_ln1pz / ratio) - 1.0
    return fast_exp(log_mass * LN_10 - ln1pz) * (1e-5 / (ln1pz * ratio)) ** 2, slope

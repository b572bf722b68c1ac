"""Rows of the band tables -> band fluxes through the dust; and its gradient.

flux_b = M (10 pc / d_L)^2 / (1 + z) sum_c (old_c light_c + young_c light'_c) over the band's columns c, with light and
light' that of the stars outside and inside birth clouds, old_c = exp(-tau_ism k(w_c)) and young_c = old_c
exp(-tau_bc 5500 / w_c). The columns of the 6300 A step have -tau_ism (w / 5500)^n old_c: their step is small.
"""

from typing import NamedTuple

import numba
import numpy as np

from popcat.sps.dust import BUMP_CENTRE_AA, BUMP_WIDTH_AA, STEP_HIGH_AA, bump, calzetti_smooth
from popcat.sps.stars import LN_10, lookup, lookup_slope
from popcat.sps.tables import STEP_NODES_AA, BandTables

_RV = 4.05
_LN_5500 = np.log(5500.0)
# Unsigned indices: a signed one may be negative, which numba wraps around, and that keeps loops from being vectorised.
_U = np.uint64


class KernelTables(NamedTuple):
    """BandTables as the kernels read them; the last three say band and dust of the step's columns."""

    ln1pz0: float
    step: float
    light: np.ndarray
    burst_ln_age: np.ndarray
    n_whole: int
    first_cut: int
    first_burst: int
    node: np.ndarray
    band: np.ndarray
    """(n_col,): band of every column."""
    step_wave: np.ndarray
    step_curve: np.ndarray
    """(n_step_col, 2): smooth diffuse curve and bump at the step's columns."""


class Columns(NamedTuple):
    """One galaxy, column by column, overwritten for each: light, transmission, and what the way back needs."""

    light: np.ndarray
    light_young: np.ndarray
    old: np.ndarray
    young: np.ndarray
    d_light: np.ndarray
    """(2, n_col) in the tables' type: gradient of the light of old and young stars."""


def kernel_tables(tables: BandTables) -> KernelTables:
    """Flat arrays for the kernels."""
    waves = np.tile(STEP_NODES_AA, len(tables.step_band))
    return KernelTables(
        ln1pz0=float(tables.ln1pz[0]),
        step=float(tables.ln1pz[1] - tables.ln1pz[0]),
        light=tables.light,
        burst_ln_age=tables.burst_ln_age,
        n_whole=tables.n_whole,
        first_cut=tables.first_cut,
        first_burst=tables.first_burst,
        node=tables.node_aa,
        band=np.concatenate([tables.node_band, np.repeat(tables.step_band, len(STEP_NODES_AA))]),
        step_wave=waves,
        step_curve=np.stack([calzetti_smooth(waves), bump(waves)], axis=1),
    )


@numba.njit(nogil=True, cache=True)
def make_columns(light):
    """Room for the columns of one galaxy."""
    n = light.shape[3]
    sums, real = np.zeros((2, n), light.dtype), np.zeros((2, n))
    return Columns(sums[0], sums[1], real[0], real[1], np.zeros((2, n), light.dtype))


@numba.njit(nogil=True, cache=True, inline="always")
def redshift_cell(ln1pz, t):
    """Index and fraction between the tables' redshifts."""
    x = (ln1pz - t.ln1pz0) / t.step
    i = min(max(int(x), 0), t.light.shape[0] - 2)
    return i, x - i


@numba.njit(nogil=True, cache=True)
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
        low, high = rows.weight[i, 0], rows.weight[i, 1]
        a, b, c, d = near * low, near * high, far * low, far * high
        for k in range(_U(table.shape[3])):
            target[k] += a * table[z0, q0, r, k] + b * table[z0, q1, r, k] + (
                c * table[z1, q0, r, k] + d * table[z1, q1, r, k]
            )


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})
def gather_gradient(rows, n, ln1pz, t, s, d_weight):
    """d_weight (n, 2) from s.d_light; the gradient in ln(1 + z) through the tables is returned."""
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
        d_weight[i, 0] = (1.0 - fz) * a + fz * c
        d_weight[i, 1] = (1.0 - fz) * b + fz * d
        d_fz += rows.weight[i, 0] * (c - a) + rows.weight[i, 1] * (d - b)
    return d_fz / t.step


@numba.njit(nogil=True, cache=True, inline="always")
def smooth_curve(wave):
    """calzetti_smooth and the bump of unit strength (popcat.sps.dust), and their derivatives in ln(wave)."""
    x = 1e4 / wave
    if wave <= STEP_HIGH_AA:
        k = 1.17 * (-2.156 + x * (1.509 + x * (-0.198 + x * 0.011))) + 1.78
        slope = -1.17 * x * (1.509 + x * (-0.396 + x * 0.033))
    else:
        k = 1.17 * (-1.857 + 1.04 * x) + 1.78
        slope = -1.17 * x * 1.04
    if k < 0.0:
        k, slope = 0.0, 0.0
    w2 = wave * wave
    width = BUMP_WIDTH_AA * BUMP_WIDTH_AA * w2
    off = w2 - BUMP_CENTRE_AA * BUMP_CENTRE_AA
    bottom = off * off + width
    drude = width / (bottom * _RV)
    d_drude = (2.0 * width * bottom - width * (4.0 * w2 * off + 2.0 * width)) / (bottom * bottom * _RV)
    return k / (0.44 * _RV), drude, slope / (0.44 * _RV), d_drude


@numba.njit(nogil=True, cache=True)
def transmit(theta, ln1pz, t, s):
    """Transmission of every column: s.old and s.young."""
    tau_bc, tau_ism, n_dust = theta[9], theta[10], theta[11]
    e_bump, shift = 0.85 - 1.9 * n_dust, np.exp(-ln1pz)
    n_node = len(t.node)
    for c in range(n_node):
        wave = t.node[c] * shift
        k, drude, _, _ = smooth_curve(wave)
        tilt = np.exp(n_dust * (np.log(wave) - _LN_5500))
        s.old[c] = np.exp(-tau_ism * (k + e_bump * drude) * tilt)
        s.young[c] = s.old[c] * np.exp(-tau_bc * 5500.0 / wave)
    for m in range(len(t.step_wave)):
        wave = t.step_wave[m]
        tilt = np.exp(n_dust * (np.log(wave) - _LN_5500))
        tau = tau_ism * (t.step_curve[m, 0] + e_bump * t.step_curve[m, 1]) * tilt
        s.old[n_node + m] = -tau_ism * tilt * np.exp(-tau)
        s.young[n_node + m] = s.old[n_node + m] * np.exp(-tau_bc * 5500.0 / wave)


@numba.njit(nogil=True, cache=True)
def transmit_gradient(theta, ln1pz, t, s, factor, v, grad):
    """Add the gradient of sum(v flux) in the dust to grad; return that in ln(1 + z) through the dust's wavelengths."""
    tau_bc, tau_ism, n_dust = theta[9], theta[10], theta[11]
    e_bump, shift = 0.85 - 1.9 * n_dust, np.exp(-ln1pz)
    n_node = len(t.node)
    d_bc, d_ism, d_n, d_ln_wave = 0.0, 0.0, 0.0, 0.0
    for c in range(len(t.band)):
        is_step = c >= n_node
        wave = t.step_wave[c - n_node] if is_step else t.node[c] * shift
        k, drude, d_k, d_drude = smooth_curve(wave)
        ln_tilt = np.log(wave) - _LN_5500
        tilt = np.exp(n_dust * ln_tilt)
        curve = (k + e_bump * drude) * tilt
        x = 5500.0 / wave
        scaled = v[t.band[c]] * factor
        young = scaled * s.young[c] * s.light_young[c]
        seen = scaled * s.old[c] * s.light[c] + young
        d_bc -= x * young
        d_ism -= curve * seen
        d_n -= tau_ism * (curve * ln_tilt - 1.9 * drude * tilt) * seen
        if is_step:
            before = -tilt * np.exp(-tau_ism * curve)
            d_ism += scaled * before * (s.light[c] + np.exp(-tau_bc * x) * s.light_young[c])
            d_n += ln_tilt * seen
        else:
            d_ln_wave += tau_bc * x * young - tau_ism * ((d_k + e_bump * d_drude) * tilt + n_dust * curve) * seen
    grad[9] += d_bc
    grad[10] += d_ism
    grad[11] += d_n
    return -d_ln_wave


@numba.njit(nogil=True, cache=True, inline="always")
def distance_factor(log_mass, ln1pz, h):
    """M (10 pc / d_L)^2 / (1 + z), and its logarithmic derivative in ln(1 + z)."""
    x = ln1pz / h.ln1pz_max * (len(h.age) - 1)
    ratio = lookup(x, h.dist_ratio_mpc)
    per_ln1pz = (len(h.age) - 1) / h.ln1pz_max
    slope = -2.0 * (1.0 / ln1pz + lookup_slope(x, h.dist_ratio_mpc) * per_ln1pz / ratio) - 1.0
    return np.exp(log_mass * LN_10 - ln1pz) * (1e-5 / (ln1pz * ratio)) ** 2, slope

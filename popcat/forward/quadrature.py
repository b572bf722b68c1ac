"""Product integration over a band: int T(w) w L(w) a(w) dw = sum_k a(w_k) int T w L l_k dw.

a(w), the attenuation, is smooth, so it is interpolated by the Lagrange basis l_k on Gauss nodes of the weight T(w) w,
fixed in the observed frame; the spectrum L is not, and is integrated exactly. Convergence in the number of nodes is
exponential. The 6300 A step of the diffuse curve is not smooth and has nodes of its own (popcat.forward.tables).

How kernels are compiled, and an exp and a log that a compiler can vectorise: no branch, no table; good to 1e-12.

numba has no vector exp without Intel's SVML, and a scalar one costs more than the rest of a column of light. These cut
the number's own bits into a power of two and a rest near one, and expand the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.cpython.unsafe.tuple import tuple_setitem
from numba.extending import intrinsic, overload

from popcat.forward.dust import birth_cloud_curve, bump, bump_strength, calzetti_smooth
from popcat.forward.filters import FilterCurve

Medium = Callable[[np.ndarray, float], np.ndarray]
"""Transmission at observed wavelengths (n,) between a galaxy at a redshift and us."""
_N_FINE = 3000
# The diffuse curve is floored at zero beyond 3.1 micron. That kink converges slowly: WISE bands take all of these.
_MAX_NODES = 20
_N_REDSHIFT = 7
_MEDIUM_STEP = 0.1
"""Redshifts are no wider apart where a medium absorbs: its breaks cross a band within some tenths."""
# All over the prior: tau_ism, n_dust, tau_bc. What is hardest lies inside, just bright enough to count.
_DUST = np.array(list(product((0.5, 1.0, 2.0, 3.0), (-2.0, -1.5, -1.0, -0.5, 0.0, 1.0), (0.0, 1.0, 3.0))))
DARK = 1e-11
"""Where less than this fraction of a segment's light comes through, nobody sees how wrong it is."""


@dataclass(frozen=True)
class Segment:
    """One stretch of a filter: midpoints `wave_aa` with quadrature weights T w dw, and the Gauss nodes chosen.

    wave_aa, weight : (n_fine,); nodes_aa : (n_node,); basis : (n_node, n_fine) the Lagrange basis l_k.
    """

    wave_aa: np.ndarray
    weight: np.ndarray
    nodes_aa: np.ndarray
    basis: np.ndarray


def make_segments(
    curve: FilterCurve, spectra, z_range, tolerance: float, medium: Medium | None = None
) -> list[Segment]:
    """Segments of a curve, each with as few nodes as keep hard attenuations of `spectra` within `tolerance`.

    spectra is (wave_aa, (n, n_wave)), rest frame, the kinds of light that must be right anywhere in `z_range`, seen
    through `medium`.
    """
    return [_make_segment(curve, low, high, spectra, z_range, tolerance, medium) for low, high in curve.segments()]


def gauss_nodes(x: np.ndarray, weight: np.ndarray, n: int) -> np.ndarray:
    """Nodes of the n-point Gauss rule of a discrete measure (Stieltjes recurrence, Golub & Welsch 1969)."""
    centre, half = 0.5 * (x[0] + x[-1]), 0.5 * (x[-1] - x[0])
    t = (x - centre) / half
    w = weight / weight.sum()
    alpha, beta = np.zeros(n), np.zeros(n)
    previous, current = np.zeros_like(t), np.ones_like(t)
    norm = 1.0
    for k in range(n):
        alpha[k] = np.sum(w * t * current**2) / norm
        previous, current = current, (t - alpha[k]) * current - beta[k] * previous
        new_norm = np.sum(w * current**2)
        if k + 1 < n:
            beta[k + 1] = new_norm / norm
        norm = new_norm
    off = np.sqrt(beta[1:])
    return centre + half * np.linalg.eigvalsh(np.diag(alpha) + np.diag(off, 1) + np.diag(off, -1))


def lagrange_basis(nodes: np.ndarray, x: np.ndarray) -> np.ndarray:
    """l_k(x) with l_k(nodes_j) = delta_kj: shape (n_node, n_x)."""
    basis = np.ones((len(nodes), len(x)))
    for k, node in enumerate(nodes):
        for other in np.delete(nodes, k):
            basis[k] *= (x - other) / (node - other)
    return basis


def hat_weights(wave_rest: np.ndarray, wave_obs: np.ndarray, columns: np.ndarray, redshift: float) -> np.ndarray:
    """W with int columns L dw = L @ W for L piecewise linear on `wave_rest`: (n_wave, n_column).

    columns is (n_column, n_fine), quadrature weights included, on observed wavelengths `wave_obs`.
    """
    rest = wave_obs / (1.0 + redshift)
    left = np.clip(np.searchsorted(wave_rest, rest, side="right") - 1, 0, len(wave_rest) - 2)
    fraction = (rest - wave_rest[left]) / (wave_rest[left + 1] - wave_rest[left])
    out = np.empty((len(wave_rest), len(columns)))
    for i, column in enumerate(columns):
        out[:, i] = np.bincount(left, column * (1.0 - fraction), len(wave_rest))
        out[:, i] += np.bincount(left + 1, column * fraction, len(wave_rest))
    return out


def _make_segment(curve, low, high, spectra, z_range, tolerance, medium) -> Segment:
    edges = np.linspace(low, high, _N_FINE + 1)
    wave = 0.5 * (edges[1:] + edges[:-1])
    weight = curve(wave) * wave * np.diff(edges)
    is_clear = medium is None or np.all(medium(wave, z_range[1]) == 1.0)
    n = _N_REDSHIFT if is_clear else max(_N_REDSHIFT, int(np.ceil((z_range[1] - z_range[0]) / _MEDIUM_STEP)) + 1)
    cases = [_Case(wave, weight, z, spectra, medium) for z in np.linspace(z_range[0], z_range[1], n)]
    for n in range(2, _MAX_NODES + 1):
        nodes = gauss_nodes(wave, weight, n)
        basis = lagrange_basis(nodes, wave)
        if max(case.error(nodes, basis) for case in cases) < tolerance:
            break
    return Segment(wave, weight, nodes, basis)


class _Case:
    """Spectra of a segment behind all kinds of dust, at one redshift: light (n, n_fine), exact integrals (n, m)."""

    def __init__(self, wave, weight, redshift, spectra, medium):
        self.redshift = redshift
        emitted = np.stack([np.interp(wave / (1.0 + redshift), spectra[0], row) for row in spectra[1]]) * weight
        self.light = emitted if medium is None else emitted * medium(wave, redshift)
        self.exact = self.light @ _attenuation(wave / (1.0 + redshift)).T
        self.seen = self.exact > DARK * emitted.sum(axis=1, keepdims=True)

    def error(self, nodes, basis) -> float:
        """Largest relative error of the product integration with these nodes."""
        approximate = (self.light @ basis.T) @ _attenuation(nodes / (1.0 + self.redshift)).T
        return float(np.max(np.abs(approximate[self.seen] / self.exact[self.seen] - 1.0), initial=0.0))


def _attenuation(rest_aa) -> np.ndarray:
    """Transmission (n_dust, n_wave) of `_DUST`, the step at 6300 A left out."""
    tau_ism, n_dust, tau_bc = _DUST.T[:, :, None]
    curve = (calzetti_smooth(rest_aa) + bump_strength(n_dust) * bump(rest_aa)) * (rest_aa / 5500.0) ** n_dust
    return np.exp(-tau_ism * curve - tau_bc * birth_cloud_curve(rest_aa))


_OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False}

kernel = partial(numba.njit, cache=True, **_OPTIONS)
"""A kernel allocates nothing, so numba need not count references (its own option `_nrt`): in the tuples of arrays it
would do so at every access, which costs more than the arithmetic. Nor does a division look for zero, which keeps loops
from vectorising.

What runs for every galaxy has inline="always": a call passes each number of each array of a named tuple on the stack,
some two hundred of them, which costs as much as what the function computes."""

kernel_overload = partial(overload, jit_options=_OPTIONS)  # type: ignore[arg-type]  # its types do not know _nrt
"""numba's `overload`, for kernels."""

with_item = tuple_setitem
"""In kernels: with_item(values, k, value) is the tuple with item k replaced; numba has no public way for a k that a
loop counts."""

_LOG2_E = float(1.0 / np.log(2.0))
# ln 2 in two parts, the first with few enough bits that a small integer times it is exact.
_LN_2_HIGH, _LN_2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
# Adding this to a float leaves the nearest integer in its low bits.
_ROUND = 1.5 * 2.0**52
_ROUND_BITS = int(np.float64(_ROUND).view(np.int64))
# Bits of 1 less those of sqrt(1/2): brings the rest into sqrt(1/2) to sqrt(2).
_CENTRE = (1023 << 52) - int(np.float64(np.sqrt(0.5)).view(np.int64))


@intrinsic
def _bits(typing_context, x):
    """The bits of a float64 as an int64."""
    return types.int64(types.float64), lambda _, builder, __, args: builder.bitcast(args[0], ir.IntType(64))


@intrinsic
def _from_bits(typing_context, x):
    """The float64 of an int64's bits."""
    return types.float64(types.int64), lambda _, builder, __, args: builder.bitcast(args[0], ir.DoubleType())


@kernel(inline="always")
def fast_exp(x):
    """exp(x); exp(-700) below -700, and of no use above 700."""
    x = max(x, -700.0)
    shifted = x * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = (x - n * _LN_2_HIGH) - n * _LN_2_LOW
    # Taylor: |r| < 0.35
    p = 1.0 + r * (1.0 / 10.0) * (1.0 + r * (1.0 / 11.0))
    p = 1.0 + r * (1.0 / 8.0) * (1.0 + r * (1.0 / 9.0) * p)
    p = 1.0 + r * (1.0 / 6.0) * (1.0 + r * (1.0 / 7.0) * p)
    p = 1.0 + r * (1.0 / 4.0) * (1.0 + r * (1.0 / 5.0) * p)
    p = 1.0 + r * (1.0 + r * (1.0 / 2.0) * (1.0 + r * (1.0 / 3.0) * p))
    return _from_bits(_bits(p) + (_bits(shifted) << 52))


@kernel(inline="always")
def fast_log(x):
    """ln(x) of a positive, normal x."""
    bits = _bits(x)
    # few vector units turn 64-bit integers into floats, or shift them with their sign
    exponent = np.int64(np.uint64(bits + _CENTRE) >> np.uint64(52)) - 1023
    power = _from_bits(exponent + _ROUND_BITS) - _ROUND
    m = _from_bits(bits - (exponent << 52))
    s = (m - 1.0) / (m + 1.0)
    s2 = s * s
    # 2 atanh(s): |s| < 0.172
    p = 1.0 / 9.0 + s2 * (1.0 / 11.0 + s2 * (1.0 / 13.0 + s2 * (1.0 / 15.0)))
    p = 1.0 + s2 * (1.0 / 3.0 + s2 * (1.0 / 5.0 + s2 * (1.0 / 7.0 + s2 * p)))
    return power * (_LN_2_HIGH + _LN_2_LOW) + 2.0 * s * p

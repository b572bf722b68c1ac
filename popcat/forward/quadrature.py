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
from itertools import pairwise, product
from math import factorial

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.cpython.unsafe.tuple import tuple_setitem
from numba.extending import intrinsic, overload
from scipy.sparse import csc_array

from popcat.forward.dust import smooth_attenuation
from popcat.forward.filters import FilterCurve

Medium = Callable[[np.ndarray, float], np.ndarray]
"""Transmission at observed wavelengths (n,) between a galaxy at a redshift and us."""
_N_FINE = 3000
# The diffuse curve is floored at zero beyond 3.1 micron. That kink converges slowly: WISE bands take all of these.
_MAX_NODES = 20
_N_REDSHIFT = 7
# All over the prior: tau_bc, tau_ism, and each law's own. What is hardest lies inside, just bright enough to count.
_TAU_BC, _TAU_ISM = (0.0, 1.0, 3.0), (0.5, 1.0, 2.0, 3.0)
_SHAPES: dict[str, tuple[tuple[float, ...], ...]] = {
    "kriek_conroy": ((-2.0, -1.5, -1.0, -0.5, 0.0, 1.0),),
    "calzetti": (),
    "smc": (),
    "salim": ((-1.6, -0.8, 0.0, 0.4), (0.0, 5.0)),
    "charlot_fall": ((-1.5, -0.7, -0.3),),
}
_BOLOMETRIC_AA = (1300.0, 1800.0, 2600.0, 3700.0, 6000.0, 14000.0, 31000.0)
_BOLOMETRIC_TOLERANCE = 3e-4
_MEDIUM_STEP = 0.1
"""Redshifts are no wider apart where a medium absorbs: its breaks cross a band within some tenths."""
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
    curve: FilterCurve, spectra, z_range, tolerance: float, medium: Medium | None = None, law: str = "kriek_conroy"
) -> list[Segment]:
    """Segments of a curve, each with as few nodes as keep hard attenuations of `spectra` within `tolerance`.

    spectra is (wave_aa, (n, n_wave)), rest frame, the kinds of light that must be right anywhere in `z_range`, seen
    through `medium`.
    """
    out = []
    for low, high in curve.segments():
        edges = np.linspace(low, high, _N_FINE + 1)
        wave = 0.5 * (edges[1:] + edges[:-1])
        weight = curve(wave) * wave * np.diff(edges)
        is_clear = medium is None or np.all(medium(wave, z_range[1]) == 1.0)
        n = _N_REDSHIFT if is_clear else max(_N_REDSHIFT, int(np.ceil((z_range[1] - z_range[0]) / _MEDIUM_STEP)) + 1)
        cases = [_Case(wave, weight, z, spectra, law, medium) for z in np.linspace(z_range[0], z_range[1], n)]
        out.append(_fewest_nodes(wave, weight, lambda case, *rule: case.error(*rule), cases, tolerance))
    return out


def bolometric_segments(low_aa: float, high_aa: float, spectra, law: str) -> list[Segment]:
    """Segments between two rest-frame wavelengths of weight one: int L(w) a(w) dw, each good to 3e-4 of int L dw."""
    inner = [edge for edge in _BOLOMETRIC_AA if low_aa < edge < high_aa]
    pieces = []
    for low, high in pairwise([low_aa, *inner, high_aa]):
        edges = np.geomspace(low, high, _N_FINE + 1)
        wave, weight = 0.5 * (edges[1:] + edges[:-1]), np.diff(edges)
        pieces.append(_Case(wave, weight, 0.0, spectra, law))
    whole = sum(case.clear for case in pieces)
    return [_fewest_nodes(case.wave, case.weight, lambda case, *rule: case.lost(*rule, whole), [case],
                          _BOLOMETRIC_TOLERANCE) for case in pieces]  # fmt: skip


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
    shares = np.column_stack([1.0 - fraction, fraction]).ravel(), np.column_stack([left, left + 1]).ravel()
    hats = csc_array((*shares, np.arange(0, 2 * len(rest) + 1, 2)), shape=(len(wave_rest), len(rest)))
    return hats @ columns.T


def _fewest_nodes(wave, weight, error, cases, tolerance) -> Segment:
    """The segment with the first rule of which the error of every case is within the tolerance."""
    for n in range(2, _MAX_NODES + 1):
        nodes = gauss_nodes(wave, weight, n)
        basis = lagrange_basis(nodes, wave)
        if max(error(case, nodes, basis) for case in cases) < tolerance:
            break
    return Segment(wave, weight, nodes, basis)


class _Case:
    """Spectra of a segment behind all kinds of dust, at one redshift: light (n, n_fine), exact integrals (n, m)."""

    def __init__(self, wave, weight, redshift, spectra, law, medium=None):
        self.wave, self.weight, self.redshift, self.law = wave, weight, redshift, law
        emitted = np.stack([np.interp(wave / (1.0 + redshift), spectra[0], row) for row in spectra[1]]) * weight
        self.clear = emitted.sum(axis=1, keepdims=True)
        self.light = emitted if medium is None else emitted * medium(wave, redshift)
        self.exact = self.light @ _attenuation(wave / (1.0 + redshift), law).T
        self.seen = self.exact > DARK * self.clear

    def error(self, nodes, basis) -> float:
        """Largest relative error of the product integration with these nodes."""
        off = self._integrals(nodes, basis)[self.seen] / self.exact[self.seen] - 1.0
        return float(np.max(np.abs(off), initial=0.0))

    def lost(self, nodes, basis, whole) -> float:
        """Largest error in units of light (n, 1)."""
        return float(np.max(np.abs(self._integrals(nodes, basis) - self.exact) / whole))

    def _integrals(self, nodes, basis):
        return (self.light @ basis.T) @ _attenuation(nodes / (1.0 + self.redshift), self.law).T


def _attenuation(rest_aa, law: str) -> np.ndarray:
    """Transmission (n_dust, n_wave) of a law all over its prior, the step at 6300 A left out."""
    cases = np.array(list(product(_TAU_BC, _TAU_ISM, *_SHAPES[law])))
    return smooth_attenuation(law, rest_aa, *cases.T[:, :, None])


_OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False, "fastmath": {"contract"}}

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

_TAYLOR = tuple(1.0 / factorial(k) for k in range(12))
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


_CONTRACT = ("contract",)


def _all_eight(context, builder, kind, value):
    """A vector of eight times one number."""
    vector, index = ir.VectorType(context.get_value_type(kind), 8), ir.IntType(32)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(index, 0))
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(index, 8), [0] * 8))


def _between(context, builder, kind, near, far, arrays, at):
    """near a[at : at + 8] + far b[at : at + 8] of two arrays of one kind, as a vector."""
    real = context.get_value_type(kind.dtype)
    vector, size = ir.VectorType(real, 8), context.get_abi_sizeof(real)
    parts = []
    for factor, array in zip((near, far), arrays, strict=True):
        start = builder.gep(context.make_array(kind)(context, builder, array).data, [at])
        eight = builder.load(builder.bitcast(start, vector.as_pointer()), align=size)
        parts.append(builder.fmul(_all_eight(context, builder, kind.dtype, factor), eight, flags=_CONTRACT))
    return builder.fadd(*parts, flags=_CONTRACT)


@intrinsic
def sum_eight(typing_context, targets, i, weights, low, high, a, b, at, stride, near, far):
    """For k = 0, 1: targets[k, i : i + 8] = sum_r weights[k, r] (near a + far b)[j : j + 8] over low <= r < high, with
    j = at + (r - low) stride: as vectors, which numba makes none of short loops. Arrays are contiguous and of one type.
    """
    def generate(context, builder, signature, arguments):
        targets, i, weights, low, high, a, b, at, stride, near, far = arguments
        kinds, kind, number = signature.args, signature.args[0].dtype, ir.IntType(64)
        real = context.get_value_type(kind)
        vector = ir.VectorType(real, 8)
        nothing, size = ir.Constant(vector, [0.0] * 8), context.get_abi_sizeof(real)

        def rows(which, array):
            found = context.make_array(which)(context, builder, array)
            return found.data, builder.gep(found.data, [builder.extract_value(found.shape, 1)])

        into, of = rows(kinds[0], targets), rows(kinds[2], weights)
        before, each, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
        builder.cbranch(builder.icmp_unsigned("<", low, high), each, after)
        builder.position_at_end(each)
        r, place, *sums = (builder.phi(one) for one in (number, number, vector, vector))
        light = _between(context, builder, kinds[5], near, far, (a, b), place)
        more = [builder.fmul(_all_eight(context, builder, kind, builder.load(builder.gep(row, [r]))), light,
                             flags=_CONTRACT) for row in of]  # fmt: skip
        added = [builder.fadd(total, one, flags=_CONTRACT) for total, one in zip(sums, more, strict=True)]
        next_r, next_place = builder.add(r, ir.Constant(number, 1)), builder.add(place, stride)
        starts, nexts = (low, at, nothing, nothing), (next_r, next_place, *added)
        for phi, start, then in zip((r, place, *sums), starts, nexts, strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(then, each)
        builder.cbranch(builder.icmp_unsigned("<", next_r, high), each, after)
        builder.position_at_end(after)
        found = [builder.phi(vector) for _ in added]
        for phi, total in zip(found, added, strict=True):
            phi.add_incoming(nothing, before)
            phi.add_incoming(total, each)
        for row, total in zip(into, found, strict=True):
            builder.store(total, builder.bitcast(builder.gep(row, [i]), vector.as_pointer()), align=size)
        return context.get_dummy_value()

    real, count = targets.dtype, types.uint64
    return types.void(targets, count, weights, count, count, a, b, count, count, real, real), generate


@kernel(inline="always")
def fast_exp(x):
    """exp(x); exp(-700) below -700, and of no use above 700."""
    x = max(x, -700.0)
    shifted = x * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = (x - n * _LN_2_HIGH) - n * _LN_2_LOW
    # Taylor, |r| < 0.35, in pairs: a chain of all terms would wait for each. One and r come last, and keep their digits
    r2 = r * r
    low = (_TAYLOR[2] + _TAYLOR[3] * r) + r2 * (_TAYLOR[4] + _TAYLOR[5] * r)
    high = (_TAYLOR[6] + _TAYLOR[7] * r) + r2 * (_TAYLOR[8] + _TAYLOR[9] * r)
    r4 = r2 * r2
    p = 1.0 + (r + r2 * (low + r4 * (high + r4 * (_TAYLOR[10] + _TAYLOR[11] * r))))
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


# Sums in any order are vector instructions; but an order of its own would take fast_exp's rounding apart.
@kernel(fastmath={"reassoc", "contract", "nsz"})
def sum_of(term):
    """Sum of an array."""
    total = 0.0
    for c in range(np.uint64(len(term))):
        total += term[c]
    return total

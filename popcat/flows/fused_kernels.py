"""The compiled kernel that takes a panel of samples through the program of `popcat.flows.fused`.

Products are written as LLVM vectors (`_tile`): compilers keep a tile of a product in registers only where each of its
sums is written out. LLVM maps vectors of 16 to what the processor has.

A sample is a lane of a vector, and its sums run in one order: its values do not depend on the other samples.
"""

import math

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from popcat.flows.architecture import FARTHEST, SMALLEST

LANES = 16
PANEL = 64
"""Samples that go through all blocks at a time: a multiple of 2 LANES."""
MOST_UNITS = 6
"""Units of a tile: six vectors of sums, with their inputs and a weight, fill the registers of AVX2 and of NEON."""
ACTIVATED, LINEAR, EXPAND, ELEMENTWISE = range(4)
"""Steps of a program: a tile of units, one of outputs, context terms from galaxies to samples, the elementwise part."""


@intrinsic
def _tile(typing_context, n_units, weights, at, n_inputs, rows, source, start, target, floor):
    """Sums of `n_units` (1 to 6) units over `n_inputs` rows, for a panel, not below `floor`.

    target[u, s] = max(floor, start[u, s] + b[u] + sum_k w[k, u] source[k, s]); the tile's weights are b, then w[0], ...
    source, start and target are places in `rows`, of rows of PANEL; NaN stays NaN.
    """

    def generate(context, builder, signature, arguments):
        n_units, _, at, n_inputs, _, source, start, target, floor = arguments
        tile = _Tile(builder, n_inputs, floor)
        data = [context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in (1, 4)]
        weights, places = builder.gep(data[0], [at]), [builder.gep(data[1], [i]) for i in (source, start, target)]
        after = builder.append_basic_block()
        switch = builder.switch(n_units, after)
        for units in range(1, MOST_UNITS + 1):
            block = builder.append_basic_block()
            switch.add_case(units, block)
            builder.position_at_end(block)
            # two vectors at a time where one would leave too few sums in flight
            width = 2 if units < 3 else 1
            for lane in range(0, PANEL, width * LANES):
                tile.write(units, width, weights, *(builder.gep(place, [_count(lane)]) for place in places))
            builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    count = types.int64
    signature = types.void(count, weights, count, count, rows, count, count, count, types.float32)
    return signature, generate


_VECTOR = ir.VectorType(ir.FloatType(), LANES)


def _count(value):
    return ir.Constant(ir.IntType(64), value)


def _all(builder, value):
    """A vector of one number."""
    nothing, number = ir.Constant(_VECTOR, ir.Undefined), ir.IntType(32)
    one = builder.insert_element(nothing, value, ir.Constant(number, 0))
    return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(number, LANES), [0] * LANES))


class _Tile:
    """Writes the instructions of tiles."""

    def __init__(self, builder, n_inputs, floor):
        self.builder, self.n_inputs, self.floor = builder, n_inputs, _all(builder, floor)

    def write(self, units, width, weights, source, start, target):
        """One tile of `units` rows and `width` vectors."""
        b, each = self.builder, [(u, v) for u in range(units) for v in range(width)]
        bias = [_all(b, b.load(b.gep(weights, [_count(u)]))) for u in range(units)]
        first = [b.fadd(bias[u], b.load(self._vector(start, u, v), align=4)) for u, v in each]
        before, loop, after = b.block, b.append_basic_block(), b.append_basic_block()
        b.cbranch(b.icmp_signed("<", _count(0), self.n_inputs), loop, after)
        b.position_at_end(loop)
        k, *sums = (b.phi(kind) for kind in (ir.IntType(64), *[_VECTOR] * len(each)))
        next_k = b.add(k, _count(1))
        weight, row = b.gep(weights, [b.mul(next_k, _count(units))]), b.gep(source, [b.mul(k, _count(PANEL))])
        inputs = [b.load(self._vector(row, 0, v), align=4) for v in range(width)]
        factor = [_all(b, b.load(b.gep(weight, [_count(u)]))) for u in range(units)]
        products = [b.fmul(factor[u], inputs[v], flags=_CONTRACT) for u, v in each]
        added = [b.fadd(total, one, flags=_CONTRACT) for total, one in zip(sums, products, strict=True)]
        for phi, begin, then in zip((k, *sums), (_count(0), *first), (next_k, *added), strict=True):
            phi.add_incoming(begin, before)
            phi.add_incoming(then, loop)
        b.cbranch(b.icmp_signed("<", next_k, self.n_inputs), loop, after)
        b.position_at_end(after)
        totals = [b.phi(_VECTOR) for _ in each]
        for total, begin, then in zip(totals, first, added, strict=True):
            total.add_incoming(begin, before)
            total.add_incoming(then, loop)
        for (u, v), total in zip(each, totals, strict=True):
            above = b.select(b.fcmp_ordered("<", total, self.floor), self.floor, total)
            b.store(above, self._vector(target, u, v), align=4)

    def _vector(self, place, row, vector):
        """Where a vector of a row is."""
        place = self.builder.gep(place, [_count(row * PANEL + vector * LANES)])
        return self.builder.bitcast(place, _VECTOR.as_pointer())


@intrinsic
def _fill(typing_context, rows, place, value):
    """A vector of one number from `place` on."""

    def generate(context, builder, signature, arguments):
        rows, place, value = arguments
        target = builder.gep(context.make_array(signature.args[0])(context, builder, rows).data, [place])
        builder.store(_all(builder, value), builder.bitcast(target, _VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(rows, types.int64, types.float32), generate


_CONTRACT = ("contract",)
_kernel = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})


@_kernel
def transform(
    context_program, program, enter, leave, is_inverse, is_silu, weights, rows, context_place, context, n_draw, values,
    out, log_q,
):  # fmt: skip
    galaxy_of, log_scale = np.zeros(PANEL, np.int64), np.empty(PANEL, np.float32)
    n_dim, context_places = values.shape[1], context_place + np.arange(context.shape[1]) * PANEL
    for first_galaxy in range(0, len(context), PANEL):
        stop_galaxy = min(first_galaxy + PANEL, len(context))
        _enter(context[first_galaxy:stop_galaxy], context_places, rows)
        _follow(context_program, is_inverse, is_silu, weights, rows, galaxy_of, log_scale)
        stop_sample = stop_galaxy * n_draw
        for first in range(first_galaxy * n_draw, stop_sample, PANEL):
            stop = min(first + PANEL, stop_sample)
            for j in range(PANEL):
                galaxy_of[j] = min(first + j, stop - 1) // n_draw - first_galaxy
                log_scale[j] = _ZERO
            _enter(values[first:stop], enter, rows)
            _follow(program, is_inverse, is_silu, weights, rows, galaxy_of, log_scale)
            normal = values if is_inverse else out
            for j in range(stop - first):
                square = _ZERO
                for d in range(n_dim):
                    out[first + j, d] = rows[leave[d] + j]
                for d in range(n_dim):
                    square += normal[first + j, d] * normal[first + j, d]
                log_q[first + j] = log_scale[j] - _HALF * square - n_dim * _HALF_LN_2PI


@_kernel
def _enter(values, places, rows):
    """Samples become columns."""
    for j in range(len(values)):
        for d in range(len(places)):
            rows[places[d] + j] = values[j, d]


@_kernel
def _follow(program, is_inverse, is_silu, weights, rows, galaxy_of, log_scale):
    """Takes the steps of a program."""
    relu, none = np.float32(-np.inf) if is_silu else _ZERO, np.float32(-np.inf)
    for i in range(len(program)):
        kind, units, at, n_inputs, source, start, target = program[i]
        if kind == ELEMENTWISE:
            _elementwise(rows, source, start, target, log_scale, is_inverse)
        elif kind == EXPAND:
            _expand(rows, source, units, target, galaxy_of)
        else:
            _tile(units, weights, at, n_inputs, rows, source, start, target, relu if kind == ACTIVATED else none)
            if is_silu and kind == ACTIVATED:
                _silu(rows[target : target + units * PANEL])


@_kernel
def _expand(rows, source, units, target, galaxy_of):
    """Each sample takes its galaxy's column."""
    for place in range(0, units * PANEL, PANEL):
        terms = rows[source + place : source + place + PANEL]
        for first in range(0, PANEL, LANES):
            if galaxy_of[first] == galaxy_of[first + LANES - 1]:
                _fill(rows, target + place + first, terms[galaxy_of[first]])
            else:
                for j in range(first, first + LANES):
                    rows[target + place + j] = terms[galaxy_of[j]]


@_kernel
def _elementwise(rows, source, start, target, log_scale, is_inverse):
    """z = scale x + shift with scale = softplus(raw) + smallest, or its inverse; adds ln scale."""
    raw, shift = rows[start : start + PANEL], rows[start + PANEL : start + 2 * PANEL]
    given, found = rows[source : source + PANEL], rows[target : target + PANEL]
    for j in range(PANEL):
        scale = max(raw[j], _ZERO) + _log_1p(_exp(-abs(raw[j]))) + _SMALLEST
        log_scale[j] += _log(scale)
        raw[j] = scale
    for j in range(PANEL):
        if is_inverse:
            found[j] = min(max((given[j] - shift[j]) / raw[j], -_FARTHEST), _FARTHEST)
        else:
            found[j] = shift[j] + raw[j] * given[j]


@_kernel
def _silu(values):
    for i in range(len(values)):
        t = _exp(-abs(values[i]))
        values[i] *= (_ONE if values[i] > _ZERO else t) / (_ONE + t)


_ZERO, _HALF, _ONE, _TWO, _SMALLEST, _FARTHEST = (np.float32(x) for x in (0.0, 0.5, 1.0, 2.0, SMALLEST, FARTHEST))
_HALF_LN_2PI = np.float32(0.5 * math.log(2 * math.pi))
_LOWEST, _LOG2_E = np.float32(-87.0), np.float32(1 / math.log(2.0))
# ln 2 in two parts, the first with few enough bits that a small integer times it is exact.
_LN_2_HIGH, _LN_2_LOW, _LN_2 = np.float32(0.693359375), np.float32(-2.12194440e-4), np.float32(math.log(2.0))
# Adding this to a float leaves the nearest integer in its low bits.
_ROUND = np.float32(1.5 * 2.0**23)
_SQRT_HALF_BITS = int(np.float32(math.sqrt(0.5)).view(np.int32))
_EXP = tuple(np.float32(1 / math.factorial(n)) for n in range(8))
_ATANH = tuple(np.float32(1 / (2 * n + 1)) for n in range(9))


@_kernel
def _exp(x):
    """exp(x) of x <= 0; exp(-87) below -87."""
    x = max(x, _LOWEST)
    shifted = x * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = (x - n * _LN_2_HIGH) - n * _LN_2_LOW
    p = _EXP[4] + r * (_EXP[5] + r * (_EXP[6] + r * _EXP[7]))
    p = _ONE + r * (_ONE + r * (_HALF + r * (_EXP[3] + r * p)))
    power = np.int32(np.float32(shifted).view(np.int32) << np.int32(23))
    return np.int32(np.float32(p).view(np.int32) + power).view(np.float32)


@_kernel
def _log(x):
    """ln(x) of a positive, normal x; NaN of NaN and of infinity."""
    bits = np.float32(x).view(np.int32)
    n = np.int32(np.int32(bits - np.int32(_SQRT_HALF_BITS)) >> np.int32(23))
    m = np.int32(bits - np.int32(n << np.int32(23))).view(np.float32)
    s = (m - _ONE) / (m + _ONE)
    return np.float32(n) * _LN_2 + _TWO * _atanh(s) + (x - x)


@_kernel
def _log_1p(t):
    """ln(1 + t) of t in 0 to 1."""
    return _TWO * _atanh(t / (_TWO + t))


@_kernel
def _atanh(s):
    """For |s| <= 1/3."""
    q = s * s
    p = _ATANH[4] + q * (_ATANH[5] + q * (_ATANH[6] + q * (_ATANH[7] + q * _ATANH[8])))
    return s * (_ONE + q * (_ATANH[1] + q * (_ATANH[2] + q * (_ATANH[3] + q * p))))

"""A "maf" flow on the CPU in single precision: all of its blocks, for a panel of samples, in one compiled kernel.

The inverse and the density run a short program, which is written once a flow. For each block, and for each dimension d
in order: the outputs of d, from the hidden units of degree <= d; then x_d from z_d, or z_d from x_d; then, layer by
layer, the hidden units of degree d + 1, which x_d completes (popcat.flows.autoregressive says why). What the masks leave
out is not computed, and the activations of a panel stay in cache from the first block to the last.

A sample is a lane of a vector, and its sums run in one order: its values do not depend on the other samples.

The products are written as LLVM vectors (`_tile`): compilers keep a tile of a product in registers only where each of
its sums is written out. LLVM maps vectors of 16 to what the processor has.
"""

import math
from collections.abc import Sequence

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch.nn import functional

from popcat.flows.architecture import SMALLEST, Block
from popcat.flows.autoregressive import sorted_layers

LANES = 16
PANEL = 32
"""Samples that go through all blocks at a time: a multiple of 2 LANES."""
_MOST_UNITS = 6
"""Units of a tile: six vectors of sums, with their inputs and a weight, fill the registers of AVX2 and of NEON."""
_ACTIVATED, _LINEAR, _EXPAND, _ELEMENTWISE = range(4)
"""Steps of a program: a tile of units, one of outputs, context terms from galaxies to samples, the elementwise part."""


class Fused:
    """The inverse and the density of the blocks of a "maf" flow, with the weights that they have now."""

    def __init__(self, blocks: Sequence[Block]):
        packed = _Packed(blocks)
        self._context_program, self._context_row = packed.context_program, packed.context
        self._inverse, self._density = packed.inverse(), packed.density()
        self._weights, self._n_rows = np.concatenate(packed.weights), packed.n_rows
        self._is_silu = blocks[0].network.activation is functional.silu

    def inverse(self, noise: torch.Tensor, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x of standard normal noise, both (n_galaxy, n_draw, n_dim), and log q (n_galaxy, n_draw)."""
        return self._transform(*self._inverse, True, noise, context)

    def log_prob(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """log q (n_galaxy, n_draw) of x (n_galaxy, n_draw, n_dim); context is (n_galaxy, n_context)."""
        return self._transform(*self._density, False, x, context)[1]

    def _transform(self, program, enter, leave, is_inverse, values, context):
        out, log_q = torch.empty(values.shape), torch.empty(values.shape[:2])
        rows = torch.zeros(self._n_rows * PANEL)  # torch aligns to cache lines
        _transform(
            self._context_program, program, enter, leave, is_inverse, self._is_silu, self._weights, rows.numpy(),
            self._context_row * PANEL, context.detach().contiguous().numpy(), values.shape[1],
            *(array.detach().contiguous().view(-1, values.shape[2]).numpy() for array in (values, out)),
            log_q.view(-1).numpy(),
        )  # fmt: skip
        return out, log_q


class _Packed:
    """The rows of a panel's work space, the weights tile by tile in the order of their use, and the programs.

    A step of a program is (kind, units, first weight, inputs, source, start, target); the last three are rows. The sums
    of a tile start from the rows at `start`, plus the biases.
    """

    def __init__(self, blocks):
        made = blocks[0].network
        n_unit, self.n_dim, self.n_rows = len(made.layers[0].bias), made.n_dim, 0
        self.zeros = self._reserve(_MOST_UNITS)
        self.values = [self._reserve(self.n_dim) for _ in range(2)]
        self.out, self.context = self._reserve(2), self._reserve(made.context.weight.shape[1])
        self.hidden = [self._reserve(n_unit) for _ in made.layers[:-1]]
        self.weights, self._n_weight, self._steps, context_steps = [], 0, [], []
        for block in blocks:
            term, made = self._reserve(n_unit), block.network
            orders = [_numpy(torch.argsort(layer.degrees, stable=True)) for layer in made.layers[:-1]]
            weight, bias = _numpy(made.context.weight)[orders[0]], _numpy(made.context.bias)[orders[0]]
            context_steps += self._tiles(_ACTIVATED, weight, bias, self.context, self.zeros, term)
            self._steps.append([(_EXPAND, n_unit, 0, 0, term, 0, self.hidden[0]), *self._block(made, orders)])
        self.context_program = _program(context_steps)
        self._places = [_numpy(torch.argsort(block.permutation)) for block in blocks]

    def inverse(self):
        """The program of the inverse, and the places of the columns that enter it and of those that leave it."""
        program, z = [], self.values[0] + np.arange(self.n_dim)
        enter = z
        for i, steps in enumerate(self._steps[::-1]):
            x = self.values[(i + 1) % 2]
            program += self._with_values(steps, x, z, x + np.arange(self.n_dim))
            z = x + self._places[-1 - i]
        return _program(program), enter * PANEL, z * PANEL

    def density(self):
        """The same of the density."""
        program, enter = [], self.values[0] + self._places[0]
        for i, steps in enumerate(self._steps):
            x, after = self.values[i % 2], self.values[(i + 1) % 2]
            z = after + (self._places[i + 1] if i + 1 < len(self._steps) else np.arange(self.n_dim))
            program += self._with_values(steps, x, x + np.arange(self.n_dim), z)
        return _program(program), enter * PANEL, z * PANEL

    def _reserve(self, n):
        self.n_rows += n
        return self.n_rows - n

    def _block(self, made, orders):
        """The steps of one block; those that read or write x and z have None in their place."""
        layers = [(_numpy(weight), _numpy(bias)[:, 0]) for weight, bias in sorted_layers(made, orders)]
        stops = [int((made.layers[0].degrees <= d).sum()) for d in range(self.n_dim)]
        steps = []
        for d, known in enumerate(stops):
            weight, bias = (values[2 * d : 2 * d + 2] for values in layers[-1])
            steps += self._tiles(_LINEAR, weight[:, :known], bias, self.hidden[-1], self.zeros, self.out)
            steps.append((_ELEMENTWISE, 0, 0, d, None, 0, None))
            if d + 1 == self.n_dim:
                break
            new, below = slice(known, stops[d + 1]), None
            for i, (weight, bias) in enumerate(layers[:-1]):
                hidden, n_below = self.hidden[i] + known, stops[d + 1] if i else d + 1
                start = self.zeros if i else hidden
                steps += self._tiles(_ACTIVATED, weight[new, :n_below], bias[new], below, start, hidden)
                below = self.hidden[i]
        return steps

    def _tiles(self, kind, weight, bias, source, start, target):
        """The steps of a product, whose weights are packed: of each tile the biases, then an input after the other."""
        steps, n = [], len(weight)
        if not n:
            return steps
        for rows in np.array_split(np.arange(n), -(-n // _MOST_UNITS)):
            first, stop = rows[0], rows[-1] + 1
            begin = start if start == self.zeros else start + first
            steps.append((kind, stop - first, self._n_weight, weight.shape[1], source, begin, target + first))
            self.weights += [bias[first:stop], weight[first:stop].T.ravel()]
            self._n_weight += (stop - first) * (1 + weight.shape[1])
        return steps

    def _with_values(self, steps, x, given, found):
        """The steps of a block whose x are the rows from `x` on, and whose elementwise part takes `given` to `found`."""
        out = []
        for kind, units, at, n, source, start, target in steps:
            if kind == _ELEMENTWISE:
                out.append((kind, 0, 0, 0, given[n], self.out, found[n]))
            else:
                out.append((kind, units, at, n, x if source is None else source, start, target))
        return out


def _program(steps):
    """As an array, with places for rows."""
    return np.array(steps, dtype=np.int64).reshape(-1, 7) * np.array([1, 1, 1, 1, PANEL, PANEL, PANEL])


def _numpy(values):
    return values.detach().numpy()


@intrinsic
def _tile(typing_context, n_units, weights, at, n_inputs, rows, source, start, target, floor):
    """Sums of `n_units` (1 to 6) units over `n_inputs` rows, for a panel, not below `floor`.

    target[u, s] = max(floor, start[u, s] + b[u] + sum_k w[k, u] source[k, s]); the tile's weights are b, then w[0], ...
    source, start and target are places in `rows`, of rows of PANEL; NaN stays NaN.
    """

    def generate(context, builder, signature, arguments):
        n_units, weights, at, n_inputs, rows, source, start, target, floor = arguments
        tile = _Tile(builder, n_inputs, floor)
        data = [context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in (1, 4)]
        weights, places = builder.gep(data[0], [at]), [builder.gep(data[1], [i]) for i in (source, start, target)]
        after = builder.append_basic_block()
        switch = builder.switch(n_units, after)
        for units in range(1, _MOST_UNITS + 1):
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


class _Tile:
    """Writes the instructions of tiles."""

    def __init__(self, builder, n_inputs, floor):
        self.builder, self.n_inputs = builder, n_inputs
        self.floor = self._all(floor)

    def write(self, units, width, weights, source, start, target):
        """One tile of `units` rows and `width` vectors."""
        b, each = self.builder, [(u, v) for u in range(units) for v in range(width)]
        bias = [self._all(b.load(b.gep(weights, [_count(u)]))) for u in range(units)]
        first = [b.fadd(bias[u], b.load(self._vector(start, u, v), align=4)) for u, v in each]
        before, loop, after = b.block, b.append_basic_block(), b.append_basic_block()
        b.cbranch(b.icmp_signed("<", _count(0), self.n_inputs), loop, after)
        b.position_at_end(loop)
        k, *sums = (b.phi(kind) for kind in (ir.IntType(64), *[_VECTOR] * len(each)))
        next_k = b.add(k, _count(1))
        weight, row = b.gep(weights, [b.mul(next_k, _count(units))]), b.gep(source, [b.mul(k, _count(PANEL))])
        inputs = [b.load(self._vector(row, 0, v), align=4) for v in range(width)]
        factor = [self._all(b.load(b.gep(weight, [_count(u)]))) for u in range(units)]
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

    def _all(self, value):
        """A vector of one number."""
        nothing, number = ir.Constant(_VECTOR, ir.Undefined), ir.IntType(32)
        one = self.builder.insert_element(nothing, value, ir.Constant(number, 0))
        return self.builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(number, LANES), [0] * LANES))

    def _vector(self, place, row, vector):
        """Where a vector of a row is."""
        place = self.builder.gep(place, [_count(row * PANEL + vector * LANES)])
        return self.builder.bitcast(place, _VECTOR.as_pointer())


_CONTRACT = ("contract",)
_kernel = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})


@_kernel
def _transform(
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
        if kind == _ELEMENTWISE:
            _elementwise(rows, source, start, target, log_scale, is_inverse)
        elif kind == _EXPAND:
            _expand(rows, source, units, target, galaxy_of)
        else:
            _tile(units, weights, at, n_inputs, rows, source, start, target, relu if kind == _ACTIVATED else none)
            if is_silu and kind == _ACTIVATED:
                _silu(rows[target : target + units * PANEL])


@_kernel
def _expand(rows, source, units, target, galaxy_of):
    """Each sample takes its galaxy's column."""
    for first in range(0, PANEL, LANES):
        begin, end = galaxy_of[first], galaxy_of[first + LANES - 1]
        for place in range(0, units * PANEL, PANEL):
            if begin == end:
                term = rows[source + place + begin]
                for j in range(LANES):
                    rows[target + place + first + j] = term
            else:
                for j in range(LANES):
                    rows[target + place + first + j] = rows[source + place + galaxy_of[first + j]]


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
        found[j] = (given[j] - shift[j]) / raw[j] if is_inverse else shift[j] + raw[j] * given[j]


@_kernel
def _silu(values):
    for i in range(len(values)):
        t = _exp(-abs(values[i]))
        values[i] *= (_ONE if values[i] > _ZERO else t) / (_ONE + t)


_ZERO, _HALF, _ONE, _TWO, _SMALLEST = (np.float32(x) for x in (0.0, 0.5, 1.0, 2.0, SMALLEST))
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
    return np.int32(np.float32(p).view(np.int32) + (np.float32(shifted).view(np.int32) << np.int32(23))).view(np.float32)


@_kernel
def _log(x):
    """ln(x) of a positive, normal x."""
    bits = np.float32(x).view(np.int32)
    n = np.int32(np.int32(bits - np.int32(_SQRT_HALF_BITS)) >> np.int32(23))
    m = np.int32(bits - np.int32(n << np.int32(23))).view(np.float32)
    s = (m - _ONE) / (m + _ONE)
    return np.float32(n) * _LN_2 + _TWO * _atanh(s)


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

"""A "maf" flow on the CPU in single precision: all of its blocks, for a panel of samples, in one compiled kernel.

The inverse and the density run a short program, which is written once a flow. For each block, and for each dimension d
in order: the outputs of d, from the hidden units of degree <= d; then x_d from z_d, or z_d from x_d; then, layer by
layer, the hidden units of degree d + 1, which x_d completes (popcat.flows.autoregressive says why). What the masks
leave out is not computed, and the activations of a panel stay in cache from the first block to the last.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from popcat.flows.architecture import Block, Made
from popcat.flows.autoregressive import sorted_layers
from popcat.flows.fused_kernels import ACTIVATED, ELEMENTWISE, EXPAND, LINEAR, MOST_UNITS, PANEL, transform


def fits(blocks: Sequence[Block]) -> bool:
    """Whether `Fused` takes these blocks: those of a "maf" flow in single precision on the CPU."""
    made = blocks[0].network
    if blocks[0].n_bins or not isinstance(made, Made):
        return False
    weight = made.layers[0].weight
    return weight.dtype == torch.float32 and weight.device.type == "cpu"


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
        return self._transform(self._inverse, True, noise, context)

    def log_prob(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """log q (n_galaxy, n_draw) of x (n_galaxy, n_draw, n_dim); context is (n_galaxy, n_context)."""
        return self._transform(self._density, False, x, context)[1]

    def _transform(self, direction, is_inverse, values, context):
        out, log_q = torch.empty(values.shape), torch.empty(values.shape[:2])
        rows = torch.zeros(self._n_rows * PANEL)  # torch aligns to cache lines
        transform(
            self._context_program, *direction, is_inverse, self._is_silu, self._weights, rows.numpy(),
            self._context_row * PANEL, context.detach().contiguous().numpy(), values.shape[1],
            values.detach().contiguous().flatten(0, 1).numpy(), out.flatten(0, 1).numpy(), log_q.flatten().numpy(),
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
        self.zeros = self._reserve(MOST_UNITS)
        self.values = [self._reserve(self.n_dim) for _ in range(2)]
        self.out, self.context = self._reserve(2), self._reserve(made.context.weight.shape[1])
        self.hidden = [self._reserve(n_unit) for _ in made.layers[:-1]]
        self.weights, self._n_weight, self._steps, context_steps = [], 0, [], []
        for block in blocks:
            term, made = self._reserve(n_unit), block.network
            orders = [_numpy(torch.argsort(layer.degrees, stable=True)) for layer in made.layers[:-1]]
            weight, bias = _numpy(made.context.weight)[orders[0]], _numpy(made.context.bias)[orders[0]]
            context_steps += self._tiles(ACTIVATED, weight, bias, self.context, self.zeros, term)
            self._steps.append([(EXPAND, n_unit, 0, 0, term, 0, self.hidden[0]), *self._block(made, orders)])
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
            steps += self._tiles(LINEAR, weight[:, :known], bias, self.hidden[-1], self.zeros, self.out)
            steps.append((ELEMENTWISE, 0, 0, d, None, 0, None))
            if d + 1 == self.n_dim:
                break
            new, below = slice(known, stops[d + 1]), None
            for i, (weight, bias) in enumerate(layers[:-1]):
                hidden, n_below = self.hidden[i] + known, stops[d + 1] if i else d + 1
                start = self.zeros if i else hidden
                steps += self._tiles(ACTIVATED, weight[new, :n_below], bias[new], below, start, hidden)
                below = self.hidden[i]
        return steps

    def _tiles(self, kind, weight, bias, source, start, target):
        """The steps of a product, whose weights are packed: of each tile the biases, then an input after the other."""
        steps, n = [], len(weight)
        if not n:
            return steps
        for rows in np.array_split(np.arange(n), -(-n // MOST_UNITS)):
            first, stop = rows[0], rows[-1] + 1
            begin = start if start == self.zeros else start + first
            steps.append((kind, stop - first, self._n_weight, weight.shape[1], source, begin, target + first))
            self.weights += [bias[first:stop], weight[first:stop].T.ravel()]
            self._n_weight += (stop - first) * (1 + weight.shape[1])
        return steps

    def _with_values(self, steps, x, given, found):
        """The steps of a block: x are the rows from `x` on, the elementwise part takes rows `given` to rows `found`."""
        out = []
        for kind, units, at, n, source, start, target in steps:
            if kind == ELEMENTWISE:
                out.append((kind, 0, 0, 0, given[n], self.out, found[n]))
            else:
                out.append((kind, units, at, n, x if source is None else source, start, target))
        return out


def _program(steps):
    """As an array, with places for rows."""
    return np.array(steps, dtype=np.int64).reshape(-1, 7) * np.array([1, 1, 1, 1, PANEL, PANEL, PANEL])


def _numpy(values):
    return values.detach().numpy()

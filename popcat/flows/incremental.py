"""Exact incremental inverse of one MADE block: about one half-masked pass, not one pass per dimension.

In a MADE with sequential degrees, output d (of 0, 1, ...) depends on the inputs before it through the hidden units of
degree <= d only. With each layer's units sorted by degree, those of degree d + 1 are computed once, when input d is
known. Dimensions go in panels: what a panel takes from all earlier units is one large product, the rest are small ones
within the panel. Arrays are feature-major (units x samples), written in place into buffers that all blocks share.
"""

import torch
from torch.nn import functional

from popcat.flows.architecture import permuted_transforms
from popcat.flows.autoregressive import hidden_layers
from popcat.flows.elementwise import elementwise_of
from popcat.flows.products import matmul

PANEL = 6
"""Dimensions a panel: products within it are too small to be fast."""


def incremental_blocks(flow) -> list["IncrementalBlock"]:
    """The inverse blocks of a "maf" or "spline" flow, data side first, with the weights of now."""
    return [IncrementalBlock(transform) for _, transform in permuted_transforms(flow)]


class IncrementalBlock:
    """One MADE, its hidden units sorted by degree, its masked weights cut into what each dimension and panel needs."""

    def __init__(self, transform):
        made = transform.autoregressive_net
        self.elementwise = elementwise_of(transform)
        self.activate = _IN_PLACE[made.activation]
        self.n_dim = made.initial_layer.weight.shape[1]
        orders = [torch.argsort(layer.degrees, stable=True) for layer in hidden_layers(made)]
        self.stops = [int((made.initial_layer.degrees <= d).sum()) for d in range(self.n_dim)]
        self.n_units = len(orders[0])
        self.context_weight = made.context_layer.weight.detach()[orders[0]]
        self.context_bias = made.context_layer.bias.detach()[orders[0], None]
        layers = _sorted_layers(made, orders)
        self.first_bias = layers[0][1]
        self.panels = [self._cut_panel(layers, d) for d in range(0, self.n_dim, PANEL)]
        self.steps = [self._cut_step(layers, d) for d in range(self.n_dim)]

    def units(self, d: int) -> slice:
        """Hidden units of degree d + 1, which input d completes; none for the last."""
        return slice(self.stops[d], self.stops[min(d + 1, self.n_dim - 1)])

    def panel(self, d: int) -> tuple[slice, slice, slice]:
        """Of d's panel: hidden units known before, hidden units that it completes, outputs that it needs."""
        first = d // PANEL * PANEL
        last = min(first + PANEL, self.n_dim)
        known = self.stops[first]
        units = slice(known, self.stops[min(last, self.n_dim - 1)])
        return slice(0, known), units, slice(first * self.elementwise.n_out, last * self.elementwise.n_out)

    def within(self, stop: int, d: int) -> slice:
        """Hidden units before `stop` that became known in d's panel."""
        return slice(self.panel(d)[1].start, stop)

    def rows(self, d: int) -> slice:
        """Outputs of dimension d."""
        return slice(d * self.elementwise.n_out, (d + 1) * self.elementwise.n_out)

    def _cut_panel(self, layers, d):
        known, units, rows = self.panel(d)
        wanted = [units] * (len(layers) - 2) + [rows]
        return [(w[part, known].contiguous(), b[part]) for (w, b), part in zip(layers[1:], wanted, strict=True)]

    def _cut_step(self, layers, d):
        """Weights to the outputs of d within its panel, and to the hidden units that d completes, layer by layer."""
        units = self.units(d)
        out = layers[-1][0][self.rows(d), self.within(units.start, d)].contiguous()
        first = layers[0][0][units, : d + 1].contiguous()
        later = [w[units, self.within(units.stop, d)].contiguous() for w, _ in layers[1:-1]]
        return out, [first, *later] if units.stop > units.start else []

    def context_term(self, context: torch.Tensor) -> torch.Tensor:
        """What the context (n_galaxy, n_context) adds to the first layer, its bias included: (units, n_galaxy)."""
        # in double, so that it does not depend on how many galaxies there are
        product = (self.context_weight.double() @ context.t().double()).to(context.dtype)
        term = self.activate(product.add_(self.context_bias))
        return term.add_(self.first_bias)

    def work(self, n: int, like: torch.Tensor) -> "Work":
        """Buffers for n samples of the device and precision of `like`; every block of a flow can use them."""
        return Work(self, n, like)

    def inverse(self, noise: torch.Tensor, term: torch.Tensor, work: "Work") -> tuple[torch.Tensor, torch.Tensor]:
        """x (n_dim, n) of noise (n_dim, n), n = galaxies x draws, and log|det| of the inverse (n,).

        x is a buffer of `work`, which the next call overwrites.
        """
        work.hidden[0].view(*term.shape, -1).copy_(term[:, :, None])
        for d, value in enumerate(noise.unbind()):
            if d % PANEL == 0:
                self._open_panel(d // PANEL, work)
            weight, layers = self.steps[d]
            (out, known), units = work.steps[d]
            if weight.shape[1]:
                out.addmm_(weight, known)
            work.solver.solve(d, value)
            for weight, (new, known) in zip(layers, units, strict=True):
                self.activate(new.addmm_(weight, known))
        return work.x, work.solver.log_det()

    def _open_panel(self, i, work):
        """Biases of all units and outputs of a panel, and what they take from the units known before."""
        for (weight, bias), (new, known) in zip(self.panels[i], work.panels[i], strict=True):
            if weight.shape[1]:
                torch.add(matmul(weight, known), bias, out=new)
            else:
                new.copy_(bias.expand_as(new))


def _sorted_layers(made, orders):
    """Masked weight and bias (a column) of each layer, rows and columns in order of degree."""
    layers, before = [], slice(None)
    for layer, order in zip([*hidden_layers(made), made.final_layer], [*orders, slice(None)], strict=True):
        layers.append(((layer.weight * layer.mask).detach()[order][:, before], layer.bias.detach()[order][:, None]))
        before = order
    return layers


class Work:
    """Buffers for n samples, and the views of them that each panel and step of a block reads and writes."""

    def __init__(self, block: IncrementalBlock, n: int, like: torch.Tensor):
        self.x, self.out = (like.new_empty(rows, n) for rows in (block.n_dim, block.n_dim * block.elementwise.n_out))
        self.hidden = [like.new_empty(block.n_units, n) for _ in block.steps[0][1]]
        self.solver = block.elementwise.solver(self.x, self.out)
        self.panels = [self._view_panel(block, d) for d in range(0, block.n_dim, PANEL)]
        self.steps = [self._view_step(block, d) for d in range(block.n_dim)]

    def _view_panel(self, block, d):
        known, units, rows = block.panel(d)
        new = [*(hidden[units] for hidden in self.hidden[1:]), self.out[rows]]
        return [(target, hidden[known]) for target, hidden in zip(new, self.hidden, strict=True)]

    def _view_step(self, block, d):
        units, below = block.units(d), self.x[: d + 1]
        out = (self.out[block.rows(d)], self.hidden[-1][block.within(units.start, d)])
        layers = []
        for hidden in self.hidden:
            layers.append((hidden[units], below))
            below = hidden[block.within(units.stop, d)]
        return out, layers[: len(block.steps[d][1])]


def _silu_(value):
    return functional.silu(value, inplace=True)


_IN_PLACE = {functional.relu: torch.relu_, functional.silu: _silu_}

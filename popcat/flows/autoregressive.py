"""Density of an autoregressive flow, the gradient of its mean, and its exact inverse, written out.

They are what nflows computes; density and gradients in half the time: the weights are masked once a step, not at each
use; arrays are feature-major (units x samples), so that every product, of the backward pass too, runs along contiguous
memory; no graph of the networks is recorded. For one block z is an elementwise function of x given the outputs of a
MADE (popcat.flows.architecture.Made). Tests hold it to nflows and to autograd.

The inverse costs about one half-masked pass, not one pass per dimension. In a MADE with sequential degrees, output d
(of 0, 1, ...) depends on the inputs before it through the hidden units of degree <= d only. With each layer's units
sorted by degree, those of degree d + 1 are computed once, when input d is known. Dimensions go in panels: what a panel
takes from all earlier units is one large product, the rest are small ones within the panel. Arrays are written in place
into buffers that all blocks share.

Affine flows in single precision on the CPU have a kernel of their own for inverse and density, popcat.flows.fused; here
are their training, and the inverse and density of all others.

Products of single precision go through oneDNN on the CPU, where torch carries it. torch's own go through MKL, which
leaves half of the AVX-512 units of AMD processors idle: oneDNN is 1.5 to 2 times faster there and as fast elsewhere.
"""

import functools
import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from popcat.flows.architecture import Block, Made, blocks_of
from popcat.flows.splines import elementwise_of


class Autoregressive:
    """The density of a "maf" or "spline" flow; its parameters are read anew at each call, unless `frozen`."""

    def __init__(self, flow):
        blocks = blocks_of(flow)
        self.permutations = [block.permutation for block in blocks]
        self.inverses = [torch.argsort(permutation) for permutation in self.permutations]
        self.mades = [block.network for block in blocks]
        self.elementwise = elementwise_of(blocks[0])
        self.activation = ACTIVATIONS[self.mades[0].activation]
        self._frozen = None

    def frozen(self) -> "Autoregressive":
        """Keep the weights of now, masked, for all later calls of `log_prob`."""
        with torch.no_grad():
            self._frozen = [masked_weights(made) for made in self.mades]
        return self

    @torch.no_grad()
    def log_prob(self, theta: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """log q(theta | context), (n,) in nats; theta is (n, features), context (n / k, n_context).

        Each row of the context serves k rows of theta, and is projected once.
        """
        x, c, log_q = theta.t(), context.t(), 0.0
        n_repeat = len(theta) // max(len(context), 1)
        weights = self._frozen or map(masked_weights, self.mades)
        for permutation, block in zip(self.permutations, weights, strict=True):
            step = self._forward(block, x.index_select(0, permutation), c, n_repeat=n_repeat, keep=False)
            x, log_q = step.z, log_q + step.log_det
        return log_q + standard_normal_log_prob(x)

    @torch.no_grad()
    def loss_and_gradients(self, theta: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Minus the mean of log q in nats; the flow's `.grad`, which must be there, become its gradients."""
        x, c, log_q, steps = theta.t(), context.t().contiguous(), 0.0, []
        for permutation, made in zip(self.permutations, self.mades, strict=True):
            steps.append(self._forward(masked_weights(made), x.index_select(0, permutation), c))
            x, log_q = steps[-1].z, log_q + steps[-1].log_det
        gradient = x / len(theta)
        for inverse, made, step in reversed(list(zip(self.inverses, self.mades, steps, strict=True))):
            gradient = self._backward(made, step, gradient, c).index_select(0, inverse)
        return -(log_q + standard_normal_log_prob(x)).mean()

    def _forward(self, weights, x, context, *, n_repeat=1, keep=True):
        term, context_kept = self.activation.forward(matmul(weights.context, context).add_(weights.context_bias))
        term = term if n_repeat == 1 else term.repeat_interleave(n_repeat, dim=1)
        hidden, kept, value = [], [], x
        for i, (weight, bias) in enumerate(weights.layers[:-1]):
            value = matmul(weight, value).add_(bias)
            value, saved = self.activation.forward(value.add_(term) if i == 0 else value)
            if keep:
                hidden.append(value)
                kept.append(saved)
        out = matmul(weights.layers[-1][0], value).add_(weights.layers[-1][1]).view(-1, *x.shape)
        z, log_det, solved = self.elementwise.forward(out, x, keep=keep)
        return _Step(x, hidden, kept, context_kept, solved, z, log_det, weights)

    def _backward(self, made, step, g, context):
        """The gradient by x of a block, given g, that by its z; sets those of its weights."""
        g_out, g_x = self.elementwise.backward(step.solved, g)
        g = self._backward_output(made.layers[-1], step, g_out.view(-1, g.shape[1]), n_dim=len(g))
        below = [step.x, *step.hidden]
        for i, layer in reversed(list(enumerate(made.layers[:-1]))):
            g = self.activation.backward(g, step.kept[i])
            torch.mul(matmul(g, below[i].t()), layer.mask, out=layer.weight.grad)
            torch.sum(g, 1, out=layer.bias.grad)
            if i:
                g = matmul(step.weights.layers[i][0].t(), g)
        g_x = g_x + matmul(step.weights.layers[0][0].t(), g)
        g = self.activation.backward(g, step.context_kept)
        made.context.weight.grad.copy_(matmul(g, context.t()))
        torch.sum(g, 1, out=made.context.bias.grad)
        return g_x

    @staticmethod
    def _backward_output(final, step, g_out, n_dim):
        by_weight = _by_dimension(matmul(g_out, step.hidden[-1].t()), n_dim)
        torch.mul(by_weight, final.mask, out=final.weight.grad)
        final.bias.grad.copy_(_by_dimension(g_out.sum(1, keepdim=True), n_dim)[:, 0])
        return matmul(step.weights.layers[-1][0].t(), g_out)


def standard_normal_log_prob(x: torch.Tensor) -> torch.Tensor:
    """log N(x; 0, 1) of feature-major x, summed over features: (n,)."""
    return -0.5 * (x * x).sum(0) - 0.5 * math.log(2 * math.pi) * len(x)


@dataclass
class Weights:
    """Masked weights and biases (columns) of one MADE; rows of the last layer by parameter, then by dimension."""

    context: torch.Tensor
    context_bias: torch.Tensor
    layers: list[tuple[torch.Tensor, torch.Tensor]]


def masked_weights(made: Made) -> Weights:
    """The weights of one MADE as they act now."""
    layers = [(layer.weight * layer.mask, layer.bias[:, None]) for layer in made.layers]
    layers[-1] = tuple(_by_parameter(rows, made.n_dim) for rows in layers[-1])
    return Weights(made.context.weight, made.context.bias[:, None], layers)


def _by_parameter(rows: torch.Tensor, n_dim: int) -> torch.Tensor:
    """nflows has all parameters of the first dimension, then those of the second, ..."""
    return rows.view(n_dim, -1, rows.shape[1]).transpose(0, 1).reshape(rows.shape)


def _by_dimension(rows: torch.Tensor, n_dim: int) -> torch.Tensor:
    return rows.view(-1, n_dim, rows.shape[1]).transpose(0, 1).reshape(rows.shape)


@dataclass
class _Step:
    """What one block's forward pass leaves for its backward pass."""

    x: torch.Tensor
    hidden: list[torch.Tensor]
    kept: list[torch.Tensor]
    context_kept: torch.Tensor
    solved: tuple | None
    z: torch.Tensor
    log_det: torch.Tensor
    weights: Weights


class _Relu:
    """Its value tells its slope, so nothing else is kept."""

    @staticmethod
    def forward(value):
        value = value.relu_()
        return value, value

    @staticmethod
    def backward(g, value):
        return torch.ops.aten.threshold_backward.grad_input(g, value, 0, grad_input=g)


class _Silu:
    """x sigmoid(x); its slope needs x."""

    @staticmethod
    def forward(value):
        return functional.silu(value), value

    @staticmethod
    def backward(g, value):
        return torch.ops.aten.silu_backward.grad_input(g, value, grad_input=g)


ACTIVATIONS = {functional.relu: _Relu, functional.silu: _Silu}
"""torch's function, which a MADE holds, to the pair of its value and its slope."""


PANEL = 6
"""Dimensions a panel: products within it are too small to be fast."""


class AutoregressiveInverse:
    """One MADE, its hidden units sorted by degree, its masked weights cut into what each dimension and panel needs."""

    def __init__(self, block: Block):
        made = block.network
        self.elementwise = elementwise_of(block)
        self.activate = _IN_PLACE[made.activation]
        self.n_dim = made.n_dim
        orders = [torch.argsort(layer.degrees, stable=True) for layer in made.layers[:-1]]
        self.stops = [int((made.layers[0].degrees <= d).sum()) for d in range(self.n_dim)]
        self.n_units = len(orders[0])
        self.context_weight = made.context.weight.detach()[orders[0]]
        self.context_bias = made.context.bias.detach()[orders[0], None]
        layers = sorted_layers(made, orders)
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


def sorted_layers(made, orders):
    """Masked weight and bias (a column) of each layer, rows and columns in order of degree."""
    layers, before = [], slice(None)
    for layer, order in zip(made.layers, [*orders, slice(None)], strict=True):
        layers.append(((layer.weight * layer.mask).detach()[order][:, before], layer.bias.detach()[order][:, None]))
        before = order
    return layers


class Work:
    """Buffers for n samples, and the views of them that each panel and step of a block reads and writes."""

    def __init__(self, block: AutoregressiveInverse, n: int, like: torch.Tensor):
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


def matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The product of two matrices, any strides, without a graph for gradients.

    >>> matmul(torch.eye(2), torch.ones(2, 3)).shape
    torch.Size([2, 3])
    """
    if a.dtype == torch.float32 and a.device.type == "cpu" and a.shape[0] and b.shape[1] and onednn_works():
        return torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")
    return torch.mm(a, b)


@functools.cache
def onednn_works() -> bool:
    """Whether this torch has the operator, which is not part of its public interface, and it multiplies."""
    a = torch.arange(12.0).reshape(3, 4)
    try:
        product = torch.ops.mkldnn._linear_pointwise(a, a, None, "none", [], "")
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    return torch.equal(product, torch.mm(a, a.t()))

"""Density of an autoregressive flow and the gradient of its mean, written out: what nflows computes, in half the time.

The weights are masked once a step, not at each use; arrays are feature-major (units x samples), so that every product,
of the backward pass too, runs along contiguous memory; no graph of the networks is recorded.

For one block, with h_0 = act(W_0 x + b_0 + act(W_c c + b_c)), h_i = act(W_i h_(i-1) + b_i) and out = W_out h + b_out,
z is an elementwise function of x given out. Tests hold it to nflows and to autograd.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from popcat.flows.architecture import permuted_transforms
from popcat.flows.elementwise import elementwise_of
from popcat.flows.products import matmul


class Autoregressive:
    """The density of a "maf" or "spline" flow; its parameters are read anew at each call, unless `frozen`."""

    def __init__(self, flow):
        permuted = permuted_transforms(flow)
        self.permutations = [permutation for permutation, _ in permuted]
        self.inverses = [torch.argsort(permutation) for permutation in self.permutations]
        self.mades = [transform.autoregressive_net for _, transform in permuted]
        self.elementwise = elementwise_of(permuted[0][1])
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
        g = self._backward_output(made.final_layer, step, g_out.view(-1, g.shape[1]), n_dim=len(g))
        below = [step.x, *step.hidden]
        for i, layer in reversed(list(enumerate(hidden_layers(made)))):
            g = self.activation.backward(g, step.kept[i])
            torch.mul(matmul(g, below[i].t()), layer.mask, out=layer.weight.grad)
            torch.sum(g, 1, out=layer.bias.grad)
            if i:
                g = matmul(step.weights.layers[i][0].t(), g)
        g_x = g_x + matmul(step.weights.layers[0][0].t(), g)
        g = self.activation.backward(g, step.context_kept)
        made.context_layer.weight.grad.copy_(matmul(g, context.t()))
        torch.sum(g, 1, out=made.context_layer.bias.grad)
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


def masked_weights(made) -> Weights:
    """The weights of one MADE as they act now."""
    layers = [(layer.weight * layer.mask, layer.bias[:, None]) for layer in hidden_layers(made)]
    final, n_dim = made.final_layer, made.initial_layer.weight.shape[1]
    layers.append((_by_parameter(final.weight * final.mask, n_dim), _by_parameter(final.bias[:, None], n_dim)))
    return Weights(made.context_layer.weight, made.context_layer.bias[:, None], layers)


def hidden_layers(made) -> list:
    """The masked linear layers of a MADE but the last."""
    return [made.initial_layer, *(block.linear for block in made.blocks)]


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
"""torch's function, which a MADE of nflows holds, to the pair of its value and its slope."""

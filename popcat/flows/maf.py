"""Density of a MAF and the gradient of its mean, written out: what nflows computes, in half of the time.

The weights are masked once a step, not at each use; arrays are feature-major (units x samples), so that every product,
of the backward pass too, runs along contiguous memory; no graph is recorded. Tests hold it to nflows and to autograd.

For one block, with h_0 = act(W_0 x + b_0 + act(W_c c + b_c)), h_i = act(W_i h_(i-1) + b_i):
(raw, shift) = W_out h + b_out, scale = softplus(raw) + epsilon, z = scale x + shift, log|det| = sum log scale.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from popcat.flows.architecture import AFFINE_EPSILON, made_blocks
from popcat.flows.products import matmul


class Maf:
    """The blocks of a MAF from `build_flow`, data side first; the flow's parameters are read anew at each call."""

    def __init__(self, flow):
        self.mades = made_blocks(flow)
        self.activation = ACTIVATIONS[self.mades[0].activation]
        self._frozen = None

    def frozen(self) -> "Maf":
        """Keep the weights of now, masked, for all later calls of `log_prob`."""
        with torch.no_grad():
            self._frozen = [masked_weights(made) for made in self.mades]
        return self

    @torch.no_grad()
    def log_prob(self, theta: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """log q(theta | context), (n,) in nats; theta is (n, features), context (n / k, n_context).

        Each row of the context serves k rows of theta, and is projected once.
        """
        x, log_q = theta.t(), 0.0
        n_repeat = len(theta) // max(len(context), 1)
        for weights in self._frozen or map(masked_weights, self.mades):
            term, _ = self.activation.forward(matmul(weights.context, context.t()).add_(weights.context_bias))
            step = _forward(weights, self.activation, x.flip(0), _repeated(term, n_repeat), keep=False)
            x, log_q = step.z, log_q + torch.log(step.scale).sum(0)
        return log_q + standard_normal_log_prob(x)

    @torch.no_grad()
    def loss_and_gradients(self, theta: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Minus the mean of log q in nats; the flow's `.grad`, which must be there, become its gradients."""
        x, c, log_det, steps = theta.t(), context.t().contiguous(), 0.0, []
        for made in self.mades:
            weights = masked_weights(made)
            term, kept = self.activation.forward(matmul(weights.context, c).add_(weights.context_bias))
            steps.append(_forward(weights, self.activation, x.flip(0), term))
            steps[-1].context_kept = kept
            x, log_det = steps[-1].z, log_det + torch.log(steps[-1].scale).sum()
        loss = -(log_det + standard_normal_log_prob(x).sum()) / len(theta)
        gradient = x / len(theta)
        for made, step in zip(reversed(self.mades), reversed(steps), strict=True):
            gradient = _backward(made, step, self.activation, gradient, c).flip(0)
        return loss


def _repeated(term, n_repeat):
    return term if n_repeat == 1 else term.repeat_interleave(n_repeat, dim=1)


def standard_normal_log_prob(x: torch.Tensor) -> torch.Tensor:
    """log N(x; 0, 1) of feature-major x, summed over features: (n,)."""
    return -0.5 * (x * x).sum(0) - 0.5 * math.log(2 * math.pi) * len(x)


@dataclass
class Weights:
    """Masked weights and biases (columns) of one MADE; rows of the last layer: all raw scales, then all shifts."""

    context: torch.Tensor
    context_bias: torch.Tensor
    layers: list[tuple[torch.Tensor, torch.Tensor]]


def masked_weights(made) -> Weights:
    """The weights of one MADE as they act now."""
    layers = [(layer.weight * layer.mask, layer.bias[:, None]) for layer in hidden_layers(made)]
    final, n_dim = made.final_layer, made.initial_layer.weight.shape[1]
    weight = _scales_then_shifts(final.weight * final.mask, n_dim)
    layers.append((weight, _scales_then_shifts(final.bias[:, None], n_dim)))
    return Weights(made.context_layer.weight, made.context_layer.bias[:, None], layers)


def hidden_layers(made) -> list:
    """The masked linear layers of a MADE but the last."""
    return [made.initial_layer, *(block.linear for block in made.blocks)]


def _scales_then_shifts(rows: torch.Tensor, n_dim: int) -> torch.Tensor:
    """nflows alternates: raw scale and shift of the first dimension, of the second, ..."""
    return rows.view(n_dim, 2, -1).transpose(0, 1).reshape(2 * n_dim, -1)


def _scales_and_shifts_alternating(rows: torch.Tensor, n_dim: int) -> torch.Tensor:
    return rows.view(2, n_dim, -1).transpose(0, 1).reshape(2 * n_dim, -1)


@dataclass
class _Step:
    """What one block's forward pass leaves for its backward pass. z is the result."""

    x: torch.Tensor
    hidden: list[torch.Tensor]
    kept: list[torch.Tensor]
    raw: torch.Tensor
    scale: torch.Tensor
    z: torch.Tensor
    weights: Weights
    context_kept: torch.Tensor | None = None


def _forward(weights: Weights, activation, x, term, *, keep: bool = True) -> _Step:
    hidden, kept, value = [], [], x
    for i, (weight, bias) in enumerate(weights.layers[:-1]):
        value = matmul(weight, value).add_(bias)
        value, saved = activation.forward(value.add_(term) if i == 0 else value)
        if keep:
            hidden.append(value)
            kept.append(saved)
    raw, shift = matmul(weights.layers[-1][0], value).add_(weights.layers[-1][1]).chunk(2)
    scale = functional.softplus(raw).add_(AFFINE_EPSILON)
    return _Step(x, hidden, kept, raw, scale, torch.addcmul(shift, scale, x), weights)


def _backward(made, step: _Step, activation, g, context):
    """The gradient with respect to x of a block, given the one with respect to its z; sets those of its weights."""
    n_dim, n = g.shape
    # d loss / d scale = g x - 1 / (n scale), and softplus' is the sigmoid.
    g_raw = torch.addcmul(torch.reciprocal(step.scale).mul_(-1 / n), g, step.x).mul_(torch.sigmoid(step.raw))
    g_out = torch.cat([g_raw, g])
    final = made.final_layer
    by_weight = _scales_and_shifts_alternating(matmul(g_out, step.hidden[-1].t()), n_dim)
    torch.mul(by_weight, final.mask, out=final.weight.grad)
    final.bias.grad.copy_(_scales_and_shifts_alternating(g_out.sum(1), n_dim).view(-1))
    g_hidden = matmul(step.weights.layers[-1][0].t(), g_out)
    for i, layer in reversed(list(enumerate(hidden_layers(made)))):
        g_hidden = activation.backward(g_hidden, step.kept[i])
        below = step.hidden[i - 1] if i else step.x
        torch.mul(matmul(g_hidden, below.t()), layer.mask, out=layer.weight.grad)
        torch.sum(g_hidden, 1, out=layer.bias.grad)
        g_below = matmul(step.weights.layers[i][0].t(), g_hidden)
        g_hidden, g_first = g_below, g_hidden
    g_context = activation.backward(g_first, step.context_kept)
    made.context_layer.weight.grad.copy_(matmul(g_context, context.t()))
    torch.sum(g_context, 1, out=made.context_layer.bias.grad)
    return g_hidden.addcmul_(g, step.scale)


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

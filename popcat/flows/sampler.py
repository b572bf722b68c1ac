"""Exact incremental inverse of a MAF: noise to draws in about one half-masked pass a block, not one per dimension.

In a MADE with sequential degrees, output d depends on inputs < d only through hidden units of degree < d. With each
layer's units sorted by degree, the units of degree d are computed once, when input d is known. Arrays are
feature-major (units x samples); the context enters once per galaxy and is repeated over its draws.
"""

import torch
from torch.nn import functional

from popcat.flows.architecture import made_blocks

CHUNK = 4096
"""Samples at a time: activations of one block then stay in cache."""
_EPSILON = 1e-3  # of nflows' MaskedAffineAutoregressiveTransform


class _Block:
    """One MADE, its hidden units sorted by degree and its masks applied."""

    def __init__(self, made):
        orders = [torch.argsort(layer.degrees, stable=True) for layer in _hidden_layers(made)]
        degrees = _hidden_layers(made)[0].degrees[orders[0]]
        self.activation = made.activation
        self.n_dim = made.initial_layer.weight.shape[1]
        self.stops = [int((degrees <= d).sum()) for d in range(self.n_dim)]
        self.context_weight = made.context_layer.weight[orders[0]].detach()
        self.context_bias = made.context_layer.bias[orders[0]].detach()
        self.weights, self.biases = [], []
        previous = None
        for layer, order in zip(_hidden_layers(made), orders, strict=True):
            weight = (layer.weight * layer.mask).detach()[order]
            self.weights.append((weight if previous is None else weight[:, previous]).contiguous())
            self.biases.append(layer.bias.detach()[order][:, None])
            previous = order
        final = made.final_layer
        self.final_weight = (final.weight * final.mask).detach()[:, previous].contiguous()
        self.final_bias = final.bias.detach()[:, None]

    def inverse(self, noise, context_term):
        """x (n_dim, n) of noise (n_dim, n), and log|det| of the inverse (n,)."""
        x = torch.zeros_like(noise)
        hidden = [torch.zeros(len(b), noise.shape[1], dtype=noise.dtype, device=noise.device) for b in self.biases]
        log_det = torch.zeros_like(noise[0])
        for d in range(self.n_dim):
            stop = self.stops[d]
            rows = slice(2 * d, 2 * d + 2)
            raw_scale, shift = self.final_weight[rows, :stop] @ hidden[-1][:stop] + self.final_bias[rows]
            scale = functional.softplus(raw_scale) + _EPSILON
            x[d] = (noise[d] - shift) / scale
            log_det -= torch.log(scale)
            if d + 1 < self.n_dim:
                self._advance(x, hidden, context_term, d)
        return x, log_det

    def _advance(self, x, hidden, context_term, d):
        """Compute the hidden units of degree d + 1, which inputs up to d decide."""
        start, stop = self.stops[d], self.stops[d + 1]
        units = slice(start, stop)
        value = self.weights[0][units, : d + 1] @ x[: d + 1] + self.biases[0][units] + context_term[units]
        hidden[0][units] = self.activation(value)
        for i in range(1, len(hidden)):
            value = self.weights[i][units, :stop] @ hidden[i - 1][:stop] + self.biases[i][units]
            hidden[i][units] = self.activation(value)


class Sampler:
    """Draws from a conditional MAF that `build_flow` made, equal to nflows' own inverse on the same noise."""

    def __init__(self, flow):
        self.blocks = [_Block(made) for made in reversed(made_blocks(flow))]

    @torch.no_grad()
    def transform(self, noise: torch.Tensor, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws and their log q: (n_galaxy, n_draw, n_dim) and (n_galaxy, n_draw).

        noise is (n_galaxy, n_draw, n_dim), standard normal; context is (n_galaxy, n_context).
        """
        n_galaxy, n_draw, n_dim = noise.shape
        step = max(CHUNK // max(n_draw, 1), 1)
        draws, log_q = torch.empty_like(noise), torch.empty_like(noise[..., 0])
        for start in range(0, n_galaxy, step):
            part = slice(start, start + step)
            x, q = self._chunk(noise[part], context[part])
            draws[part], log_q[part] = x.T.reshape(-1, n_draw, n_dim), q.reshape(-1, n_draw)
        return draws, log_q

    def _chunk(self, noise, context):
        _, n_draw, n_dim = noise.shape
        x = noise.reshape(-1, n_dim).T.contiguous()
        log_q = -0.5 * (x**2).sum(0) - 0.5 * n_dim * _LN_2PI
        for block in self.blocks:
            term = block.activation(block.context_weight @ context.T + block.context_bias[:, None])
            x, log_det = block.inverse(x, term.repeat_interleave(n_draw, dim=1))
            log_q -= log_det
            x = x.flip(0)
        return x, log_q


_LN_2PI = 1.8378770664093453


def _hidden_layers(made):
    return [made.initial_layer, *(block.linear for block in made.blocks)]

"""Density, gradients and inverse of a coupling flow: half of the dimensions are transformed given the other half.

The inverse costs one pass, as the density does. The networks are nflows'; the splines of draws are popcat's.
"""

import torch

from popcat.flows.architecture import Block, blocks_of
from popcat.flows.elementwise import spline
from popcat.flows.optimizer import backward


class Coupling:
    """The density of a "coupling" flow."""

    def __init__(self, flow):
        self.flow = flow

    def frozen(self) -> "Coupling":
        """The weights are not masked, so there is nothing to keep."""
        return self

    @torch.no_grad()
    def log_prob(self, theta: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """log q(theta | context), (n,) in nats; theta is (n, features), context (n / k, n_context), each row for k."""
        n_repeat = len(theta) // max(len(context), 1)
        return self.flow.log_prob(theta, context.repeat_interleave(n_repeat, dim=0))

    def loss_and_gradients(self, theta: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Minus the mean of log q in nats; the flow's `.grad`, which must be there, become its gradients."""
        return backward(self.flow, -self.flow.log_prob(theta, context).mean())


class CouplingInverse:
    """The inverse of one coupling block, feature-major; differentiable in the flow's weights."""

    def __init__(self, block: Block):
        self.block, self.n_size_outputs = block, 2 * block.n_bins

    def context_term(self, context: torch.Tensor) -> torch.Tensor:
        """The context, feature-major."""
        return context.t()

    def work(self, n: int, like: torch.Tensor) -> None:
        """It needs no buffers."""

    def inverse(self, noise: torch.Tensor, term: torch.Tensor, work: None) -> tuple[torch.Tensor, torch.Tensor]:
        """x (n_dim, n) of noise (n_dim, n), n = galaxies x draws, and log|det| of the inverse (n,)."""
        halves, n = self.block.network, noise.shape[1]
        context = term.repeat_interleave(n // max(term.shape[1], 1), dim=1).t()
        raw = halves.net(noise[halves.given].t(), context).t().view(len(halves.changed), -1, n).transpose(0, 1)
        raw = torch.cat([raw[: self.n_size_outputs] * halves.scale, raw[self.n_size_outputs :]])
        x = noise.clone()
        x[halves.changed], log_slope = spline(raw, noise[halves.changed], self.block.bound, inverse=True)
        return x, log_slope.sum(0)


def draw(flow, noise: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """x (n, n_dim) of a coupling flow from standard normal noise (n, n_dim), with gradients in the flow's weights.

    context is (1, n_context), or one row for each row of the noise.
    """
    x = noise.t()
    for block in reversed(blocks_of(flow)):
        inverse = CouplingInverse(block)
        x, _ = inverse.inverse(x, inverse.context_term(context), None)
        x = x.index_select(0, torch.argsort(block.permutation))
    return x.t()

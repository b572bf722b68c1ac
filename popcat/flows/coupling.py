"""Density, gradients and inverse of a coupling flow: half of the dimensions are transformed given the other half.

The inverse costs one pass, as the density does. The networks are nflows'; the splines of draws are popcat's.
"""

import math

import torch

from popcat.flows.architecture import permuted_transforms
from popcat.flows.elementwise import spline


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
        for value in self.flow.parameters():
            value.grad.zero_()
        loss = -self.flow.log_prob(theta, context).mean()
        loss.backward()
        return loss.detach()


def coupling_blocks(flow) -> list["CouplingBlock"]:
    """The inverse blocks of a coupling flow, data side first."""
    return [CouplingBlock(transform) for _, transform in permuted_transforms(flow)]


class CouplingBlock:
    """The inverse of one coupling transform, feature-major."""

    def __init__(self, transform):
        self.net, self.bound = transform.transform_net, transform.tail_bound
        self.given, self.changed = transform.identity_features, transform.transform_features
        self.n_size_outputs = 2 * transform.num_bins
        self.scale = 1 / math.sqrt(self.net.hidden_features)

    def context_term(self, context: torch.Tensor) -> torch.Tensor:
        """The context, feature-major."""
        return context.t()

    def work(self, n: int, like: torch.Tensor) -> None:
        """It needs no buffers."""

    def inverse(self, noise: torch.Tensor, term: torch.Tensor, work: None) -> tuple[torch.Tensor, torch.Tensor]:
        """x (n_dim, n) of noise (n_dim, n), n = galaxies x draws, and log|det| of the inverse (n,)."""
        n = noise.shape[1]
        context = term.repeat_interleave(n // max(term.shape[1], 1), dim=1).t()
        raw = self.net(noise[self.given].t(), context).t().view(len(self.changed), -1, n).transpose(0, 1)
        raw = torch.cat([raw[: self.n_size_outputs] * self.scale, raw[self.n_size_outputs :]])
        x = noise.clone()
        x[self.changed], log_slope = spline(raw, noise[self.changed], self.bound, inverse=True)
        return x, log_slope.sum(0)

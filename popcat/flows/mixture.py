"""A mixture of flows trained apart: draws of one member each, log q of the whole mixture."""

from collections.abc import Sequence

import torch

from popcat.flows.sampler import Sampler
from popcat.settings import Training


class Mixture:
    """Members sampled in proportion to their weights; the same interface as `Sampler`, and `uniform` decides.

    q(x) = sum_e w_e q_e(x), equal weights unless given. log q costs as many densities as there are members.
    """

    def __init__(self, flows: Sequence, weights: Sequence[float] | None = None):
        self._members = [Sampler(flow) for flow in flows]
        values = torch.ones(len(flows)) if weights is None else torch.as_tensor(weights, dtype=torch.float32)
        self.weights = values / values.sum()

    @torch.no_grad()
    def transform(self, noise: torch.Tensor, context: torch.Tensor, uniform: torch.Tensor):
        """Draws and their log q under the mixture: (n_galaxy, n_draw, n_dim) and (n_galaxy, n_draw).

        noise is (n_galaxy, n_draw, n_dim), standard normal; context (n_galaxy, n_context); uniform (n_galaxy, n_draw)
        in (0, 1): a draw is of the member in whose share of (0, 1) its number falls.
        """
        draws, member = torch.empty_like(noise), self.member_of(uniform)
        for e, sampler in enumerate(self._members):
            galaxy, draw = torch.nonzero(member == e, as_tuple=True)
            values, _ = sampler.transform(noise[galaxy, draw][:, None], context[galaxy])
            draws[galaxy, draw] = values[:, 0]
        return draws, self.log_prob(draws, context)

    def member_of(self, uniform: torch.Tensor) -> torch.Tensor:
        """Number of the member that each uniform number stands for."""
        edges = torch.cumsum(self.weights.double(), 0)[:-1]
        return torch.bucketize(uniform.double(), edges.to(uniform.device), right=True)

    @torch.no_grad()
    def log_prob(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """log q (n_galaxy, n_draw) of x (n_galaxy, n_draw, n_dim) under the mixture."""
        total = torch.full_like(x[..., 0], -torch.inf)
        for weight, sampler in zip(self.weights, self._members, strict=True):
            total = torch.logaddexp(total, sampler.log_prob(x, context) + torch.log(weight).to(x))
        return total


def make_sampler(flows: Sequence, weights: Sequence[float] | None = None) -> Sampler | Mixture:
    """A sampler of one flow or of a mixture of several; both take `transform(noise, context, uniform)`."""
    return Sampler(flows[0]) if len(flows) == 1 else Mixture(flows, weights)


def member_settings(settings: Training) -> list[Training]:
    """Settings of each member's own training: other seeds, so other first weights and another order of batches.

    >>> [member.seed for member in member_settings(Training(members=3, seed=1))]
    [1, 1000, 1999]
    """
    apart = 999
    return [
        settings.model_copy(update={"members": 1, "seed": settings.seed + apart * e}) for e in range(settings.members)
    ]


def stacking_weights(log_prob: torch.Tensor, n_iteration: int = 200) -> torch.Tensor:
    """Weights (members,) that make the mixture most probable on held-out pairs, by expectation-maximisation.

    log_prob is (members, n): of each pair under each member.

    >>> stacking_weights(torch.tensor([[0.0, 0.0], [-50.0, -50.0]]))
    tensor([1., 0.])
    """
    log_weight = torch.full((len(log_prob),), 1 / len(log_prob), dtype=torch.float64).log()
    for _ in range(n_iteration):
        share = torch.softmax(log_prob.double() + log_weight[:, None], 0)
        log_weight = share.mean(1).clamp_min(1e-300).log()
    return log_weight.exp().float()

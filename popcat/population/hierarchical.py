"""The hierarchical route: the population that makes the posteriors of single galaxies most probable together.

    ln L = sum_i ln mean_k [ w_ik q(x_ik) / p(x_ik) ] - n ln alpha,    alpha = E_q[P(selected | x)]

with x_ik draw k of galaxy i under the prior p, of importance weight w_ik, and alpha the share of the population that
the survey observes (Mandel, Farr & Gair 2019, eq. 7); without cuts it is 1. By Fisher's identity the gradient of the
first term is that of ln q at draws taken with probabilities r_ik = w_ik q / p, normalised: a few of them suffice.

The mean over k is an estimate, which a narrow q can make as large as it likes by meeting single draws. So a
validation in which half of the held-out galaxies have fewer than FEWEST_EFFECTIVE effective draws does not count: a fit
ends before.
"""

from dataclasses import dataclass

import numpy as np
import torch

from popcat.population.distance import split
from popcat.population.settings import PopulationSettings
from popcat.population.synthesis import Synthesis, draw, log_density, log_standard_normal

FEWEST_EFFECTIVE = 10.0
"""Effective draws of the median galaxy, or a tenth of all its draws if that is less."""
TAKEN = 8
"""Draws a galaxy that make the gradient."""
_DETECTION_DRAWS = 400
MAX_HELD = 300
_PRICE = 10.0
"""Nats for each share of the population beyond the cuts that is too much."""
_CHUNK = 50_000


@dataclass(frozen=True)
class PosteriorDraws:
    """Draws of n galaxies, float32.

    x : (n, k, d), unconstrained. log_weight : (n, k) ln w - ln p(x). log_start : (n, k) ln of the weights with which
    the draws are stacked to begin with.
    """

    x: torch.Tensor
    log_weight: torch.Tensor
    log_start: torch.Tensor

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows) -> "PosteriorDraws":
        return PosteriorDraws(self.x[rows], self.log_weight[rows], self.log_start[rows])

    def to(self, device: str) -> "PosteriorDraws":
        """The same, elsewhere."""
        return PosteriorDraws(*(part.to(device) for part in (self.x, self.log_weight, self.log_start)))

    @classmethod
    def under_prior(cls, x: np.ndarray, log_start: np.ndarray | None = None) -> "PosteriorDraws":
        """Equally weighted draws (n, k, d) from posteriors under the training prior, standard normal in x.

        log_start : (n, k) ln of the start's prior over the training prior, at the draws.
        """
        x = torch.as_tensor(np.asarray(x, dtype=np.float32))
        start = torch.zeros(x.shape[:2]) if log_start is None else torch.as_tensor(np.asarray(log_start, np.float32))
        return cls(x, -log_standard_normal(x), start)


class HierarchicalLoss:
    """The loss of a step and the score of a validation, for one member; `synthesis` is needed where there are cuts."""

    def __init__(self, flow, draws: PosteriorDraws, settings: PopulationSettings, seed: int,
                 synthesis: Synthesis | None = None, device: str = "cpu"):  # fmt: skip
        self.flow, self.settings, self.seed = flow, settings, seed
        fitted, held = split(len(draws), settings.held_out, settings.seed)
        self.draws, self.held = draws[fitted].to(device), draws[held[:MAX_HELD]].to(device)
        self.synthesis = synthesis

    def loss(self, step: int) -> torch.Tensor:
        """A number whose gradient is that of -ln L a galaxy, on a random few galaxies."""
        random = torch.Generator().manual_seed(1_000_003 * (self.seed + 1) + 500_009 + step)
        rows = torch.randint(len(self.draws), (self.settings.galaxies,), generator=random)
        some = self.draws[rows]
        with torch.no_grad():
            is_start = step < self.settings.stack_share * self.settings.start_steps
            share = torch.softmax(some.log_start if is_start else evidence_terms(self.flow, some), 1)
            share = torch.where(torch.isfinite(share), share, 0.0) + 1e-12
            taken = torch.multinomial(share.cpu(), TAKEN, replacement=True, generator=random).to(some.x.device)
        x = some.x.gather(1, taken[..., None].expand(-1, -1, some.x.shape[2]))
        loss = -log_density(self.flow, x.flatten(0, 1)).mean()
        return loss + unseen_price(self.flow, self.synthesis, self.settings, random)

    def score(self) -> float:
        """-ln L a galaxy, of the held-out galaxies; infinite where too few draws are left to estimate it."""
        terms = evidence_terms(self.flow, self.held)
        if median_effective(terms) < min(FEWEST_EFFECTIVE, 0.1 * terms.shape[1]):
            return float("inf")
        price = unseen_price(self.flow, self.synthesis, self.settings, torch.Generator().manual_seed(9))
        return -mean_evidence(terms).mean().item() + float(price)


def unseen_price(flow, synthesis: Synthesis | None, settings: PopulationSettings, random: torch.Generator):
    """ln alpha, and a price for more galaxies beyond the cuts than `max_hidden`: the likelihood is flat there."""
    if synthesis is None or not synthesis.cuts.cuts:
        return 0.0
    alpha = seen_share(flow, synthesis, _DETECTION_DRAWS, random)
    return torch.log(alpha.clamp_min(1e-6)) + _PRICE * (1.0 - alpha - settings.max_hidden).clamp_min(0.0)


def seen_share(flow, synthesis: Synthesis, n: int, random: torch.Generator) -> torch.Tensor:
    """alpha, the share of the population that the survey observes, of n draws."""
    noise = torch.randn(n, synthesis.space.n_dim, generator=random).to(synthesis.device)
    normals = torch.randn(n, synthesis.n_band, generator=random).to(synthesis.device)
    return synthesis.detection(draw(flow, noise), normals).mean().float()


def evidence_terms(flow, draws: PosteriorDraws) -> torch.Tensor:
    """ln of w_ik q(x_ik) / p(x_ik), (n, k); no gradients."""
    flat = draws.x.flatten(0, 1)
    with torch.no_grad():
        log_q = torch.cat([log_density(flow, part) for part in flat.split(_CHUNK)])
    return log_q.view(draws.log_weight.shape) + draws.log_weight


def log_evidence(flow, draws: PosteriorDraws) -> torch.Tensor:
    """ln of each galaxy's evidence under the population over that under the prior, (n,)."""
    return mean_evidence(evidence_terms(flow, draws))


def mean_evidence(terms: torch.Tensor) -> torch.Tensor:
    """ln of the mean over draws, (n,), of terms (n, k)."""
    return torch.logsumexp(terms, 1) - float(np.log(terms.shape[1]))


def median_effective(terms: torch.Tensor) -> float:
    """Effective draws, (sum r)^2 / sum r^2, of the median galaxy, from ln r (n, k)."""
    share = torch.softmax(terms, 1)
    return (1.0 / (share**2).sum(1)).median().item()

"""Posterior draws that follow the population: chains of every galaxy under the exact likelihood and the flow as it is.

Draws under the training prior become few effective ones as the population sharpens: the mean over k of q / p cannot
grow beyond k. Where the photometry is at hand, the draws are moved instead, by Metropolis steps whose target is the
galaxy's likelihood times q, along differences of its draws under the training prior (ter Braak & Vrugt 2008), all coordinates or
some. The gradient is then that of ln q at the chains' places (Fisher's identity), as in stochastic EM.
"""

import numpy as np
import torch

from popcat.population.flow import log_density
from popcat.population.hierarchical import HierarchicalLoss, PosteriorDraws
from popcat.population.settings import PopulationSettings
from popcat.population.space import W_MAX
from popcat.population.synthesis import Synthesis
from popcat.population.wasserstein import Galaxies

_STRIDES = (0.05, 0.15, 0.4, 1.0)
_JITTER = 0.02


class ChainLoss(HierarchicalLoss):
    """The loss of a step on renewed draws; its score is another's, as chains have no evidence."""

    def __init__(self, flow, draws: PosteriorDraws, galaxies: Galaxies, settings: PopulationSettings, seed: int,
                 synthesis: Synthesis):  # fmt: skip
        super().__init__(flow, draws, settings, seed, synthesis)
        self.photometry, self.space = synthesis.photometry, synthesis.space
        self.pool, self.flux, self.err = draws.x, galaxies.flux[:, None], galaxies.err[:, None]
        n_chain = min(settings.chains, draws.x.shape[1])
        self.at = draws.x[:, :n_chain].clone()
        self.log_like = torch.full(self.at.shape[:2], float("nan"), dtype=torch.float64)
        self.accepted = []

    def loss(self, step: int) -> torch.Tensor:
        """-ln q at the chains of a random few galaxies, after they have moved; and the share beyond the cuts."""
        random = torch.Generator().manual_seed(1_000_003 * (self.seed + 1) + 700_001 + step)
        rows = torch.randint(len(self.at), (self.settings.galaxies,), generator=random).unique()
        self._move(rows, random)
        loss = -log_density(self.flow, self.at[rows].flatten(0, 1)).mean()
        return loss if self.synthesis is None else loss + self._unseen(random)

    def state(self) -> dict[str, torch.Tensor]:
        """Where the chains are."""
        return {"chains": self.at, "log_like": self.log_like}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Put the chains there."""
        self.at, self.log_like = state["chains"], state["log_like"]

    @torch.no_grad()
    def _move(self, rows: torch.Tensor, random: torch.Generator) -> None:
        at, like = self.at[rows], self.log_like[rows]
        like = torch.where(torch.isnan(like), self._likelihood(at, rows), like) if torch.isnan(like).any() else like
        log_q = self._log_q(at)
        for _ in range(self.settings.moves):
            there = self._proposal(at, rows, random)
            inside = (there.abs() <= W_MAX).all(-1)
            there = torch.where(inside[..., None], there, at)
            new_like, new_q = self._likelihood(there, rows), self._log_q(there)
            ratio = new_like + new_q - like - log_q
            taken = inside & (torch.log(torch.rand(ratio.shape, generator=random)) < ratio)
            at = torch.where(taken[..., None], there, at)
            like, log_q = torch.where(taken, new_like, like), torch.where(taken, new_q, log_q)
            self.accepted.append(taken.float().mean().item())
        self.at[rows], self.log_like[rows] = at, like

    def _proposal(self, at, rows, random):
        """A step along the difference of two stored draws, in all coordinates or a random half of them."""
        b, c, d = at.shape
        pool, k = self.pool[rows], self.pool.shape[1]
        pair = torch.randint(k, (2, b, c), generator=random)
        first, second = (pool.gather(1, one[..., None].expand(-1, -1, d)) for one in pair)
        stride = torch.tensor(_STRIDES)[torch.randint(len(_STRIDES), (b, c, 1), generator=random)]
        moving = (torch.rand(b, c, d, generator=random) < 0.5) | (torch.rand(b, c, 1, generator=random) < 0.5)
        step = stride * (first - second) + _JITTER * torch.randn(b, c, d, generator=random)
        return at + moving * step

    def _log_q(self, x):
        return log_density(self.flow, x.flatten(0, 1)).view(x.shape[:2]).double()

    def _likelihood(self, x, rows):
        """ln of the likelihood (b, c), up to a constant of each galaxy."""
        theta, redshift = self.space.arrays(x.flatten(0, 1))
        model = self.photometry.flux(theta, redshift).reshape(*x.shape[:2], -1)
        chi2 = (((model - self.flux[rows.numpy()]) / self.err[rows.numpy()]) ** 2).sum(-1)
        return torch.from_numpy(np.asarray(-0.5 * chi2))

"""The Wasserstein route (PopSED, Li et al. 2023): synthetic photometry of the flow's draws is made like the observed.

Each step draws fresh galaxies and noise with which they pass the survey's cuts, computes fluxes through the
differentiable forward model, weighs them with the chance of such noise, and moves the flow along the gradient of the
distance.
"""

from dataclasses import dataclass

import numpy as np
import torch

from popcat.population.distance import Quantiles, Scaling, directions, sampling_floor, sinkhorn
from popcat.population.flow import draw
from popcat.population.settings import PopulationSettings
from popcat.population.synthesis import Observed, Synthesis

_RARE = 0.1
"""A chance to be observed below which it has no gradient: along it galaxies far beyond the cut would move towards it,
where they count for more, until none were left of those whose rare noise makes the tails."""
_POOL = 512
"""Random directions whose data quantiles are kept: a step takes some of them."""
_SCORE_DIRECTIONS, _SCORE_DRAWS, _SCORE_SEED = 128, 20_000, 9
"""Of as many galaxies that pass the cuts: the distance of a small sample is larger, whatever it is a sample of."""
_SCORE_PILOT, _SCORE_MOST = 2000, 100_000


@dataclass(frozen=True)
class Galaxies:
    """Observed galaxies that pass the cuts: flux, err (n, n_band) in nMgy; redshift (n,), NaN where unknown."""

    flux: np.ndarray
    err: np.ndarray
    redshift: np.ndarray

    def __len__(self) -> int:
        return len(self.flux)

    def __getitem__(self, rows) -> "Galaxies":
        return Galaxies(self.flux[rows], self.err[rows], self.redshift[rows])


@dataclass(frozen=True)
class KnownRedshifts:
    """A redshift distribution as data: quantiles of the known ones over half the distance from the 16th to the 84th."""

    quantiles: Quantiles
    centre: float
    spread: float

    @classmethod
    def of(cls, galaxies: Galaxies, device: str) -> "KnownRedshifts":
        known = galaxies.redshift[np.isfinite(galaxies.redshift)]
        low, centre, high = np.percentile(known, [16, 50, 84])
        spread = max(0.5 * (high - low), 1e-6)
        scaled = torch.as_tensor((known - centre) / spread).float()[:, None]
        return cls(Quantiles(scaled, torch.ones(1, 1)).to(device), centre, spread)

    def distance(self, redshift: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """W_1 of weighted redshifts (n,), in units of that spread."""
        return self.quantiles.distance(((redshift - self.centre) / self.spread).float()[:, None], weight)


def split(n: int, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit and rows held out, of n; the same for all members of an ensemble."""
    order = np.random.default_rng((seed, 17)).permutation(n)
    n_out = max(int(n * held_out), 1)
    return order[n_out:], order[:n_out]


class WassersteinLoss:
    """The loss of a step and the score of a look, for one member."""

    def __init__(
        self, flow, synthesis: Synthesis, galaxies: Galaxies, scaling: Scaling, settings: PopulationSettings, seed: int
    ):
        self.flow, self.synthesis, self.scaling = flow, synthesis, scaling
        self.settings, self.seed, self.device = settings, seed, synthesis.device
        fitted, held = split(len(galaxies), settings.held_out, settings.seed)
        features = features_of(galaxies, scaling)
        self.data = features[fitted]
        n_feature = features.shape[1]
        self.n_axis = n_feature
        self.quantiles = Quantiles(self.data, directions(n_feature, _POOL, seed)).to(self.device)
        held_pool = directions(n_feature, _SCORE_DIRECTIONS, _SCORE_SEED)
        self.held = Quantiles(features[held], held_pool).to(self.device)
        self.known = KnownRedshifts.of(galaxies, self.device) if settings.redshifts == "distribution" else None

    def loss(self, step: int) -> torch.Tensor:
        """The distance of fresh synthetic galaxies to the data, and the price of what lies beyond the cuts."""
        random = torch.Generator().manual_seed(1_000_003 * (self.seed + 1) + step)
        settings, progress = self.settings, step / max(self.settings.steps - 1, 1)
        n = round(_between(settings.batch, progress)) if settings.loss == "sliced" else settings.sinkhorn_batch
        seen = self._observe(n, random, self._noise_scale(progress))
        features = self.scaling(seen.flux, seen.redshift)
        weight = torch.where(seen.weight < _RARE, seen.weight.detach(), seen.weight)
        if settings.loss == "sliced":
            picked = torch.randperm(_POOL, generator=random)[: settings.projections] + self.n_axis
            which = torch.cat([torch.arange(self.n_axis), picked]).to(self.device)
            distance = self.quantiles.distance(features, weight, which, settings.power)
        else:
            rows = torch.randint(len(self.data), (n,), generator=random)
            distance = sinkhorn(features, self.data[rows].to(self.device), weight, power=settings.power,
                                blur=_between(settings.blur, progress))  # fmt: skip
        too_many = (1.0 - seen.weight.mean() - settings.max_hidden).clamp_min(0.0)
        return distance + self._off_known(seen, weight) + too_many

    def score(self) -> float:
        """Sliced W_1 to the held-out galaxies with the true noise and cuts; the same draws in every look."""
        random = torch.Generator().manual_seed(_SCORE_SEED)
        share = float(self._observe(_SCORE_PILOT, random, 1.0).weight.mean())
        if share < 1.0 / _SCORE_PILOT:
            return float("inf")
        seen = self._observe(min(int(_SCORE_DRAWS / share), _SCORE_MOST), random, 1.0)
        distance = self.held.distance(self.scaling(seen.flux, seen.redshift), seen.weight)
        return float(distance + self._off_known(seen, seen.weight))

    def _off_known(self, seen: Observed, weight: torch.Tensor):
        """Distance of the weighted redshifts to the known distribution; 0 without one."""
        return 0.0 if self.known is None else self.known.distance(seen.redshift, weight)

    def _observe(self, n, random, noise_scale):
        n_dim, n_band = self.synthesis.space.n_dim, self.synthesis.n_band
        noise = torch.randn(n, n_dim, generator=random).to(self.device)
        normals = torch.randn(n, 2 * n_band, generator=random).to(self.device)
        return self.synthesis.observe(draw(self.flow, noise), normals, hard=False, noise_scale=noise_scale)

    def _noise_scale(self, progress: float) -> float:
        first, last = self.settings.noise_scale
        return first + (last - first) * min(2.0 * progress, 1.0)


def features_of(galaxies: Galaxies, scaling: Scaling) -> torch.Tensor:
    """Features (n, n_feature) of observed galaxies."""
    return scaling(torch.as_tensor(galaxies.flux, dtype=torch.float64), torch.as_tensor(galaxies.redshift))


def floor_of(galaxies: Galaxies, scaling: Scaling) -> float:
    """The sampling floor of a catalogue: the sliced distance between its halves."""
    return sampling_floor(features_of(galaxies, scaling))


def _between(ends: tuple[float, float], progress: float) -> float:
    """From the first to the last, geometrically."""
    return ends[0] * (ends[1] / ends[0]) ** progress

"""How far synthetic photometry is from observed: features, sliced Wasserstein distance, Sinkhorn divergence.

The space is that of asinh magnitudes and the colours of neighbouring bands, each divided by its robust spread in the
data (half the distance between the 16th and the 84th percentile), and the redshift likewise where it takes part.

Sliced: the mean over directions of the one-dimensional distance, which is that of the quantile functions,
W_p^p = integral |F^-1(t) - G^-1(t)|^p dt. The data's quantiles along a fixed pool of directions are computed once, so
that a step costs the same whatever the number of galaxies; the synthetic galaxies are weighted by the selection.

The Wasserstein route (PopSED, Li et al. 2023): synthetic photometry of the flow's draws is made like the observed.

Each step draws fresh galaxies and noise with which they pass the survey's cuts, computes fluxes through the
differentiable forward model, weighs them with the chance of such noise, and moves the flow along the gradient of the
distance.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from popcat.errors import PopcatError
from popcat.population.settings import PopulationSettings
from popcat.population.synthesis import Observed, Synthesis, draw
from popcat.units import POGSON

N_LEVELS = 20_001
"""Many, since between the last two of them a quantile function is straight to the farthest galaxy."""
_MAX_DATA = 200_000
"""Galaxies whose quantiles are taken; the error of a quantile is then a quarter of that of the largest batch."""
_DIRECTIONS_AT_ONCE = 16


@dataclass(frozen=True)
class Scaling:
    """Features of photometry: (value - centre) / spread, (n, n_feature).

    softening : (n_band,) nMgy, of the asinh magnitudes. has_redshift : whether it is the last feature.
    """

    softening: np.ndarray
    centre: np.ndarray
    spread: np.ndarray
    has_redshift: bool = False

    def __call__(self, flux: torch.Tensor, redshift: torch.Tensor | None = None) -> torch.Tensor:
        """Features of fluxes (n, n_band) in nMgy, in single precision."""
        softening = torch.as_tensor(self.softening, device=flux.device)
        values = _raw(flux, softening, redshift if self.has_redshift else None)
        centre, spread = (torch.as_tensor(part, device=flux.device) for part in (self.centre, self.spread))
        return ((values - centre) / spread).float()

    def names(self, bands: tuple[str, ...]) -> list[str]:
        """Names of the features."""
        colours = [f"{a}-{b}" for a, b in pairwise(bands)]
        return [*bands, *colours, *(["redshift"] if self.has_redshift else [])]

    def to_dict(self, bands: tuple[str, ...]) -> dict:
        """As JSON can hold it."""
        arrays = {name: getattr(self, name).tolist() for name in ("softening", "centre", "spread")}
        return {"names": self.names(bands), **arrays, "has_redshift": self.has_redshift}

    @classmethod
    def from_dict(cls, stored: dict) -> "Scaling":
        softening, centre, spread = (np.array(stored[name], dtype=float) for name in ("softening", "centre", "spread"))
        return cls(softening, centre, spread, has_redshift=bool(stored["has_redshift"]))


def fit_scaling(flux: np.ndarray, err: np.ndarray, redshift: np.ndarray | None = None) -> Scaling:
    """Softening: the median error of each band; centre and spread: median and 16-84% half-width of each feature."""
    softening = np.median(err, axis=0)
    z = None if redshift is None else torch.as_tensor(redshift)
    values = _raw(torch.as_tensor(np.asarray(flux, dtype=float)), torch.as_tensor(softening), z).numpy()
    low, centre, high = np.percentile(values, [16, 50, 84], axis=0)
    return Scaling(softening, centre, np.maximum(0.5 * (high - low), 1e-6), redshift is not None)


def _raw(flux, softening, redshift):
    mags = 22.5 - POGSON * (torch.asinh(flux / (2.0 * softening)) + torch.log(softening))
    columns = [mags, mags[:, :-1] - mags[:, 1:]]
    return torch.cat(columns if redshift is None else [*columns, redshift[:, None].to(mags)], 1)


def directions(n_feature: int, n_random: int, seed: int) -> torch.Tensor:
    """Unit vectors (n_feature + n_random, n_feature): the features themselves, and random ones."""
    random = torch.randn(n_random, n_feature, generator=torch.Generator().manual_seed(seed))
    return torch.cat([torch.eye(n_feature), random / random.norm(dim=1, keepdim=True)])


class Quantiles:
    """Quantile functions of a data set along a pool of directions, (n_direction, N_LEVELS)."""

    def __init__(self, features: torch.Tensor, pool: torch.Tensor):
        if len(features) == 0:
            raise PopcatError("no galaxy is left to compare with: check the cuts and the survey's bands")
        step = -(-len(features) // _MAX_DATA)
        self.pool = pool
        levels = np.linspace(0.0, 1.0, N_LEVELS)
        at = (np.arange(len(features[::step])) + 0.5) / len(features[::step])
        rows = [np.interp(levels, at, np.sort((features[::step] @ one).numpy())) for one in pool]
        self.values = torch.tensor(np.array(rows), dtype=torch.float32)

    def to(self, device: str) -> "Quantiles":
        self.pool, self.values = self.pool.to(device), self.values.to(device)
        return self

    def distance(
        self, features: torch.Tensor, weight: torch.Tensor, which: torch.Tensor | None = None, power: int = 1
    ) -> torch.Tensor:
        """Mean over directions (all, or those of numbers `which`) of W_p^p to weighted features (n, n_feature)."""
        pool, values = (self.pool, self.values) if which is None else (self.pool[which], self.values[which])
        along, order = torch.sort((features @ pool.t()).t(), dim=1)
        share = (weight.to(along) / weight.sum().clamp_min(1e-12).to(along))[order]
        level = torch.cumsum(share, 1) - 0.5 * share
        target = interpolate_levels(values, level)
        return (share * (along - target).abs() ** power).sum(1).mean()


def interpolate_levels(values: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """Rows of quantile functions at levels in (0, 1), linear between equidistant levels; differentiable in both."""
    at = level.clamp(0.0, 1.0) * (values.shape[1] - 1)
    i = at.detach().long().clamp(0, values.shape[1] - 2)
    low, high = values.gather(1, i), values.gather(1, i + 1)
    return low + (high - low) * (at - i)


def sinkhorn(x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor, *, blur: float, power: int = 1) -> torch.Tensor:
    """Sinkhorn divergence (geomloss; Feydy et al. 2019) of weighted x (n, d) from y (m, d)."""
    from geomloss import SamplesLoss

    loss = SamplesLoss("sinkhorn", p=power, blur=blur, backend="tensorized")
    share = (weight / weight.sum().clamp_min(1e-12)).to(x)
    return loss(share, x, torch.full((len(y),), 1.0 / len(y), dtype=x.dtype, device=x.device), y)


def sliced_distance(x: torch.Tensor, y: torch.Tensor, *, n_random: int = 256, seed: int = 1) -> float:
    """Sliced W_1 between two sets of features, (n, d) and (m, d): along a direction the integral of |F - G|."""
    both, total = torch.cat([x, y]), 0.0
    pool = directions(y.shape[1], n_random, seed)
    for some in pool.split(_DIRECTIONS_AT_ONCE):
        along, order = torch.sort(some @ both.t(), dim=1)
        step = torch.where(order < len(x), 1.0 / len(x), -1.0 / len(y)).double()
        total += (torch.cumsum(step, 1)[:, :-1].abs() * torch.diff(along, dim=1)).sum().item()
    return total / len(pool)


def sampling_floor(features: torch.Tensor, *, n_random: int = 256, seed: int = 1) -> float:
    """Sliced W_1 between two random halves of a data set: what a perfect population would have at that size."""
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
    half = len(features) // 2
    return sliced_distance(features[order[:half]], features[order[half : 2 * half]], n_random=n_random, seed=seed)


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
    """The loss of a step and the score of a validation, for one member."""

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
        """Sliced W_1 to the held-out galaxies with the true noise and cuts; the same draws each time."""
        random = torch.Generator().manual_seed(_SCORE_SEED)
        share = float(self._observe(_SCORE_PILOT, random, 1.0).weight.mean())
        if share < 1.0 / _SCORE_PILOT:
            return float("inf")
        seen = self._observe(min(int(_SCORE_DRAWS / share), _SCORE_MOST), random, 1.0)
        distance = self.held.distance(self.scaling(seen.flux, seen.redshift), seen.weight)
        return float(distance + self._off_known(seen, seen.weight))

    def noise(self) -> float:
        """The score that sampling noise alone would give: of the galaxies that are fitted."""
        some = self.data[:_SCORE_DRAWS].to(self.device)
        return float(self.held.distance(some, torch.ones(len(some), device=self.device)))

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

"""How far synthetic photometry is from observed: features, sliced Wasserstein distance, Sinkhorn divergence.

The space is that of asinh magnitudes and the colours of neighbouring bands, each divided by its robust spread in the
data (half the distance between the 16th and the 84th percentile), and the redshift likewise where it takes part.

Sliced: the mean over directions of the one-dimensional distance, which is that of the quantile functions,
W_p^p = integral |F^-1(t) - G^-1(t)|^p dt. The data's quantiles along a fixed pool of directions are computed once, so
that a step costs the same whatever the number of galaxies; the synthetic galaxies are weighted by the selection.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from popcat.errors import PopcatError

_POGSON = float(2.5 / np.log(10.0))
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
        arrays = (np.array(stored[name], dtype=float) for name in ("softening", "centre", "spread"))
        return cls(*arrays, has_redshift=bool(stored["has_redshift"]))


def fit_scaling(flux: np.ndarray, err: np.ndarray, redshift: np.ndarray | None = None) -> Scaling:
    """Softening: the median error of each band; centre and spread: median and 16-84% half-width of each feature."""
    softening = np.median(err, axis=0)
    z = None if redshift is None else torch.as_tensor(redshift)
    values = _raw(torch.as_tensor(np.asarray(flux, dtype=float)), torch.as_tensor(softening), z).numpy()
    low, centre, high = np.percentile(values, [16, 50, 84], axis=0)
    return Scaling(softening, centre, np.maximum(0.5 * (high - low), 1e-6), redshift is not None)


def _raw(flux, softening, redshift):
    mags = 22.5 - _POGSON * (torch.asinh(flux / (2.0 * softening)) + torch.log(softening))
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

"""A survey's selection: cuts on observed magnitudes and signal-to-noise ratios, hard for data, smooth for gradients."""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch

from popcat.errors import PopcatError, did_you_mean
from popcat.units import AB_ZERO_NMGY

_TEXT = re.compile(r"^\s*(sn_)?([A-Za-z][A-Za-z0-9]*)\s*([<>])\s*(-?(?:\d+\.?\d*|\.\d+))\s*$")
_REMOTE, _TINY = 20.0, 1e-290
"""Standard deviations beyond which a galaxy has no chance to pass; a chance that is none."""
_NO_EDGE, _SHARPEST = 1e30, 1e-8
"""nMgy: infinity, and a cut without width, would have no gradient."""


@dataclass(frozen=True)
class Cut:
    """One condition on an observed quantity of a band: its AB magnitude, or flux / error.

    keeps : "below" or "above" the limit.
    """

    band: str
    quantity: Literal["mag", "sn"]
    keeps: Literal["below", "above"]
    limit: float

    def __str__(self) -> str:
        name = self.band if self.quantity == "mag" else f"sn_{self.band}"
        return f"{name}{'<' if self.keeps == 'below' else '>'}{self.limit:g}"

    @property
    def keeps_bright(self) -> bool:
        """Whether it is the faint galaxies that fail."""
        return (self.quantity == "mag") == (self.keeps == "below")


@dataclass(frozen=True)
class Cuts:
    """All cuts of a survey; a galaxy is observed if it passes every one.

    bands : names of the flux columns, in their order.
    """

    bands: tuple[str, ...]
    cuts: tuple[Cut, ...] = ()

    @property
    def end_faint(self) -> bool:
        """Whether the survey has galaxies that are too faint for it."""
        return any(cut.keeps_bright for cut in self.cuts)

    def passes(self, flux: np.ndarray | torch.Tensor, err: np.ndarray | torch.Tensor) -> np.ndarray:
        """Whether galaxies are observed, (n,) bool."""
        flux, err = torch.as_tensor(flux), torch.as_tensor(err)
        passing = torch.ones(len(flux), dtype=torch.bool, device=flux.device)
        for i in self._cut_bands:
            low, high = self._interval(i, err[:, i])
            passing &= (flux[:, i] > low) & (flux[:, i] < high)
        return passing.cpu().numpy()

    def probability(self, flux: torch.Tensor, err: torch.Tensor) -> torch.Tensor:
        """Chance (n,) that galaxies with these noise-free fluxes are observed: each band's cuts over its own noise."""
        return self.observed(flux, err, torch.zeros_like(flux))[1]

    def observed(
        self, flux: torch.Tensor, err: torch.Tensor, normals: torch.Tensor, *, scale: float = 1.0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Fluxes (n, n_band) that pass, and the chance (n,) that they do; smooth in the noise-free flux.

        The noise of a band with cuts is a normal number cut off where the galaxy would fail, so that every galaxy has
        a share in what is observed, however rarely noise brings it in: weighted with the chance, the fluxes are
        distributed like those of galaxies that were thrown at the cuts one by one.

        Parameters
        ----------
        normals : (n, n_band), standard normal; of a galaxy far from every cut they are its noise in units of err
        scale : of the noise, in units of err
        """
        flux, err, normals = flux.double(), err.double(), normals.double()
        noise = normals * scale * err
        chance = torch.ones_like(flux[:, 0])
        for i in self._cut_bands:
            low, high = self._interval(i, err[:, i])
            sigma = (scale * err[:, i]).clamp_min(_SHARPEST)
            z, passing = _truncated((low - flux[:, i]) / sigma, (high - flux[:, i]) / sigma, normals[:, i])
            noise = torch.cat([noise[:, :i], (z * sigma)[:, None], noise[:, i + 1 :]], 1)
            chance = chance * passing
        return flux + noise, chance

    @property
    def _cut_bands(self) -> list[int]:
        return sorted({self.bands.index(cut.band) for cut in self.cuts})

    def _interval(self, i: int, err: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Between which observed fluxes in nMgy galaxies with these errors (n,) pass all cuts of band i."""
        low, high = torch.full_like(err, -_NO_EDGE), torch.full_like(err, _NO_EDGE)
        for cut in self.cuts:
            if cut.band != self.bands[i]:
                continue
            flux = 10 ** (0.4 * (AB_ZERO_NMGY - cut.limit))
            edge = torch.full_like(err, flux) if cut.quantity == "mag" else cut.limit * err
            if cut.keeps_bright:
                low = torch.maximum(low, edge)
            else:
                high = torch.minimum(high, edge)
        return low, high

    def to_list(self) -> list[dict]:
        """As JSON can hold it."""
        return [asdict(cut) for cut in self.cuts]


def _truncated(low: torch.Tensor, high: torch.Tensor, normal: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Standard normal numbers (n,) between low and high, made of unbounded ones, and the chance of that interval."""
    # the lower tail is the one that double precision can resolve
    sign = torch.where(low + high > 0, -1.0, 1.0)
    a, b = torch.where(sign > 0, low, -high), torch.where(sign > 0, high, -low).clamp_min(-_REMOTE)
    below = _normal_cdf(a)
    passing = (_normal_cdf(b) - below).clamp_min(_TINY)
    level = (below + _normal_cdf(sign * normal) * passing).clamp(_TINY, 1.0 - 1e-16)
    return sign * torch.special.ndtri(level), passing


def _normal_cdf(x: torch.Tensor) -> torch.Tensor:
    # torch.special.ndtr loses its digits in the lower tail: 2% at -8
    return 0.5 * torch.erfc(-x / 2.0**0.5)


def parse_cuts(texts: Iterable[str], bands: tuple[str, ...]) -> Cuts:
    """Cuts such as "r<19.8" (a magnitude) and "sn_u>3" (flux / error).

    Raises PopcatError for another form or an unknown band.

    >>> [str(cut) for cut in parse_cuts(["r < 19.8", "sn_u>3"], ("u", "g", "r")).cuts]
    ['r<19.8', 'sn_u>3']
    """
    cuts = []
    for text in texts:
        found = _TEXT.match(text)
        if not found:
            raise PopcatError(f'cut "{text}": expected a band and a limit, such as "r<19.8" or "sn_u>3"')
        is_sn, band, sign, limit = found.groups()
        if band not in bands:
            raise PopcatError(f'cut "{text}": no band "{band}"; {did_you_mean(band, bands)}')
        if is_sn and float(limit) <= 0:
            raise PopcatError(f'cut "{text}": expected a positive signal-to-noise ratio')
        cuts.append(Cut(band, "sn" if is_sn else "mag", "below" if sign == "<" else "above", float(limit)))
    return Cuts(tuple(bands), tuple(cuts))

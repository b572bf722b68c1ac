"""A survey's selection: cuts on observed magnitudes and signal-to-noise ratios, hard for data, smooth for gradients."""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch

from popcat.errors import PopcatError, did_you_mean
from popcat.units import AB_ZERO_NMGY

_POGSON = float(2.5 / np.log(10.0))
_TEXT = re.compile(r"^\s*(sn_)?([A-Za-z][A-Za-z0-9]*)\s*([<>])\s*(-?[0-9.]+)\s*$")
# A flux of zero or less is fainter than any cut: magnitude 42.
_FAINTEST = 1e-8


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

    def margin(self, flux: torch.Tensor, err: torch.Tensor) -> torch.Tensor:
        """Magnitudes by which galaxies pass, (n,); negative for those that fail."""
        if self.quantity == "mag":
            value, limit = AB_ZERO_NMGY - _POGSON * torch.log(flux.clamp_min(_FAINTEST)), self.limit
        else:
            value, limit = _POGSON * torch.log((flux / err).clamp_min(_FAINTEST)), _POGSON * float(np.log(self.limit))
        return limit - value if self.keeps == "below" else value - limit


@dataclass(frozen=True)
class Cuts:
    """All cuts of a survey; a galaxy is observed if it passes every one.

    bands : names of the flux columns, in their order.
    """

    bands: tuple[str, ...]
    cuts: tuple[Cut, ...] = ()

    def weight(self, flux: torch.Tensor, err: torch.Tensor, width: float) -> torch.Tensor:
        """Smooth selection (n,) in (0, 1) of noisy fluxes (n, n_band) in nMgy: a sigmoid `width` magnitudes wide."""
        weight = torch.ones_like(flux[:, 0])
        for cut in self.cuts:
            weight = weight * torch.sigmoid(self._margin(cut, flux, err) / width)
        return weight

    def passes(self, flux: np.ndarray | torch.Tensor, err: np.ndarray | torch.Tensor) -> np.ndarray:
        """Whether galaxies are observed, (n,) bool."""
        flux, err = torch.as_tensor(flux), torch.as_tensor(err)
        passing = torch.ones(len(flux), dtype=torch.bool, device=flux.device)
        for cut in self.cuts:
            passing &= self._margin(cut, flux, err) > 0
        return passing.cpu().numpy()

    def probability(self, flux: torch.Tensor, err: torch.Tensor) -> torch.Tensor:
        """Chance (n,) that galaxies with these noise-free fluxes are observed: each cut over its band's own noise."""
        chance = torch.ones_like(flux[:, 0])
        for cut in self.cuts:
            i = self.bands.index(cut.band)
            f, s = flux[:, i], err[:, i]
            edge = 10 ** (0.4 * (AB_ZERO_NMGY - cut.limit)) if cut.quantity == "mag" else cut.limit * s
            bright = (cut.quantity == "mag") == (cut.keeps == "below")
            chance = chance * torch.special.ndtr((f - edge) / s if bright else (edge - f) / s)
        return chance

    def _margin(self, cut: Cut, flux, err):
        i = self.bands.index(cut.band)
        return cut.margin(flux[:, i], err[:, i])

    def to_list(self) -> list[dict]:
        """As JSON can hold it."""
        return [asdict(cut) for cut in self.cuts]


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

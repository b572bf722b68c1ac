"""A survey's selection: cuts on observed magnitudes and signal-to-noise ratios, hard for data, smooth for gradients."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch

from popcat.errors import PopcatError, did_you_mean
from popcat.expressions import Expression, parse
from popcat.units import AB_ZERO_NMGY

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
        distributed like those of galaxies to which noise was added and the cuts applied one by one.

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


Side = Literal["below", "above"]
_SIDES: dict[type[ast.cmpop], Side] = {ast.Lt: "below", ast.LtE: "below", ast.Gt: "above", ast.GtE: "above"}
_OTHER_WAY: dict[Side, Side] = {"below": "above", "above": "below"}
_EXPECTED = ('expected comparisons of a band with a number joined by "and", such as "r < 19.8" or '
             '"sn_u > 3 and 14 < g < 22"')  # fmt: skip


def parse_cuts(texts: Iterable[str], bands: tuple[str, ...]) -> Cuts:
    """Cuts from conditions on magnitudes and signal-to-noise ratios; a galaxy has to pass all.

    texts : conditions of `popcat.expressions` on a band's AB magnitude ("r < 19.8") or its flux / error ("sn_u > 3"),
        either way round, joined by `and`. A limit itself has no probability, so "<" and "<=" are the same cut.

    Raises PopcatError for anything else, an unknown band, and a signal-to-noise limit that is not positive.

    >>> [str(cut) for cut in parse_cuts(["19.8 > r", "sn_u > 3 and 14 < g < 22"], ("u", "g", "r")).cuts]
    ['r<19.8', 'sn_u>3', 'g>14', 'g<22']
    """
    return Cuts(tuple(bands), tuple(cut for text in texts for cut in _cuts_of(text, tuple(bands))))


def _cuts_of(text: str, bands: tuple[str, ...]) -> list[Cut]:
    try:
        expression = parse(text)
    except PopcatError as error:
        raise PopcatError(f'cut "{text}": {_EXPECTED}') from error
    return list(_conditions(expression, expression.tree, bands))


def _conditions(expression: Expression, node: ast.expr, bands: tuple[str, ...]) -> Iterator[Cut]:
    """The cuts that a tree of comparisons and `and` stands for."""
    match node:
        case ast.BoolOp(op=ast.And(), values=parts):
            for part in parts:
                yield from _conditions(expression, part, bands)
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _SIDES for op in ops):
            for one, op, other in zip([left, *others[:-1]], ops, others, strict=True):
                yield _cut(expression, one, _SIDES[type(op)], other, bands)
        case _:
            raise PopcatError(f'cut "{expression.text}": {_EXPECTED}')


def _cut(expression: Expression, left: ast.expr, keeps: Side, right: ast.expr, bands: tuple[str, ...]) -> Cut:
    """One comparison, with the number on either side."""
    if _number(left) is not None:
        left, keeps, right = right, _OTHER_WAY[keeps], left
    limit = _number(right)
    if not isinstance(left, ast.Name) or limit is None:
        raise PopcatError(f'cut "{expression.text}": {_EXPECTED}')
    name = expression.name_of(left)
    quantity: Literal["mag", "sn"] = "mag" if name in bands or not name.startswith("sn_") else "sn"
    band = name if quantity == "mag" else name.removeprefix("sn_")
    if band not in bands:
        raise PopcatError(f'cut "{expression.text}": no band "{band}"; {did_you_mean(band, bands)}')
    if quantity == "sn" and limit <= 0:
        raise PopcatError(f'cut "{expression.text}": expected a positive signal-to-noise ratio, got {limit:g}')
    return Cut(band, quantity, keeps, limit)  # type: ignore[arg-type]  # texts of the two literals


def _number(node: ast.expr) -> float | None:
    """A finite constant, with its sign; None for anything else."""
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = _number(operand)
            return None if value is None else -value
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool) and abs(value) < _NO_EDGE:
            return float(value)
    return None

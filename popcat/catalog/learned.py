"""What photometry says of a quantity beyond the prior: a ratio of widths, and the information gained, in nats.

The prior here is that of the galaxies that pass the survey's selection: what is known of a galaxy of the catalogue
before its photometry is seen. Where its redshift is given, the prior is that at this redshift.

    ratio    p84 - p16 of the posterior over that of the prior; 1: as wide as the prior
    nats     Kullback-Leibler divergence of the posterior from the prior; 0: the prior. For Gaussians in the same place
             0.1 nats are a ratio of 0.7, and 1.8 nats a ratio of 0.1

The divergence is that of shares in bins that are equally probable under the prior, less what chance alone would give:
20 bins for 100 draws of a galaxy or more, one for 5 draws of fewer. Where nothing is learned, one galaxy of 20 has 0.08
nats with 100 draws (tests/catalog/test_learned.py). No more than ln 20 = 3.0 nats can be seen: of a narrower posterior
look at the ratio.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pydantic

from popcat.display import Displayed, listed

LITTLE = 0.1
"""Nats below which a quantity is prior-dominated: its posterior is nearly the prior."""
MANY = 2.3
"""Nats above which more may have been gained than can be seen."""
BINS, _DRAWS_PER_BIN = 20, 5
"""Bins of the prior at most, and draws of a galaxy for each."""
NEAREST = 300
"""Draws of the prior that stand for it at a given redshift."""
_STEPS = 8
"""Galaxies of nearly the same redshift share their draws of the prior: these move by an eighth of their number."""
_UNIFORM = 3.0**0.5
"""Half the width of a uniform distribution, in standard deviations."""
REDSHIFT = "redshift"
Number = Annotated[float, pydantic.Field(allow_inf_nan=False)]


class Gain(pydantic.BaseModel):
    """What is learned of a quantity: medians over galaxies of `ratio` and `nats`."""

    model_config = pydantic.ConfigDict(strict=True, frozen=True)

    ratio: Number
    nats: Number

    @property
    def is_little(self) -> bool:
        """Whether the quantity is prior-dominated: its posterior is nearly the prior."""
        return self.nats < LITTLE

    @property
    def line(self) -> str:
        """In words, for the metadata of columns; `at least` where the estimate is near the most that can be seen.

        >>> Gain(ratio=0.97, nats=0.02).line
        'prior-dominated: 0.02 nats gained, 0.97 times as wide as the prior'
        """
        how = "prior-dominated: " if self.is_little else "at least " if self.nats > MANY else ""
        return f"{how}{self.nats:.2f} nats gained, {self.ratio:.2f} times as wide as the prior"


class Learned(Displayed, pydantic.BaseModel):
    """What the photometry of a catalogue says of each quantity beyond the prior.

    prior : its name (popcat.prior.PRIORS). bands : of the survey. galaxies : of the catalogue whose posteriors were
    compared with the prior. quantities : what is learned, by name; without those that are given or fixed, as the
    redshift of a catalogue that has it.
    """

    model_config = pydantic.ConfigDict(strict=True, frozen=True)

    prior: str
    bands: list[str]
    galaxies: int = pydantic.Field(ge=1)
    quantities: dict[str, Gain]

    @property
    def little(self) -> list[str]:
        """Names of the prior-dominated quantities."""
        return [name for name, gain in self.quantities.items() if gain.is_little]

    @property
    def line(self) -> str:
        """One line for the user.

        >>> some = {"beta2": Gain(ratio=0.99, nats=0.01), "log_mstar": Gain(ratio=0.1, nats=1.8)}
        >>> Learned(prior="flat", bands=["u", "g"], galaxies=40, quantities=some).line
        'ug measure little of 1 of 2 quantities beyond the prior (flat; less than 0.1 nats in the median galaxy): beta2'
        """
        bands = "".join(self.bands) if all(len(name) == 1 for name in self.bands) else listed(self.bands, 20)
        if not self.little:
            return f"{bands} measure every quantity beyond the prior ({self.prior})"
        of = f"{len(self.little)} of {len(self.quantities)} quantities"
        return (f"{bands} measure little of {of} beyond the prior ({self.prior}; less than {LITTLE:g} nats in the "
                f"median galaxy): {', '.join(self.little)}")  # fmt: skip

    @property
    def in_short(self) -> str:
        """What the reprs of others say."""
        return f"{len(self.little)} of {len(self.quantities)} quantities are prior-dominated: {listed(self.little)}"

    def of_columns(self) -> dict[str, str]:
        """What the metadata of columns say, by quantity."""
        return {name: gain.line for name, gain in self.quantities.items()}

    def _title(self) -> str:
        return self.line

    def _facts(self) -> dict[str, str]:
        return self.of_columns()


@dataclass(frozen=True)
class PriorDraws:
    """Draws of the prior that pass the survey's selection, {name: (m,)}, the redshift among them and ascending."""

    values: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, values: Mapping[str, np.ndarray]) -> "PriorDraws":
        """Draws in any order."""
        order = np.argsort(values[REDSHIFT], kind="stable")
        return cls({name: np.asarray(column, dtype=np.float32)[order] for name, column in values.items()})

    def spans(self, redshift: np.ndarray, redshift_err: np.ndarray) -> np.ndarray:
        """First draw and end, (n, 2), of those that are the prior of galaxies: all where the redshift is unknown, NaN;
        else NEAREST of them, or more, if the redshift's error spans more."""
        z, m = self.values[REDSHIFT], len(self.values[REDSHIFT])
        n_near, step = min(NEAREST, m), max(min(NEAREST, m) // _STEPS, 1)
        err = _UNIFORM * np.nan_to_num(redshift_err)
        middle, low, high = (np.searchsorted(z, one) for one in (redshift, redshift - err, redshift + err))
        start, stop = np.minimum(middle - n_near // 2, low), np.maximum(middle + n_near // 2, high)
        start, stop = ((end + step // 2) // step * step for end in (start, stop))
        start = np.clip(start, 0, m - n_near)
        stop = np.clip(np.maximum(stop, start + n_near), n_near, m)
        free = np.isnan(redshift)
        return np.column_stack([np.where(free, 0, start), np.where(free, m, stop)])

    def gains(
        self, draws: Mapping[str, np.ndarray], redshift: np.ndarray, redshift_err: np.ndarray
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Ratio (n,) and nats (n,) by name of draws (n, k) of galaxies whose redshift is given, with an error, NaN
        where it is exact, or unknown, NaN. Both are NaN of a redshift that is given, and of a fixed parameter.
        """
        spans, of = np.unique(self.spans(redshift, redshift_err), axis=0, return_inverse=True)
        names = [name for name in draws if name in self.values]
        found = {name: (np.full(len(redshift), np.nan), np.full(len(redshift), np.nan)) for name in names}
        for number, (start, stop) in enumerate(spans):
            rows = np.flatnonzero(of.ravel() == number)
            for name in names:
                ratio, nats = gains_of(draws[name][rows], self.values[name][start:stop])
                found[name][0][rows], found[name][1][rows] = ratio, nats
        if REDSHIFT in found:
            for values in found[REDSHIFT]:
                values[~np.isnan(redshift)] = np.nan
        return found


def gains_of(draws: np.ndarray, prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ratio of widths (n,), and nats (n,), of draws (n, k) over draws of their prior (m,); NaN where that has no width.

    >>> random = np.random.default_rng(0)
    >>> ratio, nats = gains_of(0.5 * random.normal(size=(200, 100)), random.normal(size=4000))
    >>> round(float(np.median(ratio)), 1), round(float(np.median(nats)), 1)  # of Gaussians: 0.5, 0.32
    (0.5, 0.3)
    """
    n, k = draws.shape
    low, high = np.quantile(prior, [0.16, 0.84])
    if not high > low:
        return np.full(n, np.nan), np.full(n, np.nan)
    bottom, top = np.quantile(draws, [0.16, 0.84], axis=1)
    # a value that many draws of the prior share is in one bin, which is more probable than others
    asked = int(np.clip(k // _DRAWS_PER_BIN, 2, BINS))
    edges = np.unique(np.quantile(prior, np.arange(1, asked) / asked, method="inverted_cdf"))
    bins = len(edges) + 1
    share = (np.bincount(np.searchsorted(edges, prior), minlength=bins) + 0.5) / (len(prior) + 0.5 * bins)
    places = np.searchsorted(edges, draws) + bins * np.arange(n)[:, None]
    ours = np.bincount(places.ravel(), minlength=n * bins).reshape(n, bins) / k
    log_ratio = np.log(np.where(ours > 0.0, ours, 1.0)) - np.log(share)
    by_chance = ((ours > 0.0).sum(axis=1) - 1.0) / (2.0 * k) + (bins - 1.0) / (2.0 * len(prior))
    nats = np.maximum(np.sum(ours * log_ratio, axis=1) - by_chance, 0.0)
    return (top - bottom) / (high - low), np.where(np.isnan(draws).any(axis=1), np.nan, nats)


def stays_prior(gains: Mapping[str, tuple[np.ndarray, np.ndarray]], number: int = 0) -> list[str]:
    """Names of the quantities of one galaxy, by its number, that stay the prior's."""
    return [name for name, (_, nats) in gains.items() if nats[number] < LITTLE]


def medians(
    gains: Mapping[str, tuple[np.ndarray, np.ndarray]], prior: str, bands: Sequence[str]
) -> "Learned | None":
    """What a catalogue says, of ratios and nats (n,) of its galaxies by name; None without any."""
    known = {name: np.isfinite(ratio) & np.isfinite(nats) for name, (ratio, nats) in gains.items()}
    found = {name: Gain(ratio=float(np.median(ratio[known[name]])), nats=float(np.median(nats[known[name]])))
             for name, (ratio, nats) in gains.items() if known[name].any()}  # fmt: skip
    if not found:
        return None
    galaxies = max(int(one.sum()) for one in known.values())
    return Learned(prior=prior, bands=list(bands), galaxies=galaxies, quantities=found)

"""What a galaxy model's own prior says of the quantities that published laws are about: densities, by Monte Carlo.

The weights of a star-formation history have a simple prior, and a specific star-formation rate, an age or a
mass-weighted metallicity one that follows from it. It is tabulated from draws at some redshifts, the same draws at
each, so that the tables are smooth in redshift, and smoothed:

    s   log10 of the star-formation rate over 100 Myr per surviving mass, 1 / yr; below 10^-13 as 10^-13
    a   mass-weighted age over the age of the universe, given s
    Z   log10 of the mass-weighted metallicity, given a

None depends on the mass.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from popcat.forward.cosmology import CosmologyTable
from popcat.forward.star_properties import StarProperties
from popcat.physical.laws import QUENCHED_FROM
from popcat.prior import Prior

_STEP_LN1PZ = 0.1
_MIN_NODES = 3
_TOP = -7.5
"""Above the specific rate of a galaxy that formed all its stars within 100 Myr."""
_MIN_SPREAD = 1e-3
"""A summary that is narrower than this at every redshift is not free, and has no law."""
_KEPT = 5.0
"""So many draws of all values of the condition are mixed into each: no condition is without any."""


@dataclass(frozen=True)
class Axis:
    """Equidistant nodes."""

    low: float
    high: float
    n: int

    @property
    def nodes(self) -> np.ndarray:
        return np.linspace(self.low, self.high, self.n)

    @property
    def step(self) -> float:
        return (self.high - self.low) / (self.n - 1)

    @property
    def widths(self) -> np.ndarray:
        """Of the cells around the nodes, which are the weights of the trapezoidal rule."""
        width = np.full(self.n, self.step)
        width[[0, -1]] *= 0.5
        return width

    def place(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The node below and the fraction of a step above it; beyond the ends, the ends."""
        at = np.clip((x - self.low) / self.step, 0.0, self.n - 1 - 1e-9)
        below = at.astype(np.int64)
        return below, at - below


class Summaries(NamedTuple):
    """What the laws of star formation and metallicity are about, each (n,), of galaxies whatever their mass."""

    log_survived: np.ndarray
    """log10 of the surviving mass per mass formed."""
    s: np.ndarray
    a: np.ndarray
    z: np.ndarray


def summarise(stars: StarProperties, cosmology: CosmologyTable, theta: np.ndarray, redshift: np.ndarray) -> Summaries:
    """Of theta (n, d) at redshift (n,)."""
    out = stars(np.ascontiguousarray(theta, dtype=float), np.ascontiguousarray(redshift, dtype=float))
    rate = np.maximum(out[:, 1] / out[:, 0], 10.0**QUENCHED_FROM)
    age = out[:, 4] / cosmology.age(redshift)
    return Summaries(np.log10(out[:, 0]), np.log10(rate), age, np.log10(out[:, 3]))


def redshift_axis(redshift_range: tuple[float, float]) -> Axis:
    """In ln(1 + z)."""
    low, high = np.log1p(redshift_range)
    return Axis(float(low), float(high), max(int(np.ceil((high - low) / _STEP_LN1PZ)) + 1, _MIN_NODES))


@dataclass(frozen=True)
class Induced:
    """Parts of the draws by node: of s (n_z, n_s), of a given s (n_z, n_given, n_a), and of Z given a (n_z, n_given,
    n_Z); `given_s` and `given_a` are the axes of the conditions. draws : the summaries, one a redshift.
    """

    redshift: Axis
    s: Axis
    a: Axis
    z: Axis
    given_s: Axis
    given_a: Axis
    count_s: np.ndarray
    count_a: np.ndarray
    count_z: np.ndarray
    draws: list[Summaries]

    @property
    def is_free(self) -> dict[str, bool]:
        """Whether s, a and z have a spread."""
        return {name: any(float(np.std(getattr(one, name))) > _MIN_SPREAD for one in self.draws) for name in "saz"}


def induce(
    prior: Prior, stars: StarProperties, cosmology: CosmologyTable, redshift: Axis, n: int, seed: int
) -> Induced:
    """From n draws of the galaxy model's prior at each redshift."""
    theta = prior.from_unit(np.random.default_rng((seed, 71)).uniform(size=(n, prior.n_unconstrained)))
    draws = [summarise(stars, cosmology, theta, np.full(n, z)) for z in np.expm1(redshift.nodes)]
    s, a = Axis(QUENCHED_FROM, _TOP, 111), Axis(0.0, 1.0, 41)
    ends = min(one.z.min() for one in draws), max(one.z.max() for one in draws)
    z = Axis(float(ends[0]) - 1e-6, float(ends[1]) + 1e-6, 41)
    given_s, given_a = Axis(s.low, s.high, 56), Axis(0.0, 1.0, 11)
    count_s = np.stack([_count(s, one.s) for one in draws])
    count_a = np.stack([_count_given(given_s, one.s, a, one.a) for one in draws])
    count_z = np.stack([_count_given(given_a, one.a, z, one.z) for one in draws])
    return Induced(redshift, s, a, z, given_s, given_a, count_s, count_a, count_z, draws)


def _count(axis: Axis, x: np.ndarray) -> np.ndarray:
    """The part of x at each node, shared between the two next to it: (n,)."""
    below, f = axis.place(x)
    return (np.bincount(below, 1.0 - f, axis.n) + np.bincount(below + 1, f, axis.n)) / len(x)


def _count_given(given: Axis, c: np.ndarray, axis: Axis, x: np.ndarray) -> np.ndarray:
    """The part of x at each node given c at its nodes, (n_given, n): 1 a row."""
    (i, f), (j, g) = given.place(c), axis.place(x)
    count = np.zeros(given.n * axis.n)
    for di, wi in ((0, 1.0 - f), (1, f)):
        for dj, wj in ((0, 1.0 - g), (1, g)):
            count += np.bincount((i + di) * axis.n + j + dj, wi * wj, len(count))
    found = count.reshape(given.n, axis.n)
    found = found + _KEPT * found.sum(axis=0) / found.sum()
    return found / found.sum(axis=1, keepdims=True)


def density_of(axis: Axis, count: np.ndarray) -> np.ndarray:
    """Smoothed density (..., n) of what `Induced` counts."""
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(count / axis.widths, 1.0, axis=-1, mode="nearest")

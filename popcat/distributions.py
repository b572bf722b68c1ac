"""Distributions that a parameter's prior may have, as TOML names them; each on a range, outside which it is zero.

    [priors.n_dust]
    family = "normal"           # cut off at the ends of the range
    mean = -0.5
    sigma = 0.4                 # more examples: docs/howto/priors.md
"""

from abc import abstractmethod
from functools import cached_property, lru_cache
from typing import Annotated, Literal

import numpy as np
import pydantic
from scipy.special import ndtr, ndtri

from popcat.errors import PopcatError, did_you_mean
from popcat.settings import Settings, ascending

_LN_10 = float(np.log(10.0))
_N_FINE = 20_001


class Distribution(Settings):
    """What all families have: a range, and a law on it."""

    low: float | None = None
    """Lower end of the range; by default that of the parameter."""
    high: float | None = None
    """Upper end of the range; by default that of the parameter."""

    @pydantic.model_validator(mode="after")
    def _ordered(self):
        if self.low is not None and self.high is not None:
            ascending("low to high", self.low, self.high)
        return self

    def range(self, low: float, high: float) -> tuple[float, float]:
        """Its range, where the parameter's own is low to high."""
        return low if self.low is None else self.low, high if self.high is None else self.high

    def outside(self, low: float, high: float) -> float:
        """The part of its mass beyond low to high, before it was cut off."""
        return 0.0

    @abstractmethod
    def log_density(self, x: np.ndarray, low: float, high: float) -> np.ndarray:
        """ln of the density at x, all within low to high, normalised there."""

    def quantile(self, normal: np.ndarray, low: float, high: float) -> np.ndarray:
        """Where, of the mass within low to high, as much is below as of a standard normal distribution below `normal`.

        By the density, integrated numerically.
        """
        x = np.linspace(low, high, _N_FINE)
        return tabulated_quantile(ndtr(normal), x, np.exp(self.log_density(x, low, high)))


def tabulated_quantile(u: np.ndarray, x: np.ndarray, density: np.ndarray) -> np.ndarray:
    """Where a density that is tabulated at ascending x, in any unit, has the part u of its mass below (trapezoids).

    >>> tabulated_quantile(np.array([0.5]), np.array([0.0, 1.0, 2.0]), np.ones(3)).tolist()
    [1.0]
    """
    below = np.concatenate([[0.0], np.cumsum(0.5 * np.diff(x) * (density[1:] + density[:-1]))])
    rising = np.concatenate([[True], np.diff(below) > 0.0])
    return np.interp(u, below[rising] / below[-1], x[rising])


class Uniform(Distribution):
    """The same density everywhere."""

    family: Literal["uniform"] = "uniform"

    def log_density(self, x, low, high):
        return np.full(np.shape(x), -np.log(high - low))

    def quantile(self, normal, low, high):
        return low + (high - low) * ndtr(normal)


class LogUniform(Distribution):
    """Uniform in the logarithm: density in proportion to 1 / x."""

    family: Literal["log_uniform"]

    def log_density(self, x, low, high):
        return -np.log(x) - np.log(np.log(high / low))

    def quantile(self, normal, low, high):
        return low * np.exp(np.log(high / low) * ndtr(normal))


class _Scipy(Distribution):
    """A distribution of scipy, cut off at the ends of the range."""

    cut: bool = False
    """For another prior than that of training: cut off at the training range, however much of it lies outside."""

    @abstractmethod
    def _law(self, low, high):
        """It, as `_scipy` gives it."""

    def outside(self, low, high):
        law = self._law(low, high)
        return float(law.cdf(low) + law.sf(high))

    def log_density(self, x, low, high):
        law = self._law(low, high)
        return law.logpdf(x) - np.log1p(-self.outside(low, high))

    def quantile(self, normal, low, high):
        law = self._law(low, high)
        inside = 1.0 - self.outside(low, high)
        lower = law.ppf(np.minimum(law.cdf(low) + inside * ndtr(normal), 1.0))
        upper = law.isf(np.minimum(law.sf(high) + inside * ndtr(-normal), 1.0))
        return np.where(normal < 0.0, lower, upper)  # each end with its own digits


def _scipy(name: str, *shape: float):
    """A distribution of scipy.stats, which takes half a second to import: only who uses one shall wait for it."""
    import scipy.stats

    return getattr(scipy.stats, name)(*shape)


class Normal(_Scipy):
    """A Gaussian."""

    family: Literal["normal"]
    mean: float
    sigma: float = pydantic.Field(gt=0.0)

    def _law(self, low, high):
        return _scipy("norm", self.mean, self.sigma)


class StudentT(_Scipy):
    """Student's t, of `df` degrees of freedom."""

    family: Literal["student_t"]
    df: float = pydantic.Field(default=2.0, gt=0.0)
    mean: float = 0.0
    scale: float = pydantic.Field(gt=0.0)

    def _law(self, low, high):
        return _scipy("t", self.df, self.mean, self.scale)


class Exponential(_Scipy):
    """exp(-(x - low) / scale)."""

    family: Literal["exponential"]
    scale: float = pydantic.Field(gt=0.0)

    def _law(self, low, high):
        return _scipy("expon", low, self.scale)


class Beta(_Scipy):
    """Beta(a, b) of the place in the range."""

    family: Literal["beta"]
    a: float = pydantic.Field(gt=0.0)
    b: float = pydantic.Field(gt=0.0)

    def _law(self, low, high):
        return _scipy("beta", self.a, self.b, low, high - low)


class _Numeric(Distribution):
    """A distribution that is normalised numerically."""

    @abstractmethod
    def log_shape(self, x) -> np.ndarray:
        """ln of the density but for a constant."""

    def log_density(self, x, low, high):
        return self.log_shape(x) - _log_integral(self, low, high)


@lru_cache(maxsize=64)
def _log_integral(family: _Numeric, low: float, high: float) -> float:
    """ln of the integral of exp(log_shape) from low to high."""
    fine = np.linspace(low, high, _N_FINE)
    values = family.log_shape(fine)
    top = values.max()
    return float(top + np.log(np.trapezoid(np.exp(values - top), fine)))


class Schechter(_Numeric):
    """Schechter's function of a logarithm of mass: 10^((alpha + 1) (x - log_mass)) exp(-10^(x - log_mass))."""

    family: Literal["schechter"]
    log_mass: float
    alpha: float

    def log_shape(self, x):
        mass = _LN_10 * (x - self.log_mass)
        return (self.alpha + 1.0) * mass - np.exp(np.minimum(mass, 50.0))


class Volume(_Numeric):
    """Of the redshift: so many galaxies in every comoving volume, dV / dz of a named cosmology of astropy."""

    family: Literal["volume"]
    cosmology: str = "Planck13"

    def log_shape(self, x):
        z, volume = _volume(self.cosmology)
        with np.errstate(divide="ignore"):  # none at z = 0
            return np.log(np.interp(x, z, volume))


class Table(Distribution):
    """Linear between nodes x, zero outside; its range is where it is not zero."""

    family: Literal["table"]
    x: tuple[float, ...] = pydantic.Field(min_length=2)
    density: tuple[Annotated[float, pydantic.Field(ge=0.0)], ...]

    @pydantic.model_validator(mode="after")
    def _consistent(self):
        if len(self.x) != len(self.density) or any(np.diff(self.x) <= 0) or not sum(self.density) > 0:
            raise ValueError("x must ascend and density have as many values, not all zero")
        if self.low is not None or self.high is not None:
            raise ValueError("a table has no low or high: its range is that of its nodes")
        return self

    def range(self, low, high):
        there = np.flatnonzero(self.density)
        first, last = max(there[0] - 1, 0), min(there[-1] + 1, len(self.x) - 1)
        return self.x[first], self.x[last]

    def log_density(self, x, low, high):
        nodes = np.unique(np.clip([low, *self.x, high], low, high))
        norm = np.log(np.trapezoid(self._at(nodes), nodes))
        with np.errstate(divide="ignore"):
            return np.log(self._at(x)) - norm

    def _at(self, x):
        return np.interp(x, self.x, self.density, left=0.0, right=0.0)


class Fixed(Settings):
    """One value."""

    family: Literal["fixed"]
    value: float


class Tied(Settings):
    """factor times another parameter, plus offset."""

    family: Literal["tied"]
    to: str
    factor: float = 1.0
    offset: float = 0.0


class Dirichlet(Settings):
    """Of the SFH weights."""

    family: Literal["dirichlet"]
    concentration: tuple[Annotated[float, pydantic.Field(gt=0.0)], ...]


class Continuity(Settings):
    """Of the SFH weights: log10 of the ratio of each to the next has Student's t (Leja et al. 2019, ApJ 876, 3).

    For bases that are steps of equal height, whose weights are star-formation rates. `scale` 0.3 as there; 1 for bursty
    histories (Tacchella et al. 2022, ApJ 927, 170).
    """

    family: Literal["continuity"]
    scale: float = pydantic.Field(default=0.3, gt=0.0)
    df: float = pydantic.Field(default=2.0, gt=0.0)


Spread = Uniform | LogUniform | Normal | StudentT | Exponential | Beta | Schechter | Volume | Table

NORMAL = np.linspace(-8.25, 8.25, 4097)
"""Standard normal numbers between which quantiles are linear: one to one, and the same in numpy and torch."""


@lru_cache(maxsize=4)
def _volume(cosmology: str) -> tuple[np.ndarray, np.ndarray]:
    """Redshifts from 0 to 20, and dV / dz there."""
    import astropy.cosmology

    if cosmology not in astropy.cosmology.available:
        raise PopcatError(f'unknown cosmology "{cosmology}": {did_you_mean(cosmology, astropy.cosmology.available)}')
    z = np.expm1(np.linspace(0.0, np.log(21.0), 4001))
    return z, getattr(astropy.cosmology, cosmology).differential_comoving_volume(z).value


class Law:
    """The distribution of one free parameter, as a map from the unit interval or from a standard normal number.

    >>> Law(Normal(family="normal", mean=1.0, sigma=0.5), 0.0, 2.0).from_unit(np.array([0.5])).tolist()
    [1.0]
    """

    def __init__(self, family: Spread, low: float, high: float, *, within: bool = False):
        """low to high: the parameter's own range, where the family names none. `within`: cut off at its ends."""
        first, last = family.range(low, high)
        self.family = family
        self.low: float = max(first, low) if within else first
        self.high: float = min(last, high) if within else last

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Law) and (self.family, self.low, self.high) == (other.family, other.low, other.high)

    def __hash__(self) -> int:
        return hash((self.low, self.high))

    @property
    def is_uniform(self) -> bool:
        return isinstance(self.family, Uniform)

    @cached_property
    def quantiles(self) -> tuple[np.ndarray, np.ndarray]:
        """Standard normal numbers and values, both ascending; linear in between."""
        values = np.clip(self.family.quantile(NORMAL, self.low, self.high), self.low, self.high)
        return NORMAL, np.maximum.accumulate(values)

    def from_unit(self, u: np.ndarray) -> np.ndarray:
        """Values at u in [0, 1]."""
        if self.is_uniform:
            return self.low + (self.high - self.low) * u
        return np.interp(ndtri(u), *self.quantiles)

    def to_unit(self, x: np.ndarray) -> np.ndarray:
        """u of values within the range: the inverse of `from_unit`."""
        if self.is_uniform:
            return (x - self.low) / (self.high - self.low)
        normal, values = self.quantiles
        rising = np.concatenate([[True], np.diff(values) > 0.0])
        return ndtr(np.interp(x, values[rising], normal[rising]))

    def inside(self, x: np.ndarray) -> np.ndarray:
        """Values brought within the range: single precision, or rounding, may have put them beside its ends."""
        return np.clip(np.asarray(x, dtype=float), self.low, self.high)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """ln of the density at x; -inf outside the range."""
        x = np.asarray(x, dtype=float)
        inside = (x >= self.low) & (x <= self.high)
        return np.where(inside, self.family.log_density(self.inside(x), self.low, self.high), -np.inf)

"""The galaxy model's settings, and its prior.

The prior is a map between named, bounded parameters, the unit cube, and unconstrained space.

Each parameter has a CDF; the n SFH weights on the simplex have n - 1, of stick-breaking fractions. So the prior of d
parameters is uniform in the unit cube u (n, d - 1) and standard normal in w = probit(u), where flows live: no draw
leaves the prior.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pydantic
from scipy.special import ndtr, ndtri

from popcat.display import Displayed
from popcat.settings import Settings, ascending


class GalaxyModel(Displayed, Settings):
    """The galaxy model: stellar populations, bases, discretisation, dust, cosmology, prior ranges."""

    grid: str = "bc03_miles"
    """Name of an embedded SSP grid, "bc03_miles" or with nebular emission "bc03_miles_nebular", or the path of one that
    `popcat ssp build` wrote."""
    bases: str = "popcat"
    """"popcat" (embedded), "provabgs" (from an installed provabgs), a CSV file of any number of bases, or a folder of
    files named as the published ones."""
    n_sfh_bases: int = pydantic.Field(default=4, ge=1)
    """Number of star-formation-history bases that `bases` holds."""
    n_metallicity_bases: int = pydantic.Field(default=2, ge=1)
    """Number of metallicity-history bases that `bases` holds."""
    metallicity: Literal["evolving", "constant"] = "evolving"
    """A mixture of the metallicity bases, or one metallicity for all stars of a galaxy (the parameter log_z, as in
    PopSED): then the metallicity bases play no part."""
    binning: Literal["average", "midpoint"] = "average"
    """SSP averaged over each time bin, or at its midpoint as in the published PROVABGS code."""
    birth_cloud_age_gyr: float = pydantic.Field(default=0.1, ge=0.0)
    """Stars younger than this are behind tau_bc: 0.1 in the SEDflow paper, 0.01 in its released code."""
    cosmology: str = "Planck13"
    """Name of an astropy.cosmology realisation."""
    beta: Literal["flat", "provabgs_warped"] = "flat"
    """Prior of the SFH weights: the flat Dirichlet, or the warped one of the released SEDflow code."""
    log_mstar_formed: tuple[float, float] = (7.0, 12.5)

    @pydantic.model_validator(mode="after")
    def _consistent(self):
        ascending("log_mstar_formed", *self.log_mstar_formed)
        return self

    def _facts(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in type(self).model_fields}


_BURST = {"f_burst": (0.0, 1.0), "t_burst": (0.01, 13.27)}
_DUST = {"tau_bc": (0.0, 3.0), "tau_ism": (0.0, 3.0), "n_dust": (-2.0, 1.0)}
# The embedded and the published metallicity bases peak near 3: the weights reach 1.5e-2, a metallicity itself 4.5e-2,
# the range of MIST either way.
_LOG_GAMMA = (np.log10(4.5e-5), np.log10(1.5e-2))
_LOG_Z = (np.log10(4.5e-5), np.log10(4.5e-2))
# Keeps probits finite: a theta on the prior's very edge is moved by this much in probability.
_EDGE = 1e-12


@dataclass(frozen=True)
class Prior:
    """The model's prior: uniform in every parameter but the SFH weights.

    names : the d parameters, theta's columns. low, high : bounds of all but the n_sfh weights, in that order.
    stick : (n_sfh - 1,), the fractions of the stick that is left are Beta(1, b).
    """

    names: tuple[str, ...]
    low: np.ndarray
    high: np.ndarray
    stick: tuple[float, ...]

    @property
    def n_unconstrained(self) -> int:
        """Number of coordinates of the unit cube and of unconstrained space: d - 1."""
        return len(self.names) - 1

    def bounds(self, name: str) -> tuple[float, float]:
        """Least and largest value of a parameter.

        >>> make_prior(GalaxyModel()).bounds("tau_ism")
        (0.0, 3.0)
        """
        n_weights = len(self.stick) + 1
        uniform = (self.names[0], *self.names[1 + n_weights :])
        if name not in uniform:
            return 0.0, 1.0
        at = uniform.index(name)
        return float(self.low[at]), float(self.high[at])

    def from_unit(self, u: np.ndarray) -> np.ndarray:
        """theta (n, d) of points u (n, d - 1) in the unit cube.

        >>> theta = make_prior(GalaxyModel()).from_unit(np.full((1, 11), 0.5))
        >>> round(float(theta[0, 1:5].sum()), 12), float(theta[0, 9])
        (1.0, 1.5)
        """
        sticks = slice(1, 1 + len(self.stick))
        scaled = self.low + (self.high - self.low) * np.delete(u, sticks, axis=1)
        return np.column_stack([scaled[:, 0], self._beta(u[:, sticks]), scaled[:, 1:]])

    def to_unit(self, theta: np.ndarray) -> np.ndarray:
        """u (n, d - 1) of theta (n, d): the inverse of `from_unit` within the prior."""
        beta, rest = self._split(theta)
        rest = (rest - self.low) / (self.high - self.low)
        return np.column_stack([rest[:, 0], self._sticks(beta), rest[:, 1:]])

    def from_unconstrained(self, w: np.ndarray) -> np.ndarray:
        """theta (n, d) of w (n, d - 1), standard normal under the prior."""
        return self.from_unit(ndtr(w))

    def to_unconstrained(self, theta: np.ndarray) -> np.ndarray:
        """w (n, d - 1) of theta (n, d)."""
        return ndtri(np.clip(self.to_unit(theta), _EDGE, 1.0 - _EDGE))

    def contains(self, theta: np.ndarray, *, tolerance: float = 1e-9) -> np.ndarray:
        """Whether each theta lies inside the prior's support, (n,) bool; `tolerance` allows for rounding."""
        beta, rest = self._split(theta)
        inside = np.all((rest >= self.low - tolerance) & (rest <= self.high + tolerance), axis=1)
        return inside & np.all(beta >= 0.0, axis=1) & (np.abs(beta.sum(axis=1) - 1.0) < tolerance)

    def _split(self, theta):
        """The SFH weights, and everything else."""
        weights = slice(1, 2 + len(self.stick))
        return theta[:, weights], np.delete(theta, weights, axis=1)

    def _beta(self, u):
        left = np.ones(len(u))
        columns = []
        for i, b in enumerate(self.stick):
            with np.errstate(divide="ignore"):  # u = 1 takes the whole stick: log 0
                ln_after = np.log1p(-u[:, i]) / b
            columns.append(left * -np.expm1(ln_after))
            left = left * np.exp(ln_after)
        return np.column_stack([*columns, left])

    def _sticks(self, beta):
        """CDF of each stick-breaking fraction: 1 - (1 - v)^b, 1 - v the part of the stick that is left after it.

        What is left is summed from the end: 1 minus the weights before loses the digits of a small remainder.
        """
        left = np.maximum(np.cumsum(beta[:, ::-1], axis=1)[:, ::-1], 1e-300)
        return 1.0 - (left[:, 1:] / left[:, :-1]) ** np.array(self.stick)


def make_prior(settings: GalaxyModel) -> Prior:
    """The prior that the model settings name, of as many SFH and metallicity weights as there are bases.

    The n SFH weights have the flat Dirichlet prior: the fractions of the stick are Beta(1, n - 1), ..., Beta(1, 1). The
    released SEDflow code takes Beta(1, 1) throughout, which makes the means of four 1/2, 1/4, 1/8, 1/8.
    """
    n_sfh, n_zh = settings.n_sfh_bases, settings.n_metallicity_bases
    metals = [_LOG_Z] if settings.metallicity == "constant" else [_LOG_GAMMA] * n_zh
    low, high = np.array([settings.log_mstar_formed, *_BURST.values(), *metals, *_DUST.values()], dtype=float).T
    flat = tuple(float(b) for b in range(n_sfh - 1, 0, -1))
    stick = flat if settings.beta == "flat" else (1.0,) * (n_sfh - 1)
    return Prior(parameter_names(n_sfh, n_zh, settings.metallicity), low, high, stick)


def parameter_names(n_sfh: int = 4, n_zh: int = 2, metallicity: str = "evolving") -> tuple[str, ...]:
    """The parameters of a model with so many bases, in the order of theta's columns.

    >>> parameter_names(n_sfh=1, metallicity="constant")
    ('log_mstar_formed', 'beta1', 'f_burst', 't_burst', 'log_z', 'tau_bc', 'tau_ism', 'n_dust')
    """
    betas = [f"beta{k + 1}" for k in range(n_sfh)]
    metals = ["log_z"] if metallicity == "constant" else [f"log_gamma{k + 1}" for k in range(n_zh)]
    return ("log_mstar_formed", *betas, *_BURST, *metals, *_DUST)

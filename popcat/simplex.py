"""Priors of the SFH weights, which add up to one: maps between the simplex and the unit cube."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import betaincinv, betaln, expit, ndtr, ndtri

from popcat.distributions import NORMAL, Continuity, Dirichlet, Law, StudentT
from popcat.errors import PopcatError

WEIGHTS = "beta"
"""What `GalaxyModel.priors` calls all SFH weights."""
_TINY = 1e-38
"""The smallest weight, as single precision stores it."""
_MAX_LOG_RATIO = 10.0
"""Of log10 of the ratio of two weights, as in Prospector."""


@dataclass(frozen=True)
class Stick:
    """The prior of n SFH weights: fraction i of the stick that is left is Beta(a_i, b_i), (n - 1,) each."""

    a: tuple[float, ...]
    b: tuple[float, ...]

    @property
    def n_free(self) -> int:
        """Coordinates: one fewer than the weights."""
        return len(self.b)

    @property
    def names(self) -> tuple[str, ...]:
        return weight_names(self.n_free + 1)

    def from_unit(self, u: np.ndarray) -> np.ndarray:
        """Weights (n, n_weight) of u (n, n_weight - 1)."""
        left = np.ones(len(u))
        columns = []
        for i, (a, b) in enumerate(zip(self.a, self.b, strict=True)):
            if a == 1.0:
                with np.errstate(divide="ignore"):  # u = 1 takes the whole stick: log 0
                    ln_after = np.log1p(-u[:, i]) / b
                columns.append(left * -np.expm1(ln_after))
                left = left * np.exp(ln_after)
            else:
                odds = np.interp(ndtri(u[:, i]), NORMAL, log_odds(a, b))
                columns.append(left * expit(odds))
                left = left * expit(-odds)
        return np.column_stack([*columns, left])

    def to_unit(self, weights: np.ndarray) -> np.ndarray:
        """u of weights: the CDF of each fraction.

        What is left is summed from the end: 1 minus the weights before loses the digits of a small remainder.
        """
        left = np.maximum(np.cumsum(weights[:, ::-1], axis=1)[:, ::-1], 1e-300)
        after = left[:, 1:] / left[:, :-1]
        u = 1.0 - after ** np.array(self.b)
        for i in np.flatnonzero(np.array(self.a) != 1.0):
            odds = np.log(np.maximum(weights[:, i], 1e-300)) - np.log(left[:, i + 1])
            u[:, i] = ndtr(np.interp(odds, log_odds(self.a[i], self.b[i]), NORMAL))
        return u

    def log_density(self, weights: np.ndarray) -> np.ndarray:
        """ln of the density of weights (..., n_weight), per unit of the first n_weight - 1.

        What is left of the stick is the Jacobian.
        """
        left = np.maximum(np.cumsum(weights[..., ::-1], axis=-1)[..., ::-1], 1e-30)
        a, b = np.array(self.a), np.array(self.b)
        ln_after = np.log(left[..., 1:]) - np.log(left[..., :-1])
        taken = np.log(np.maximum(weights[..., :-1], 1e-30)) - np.log(left[..., :-1])
        fractions = (a - 1.0) * taken + (b - 1.0) * ln_after - betaln(a, b)
        return np.sum(fractions - np.log(left[..., :-1]), axis=-1)


@dataclass(frozen=True)
class Ratios:
    """The prior of n SFH weights: log10 of the ratio of each to the next has one distribution, n - 1 of them."""

    n_free: int
    law: Law

    @property
    def names(self) -> tuple[str, ...]:
        return weight_names(self.n_free + 1)

    def from_unit(self, u: np.ndarray) -> np.ndarray:
        """Weights (n, n_weight) of u (n, n_weight - 1)."""
        steps = np.cumsum(self.law.from_unit(u), axis=1)
        log_weight = np.column_stack([np.zeros(len(u)), -steps])
        weights = 10.0 ** (log_weight - log_weight.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def to_unit(self, weights: np.ndarray) -> np.ndarray:
        """u of weights."""
        return self.law.to_unit(self._ratios(weights))

    def log_density(self, weights: np.ndarray) -> np.ndarray:
        """ln of the density of weights (..., n_weight), per unit of the first n_weight - 1.

        The Jacobian of the logarithms of the ratios is one over the product of all weights.
        """
        jacobian = -np.sum(np.log(np.maximum(weights, _TINY)), axis=-1) - self.n_free * np.log(np.log(10.0))
        return np.sum(self.law.log_density(self._ratios(weights)), axis=-1) + jacobian

    def _ratios(self, weights):
        log_weight = np.log10(np.maximum(weights, _TINY))
        return self.law.inside(log_weight[..., :-1] - log_weight[..., 1:])


@dataclass(frozen=True)
class NoWeights:
    """Of a history that has no weights."""

    n_free: int = 0
    names: tuple[str, ...] = ()

    def from_unit(self, u: np.ndarray) -> np.ndarray:
        """None, (n, 0), of u (n, 0)."""
        return np.empty((len(u), 0))

    def to_unit(self, weights: np.ndarray) -> np.ndarray:
        """The inverse."""
        return np.empty((len(weights), 0))

    def log_density(self, weights: np.ndarray) -> np.ndarray:
        """0, of weights (..., 0)."""
        return np.zeros(weights.shape[:-1])


def weight_names(n: int) -> tuple[str, ...]:
    """Names of n SFH weights.

    >>> weight_names(2)
    ('beta1', 'beta2')
    """
    return tuple(f"{WEIGHTS}{k + 1}" for k in range(n))


def weights_prior(where: str, family: object, n: int) -> Stick | Ratios:
    """The prior of n SFH weights that a family names; `where` is the table in which it stands.

    Raises PopcatError for a family that is not of weights, or of another number of them.
    """
    if n == 0:
        raise PopcatError(f"{where}: the star-formation history has no weights: expected priors of its parameters")
    if isinstance(family, Continuity):
        law = StudentT(family="student_t", df=family.df, scale=family.scale)
        return Ratios(n - 1, Law(law, -_MAX_LOG_RATIO, _MAX_LOG_RATIO))
    if not isinstance(family, Dirichlet) or len(family.concentration) != n:
        raise PopcatError(f'{where}: the {n} SFH weights have family = "continuity", or "dirichlet" with {n} '
                          f'concentrations, one for each; got family = "{getattr(family, "family", family)}"')
    after = np.cumsum(family.concentration[::-1])[::-1]
    return Stick(family.concentration[:-1], tuple(float(b) for b in after[1:]))


@lru_cache(maxsize=64)
def log_odds(a: float, b: float) -> np.ndarray:
    """ln(v / (1 - v)) of a Beta(a, b) fraction v at the standard normal numbers NORMAL: both ends have digits."""
    taken, after = betaincinv(a, b, ndtr(NORMAL)), betaincinv(b, a, ndtr(-NORMAL))
    return np.log(np.maximum(taken, 1e-300)) - np.log(np.maximum(after, 1e-300))

"""The prior, as a map between named, bounded parameters, the unit cube, and unconstrained space.

Each parameter has a CDF; the four SFH weights on the simplex have three, of stick-breaking fractions. So the prior is
uniform in the unit cube u (n, 11) and standard normal in w = probit(u), where flows live: no draw leaves the prior.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from popcat.settings import Model

N_UNCONSTRAINED = 11

_BOUNDS = {
    "f_burst": (0.0, 1.0),
    "t_burst": (0.01, 13.27),
    "log_gamma1": (np.log10(4.5e-5), np.log10(1.5e-2)),
    "log_gamma2": (np.log10(4.5e-5), np.log10(1.5e-2)),
    "tau_bc": (0.0, 3.0),
    "tau_ism": (0.0, 3.0),
    "n_dust": (-2.0, 1.0),
}
# Fractions of the stick that is left are Beta(1, b): for the flat Dirichlet b = 3, 2, 1, so each beta has mean 1/4.
# The released SEDflow code takes b = 1 throughout, which makes the means 1/2, 1/4, 1/8, 1/8.
_STICK = {"flat": (3.0, 2.0, 1.0), "provabgs_warped": (1.0, 1.0, 1.0)}
# Keeps probits finite: a theta on the prior's very edge is moved by this much in probability.
_EDGE = 1e-12


@dataclass(frozen=True)
class Prior:
    """The model's prior: uniform in every parameter but the SFH weights.

    names : the 12 parameters, theta's columns. low, high : (8,) bounds of all but the weights, in that order.
    """

    low: np.ndarray
    high: np.ndarray
    stick: tuple[float, float, float]

    names = ("log_mstar_formed", "beta1", "beta2", "beta3", "beta4", *_BOUNDS)

    def from_unit(self, u: np.ndarray) -> np.ndarray:
        """theta (n, 12) of points u (n, 11) in the unit cube.

        >>> theta = make_prior(Model()).from_unit(np.full((1, 11), 0.5))
        >>> round(float(theta[0, 1:5].sum()), 12), float(theta[0, 9])
        (1.0, 1.5)
        """
        scaled = self.low + (self.high - self.low) * u[:, [0, 4, 5, 6, 7, 8, 9, 10]]
        beta = self._beta(u[:, 1:4])
        return np.column_stack([scaled[:, 0], beta, scaled[:, 1:]])

    def to_unit(self, theta: np.ndarray) -> np.ndarray:
        """u (n, 11) of theta (n, 12): the inverse of `from_unit` within the prior."""
        rest = (theta[:, [0, 5, 6, 7, 8, 9, 10, 11]] - self.low) / (self.high - self.low)
        return np.column_stack([rest[:, 0], self._sticks(theta[:, 1:5]), rest[:, 1:]])

    def from_unconstrained(self, w: np.ndarray) -> np.ndarray:
        """theta (n, 12) of w (n, 11), standard normal under the prior."""
        return self.from_unit(ndtr(w))

    def to_unconstrained(self, theta: np.ndarray) -> np.ndarray:
        """w (n, 11) of theta (n, 12)."""
        return ndtri(np.clip(self.to_unit(theta), _EDGE, 1.0 - _EDGE))

    def contains(self, theta: np.ndarray, *, tolerance: float = 1e-9) -> np.ndarray:
        """Whether each theta lies inside the prior's support, (n,) bool; `tolerance` allows for rounding."""
        rest = theta[:, [0, 5, 6, 7, 8, 9, 10, 11]]
        beta = theta[:, 1:5]
        inside = np.all((rest >= self.low - tolerance) & (rest <= self.high + tolerance), axis=1)
        return inside & np.all(beta >= 0.0, axis=1) & (np.abs(beta.sum(axis=1) - 1.0) < tolerance)

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


def make_prior(settings: Model) -> Prior:
    """The prior that the model settings name."""
    bounds = [settings.log_mstar_formed, *_BOUNDS.values()]
    low, high = np.array(bounds, dtype=float).T
    return Prior(low, high, _STICK[settings.beta])

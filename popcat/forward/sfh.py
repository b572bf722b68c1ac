"""Star-formation histories: the slow, obvious reference of each that the setting `history` of a galaxy model names.

Each gives the mass formed between lookback times, and the star-formation rate, in one unit that is its own: a galaxy's
history is scaled to the mass that it formed. `parameters` are the history's columns of theta, of one galaxy. Lookback
times are from the observed epoch, in Gyr; t_age is the age of the universe then.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import ndtr

from popcat.forward.histories import Bases
from popcat.galaxy_model import GalaxyModel

FIRST_STEPS_GYR = (0.03, 0.1)
"""Ends of the first two steps."""
LAST_STEP = 0.85
"""The last step begins at this fraction of the age of the universe."""


class History(ABC):
    """A star-formation history."""

    @property
    def breaks_gyr(self) -> tuple[float, ...]:
        """Lookback times, the same at every redshift, at which the rate jumps: the time bins end there too."""
        return ()

    @abstractmethod
    def masses(self, parameters: np.ndarray, edges_gyr: np.ndarray, t_age: float) -> np.ndarray:
        """Mass formed between ascending lookback times (n + 1,) from 0 to no more than t_age: (n,)."""

    @abstractmethod
    def rates(self, parameters: np.ndarray, lookback_gyr: np.ndarray, t_age: float) -> np.ndarray:
        """Star-formation rate (n_t,) at lookback times within t_age: that mass per Gyr."""


@dataclass(frozen=True)
class Lookback(History):
    """sum_i beta_i s_i(t): bases in lookback time, cut at the age of the universe."""

    bases: Bases

    def masses(self, parameters, edges_gyr, t_age):
        return parameters @ np.diff(self.bases.cumulative_sfh(edges_gyr), axis=1)

    def rates(self, parameters, lookback_gyr, t_age):
        return parameters @ np.stack([np.interp(lookback_gyr, self.bases.lookback_gyr, row) for row in self.bases.sfh])


@dataclass(frozen=True)
class Fractional(History):
    """sum_i beta_i s_i(t / t_age): bases in lookback time over the age of the universe, so `bases.lookback_gyr` too."""

    bases: Bases

    def masses(self, parameters, edges_gyr, t_age):
        return Lookback(self.bases).masses(parameters, np.minimum(edges_gyr / t_age, 1.0), t_age)

    def rates(self, parameters, lookback_gyr, t_age):
        return Lookback(self.bases).rates(parameters, lookback_gyr / t_age, t_age) / t_age


@dataclass(frozen=True)
class Steps(History):
    """Constant star formation in n steps of lookback time (Leja et al. 2019, ApJ 876, 3).

    The first two end at 30 and 100 Myr, the last begins at 0.85 t_age, those between are equal in ln t. beta are the
    steps' star-formation rates, or with `by_mass` the fractions of the mass that formed in them.

    >>> Steps(5, by_mass=False).edges(10.0).round(3).tolist()
    [0.0, 0.03, 0.1, 0.922, 8.5, 10.0]
    """

    n: int
    by_mass: bool

    @property
    def breaks_gyr(self):
        return FIRST_STEPS_GYR

    def edges(self, t_age: float) -> np.ndarray:
        """Ends of the steps in Gyr, (n + 1,). In a universe too young for some, these have no width."""
        last = LAST_STEP * t_age
        between = np.geomspace(FIRST_STEPS_GYR[1], max(last, FIRST_STEPS_GYR[1]), self.n - 2)
        return np.concatenate([[0.0], np.minimum([FIRST_STEPS_GYR[0], *between], last), [t_age]])

    def masses(self, parameters, edges_gyr, t_age):
        ends, rate = self.edges(t_age), self._rate(parameters, t_age)
        within = np.clip(edges_gyr[:, None] - ends[:-1], 0.0, np.diff(ends))
        return np.diff(within @ rate)

    def rates(self, parameters, lookback_gyr, t_age):
        step = np.searchsorted(self.edges(t_age)[:-1], lookback_gyr, side="right") - 1
        return self._rate(parameters, t_age)[step]

    def _rate(self, parameters, t_age):
        if not self.by_mass:
            return parameters
        width = np.diff(self.edges(t_age))
        return np.divide(parameters, width, out=np.zeros(self.n), where=width > 0.0)


class Parametric(History):
    """A formula in cosmic time T over the age of the universe, whose parameters are such fractions too."""

    @abstractmethod
    def formed(self, parameters: np.ndarray, time: np.ndarray) -> np.ndarray:
        """int_0^T of `rate`, (n,)."""

    @abstractmethod
    def rate(self, parameters: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Star-formation rate (n,) at T."""

    def masses(self, parameters, edges_gyr, t_age):
        return -np.diff(self.formed(parameters, np.maximum(1.0 - edges_gyr / t_age, 0.0)))

    def rates(self, parameters, lookback_gyr, t_age):
        return self.rate(parameters, 1.0 - lookback_gyr / t_age) / t_age


class DelayedTau(Parametric):
    """y e^(-y / tau) with y = T - (1 - age), none before (Carnall et al. 2018, MNRAS 480, 4379).

    parameters : age (time since the onset), log10 tau.
    """

    def formed(self, parameters, time):
        x = self._since(parameters, time) / 10.0 ** parameters[1]
        return 10.0 ** (2.0 * parameters[1]) * -(np.expm1(-x) + x * np.exp(-x))

    def rate(self, parameters, time):
        y = self._since(parameters, time)
        return y * np.exp(-y / 10.0 ** parameters[1])

    def _since(self, parameters, time):
        return np.maximum(time - (1.0 - parameters[0]), 0.0)


class Lognormal(Parametric):
    """(1 / T) exp(-(ln T - T0)^2 / 2 sigma^2) (Carnall et al. 2018; Diemer et al. 2017, ApJ 839, 26).

    parameters : the peak e^(T0 - sigma^2), and the full width at half maximum, 2 peak sinh(sigma sqrt(2 ln 2)).
    """

    def formed(self, parameters, time):
        mean, sigma = self._gaussian(parameters)
        with np.errstate(divide="ignore"):  # ln 0 at the Big Bang
            return ndtr((np.log(time) - mean) / sigma)

    def rate(self, parameters, time):
        mean, sigma = self._gaussian(parameters)
        t = np.maximum(time, 1e-300)
        return np.exp(-0.5 * ((np.log(t) - mean) / sigma) ** 2) / (t * sigma * np.sqrt(2.0 * np.pi))

    def _gaussian(self, parameters):
        peak, fwhm = parameters
        sigma = np.arcsinh(0.5 * fwhm / peak) / np.sqrt(2.0 * np.log(2.0))
        return np.log(peak) + sigma**2, sigma


class DoublePowerLaw(Parametric):
    """1 / ((T / tau)^alpha + (T / tau)^-beta) (Carnall et al. 2018).

    parameters : log10 alpha (falling), log10 beta (rising), tau. Integrated numerically.
    """

    def formed(self, parameters, time):
        ends = np.unique(np.append(time, 0.0))
        each = [self._between(parameters, low, high) for low, high in pairwise(ends)]
        return np.interp(time, ends, np.cumsum([0.0, *each]))

    def rate(self, parameters, time):
        alpha, beta = 10.0 ** parameters[:2]
        x = np.log(np.maximum(time, 1e-300) / parameters[2])
        return np.exp(beta * x - np.logaddexp(0.0, (alpha + beta) * x))

    def _between(self, parameters, low, high):
        """int of the rate in ln T, in pieces as long as it takes to change."""
        from scipy.integrate import quad

        alpha, beta = 10.0 ** parameters[:2]
        last = np.log(high / parameters[2])
        none = min(last, 0.0) - 40.0 / (beta + 1.0)  # e^-40 of the mass formed before
        y = max(np.log(low / parameters[2]), none) if low > 0.0 else none, last
        width = 8.0 / (alpha + beta)
        pieces = np.unique(np.clip([*y, *(width * np.linspace(-5.0, 5.0, 11)), y[1] - 8.0 / (beta + 1.0),
                                    y[0] + 8.0 / max(alpha - 1.0, 0.1)], *y))  # fmt: skip
        total = sum(quad(lambda x: np.exp((beta + 1.0) * x - np.logaddexp(0.0, (alpha + beta) * x)), a, b,
                         epsabs=1e-14, epsrel=1e-9)[0] for a, b in pairwise(pieces))  # fmt: skip
        return total * parameters[2]


PARAMETRIC: dict[str, type[Parametric]] = {
    "delayed_tau": DelayedTau, "lognormal": Lognormal, "double_power_law": DoublePowerLaw,
}  # fmt: skip


def make_history(settings: GalaxyModel, bases: Bases) -> History:
    """The history that a galaxy model names."""
    if settings.history == "lookback":
        return Lookback(bases)
    if settings.history == "fractional":
        return Fractional(bases)
    if settings.history in PARAMETRIC:
        return PARAMETRIC[settings.history]()
    return Steps(settings.n_sfh_bases, by_mass=settings.history == "dirichlet")

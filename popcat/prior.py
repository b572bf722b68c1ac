"""The prior of a galaxy model: a map between named, bounded parameters, the unit cube, and unconstrained space.

Each free parameter has a distribution (popcat.distributions); the n SFH weights on the simplex have n - 1, of
stick-breaking fractions. So the prior is uniform in the unit cube u (n, n_free) and standard normal in w = probit(u),
where flows live: no draw leaves the prior. Parameters that are fixed, or tied to another, are columns of theta and have
no coordinate.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr, ndtri

from popcat.distributions import Continuity, Dirichlet, Fixed, Law, LogUniform, Spread, Tied, Uniform, Volume
from popcat.errors import PopcatError, did_you_mean
from popcat.galaxy_model import HISTORY_PARAMETERS, GalaxyModel
from popcat.prior_families import AnyFamily
from popcat.simplex import WEIGHTS, NoWeights, Ratios, Stick, weight_names, weights_prior

MASS = "log_mstar_formed"
"""The mass: theta's first column, and the first coordinate where it is free."""
FLAT, PHYSICAL, BOTH = "flat", "physical", "both"
PRIORS = (FLAT, PHYSICAL)
"""Priors by name: the galaxy model's own, this module's; and the physical one (popcat.physical.prior). A library may
hold galaxies of both."""
REDSHIFT = "redshift"
"""What `GalaxyModel.priors` calls the redshift."""
_BURST = {"f_burst": (0.0, 1.0), "t_burst": (0.01, 13.27)}
_HISTORY = {
    "age_fraction": (0.01, 1.0), "log_tau_fraction": (-2.0, 1.0), "peak_fraction": (0.01, 1.0),
    "fwhm_fraction": (0.01, 2.0), "log_falling_slope": (-2.0, 3.0), "log_rising_slope": (-2.0, 3.0),
    "turnover_fraction": (0.01, 1.0),
}  # fmt: skip
_DUST = {"tau_bc": (0.0, 3.0), "tau_ism": (0.0, 3.0), "n_dust": (-2.0, 1.0)}
_COMPONENTS = {
    "bump_dust": (0.0, 5.0), "log_u": (-4.0, -1.0), "f_esc": (0.0, 1.0), "q_pah": (0.47, 4.58), "u_min": (0.1, 25.0),
    "gamma_dust": (1e-3, 0.5), "log_f_agn": (-4.0, 1.0), "ebv_agn": (0.0, 1.0),
}  # fmt: skip
_SLOPES = {"salim": (-1.6, 0.4), "charlot_fall": (-1.5, -0.3)}
"""Ranges of n_dust where it is another law's."""
_FAMILIES: dict[str, AnyFamily] = {
    "f_esc": Fixed(family="fixed", value=0.0), "u_min": LogUniform(family="log_uniform"),
    "gamma_dust": LogUniform(family="log_uniform"),
}  # fmt: skip
"""Families of those that are not uniform unless told so."""
_CONTINUITY = {"continuity": 0.3, "continuity_bursty": 1.0}
"""Scale of the continuity prior of the steps' star-formation rates."""
# The embedded and the published metallicity bases peak near 3: the weights reach 1.5e-2, a metallicity itself 4.5e-2,
# the range of MIST either way.
_LOG_GAMMA = (float(np.log10(4.5e-5)), float(np.log10(1.5e-2)))
_LOG_Z = (float(np.log10(4.5e-5)), float(np.log10(4.5e-2)))
# Keeps probits finite: a theta on the prior's very edge is moved by this much in probability.
_EDGE = 1e-12


@dataclass(frozen=True)
class Prior:
    """The model's prior.

    names : the d parameters, theta's columns. weights : of the SFH weights, among them. laws : of the other free ones.
    fixed, tied : values of the fixed ones, and of which others the tied ones are made. redshift : a family.
    """

    names: tuple[str, ...]
    weights: Stick | Ratios | NoWeights
    laws: Mapping[str, Law]
    fixed: Mapping[str, float]
    tied: Mapping[str, Tied]
    redshift: Spread

    @property
    def n_unconstrained(self) -> int:
        """Number of coordinates of the unit cube and of unconstrained space."""
        return len(self.laws) + self.weights.n_free

    @property
    def mass_is_linear(self) -> bool:
        """Whether the mass is free and nothing is tied to it: fluxes are then linear in it, all else given."""
        return MASS in self.laws and all(tie.to != MASS for tie in self.tied.values())

    def redshift_law(self, redshift_range: tuple[float, float]) -> Law:
        """The distribution of the redshift within a survey's range; PopcatError if it lies outside."""
        return _redshift_law(self.redshift, *redshift_range)

    def blocks(self) -> Iterator[tuple[str, slice]]:
        """Name ("beta" for all SFH weights) and coordinates of whatever has some, in the order of theta's columns."""
        at = 0
        for name in self.names:
            if name in self.laws:
                yield name, slice(at, at + 1)
                at += 1
            elif name in self.weights.names[:1]:
                yield WEIGHTS, slice(at, at + self.weights.n_free)
                at += self.weights.n_free

    def bounds(self, name: str) -> tuple[float, float]:
        """Least and largest value of a parameter.

        >>> make_prior(GalaxyModel()).bounds("tau_ism")
        (0.0, 3.0)
        """
        if name in self.fixed:
            return self.fixed[name], self.fixed[name]
        if name in self.tied:
            tie = self.tied[name]
            ends = sorted(tie.factor * end + tie.offset for end in self.bounds(tie.to))
            return ends[0], ends[1]
        return (self.laws[name].low, self.laws[name].high) if name in self.laws else (0.0, 1.0)

    def from_unit(self, u: np.ndarray) -> np.ndarray:
        """theta (n, d) of points u (n, n_unconstrained) in the unit cube.

        >>> theta = make_prior(GalaxyModel()).from_unit(np.full((1, 11), 0.5))
        >>> round(float(theta[0, 1:5].sum()), 12), float(theta[0, 9])
        (1.0, 1.5)
        """
        column: dict[str, np.ndarray] = {}
        for name, where in self.blocks():
            if name == WEIGHTS:
                column |= dict(zip(self.weights.names, self.weights.from_unit(u[:, where]).T, strict=True))
            else:
                column[name] = self.laws[name].from_unit(u[:, where.start])
        return np.column_stack([self._column(name, column, len(u)) for name in self.names])

    def _column(self, name, column, n) -> np.ndarray:
        if name in self.fixed:
            return np.full(n, self.fixed[name])
        if name in self.tied:
            tie = self.tied[name]
            return tie.factor * self._column(tie.to, column, n) + tie.offset
        return column[name]

    def to_unit(self, theta: np.ndarray) -> np.ndarray:
        """u (n, n_unconstrained) of theta (n, d): the inverse of `from_unit` within the prior."""
        at = {name: i for i, name in enumerate(self.names)}
        parts = [self.weights.to_unit(theta[:, self._weights]) if name == WEIGHTS
                 else self.laws[name].to_unit(theta[:, at[name]]) for name, _ in self.blocks()]  # fmt: skip
        return np.column_stack(parts)

    def from_unconstrained(self, w: np.ndarray) -> np.ndarray:
        """theta (n, d) of w (n, n_unconstrained), standard normal under the prior."""
        return self.from_unit(ndtr(w))

    def to_unconstrained(self, theta: np.ndarray) -> np.ndarray:
        """w (n, n_unconstrained) of theta (n, d)."""
        return ndtri(np.clip(self.to_unit(theta), _EDGE, 1.0 - _EDGE))

    def contains(self, theta: np.ndarray, *, tolerance: float = 1e-9) -> np.ndarray:
        """Whether each theta lies inside the prior's support, (n,) bool; `tolerance` allows for rounding."""
        inside = np.ones(len(theta), dtype=bool)
        if self.weights.names:
            weights = theta[:, self._weights]
            inside &= np.all(weights >= 0.0, axis=1) & (np.abs(weights.sum(axis=1) - 1.0) < tolerance)
        for name, values in zip(self.names, theta.T, strict=True):
            if name not in self.weights.names:
                low, high = self.bounds(name)
                inside &= (values >= low - tolerance) & (values <= high + tolerance)
        return inside

    def log_density(self, draws: Mapping[str, np.ndarray]) -> np.ndarray:
        """ln of the density of draws by name, each (...), in the free parameters but the last SFH weight."""
        total = self.weights.log_density(self.weights_of(draws))
        for name, law in self.laws.items():
            total = total + law.log_density(law.inside(draws[name]))
        return total

    def weights_of(self, draws: Mapping[str, np.ndarray]) -> np.ndarray:
        """SFH weights (..., n_weight) of draws by name, each (...)."""
        columns = [np.asarray(draws[name], dtype=float) for name in self.weights.names]
        return np.stack(columns, axis=-1) if columns else np.empty((*np.shape(draws[self.names[0]]), 0))

    @property
    def _weights(self) -> slice:
        first = self.names.index(self.weights.names[0])
        return slice(first, first + len(self.weights.names))


def require_prior(name: str, known: Iterable[str] = PRIORS) -> None:
    """PopcatError unless the prior of this name is known."""
    if name not in known:
        raise PopcatError(f'no prior "{name}": expected {" or ".join(known)}; {did_you_mean(name, known)}')


def make_prior(settings: GalaxyModel) -> Prior:
    """The prior that the model settings name, of as many SFH and metallicity weights as there are bases.

    The n SFH weights have the flat Dirichlet prior: the fractions of the stick are Beta(1, n - 1), ..., Beta(1, 1). The
    released SEDflow code takes Beta(1, 1) throughout, which makes the means of four 1/2, 1/4, 1/8, 1/8.

    Raises PopcatError for a prior of an unknown parameter, and for one that cannot be that parameter's.
    """
    names = parameter_names(settings.history_parameters, settings.n_metallicity_bases, settings.metallicity,
                            settings.component_parameters)  # fmt: skip
    weights = _weights(settings)
    own = {name: _own_range(name, settings) for name in names if name not in weights.names}
    given: dict[str, AnyFamily] = {name: family for name, family in _FAMILIES.items() if name in own}
    given |= settings.priors
    given.pop(WEIGHTS, None)
    redshift = given.pop(REDSHIFT, Uniform())
    if unknown := [name for name in given if name not in own]:
        raise PopcatError(f'priors: no parameter "{unknown[0]}": {did_you_mean(unknown[0], [*own, WEIGHTS, REDSHIFT])}')
    if isinstance(redshift, Fixed | Tied | Dirichlet | Continuity):
        raise PopcatError(f'priors.redshift: expected a family that spreads, such as "table", got "{redshift.family}": '
                          "redshifts are given galaxy by galaxy")
    fixed = {name: family.value for name, family in given.items() if isinstance(family, Fixed)}
    tied = {name: family for name, family in given.items() if isinstance(family, Tied)}
    laws = {name: _law(name, given.get(name, Uniform()), *own[name]) for name in own if name not in {*fixed, *tied}}
    for name, tie in tied.items():
        if tie.to not in {*laws, *fixed}:
            raise PopcatError(f'priors.{name}: tied to "{tie.to}", which is no parameter that is free or fixed: '
                              f"{did_you_mean(tie.to, [*laws, *fixed])}")
    if not laws:
        raise PopcatError("priors: every parameter is fixed or tied: expected at least one that is free")
    prior = Prior(names, weights, laws, fixed, tied, redshift)
    for name in _HISTORY.keys() & own.keys():
        (low, high), (first, last) = prior.bounds(name), own[name]
        if not first <= low <= high <= last:
            raise PopcatError(f"priors.{name}: expected no more than {first:g} to {last:g}, where the star-formation "
                              f"history is known to form stars in time, got {low:g} to {high:g}")
    return prior


@lru_cache(maxsize=16)
def _redshift_law(family: Spread, low: float, high: float) -> Law:
    law = Law(family, low, high, within=True)
    if not law.low < law.high:
        raise PopcatError(f"priors.redshift: expected some of it between {low:g} and {high:g}, the survey's "
                          "redshift_range")
    return law


def _law(name: str, family, low: float, high: float) -> Law:
    law = law_in(f"priors.{name}", name, family, low, high)
    if family.outside(law.low, law.high) > 1.0 - 1e-9:
        raise PopcatError(f"priors.{name}: the {family.family} distribution lies outside {law.low:g} to {law.high:g}")
    return law


def law_in(where: str, name: str, family, low: float, high: float) -> Law:
    """The distribution that a family has where the parameter's own range is low to high; `where` is its table.

    Raises PopcatError where this parameter cannot have the family, whatever the numbers, or not in that range.
    """
    if isinstance(family, Dirichlet | Continuity):
        raise PopcatError(f'{where}: "{family.family}" is for the SFH weights, the table of the name {WEIGHTS}')
    if isinstance(family, Volume) and name != REDSHIFT:
        raise PopcatError(f'{where}: "volume" is for the redshift, the table of the name {REDSHIFT}')
    law = Law(family, low, high)
    if not law.low < law.high:
        raise PopcatError(f"{where}: expected low < high, got {law.low:g}, {law.high:g}")
    if isinstance(family, LogUniform) and not law.low > 0.0:
        raise PopcatError(f'{where}: "log_uniform" needs low > 0, got {law.low:g}: say low')
    return law


def _weights(settings: GalaxyModel) -> Stick | Ratios | NoWeights:
    where = f"priors.{WEIGHTS}"
    if settings.history in HISTORY_PARAMETERS:
        if WEIGHTS in settings.priors:
            raise PopcatError(f'{where}: history "{settings.history}" has no weights: expected priors of '
                              f"{', '.join(settings.history_parameters)}")
        return NoWeights()
    if WEIGHTS in settings.priors:
        return weights_prior(where, settings.priors[WEIGHTS], settings.n_sfh_bases)
    if settings.history in _CONTINUITY:
        family = Continuity(family="continuity", scale=_CONTINUITY[settings.history])
        return weights_prior(where, family, settings.n_sfh_bases)
    n = settings.n_sfh_bases - 1
    return Stick((1.0,) * n, tuple(float(b) for b in range(n, 0, -1)) if settings.beta == "flat" else (1.0,) * n)


def _own_range(name: str, settings: GalaxyModel) -> tuple[float, float]:
    """The range of a parameter whose prior names none."""
    known = {MASS: settings.log_mstar_formed, "log_z": _LOG_Z, **_HISTORY, **_BURST, **_DUST,
             **_COMPONENTS}  # fmt: skip
    if name == "n_dust":
        return _SLOPES.get(settings.dust_law, _DUST[name])
    return known.get(name, _LOG_GAMMA)


def parameter_names(
    history: tuple[str, ...] = weight_names(4), n_zh: int = 2, metallicity: str = "evolving",
    components: tuple[str, ...] = tuple(_DUST),
) -> tuple[str, ...]:
    """The parameters of a model with this history, so many metallicity bases and these components, as theta's columns.

    >>> parameter_names(("beta1",), metallicity="constant")
    ('log_mstar_formed', 'beta1', 'f_burst', 't_burst', 'log_z', 'tau_bc', 'tau_ism', 'n_dust')
    """
    metals = ["log_z"] if metallicity == "constant" else [f"log_gamma{k + 1}" for k in range(n_zh)]
    return (MASS, *history, *_BURST, *metals, *components)

"""Another prior without another fit: draws are weighted by new prior / training prior, and resampled.

The new prior is a TOML file with a table a parameter, of the families of popcat.distributions; what it does not name
keeps the training prior. Densities are normalised within the training range, so that evidences stay evidences.

    [tau_ism]
    family = "exponential"      # exp(-x / scale)
    scale = 0.5
    [log_mstar_formed]
    family = "uniform"
    low = 9.0
    high = 12.0
    [beta]
    family = "dirichlet"        # of the SFH weights
    concentration = [2.0, 1.0, 1.0, 1.0]
    [redshift]
    family = "table"            # any parameter: linear between nodes, zero outside; for redshift, n(z)
    x = [0.0, 0.1, 0.6]
    density = [0.0, 1.0, 0.0]

A function may take the file's place: the hook for the fitted population of a survey. So may the name of a prior,
"flat" or "physical".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydantic

from popcat.distributions import Fixed, Law, Tied
from popcat.errors import PopcatError, did_you_mean
from popcat.galaxy_model import GalaxyModel
from popcat.paths import path_of
from popcat.physical.prior import JointPrior, prior_named
from popcat.prior import REDSHIFT, Prior, law_in, make_prior
from popcat.prior_families import AnyFamily
from popcat.settings import parse_toml
from popcat.simplex import WEIGHTS, weights_prior

MAX_OUTSIDE = 0.01
"""More of a family's mass than this beyond the training range is refused, unless it is cut off on purpose."""


@dataclass(frozen=True)
class NamedPrior:
    """One of popcat.prior.PRIORS as a new prior: `physical` is None for the galaxy model's own."""

    physical: JointPrior | None
    prior: Prior
    redshift_range: tuple[float, float]

    def log_ratio(self, draws: Mapping[str, np.ndarray], is_free: np.ndarray) -> np.ndarray:
        """ln of this over the galaxy model's own prior, (n, k), as `NewPrior.log_ratio`."""
        z = np.asarray(draws[REDSHIFT], dtype=float)
        if self.physical is None:
            return np.zeros(z.shape)
        theta = np.stack([np.asarray(draws[name], dtype=float) for name in self.prior.names], axis=-1)
        found = self.physical.log_ratio(theta.reshape(-1, theta.shape[-1]), z.ravel()).reshape(z.shape)
        own, law = self.prior.redshift_law(self.redshift_range), self.physical.redshift_law
        of_redshift = law.log_density(law.inside(z)) - own.log_density(own.inside(z))
        return found + np.where(is_free[:, None], of_redshift, 0.0)


def named_prior(name: str, galaxy_model: GalaxyModel, redshift_range: tuple[float, float]) -> NamedPrior:
    """The prior of this name (popcat.prior.PRIORS)."""
    return NamedPrior(prior_named(name, galaxy_model, redshift_range), make_prior(galaxy_model), redshift_range)


class _NewPriorFile(pydantic.RootModel[dict[str, AnyFamily]]):
    pass


@dataclass(frozen=True)
class NewPrior:
    """A prior inside a training prior: families by parameter, with the training ranges.

    families : {parameter, "beta" for all SFH weights, or "redshift": family}.
    """

    families: Mapping
    prior: Prior
    redshift_range: tuple[float, float]

    def log_ratio(self, draws: Mapping[str, np.ndarray], is_free: np.ndarray) -> np.ndarray:
        """ln new / training prior, (n, k), of draws by name, each (n, k); is_free (n,): whose redshift was inferred."""
        total = np.zeros(np.shape(draws[self.prior.names[0]]))
        for name, family in self.families.items():
            if name == WEIGHTS:
                weights, trained = self.prior.weights_of(draws), self.prior.weights
                total += _weights(family, self.prior).log_density(weights) - trained.log_density(weights)
                continue
            law = law_of(name, self.prior, self.redshift_range)
            x = law.inside(draws[name])
            term = Law(family, law.low, law.high).log_density(x) - law.log_density(x)
            total += np.where(is_free[:, None], term, 0.0) if name == REDSHIFT else term
        return total


def load_prior(path: str | Path, prior: Prior, redshift_range: tuple[float, float]) -> NewPrior:
    """The new prior that a TOML file names.

    Raises PopcatError for an unknown parameter or family, and for a prior that reaches outside the training prior,
    where there are no draws to weigh.
    """
    if not path_of(path).is_file():
        raise PopcatError(f"no prior at {path}: expected a TOML file with a table a parameter, such as [tau_ism]")
    families = parse_toml(_NewPriorFile, path_of(path)).root
    for name, family in families.items():
        _check(name, family, prior, redshift_range)
    return NewPrior(families, prior, redshift_range)


def _check(name, family, prior, redshift_range):
    """PopcatError unless the family is one for this parameter, inside its training range."""
    if name == WEIGHTS:
        _weights(family, prior)
        return
    law = law_of(name, prior, redshift_range)
    if isinstance(family, Fixed | Tied):
        raise PopcatError(f'[{name}]: family = "{family.family}" leaves no draw any weight: expected one that spreads, '
                          "or train a model with it in the galaxy model's priors")
    new = law_in(f"[{name}]", name, family, law.low, law.high)
    where = f"[{name}]: the training prior covers {law.low:.4g} to {law.high:.4g}"
    edge = 1e-6 * (law.high - law.low)
    if not law.low - edge <= new.low < new.high <= law.high + edge:
        raise PopcatError(f"{where}, the new one {new.low:.4g} to {new.high:.4g}: expected a part of it, low < high; "
                          "outside there are no draws, and only a model trained there can say")
    is_cut = getattr(family, "cut", False) or (family.low is not None and family.high is not None)
    if not is_cut and family.outside(law.low, law.high) > MAX_OUTSIDE:
        raise PopcatError(f"{where}, and {family.outside(law.low, law.high):.0%} of the new one's mass lies outside: "
                          "train a model there, or say cut = true to cut it off")


def _weights(family, prior: Prior):
    """The new prior of the SFH weights."""
    return weights_prior(f"[{WEIGHTS}]", family, len(prior.weights.names))


def law_of(name: str, prior: Prior, redshift_range: tuple[float, float]) -> Law:
    """The training prior of a free parameter or the redshift; PopcatError for any other name."""
    known = {**prior.laws, REDSHIFT: prior.redshift_law(redshift_range)}
    if name not in known:
        if name in prior.names and name not in prior.weights.names:
            raise PopcatError(f"[{name}]: fixed or tied in the training prior: every draw has the same, expected a "
                              "parameter that is free")
        raise PopcatError(f'no parameter "{name}": {did_you_mean(name, [*known, WEIGHTS])}')
    return known[name]


def log_training(prior: Prior, redshift_range, draws: Mapping[str, np.ndarray], is_free) -> np.ndarray:
    """ln of the training prior's density, (n, k): what a function's density is divided by."""
    law = prior.redshift_law(redshift_range)
    of_redshift = law.log_density(law.inside(draws[REDSHIFT]))
    return prior.log_density(draws) + np.where(is_free[:, None], of_redshift, 0.0)


def log_ratio_of(
    new: "NewPrior | Callable", prior: Prior, redshift_range, draws: Mapping[str, np.ndarray], is_free: np.ndarray
) -> np.ndarray:
    """ln new / training prior of draws. A function takes draws by name to the ln of its density in the parameters;
    what has a `log_ratio` of its own, as a fitted population does, is asked for that.

    Its measure is that of all parameters but the last SFH weight, and of redshift where that is inferred.
    """
    if hasattr(new, "log_ratio"):
        return new.log_ratio(draws, is_free)
    return np.asarray(new(draws), dtype=float) - log_training(prior, redshift_range, draws, is_free)


"""Another prior without another fit: draws are weighted by new prior / training prior, and resampled.

The new prior is a TOML file with a table a parameter; what it does not name keeps the training prior. Densities are
normalised within the training range, so that evidences stay evidences.

    [tau_ism]
    family = "exponential"      # exp(-x / scale)
    scale = 0.5
    [n_dust]
    family = "normal"           # truncated to the training range
    mean = -0.5
    sigma = 0.4
    [log_mstar_formed]
    family = "uniform"
    low = 9.0
    high = 12.0
    [f_burst]
    family = "beta"             # of the place in the training range
    a = 1.0
    b = 9.0
    [beta]
    family = "dirichlet"        # of the SFH weights
    concentration = [2.0, 1.0, 1.0, 1.0]
    [redshift]
    family = "table"            # any parameter: linear between nodes, zero outside; for redshift, n(z)
    x = [0.0, 0.1, 0.6]
    density = [0.0, 1.0, 0.0]

A function may take the file's place: the hook for the fitted population of a survey.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pydantic

from popcat.errors import PopcatError, did_you_mean
from popcat.galaxy_model import Prior
from popcat.settings import parse_toml

MAX_OUTSIDE = 0.01
"""More of a family's mass than this beyond the training range is refused, unless it is cut off on purpose."""
_SIMPLEX, _REDSHIFT = "beta", "redshift"


class _Family(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Uniform(_Family):
    family: Literal["uniform"]
    low: float
    high: float

    def support(self, low, high):
        return self.low, self.high

    def log_density(self, x, low, high):
        inside = (x >= self.low) & (x <= self.high)
        return np.where(inside, -np.log(self.high - self.low), -np.inf)


class Normal(_Family):
    family: Literal["normal"]
    mean: float
    sigma: float = pydantic.Field(gt=0.0)
    cut: bool = False
    """Cut off at the training range, however much of it lies outside."""

    def outside(self, low, high):
        return 1.0 - np.diff(_normal_cdf((np.array([low, high]) - self.mean) / self.sigma))[0]

    def log_density(self, x, low, high):
        norm = np.log(1.0 - self.outside(low, high)) + np.log(self.sigma) + 0.5 * np.log(2.0 * np.pi)
        return -0.5 * ((x - self.mean) / self.sigma) ** 2 - norm


class Exponential(_Family):
    family: Literal["exponential"]
    scale: float = pydantic.Field(gt=0.0)
    cut: bool = False

    def outside(self, low, high):
        return float(np.exp(-(high - low) / self.scale))

    def log_density(self, x, low, high):
        return -(x - low) / self.scale - np.log(self.scale) - np.log1p(-self.outside(low, high))


class Beta(_Family):
    family: Literal["beta"]
    a: float = pydantic.Field(gt=0.0)
    b: float = pydantic.Field(gt=0.0)

    def log_density(self, x, low, high):
        from scipy.stats import beta

        return beta(self.a, self.b).logpdf((x - low) / (high - low)) - np.log(high - low)


class Table(_Family):
    family: Literal["table"]
    x: tuple[float, ...] = pydantic.Field(min_length=2)
    density: tuple[Annotated[float, pydantic.Field(ge=0.0)], ...]

    @pydantic.model_validator(mode="after")
    def _consistent(self):
        if len(self.x) != len(self.density) or any(np.diff(self.x) <= 0) or not sum(self.density) > 0:
            raise ValueError("x must ascend and density have as many values, not all zero")
        return self

    def support(self, low, high):
        there = np.flatnonzero(self.density)
        first, last = max(there[0] - 1, 0), min(there[-1] + 1, len(self.x) - 1)
        return self.x[first], self.x[last]

    def log_density(self, x, low, high):
        with np.errstate(divide="ignore"):
            values = np.log(np.interp(x, self.x, self.density, left=0.0, right=0.0))
        return values - np.log(np.trapezoid(self.density, self.x))


class Dirichlet(_Family):
    family: Literal["dirichlet"]
    concentration: tuple[Annotated[float, pydantic.Field(gt=0.0)], ...]

    def log_density(self, beta):
        """Of weights (..., n) on the simplex, per unit of the first n - 1."""
        from scipy.special import gammaln

        alpha = np.array(self.concentration)
        norm = gammaln(alpha).sum() - gammaln(alpha.sum())
        return np.sum((alpha - 1.0) * np.log(np.maximum(beta, 1e-30)), axis=-1) - norm


_Any = Annotated[
    Uniform | Normal | Exponential | Beta | Table | Dirichlet, pydantic.Field(discriminator="family")
]


class _NewPriorFile(pydantic.RootModel[dict[str, _Any]]):
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
            if name == _SIMPLEX:
                beta = np.stack([draws[one] for one in simplex_names(self.prior)], axis=-1).astype(float)
                total += family.log_density(beta) - log_simplex(self.prior, beta)
                continue
            low, high = range_of(name, self.prior, self.redshift_range)
            x = np.clip(np.asarray(draws[name], dtype=float), low, high)  # stored in single precision
            term = family.log_density(x, low, high) + np.log(high - low)
            total += np.where(is_free[:, None], term, 0.0) if name == _REDSHIFT else term
        return total


def load_prior(path: str | Path, prior: Prior, redshift_range: tuple[float, float]) -> NewPrior:
    """The new prior that a TOML file names.

    Raises PopcatError for an unknown parameter or family, and for a prior that reaches outside the training prior,
    where there are no draws to weigh.
    """
    if not Path(path).is_file():
        raise PopcatError(f"no prior at {path}: expected a TOML file with a table a parameter, such as [tau_ism]")
    families = parse_toml(_NewPriorFile, Path(path)).root
    for name, family in families.items():
        _check(name, family, prior, redshift_range)
    return NewPrior(families, prior, redshift_range)


def _check(name, family, prior, redshift_range):
    """PopcatError unless the family is one for this parameter, inside its training range."""
    if name == _SIMPLEX or family.family == "dirichlet":
        n = len(simplex_names(prior))
        if name != _SIMPLEX or family.family != "dirichlet" or len(family.concentration) != n:
            raise PopcatError(f'[{name}]: the {n} SFH weights are the table [beta] with family = "dirichlet" and {n} '
                              f'concentrations; got family = "{family.family}"')
        return
    low, high = range_of(name, prior, redshift_range)
    where = f"[{name}]: the training prior covers {low:.4g} to {high:.4g}"
    if hasattr(family, "support"):
        first, last = family.support(low, high)
        edge = 1e-6 * (high - low)
        if not low - edge <= first < last <= high + edge:
            raise PopcatError(f"{where}, the new one {first:.4g} to {last:.4g}: expected a part of it, low < high; "
                              "outside there are no draws, and only a model trained there can say")
    if hasattr(family, "outside") and not family.cut and family.outside(low, high) > MAX_OUTSIDE:
        raise PopcatError(f"{where}, and {family.outside(low, high):.0%} of the new one's mass lies outside: train "
                          "a model there, or say cut = true to cut it off")


def range_of(name: str, prior: Prior, redshift_range: tuple[float, float]) -> tuple[float, float]:
    """Range of a parameter that is uniform in the training prior; PopcatError for any other name."""
    names = [one for one in prior.names if one not in simplex_names(prior)]
    known = dict(zip(names, zip(prior.low, prior.high, strict=True), strict=True)) | {_REDSHIFT: redshift_range}
    if name not in known:
        raise PopcatError(f'no parameter "{name}": {did_you_mean(name, [*known, _SIMPLEX])}')
    low, high = known[name]
    return float(low), float(high)


def simplex_names(prior: Prior) -> tuple[str, ...]:
    """The SFH weights."""
    return tuple(f"beta{i + 1}" for i in range(len(prior.stick) + 1))


def log_simplex(prior: Prior, beta: np.ndarray) -> np.ndarray:
    """ln of the training prior's density of SFH weights (..., n), per unit of the first n - 1.

    Stick-breaking: fraction i of what is left is Beta(1, b_i), and what is left is the Jacobian.
    """
    left = np.maximum(np.cumsum(beta[..., ::-1], axis=-1)[..., ::-1], 1e-30)
    b = np.array(prior.stick)
    ln_rest = np.log(left[..., 1:]) - np.log(left[..., :-1])
    return np.sum(np.log(b) + (b - 1.0) * ln_rest - np.log(left[..., :-1]), axis=-1)


def log_training(prior: Prior, redshift_range, draws: Mapping[str, np.ndarray], is_free) -> np.ndarray:
    """ln of the training prior's density, (n, k): what a function's density is divided by."""
    beta = np.stack([draws[one] for one in simplex_names(prior)], axis=-1).astype(float)
    volume = np.log(prior.high - prior.low).sum()
    z_volume = np.log(redshift_range[1] - redshift_range[0])
    return log_simplex(prior, beta) - volume - np.where(is_free[:, None], z_volume, 0.0)


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


def _normal_cdf(x):
    from scipy.special import ndtr

    return ndtr(x)

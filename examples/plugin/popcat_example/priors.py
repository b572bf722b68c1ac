"""A prior of a whole galaxy, and a family for the prior of one parameter."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pydantic

from popcat.distributions import Distribution


def dusty_massive(draws: Mapping[str, np.ndarray]) -> np.ndarray:
    """ln of a density, but for a constant: the optical depth is exponential, and its mean grows with the mass."""
    mean = 0.3 + 0.3 * np.clip(draws["log_mstar"] - 9.0, 0.0, 3.0)
    return -draws["tau_ism"] / mean - np.log(mean)


class Gamma(Distribution):
    """x^(shape - 1) exp(-x / scale), cut off at the ends of its range."""

    family: Literal["gamma"]
    shape: float = pydantic.Field(gt=0.0)
    scale: float = pydantic.Field(gt=0.0)

    def log_density(self, x, low, high):
        """ln of the density at x, normalised within low to high."""
        from scipy.stats import gamma

        law = gamma(self.shape, scale=self.scale)
        return law.logpdf(x) - np.log(law.cdf(high) - law.cdf(low))

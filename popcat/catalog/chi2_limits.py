"""How large the best chi2 of a galaxy may be before the flag high_chi2 says that no model fits it.

The best of k draws of a posterior with a dozen parameters fits better than the truth does, so that the chi2 law of the
number of bands has little power. The limit is what one in a thousand simulated galaxies of the posterior's own prior
and noise exceeds (popcat.checks.best_chi2 measures it): for as many observed bands, as many draws, and a redshift that
is as well known. Where a posterior has no such record, the chi2 law serves (popcat.galaxies.chi2_limit).
"""

from typing import Annotated

import numpy as np
import pydantic

from popcat.galaxies import MIN_BANDS, chi2_limit

Limits = list[list[Annotated[float, pydantic.Field(gt=0.0, allow_inf_nan=False)]]]


class Chi2Limits(pydantic.BaseModel):
    """Limits of the best chi2 by number of bands, number of draws, and whether the redshift is known.

    mocks : simulated galaxies behind each number. tail : the fraction of them above the limit. draws : numbers of
    draws, ascending. known, unknown : limits with the redshift known, and inferred, a list for each number of bands
    from MIN_BANDS to all of the survey's, a number for each of `draws`.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    mocks: int = pydantic.Field(ge=1)
    tail: float = pydantic.Field(gt=0.0, lt=1.0)
    draws: list[Annotated[int, pydantic.Field(ge=1)]] = pydantic.Field(min_length=1)
    known: Limits
    unknown: Limits

    @pydantic.model_validator(mode="after")
    def _shapes(self):
        shapes = {len(row) for row in (*self.known, *self.unknown)}
        if sorted(set(self.draws)) != self.draws or shapes - {len(self.draws)} or len(self.known) != len(self.unknown):
            raise ValueError("expected ascending numbers of draws, and a limit for each and each number of bands")
        return self

    @property
    def in_short(self) -> str:
        """The limits of every band and the most draws, in words."""
        return (f"flag high_chi2, every band and {self.draws[-1]} draws: {self.known[-1][-1]:.1f} with "
                f"the redshift known, {self.unknown[-1][-1]:.1f} without ({self.mocks:,} mocks each)")  # fmt: skip

    def of(self, n_bands: np.ndarray, is_known: np.ndarray, n_draws: np.ndarray) -> np.ndarray:
        """Limits (n,) for numbers of bands and of draws (n,), and whether the redshift is known, (n,).

        Linear in ln(draws) between those that were measured. With more draws than that the best chi2 is smaller, and
        the limit that of the most draws. With fewer than MIN_BANDS bands anything fits, and the limit is the law's.

        >>> limits = Chi2Limits(mocks=4000, tail=1e-3, draws=[1, 100], known=[[16.0, 6.0]], unknown=[[15.0, 5.0]])
        >>> limits.of(np.array([3, 3, 2]), np.array([True, False, True]), np.array([10, 999, 100])).round(2)
        array([11.  ,  5.  , 18.42])
        """
        n_bands, is_known, n_draws = np.broadcast_arrays(n_bands, is_known, n_draws)
        found, at = chi2_limit(n_bands), np.log(np.maximum(n_draws, 1))
        for row, (known, unknown) in enumerate(zip(self.known, self.unknown, strict=True)):
            for limits, of_kind in ((known, is_known), (unknown, ~is_known)):
                here = (n_bands == row + MIN_BANDS) & of_kind
                found[here] = np.interp(at[here], np.log(self.draws), limits)
        return found


def limits_of(
    limits: Chi2Limits | None, n_bands: np.ndarray, is_known: np.ndarray, n_draws: "np.ndarray | int"
) -> np.ndarray:
    """`Chi2Limits.of`, or the chi2 law where a posterior has no such record."""
    return chi2_limit(n_bands) if limits is None else limits.of(n_bands, is_known, np.asarray(n_draws))

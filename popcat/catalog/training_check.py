"""A whole catalogue against the training set of a posterior: what was measured, and what does not fit.

The record is small, so that it stays in the manifest of a posterior catalogue. popcat.checks.training_check makes it.
"""

from typing import Annotated

import pydantic

from popcat.display import Displayed, listed

_UNKNOWN = "Look at units, zero points, columns and filters; or are these galaxies that the galaxy model lacks?"
Number = Annotated[float, pydantic.Field(allow_inf_nan=False)]


class Measure(pydantic.BaseModel):
    """One number of a catalogue, and the range in which catalogues that fit have it.

    what : the quantity. band : None where it is of all bands. detail : a number for the reader, such as a median.
    """

    model_config = pydantic.ConfigDict(strict=True, frozen=True)

    what: str
    band: str | None = None
    value: Number
    low: Number | None = None
    high: Number | None = None
    detail: str = ""

    @property
    def fits(self) -> bool:
        """Whether the number is inside its range."""
        return (self.low is None or self.value >= self.low) and (self.high is None or self.value <= self.high)


class TrainingCheck(Displayed, pydantic.BaseModel):
    """Whether a catalogue looks like the training set of a posterior.

    posterior : its location. galaxies : how many of the catalogue were compared. measures : what was compared. cause :
    what usually makes such a catalogue, where one of popcat's few hypotheses explains it.
    """

    model_config = pydantic.ConfigDict(strict=True, frozen=True)

    posterior: str
    galaxies: int = pydantic.Field(ge=1)
    measures: list[Measure]
    cause: str | None = None

    @pydantic.computed_field  # type: ignore[prop-decorator]  # so that JSON says it
    @property
    def fits(self) -> bool:
        """Whether every measure is inside its range."""
        return all(one.fits for one in self.measures)

    @property
    def misfits(self) -> str:
        """What does not fit, each quantity once with its bands; empty if everything fits."""
        found: dict[str, list[Measure]] = {}
        for one in self.measures:
            if not one.fits:
                found.setdefault(one.what, []).append(one)
        return "; ".join(what + _where(measures) for what, measures in found.items())

    @property
    def does_not_fit(self) -> str:
        """What does not fit, as the end of a sentence about the catalogue."""
        return f"does not fit the training set ({self.misfits})"

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def line(self) -> str:
        """One line for the user.

        >>> high = Measure(what="best chi2", value=0.9, high=0.3)
        >>> TrainingCheck(posterior="sdss", galaxies=60, measures=[high], cause="the fluxes are f_lambda").line
        'DOES NOT FIT the training of posterior sdss: best chi2. Usually the fluxes are f_lambda.'
        """
        if self.fits:
            return f"{self.galaxies:,} galaxies of the catalogue fit the training of posterior {self.posterior}"
        cause = f"Usually {self.cause}." if self.cause else _UNKNOWN
        return f"DOES NOT FIT the training of posterior {self.posterior}: {self.misfits}. {cause}"

    @property
    def facts(self) -> dict[str, str]:
        """What the reprs of others say."""
        if self.fits:
            return {"training set": self.line}
        return {"DOES NOT FIT": f"the training set: {self.misfits}", "usually": self.cause or "see training_check"}

    def _title(self) -> str:
        return self.line

    def _facts(self) -> dict[str, str]:
        return {" ".join(filter(None, (one.what, one.band))): _range(one) for one in self.measures}


def _where(measures: list[Measure]) -> str:
    """Bands and details of what does not fit."""
    bands, details = ([text for text in texts if text]
                      for texts in ([one.band for one in measures], [one.detail for one in measures]))  # fmt: skip
    return (f" in {listed(bands, 20)}" if bands else "") + (f" ({'; '.join(details)})" if details else "")


def _range(one: Measure) -> str:
    low, high = ("" if limit is None else f"{limit:g}" for limit in (one.low, one.high))
    text = f"{one.value:.2f}, expected {low} to {high}" if low else f"{one.value:.2f}, expected at most {high}"
    return text + ("" if one.fits else "  <-")

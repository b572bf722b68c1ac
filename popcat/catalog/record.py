"""What a posterior catalogue is of: a record in its manifest, and the first lines that it says of itself."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from popcat.catalog.chi2_limits import Chi2Limits
from popcat.catalog.learned import Learned
from popcat.catalog.training_check import TrainingCheck
from popcat.display import listed
from popcat.galaxies import CERTIFIED_MEANS
from popcat.galaxy_model import RecordedGalaxyModel
from popcat.survey import Survey

Count = Annotated[int, Field(ge=0, le=2**62)]


def certified_words(n_certified: int | None, n_posteriors: int, check: TrainingCheck | None) -> str:
    """How many posteriors are certified and what that means, with what the whole catalogue's check says beside it.

    `n_certified` is None where it was not counted. The check is None where too few galaxies could be compared.

    >>> print(certified_words(9, 10, None))
    9 of 10 posteriors are certified: draws are right given the galaxy model, prior and data; not that these are right
    """
    number = "column certified"
    if n_certified is not None:
        number = f"{n_certified:,} of {n_posteriors:,} posteriors are certified"
    if check is None or check.fits:
        return f"{number}: {CERTIFIED_MEANS}"
    return f"{number} given the data, but the catalogue {check.does_not_fit}: {CERTIFIED_MEANS}"


class PosteriorRecord(BaseModel):
    """The trained posterior that made a catalogue.

    name : its hash; None in a reweighted catalogue of before. location : its folder, or the name of an embedded one.
    prior : the one of its priors (popcat.prior.PRIORS) that the draws were made under.
    """

    model_config = ConfigDict(strict=True)

    name: str | None
    location: str
    prior: str = "flat"


class Certification(BaseModel):
    """The effort of importance sampling with the exact likelihood: see `popcat.checks.certify.Effort`.

    odds : of a star and of a quasar to a galaxy (popcat.checks.alternatives.Odds); None in a catalogue of before.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    target_ess: float
    budget_ms: float
    refit: bool = False
    odds: dict[str, float] | None = None


class CatalogRecord(BaseModel):
    """What a posterior catalogue is of: `OutputFolder.finish` writes it into the manifest.

    prior : None for the training prior, else the text or the name of the new one; then `reweighted_from` is the
    catalogue it came from. certify : None without the exact likelihood. calibration : what the posterior's calibration
    said. provenance : of the posterior. source : the catalogue of photometry. seconds : of the run that ended it.
    training_check : the whole catalogue against the posterior's training set; None with too few galaxies. status,
    flags : rows of each status, and with each flag. warnings : what is wrong with the source, a line each. misfits :
    of the galaxies that the model does not fit, likewise. learned : what the photometry says of each quantity beyond
    the prior; None in a catalogue of before, a reweighted one, or without galaxies to say it of. n_certified : rows
    whose column `certified` is true; None in a catalogue of before. chi2_limits : of the flag high_chi2; None where
    the chi2 law served.
    """

    model_config = ConfigDict(strict=True)

    survey: Survey
    galaxy_model: RecordedGalaxyModel
    posterior: PosteriorRecord
    draws: int = Field(ge=1)
    seed: int
    calibration: str
    provenance: dict[str, Any]
    source: str
    certify: Certification | None = None
    prior: str | None = None
    reweighted_from: str | None = None
    seconds: float | None = None
    training_check: TrainingCheck | None = None
    status: dict[str, Count] = {}
    flags: dict[str, Count] = {}
    n_certified: Count | None = None
    chi2_limits: Chi2Limits | None = None
    warnings: list[str] = []
    misfits: list[str] = []
    learned: Learned | None = None

    @property
    def facts(self) -> dict[str, str]:
        """What a catalogue's repr says."""
        name = f" ({self.posterior.name[:12]})" if self.posterior.name else ""
        facts = {
            "survey": f"{self.survey.name}: {listed(self.survey.band_names, 20)}",
            "posterior": f"{self.posterior.location}{name}, {self.draws} draws per galaxy, seed {self.seed}",
        }
        facts |= self.trust | ({"learned": self.learned.in_short} if self.learned else {})
        return facts | ({"prior": f"another one; reweighted from {self.reweighted_from}"} if self.prior else {})

    @property
    def trust(self) -> dict[str, str]:
        """What is certified, and beside it whether the whole catalogue fits the training set."""
        check, number = self.training_check, "column certified"
        if self.certify is None:
            return {"certified": "no"} | (check.facts if check else {})
        if self.n_certified is not None:
            number = f"{self.n_certified:,} of {self.status.get('ok', 0):,} posteriors"
        if check is not None and not check.fits:
            number += " given the data, but the catalogue does not fit the training set"
        return {"certified": number, "which means": CERTIFIED_MEANS} | (check.facts if check else {})

    @property
    def certified_line(self) -> str:
        """How many posteriors are certified, and what that means; empty without the correction by the exact likelihood.

        A catalogue that does not fit the training set is not called certified without that.
        """
        if self.certify is None:
            return ""
        return certified_words(self.n_certified, self.status.get("ok", 0), self.training_check)

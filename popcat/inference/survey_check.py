"""`check_survey`: what a catalogue holds, and whether it fits a posterior's training, before anything is inferred."""

from dataclasses import replace
from pathlib import Path

from popcat.checks.training_check import check_training
from popcat.errors import PopcatError
from popcat.forward.coverage import lacking
from popcat.galaxy_model import GalaxyModel
from popcat.inference.partition import read_spread
from popcat.inference.rows import hopeless
from popcat.io.inspection import Inspection, inspect_catalog
from popcat.io.named import Source, label_of
from popcat.io.reading import require_bands
from popcat.posterior.locations import embedded_posteriors, posterior_location
from popcat.posterior.posterior import load_posterior
from popcat.survey import Survey, load_survey


def check_survey(
    source: Source, survey: "str | Path | Survey" = "sdss", *, posterior: str | Path | None = None
) -> Inspection:
    """What each band of a catalogue holds, read as a survey says, and how many rows each flag has.

    A sample of the galaxies is compared with the training set of a posterior (popcat.checks.training_check), by default
    of an embedded one that was trained for the survey's bands, if there is one. Where no galaxy can have a posterior,
    `inferable` is 0, and the first of the `remarks` says why. Without a posterior a remark says which bands see light
    that the default galaxy model lacks (popcat.forward.coverage).

    Raises PopcatError if the catalogue does not fit the survey, or the survey's bands are not the posterior's.

    >>> found = check_survey("galaxies.parquet", "sdss")
    >>> found.rows, found.bands[2].band, found.bands[2].observed
    (40, 'r', 40)
    >>> found.training_check.fits
    True
    """
    survey = load_survey(survey)
    found = inspect_catalog(source, survey)
    posterior = _embedded_for(survey) if posterior is None else posterior
    if posterior is None:
        found = replace(found, remarks=(*found.remarks, *lacking(survey, GalaxyModel())))
        if found.inferable:
            return found  # there is nothing to compare with, and nothing to explain
    frame = read_spread(source, survey)
    if posterior is None or not found.inferable:
        return replace(found, remarks=(hopeless(label_of(source), frame, survey), *found.remarks))
    trained = load_posterior(posterior)
    require_bands(survey, trained.survey)
    check = check_training(frame, trained, posterior_location(posterior), survey=survey)
    return replace(found, training_check=check)


def _embedded_for(survey: Survey) -> str | None:
    """The embedded posterior of a survey's name, or else the first of the same bands."""
    names = embedded_posteriors()
    for name in sorted(names, key=lambda name: name != survey.name):
        try:
            require_bands(survey, load_survey(name))
        except PopcatError:
            continue
        return name
    return None

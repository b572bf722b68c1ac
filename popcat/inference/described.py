"""A catalogue before its first part is inferred: what its galaxies are like, whether they fit the training, what their
photometry says beyond the prior. All from the same rows, however the catalogue is cut."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pandas as pd

from popcat.catalog.training_check import TrainingCheck
from popcat.checks.flags import describe_own_galaxies, rows_to_fit
from popcat.checks.training_check import check_training
from popcat.errors import CatalogWarning
from popcat.inference.learned import learned_of
from popcat.inference.partition import Request, pieces_of
from popcat.inference.rows import refuse_hopeless
from popcat.io.content import SourceFiles
from popcat.io.reading import without_redshift
from popcat.posterior.posterior import Posterior


@dataclass(frozen=True)
class Given:
    """Galaxies in parts that any process can make (popcat.inference.partition.read_part).

    label : of the source. parts, rows : parts and the number of rows of each. digest : hash of the content.
    rows_per_part : as asked for or chosen. fetch : the photometry frame of pieces (part, first row, end) of parts.
    files : those that the parts are in, where they are in files. remarks : what is wrong with the source as a whole, a
    line each. is_named : whether identifiers are text.
    """

    label: str
    parts: list
    rows: list[int]
    digest: str
    rows_per_part: int | None
    fetch: Callable[[list[tuple[int, int, int]]], pd.DataFrame]
    files: SourceFiles | None = None
    remarks: list[str] = field(default_factory=list)
    is_named: bool = False


def describe(
    given: Given, posterior: Posterior, request: Request, *, is_written: bool = False
) -> tuple[Request, TrainingCheck | None]:
    """The request with a description of the catalogue's own galaxies, from the same rows however they are cut, and
    these rows against the posterior's training set; a warning if they do not fit. If files are written, the request
    also has what these galaxies' photometry says beyond the prior.

    Raises PopcatError if none of these rows can have a posterior and files would be written.
    """
    pieces = pieces_of(given.rows, rows_to_fit(sum(given.rows)))
    if not pieces:
        return request, None
    frame = given.fetch(pieces)
    frame = without_redshift(frame) if request.hide_redshift else frame
    if is_written:
        refuse_hopeless(given.label, frame, request.survey)
    check = check_training(frame, posterior, request.posterior, survey=request.survey)
    if check is not None and not check.fits:
        warnings.warn(check.line, CatalogWarning, stacklevel=4)
    learned = learned_of(frame, posterior, request.seed) if is_written else None
    return replace(request, own=describe_own_galaxies(frame, posterior), learned=learned), check

"""Zero points of a catalogue: which galaxies they are fitted to, what the others say of them, the survey with them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from popcat import rng
from popcat.checks.beyond_help import beyond_help
from popcat.checks.flags import known_redshift
from popcat.checks.zero_points import MIN_GALAXIES, Fit, best_chi2, corrected, fit_offsets
from popcat.display import Displayed
from popcat.errors import PopcatError, did_you_mean
from popcat.galaxies import FLAGS, Observation, has_posterior, observation
from popcat.inference.partition import read_spread
from popcat.io.named import Source, label_of
from popcat.io.reading import require_bands
from popcat.io.survey_files import survey_text
from popcat.posterior.posterior import Posterior, load_posterior
from popcat.survey import Survey, load_survey

HELD_OUT = 1.0 / 3.0
"""Share of the galaxies that the zero points are tested with, and not fitted to."""
MIN_REDSHIFTS = 300
"""With so many spectroscopic redshifts only galaxies with one are used."""
N_BLOCKS, BLOCK_ROWS = 100, 5000
"""Of a larger catalogue so many blocks of rows are read, evenly spaced."""
_STREAM_HELD_OUT = 14


@dataclass(frozen=True)
class BandZeroPoint:
    """The zero point of one band.

    change_mag, error_mag : what is added to magnitudes beyond the survey file's ab_offset_mag, and its error; None in a
    band with too few galaxies. template_error : scatter of the residuals beyond the errors, fraction of the flux.
    ab_offset_mag, error_floor : for the survey file. beyond_help : why no zero point corrects the band, or None.
    """

    band: str
    change_mag: float | None
    error_mag: float | None
    template_error: float
    ab_offset_mag: float
    error_floor: float
    galaxies: int
    beyond_help: str | None


@dataclass(frozen=True, repr=False)
class ZeroPoints(Displayed):
    """Zero points of a survey's bands, fitted from a catalogue, and the survey with them.

    galaxies, held_out : fitted to, and tested with. with_redshift : whether redshifts were given. chi2_before,
    chi2_after, chi2_floors : median best chi2 of those held out, with the old zero points, the new ones, and the new
    error floors beside. steps, is_settled : of the iteration, and whether its last change was below the error.
    files : the survey file and the page, where they were written.
    """

    bands: tuple[BandZeroPoint, ...]
    reference: str
    survey: Survey
    galaxies: int
    held_out: int
    with_redshift: bool
    chi2_before: float
    chi2_after: float
    chi2_floors: float
    steps: int
    is_settled: bool
    files: tuple[str, ...] = ()

    def _title(self) -> str:
        return f"Zero points of survey {self.survey.name}, relative to {self.reference}"

    def _facts(self) -> dict[str, object]:
        head = f"{'change':>8s} {'error':>7s} {'ab_offset_mag':>14s} {'template error':>15s} {'error_floor':>12s}"
        facts: dict[str, object] = {"band": f"{head} {'galaxies':>9s}"}
        for one in self.bands:
            change, error = ("-" if value is None else f"{value:{form}}" for value, form in (
                (one.change_mag, "+.3f"), (one.error_mag, ".3f")))  # fmt: skip
            facts[one.band] = (f"{change:>8s} {error:>7s} {one.ab_offset_mag:+14.3f} {one.template_error:15.3f} "
                               f"{one.error_floor:12.3f} {one.galaxies:9,d}")  # fmt: skip
        facts["total"] = (f"{self.galaxies:,} galaxies {'with' if self.with_redshift else 'without'} a redshift, "
                          f"{self.steps} steps, {'settled' if self.is_settled else 'NOT settled'}")  # fmt: skip
        facts["held out"] = (f"{self.held_out:,} galaxies: median best chi2 {self.chi2_before:.1f} before, "
                             f"{self.chi2_after:.1f} after")  # fmt: skip
        return facts | {f"no zero point corrects {one.band}": one.beyond_help for one in self.bands if one.beyond_help}

    def text(self) -> str:
        """The survey file."""
        head = [f"Zero points by popcat survey zeropoints: {self.galaxies:,} galaxies, relative to {self.reference}.",
                "A posterior is trained for the errors of its survey: where error_floor grew, train with this file."]
        return survey_text(self.survey, head, {one.band: _lines(one, self.reference) for one in self.bands})


def _lines(one: BandZeroPoint, reference: str) -> list[str]:
    if one.change_mag is None or one.error_mag is None:
        return [f"{one.band}: too few galaxies for a zero point"]
    if one.band == reference:
        return [f"{one.band}: the reference; template error {one.template_error:.3f}"]
    said = f"{one.band}: changed by {one.change_mag:+.3f} +- {one.error_mag:.3f} mag"
    help_ = [f"CHECK, no zero point corrects this: {one.beyond_help}"] if one.beyond_help else []
    return [f"{said}; template error {one.template_error:.3f}", *help_]


@dataclass(frozen=True)
class Measured:
    """Zero points, and what a page shows of the galaxies that they were fitted to."""

    found: ZeroPoints
    fit: Fit
    data: Observation


def measure_zero_points(
    source: Source, posterior: str | Path, survey: "str | Path | Survey | None", *, n: int, reference: str | None,
    prior: str | None, seed: int, report: Callable[[str], object],
) -> Measured:  # fmt: skip
    """Fit the zero points of a catalogue, with a posterior that was trained for its bands."""
    trained = load_posterior(posterior).under(prior)
    survey = trained.survey if survey is None else load_survey(survey)
    require_bands(survey, trained.survey)
    reference = survey.selection.band if reference is None else reference
    names = trained.survey.band_names
    if reference not in names:
        raise PopcatError(f'no band "{reference}" in survey {survey.name}: {did_you_mean(reference, list(names))}')
    data, with_redshift = _choose(read_spread(source, survey, _spans), trained, n)
    is_held_out = rng.uniform(seed, _STREAM_HELD_OUT, data.object_id, 1)[:, 0] < HELD_OUT
    fitted, held_out = data[~is_held_out], data[is_held_out]
    if min(len(fitted), len(held_out)) < MIN_GALAXIES:
        raise PopcatError(f"{label_of(source)}: {len(data)} galaxies can have a posterior and pass the quality cuts; "
                          f"expected {4 * MIN_GALAXIES} or more for zero points")  # fmt: skip
    floors = np.array([_band(survey, name).error_floor for name in names])
    fit = fit_offsets(trained, fitted, floors, names.index(reference), seed, report)
    bands = _bands(fit, survey, names, floors, beyond_help(fit, known_redshift(fitted)))
    x = np.array([0.0 if one.change_mag is None else one.change_mag for one in bands])
    new_floors = np.array([one.error_floor for one in bands])
    before, after, with_floors = (best_chi2(trained, corrected(held_out, shift, floors, new), seed) for shift, new in (
        (0.0 * x, floors), (x, floors), (x, new_floors)))  # fmt: skip
    found = ZeroPoints(bands, reference, _with(survey, bands), len(fitted), len(held_out), with_redshift, before, after,
                       with_floors, fit.steps, fit.is_settled)  # fmt: skip
    return Measured(found, fit, fitted)


def _spans(total: int) -> list[tuple[int, int]]:
    """First and last (excluded) rows of a catalogue that are read: all, or evenly spaced blocks."""
    if total <= N_BLOCKS * BLOCK_ROWS:
        return [(0, total)]
    starts = np.round(np.linspace(0, total - BLOCK_ROWS, N_BLOCKS)).astype(int)
    return [(int(start), int(start) + BLOCK_ROWS) for start in starts]


def _choose(frame: pd.DataFrame, posterior: Posterior, n: int) -> tuple[Observation, bool]:
    """At most n galaxies, evenly spaced, and whether they have redshifts: those with one, where these are enough."""
    flags = frame["flags"].to_numpy()
    good = has_posterior(flags) & (flags & (FLAGS["quality_cut"] | FLAGS["outside_training"]) == 0)
    data = observation(frame[good], posterior.survey)
    known = np.isfinite(known_redshift(data))
    with_redshift = bool(known.sum() >= MIN_REDSHIFTS)
    rows = np.flatnonzero(known) if with_redshift else np.arange(len(data))
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int)) if len(rows) else rows
    return data[rows[chosen]], with_redshift


def _bands(fit: Fit, survey: Survey, names, floors, why) -> tuple[BandZeroPoint, ...]:
    found = []
    for b, name in enumerate(names):
        known = np.isfinite(fit.offset_err[b])
        change, error = (round(float(value[b]), 4) if known else None for value in (fit.offset_mag, fit.offset_err))
        template = round(float(fit.template_error[b]), 4)
        found.append(BandZeroPoint(
            name, change, error, template, round(_band(survey, name).ab_offset_mag + (change or 0.0), 4),
            max(float(floors[b]), template), int(fit.n_galaxies[b]), why[b],
        ))  # fmt: skip
    return tuple(found)


def _band(survey: Survey, name: str):
    return next(band for band in survey.bands if band.name == name)


def _with(survey: Survey, bands: tuple[BandZeroPoint, ...]) -> Survey:
    """The survey with the new offsets and floors."""
    of = {one.band: {"ab_offset_mag": one.ab_offset_mag, "error_floor": one.error_floor} for one in bands}
    return survey.model_copy(update={"bands": tuple(band.model_copy(update=of[band.name]) for band in survey.bands)})

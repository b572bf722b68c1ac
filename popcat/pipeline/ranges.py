"""The selection and the redshift range that a catalogue's own galaxies ask for.

The selection is a range of observed magnitude, and the redshift range is the prior's. Every galaxy of the catalogue
must lie within both, and what they hold beyond it costs simulated galaxies that teach nothing about the catalogue.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from popcat.galaxies import MIN_REDSHIFT_ERR, Observation, observation, observed
from popcat.survey import Z_MAX, Survey
from popcat.units import nmgy_to_ab_mag

DETECTED = 3.0
"""Errors of a flux that is detected."""
_MANY = 2000
"""Of so many values or fewer the extremes are the range; of more, the percentiles that leave out one in a thousand."""
_OUTSIDE = 0.005
"""Part of the galaxies that may lie outside a range of the survey file."""
_FAR_INSIDE = 0.5
"""A range of the survey file is narrowed if the catalogue needs less than this part of it."""
_MARGIN_Z, _STEP_Z, _FREE_Z = 0.02, 0.01, 1.2
"""Of 1 + z, beyond the redshifts that are given; rounding; a factor on the largest, if others are to be inferred."""
_STEP_MAG = 0.25
_AS_MANY = 0.02
"""A band that detects so much smaller a part of the galaxies is no worse as the band of the selection."""


@dataclass(frozen=True)
class Ranges:
    """A survey with the ranges that a catalogue asks for, and what was changed, a line each."""

    survey: Survey
    remarks: tuple[str, ...]


def choose_ranges(
    frame: pd.DataFrame, survey: Survey, *, hide_redshift: bool = False, free: frozenset[str] = frozenset()
) -> Ranges:
    """The ranges of the survey that hold the galaxies of a photometry frame.

    `free` names those that nobody has decided on, of "redshift_range" and "selection": they become what the frame asks
    for. The others are changed where more than one galaxy in 200 lies outside, or where the frame needs less than half.
    """
    data, remarks = observation(frame, survey), []
    low, high = _redshifts(data, survey, hide_redshift, is_free="redshift_range" in free)
    if (low, high) != survey.redshift_range:
        remarks.append(f"redshift range: {low:g} to {high:g}, for the redshifts of the catalogue "
                       f"(survey file: {survey.redshift_range[0]:g} to {survey.redshift_range[1]:g})")  # fmt: skip
    cut = _selection(data, survey, is_free="selection" in free)
    if cut != survey.selection:
        old = survey.selection
        remarks.append(f"selection: {cut.band} {cut.bright_mag:g} to {cut.faint_mag:g} mag, for the magnitudes of the "
                       f"catalogue (survey file: {old.band} {old.bright_mag:g} to {old.faint_mag:g} mag)")  # fmt: skip
    chosen = survey.model_copy(update={"redshift_range": (low, high), "selection": cut})
    return Ranges(chosen, tuple(remarks))


def _redshifts(data: Observation, survey: Survey, hidden: bool, *, is_free: bool) -> tuple[float, float]:
    z, now = data.redshift, survey.redshift_range
    seen = np.isfinite(z) & (z > 0.0) & (z <= Z_MAX)
    if not seen.any():
        return now
    err = np.where(data.redshift_err > MIN_REDSHIFT_ERR, data.redshift_err, 0.0)[seen]
    first, last = _extremes(z[seen] - 3.0 * err)[0], _extremes(z[seen] + 3.0 * err)[1]
    is_inferred = hidden or not seen.all()
    if is_inferred:
        first, last = min(first, now[0]) if is_free else first, last * _FREE_Z
    low = max(_down(first - _MARGIN_Z * (1.0 + max(first, 0.0)), _STEP_Z), 0.001)
    high = min(_up(last + _MARGIN_Z * (1.0 + last), 5.0 * _STEP_Z), Z_MAX)
    if is_free:
        return low, high
    if np.mean((z[seen] < now[0]) | (z[seen] > now[1])) > _OUTSIDE:
        return min(low, now[0]), max(high, now[1])
    is_far_inside = not is_inferred and high - low < _FAR_INSIDE * (now[1] - now[0])
    return (max(low, now[0]), min(high, now[1])) if is_far_inside else now


def _selection(data: Observation, survey: Survey, *, is_free: bool):
    cut, seen = survey.selection, observed(data.flux, data.flux_err)
    with np.errstate(invalid="ignore", divide="ignore"):
        sn = np.where(seen, data.flux / np.where(seen, data.flux_err, 1.0), np.nan)
    share = np.sum(sn > DETECTED, axis=0) / max(len(data), 1)
    band = survey.band_names.index(cut.band)
    if not share.max() > 0.0:
        return cut
    if share[band] < (share.max() - _AS_MANY if is_free else 0.5 * share.max()):
        best = np.flatnonzero(share >= share.max() - _AS_MANY)
        band = int(best[np.argmax([np.nanmedian(sn[:, b]) for b in best])])
        is_free = True
    rows = seen[:, band]
    # a flux near zero may have any magnitude: none is fainter than its error
    mag = nmgy_to_ab_mag(np.maximum(data.flux[rows, band], data.flux_err[rows, band]))
    bright, faint = _extremes(mag)
    bright, faint = _down(bright, _STEP_MAG), _up(faint, _STEP_MAG)
    faint = max(faint, bright + 2.0 * _STEP_MAG)
    if is_free:
        return cut.model_copy(update={"band": survey.band_names[band], "bright_mag": bright, "faint_mag": faint})
    if np.mean((mag < cut.bright_mag) | (mag > cut.faint_mag)) > _OUTSIDE:
        return cut.model_copy(
            update={"bright_mag": min(bright, cut.bright_mag), "faint_mag": max(faint, cut.faint_mag)}
        )
    is_far_inside = faint - bright < _FAR_INSIDE * (cut.faint_mag - cut.bright_mag)
    return cut.model_copy(update={"bright_mag": bright, "faint_mag": faint}) if is_far_inside else cut


def _extremes(values: np.ndarray) -> tuple[float, float]:
    ends = [0.0, 100.0] if len(values) <= _MANY else [0.05, 99.95]
    low, high = np.percentile(values, ends)
    return float(low), float(high)


def _down(value: float, step: float) -> float:
    return round(float(np.floor(value / step) * step), 3)


def _up(value: float, step: float) -> float:
    return round(float(np.ceil(value / step) * step), 3)

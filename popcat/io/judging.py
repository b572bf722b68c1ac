"""Whether rows hold fluxes of galaxies in the unit that a survey file says: what no schema tells.

Each file is judged by itself and beside the other files of its catalogue. Files are sky regions, or slices in
brightness, so that they may differ by much: depths of one catalogue differ by 4 magnitudes, slices in brightness by 10.
Galaxies that are brighter have a larger signal-to-noise ratio too, unless it is their unit that differs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from popcat.io.photometry import EXTINCTION_RANGE, MAG_RANGE, extinctions, limits, numbers, to_nmgy
from popcat.io.stated_units import MAGNITUDES
from popcat.survey import Band, Survey
from popcat.units import nmgy_to_ab_mag

PLAUSIBLE_MAG = (5.0, 35.0)
"""The median galaxy of any survey has a magnitude in this range; the unit is wrong otherwise."""

MIN_ROWS = 20
"""Of fewer values nothing is said."""

_LIKE_MAGNITUDES = (8.0, 32.0)
_NO_MAGNITUDES, _DIFFERENT = 0.1, 10
"""Fraction of values that cannot be magnitudes, and how many different ones, where marks are a few."""
_FAR, _FAR_ERRORS, _FAR_SCALE = 4.0, 2.0, 2.3
"""Decades: of the median flux, beyond every slice in brightness; of the median error at about the same flux, beyond
every depth; and of both together at the same signal-to-noise ratio."""
_MANY = 20
"""Of more files than this each is compared with the median of all."""
_SAME_SN, _BEST = 0.5, 0.7
"""Decades in signal-to-noise that count as the same; the fraction of the best that brighter galaxies reach."""


@dataclass(frozen=True)
class BandSummary:
    """Decimal logarithms of a band: medians of flux and error (nMgy), and percentiles 5, 50, 95 of their ratio."""

    flux: float
    err: float
    sn: tuple[float, float, float]


Summary = dict[str, BandSummary]
"""By the names of bands with enough values."""


Fault = tuple[str, str]
"""Which fault of which column it is, the same in all rows that have it; and the line that tells it of some rows."""


def faults_of_rows(where: str, raw: pd.DataFrame, survey: Survey) -> Iterator[Fault]:
    """What is wrong with the values of some rows."""
    yield from _wrong_magnitude(where, raw, survey)
    yield from _magnitudes_for_fluxes(where, raw, survey)
    yield from _fluxes_for_magnitudes(where, raw, survey)
    yield from _wrong_extinction(where, raw, survey)


def remarks_of_rows(where: str, raw: pd.DataFrame, survey: Survey) -> Iterator[str]:
    """What a user should know of the values of some rows: non-detections, and what they are taken for."""
    for band in survey.bands:
        if survey.unit_of(band) != "ab_mag" or not band.flux_err:
            continue
        taken = int(np.isfinite(limits(raw, band, survey)).sum())
        if taken:
            yield (f'{where}: {taken} of {len(raw)} rows looked at are non-detections in band {band.name} '
                   f"({band.flux} = {survey.limit_mark:g}): flux 0 with {survey.limit_sigma:g}-sigma limits from "
                   f"{band.flux_err}")  # fmt: skip
            continue
        value, err = numbers(raw, band.flux, survey.missing_values), numbers(raw, band.flux_err)
        left = int(((value > MAG_RANGE[1]) & (err > PLAUSIBLE_MAG[0]) & (err < PLAUSIBLE_MAG[1])).sum())
        if left and survey.limit_mark is None:
            mark = float(value[value > MAG_RANGE[1]][0])
            yield (f'{where}: {left} of {len(raw)} rows looked at seem to be non-detections in band {band.name} '
                   f"({band.flux} = {mark:g}, a magnitude in {band.flux_err}), and are taken as not observed; "
                   f"limit_mark = {mark:g} in the survey file makes them a flux of 0 with that limit as its error")


def summary_of(raw: pd.DataFrame, survey: Survey) -> Summary:
    """What files are compared by."""
    found = {}
    if len(raw) < MIN_ROWS:
        return {}
    for band in survey.bands:
        flux, err = _in_nmgy(raw, band, survey)
        known = (flux > 0) & (err > 0) & np.isfinite(flux) & np.isfinite(err)
        if known.sum() >= MIN_ROWS:
            flux, err = np.log10(flux[known]), np.log10(err[known])
            low, middle, high = np.percentile(flux - err, (5, 50, 95))
            found[band.name] = BandSummary(float(np.median(flux)), float(np.median(err)), (low, middle, high))
    return found


def faults_among(summaries: dict[str, Summary], survey: Survey) -> Iterator[str]:
    """Files (or stretches of one) whose fluxes or errors no sky region of the same catalogue has, each in a line."""
    odd: dict[str, list[str]] = {}
    for band in survey.bands:
        known = {where: one[band.name] for where, one in summaries.items() if band.name in one}
        for where, said in _odd_ones(known):
            odd.setdefault(where, []).append(f"{band.name} {said}")
    for where, said in odd.items():
        if len(summaries) == 2 and where == next(iter(summaries)) and len(odd) == 2:
            continue  # of two files each differs from the other; one line is enough
        others = next(other for other in summaries if other != where) if len(summaries) == 2 else "the other files"
        yield (f'{where} differs from {others} more than sky regions do: {"; ".join(said)}. Expected one unit in all '
               "files of a catalogue: convert it, or read it as a catalogue of its own with a survey file of its own")


def _odd_ones(known: dict[str, BandSummary]) -> Iterator[tuple[str, str]]:
    """Those that differ from more than half of the others, and how."""
    table = np.array([(one.flux, one.err, *one.sn) for one in known.values()])
    many = [np.median(table, axis=0)] if len(known) > _MANY else None
    for i, where in enumerate(known):
        others = many or list(np.delete(table, i, axis=0))
        odd = [other for other in others if _differs(table[i], other)]
        if len(odd) > len(others) / 2:
            flux, err = 10.0 ** (table[i, :2] - np.median(odd, axis=0)[:2])
            yield where, f"has {flux:.3g} times their median flux and {err:.3g} times their median error"


def _differs(one: np.ndarray, others: np.ndarray) -> bool:
    flux, err, sn = one[0] - others[0], one[1] - others[1], one[3] - others[3]
    if abs(flux) > _FAR or (abs(err) > _FAR_ERRORS and abs(flux) < 1.0):
        return True
    if abs(flux) < _FAR_SCALE or abs(sn) > _SAME_SN:
        return False
    if flux > 0:  # brighter than all others, and yet not as well measured as their bright ones
        return one[3] < others[4] + np.log10(_BEST)
    return one[3] > others[2] - np.log10(_BEST)


def twins_of_rows(raw: pd.DataFrame, survey: Survey) -> list[tuple[str, str]]:
    """Pairs of flux columns that hold the same numbers in all rows."""
    values = {band.flux: numbers(raw, band.flux, survey.missing_values) for band in survey.bands}
    names = [name for name, value in values.items() if np.isfinite(value).sum() >= MIN_ROWS and np.ptp(
        value[np.isfinite(value)]) > 0]  # fmt: skip
    return [(one, other) for i, one in enumerate(names) for other in names[i + 1 :]
            if np.array_equal(values[one], values[other], equal_nan=True)]  # fmt: skip


def _in_nmgy(raw: pd.DataFrame, band: Band, survey: Survey) -> tuple[np.ndarray, np.ndarray]:
    """Stored fluxes and errors of a band: extinction is not removed."""
    value = numbers(raw, band.flux, survey.missing_values)
    err = numbers(raw, band.flux_err or band.flux_ivar, survey.missing_values)
    with np.errstate(all="ignore"):
        err = err if band.flux_err else 1.0 / np.sqrt(err)
        return to_nmgy(value, err, survey.unit_of(band), band.softening)


def _wrong_magnitude(where: str, raw: pd.DataFrame, survey: Survey) -> Iterator[Fault]:
    """Looks at stored values: marks for missing magnitudes, if they are the majority, are worth a word too."""
    band = survey.bands[survey.band_names.index(survey.selection.band)]
    value, unit = numbers(raw, band.flux, survey.missing_values), survey.unit_of(band)
    mag = value if unit in MAGNITUDES else nmgy_to_ab_mag(to_nmgy(value, value, unit)[0])
    mag = mag[np.isfinite(mag)]
    low, high = PLAUSIBLE_MAG
    if mag.size and not low <= np.median(mag) <= high:
        yield (f"median of {band.flux}",
               f'{where}: the median {band.name} magnitude would be {np.median(mag):.1f}, expected {low:g} to '
               f'{high:g}; is column "{band.flux}" in "{unit}", as survey "{survey.name}" says?')


def _magnitudes_for_fluxes(where: str, raw: pd.DataFrame, survey: Survey) -> Iterator[Fault]:
    """Fluxes spread over decades and are larger in the red; magnitudes lie close together, in every band."""
    bands = [band for band in survey.bands if survey.unit_of(band) not in MAGNITUDES]
    values = [numbers(raw, band.flux, survey.missing_values) for band in bands]
    known = [value[np.isfinite(value) & (np.abs(value) < 90)] for value in values]
    low, high = _LIKE_MAGNITUDES
    if len(bands) >= 3 and all(value.size >= MIN_ROWS and np.mean((value > low) & (value < high)) > 0.98
                               for value in known):
        yield ("fluxes like magnitudes",
               f'{where}: columns {", ".join(band.flux for band in bands)} look like magnitudes: 98% of each lie '
               f'between {low:g} and {high:g}; say unit = "ab_mag" (or "asinh_mag") in survey "{survey.name}", whose '
               f'unit is "{survey.unit_of(bands[0])}"')


def _fluxes_for_magnitudes(where: str, raw: pd.DataFrame, survey: Survey) -> Iterator[Fault]:
    """Marks are a few numbers, repeated; fluxes are as many different numbers as galaxies."""
    for band in survey.bands:
        if survey.unit_of(band) not in MAGNITUDES:
            continue
        value = numbers(raw, band.flux, survey.missing_values)
        value = value[np.isfinite(value)]
        none = value[(value < MAG_RANGE[0]) | (value > MAG_RANGE[1])]
        if none.size > _NO_MAGNITUDES * value.size and np.unique(none).size > _DIFFERENT:
            yield (f"values of {band.flux}",
                   f'{where}: {none.size} of {value.size} values of column "{band.flux}" are no magnitudes, such as '
                   f'{none[0]:g}; is it in "{survey.unit_of(band)}", as survey "{survey.name}" says?')


def _wrong_extinction(where: str, raw: pd.DataFrame, survey: Survey) -> Iterator[Fault]:
    low, high = EXTINCTION_RANGE
    for column, bands in _by_extinction(survey.bands):
        magnitudes = extinctions(raw, bands[-1], survey)
        bad = (magnitudes < low) | (magnitudes > high)
        if bad.any():
            value = numbers(raw, column)[bad][0]
            yield (f"extinction {column}",
                   f'{where}: {int(bad.sum())} of {len(raw)} rows looked at have an extinction below {low:g} or above '
                   f'{high:g} mag in column "{column}", such as {value:g}; if that number stands for "unknown", name '
                   "it in missing_values of the survey file, otherwise correct the column")


def _by_extinction(bands: Iterable[Band]) -> Iterator[tuple[str, list[Band]]]:
    """Columns of extinctions with their bands, the one with the largest factor last."""
    found: dict[str, list[Band]] = {}
    for band in bands:
        if band.extinction:
            found.setdefault(band.extinction, []).append(band)
    for column, those in found.items():
        yield column, sorted(those, key=lambda band: band.extinction_factor)

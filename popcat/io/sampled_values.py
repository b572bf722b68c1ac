"""What the values of a catalogue suggest for its survey file: marks of missing values, ranges, usual sizes.

All of it comes from a sample of the rows, so all of it is a suggestion.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from popcat.errors import PopcatError
from popcat.io.chunks import Chunk
from popcat.io.photometry import MAG_RANGE, numbers, to_photometry
from popcat.io.sources import read_chunk
from popcat.survey import Survey
from popcat.units import NMGY_PER_UNIT, ab_mag_err_to_nmgy, ab_mag_to_nmgy, nmgy_to_ab_mag

SAMPLE_ROWS = 20_000
"""Rows of a part of a sample; a sample has up to three parts."""
_MARK = re.compile(r"-?9+\.(9+|0)")
_HUGE = 1e15
_MAX_REDSHIFT = 20.0
_DETECTED = 3.0
_LIKE_LIMITS, _NEAR_LIMIT, _FEW = (15.0, 35.0), 0.5, 20
"""Magnitudes that a limit may have; galaxies so near to it tell how many errors it is, if they are not too few."""
_ROW = "popcat_row"


class Sample:
    """Some rows of a catalogue, of its beginning, its middle and its end; columns are read when they are asked for."""

    def __init__(self, chunks: Sequence[Chunk]):
        picked = sorted({0, len(chunks) // 2, len(chunks) - 1})
        self._chunks = [chunks[index] for index in picked]
        self._known: dict[str, pd.Series] = {}

    def frame(self, names: Iterable[str]) -> pd.DataFrame:
        """Columns, elements of vectors and expressions, as a catalogue's reader gives them."""
        wanted = list(dict.fromkeys(names))
        lacking = [name for name in wanted if name not in self._known]
        if lacking:
            read = pd.concat([read_chunk(chunk, lacking) for chunk in self._chunks], ignore_index=True)
            self._known.update({name: read[name] for name in lacking})
        return pd.DataFrame({name: self._known[name] for name in wanted})

    def numbers(self, name: str) -> np.ndarray:
        """The finite values of a column."""
        values = numbers(self.frame([name]), name)
        return values[np.isfinite(values)]


def missing_marks(sample: Sample, fluxes: Iterable[str], others: Iterable[str]) -> list[float]:
    """Numbers that repeat and stand for "not observed": -99, 999 and the like, and -1 in errors and redshifts.

    `others` are columns that are never negative.
    """
    found: set[float] = set()
    for names, signed in ((fluxes, True), (others, False)):
        for name in names:
            values, counts = np.unique(sample.numbers(name), return_counts=True)
            apart = np.diff(values, prepend=-np.inf) > 0.3 * np.abs(values)  # a number like others is no mark
            for value, far in zip(values[counts > 1], apart[counts > 1], strict=True):
                mark = _is_mark(value) and (value < 0 or far)
                if mark or (not signed and value in (-1.0, -2.0)):
                    found.add(_plain(value))
    return sorted(found)


@dataclass(frozen=True)
class LimitMark:
    """A magnitude that stands for a non-detection whose error column has the limiting magnitude: the mark, how many
    such values the sample has, and how many errors the limit is, by the errors of galaxies near it (None: too few)."""

    mark: float
    count: int
    sigma: float | None

    @property
    def settings(self) -> str:
        """Lines of a survey file."""
        why = "how many errors the limit is" + (", by the errors of galaxies near it" if self.sigma else "")
        return ("# A magnitude of limit_mark is a non-detection, whose error column has the limiting magnitude: flux 0 "
                f"with that error\nlimit_mark = {self.mark:g}  # CHECK: {self.count:,} of the values looked at\n"
                f"limit_sigma = {self.sigma or 1.0:g}  # CHECK: {why}\n")  # fmt: skip


def limit_mark(sample: Sample, bands: Iterable[tuple[str, str]]) -> LimitMark | None:
    """What marks non-detections in columns of AB magnitudes and their errors, if anything does."""
    counts: dict[float, int] = {}
    ratios = []
    for name, error in bands:
        frame = sample.frame([name, error])
        mag, err = numbers(frame, name), numbers(frame, error)
        is_limit = (mag > MAG_RANGE[1]) & (err > _LIKE_LIMITS[0]) & (err < _LIKE_LIMITS[1])
        for value in mag[is_limit]:
            counts[_plain(value)] = counts.get(_plain(value), 0) + 1
        if is_limit.any():
            limit = float(np.median(err[is_limit]))
            near = (np.abs(mag - limit) < _NEAR_LIMIT) & (err > 0.0)
            if near.sum() >= _FEW:
                ratios.append(ab_mag_to_nmgy(limit) / np.median(ab_mag_err_to_nmgy(mag[near], err[near])))
    if not counts:
        return None
    mark = max(counts, key=counts.__getitem__)
    return LimitMark(mark, counts[mark], round(float(np.median(ratios)), 1) if ratios else None)


def looks_like_magnitudes(values: np.ndarray) -> bool:
    """Whether most values are as magnitudes of galaxies are."""
    seen = values[np.abs(values) < 90]
    return bool(len(seen)) and float(np.mean((seen > 8) & (seen < 32))) > 0.9


def redshift_range(values: np.ndarray) -> tuple[float, float] | None:
    """Most of the redshifts, rounded outward, never a single one; None where the values are no redshifts.

    >>> redshift_range(np.linspace(0.032, 0.71, 50)), redshift_range(np.full(50, 0.5))
    ((0.03, 0.8), (0.49, 0.6))
    """
    seen = values[values > 0]
    if len(seen) < 2:
        return None
    low, high = np.percentile(seen, [0.5, 99.5])
    if high > _MAX_REDSHIFT:
        return None
    low, high = max(0.001, _floor(low, 0.01)), max(_ceil(high, 0.1), 0.1)
    return (low, high) if low < high else (round(low - 0.01, 3), min(round(high + 0.1, 3), _MAX_REDSHIFT))


@dataclass(frozen=True)
class Magnitudes:
    """Of a band: how many galaxies are detected, and the magnitudes of 98% of them, rounded outward."""

    detected: int
    bright: float
    faint: float


def magnitudes(sample: Sample, survey: Survey) -> dict[str, Magnitudes]:
    """AB magnitudes, extinction removed, of what is detected in each band, read as the survey says."""
    bands = survey.bands
    texts = [text for band in bands for text in (band.flux, band.flux_err, band.flux_ivar, band.extinction) if text]
    try:
        raw = sample.frame(texts)
        columns = survey.columns.model_copy(update={"object_id": _ROW, "ra": "", "dec": "", "redshift": ""})
        frame = to_photometry(raw.assign(**{_ROW: np.arange(len(raw))}),
                              survey.model_copy(update={"columns": columns}))  # fmt: skip
    except PopcatError:
        return {}
    return {band.name: found for band in bands if (found := _magnitudes(frame, band.name))}


def magnitudes_by_unit(values: np.ndarray) -> dict[str, float]:
    """The median AB magnitude that fluxes would have in each unit; empty where the median is not positive."""
    seen = values[values != 0]
    if not len(seen) or np.median(seen) <= 0:
        return {}
    return {unit: round(float(nmgy_to_ab_mag(np.median(seen) * nmgy)), 1) for unit, nmgy in NMGY_PER_UNIT.items()}


def _magnitudes(frame: pd.DataFrame, band: str) -> Magnitudes | None:
    flux, err = (frame[f"{kind}_{band}"].to_numpy(dtype=float) for kind in ("flux", "flux_err"))
    with np.errstate(invalid="ignore"):
        mag = nmgy_to_ab_mag(flux[(err > 0) & (flux > _DETECTED * err)])
    if len(mag) < 2:
        return None
    bright, faint = np.percentile(mag, [1, 99])
    bright = _floor(bright, 0.5)
    return Magnitudes(len(mag), bright, max(_ceil(faint, 0.5), bright + 0.5))


def _is_mark(value: float) -> bool:
    text = str(np.float32(value))
    return (bool(_MARK.fullmatch(text)) and (value < 0 or value > 9.5)) or abs(value) > _HUGE


def _plain(value: float) -> float:
    """The shortest number that a column in single precision may mean."""
    return float(str(np.float32(value)))


def _floor(value: float, step: float) -> float:
    return round(float(np.floor(value / step + 1e-9) * step), 3)


def _ceil(value: float, step: float) -> float:
    return round(float(np.ceil(value / step - 1e-9) * step), 3)

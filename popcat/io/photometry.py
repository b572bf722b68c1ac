"""A raw frame, in a survey's own columns and units, as a photometry frame.

    flux     = value in nMgy x 10^(0.4 (A - offset))
    flux_err = sqrt(err^2 + (floor x flux)^2),  err scaled like the flux

with A the Galactic extinction (its column times the band's factor) and offset what is added to the survey's magnitudes
to reach AB. Everything is row by row, so neither partitions nor their order change a value. No row is dropped: `flags`
says what is wrong. A redshift that says nothing is missing: a mark, at or below -1, with a negative error (the code of
a failed fit), or with an error as wide as the survey's redshift range. A band without a usable extinction is missing. A
row that fails a condition of the survey's `quality` is flagged `quality_cut`, and is inferred like any other: which cut
a study needs is its own choice.
"""

import difflib
from collections.abc import Iterable

import numpy as np
import pandas as pd

from popcat.columns import NAME_DTYPE, photometry_columns
from popcat.errors import PopcatError, did_you_mean
from popcat.expressions import base_name, column, is_mark, parse, sources_of
from popcat.galaxies import FLAGS, OBJECT_NAME, id_of_name, observed
from popcat.io.chunks import is_text
from popcat.io.stated_units import MAGNITUDES
from popcat.survey import Band, Survey
from popcat.units import (
    ab_mag_err_to_nmgy,
    ab_mag_to_nmgy,
    asinh_mag_err_to_nmgy,
    asinh_mag_to_nmgy,
    nmgy_per,
    nmgy_to_ab_mag,
)

MAG_RANGE = (0.0, 50.0)
"""A magnitude outside this range is a mark for "not observed", such as 99 or -999."""
EXTINCTION_RANGE = (-0.05, 20.0)
"""Magnitudes; an extinction outside this range is none. Noise makes small ones slightly negative."""
RA_RANGE = (-180.0, 540.0)
"""A right ascension in this range is an angle; outside it is a mark for none."""
NO_REDSHIFT = -1.0
"""At or below it nothing is a redshift, whatever the error."""
REDSHIFT_REACH = 5.0
"""A measured redshift may lie outside the survey's range by this many of its errors."""


def catalog_columns(survey: Survey, there: Iterable[str] | None = None) -> list[str]:
    """Columns of a catalogue that a survey names, each once; an empty name means that there is none.

    With `there`, the columns of a catalogue, those that it may lack are left out where it does.

    >>> from popcat.survey import load_survey
    >>> catalog_columns(load_survey("sdss"))[:5]
    ['object_id', 'ra', 'dec', 'redshift', 'modelflux_u']
    """
    columns = survey.columns
    names = [columns.object_id, columns.ra, columns.dec, columns.redshift, columns.redshift_err]
    if there is None or has_redshift_warning(survey, there):
        names.append(columns.redshift_warning)
    for band in survey.bands:
        names += [band.flux, band.flux_err, band.flux_ivar, band.extinction]
    return list(dict.fromkeys(name for name in [*names, *survey.quality] if name))


def has_redshift_warning(survey: Survey, there: Iterable[str]) -> bool:
    """Whether a catalogue of such columns has what the survey names to tell bad redshifts."""
    there, name = set(there), survey.columns.redshift_warning
    return bool(name) and all({one, base_name(one)} & there for one in sources_of(name, there))


def to_photometry(raw: pd.DataFrame, survey: Survey) -> pd.DataFrame:
    """The photometry frame of raw rows: columns and dtypes of `popcat.columns.photometry_columns`, a plain index.

    Fluxes and errors come out in nMgy with Galactic extinction removed; NaN stays NaN. A bad error (zero, negative,
    infinite) stays bad: the error floor does not hide it.

    Raises PopcatError if a column is missing or not numeric, or the identifiers are neither int64 integers nor text.
    """
    require_columns(raw.columns, survey, "the frame")
    columns = survey.columns
    identifiers = column(raw, columns.object_id)
    data = {"object_id": object_ids(identifiers, survey.missing_values)}
    ra, dec = (numbers(raw, name, survey.missing_values) for name in (columns.ra, columns.dec))
    data["ra"], data["dec"] = positions(ra, dec)
    data["redshift"], data["redshift_err"] = _redshifts(raw, survey)
    with np.errstate(over="ignore", invalid="ignore"):
        for band in survey.bands:
            data[f"flux_{band.name}"], data[f"flux_err_{band.name}"] = _calibrate(raw, band, survey)
    frame = pd.DataFrame(data)
    frame["flags"] = flags_of(frame, survey) | quality_flags(raw, survey)
    frame = frame[list(photometry_columns(survey))]
    if holds_text(identifiers):
        frame[OBJECT_NAME] = pd.Series(names_of(identifiers), dtype=NAME_DTYPE)
    return frame


def positions(ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension in [0, 360) and declination, both NaN where they are marks for none, such as 99 or -999.

    >>> positions(np.array([-10.0, 370.0, 10.0, -999.0]), np.array([0.0, 0.0, 99.0, 0.0]))[0].tolist()
    [350.0, 10.0, nan, nan]
    """
    low, high = RA_RANGE
    known = ~((np.abs(dec) > 90.0) | (ra < low) | (ra > high))
    ra, dec = np.where(known, ra, np.nan), np.where(known, dec, np.nan)
    inside = (ra >= 0.0) & (ra < 360.0)
    return np.where(inside, ra, np.mod(ra, 360.0)), dec


def flags_of(frame: pd.DataFrame, survey: Survey) -> np.ndarray:
    """Bits of `popcat.galaxies.FLAGS` that photometry alone decides, int32 (n,)."""
    flux = frame[[f"flux_{name}" for name in survey.band_names]].to_numpy()
    err = frame[[f"flux_err_{name}" for name in survey.band_names]].to_numpy()
    redshift, redshift_err = frame["redshift"].to_numpy(), frame["redshift_err"].to_numpy()
    found = {
        "missing_band": (np.isnan(flux) | np.isnan(err)).any(axis=1),
        "bad_error": ((err <= 0) | np.isinf(err)).any(axis=1),
        "missing_redshift": np.isnan(redshift),
        "redshift_out_of_range": _out_of_range(redshift, redshift_err, survey),
        "outside_training": _outside_training(frame, survey),
        "negative_flux": (flux < 0).any(axis=1),
        "no_photometry": ~observed(flux, err).any(axis=1),
    }
    return sum(FLAGS[name] * mask for name, mask in found.items()).astype(np.int32)


def usable_redshifts(redshift: np.ndarray, err: np.ndarray, survey: Survey) -> tuple[np.ndarray, np.ndarray]:
    """Redshifts and their errors, both NaN where they say nothing in the survey's range; an infinite one is none.

    >>> from popcat.survey import load_survey
    >>> z, err = np.array([0.1, -9.99, 0.3, 0.1]), np.array([np.nan, 9.99, 99.0, -1.0])
    >>> usable_redshifts(z, err, load_survey("sdss"))[0].tolist()
    [0.1, nan, nan, nan]
    """
    low, high = survey.redshift_range
    redshift = np.where(np.isinf(redshift), np.nan, redshift)
    spans = (err >= high - low) & ~_out_of_range(redshift, err, survey)
    useless = (redshift <= NO_REDSHIFT) | (err < 0.0) | spans | ~np.isfinite(redshift)
    return np.where(useless, np.nan, redshift), np.where(useless, np.nan, err)


def _out_of_range(redshift, err, survey: Survey):
    """An error widens the range; beyond it, nothing of the redshift's likelihood is left."""
    low, high = survey.redshift_range
    reach = REDSHIFT_REACH * np.where(np.isnan(err), 0.0, np.maximum(err, 0.0))
    return (redshift + reach < low) | (redshift - reach > high)


def _redshifts(raw, survey: Survey) -> tuple[np.ndarray, np.ndarray]:
    columns, missing = survey.columns, survey.missing_values
    redshift, err = numbers(raw, columns.redshift, missing), numbers(raw, columns.redshift_err, missing)
    if has_redshift_warning(survey, raw.columns):
        warned = numbers(raw, columns.redshift_warning) != 0
        redshift = np.where(warned, np.nan, redshift)
    return usable_redshifts(redshift, err, survey)


def quality_flags(raw: pd.DataFrame, survey: Survey) -> np.ndarray:
    """The bit `quality_cut` of rows that fail a condition of the survey, or lack a value that it asks about; int32."""
    passes = np.ones(len(raw), dtype=bool)
    for condition in survey.quality:
        passes &= column(raw, condition).to_numpy(dtype=bool, na_value=False)
    return np.where(passes, 0, FLAGS["quality_cut"]).astype(np.int32)


def require_columns(names: Iterable[str], survey: Survey, where: str):
    """PopcatError that lists the columns a survey names and `where` lacks, with near names."""
    if text := missing_columns(names, survey, where):
        raise PopcatError(text)


def missing_columns(names: Iterable[str], survey: Survey, where: str) -> str:
    """The columns a survey names and `where` lacks, with near names, in a line; empty where it has all."""
    names = [str(name) for name in names]
    sources = [source for name in catalog_columns(survey, names) for source in sources_of(name, names)]
    missing = [name for name in dict.fromkeys(sources) if name not in names and base_name(name) not in names]
    if not missing:
        return ""
    hints = "; ".join(f"{name} ({_near(name, names)})" for name in missing)
    return (f'{where} lacks {len(missing)} column(s) of survey "{survey.name}": {hints}. '
            f"It has {', '.join(names[:40])}{' ...' if len(names) > 40 else ''}. "
            'Mend the names in the survey file; ra = "" and dec = "" say that there are no positions')


def object_ids(values: pd.Series, missing: tuple[float, ...] = ()) -> np.ndarray:
    """Identifiers as int64 (n,), of text its hash; PopcatError if they are missing, or integers beyond 64 bits.

    A negative number in `missing` is no identifier; others, such as 0 and 99, may well be one.
    """
    kind = getattr(values.dtype, "kind", "O")
    if values.isna().any():
        raise PopcatError(f'column "{values.name}": {int(values.isna().sum())} rows have no identifier; '
                          "give each row an integer of its own")
    if holds_text(values):
        return np.array([id_of_name(name) for name in names_of(values)], dtype=np.int64)
    if kind not in "iu":
        raise PopcatError(f'column "{values.name}": expected integers as identifiers, got {values.dtype} '
                          f"(such as {values.iloc[0]!r}); convert the column to int64, or name another one")
    if kind == "u" and len(values) and int(values.max()) > np.iinfo(np.int64).max:
        raise PopcatError(f'column "{values.name}": identifier {values.max()} is too large for int64; '
                          "renumber the rows")
    ids = values.to_numpy(dtype=np.int64)
    marked = np.isin(ids, [int(mark) for mark in missing if mark < 0 and mark == int(mark)])
    if marked.any():
        raise PopcatError(f'column "{values.name}": {int(marked.sum())} rows have the identifier {ids[marked][0]}, '
                          "which the survey's missing_values call missing; give each row an integer of its own")
    return ids


def holds_text(values: pd.Series) -> bool:
    """Whether a column holds text."""
    if values.dtype == object:
        return all(isinstance(one, str) for one in values.dropna())
    return is_text(str(values.dtype))


def names_of(values: pd.Series) -> list[str]:
    """Identifiers that are text, without blanks around them; PopcatError if one is empty."""
    names = [str(name).strip() for name in values]
    if "" in names:
        raise PopcatError(f'column "{values.name}": {names.count("")} rows have an empty identifier; '
                          "give each row a text of its own")
    return names


def numbers(raw: pd.DataFrame, name: str | None, missing: tuple[float, ...] = ()) -> np.ndarray:
    """A column as float64 (n,), masked values and those in `missing` NaN; all NaN without a column (None or "")."""
    if not name:
        return np.full(len(raw), np.nan)
    series = column(raw, name, missing)
    try:
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise PopcatError(f'column "{name}": expected numbers, got {series.dtype} ({error})') from error
    return np.where(is_mark(values, missing), np.nan, values) if missing else values


def to_nmgy(value, err, unit: str, softening: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Flux and error in nMgy of a value and error in `unit`; marks for "not observed" become NaN.

    >>> flux, err = to_nmgy(np.array([22.5, 99.0]), np.array([0.1, 0.0]), "ab_mag")
    >>> flux.tolist(), err.round(4).tolist()
    ([1.0, nan], [0.0921, nan])
    """
    if unit not in MAGNITUDES:
        return value * nmgy_per(unit), err * nmgy_per(unit)
    mag = np.where((value >= MAG_RANGE[0]) & (value <= MAG_RANGE[1]), value, np.nan)
    if unit == "asinh_mag":
        return asinh_mag_to_nmgy(mag, softening), asinh_mag_err_to_nmgy(mag, err, softening)
    return ab_mag_to_nmgy(mag), ab_mag_err_to_nmgy(mag, err)


def _calibrate(raw, band: Band, survey: Survey):
    missing = survey.missing_values
    value, err = numbers(raw, band.flux, missing), _raw_error(raw, band, missing)
    limit = limits(raw, band, survey)
    flux, err = to_nmgy(value, err, survey.unit_of(band), band.softening)
    flux, err = np.where(np.isnan(limit), flux, 0.0), np.where(np.isnan(limit), err, limit)
    scale = 10.0 ** (0.4 * (_usable(extinctions(raw, band, survey)) - band.ab_offset_mag))
    flux, err = flux * scale, err * scale
    flux = np.where(np.isfinite(flux.astype(np.float32)), flux, np.nan)
    valid = (err > 0) & np.isfinite(flux)
    err = np.where(valid, np.hypot(err, band.error_floor * flux), err)
    return flux.astype(np.float32), err.astype(np.float32)


def extinctions(raw: pd.DataFrame, band: Band, survey: Survey) -> np.ndarray:
    """Galactic extinction of a band in magnitudes (n,): NaN where it is missing, 0 where the survey names none."""
    if not band.extinction:
        return np.zeros(len(raw))
    return band.extinction_factor * numbers(raw, band.extinction, survey.missing_values)


def _usable(extinction: np.ndarray) -> np.ndarray:
    """NaN where it is none: the band is then missing, whatever its flux."""
    low, high = EXTINCTION_RANGE
    return np.where((extinction >= low) & (extinction <= high), extinction, np.nan)


def limits(raw: pd.DataFrame, band: Band, survey: Survey) -> np.ndarray:
    """Error in nMgy of a flux of 0 that stands for a non-detection, (n,); NaN for other rows."""
    if survey.limit_mark is None or survey.unit_of(band) != "ab_mag" or not band.flux_err:
        return np.full(len(raw), np.nan)
    value, limit = numbers(raw, band.flux), numbers(raw, band.flux_err)
    marked = value.astype(np.float32) == np.float32(survey.limit_mark)
    known = marked & (limit > MAG_RANGE[0]) & (limit <= MAG_RANGE[1])
    return np.where(known, ab_mag_to_nmgy(limit) / survey.limit_sigma, np.nan)


def _raw_error(raw, band: Band, missing):
    """The error in the survey's unit; an inverse variance of zero or less has error 0, which is flagged."""
    if band.flux_err:
        return numbers(raw, band.flux_err, missing)
    ivar = numbers(raw, band.flux_ivar, missing)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(ivar <= 0, 0.0, 1.0 / np.sqrt(ivar))


def _outside_training(frame, survey: Survey):
    selection = survey.selection
    flux = frame[f"flux_{selection.band}"].to_numpy()
    mag = nmgy_to_ab_mag(flux)
    return (mag < selection.bright_mag) | (mag > selection.faint_mag) | (flux <= 0)


def _near(name: str, names: list[str]) -> str:
    """did_you_mean over the few names that resemble this one, whatever the case; why it is no expression, if it seems
    to be meant as one."""
    if "(" in name and not any(name.lower() == other.lower() for other in names):
        try:
            parse(name)
        except PopcatError as error:
            return str(error)
    by_lower = {other.lower(): other for other in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=3)
    return did_you_mean(name, [by_lower[lower] for lower in close]) if close else "no name is near"

"""A raw frame, in a survey's own columns and units, as a photometry frame.

    flux     = value in nMgy x 10^(0.4 (A - offset))
    flux_err = sqrt(err^2 + (floor x flux)^2),  err scaled like the flux

with A the Galactic extinction (its column times the band's factor) and offset what is added to the survey's magnitudes
to reach AB. Everything is row by row, so neither partitions nor their order change a value. No row is dropped: `flags`
says what is wrong. A row that fails a condition of the survey's `quality` is flagged `quality_cut`, and is inferred
like any other: which cut a study needs is its own choice.
"""

import difflib
from collections.abc import Iterable

import numpy as np
import pandas as pd

from popcat.columns import NAME_DTYPE, photometry_columns
from popcat.errors import PopcatError, did_you_mean
from popcat.expressions import base_name, column, sources_of
from popcat.galaxies import FLAGS, OBJECT_NAME, id_of_name, observed
from popcat.io.chunks import is_text
from popcat.survey import Band, Survey
from popcat.units import (
    ab_mag_err_to_nmgy,
    ab_mag_to_nmgy,
    asinh_mag_err_to_nmgy,
    asinh_mag_to_nmgy,
    nmgy_per,
    nmgy_to_ab_mag,
)

MAGNITUDES = ("ab_mag", "asinh_mag")
MAG_RANGE = (0.0, 50.0)
"""A magnitude outside this range is a mark for "not observed", such as 99 or -999."""
RA_RANGE = (-180.0, 540.0)
"""A right ascension in this range is an angle; outside it is a mark for none."""
REDSHIFT_REACH = 5.0
"""A measured redshift may lie outside the survey's range by this many of its errors."""


def catalog_columns(survey: Survey) -> list[str]:
    """Columns of a catalogue that a survey names, each once; an empty name means that there is none.

    >>> from popcat.survey import load_survey
    >>> catalog_columns(load_survey("sdss"))[:5]
    ['object_id', 'ra', 'dec', 'redshift', 'modelflux_u']
    """
    columns = survey.columns
    names = [columns.object_id, columns.ra, columns.dec, columns.redshift, columns.redshift_err]
    for band in survey.bands:
        names += [band.flux, band.flux_err, band.flux_ivar, band.extinction]
    return list(dict.fromkeys(name for name in [*names, *survey.quality] if name))


def to_photometry(raw: pd.DataFrame, survey: Survey) -> pd.DataFrame:
    """The photometry frame of raw rows: columns and dtypes of `popcat.columns.photometry_columns`, a plain index.

    Fluxes and errors come out in nMgy with Galactic extinction removed; NaN stays NaN. A bad error (zero, negative,
    infinite) stays bad: the error floor does not hide it.

    Raises PopcatError if a column is missing or not numeric, or the identifiers are not int64 integers.
    """
    require_columns(raw.columns, survey, "the frame")
    columns = survey.columns
    identifiers = column(raw, columns.object_id)
    data = {"object_id": object_ids(identifiers)}
    data["ra"], data["dec"] = positions(numbers(raw, columns.ra), numbers(raw, columns.dec))
    for name in ("redshift", "redshift_err"):
        data[name] = numbers(raw, getattr(columns, name), survey.missing_values)
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
    inside = (ra >= 0.0) & (ra < 360.0)
    return np.where(known, np.where(inside, ra, np.mod(ra, 360.0)), np.nan), np.where(known, dec, np.nan)


def flags_of(frame: pd.DataFrame, survey: Survey) -> np.ndarray:
    """Bits of `popcat.galaxies.FLAGS` that photometry alone decides, int32 (n,)."""
    flux = frame[[f"flux_{name}" for name in survey.band_names]].to_numpy()
    err = frame[[f"flux_err_{name}" for name in survey.band_names]].to_numpy()
    redshift, redshift_err = frame["redshift"].to_numpy(), frame["redshift_err"].to_numpy()
    # an error widens the range; beyond it, nothing of the redshift's likelihood is left
    reach = np.where(np.isfinite(redshift_err), REDSHIFT_REACH * np.maximum(redshift_err, 0.0), 0.0)
    low, high = survey.redshift_range
    found = {
        "missing_band": (np.isnan(flux) | np.isnan(err)).any(axis=1),
        "bad_error": ((err <= 0) | np.isinf(err)).any(axis=1),
        "missing_redshift": np.isnan(redshift),
        "redshift_out_of_range": (redshift + reach < low) | (redshift - reach > high),
        "outside_training": _outside_training(frame, survey),
        "negative_flux": (flux < 0).any(axis=1),
        "no_photometry": ~observed(flux, err).any(axis=1),
    }
    return sum(FLAGS[name] * mask for name, mask in found.items()).astype(np.int32)


def quality_flags(raw: pd.DataFrame, survey: Survey) -> np.ndarray:
    """The bit `quality_cut` of rows that fail a condition of the survey, or lack a value that it asks about; int32."""
    passes = np.ones(len(raw), dtype=bool)
    for condition in survey.quality:
        passes &= column(raw, condition).to_numpy(dtype=bool, na_value=False)
    return np.where(passes, 0, FLAGS["quality_cut"]).astype(np.int32)


def require_columns(names: Iterable[str], survey: Survey, where: str):
    """PopcatError that lists the columns a survey names and `where` lacks, with near names."""
    names = [str(name) for name in names]
    sources = [source for name in catalog_columns(survey) for source in sources_of(name, names)]
    missing = [name for name in dict.fromkeys(sources) if name not in names and base_name(name) not in names]
    if missing:
        hints = "; ".join(f"{name} ({_near(name, names)})" for name in missing)
        raise PopcatError(f'{where} lacks {len(missing)} column(s) of survey "{survey.name}": {hints}. '
                          f"It has {', '.join(names[:40])}{' ...' if len(names) > 40 else ''}. "
                          'Mend the names in the survey file; ra = "" and dec = "" say that there are no positions')


def object_ids(values: pd.Series) -> np.ndarray:
    """Identifiers as int64 (n,), of text its hash; PopcatError if they are missing, or integers beyond 64 bits."""
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
    return values.to_numpy(dtype=np.int64)


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
    series = column(raw, name)
    try:
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise PopcatError(f'column "{name}": expected numbers, got {series.dtype} ({error})') from error
    # In single precision: -99.99 of a float32 column is not -99.99 of a survey file.
    marks = np.isin(values.astype(np.float32), np.array(missing, dtype=np.float32)) if missing else False
    return np.where(marks, np.nan, values)


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
    flux, err = to_nmgy(value, err, survey.unit_of(band), band.softening)
    extinction = band.extinction_factor * numbers(raw, band.extinction) if band.extinction else 0.0
    scale = 10.0 ** (0.4 * (extinction - band.ab_offset_mag))
    flux, err = flux * scale, err * scale
    flux = np.where(np.isfinite(flux.astype(np.float32)), flux, np.nan)
    valid = (err > 0) & np.isfinite(flux)
    err = np.where(valid, np.hypot(err, band.error_floor * flux), err)
    return flux.astype(np.float32), err.astype(np.float32)


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
    """did_you_mean over the few names that resemble this one, whatever the case."""
    by_lower = {other.lower(): other for other in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=3)
    return did_you_mean(name, [by_lower[lower] for lower in close]) if close else "no name is near"

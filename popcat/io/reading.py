"""Catalogues as photometry: what is wrong with one is found before any work is done on it."""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from popcat.columns import photometry_columns, photometry_meta
from popcat.errors import PopcatError
from popcat.galaxies import FLAGS
from popcat.io.chunks import Chunk, Field, field_of, is_text
from popcat.io.identifiers import all_ids, check_unique, has_names, names_of
from popcat.io.named import Source, label_of
from popcat.io.photometry import (
    MAGNITUDES,
    catalog_columns,
    flags_of,
    numbers,
    require_columns,
    to_nmgy,
    to_photometry,
)
from popcat.io.sources import parts_of_chunks, plan_chunks, read_chunk, read_fields, remarks_on
from popcat.run.frames import Frame, frame_of, meta_of
from popcat.survey import Survey, load_survey
from popcat.units import COUNT_RATE, NMGY_PER_UNIT, nmgy_to_ab_mag

PLAUSIBLE_MAG = (5.0, 35.0)
"""The median galaxy of any survey has a magnitude in this range; the unit is wrong otherwise."""

_SPELLINGS = {
    "nMgy": ("nmgy", "nanomaggy", "nanomaggie", "nanomaggies", "nanomgy"),
    "nJy": ("njy", "nanojy", "nanojansky", "nanojanskys"),
    "uJy": ("ujy", "µjy", "μjy", "microjy", "microjansky", "microjanskys"),
    "mJy": ("mjy", "millijy", "millijansky", "millijanskys"),
    "Jy": ("jy", "jansky", "janskys"),
    "ab_mag": ("mag", "mags", "magnitude", "magnitudes", "abmag", "mag(ab)", "ab_mag", "mag_ab"),
    COUNT_RATE: ("count/s", "counts/s", "ct/s", "cts-1"),
    "asinh_mag": ("asinh_mag", "asinhmag", "mag(asinh)", "luptitude", "luptitudes"),
}
_SURVEY = "popcat_survey"
_LIKE_MAGNITUDES = (8.0, 32.0)
_MIN_ROWS = 20


def check_catalog(source: Source, survey: Survey, chunks: Sequence[Chunk]) -> None:
    """Refuse a catalogue that does not fit a survey, from its schema, its identifiers and one chunk.

    Checked: every column that the survey names is there and numeric, and every quality cut a condition; identifiers are
    integers, each once in the whole catalogue; the units that a file states for a flux and its error are the survey's;
    the median magnitude in the selection band is one that galaxies have, and fluxes do not look like magnitudes. A CSV
    file has no schema, so all its rows are looked at.

    Raises PopcatError, which says what was expected, what came, and how to mend it.
    """
    kinds = set()
    for chunk in {(chunk.path, chunk.table): chunk for chunk in chunks}.values():
        check_fields(chunk.path, read_fields(chunk), survey)
        kinds.add(has_names(survey, [chunk]))
    if len(kinds) > 1:
        raise PopcatError(f'{label_of(source)}: column "{survey.columns.object_id}" holds integers in some files and '
                          "text in others: write it as one of them")
    raw = read_chunk(chunks[0], catalog_columns(survey))
    check_values(label_of(source), raw, all_ids(survey, chunks), survey, lambda ids: names_of(ids, survey, chunks))


def check_fields(where: str, fields: dict[str, Field], survey: Survey) -> None:
    """PopcatError where columns are missing, of another type than the survey needs, or state another unit."""
    require_columns(fields, survey, where)
    _check_kinds(where, fields, survey)
    _check_units(where, fields, survey)


def check_values(
    where: str, raw: pd.DataFrame, ids: np.ndarray, survey: Survey,
    texts: Callable[[np.ndarray], dict[int, set[str]]] | None = None,
) -> None:  # fmt: skip
    """PopcatError where identifiers (all of them) repeat, or rows (some will do) hold no fluxes of galaxies.

    `texts` gives all texts that some identifiers stand for, where they are text.
    """
    check_unique(where, ids, survey.columns.object_id, texts)
    _check_magnitude(where, raw, survey)
    _check_no_magnitudes(where, raw, survey)


def same_unit(text: str, unit: str) -> bool:
    """Whether a unit that a file states is a survey's unit; True where the text says nothing that can be judged.

    >>> same_unit("nanomaggies", "nMgy"), same_unit("uJy", "nMgy"), same_unit("3.631e-6 Jy", "nMgy")
    (True, False, True)
    """
    known = spelled_unit(text)
    if known == "ab_mag" and unit == "asinh_mag":
        return True  # "mag" says nothing of the kind
    if known:
        return known == unit
    return _same_by_dimension(text, unit)


def _same_by_dimension(text: str, unit: str) -> bool:
    """True where astropy cannot read the text, or reads a bare number."""
    from astropy import units

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", units.UnitsWarning)  # about style, such as two slashes
        parsed = units.Unit(text, parse_strict="silent")
    if isinstance(parsed, units.UnrecognizedUnit) or parsed.is_equivalent(units.dimensionless_unscaled):
        return True
    if unit == COUNT_RATE:
        return parsed == units.count / units.s
    maggies = units.zero_point_flux(3631 * units.Jy)
    if unit in MAGNITUDES or not parsed.is_equivalent(units.Jy, maggies):
        return False
    expected = NMGY_PER_UNIT[unit] / NMGY_PER_UNIT["Jy"]
    return bool(np.isclose(parsed.to(units.Jy, equivalencies=maggies), expected, rtol=1e-3, atol=0.0))


def spelled_unit(text: str) -> str | None:
    """popcat's name of a unit that is spelled in a usual way; None for others.

    >>> spelled_unit("nanomaggies"), spelled_unit("furlong")
    ('nMgy', None)
    """
    word = text.lower().replace(" ", "")
    return next((unit for unit, spellings in _SPELLINGS.items() if word in spellings), None)


def _check_kinds(where: str, fields: dict[str, Field], survey: Survey):
    key = survey.columns.object_id
    kinds = {name: field_of(fields, name).kind for name in catalog_columns(survey)}
    if kinds[key] != "integer" and not is_text(kinds[key]):
        raise PopcatError(f'{where}: column "{key}" must hold integers or text, as it identifies galaxies; '
                          f"got {kinds[key]}: convert it to int64, or name another column")
    wrong = {name: kind for name, kind in kinds.items()
             if name not in (key, *survey.quality) and kind not in ("integer", "float")}
    if wrong:
        listing = ", ".join(f"{name} ({kind})" for name, kind in wrong.items())
        raise PopcatError(f"{where}: expected one number a row in every column of the survey, got {listing}; "
                          'convert these columns to numbers, or name one element of a vector, such as "NMGY[2]"')
    vague = [f"{name} ({kinds[name]})" for name in survey.quality if kinds[name] != "bool"]
    if vague:
        raise PopcatError(f"{where}: expected conditions as quality cuts of the survey, such as \"NQ >= 3\", "
                          f"got {', '.join(vague)}")


def _check_units(where: str, fields: dict[str, Field], survey: Survey):
    for band in survey.bands:
        unit = survey.unit_of(band)
        for name, power in ((band.flux, 1), (band.flux_err, 1), (band.flux_ivar, -2)):
            stated = field_of(fields, name).unit if name else None
            if stated and not same_unit(_base_unit(stated) if power == -2 else stated, unit):
                raise PopcatError(f'{where}: column "{name}" is in "{stated}" by its own account, but survey '
                                  f'"{survey.name}" says unit = "{unit}"; mend one of them')


def _base_unit(text: str) -> str:
    """The unit whose inverse square a text is; a text of another form says nothing.

    >>> _base_unit("1/nanomaggy^2"), _base_unit("nanomaggies^{-2}"), _base_unit("uJy-2"), _base_unit("weight")
    ('nanomaggy', 'nanomaggies', 'uJy', '')
    """
    word = re.sub(r"[\s{}()]", "", text)
    match = re.fullmatch(r"1/([A-Za-zµμ_]+)(?:\^|\*\*)?2|([A-Za-zµμ_]+)(?:\^|\*\*)?-2", word)
    return (match[1] or match[2]) if match else ""


def _check_magnitude(where, raw: pd.DataFrame, survey: Survey):
    """Looks at stored values: marks for missing magnitudes, if they are the majority, are worth a word too."""
    band = survey.bands[survey.band_names.index(survey.selection.band)]
    value, unit = numbers(raw, band.flux, survey.missing_values), survey.unit_of(band)
    mag = value if unit in MAGNITUDES else nmgy_to_ab_mag(to_nmgy(value, value, unit)[0])
    mag = mag[np.isfinite(mag)]
    low, high = PLAUSIBLE_MAG
    if mag.size and not low <= np.median(mag) <= high:
        raise PopcatError(f'{where}: the median {band.name} magnitude would be {np.median(mag):.1f}, expected {low:g} '
                          f'to {high:g}; is column "{band.flux}" in "{unit}", as survey "{survey.name}" says?')


def _check_no_magnitudes(where, raw: pd.DataFrame, survey: Survey):
    """Fluxes spread over decades and are larger in the red; magnitudes lie close together, in every band."""
    bands = [band for band in survey.bands if survey.unit_of(band) not in MAGNITUDES]
    values = [numbers(raw, band.flux, survey.missing_values) for band in bands]
    known = [value[np.isfinite(value) & (np.abs(value) < 90)] for value in values]
    low, high = _LIKE_MAGNITUDES
    if len(bands) >= 3 and all(value.size >= _MIN_ROWS and np.mean((value > low) & (value < high)) > 0.98
                               for value in known):
        raise PopcatError(f'{where}: columns {", ".join(band.flux for band in bands)} look like magnitudes: 98% of '
                          f'each lie between {low:g} and {high:g}; say unit = "ab_mag" (or "asinh_mag") in survey '
                          f'"{survey.name}", whose unit is "{survey.unit_of(bands[0])}"')


def read_partition(part: Chunk | Sequence[Chunk], survey: Survey) -> pd.DataFrame:
    """The photometry frame of one chunk of a catalogue, or of several that make a part."""
    chunks, names = [part] if isinstance(part, Chunk) else part, catalog_columns(survey)
    frames = [to_photometry(read_chunk(chunk, names), survey) for chunk in chunks]
    frame = frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)
    frame.attrs[_SURVEY] = survey.model_dump_json()
    return frame


def seen_by(frame: pd.DataFrame, survey: Survey) -> pd.DataFrame:
    """A photometry frame with its flags as of another survey of the same bands, with ranges of its own."""
    quality = frame["flags"] & FLAGS["quality_cut"]
    return frame.assign(flags=(flags_of(frame, survey) | quality).astype(np.int32))


def without_redshift(frame: pd.DataFrame) -> pd.DataFrame:
    """A photometry frame with its redshifts hidden, so that they are inferred."""
    flags = frame["flags"] & ~FLAGS["redshift_out_of_range"] | FLAGS["missing_redshift"]
    return frame.assign(redshift=np.nan, redshift_err=np.nan, flags=flags.astype(np.int32))


def read_pieces(
    parts: Sequence[Sequence[Chunk]], pieces: Sequence[tuple[int, int, int]], survey: Survey
) -> pd.DataFrame:
    """The photometry frame of some rows: of each piece (number of the part, first row in it, end)."""
    frames = [frame for index, start, stop in pieces for frame in _rows_of(parts[index], start, stop, survey)]
    return pd.concat(frames, ignore_index=True)


def _rows_of(part: Sequence[Chunk], start: int, stop: int, survey: Survey) -> Iterator[pd.DataFrame]:
    """Rows of a part, one frame for each of its chunks that has some."""
    for chunk in part:
        size = chunk.stop - chunk.start
        low, high = max(start, 0), min(stop, size)
        if low < high and chunk.byte_range is None:
            yield read_partition(replace(chunk, start=chunk.start + low, stop=chunk.start + high), survey)
        elif low < high:  # bytes say nothing of rows
            yield read_partition(chunk, survey).iloc[low:high]
        start, stop = start - size, stop - size


def read_catalog(source: Source, survey: "str | Path | Survey", *, rows_per_partition: int = 2500) -> Frame:
    """An observed catalogue as a lazy photometry frame: one row a galaxy, fluxes in nMgy, extinction removed.

    The frame remembers its survey (`survey_of`), so that no posterior of other bands takes it.

    Raises PopcatError if the file, a column, a unit or an identifier is not what the survey says.

    >>> from importlib.resources import files
    >>> frame = read_catalog(files("popcat") / "data" / "galaxies_sdss.parquet", "sdss")
    >>> frame.npartitions, survey_of(frame).name
    (4, 'sdss')
    """
    survey = load_survey(survey)
    chunks = plan_chunks(source, rows_per_partition=rows_per_partition, columns=catalog_columns(survey))
    check_catalog(source, survey, chunks)
    parts = parts_of_chunks(chunks, rows_per_partition)
    for line in remarks_on(source, chunks):
        warnings.warn(line, UserWarning, stacklevel=2)
    meta = photometry_meta(survey, named=has_names(survey, chunks))
    meta.attrs[_SURVEY] = survey.model_dump_json()
    return frame_of(read_partition, parts, survey=survey, meta=meta)


def survey_of(frame: "Frame | pd.DataFrame") -> Survey | None:
    """The survey that a photometry frame, lazy or computed, was read with; None if it is not from `read_catalog`.

    Filters, new columns, other partitions and `persist` keep it.
    """
    text = (frame if isinstance(frame, pd.DataFrame) else meta_of(frame)).attrs.get(_SURVEY)
    return Survey.model_validate_json(text) if text else None


def require_frame(frame: "Frame | pd.DataFrame", survey: Survey) -> None:
    """PopcatError if a frame is no photometry in the bands of a survey, for which a posterior was trained."""
    if (own := survey_of(frame)) is not None:
        require_bands(own, survey)
    expected = photometry_columns(survey)
    lacks = [name for name in expected if name not in frame.columns]
    more = [name for name in frame.columns if str(name).startswith("flux_") and name not in expected]
    if lacks or more:
        what = f"lacks {', '.join(lacks)}" if lacks else f"has {', '.join(more)}, which are not"
        raise PopcatError(f'the frame {what} of survey "{survey.name}", for which the posterior was trained: read it '
                          "with popcat.read_catalog and a survey of the same bands")


def require_bands(given: Survey, trained: Survey) -> None:
    """PopcatError unless a survey has the bands of another, for which a posterior was trained, in whatever order."""
    theirs, ours = ({(band.name, Path(band.filter).name) for band in one.bands} for one in (given, trained))
    if theirs != ours:
        wanted, got = (", ".join(" ".join(band) for band in sorted(bands)) for bands in (ours, theirs))
        raise PopcatError(f'the posterior was trained for the bands {wanted}, got survey "{given.name}" with {got}: '
                          "name a survey of the posterior's bands, or another posterior")

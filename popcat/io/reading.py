"""Catalogues as photometry frames, each of which remembers the survey that it was read with."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from popcat.columns import photometry_columns, photometry_meta
from popcat.errors import CatalogWarning, PopcatError
from popcat.forward.filters import same_filter
from popcat.galaxies import FLAGS
from popcat.io.checking import check_catalog, read_raw
from popcat.io.chunks import Chunk
from popcat.io.identifiers import has_names
from popcat.io.named import Source
from popcat.io.photometry import catalog_columns, flags_of, to_photometry, usable_redshifts
from popcat.io.sources import parts_of_chunks, plan_chunks, remarks_on
from popcat.run.frames import Frame, frame_of, meta_of
from popcat.survey import Survey, load_survey

_SURVEY = "popcat_survey"


def read_partition(part: Chunk | Sequence[Chunk], survey: Survey) -> pd.DataFrame:
    """The photometry frame of one chunk of a catalogue, or of several that make a part."""
    raws = [read_raw(chunk, survey) for chunk in ([part] if isinstance(part, Chunk) else part)]
    if all(raw.dtypes.equals(raws[0].dtypes) for raw in raws):  # of mixed integers pandas would make floats
        raws = [pd.concat(raws, ignore_index=True) if len(raws) > 1 else raws[0]]
    frames = [to_photometry(raw, survey) for raw in raws]
    frame = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    frame.attrs[_SURVEY] = survey.model_dump_json()
    return frame


def seen_by(frame: pd.DataFrame, survey: Survey) -> pd.DataFrame:
    """A photometry frame with its flags as of another survey of the same bands, with ranges of its own."""
    quality = frame["flags"] & FLAGS["quality_cut"]
    z, err = usable_redshifts(frame["redshift"].to_numpy(), frame["redshift_err"].to_numpy(), survey)
    frame = frame.assign(redshift=z, redshift_err=err)
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
        warnings.warn(line, CatalogWarning, stacklevel=2)
    meta = photometry_meta(survey, named=has_names(survey, chunks[0]))
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


def require_same_survey(frame: "Frame | pd.DataFrame", survey: Survey) -> None:
    """PopcatError if a frame was read with a survey of other bands, or lacks the columns of this one's."""
    own = survey_of(frame)
    wanted, got = (sorted(f"{band.name} {band.filter}" for band in one.bands) for one in (survey, own or survey))
    lacks = [name for name in photometry_columns(survey) if name not in frame.columns]
    if lacks or (own is not None and not _same_bands(own, survey)):
        what = f"lacks {', '.join(lacks)}" if own is None else f'was read with survey "{own.name}" ({", ".join(got)})'
        raise PopcatError(f'the frame {what}, expected survey "{survey.name}" ({", ".join(wanted)}): name the survey '
                          "that it was read with, or read the catalogue again")


def _same_bands(one: Survey, other: Survey) -> bool:
    """By name and filter curve, in whatever order."""
    ours, theirs = ({band.name: band for band in survey.bands} for survey in (one, other))
    return ours.keys() == theirs.keys() and all(same_filter(ours[name], theirs[name]) for name in ours)


def require_bands(given: Survey, trained: Survey) -> None:
    """PopcatError unless a survey has the bands of another, for which a posterior was trained, in whatever order.

    Bands are the same by name and by filter curve: those of one filter in two files are.
    """
    if _same_bands(given, trained):
        return
    wanted, got = (", ".join(sorted(f"{band.name} {band.filter}" for band in one.bands)) for one in (trained, given))
    raise PopcatError(f'the posterior was trained for the bands {wanted}, got survey "{given.name}" with {got}: '
                      "name a survey of the posterior's bands, or another posterior")

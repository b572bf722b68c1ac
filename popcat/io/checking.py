"""What is wrong with a catalogue, found before any work is done on it: all of it at once, each fault in a line.

    columns    of every file: there, once, numbers, in the unit of the survey
    ids        of every row: integers or text, each once
    values     of some rows of every file, or of all rows: popcat.io.judging
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from popcat.errors import CatalogWarning, PopcatError
from popcat.forward.filters import load_curve
from popcat.io.chunks import Chunk, Field, spans
from popcat.io.column_faults import faults_of_fields, remarks_of_fields
from popcat.io.identifiers import Texts, has_names, ids_of, repeated_ids, texts_in_chunks, texts_in_column
from popcat.io.judging import (
    Summary,
    faults_among,
    faults_of_rows,
    remarks_of_rows,
    summary_of,
    twins_of_rows,
)
from popcat.io.named import Source, label_of
from popcat.io.photometry import catalog_columns, numbers, object_ids
from popcat.io.sources import read_chunk, read_fields, repeated_names, whole_files
from popcat.survey import Survey

MOST_ROWS, MOST_SPANS = 2000, 4
"""Of one file that are looked at: rows, and stretches of them, evenly spaced."""
ALL_ROWS, ALL_SPANS = 1_000_000, 4000
"""Of all files together: of 10,000 files 100 rows each, in one stretch."""
BLOCK_ROWS = 1000
"""All rows are judged in stretches of so many, each as a file is."""
UNNAMED = "CHECK"
"""Filter of a band in a draft that does not know it: the columns can be judged all the same."""
_MOST_NAMED = 12


@dataclass
class Findings:
    """Faults and remarks of a catalogue, and what its files are compared by."""

    survey: Survey
    faults: dict[str, None] = field(default_factory=dict)
    remarks: dict[str, None] = field(default_factory=dict)
    summaries: dict[str, Summary] = field(default_factory=dict)
    _seen: set = field(default_factory=set)

    def add_file(self, file: str, fields: dict[str, Field], repeated: Iterable[str] = ()) -> bool:
        """Judge the columns of a file; whether its values can be read."""
        faults = list(faults_of_fields(file, fields, repeated, self.survey))
        self.faults |= dict.fromkeys(faults)
        if not faults:
            self.remarks |= dict.fromkeys(remarks_of_fields(file, fields, self.survey))
        return not faults

    def add_rows(self, file: str, raw: pd.DataFrame, stretch: str = "") -> None:
        """Judge some rows of a file; a fault is told once of a file."""
        for what, text in faults_of_rows(file, raw, self.survey):
            if (file, what) not in self._seen:
                self._seen.add((file, what))
                self.faults[text] = None
        self.summaries[file + stretch] = summary_of(raw, self.survey)

    def add_ids(self, label: str, ids: np.ndarray, texts: Texts) -> None:
        """Judge the identifiers of all rows; `texts` gives those of some that are text."""
        self.faults |= dict.fromkeys(repeated_ids(label, ids, self.survey.columns.object_id, texts))

    def add_kinds(self, label: str, chunks: Iterable[Chunk]) -> None:
        """Judge whether the files of some chunks have identifiers of one kind."""
        if len({has_names(self.survey, chunk) for chunk in chunks}) > 1:
            text = f'{label}: column "{self.survey.columns.object_id}" holds integers in some files and text in others'
            self.faults[f"{text}: write it as one of them"] = None

    def require_none(self, label: str) -> None:
        """PopcatError with every fault, if there is one."""
        # what is wrong in itself explains what differs
        found = list(self.faults) or list(faults_among(self.summaries, self.survey))
        if len(found) == 1:
            raise PopcatError(found[0])
        if found:
            more = f"\n  and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
            listing = "".join(f"\n  {i}. {text}" for i, text in enumerate(found[:_MOST_NAMED], 1))
            raise PopcatError(f'{label} does not fit survey "{self.survey.name}" in {len(found)} ways:{listing}{more}')

    def warn(self) -> None:
        """A warning for every remark."""
        for text in self.remarks:
            warnings.warn(text, CatalogWarning, stacklevel=4)


def check_catalog(source: Source, survey: Survey, chunks: Sequence[Chunk]) -> None:
    """Refuse a catalogue that does not fit a survey, from its schemas, its identifiers and some rows of every file.

    Checked: every column that the survey names is there, once, and numeric, and every quality cut a condition;
    identifiers are integers or text, each once in the whole catalogue; the units that a file states for a flux and its
    error are the survey's; in each file the median magnitude in the selection band is one that galaxies have, fluxes
    do not look like magnitudes, extinctions are plausible, and fluxes and errors are not in another unit than those of
    the other files. Of each file up to 2,000 rows are looked at, in up to 4 stretches; of many files together a million
    rows. A CSV file has no schema, so all its rows are read.

    A stated unit that popcat does not understand, and non-detections, are told in a `CatalogWarning`.

    Raises PopcatError with all that is wrong: what was expected, what came, and how to mend it.
    """
    found = Findings(survey, dict.fromkeys(faults_of_survey(survey)))
    files: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        files.setdefault(chunk.label, []).append(chunk)
    ids = []
    for file, those in files.items():
        if found.add_file(file, read_fields(those[0]), repeated_names(those[0])):
            own, rows = _look(those, survey, len(files))
            ids.append(own)
            found.add_rows(file, rows)
            found.remarks |= dict.fromkeys(remarks_of_rows(file, rows, survey))
    if ids:
        found.add_kinds(label_of(source), (those[0] for those in files.values()))
        found.add_ids(label_of(source), np.concatenate(ids), texts_in_chunks(survey, chunks))
    found.require_none(label_of(source))
    found.warn()


def check_every_row(
    source: Source, survey: Survey, chunks: Sequence[Chunk], look: Callable[[pd.DataFrame], None]
) -> list[str]:
    """As `check_catalog`, of every row, and with the filters of the survey loaded; what a user should know, in lines.

    The catalogue is read once, a chunk at a time; `look` is given the raw rows of each.
    """
    found = Findings(survey, dict.fromkeys([*faults_of_survey(survey), *_faults_of_filters(survey)]))
    ids, sample, fits = [], [], {}
    firsts = {chunk.label: chunk for chunk in reversed(chunks)}
    for file, first in reversed(firsts.items()):
        fits[file] = found.add_file(file, read_fields(first), repeated_names(first))
    for chunk in (chunk for chunk in chunks if fits[chunk.label]):
        raw = read_raw(chunk, survey)
        ids.append(ids_of(raw, survey, chunk))
        for start, stop in spans(len(raw), BLOCK_ROWS):
            rows = f" rows {chunk.start + start:,} to {chunk.start + stop - 1:,}"
            found.add_rows(chunk.label, raw.iloc[start:stop], rows)
        sample.append(raw.iloc[:: max(len(raw) // MOST_ROWS, 1)])
        look(raw)
    if ids:
        found.add_kinds(label_of(source), firsts.values())
        found.add_ids(label_of(source), np.concatenate(ids), texts_in_chunks(survey, chunks))
    found.require_none(label_of(source))
    rows = pd.concat(sample, ignore_index=True)
    twins = [f"columns {one} and {other} hold the same numbers: is one of them named in the wrong band?"
             for one, other in twins_of_rows(rows, survey)]  # fmt: skip
    unnamed = [f"band {band.name} has no filter yet: name one of speclite or sedpy, or a file, in the survey file"
               for band in survey.bands if band.filter == UNNAMED]  # fmt: skip
    return [*unnamed, *found.remarks, *remarks_of_rows(label_of(source), rows, survey), *twins]


def read_raw(chunk: Chunk, survey: Survey) -> pd.DataFrame:
    """The rows of a chunk in the columns that a survey names, those left out that a file may lack."""
    needs_names = survey.columns.redshift_warning
    columns = catalog_columns(survey, read_fields(chunk) if needs_names else None)
    return read_chunk(chunk, columns, survey.missing_values)


def check_fields(where: str, fields: dict[str, Field], survey: Survey, repeated: Iterable[str] = ()) -> None:
    """PopcatError where columns are missing, there twice, or of another type or unit than the survey's."""
    found = Findings(survey, dict.fromkeys(faults_of_survey(survey)))
    found.add_file(where, fields, repeated)
    found.require_none(where)
    found.warn()


def check_values(where: str, raw: pd.DataFrame, survey: Survey) -> None:
    """PopcatError where the identifiers of a table repeat, or its rows hold no fluxes of galaxies."""
    found, identifiers = Findings(survey), raw[survey.columns.object_id]
    found.add_rows(where, raw)
    found.add_ids(where, object_ids(identifiers, survey.missing_values), texts_in_column(identifiers))
    found.require_none(where)
    found.remarks |= dict.fromkeys(remarks_of_rows(where, raw, survey))
    found.warn()


def faults_of_survey(survey: Survey) -> Iterator[str]:
    """Columns that two bands share although each should have its own."""
    used: dict[str, list[str]] = {}
    for band in survey.bands:
        for kind in ("flux", "flux_err", "flux_ivar"):
            if column := getattr(band, kind):
                used.setdefault(column, []).append(f"{kind} of band {band.name}")
    for column, places in used.items():
        if len(places) > 1:
            yield (f'survey "{survey.name}" names column "{column}" as {" and as ".join(places)}: expected a column of '
                   "its own for each; correct the survey file")  # fmt: skip


def _faults_of_filters(survey: Survey) -> Iterator[str]:
    for band in (*survey.bands, *survey.absolute_magnitudes):
        if band.filter == UNNAMED:
            continue
        try:
            load_curve(band)
        except PopcatError as error:
            yield f'survey "{survey.name}", band {band.name}: {error}'


def _look(chunks: Sequence[Chunk], survey: Survey, n_files: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Identifiers of all rows of a file, and evenly spaced rows of it."""
    key = survey.columns.object_id
    n_rows, n_spans = min(MOST_ROWS, ALL_ROWS // n_files), min(MOST_SPANS, max(ALL_SPANS // n_files, 1))
    if chunks[0].format == "csv":  # without a schema: text may stand anywhere, so all rows are read
        ids, parts, step = [], [], max(sum(chunk.stop - chunk.start for chunk in chunks) // max(n_rows, 1), 1)
        for chunk in chunks:
            raw = read_raw(chunk, survey)
            for name in catalog_columns(survey, raw)[1:]:
                if name not in survey.quality:
                    numbers(raw, name)
            ids.append(ids_of(raw, survey, chunk))
            parts.append(raw.iloc[::step])
        return np.concatenate(ids), pd.concat(parts, ignore_index=True)
    (whole,) = whole_files(chunks)
    if whole.stop <= MOST_ROWS:  # opening a small file twice costs more than its rows
        raw = read_raw(whole, survey)
        return ids_of(raw, survey, whole), raw.iloc[:: -(-len(raw) // n_rows)]
    ids = ids_of(read_chunk(whole, [key]), survey, whole)
    return ids, pd.concat([read_raw(part, survey) for part in _stretches(chunks, n_rows, n_spans)], ignore_index=True)


def _stretches(chunks: Sequence[Chunk], n_rows: int, n_spans: int) -> Iterator[Chunk]:
    """Evenly spaced stretches of the rows of a file, of so many rows together at most."""
    total = chunks[-1].stop
    if total <= n_rows:
        yield from chunks
        return
    length = max(n_rows // n_spans, 1)
    edges = np.linspace(0, total, n_spans + 1)
    for middle in (edges[1:] + edges[:-1]) / 2:
        start = max(int(middle) - length // 2, 0)
        chunk = next(chunk for chunk in chunks if start < chunk.stop)
        yield replace(chunk, start=start, stop=min(chunk.stop, start + length))

"""Identifiers of a catalogue: integers or text, every row with one of its own."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd

from popcat.errors import PopcatError
from popcat.io.chunks import Chunk, field_of, is_text
from popcat.io.photometry import holds_text, object_ids
from popcat.io.sources import read_chunk, read_fields
from popcat.survey import Survey

Texts: TypeAlias = Callable[[np.ndarray], dict[int, set[str]]]
"""All texts that some identifiers stand for; none of integers."""


def has_names(survey: Survey, chunk: Chunk) -> bool:
    """Whether the identifiers in the file of a chunk are text."""
    fields = read_fields(chunk)
    key = survey.columns.object_id
    return key in fields and is_text(field_of(fields, key).kind)


def ids_of(raw: pd.DataFrame, survey: Survey, chunk: Chunk) -> np.ndarray:
    """The identifiers of rows of a chunk as int64 (n,); PopcatError that names the row which has none."""
    ids = raw[survey.columns.object_id]
    blank = np.flatnonzero(ids.isna())
    if blank.size:
        more = f", nor have {blank.size - 1:,} others" if blank.size > 1 else ""
        raise PopcatError(f'{chunk.path}: row {chunk.start + blank[0] + 1:,}, counted from 1, has no identifier in '
                          f'column "{ids.name}"{more}: give each row an integer of its own')
    return object_ids(ids, survey.missing_values)


def texts_in_chunks(survey: Survey, chunks: Sequence[Chunk]) -> Texts:
    """Where a catalogue has names, the search for those of some identifiers; it reads the names of all rows."""

    def search(ids: np.ndarray) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        for chunk in chunks if has_names(survey, chunks[0]) else ():
            _add_names(found, ids, read_chunk(chunk, [survey.columns.object_id])[survey.columns.object_id])
        return found

    return search


def texts_in_column(identifiers: pd.Series) -> Texts:
    """The same in a column in memory."""

    def search(ids: np.ndarray) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        if holds_text(identifiers):
            _add_names(found, ids, identifiers)
        return found

    return search


def _add_names(found: dict[int, set[str]], ids: np.ndarray, names: pd.Series) -> None:
    hashes = object_ids(names)
    for row in np.flatnonzero(np.isin(hashes, ids)):
        found.setdefault(int(hashes[row]), set()).add(str(names.iloc[row]).strip())


def repeated_ids(where: str, ids: np.ndarray, column: str, texts: Texts | None = None) -> Iterator[str]:
    """Identifiers that repeat, or two texts of one hash, in a line; none where every row has one of its own."""
    repeated = ids[pd.Index(ids).duplicated()]
    if not repeated.size:
        return
    some = pd.unique(repeated)[:5]
    names = {} if texts is None else texts(some)
    if twins := next((sorted(one) for one in names.values() if len(one) > 1), None):
        yield (f'{where}: identifiers "{twins[0]}" and "{twins[1]}" in "{column}" have the same hash, which is one of '
               "2^63 numbers: rename one of them")
        return
    first = ", ".join(next(iter(names.get(int(value), {str(value)}))) for value in some)
    yield (f'{where}: identifiers in "{column}" must be unique, but {repeated.size} rows repeat one of an earlier '
           f"row (first: {first}); remove the duplicates or number the rows anew")

"""Identifiers of a catalogue: integers or text, every row with one of its own."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from popcat.errors import PopcatError
from popcat.io.chunks import Chunk, field_of, is_text
from popcat.io.photometry import catalog_columns, numbers, object_ids
from popcat.io.sources import read_chunk, read_fields, whole_files
from popcat.survey import Survey


def has_names(survey: Survey, chunks: Sequence[Chunk]) -> bool:
    """Whether the identifiers of a catalogue are text."""
    return is_text(field_of(read_fields(chunks[0]), survey.columns.object_id).kind)


def all_ids(survey: Survey, chunks: Sequence[Chunk]) -> np.ndarray:
    """The identifiers of all rows as int64; PopcatError for a row without one. A CSV file is looked at in full."""
    ids, key = [], survey.columns.object_id
    for chunk in whole_files(chunks):
        names = catalog_columns(survey) if chunk.format == "csv" else [key]
        raw = read_chunk(chunk, names)
        for name in names[1:]:
            numbers(raw, name)
        _refuse_blank(raw[key], chunk)
        ids.append(object_ids(raw[key]))
    return np.concatenate(ids)


def _refuse_blank(ids: pd.Series, chunk: Chunk):
    blank = np.flatnonzero(ids.isna())
    if blank.size:
        more = f", nor have {blank.size - 1:,} others" if blank.size > 1 else ""
        raise PopcatError(f'{chunk.path}: row {chunk.start + blank[0] + 1:,}, counted from 1, has no identifier in '
                          f'column "{ids.name}"{more}: give each row an integer of its own')


def names_of(ids: np.ndarray, survey: Survey, chunks: Sequence[Chunk]) -> dict[int, set[str]]:
    """The texts that some identifiers stand for; none of integers."""
    found: dict[int, set[str]] = {}
    for chunk in chunks if has_names(survey, chunks) else ():
        names = read_chunk(chunk, [survey.columns.object_id])[survey.columns.object_id]
        add_names(found, ids, names)
    return found


def add_names(found: dict[int, set[str]], ids: np.ndarray, names: pd.Series) -> None:
    """Add the names in a column that have one of some identifiers."""
    numbers_ = object_ids(names)
    for row in np.flatnonzero(np.isin(numbers_, ids)):
        found.setdefault(int(numbers_[row]), set()).add(str(names.iloc[row]).strip())


def check_unique(
    where: str, ids: np.ndarray, column: str, texts: Callable[[np.ndarray], dict[int, set[str]]] | None = None
) -> None:
    """PopcatError where identifiers repeat, or two texts have one hash; `texts` gives those of some identifiers."""
    repeated = ids[pd.Index(ids).duplicated()]
    if repeated.size:
        some = pd.unique(repeated)[:5]
        names = {} if texts is None else texts(some)
        if twins := next((sorted(one) for one in names.values() if len(one) > 1), None):
            raise PopcatError(f'{where}: identifiers "{twins[0]}" and "{twins[1]}" in "{column}" have the same hash, '
                              "which is one of 2^63 numbers: rename one of them")
        first = ", ".join(next(iter(names.get(int(value), {str(value)}))) for value in some)
        raise PopcatError(f'{where}: identifiers in "{column}" must be unique, but {repeated.size} rows repeat one of '
                          f"an earlier row (first: {first}); remove the duplicates or number the rows anew")

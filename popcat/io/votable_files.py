"""VOTable catalogues as chunks: the first table of a file.

The format has no index: a file is parsed whole, and kept while its chunks are read one after the other.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from popcat.errors import PopcatError
from popcat.expressions import split_element
from popcat.io.chunks import Chunk, Field, array_field, pick, spans


def plan(path: str, rows: int) -> list[Chunk]:
    """Chunks of at most `rows` rows."""
    return [Chunk(path, "votable", start, stop) for start, stop in spans(_table(path).nrows, rows)]


def read(chunk: Chunk, columns: list[str]) -> pd.DataFrame:
    """Rows of a chunk; nulls are NaN, or pandas.NA in integers."""
    table = _table(chunk.path)
    names = {field.name: field.ID for field in table.fields}
    rows = table.array[chunk.start:chunk.stop]
    return pd.DataFrame({name: _column(rows, names, name) for name in columns})


def fields(path: str) -> dict[str, Field]:
    """Kind of each column and its unit."""
    table = _table(path)
    return {field.name: array_field(np.asarray(table.array[field.ID][:1]), str(field.unit) if field.unit else None)
            for field in table.fields}


def names(path: str) -> list[str]:
    """Names of all columns, also those that are there twice."""
    return [field.name for field in _table(path).fields]


def _table(path: str):
    status = Path(path).stat()
    return _parsed(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1)
def _parsed(path: str, size: int, mtime_ns: int):
    from astropy.io.votable import parse
    from astropy.io.votable.exceptions import VOTableSpecError

    try:
        tables = list(parse(path, verify="ignore").iter_tables())
    except (VOTableSpecError, SyntaxError, IndexError) as error:
        raise PopcatError(f"{path} is no VOTable that can be read: {error}") from error
    if not tables or not tables[0].fields:
        raise PopcatError(f"{path} has no table, which popcat reads catalogues from")
    return tables[0]


def _column(rows, names: dict[str, str], name: str):
    vector, element = (name, None) if name in names else split_element(name)
    values = pick(rows[names[vector]], vector, element)
    mask, data = np.ma.getmaskarray(values), np.ma.getdata(values)
    if not mask.any():
        return data
    if data.dtype.kind in "iu":
        return pd.arrays.IntegerArray(data.astype(np.int64), mask)
    if data.dtype.kind == "f":
        return np.where(mask, np.nan, data)
    return np.where(mask, None, data.astype(object))  # type: ignore[call-overload]  # None is no number

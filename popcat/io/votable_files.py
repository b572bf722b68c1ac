"""VOTable catalogues as chunks: the first table of a file.

The format has no index: a file is parsed whole, and kept while its chunks are read one after the other.
"""

from functools import lru_cache

import numpy as np
import pandas as pd

from popcat.errors import PopcatError
from popcat.expressions import split_element
from popcat.io.chunks import Chunk, Field, array_field, pick, spans, with_nulls
from popcat.io.streams import content_of
from popcat.paths import stamp_of


def plan(path: str, rows: int) -> list[Chunk]:
    """Chunks of at most `rows` rows."""
    return [Chunk(path, "votable", start, stop) for start, stop in spans(len(_table(path).array), rows)]


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


def remarks(path: str) -> list[str]:
    """A line if the server cut the answer off (QUERY_STATUS of DALI): then galaxies are missing in the file."""
    if not _document(path)[1]:
        return []
    return [f"{path} says that its query was cut off (QUERY_STATUS OVERFLOW): the server has more rows than the "
            f"{len(_table(path).array):,} in the file; ask again with a larger MAXREC"]  # fmt: skip


def _table(path: str):
    return _document(path)[0]


def _document(path: str):
    """The first table, and whether the query overflowed."""
    return _parsed(path, *stamp_of(path))


@lru_cache(maxsize=1)
def _parsed(path: str, size: int, mtime_ns: int):
    from astropy.io.votable import parse
    from astropy.io.votable.exceptions import VOTableSpecError

    try:
        document = parse(content_of(path), verify="ignore")
        tables = list(document.iter_tables())
    except (VOTableSpecError, SyntaxError, IndexError) as error:
        raise PopcatError(f"{path} is no VOTable that can be read: {error}") from error
    if said := [text for resource in document.resources for text in _errors(resource)]:
        raise PopcatError(f"{path} holds no answer but the server's error: {' '.join(said[0].split())[:300]}")
    if not tables or not tables[0].fields:
        raise PopcatError(f"{path} has no table, which popcat reads catalogues from")
    return tables[0], any(_overflowed(resource) for resource in document.resources)


def _errors(resource) -> list[str]:
    """What a server says of a query that failed (QUERY_STATUS of DALI)."""
    own = [str(info.content or "it says nothing more") for info in resource.infos
           if info.name == "QUERY_STATUS" and info.value == "ERROR"]  # fmt: skip
    return own + [text for inner in resource.resources for text in _errors(inner)]


def _overflowed(resource) -> bool:
    """Whether the query of a resource overflowed: that is said after its table, where OK may stand before it."""
    is_cut = any(info.name == "QUERY_STATUS" and info.value == "OVERFLOW" for info in resource.infos)
    return is_cut or any(map(_overflowed, resource.resources))


def _column(rows, names: dict[str, str], name: str):
    vector, element = (name, None) if name in names else split_element(name)
    values = pick(rows[names[vector]], vector, element)
    return with_nulls(np.ma.getdata(values), np.ma.getmaskarray(values))

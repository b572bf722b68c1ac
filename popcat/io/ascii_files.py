"""Text tables with fixed columns as chunks: IPAC (IRSA) and the machine-readable tables of the CDS and the AAS.

astropy parses a file whole; it is kept while its chunks are read one after the other.
"""

from functools import lru_cache

import numpy as np
import pandas as pd

from popcat.errors import PopcatError
from popcat.expressions import split_element
from popcat.io.chunks import Chunk, Field, array_field, pick, spans, with_nulls
from popcat.io.streams import opened
from popcat.paths import stamp_of

MAX_BYTES = 2_000_000_000
"""astropy needs some ten times as much memory as the file has bytes."""


def plan(path: str, rows: int) -> list[Chunk]:
    """Chunks of at most `rows` rows."""
    return [Chunk(path, "ascii", start, stop) for start, stop in spans(len(_table(path)), rows)]


def read(chunk: Chunk, columns: list[str]) -> pd.DataFrame:
    """Rows of a chunk; nulls are NaN, or pandas.NA in integers."""
    rows = _table(chunk.path)[chunk.start : chunk.stop]
    return pd.DataFrame({name: _column(rows, name) for name in columns})


def fields(path: str) -> dict[str, Field]:
    """Kind of each column and its unit."""
    table = _table(path)
    return {name: array_field(np.asarray(table[name][:1]), str(table[name].unit) if table[name].unit else None)
            for name in table.colnames}  # fmt: skip


def names(path: str) -> list[str]:
    """Names of all columns; astropy refuses a table in which one is there twice."""
    return list(_table(path).colnames)


def _table(path: str):
    return _parsed(path, *stamp_of(path))


@lru_cache(maxsize=1)
def _parsed(path: str, size: int, mtime_ns: int):
    from astropy.io import ascii

    with opened(path) as file:
        file.seek(0)
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise PopcatError(f"{path} is a text table of more than {MAX_BYTES / 1e9:g} GB, which is read whole: "
                          "convert it to Parquet or FITS first, with `stilts tcopy` or astropy")
    text = content.decode("utf-8", "replace")
    form = "ipac" if text.startswith(("\\", "|")) else "mrt"
    return ascii.read(text, format=form)


def _column(rows, name: str):
    vector, element = (name, None) if name in rows.colnames else split_element(name)
    values = rows[vector]
    mask = np.asarray(getattr(values, "mask", np.zeros(len(values), dtype=bool)))
    return with_nulls(pick(np.ma.getdata(values.data), vector, element), mask)

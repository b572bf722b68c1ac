"""What the three file formats share: the chunk of a plan, and what a file says about a column.

Each of parquet_files, csv_files, fits_files has plan(path, rows), read(chunk, columns) and fields(path).
"""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Chunk:
    """Rows start to stop of one file, and where in the file they are."""

    path: str
    format: str
    start: int
    stop: int
    index: int = 0
    """Position in the plan: the number of the partition."""
    row_groups: tuple[int, ...] = ()
    """Parquet: the row groups that hold the rows."""
    byte_range: tuple[int, int] | None = None
    """CSV: the bytes that hold the rows."""


class Field(NamedTuple):
    """A column: "integer", "float" or the name of another type; its unit, where the file states one."""

    kind: str
    unit: str | None = None


def spans(n_rows: int, rows: int) -> list[tuple[int, int]]:
    """Ranges of at most `rows` rows that cover n_rows.

    >>> spans(5, 2)
    [(0, 2), (2, 4), (4, 5)]
    """
    return [(start, min(start + rows, n_rows)) for start in range(0, n_rows, rows)]


def numpy_kind(dtype) -> str:
    """Kind of a numpy or pandas dtype, as in `Field`.

    >>> import numpy as np
    >>> numpy_kind(np.dtype("uint8")), numpy_kind(np.dtype("f4"))
    ('integer', 'float')
    """
    return {"i": "integer", "u": "integer", "f": "float"}.get(dtype.kind, str(dtype))

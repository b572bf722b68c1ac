"""What the file formats share: the chunk of a plan, and what a file says about a column.

Each of parquet_files, csv_files, fits_files, votable_files, ascii_files has plan(path, rows), read(chunk, columns) and
fields(path); those of fits_files also take which table of the file is meant. Plugins have the same functions. A column
may be one element of a vector column: "NMGY[2]".

Names in a survey file as columns of a catalogue: plain names, elements of vectors, expressions over others.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from popcat.errors import PopcatError
from popcat.expressions import as_column, split_element


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
    table: int = 0
    """FITS: the number of the HDU that holds the table."""
    stamp: tuple[int, int] = (-1, -1)
    """Size and time of change (ns) of the file when it was planned: with others its rows are another catalogue's."""

    @property
    def label(self) -> str:
        """The file in a message, with the number of the HDU where that is not the first table."""
        return f"{self.path}[{self.table}]" if self.table > 1 else self.path


class Field(NamedTuple):
    """A column: "integer", "float" or the name of another type; its unit, where the file states one; the kind of its
    elements, where it is a vector; and, where a few texts are among numbers, the first: its row, from 1, and itself."""

    kind: str
    unit: str | None = None
    element: str | None = None
    odd: tuple[int, str] | None = None


def is_text(kind: str) -> bool:
    """Whether a kind, as in `Field`, is text, as each format calls it."""
    return kind in ("text", "str", "object") or bool(re.match(r"(dictionary<values=)?(large_)?string|<U|\|S", kind))


def spans(n_rows: int, rows: int) -> list[tuple[int, int]]:
    """Ranges of at most `rows` rows that cover n_rows.

    >>> spans(5, 2)
    [(0, 2), (2, 4), (4, 5)]
    """
    return [(start, min(start + rows, n_rows)) for start in range(0, n_rows, rows)]


def numpy_kind(dtype) -> str:
    """Kind of a numpy or pandas dtype, as in `Field`.

    >>> numpy_kind(np.dtype("uint8")), numpy_kind(np.dtype("f4"))
    ('integer', 'float')
    """
    return {"i": "integer", "u": "integer", "f": "float"}.get(dtype.kind, str(dtype))


def array_field(values: np.ndarray, unit: str | None) -> Field:
    """Field of a column (n,) or of a vector column (n, k).

    >>> array_field(np.zeros((3, 7), "f4"), "nanomaggy")
    Field(kind='float array of 7', unit='nanomaggy', element='float', odd=None)
    """
    kind, shape = numpy_kind(values.dtype), values.shape[1:]
    return Field(f"{kind} array of {' x '.join(map(str, shape))}", unit, kind) if shape else Field(kind, unit)


def pick(values: np.ndarray, name: str, element: int | None) -> np.ndarray:
    """A column (n,), or one element of a vector column (n, k); PopcatError if there is no such element."""
    if element is None:
        return values
    if values.ndim != 2 or element >= values.shape[1]:
        got = f"vectors of {values.shape[1]}" if values.ndim == 2 else f"{values.ndim - 1} axes"
        raise PopcatError(f'column "{name}" has {got}: no element [{element}]; the first is [0]')
    return values[:, element]


def with_nulls(values: np.ndarray, mask: np.ndarray):
    """A column (n,) in which masked values are missing: NaN in numbers, pandas.NA in integers, None in text.

    Integers do not become floats, which would lose the last digits of identifiers and flags.

    >>> with_nulls(np.array([5, 6], dtype="i2"), np.array([False, True])).tolist()
    [5, <NA>]
    """
    if not mask.any():
        return values
    if values.dtype.kind in "iu":
        wide = np.uint64 if values.dtype == np.uint64 else np.int64
        return pd.arrays.IntegerArray(values.astype(wide), mask)
    if values.dtype.kind == "f":
        return np.where(mask, np.nan, values)
    return np.where(mask, None, values.astype(object))  # type: ignore[call-overload]  # None is no number


_EMPTY = {"integer": np.int64, "float": np.float64, "bool": np.bool_}


def field_of(fields: Mapping[str, Field], name: str) -> Field:
    """Kind and unit of a name, from those of the columns it is computed from, all of which must be in `fields`."""
    if name in fields:
        return fields[name]
    vector, element = split_element(name)
    if vector in fields and element is not None:
        return Field(fields[vector].element or fields[vector].kind, fields[vector].unit)
    expression = as_column(name)
    empty = {source: np.empty(0, _EMPTY.get(field_of(fields, source).kind, "U1")) for source in expression.columns}
    return Field({"i": "integer", "f": "float", "b": "bool"}.get(expression(empty).dtype.kind, "text"))



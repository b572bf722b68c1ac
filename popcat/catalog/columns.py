"""Names in a survey file as columns of a catalogue: plain names, elements of vectors, expressions over others."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from popcat.catalog.chunk import Field
from popcat.expressions import as_column, split_element

_EMPTY = {"integer": np.int64, "float": np.float64, "bool": np.bool_}


def sources_of(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Columns, or elements of vector columns, that a name is computed from; itself where a file has that very name.

    >>> sources_of("-2.5 * log10(T_G)", ["T_G"]), sources_of("mag-g", ["mag-g"]), sources_of("z", [])
    (('T_G',), ('mag-g',), ('z',))
    """
    expression = None if name in known else as_column(name)
    return (name,) if expression is None else expression.columns


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


def column(frame: pd.DataFrame, name: str) -> pd.Series:
    """A column of a frame, or the values of an expression over its columns.

    Where a source is missing (NaN, null) a number is missing and a condition is False.

    >>> frame = pd.DataFrame({"a": [1.0, np.nan], "flags": [4, 0]})
    >>> column(frame, "a > 0 and flags & 4 != 0").tolist(), column(frame, "2 * a").tolist()
    ([True, False], [2.0, nan])
    """
    if name in frame.columns or as_column(name) is None:
        return frame[name]
    expression = as_column(name)
    sources = frame[list(expression.columns)]
    missing = sources.isna().any(axis=1).to_numpy()
    values = expression({source: _filled(sources[source]) for source in expression.columns})
    return _masked(pd.Series(np.broadcast_to(values, len(frame)).copy(), name=name), missing)


def _filled(values: pd.Series) -> np.ndarray:
    """Values with plain numbers where integers are missing; floats keep their NaN."""
    if values.isna().any() and getattr(values.dtype, "kind", "O") in "iu":
        values = values.fillna(0)
    return values.to_numpy(dtype=getattr(values.dtype, "numpy_dtype", None))


def _masked(values: pd.Series, missing: np.ndarray) -> pd.Series:
    if not missing.any():
        return values
    if values.dtype == bool:
        return values & ~missing
    return (values.astype("Int64") if values.dtype.kind == "i" else values).mask(missing)

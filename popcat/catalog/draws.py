"""Draws of a posterior catalogue and its other columns, to Arrow arrays and back: the one encoder and decoder.

A quantity's draws are a column of lists, `<quantity>_draws`, float32, null for a galaxy without a posterior. Every draw
of a galaxy counts alike.
"""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from popcat.errors import PopcatError

SUFFIX = "_draws"
_WEIGHTS = "weights"

Column: TypeAlias = pa.Array | pa.ChunkedArray
Table: TypeAlias = pa.Table | pa.RecordBatch


def encode(values: np.ndarray, rows: np.ndarray, n: int) -> pa.Array:
    """Draws (len(rows), k) of some of n galaxies as a list<float32> column (n,), null for the others.

    >>> encode(np.array([[1.0, 2.0]]), np.array([1]), 3).to_pylist()
    [None, [1.0, 2.0], None]
    """
    lengths = np.zeros(n, dtype=np.int32)
    lengths[rows] = values.shape[1]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    flat = pa.array(np.asarray(values, dtype=np.float32).ravel())
    return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=pa.array(others(rows, n)))


def decode(column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Rows (m,) that have draws, ascending, and their draws (m, k), of a list column; the inverse of `encode`.

    Chunks, slices and nulls do not matter. Without any draws k is 0.

    Raises PopcatError where galaxies have different numbers of draws.

    >>> rows, values = decode(pa.chunked_array([[[1.0, 2.0], None], [[3.0, 4.0]]]))
    >>> rows.tolist(), values.tolist()
    ([0, 2], [[1.0, 2.0], [3.0, 4.0]])
    """
    rows, lengths, flat = decode_ragged(column)
    if len(rows) == 0:
        return rows, np.empty((0, 0), dtype=flat.dtype)
    if lengths.min() != lengths.max():
        raise PopcatError(f"galaxies have {lengths.min()} to {lengths.max()} draws: expected as many of each")
    return rows, flat.reshape(len(rows), -1)


def decode_ragged(column: Column) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (m,) that have draws, how many each has (m,), and all draws in a row, of a list column."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(lengths)
    flat = pc.list_flatten(column)
    return rows, lengths[rows], flat.to_numpy(zero_copy_only=False) if isinstance(flat, pa.Array) else flat.to_numpy()


def decode_table(table: Table, quantities: Sequence[str] | None = None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Rows (m,) of a table that have draws, and the draws (m, k) of each quantity: all of them by default.

    Raises PopcatError where one galaxy has draws of some quantities only, or of one more than of another.
    """
    names = quantities_of(table.schema.names) if quantities is None else list(quantities)
    found = {name: decode(table.column(f"{name}{SUFFIX}")) for name in names}
    first = next(iter(found.values()), (np.empty(0, dtype=np.int64), np.empty((0, 0))))
    for name, (rows, values) in found.items():
        if not np.array_equal(rows, first[0]) or values.shape != first[1].shape:
            raise PopcatError(f"{names[0]} and {name}: expected as many draws of one as of the other in every galaxy")
    return first[0], {name: values for name, (_, values) in found.items()}


def quantities_of(columns: Iterable[str]) -> list[str]:
    """Names of the quantities that have draws.

    >>> quantities_of(["object_id", "log_mstar_p50", "log_mstar_draws"])
    ['log_mstar']
    """
    return [name.removesuffix(SUFFIX) for name in columns if name.endswith(SUFFIX)]


def is_list(schema: pa.Schema, column: str) -> bool:
    """Whether a column holds a list in each row."""
    kind = schema.field(column).type
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def refuse_weights(schema: pa.Schema, where: str) -> None:
    """PopcatError for files with a list of weights beside the draws: popcat reads every draw alike."""
    if _WEIGHTS in schema.names and is_list(schema, _WEIGHTS):
        raise PopcatError(f'{where} has a column "{_WEIGHTS}", but popcat catalogues have equally weighted draws; '
                          "resample the draws by their weights first, and leave the column out")  # fmt: skip


def scatter(values: np.ndarray, rows: np.ndarray, n: int, *, nan_is_null: bool = False) -> pa.Array:
    """A float32 column of n rows with nulls in the others.

    >>> scatter(np.array([1.5]), np.array([1]), 2).to_pylist()
    [None, 1.5]
    """
    full = np.zeros(n, dtype=np.float32)
    with np.errstate(over="ignore"):  # a chi2 beyond float32 is infinite
        full[rows] = values
    return pa.array(full, mask=others(rows, n) | (np.isnan(full) & nan_is_null))


def others(rows: np.ndarray, n: int) -> np.ndarray:
    """Which of n rows are not among `rows`, (n,) bool."""
    missing = np.ones(n, dtype=bool)
    missing[rows] = False
    return missing

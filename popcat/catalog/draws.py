"""Draws of a posterior catalogue and its other columns, to Arrow arrays and back: the one encoder and decoder.

A quantity's draws are a column of lists, `<quantity>_draws`, float32, null for a galaxy without a posterior. Every draw
of a galaxy counts alike.

`Stack` is a histogram of draws: the posterior mass of galaxies in bins of one or two quantities.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
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


def longest(column: Column) -> int:
    """The largest number of draws of a galaxy in a list column.

    >>> longest(pa.array([[1.0, 2.0], None, [3.0]]))
    2
    """
    return int(pc.max(pc.list_value_length(column)).as_py() or 0)


def padded(column: Column, k: int) -> np.ndarray:
    """The draws of all n rows of a list column as float32 (n, k), NaN where a row has fewer.

    >>> padded(pa.array([[1.0, 2.0], None, [3.0]]), 2).tolist()
    [[1.0, 2.0], [nan, nan], [3.0, nan]]
    """
    values = np.full((len(column), k), np.nan, dtype=np.float32)
    rows, lengths, flat = decode_ragged(column)
    place = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    values[np.repeat(rows, lengths), place] = flat
    return values


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


def long_columns(table: Table, keys: Sequence[str], quantities: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns with a row for each draw of each galaxy: the keys of the galaxy, the draw's number, the quantities.

    >>> table = pa.table({"id": [7, 8, 9], "x_draws": [[1.0, 2.0], None, [3.0]]})
    >>> {name: column.tolist() for name, column in long_columns(table, ["id"], ["x"]).items()}
    {'id': [7, 7, 9], 'draw': [0, 1, 0], 'x': [1.0, 2.0, 3.0]}
    """
    found = {name: decode_ragged(table[f"{name}{SUFFIX}"]) for name in quantities}
    rows, lengths, _ = next(iter(found.values()), (np.empty(0, np.int64), np.empty(0, np.int64), None))
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    columns = {key: np.repeat(table[key].to_numpy()[rows], lengths) for key in keys}
    columns["draw"] = (np.arange(len(first)) - first).astype(np.int32)
    return columns | {name: flat for name, (*_, flat) in found.items()}


def plain_rows(table: Table) -> list[dict]:
    """Each row as plain values by column, lists as arrays (k,), None for null.

    >>> plain_rows(pa.table({"id": [7, 8], "x_draws": [[1.0, 2.0], None]}))
    [{'id': 7, 'x_draws': array([1., 2.])}, {'id': 8, 'x_draws': None}]
    """
    rows = table.select([name for name in table.schema.names if not is_list(table.schema, name)]).to_pylist()
    for name in (name for name in table.schema.names if is_list(table.schema, name)):
        where, lengths, flat = decode_ragged(table.column(name))
        of_row = dict(zip(where.tolist(), np.split(flat, np.cumsum(lengths)[:-1]), strict=False))
        for number, row in enumerate(rows):
            row[name] = of_row.get(number)
    return rows


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


@dataclass(frozen=True)
class Stack:
    """A population histogram: posterior mass in bins of one or two quantities.

    mass : (nx,) or (nx, ny), the expected number of galaxies in each bin
    x_edges, y_edges : edges of the bins; y_edges is None in one dimension
    n_galaxies : galaxies that were counted; mass.sum() is less where draws lie outside the bins
    """

    mass: np.ndarray
    x_edges: np.ndarray
    y_edges: np.ndarray | None
    n_galaxies: int


def histogram(batch: pa.RecordBatch, sources: Sequence[str], edges: Sequence[np.ndarray]) -> tuple[np.ndarray, int]:
    """Posterior mass (bins of each axis) of a batch, and how many galaxies it came from.

    `sources` are columns: lists of draws, of which each counts 1 / k, or plain numbers, which count where they are.
    """
    table = pa.Table.from_batches([batch.select(list(dict.fromkeys(sources)))])
    for name in sources:
        table = table.filter(pc.is_valid(table[name]))
    lengths, values = _values(table, sources)
    mass = np.repeat(1.0 / np.maximum(lengths, 1), lengths)
    index = np.zeros(len(mass), dtype=np.int64)
    inside = np.ones(len(mass), dtype=bool)
    for value, edge in zip(values, edges, strict=True):
        place = _bin(value, edge)
        inside &= (place >= 0) & (place < len(edge) - 1)
        index = index * (len(edge) - 1) + place
    shape = [len(edge) - 1 for edge in edges]
    counts = np.bincount(index[inside], weights=mass[inside], minlength=int(np.prod(shape)))
    return counts.reshape(shape), int(np.count_nonzero(lengths))


def _values(table: pa.Table, sources: Sequence[str]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Number of draws of each galaxy (n,), one where no source is a list; and all draws in a row, of each source."""
    lists = {name: decode_ragged(table[name]) for name in sources if pa.types.is_nested(table[name].type)}
    lengths = np.ones(len(table), dtype=np.int64)
    for number, (rows, found, _) in enumerate(lists.values()):
        each = np.zeros(len(table), dtype=np.int64)
        each[rows] = found
        if number and not np.array_equal(lengths, each):
            raise PopcatError(f"{', '.join(sources)}: expected as many draws of one as of the other in every galaxy")
        lengths = each
    plain = {name: np.repeat(table[name].to_numpy(), lengths) for name in sources if name not in lists}
    return lengths, [(lists[name][2] if name in lists else plain[name]).astype(np.float64) for name in sources]


def _bin(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Index of the bin that holds each value, as numpy.histogram counts; -1 or beyond the last outside."""
    steps = np.diff(edges)
    if np.allclose(steps, steps[0], rtol=1e-9):  # arithmetic instead of a search: ten times faster
        with np.errstate(invalid="ignore"):
            place = np.floor((values - edges[0]) / steps[0])
        place = np.where(np.isfinite(place), np.clip(place, -1, len(steps)), -1).astype(np.int64)
    else:
        place = np.searchsorted(edges, values, side="right") - 1
        place[np.isnan(values)] = -1
    return np.where(values == edges[-1], len(steps) - 1, place)


def paired(names: Sequence[str], bins, range_) -> list[tuple]:
    """(name, bins, range) of each axis, from one or a pair of each; PopcatError where their numbers differ."""
    both = len(names) == 2
    bins = list(bins) if both and isinstance(bins, tuple | list) else [bins] * len(names)
    ranges = list(range_) if both and range_ is not None else [range_] * len(names)
    if len(bins) != len(names) or len(ranges) != len(names):
        raise PopcatError(f"{' and '.join(names)}: expected {len(names)} of bins and range_, got {len(bins)} and "
                          f"{len(ranges)}")
    return list(zip(names, bins, ranges, strict=True))


def edges_of(name: str, bins, span, values: Callable[[], pd.Series], path: str) -> np.ndarray:
    """Edges as given, or so many bins of a span, by default of what the `values` of the catalogue at a path span.

    Raises PopcatError for bins that are none, and where no value is finite.
    """
    if (edges := given_edges(name, bins)) is not None:
        return edges
    if span is None:
        span = _span_of(values().to_numpy(dtype=np.float64))
    if span is None:
        raise PopcatError(f"{path}: no galaxy with {name} passes, so its range is unknown; give range_")
    return np.linspace(span[0], span[1], bins + 1)


def given_edges(name: str, bins) -> np.ndarray | None:
    """Edges where `bins` are some, None where it is a number of bins; PopcatError for neither."""
    if isinstance(bins, int | np.integer):
        return None
    edges = np.asarray(bins, dtype=np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not np.all(np.diff(edges) > 0):
        raise PopcatError(f"bins of {name}: expected a number or ascending edges, got {bins!r}")
    return edges


def _span_of(values: np.ndarray) -> tuple[float, float] | None:
    """What values (n,) span, and half of that again on either side of the bulk; None if none is finite.

    >>> _span_of(np.arange(1001.0))
    (-242.5, 1242.5)
    """
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    low, high = np.percentile(values, [0.5, 99.5])
    margin = 0.25 * (high - low) or 0.5
    return float(low - margin), float(high + margin)

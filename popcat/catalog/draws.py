"""Draws and other columns of a posterior catalogue, as Arrow arrays with nulls where there is no posterior."""

import numpy as np
import pyarrow as pa


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


def _lists(values, rows, n) -> pa.Array:
    """A list<float32> column with nulls in the other rows."""
    lengths = np.zeros(n, dtype=np.int32)
    lengths[rows] = values.shape[1]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()), mask=pa.array(others(rows, n)))

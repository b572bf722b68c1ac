"""Values of a FITS column: with their nulls (TNULL, blanks of ASCII tables), and unsigned integers to the last digit.

astropy scales integers (TSCAL, TZERO) before it looks for nulls, and reads 64-bit unsigned integers as floats.
"""

import numpy as np
from astropy.io import fits

_UNSIGNED = {"I": 2**15, "J": 2**31, "K": 2**63}
"""TZERO with which FITS writes unsigned integers, which it does not have, by the format of the column."""


def values_of(table, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """A column (n,) or vector column (n, k) in native byte order, and where it is null; None where it cannot be."""
    column = table.columns[name]
    if isinstance(table, fits.TableHDU):
        return _of_ascii(table, column)
    raw = table.data.view(np.ndarray)[name]
    zero = int(column.bzero or 0) if column.bscale in (None, "", 1) else 0
    is_unsigned = zero and zero == _UNSIGNED.get(column.format.format)
    values = _unsigned(_native(raw), zero) if is_unsigned else _native(np.array(table.data[name]))
    if column.null is None or raw.dtype.kind not in "iu":
        return values, None
    mask = (raw == column.null).reshape(values.shape)
    return values, mask if mask.any() else None


def _of_ascii(table, column) -> tuple[np.ndarray, np.ndarray | None]:
    """A column of an ASCII table, in which a null, or nothing at all, stands for a missing number."""
    text = np.char.strip(table.data.view(np.ndarray)[column.name])
    values = _native(np.array(table.data[column.name]))
    marks = [b""] if column.null is None else [b"", str(column.null).strip().encode()]
    mask = np.isin(text, marks) if values.dtype.kind in "iuf" else np.zeros(len(text), dtype=bool)
    return values, mask if mask.any() else None


def _unsigned(raw: np.ndarray, zero: int) -> np.ndarray:
    """Stored integers plus 2^15, 2^31 or 2^63: int64 where they fit, which is what identifiers are."""
    if zero < 2**63:
        return raw.astype(np.int64) + zero
    values = raw.view(np.uint64) ^ np.uint64(2**63)
    return values if values.size and values.max() > np.iinfo(np.int64).max else values.astype(np.int64)


def _native(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False))

"""FITS catalogues as chunks: the first binary table of a file."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from popcat.catalog.chunk import Chunk, Field, numpy_kind, spans
from popcat.errors import PopcatError


def plan(path: str, rows: int) -> list[Chunk]:
    """Chunks of at most `rows` rows; PopcatError if the file ends before its last row."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)  # headers are seldom clean; truncation is refused here
        with _table(path) as table:
            _refuse_truncated(path, table)
            return [Chunk(path, "fits", start, stop) for start, stop in spans(table.header["NAXIS2"], rows)]


def read(chunk: Chunk, columns: list[str]) -> pd.DataFrame:
    """Rows of a chunk, copied out of the memory map, in native byte order."""
    with _table(chunk.path) as table:
        rows = table.data[chunk.start:chunk.stop]
        return pd.DataFrame({name: _values(rows, table.columns[name]) for name in columns})


def fields(path: str) -> dict[str, Field]:
    """Kind of each column, and its unit from TUNIT."""
    with _table(path) as table:
        row = table.data[:1]
        return {column.name: Field(_kind(row[column.name]), column.unit) for column in table.columns}


@contextmanager
def _table(path: str) -> Iterator[fits.BinTableHDU]:
    """The first binary table that has columns; a compressed file cannot be memory-mapped and is read whole."""
    with fits.open(path, memmap=not _compressed(path)) as hdus:
        tables = [hdu for hdu in hdus if type(hdu) is fits.BinTableHDU and len(hdu.columns)]
        if not tables:
            raise PopcatError(f"{path} has no binary table, which popcat reads catalogues from; "
                              f"it has {', '.join(type(hdu).__name__ for hdu in hdus)}")
        yield tables[0]


def _compressed(path: str) -> bool:
    return path.lower().endswith(".gz")


def _refuse_truncated(path: str, table: fits.BinTableHDU):
    """astropy only warns, and then reads what is there."""
    if _compressed(path):
        table.data[-1:]  # gzip itself notices a missing end
        return
    expected = table.fileinfo()["datLoc"] + table.header["NAXIS1"] * table.header["NAXIS2"]
    size = Path(path).stat().st_size
    if size < expected:
        raise PopcatError(f"{path} is truncated: expected at least {expected} bytes, got {size}; copy it again")


def _values(rows: fits.FITS_rec, column: fits.Column) -> np.ndarray:
    values = np.array(rows[column.name])
    values = values.astype(values.dtype.newbyteorder("="))
    if column.null is None or values.dtype.kind not in "iu":
        return values
    return np.where(values == column.null, np.nan, values) if np.any(values == column.null) else values


def _kind(values: np.ndarray) -> str:
    shape = values.shape[1:]
    kind = numpy_kind(values.dtype)
    return f"{kind} array of {' x '.join(map(str, shape))}" if shape else kind

"""FITS catalogues as chunks: the first binary table of a file.

Bytes of rows are read here and given to astropy as a small table of their own. Its own access to a part of a file maps
all of it, privately, which systems refuse beyond their memory, and may copy all of it when it is done.
"""

import gzip
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from popcat.errors import PopcatError
from popcat.expressions import split_element
from popcat.io.chunks import Chunk, Field, array_field, pick, spans

_BLOCK_BYTES = 32_000_000
_FITS_BLOCK = 2880


class _Layout(NamedTuple):
    """Where the rows of a table are, and its header."""

    header: fits.Header
    start: int
    width: int
    rows: int


def plan(path: str, rows: int) -> list[Chunk]:
    """Chunks of at most `rows` rows; PopcatError if the file ends before its last row."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)  # headers are seldom clean; truncation is refused here
        layout = _layout(path)
    _refuse_truncated(path, layout)
    _refuse_repeated(path)
    return [Chunk(path, "fits", start, stop) for start, stop in spans(layout.rows, rows)]


def read(chunk: Chunk, columns: list[str]) -> pd.DataFrame:
    """Rows of a chunk, in native byte order."""
    parts = [{name: _column(table, name) for name in columns} for table in _blocks(chunk)]
    return pd.DataFrame({name: _joined([part[name] for part in parts]) for name in columns})


def fields(path: str) -> dict[str, Field]:
    """Kind of each column, and its unit from TUNIT."""
    (table,) = _blocks(Chunk(path, "fits", 0, min(1, _layout(path).rows)))
    return {column.name: array_field(table.data[column.name], column.unit) for column in table.columns}


def names(path: str) -> list[str]:
    """Names of all columns, also those that are there twice."""
    header = _layout(path).header
    return [str(header.get(f"TTYPE{i}", "")).strip() for i in range(1, header["TFIELDS"] + 1)]


def _layout(path: str) -> _Layout:
    status = Path(path).stat()
    return _read_layout(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=16)
def _read_layout(path: str, size: int, mtime_ns: int) -> _Layout:
    with fits.open(path, memmap=False, lazy_load_hdus=True) as hdus:
        for hdu in hdus:
            if type(hdu) is fits.BinTableHDU and hdu.header["TFIELDS"]:
                header = hdu.header.copy()
                return _Layout(header, hdu.fileinfo()["datLoc"], header["NAXIS1"], header["NAXIS2"])
        raise PopcatError(f"{path} has no binary table, which popcat reads catalogues from; "
                          f"it has {', '.join(type(hdu).__name__ for hdu in hdus)}")


def _refuse_repeated(path: str):
    """astropy reads no table with two columns of one name."""
    twice = [name for name, times in Counter(names(path)).items() if times > 1]
    if twice:
        raise PopcatError(f"{path} has more than one column of the name {', '.join(twice)}: expected each name once; "
                          "rename or remove the others")


def _opened(path: str):
    return gzip.open(path) if path.lower().endswith(".gz") else open(path, "rb")


def _refuse_truncated(path: str, layout: _Layout):
    """astropy only warns, and then reads what is there."""
    end = layout.start + layout.rows * layout.width
    with _opened(path) as file:
        # gzip itself notices a missing end
        size = file.seek(end) if path.lower().endswith(".gz") else file.seek(0, 2)
        if size < end:
            raise PopcatError(f"{path} is truncated: expected at least {end} bytes, got {size}; copy it again")


def _blocks(chunk: Chunk) -> Iterator[fits.BinTableHDU]:
    """The rows of a chunk as tables of bounded size."""
    layout = _layout(chunk.path)
    step = max(_BLOCK_BYTES // max(layout.width, 1), 1)
    with _opened(chunk.path) as file:
        file.seek(layout.start + chunk.start * layout.width)
        for low, high in spans(max(min(chunk.stop, layout.rows) - chunk.start, 0), step):
            content = file.read((high - low) * layout.width)
            yield _table(layout.header, content, len(content) // max(layout.width, 1))


def _table(header: fits.Header, content: bytes, rows: int) -> fits.BinTableHDU:
    """Some rows as a table in memory."""
    header = header.copy()
    header["NAXIS2"], header["PCOUNT"] = rows, 0
    padding = b"\0" * (-len(content) % _FITS_BLOCK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        return fits.BinTableHDU.fromstring(header.tostring().encode("latin-1") + content + padding)


def _column(table: fits.BinTableHDU, name: str):
    """A column (n,), or an element of a vector column; a name that is there as it stands is that column."""
    names = table.columns.names
    vector, element = (name, None) if name in names else split_element(name)
    if vector not in names:
        raise KeyError(f"no column {vector}")
    return pick(_values(table.data[vector], table.columns[vector]), vector, element)


def _values(values, column: fits.Column):
    values = np.array(values)
    values = values.astype(values.dtype.newbyteorder("="))
    if column.null is None or values.dtype.kind not in "iu" or not np.any(values == column.null):
        return values
    # Not floats, which would lose the last bits of identifiers and flags.
    return pd.arrays.IntegerArray(values.astype(np.int64), values == column.null)


def _joined(parts: list):
    if len(parts) == 1:
        return parts[0]
    return pd.concat([pd.Series(part) for part in parts], ignore_index=True) if parts else np.empty(0)

"""FITS catalogues as chunks: one table of a file, binary or ASCII.

Bytes of rows are read here and given to astropy as a small table of their own. Its own access to a part of a file maps
all of it, privately, which systems refuse beyond their memory, and may copy all of it when it is done.
"""

import re
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from popcat.errors import PopcatError, did_you_mean
from popcat.expressions import base_name, sources_of, split_element
from popcat.io.chunks import Chunk, Field, array_field, pick, spans, with_nulls
from popcat.io.fits_values import values_of
from popcat.io.streams import content_of, is_compressed, opened
from popcat.paths import stamp_of

_BLOCK_BYTES = 32_000_000
_FITS_BLOCK = 2880
_BYTES = {"L": 1, "B": 1, "I": 2, "J": 4, "K": 8, "A": 1, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}
_TABLES = (fits.BinTableHDU, fits.TableHDU)


class _Layout(NamedTuple):
    """Where the rows of a table are, and its header, in which no two columns have one name."""

    table: int
    name: str
    kind: type[fits.BinTableHDU] | type[fits.TableHDU]
    header: fits.Header
    start: int
    width: int
    rows: int
    columns: tuple[str, ...]

    @property
    def repeated(self) -> list[str]:
        """Names that more than one column has."""
        return [name for name, times in Counter(self.columns).items() if times > 1]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without astropy's warnings: headers and names are seldom clean; truncation is refused here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            yield
        except fits.VerifyError as error:
            raise ValueError(f"a header is no valid one: {error}") from error


@_quiet()
def plan(path: str, rows: int, asked: str | None = None, columns: Sequence[str] = ()) -> list[Chunk]:
    """Chunks of at most `rows` rows of the table that is asked for by name or number of the HDU.

    Without `asked` it is the first table that has most of the `columns`.

    Raises PopcatError if there is no such table, or the file ends before its last row.
    """
    layout = _chosen(path, asked, columns)
    for name in columns:
        _refuse_repeated(path, layout, name)
    _refuse_inconsistent(path, layout)
    _refuse_truncated(path, layout)
    return [Chunk(path, "fits", start, stop, table=layout.table) for start, stop in spans(layout.rows, rows)]


@_quiet()
def read(chunk: Chunk, columns: list[str]) -> pd.DataFrame:
    """Rows of a chunk, in native byte order."""
    layout = _layout(chunk.path, chunk.table)
    parts = [{name: _column(table, layout, name) for name in columns} for table in _blocks(chunk, layout)]
    return pd.DataFrame({name: _joined([part[name] for part in parts]) for name in columns})


@_quiet()
def fields(path: str, table: int = 0) -> dict[str, Field]:
    """Kind of each column, and its unit from TUNIT; of the first table, where none is named."""
    layout = _layout(path, table) if table else _chosen(path, None, ())
    (one,) = _blocks(Chunk(path, "fits", 0, min(1, layout.rows)), layout)
    return {column.name: array_field(values_of(one, column.name)[0], column.unit) for column in one.columns}


@_quiet()
def names(path: str, table: int = 0) -> list[str]:
    """Names of all columns, also those that are there twice."""
    return list((_layout(path, table) if table else _chosen(path, None, ())).columns)


def _chosen(path: str, asked: str | None, columns: Sequence[str]) -> _Layout:
    layouts = _layouts(path)
    if asked is not None:
        found = [one for one in layouts if asked in (str(one.table), one.name) or asked.upper() == one.name.upper()]
        if found:
            return found[0]
        known = [one.name or str(one.table) for one in layouts]
        raise PopcatError(f'{path} has no table "{asked}"; {did_you_mean(asked, known)}')
    # max takes the first of equals; the only row of a first table is often a header of another file (LDAC)
    return max(layouts, key=lambda layout: (_hits(layout, columns), layout.rows > 1))


def _hits(layout: _Layout, columns: Sequence[str]) -> int:
    names = set(layout.columns)
    sources = {source for name in columns for source in sources_of(name, names)}
    return sum(source in names or base_name(source) in names for source in sources)


def _layout(path: str, table: int) -> _Layout:
    found = [one for one in _layouts(path) if one.table == table]
    if not found:
        raise PopcatError(f"{path} has no table in HDU {table} any more: it changed after the run was planned")
    return found[0]


def _layouts(path: str) -> tuple[_Layout, ...]:
    return _read_layouts(path, *stamp_of(path))


@lru_cache(maxsize=16)
def _read_layouts(path: str, size: int, mtime_ns: int) -> tuple[_Layout, ...]:
    """The tables of a file; PopcatError if there is none that can be read."""
    with _opened_by_astropy(path) as hdus:
        kinds, found, end = [], [], 0
        for number, hdu in enumerate(hdus):
            kinds.append(type(hdu).__name__)
            place = hdu.fileinfo()
            end = place["datLoc"] + place["datSpan"]
            if type(hdu) in _TABLES and hdu.header["TFIELDS"]:
                found.append((number, hdu))
        plain = [_layout_of(number, hdu) for number, hdu in found if not hdu.header.get("ZTABLE", False)]
    if plain:
        return tuple(plain)
    if found:
        raise PopcatError(f"{path}: the table is compressed in tiles (ZTABLE), which popcat cannot read; "
                          f"uncompress it: funpack {Path(path).name}")
    _refuse_cut(path, end)
    raise PopcatError(f"{path} has no table, which popcat reads catalogues from; it has {', '.join(kinds)}")


def _opened_by_astropy(path: str):
    """A file's HDUs; of a compressed one of which nothing can be read, whether it is cut off."""
    try:
        return fits.open(content_of(path), memmap=False, lazy_load_hdus=True)
    except OSError:
        if is_compressed(path):
            _refuse_cut(path, 0)
        raise


def _refuse_cut(path: str, end: int) -> None:
    """PopcatError where a file without a table ends within one: astropy leaves out what it cannot read whole."""
    try:
        with opened(path) as file:
            file.seek(end)
            rest = file.read(_FITS_BLOCK)
            size = file.tell() + sum(map(len, iter(lambda: file.read(_BLOCK_BYTES), b"")))
    except (EOFError, zlib.error):
        raise PopcatError(f"{path} is truncated: the compressed file ends before its table does; "
                          "copy it again") from None
    if size < end or rest.startswith(b"XTENSION"):
        where = f"within the table that begins at byte {end:,}" if rest else f"expected at least {end:,} bytes"
        raise PopcatError(f"{path} is truncated: it ends after {size:,} bytes, {where}; copy it again")


def _layout_of(number: int, hdu) -> _Layout:
    header = hdu.header.copy()
    names = [header.get(f"TTYPE{i + 1}", "").strip() for i in range(header["TFIELDS"])]
    for i, name in enumerate(names):
        if names.count(name) > 1:  # astropy reads no table in which a name is repeated
            header[f"TTYPE{i + 1}"] = f"{name} (column {i + 1})"
    return _Layout(number, hdu.name, type(hdu), header, hdu.fileinfo()["datLoc"], header["NAXIS1"], header["NAXIS2"],
                   tuple(names))  # fmt: skip


def _refuse_inconsistent(path: str, layout: _Layout) -> None:
    """PopcatError where the columns do not fill the rows, as the standard asks: values would be read from others'."""
    header, rows = layout.header, "its header contradicts itself"
    if header["TFIELDS"] < len([key for key in header if re.fullmatch(r"TFORM\d+", key)]):
        raise PopcatError(f"{path}: {rows}: more columns (TFORM) than TFIELDS = {header['TFIELDS']}; copy it again")
    if layout.kind is fits.TableHDU:
        return  # astropy holds columns of ASCII to the width of a row
    width = sum(map(_width_of, (str(header[f"TFORM{i + 1}"]) for i in range(header["TFIELDS"]))))
    if width != layout.width:
        raise PopcatError(f"{path}: {rows}: columns of {width} bytes in rows of NAXIS1 = {layout.width}; copy it again")


def _width_of(form: str) -> int:
    """Bytes of a column of a binary table.

    >>> [_width_of(form) for form in ("K", "3E", "20A", "12X", "1PE(4)")]
    [8, 12, 20, 2, 8]
    """
    found = re.match(r"\s*(\d*)([LXBIJKAEDCMPQ])", form)
    if found is None:
        raise ValueError(f"a header is no valid one: format {form}")
    repeat = int(found[1] or 1)
    return -(-repeat // 8) if found[2] == "X" else repeat * _BYTES[found[2]]


def _refuse_truncated(path: str, layout: _Layout):
    """astropy only warns, and then reads what is there."""
    end = layout.start + layout.rows * layout.width
    with opened(path) as file:
        # a compressed stream itself notices a missing end
        size = file.seek(end) if is_compressed(path) else file.seek(0, 2)
        if size < end:
            raise PopcatError(f"{path} is truncated: expected at least {end} bytes, got {size}; copy it again")


def _blocks(chunk: Chunk, layout: _Layout) -> Iterator:
    """The rows of a chunk as tables of bounded size."""
    step = max(_BLOCK_BYTES // max(layout.width, 1), 1)
    with opened(chunk.path) as file:
        file.seek(layout.start + chunk.start * layout.width)
        for low, high in spans(max(min(chunk.stop, layout.rows) - chunk.start, 0), step):
            content = file.read((high - low) * layout.width)
            yield _table(layout, content, len(content) // max(layout.width, 1))


def _table(layout: _Layout, content: bytes, rows: int):
    """Some rows as a table in memory."""
    header = layout.header.copy()
    header["NAXIS2"], header["PCOUNT"] = rows, 0
    padding = (b" " if layout.kind is fits.TableHDU else b"\0") * (-len(content) % _FITS_BLOCK)
    return layout.kind.fromstring(header.tostring().encode("latin-1") + content + padding)


def _column(table, layout: _Layout, name: str):
    """A column (n,), or an element of a vector column; a name that is there as it stands is that column."""
    names = table.columns.names
    vector, element = (name, None) if name in names else split_element(name)
    if vector not in names:
        raise KeyError(f"no column {vector}")
    values, mask = values_of(table, vector)
    values = pick(values, vector, element)
    return values if mask is None else with_nulls(values, pick(mask, vector, element))


def _refuse_repeated(path: str, layout: _Layout, name: str):
    for source in map(base_name, sources_of(name, layout.columns)):
        if source in layout.repeated:
            raise PopcatError(f"{path} has more than one column of the name {source}: expected each name once; "
                              "rename or remove the others")


def _joined(parts: list):
    if len(parts) == 1:
        return parts[0]
    return pd.concat([pd.Series(part) for part in parts], ignore_index=True) if parts else np.empty(0)

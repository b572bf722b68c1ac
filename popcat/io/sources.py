"""Catalogue files as raw frames: a plan of chunks, and one chunk's rows and columns.

A plan is made once, from file footers alone; a chunk is small, so it can be sent to any worker that sees the same
files. Names and values are the file's own: `popcat.io.photometry` gives them popcat's names and units.
"""

import csv
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path

import pandas as pd
import pyarrow as pa

from popcat.errors import PopcatError
from popcat.expressions import column, sources_of
from popcat.io.chunks import Chunk, Field
from popcat.io.formats import PLUGINS, READABLE, kind_of, plugin_suffixes, suffix_of
from popcat.io.named import Named, Source, files_of, label_of, left_out, partition_values
from popcat.paths import stamp_of

_BROKEN = (OSError, EOFError, ValueError, TypeError, LookupError, zlib.error, csv.Error, pa.ArrowException)


def plan_chunks(source: Source, *, rows_per_partition: int = 2500, columns: Sequence[str] = ()) -> list[Chunk]:
    """Chunks of at most `rows_per_partition` rows that cover a catalogue, in the order of its rows.

    A catalogue is a Parquet, CSV, ECSV, FITS, VOTable or text file, a HATS catalogue, or a folder of Parquet, FITS or
    CSV files, in which names that start with "_" or "." are ignored; a glob or a list names several, which follow each
    other (those of a glob by name). A chunk never spans two files. "cat.fits[2]" or "cat.fits[NAME]" names an HDU of a
    FITS file; without it the table is the first that has the `columns`, names or expressions.

    Raises PopcatError if there is nothing to read, the format is unknown, a file is unreadable, or the folder is an
    output of popcat that is not finished.
    """
    if rows_per_partition < 1:
        raise PopcatError(f"rows_per_partition must be at least 1, got {rows_per_partition}")
    files = files_of(source)
    often, times = Counter(files).most_common(1)[0]
    if times > 1:
        raise PopcatError(f"{often.path} is named {times} times: its galaxies would be there as often; name it once")
    chunks = [chunk for file in files for chunk in _stamped(file, rows_per_partition, columns)]
    if not chunks:
        raise PopcatError(f"{label_of(source)} has no rows: expected a table with one row a galaxy")
    return [replace(chunk, index=index) for index, chunk in enumerate(chunks)]


def _stamped(file: Named, rows: int, columns: Sequence[str]) -> list[Chunk]:
    """The chunks of a file, which is as it was before it was looked at."""
    with _readable(file.path):
        stamp = stamp_of(file.path)
    return [replace(chunk, stamp=stamp) for chunk in _plan(file, rows, columns)]


def _plan(file: Named, rows: int, columns: Sequence[str]) -> list[Chunk]:
    path = str(file.path)
    with _readable(path):
        if file.path.stat().st_size == 0:
            raise PopcatError(f"cannot read {path}: it has no rows, not even one byte; copy it again, or remove it")
        if kind_of(path) == "fits":
            return _reader(path).plan(path, rows, file.table, columns)
        if file.table is not None:
            raise PopcatError(f"{path}[{file.table}]: only a FITS file has tables by number or name; leave it out")
        return _reader(path).plan(path, rows)


def parts_of_chunks(chunks: Sequence[Chunk], rows: int) -> list[tuple[Chunk, ...]]:
    """The same rows in the same order, in parts of at most `rows` rows: small files join into one part."""
    parts: list[list[Chunk]] = []
    size = rows
    for chunk in chunks:
        n = chunk.stop - chunk.start
        if size + n > rows:
            parts.append([])
            size = 0
        parts[-1].append(chunk)
        size += n
    return [tuple(part) for part in parts]


def remarks_on(source: Source, chunks: Sequence[Chunk]) -> list[str]:
    """What whoever uses a catalogue must know and its rows do not say, a line each: a query or a file that was cut off,
    files that are left out."""
    lines = left_out(source)
    for path in dict.fromkeys(chunk.path for chunk in chunks if chunk.format in ("votable", "csv")):
        lines += _reader(path).remarks(path)
    return lines


def read_chunk(chunk: Chunk, columns: Sequence[str], marks: Sequence[float] = ()) -> pd.DataFrame:
    """The rows of a chunk, only these columns, with a plain RangeIndex.

    A column may be an element of a vector column, "NMGY[2]", or an expression over the file's columns, unless the file
    has a column of that very name. Numbers in `marks` are missing values in what an expression reads.

    Raises PopcatError if the file is unreadable, lacks a column, or has changed since it was planned.
    """
    with _readable(chunk.path):
        needs_fields = partition_values(chunk.path) or not all(name.isidentifier() for name in columns)
        known = read_fields(chunk) if needs_fields else ()
        frame = computed(lambda sources: _read(chunk, sources), columns, known, marks)
        if chunk.stamp != stamp_of(chunk.path):
            raise PopcatError(f"{chunk.path} changed after the run was planned: give the same command again, which "
                              "says whether what it holds has changed")
    if len(frame) != chunk.stop - chunk.start:
        raise PopcatError(f"{chunk.path}: expected rows {chunk.start} to {chunk.stop}, got {len(frame)} of them; "
                          "it is damaged, or it changed after the run was planned")
    return frame


def computed(
    read: Callable[[list[str]], pd.DataFrame], columns: Sequence[str], known: Iterable[str], marks: Sequence[float] = ()
) -> pd.DataFrame:
    """Columns, each once, of what `read` gives of plain columns and elements; `known` are those that there are."""
    names = list(dict.fromkeys(columns))
    sources = list(dict.fromkeys(source for name in names for source in sources_of(name, known)))
    frame = read(sources)
    return frame if sources == names else pd.DataFrame({name: column(frame, name, marks) for name in names})


def _read(chunk: Chunk, sources: list[str]) -> pd.DataFrame:
    """Columns of the file, and those that the names of its folders say."""
    of_folders = {name: value for name, value in partition_values(chunk.path).items() if name in sources}
    if not of_folders:
        return _reader(chunk.path).read(chunk, sources)
    own = _reader(chunk.path).fields(chunk.path, *_table_of(chunk))
    stored = [name for name in sources if name in own or name not in of_folders]
    frame = _reader(chunk.path).read(chunk, stored) if stored else pd.DataFrame(index=range(chunk.stop - chunk.start))
    return frame.assign(**{name: value for name, value in of_folders.items() if name not in stored})[sources]


def read_fields(of: str | Path | Chunk) -> dict[str, Field]:
    """Kind and unit of each column of one file, or of the table that a chunk is of; PopcatError if it is unreadable."""
    path, table = (of.path, of.table) if isinstance(of, Chunk) else (str(of), 0)
    with _readable(path):
        return _fields(path, table, *stamp_of(path))


def repeated_names(of: Chunk) -> list[str]:
    """Names that more than one column of the table of a chunk has."""
    with _readable(of.path):
        names = _reader(of.path).names(of.path, *_table_of(of))
    return [name for name, times in Counter(names).items() if times > 1]


@lru_cache(maxsize=16)
def _fields(path: str, table: int, size: int, mtime_ns: int) -> dict[str, Field]:
    of_folders = {name: Field({int: "integer", float: "float"}.get(type(value), "text"))
                  for name, value in partition_values(path).items()}  # fmt: skip
    return of_folders | _reader(path).fields(path, *((table,) if table else ()))


def _table_of(chunk: Chunk) -> tuple[int, ...]:
    return (chunk.table,) if chunk.table else ()


def whole_files(chunks: Sequence[Chunk]) -> list[Chunk]:
    """The same rows with one chunk a file, which is cheaper for few columns; CSV chunks stay as they are."""
    merged: dict[tuple, Chunk] = {}
    for chunk in chunks:
        key = (chunk.path, chunk.table, chunk.byte_range)
        first = merged.get(key, chunk)
        groups = tuple(sorted({*first.row_groups, *chunk.row_groups}))
        merged[key] = replace(first, stop=chunk.stop, row_groups=groups)
    return list(merged.values())


@contextmanager
def _readable(path) -> Iterator[None]:
    """Whatever a library says about a damaged file, as a PopcatError that names the file."""
    try:
        yield
    except PopcatError:
        raise
    except _BROKEN as error:
        raise PopcatError(f"cannot read {path}: {error or type(error).__name__}") from error
    except Exception as error:
        if (suffix := suffix_of(path)) not in plugin_suffixes():
            raise
        raise PLUGINS.broken(suffix[1:], f"cannot read {path}: {type(error).__name__}: {error}") from error


def _reader(path):
    """The module that reads a file; imported late, because astropy.io.fits is slow to import."""
    kind = kind_of(path)
    return import_module(f"popcat.io.{kind}_files") if kind in READABLE else _plugin(kind)


def _plugin(kind: str):
    found = PLUGINS.load(kind)
    if missing := [name for name in ("plan", "read", "fields", "names") if not callable(getattr(found, name, None))]:
        raise PLUGINS.broken(kind, f"has no {' and no '.join(missing)}: expected a module with plan, read, fields and "
                                   "names")  # fmt: skip
    return found

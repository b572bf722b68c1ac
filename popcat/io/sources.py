"""Catalogue files as raw frames: a plan of chunks, and one chunk's rows and columns.

A plan is made once, from file footers alone; a chunk is small, so it can be sent to any worker that sees the same
files. Names and values are the file's own: `popcat.io.photometry` gives them popcat's names and units.
"""

import glob
import re
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

from popcat.catalog.manifest import is_output, read_manifest
from popcat.errors import PopcatError
from popcat.expressions import column, sources_of
from popcat.io.chunks import Chunk, Field

PARQUET_SUFFIXES = (".parquet", ".pq")
SUFFIXES = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".ecsv": "csv",
    ".fits": "fits", ".fit": "fits", ".fits.gz": "fits", ".fit.gz": "fits",
    ".vot": "votable", ".votable": "votable", ".xml": "votable",
}
_HATS = ("hats.properties", "properties")
_BROKEN = (OSError, EOFError, ValueError, TypeError, LookupError, zlib.error, pa.ArrowException)


Source = str | Path | Sequence[str | Path]
"""A file, a folder, a glob such as "night*.fits", or a list of these."""


def plan_chunks(source: Source, *, rows_per_partition: int = 2500) -> list[Chunk]:
    """Chunks of at most `rows_per_partition` rows that cover a catalogue, in the order of its rows.

    A catalogue is a Parquet, CSV, ECSV, FITS or VOTable file (the first table in it), a HATS catalogue, or a folder of
    Parquet files, in which names that start with "_" or "." are ignored; a glob or a list names several, which follow
    each other (those of a glob by name). A chunk never spans two files.

    Raises PopcatError if there is nothing to read, the format is unknown, a file is unreadable, or the folder is an
    output of popcat that is not finished.
    """
    if rows_per_partition < 1:
        raise PopcatError(f"rows_per_partition must be at least 1, got {rows_per_partition}")
    chunks, files = [], [file for path in _paths(source) for file in _files(path)]
    often, times = Counter(files).most_common(1)[0]
    if times > 1:
        raise PopcatError(f"{often} is named {times} times: its galaxies would be there as often; name it once")
    for file in files:
        with _readable(file):
            chunks += _reader(file).plan(str(file), rows_per_partition)
    if not chunks:
        raise PopcatError(f"{label_of(source)} has no rows: expected a table with one row a galaxy")
    return [replace(chunk, index=index) for index, chunk in enumerate(chunks)]


def label_of(source: Source) -> str:
    """A source's name in a message.

    >>> label_of("a.csv"), label_of(["a.csv", "b.csv", "c.csv"])
    ('a.csv', 'a.csv and 2 more')
    """
    if isinstance(source, str | Path):
        return str(source)
    first, *others = map(str, source)
    return f"{first} and {len(others)} more" if others else first


def _paths(source: Source) -> list[Path]:
    """The paths that a source names, absolute; PopcatError for a glob or a list of nothing."""
    if isinstance(source, str | Path):
        if Path(source).exists() or not glob.has_magic(str(source)):
            return [Path(source).absolute()]
        found = sorted(glob.glob(str(source), recursive=True))
    else:
        found = [path for one in source for path in _paths(one)]
    if not found:
        raise PopcatError(f"no catalogue matches {source}: expected the names of files, or a glob of some")
    return [Path(path).absolute() for path in found]


def read_chunk(chunk: Chunk, columns: Sequence[str], marks: Sequence[float] = ()) -> pd.DataFrame:
    """The rows of a chunk, only these columns, with a plain RangeIndex.

    A column may be an element of a vector column, "NMGY[2]", or an expression over the file's columns, unless the file
    has a column of that very name. Numbers in `marks` are missing values in what an expression reads.

    Raises PopcatError if the file is unreadable, lacks a column, or has changed since it was planned.
    """
    with _readable(chunk.path):
        known = () if all(name.isidentifier() for name in columns) else read_fields(chunk.path)
        frame = computed(lambda sources: _reader(chunk.path).read(chunk, sources), columns, known, marks)
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


def read_fields(path: str | Path) -> dict[str, Field]:
    """Kind and unit of each column of one file; PopcatError if it is unreadable."""
    with _readable(path):
        status = Path(path).stat()
        return _fields(str(path), status.st_size, status.st_mtime_ns)


def repeated_names(path: str | Path) -> list[str]:
    """Names that more than one column of a file has."""
    with _readable(path):
        names = _reader(path).names(str(path))
    return [name for name, times in Counter(names).items() if times > 1]


@lru_cache(maxsize=16)
def _fields(path: str, size: int, mtime_ns: int) -> dict[str, Field]:
    return _reader(path).fields(path)


def whole_files(chunks: Sequence[Chunk]) -> list[Chunk]:
    """The same rows with one chunk a file, which is cheaper for few columns; CSV chunks stay as they are."""
    merged: dict[tuple, Chunk] = {}
    for chunk in chunks:
        key = (chunk.path, chunk.byte_range)
        first = merged.get(key, chunk)
        groups = tuple(sorted({*first.row_groups, *chunk.row_groups}))
        merged[key] = replace(first, stop=chunk.stop, row_groups=groups)
    return list(merged.values())


@contextmanager
def _readable(path) -> Iterator[None]:
    """Whatever a library says about a damaged file, as a PopcatError that names the file."""
    try:
        yield
    except _BROKEN as error:
        raise PopcatError(f"cannot read {path}: {error or type(error).__name__}") from error


def _reader(path):
    """The module that reads a file; imported late, because astropy.io.fits is slow to import."""
    name = Path(path).name.lower()
    for suffix, kind in SUFFIXES.items():
        if name.endswith(suffix):
            return import_module(f"popcat.io.{kind}_files")
    raise PopcatError(f"{path}: unknown format; expected a name that ends in {', '.join(SUFFIXES)}")


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise PopcatError(f"no catalogue {path}: expected a file, a folder of Parquet files, or a HATS catalogue")
    if path.is_file():
        return [path]
    if is_output(path):
        read_manifest(path)  # an unfinished output would lose galaxies silently
    if any((path / name).is_file() for name in _HATS) and (path / "dataset").is_dir():
        return _hats_files(path / "dataset")
    files = sorted(file for file in path.rglob("*") if file.is_file() and _is_data(file.relative_to(path)))
    if not files:
        raise PopcatError(f"{path} holds no Parquet file: expected *.parquet in it")
    return files


def _hats_files(dataset: Path) -> list[Path]:
    """The pixels of a HATS catalogue, by order and number: beside them lie thumbnails and metadata."""
    files = [file for file in dataset.glob("Norder=*/Dir=*/Npix=*/*") if _is_data(file.relative_to(dataset))]
    files += dataset.glob("Norder=*/Dir=*/Npix=*.parquet")
    if not files:
        raise PopcatError(f"{dataset.parent} says that it is a HATS catalogue, but holds no "
                          "dataset/Norder=*/Dir=*/Npix=*.parquet; copy it again")
    return sorted(files, key=lambda file: [int(number) for number in re.findall(r"=(\d+)", str(file))] + [str(file)])


def _is_data(relative: Path) -> bool:
    hidden = any(part.startswith(("_", ".")) for part in relative.parts)
    return relative.suffix.lower() in PARQUET_SUFFIXES and not hidden

"""CSV and ECSV catalogues as chunks: byte ranges, so that rows far down a file cost no more to read than the first.

Lines before the header that start with "#" are no data. In an ECSV file (Astropy's form, APE 6) they hold units and the
delimiter.
"""

import csv
import io
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from popcat.io.chunks import Chunk, Field, numpy_kind

_SCHEMA_ROWS = 2500
_ECSV = "# %ECSV"


class _Dialect(NamedTuple):
    """How a file is written: bytes before the header, what stands between values, and units by column."""

    skip: int
    delimiter: str
    units: dict[str, str]


def plan(path: str, rows: int) -> list[Chunk]:
    """Chunks of at most `rows` rows, each with its bytes."""
    with open(path, "rb") as file:
        ends = list(_record_ends(file, _dialect(path).skip))
    edges = [*ends[:-1:rows], ends[-1]] if len(ends) > 1 else []
    chunks = []
    for start, begin, end in zip(range(0, len(ends), rows), edges[:-1], edges[1:], strict=False):
        stop = min(start + rows, len(ends) - 1)
        chunks.append(Chunk(path, "csv", start, stop, byte_range=(begin, end)))
    return chunks


def read(chunk: Chunk, columns: list[str]) -> pd.DataFrame:
    """Rows of a chunk."""
    return _parse(chunk, usecols=columns)[columns]


def fields(path: str) -> dict[str, Field]:
    """Kind of each column in the first rows, and its unit in an ECSV file: else a CSV file has no schema."""
    dialect = _dialect(path)
    with open(path, "rb") as file:
        ends = list(islice(_record_ends(file, dialect.skip), _SCHEMA_ROWS + 1))
    frame = _parse(Chunk(path, "csv", 0, len(ends) - 1, byte_range=(ends[0], ends[-1])))
    return {str(name): Field(numpy_kind(frame[name].dtype), dialect.units.get(str(name))) for name in frame}


def names(path: str) -> list[str]:
    """Names of all columns, also those that are there twice."""
    dialect = _dialect(path)
    with open(path, "rb") as file:
        header_end = next(_record_ends(file, dialect.skip))
        file.seek(dialect.skip)
        header = file.read(header_end - dialect.skip).decode("utf-8-sig")
    rows = csv.reader([header.strip()], delimiter=dialect.delimiter, skipinitialspace=True)
    return [name for name in next(rows) if name]


def _dialect(path: str) -> _Dialect:
    status = Path(path).stat()
    return _read_dialect(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=16)
def _read_dialect(path: str, size: int, mtime_ns: int) -> _Dialect:
    lines: list[str] = []
    skip = 0
    with open(path, "rb") as file:
        for line in file:
            is_ecsv = lines and lines[0].startswith(_ECSV)
            if not line.startswith(b"#") or (b"," in line and not is_ecsv):  # a header may begin with "#" too
                break
            lines.append(line.decode("utf-8").rstrip())
            skip += len(line)
    if not lines or not lines[0].startswith(_ECSV):
        return _Dialect(skip, ",", {})
    from astropy.table.meta import get_header_from_yaml

    header = get_header_from_yaml([line[2:] for line in lines[1:]])
    units = {item["name"]: str(item["unit"]) for item in header["datatype"] if item.get("unit")}
    return _Dialect(skip, header.get("delimiter", " "), units)


def _record_ends(file, skip: int) -> Iterator[int]:
    """The byte after the header and after each row that is not blank; a quoted field may span lines."""
    end, quotes, blank = skip, 0, True
    file.seek(skip)
    for line in file:
        end += len(line)
        quotes += line.count(b'"')
        blank = blank and not line.strip()
        if quotes % 2 == 0 and not blank:
            yield end
            blank = True
    if not blank:
        yield end


def _parse(chunk: Chunk, **options) -> pd.DataFrame:
    begin, end = chunk.byte_range or (0, 0)  # a chunk of a CSV file has one
    dialect = _dialect(chunk.path)
    with open(chunk.path, "rb") as file:
        header_end = next(_record_ends(file, dialect.skip))
        file.seek(dialect.skip)
        header = file.read(header_end - dialect.skip)
        file.seek(begin)
        text = header + file.read(end - begin)
    # index_col: else a comma at the end of every row makes pandas shift all columns by one, silently.
    options |= {"index_col": False, "skipinitialspace": True, "sep": dialect.delimiter}
    return pd.read_csv(io.BytesIO(text), **options)

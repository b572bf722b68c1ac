"""CSV and ECSV catalogues as chunks: byte ranges, so that rows far down a file cost no more to read than the first.

Tables separated by semicolons, tabulators or spaces are read too (popcat.io.dialects). Lines before the header that
start with "#" are no data. In an ECSV file (Astropy's form, APE 6) they hold units and the delimiter.
"""

import csv
import io
import re
import warnings
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path

import pandas as pd

from popcat.errors import PopcatError
from popcat.io.chunks import Chunk, Field, is_text, numpy_kind
from popcat.io.dialects import WHITESPACE, Dialect, dialect_of, text_of
from popcat.io.streams import is_compressed

_SCHEMA_ROWS = 2500


def plan(path: str, rows: int) -> list[Chunk]:
    """Chunks of at most `rows` rows, each with its bytes; PopcatError where a quote never ends."""
    dialect = dialect_of(path)
    with text_of(path) as file:
        ends = list(_record_ends(file, dialect, path, is_checked=True))
    edges = [*ends[:-1:rows], ends[-1]] if len(ends) > 1 else []
    chunks = []
    for start, begin, end in zip(range(0, len(ends), rows), edges[:-1], edges[1:], strict=False):
        stop = min(start + rows, len(ends) - 1)
        chunks.append(Chunk(path, "csv", start, stop, byte_range=(begin, end)))
    return chunks


def read(chunk: Chunk, columns: list[str]) -> pd.DataFrame:
    """Rows of a chunk; integers with blanks keep all their digits, as a nullable type."""
    status = Path(chunk.path).stat()
    texts = _text_columns(chunk.path, status.st_size, status.st_mtime_ns)
    return _parse(chunk, usecols=list(columns), dtype={name: str for name in columns if name in texts})[list(columns)]


def fields(path: str) -> dict[str, Field]:
    """Kind of each column in the first rows, and its unit in an ECSV file: else a CSV file has no schema."""
    dialect = dialect_of(path)
    with text_of(path) as file:
        ends = list(islice(_record_ends(file, dialect, path), _SCHEMA_ROWS + 1))
    frame = _parse(Chunk(path, "csv", 0, len(ends) - 1, byte_range=(ends[0], ends[-1])))
    return {str(name): Field(numpy_kind(frame[name].dtype), dialect.units.get(str(name))) for name in frame}


def names(path: str) -> list[str]:
    """Names of all columns, also those that are there twice."""
    dialect = dialect_of(path)
    if dialect.names:
        return list(dialect.names)
    with text_of(path) as file:
        header_end = next(_record_ends(file, dialect, path))
        file.seek(dialect.skip)
        header = file.read(header_end - dialect.skip).decode("utf-8", "replace").strip()
    if dialect.delimiter == WHITESPACE:
        return header.split()
    return [name for name in next(csv.reader([header], delimiter=dialect.delimiter, skipinitialspace=True)) if name]


def remarks(path: str) -> list[str]:
    """A line if the last row has no end: a number in it may be cut off, and nothing else would show it."""
    if is_compressed(path):  # whose own end is looked for
        return []
    with open(path, "rb") as file:
        file.seek(-2, 2)
        end = file.read()
    if b"\n" in end or b"\r" in end:
        return []
    return [f"{path} ends within a line: if it was cut off, the last row is wrong and rows are missing; compare its "
            "size with the original's"]  # fmt: skip


@lru_cache(maxsize=16)
def _text_columns(path: str, size: int, mtime_ns: int) -> frozenset[str]:
    """Columns that are text in the first rows: so they are in every chunk, also one of numbers alone (0012)."""
    return frozenset(name for name, field in fields(path).items() if is_text(field.kind))


def _record_ends(file, dialect: Dialect, path: str, *, is_checked: bool = False) -> Iterator[int]:
    """The byte after the header and after each row that is not blank; a quoted field may span lines.

    With `is_checked`, PopcatError for a row of more values than there are columns: all after one of them are shifted.
    """
    end, blank, is_open, began = dialect.skip, True, False, 0
    file.seek(dialect.skip)
    if dialect.names:
        yield end
    delimiter = dialect.delimiter.encode()
    most = None if dialect.names or len(delimiter) > 1 or delimiter == b" " else 0
    for line_number, line in enumerate(file, start=1):
        end += len(line)
        if is_open or b'"' in line:
            was_open, is_open = is_open, _ends_quoted(line, delimiter, is_open)
            began = began if was_open else line_number
            most = most or None  # a header with quotes is not counted
        elif is_checked and most is not None:
            if line.count(delimiter) > most > 0 and (n := _values_in(line, delimiter)) > most + 1:
                raise PopcatError(f"{path}: line {line_number} after the comments has {n} values, expected {most + 1}, "
                                  "one a column: put a text with a separator in it between quotes")
            most = most or line.count(delimiter)
        blank = blank and not line.strip()
        if not is_open and not blank:
            yield end
            blank = True
    if is_open:
        raise PopcatError(f'{path}: a quote (") opens in line {began} after the comments and is never closed: '
                          "remove it, or write it twice")
    if not blank:
        yield end


def _values_in(line: bytes, delimiter: bytes) -> int:
    """Number of values in a line without quotes; blanks at its end do not count."""
    return line.rstrip(delimiter + b" \r\n").count(delimiter) + 1


def _ends_quoted(line: bytes, delimiter: bytes, is_open: bool) -> bool:
    """Whether a quoted field is open after a line. Only a quote with which a field begins opens it: 3.5" does not.

    >>> _ends_quoted(b'1,3.5" x,2', b",", False), _ends_quoted(b'1,"a', b",", False), _ends_quoted(b'b",2', b",", True)
    (False, True, False)
    """
    position = 0
    while True:
        if is_open:
            closing = re.compile(rb'(?:[^"]|"")*"(?!")').match(line, position)
            if closing is None:
                return True
            is_open, position = False, closing.end()
        following = _opening(delimiter).search(line, position)
        if following is None:
            return False
        is_open, position = True, following.end()


@lru_cache(maxsize=8)
def _opening(delimiter: bytes) -> re.Pattern:
    """A quote at the beginning of a field."""
    between = rb"\s" if delimiter == WHITESPACE.encode() else re.escape(delimiter)
    return re.compile(rb"(?:^|" + between + rb')[ ]*"')


def _parse(chunk: Chunk, **options) -> pd.DataFrame:
    begin, end = chunk.byte_range or (0, 0)  # a chunk of a CSV file has one
    dialect = dialect_of(chunk.path)
    with text_of(chunk.path) as file:
        header_end = next(_record_ends(file, dialect, chunk.path))
        file.seek(dialect.skip)
        header = file.read(header_end - dialect.skip)
        file.seek(begin)
        text = header + file.read(end - begin)
    # index_col: else a comma at the end of every row makes pandas shift all columns by one, silently.
    options |= {"index_col": False, "skipinitialspace": True, "sep": dialect.delimiter, "decimal": dialect.decimal}
    options |= {"names": list(dialect.names), "header": None} if dialect.names else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of values that would be left out
            return _with_integers(text, _decoded(text, **options), options)
    except pd.errors.ParserWarning as error:
        raise PopcatError(f"cannot read {chunk.path}, rows {chunk.start + 1} to {chunk.stop}: they have more values "
                          "than the header has names; put a text with a separator in it between quotes") from error
    except pd.errors.ParserError as error:
        said = str(error).strip().removeprefix("Error tokenizing data. C error: ")
        raise PopcatError(f"cannot read {chunk.path}, rows {chunk.start + 1} to {chunk.stop}: {said} "
                          "(counted from the first of these rows, the header is line 1)") from error


def _decoded(text: bytes, **options) -> pd.DataFrame:
    """UTF-8, or what is not, Latin-1: of the columns that are read, and the header, that no one else writes."""
    try:
        return pd.read_csv(io.BytesIO(text), **options)
    except UnicodeDecodeError:
        return pd.read_csv(io.BytesIO(text), encoding="latin-1", **options)


def _with_integers(text: bytes, frame: pd.DataFrame, options: dict) -> pd.DataFrame:
    """Columns of integers with blanks, which pandas reads as floats, as nullable integers."""
    suspects = [name for name in frame if frame[name].dtype == float and frame[name].hasnans]
    suspects = [name for name in suspects if (known := frame[name].dropna()).size and (known % 1 == 0).all()]
    if not suspects:
        return frame
    exact = _decoded(text, **options | {"usecols": suspects, "dtype_backend": "numpy_nullable"})
    whole = {name: exact[name] for name in suspects if exact[name].dtype == "Int64"}
    return frame.assign(**whole) if whole else frame

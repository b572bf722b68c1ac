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
from typing import NamedTuple

import pandas as pd

from popcat.errors import PopcatError
from popcat.io.chunks import Chunk, Field, is_text, numpy_kind
from popcat.io.dialects import WHITESPACE, Dialect, dialect_of, text_of
from popcat.io.row_lengths import RowLengths
from popcat.io.streams import is_compressed
from popcat.io.text_values import described, is_mixed, odd_value, split_marks
from popcat.paths import open_bytes, stamp_of

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
    """Rows of a chunk; integers with blanks keep all their digits, as a nullable type.

    Raises PopcatError that names the row of a text in a column of numbers.
    """
    schema = _schema(chunk.path, *stamp_of(chunk.path))
    texts = {name for name in columns if name in schema.fields and is_text(schema.fields[name].kind)}
    frame = _parse(chunk, usecols=list(columns), dtype=dict.fromkeys(texts, str))[list(columns)]
    mixed = [name for name in columns if name not in texts and is_mixed(frame[name])]
    return frame.assign(**{name: _as_numbers(frame[name], chunk, schema) for name in mixed}) if mixed else frame


def fields(path: str) -> dict[str, Field]:
    """Kind of each column in the first rows, and its unit in an ECSV file: else a CSV file has no schema."""
    return dict(_schema(path, *stamp_of(path)).fields)


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
    with open_bytes(path) as file:
        file.seek(-2, 2)
        end = file.read()
    if b"\n" in end or b"\r" in end:
        return []
    return [f"{path} ends within a line: if it was cut off, the last row is wrong and rows are missing; compare its "
            "size with the original's"]  # fmt: skip


class _Schema(NamedTuple):
    """What the first rows say: columns that are text there are in every chunk, also one of numbers alone (0012).

    blank : columns without a value, which say nothing of later rows.
    """

    fields: dict[str, Field]
    blank: frozenset[str]


@lru_cache(maxsize=16)
def _schema(path: str, size: int, mtime_ns: int) -> _Schema:
    dialect = dialect_of(path)
    with text_of(path) as file:
        ends = list(islice(_record_ends(file, dialect, path), _SCHEMA_ROWS + 1))
    frame = _parse(Chunk(path, "csv", 0, len(ends) - 1, byte_range=(ends[0], ends[-1])))
    found, blank = {}, set()
    for name in map(str, frame):
        values, odd = frame[name], None
        if is_mixed(values):
            texts, is_odd = split_marks(values, dialect.decimal)
            if not is_odd.any():
                values = _parsed_again(texts, dialect)
            elif (at := odd_value(texts, is_odd)) is not None:
                odd = (at + 1, str(texts.iloc[at]))
        if not values.notna().any():
            blank.add(name)
        found[name] = Field(numpy_kind(values.dtype), dialect.units.get(name), odd=odd)
    return _Schema(found, frozenset(blank))


def _as_numbers(values: pd.Series, chunk: Chunk, schema: _Schema) -> pd.Series:
    """A column that is numbers in the first rows, of a chunk where marks or texts are among them."""
    name, dialect = str(values.name), dialect_of(chunk.path)
    kind = schema.fields[name].kind
    if name in schema.blank or kind not in ("integer", "float"):
        return values
    texts, is_odd = split_marks(values, dialect.decimal)
    if is_odd.any():
        at = int(is_odd.to_numpy().argmax())
        raise PopcatError(f"{chunk.path}: {described(str(texts.iloc[at]), chunk.start + at + 1, name)}")
    return _parsed_again(texts, dialect)


def _parsed_again(texts: pd.Series, dialect: Dialect) -> pd.Series:
    """Texts that are numbers or missing, by the parser of all other columns."""
    name = str(texts.name)
    content = "\n".join(["x", *texts.fillna("nan")]).encode()
    options = {"decimal": dialect.decimal, "sep": ";"}
    return _with_integers(content, pd.read_csv(io.BytesIO(content), **options), options)["x"].rename(name)


def _record_ends(file, dialect: Dialect, path: str, *, is_checked: bool = False) -> Iterator[int]:
    """The byte after the header and after each row that is not blank; a quoted field may span lines.

    With `is_checked`, PopcatError for a row of more or fewer values than there are columns: what is in them is shifted
    or missing.
    """
    end, blank, is_open, began = dialect.skip, True, False, 0
    file.seek(dialect.skip)
    if dialect.names:
        yield end
    delimiter = dialect.delimiter.encode()
    counted = RowLengths(path, dialect) if is_checked else None
    for line_number, line in enumerate(file, start=1):
        end += len(line)
        was_open = is_open
        if is_open or b'"' in line:
            is_open = _ends_quoted(line, delimiter, is_open)
            began = began if was_open else line_number
        blank = blank and not line.strip()
        if counted is not None and not blank:
            counted.add(line, line_number, is_part=was_open or is_open)
        if not is_open and not blank:
            yield end
            blank = True
    if is_open:
        raise PopcatError(f'{path}: a quote (") opens in line {began} after the comments and is never closed: '
                          "remove it, or write it twice")
    if not blank:
        yield end


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
    options |= {"index_col": False, "skipinitialspace": True, "sep": dialect.delimiter, "decimal": dialect.decimal,
                "low_memory": False}  # fmt: skip  # else a column is text in some stretches of a chunk alone
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

"""How a text table is written: what stands between values, where the header is, units, the decimal mark, the encoding.

The first lines say it. Names of columns stand in the first line that is no comment; in the last comment where that
line holds numbers (TOPCAT's ASCII); or in one comment each (SExtractor's "#   2 MAG_AUTO   ... [mag]").
"""

import codecs
import io
import re
from functools import lru_cache
from typing import NamedTuple

from popcat.io.streams import opened
from popcat.paths import stamp_of

WHITESPACE = r"\s+"
_HEAD_BYTES = 1_000_000
_ROWS_SEEN = 50
_ECSV = "# %ECSV"
_SEXTRACTOR = re.compile(r"#\s*(\d+)\s+(\S+)(?:.*\[([^\]]+)\]\s*$)?")
_COMMA_DECIMAL = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?$")
_POINT_DECIMAL = re.compile(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?$")


class Dialect(NamedTuple):
    """How a file is written.

    skip : bytes before the header, or before the rows where `names` says the columns. delimiter : between values.
    units : by column. decimal : the mark in numbers. names : of the columns, where no line of the rows' form has them.
    """

    skip: int
    delimiter: str = ","
    units: dict[str, str] = {}  # noqa: RUF012  # never changed
    decimal: str = "."
    names: tuple[str, ...] | None = None


def dialect_of(path: str) -> Dialect:
    """How a file is written, from its first lines."""
    return _read_dialect(path, *stamp_of(path))


def holds_rows(path: str) -> bool:
    """Whether a text is a table by its first lines: a number in lines of as many values, two at least.

    A VOTable says it in words.
    """
    dialect = dialect_of(path)
    with text_of(path) as file:
        file.seek(0)
        start = file.read(_HEAD_BYTES)
    if start.lstrip().startswith((b"<?xml", b"<VOTABLE")):
        return b"<VOTABLE" in start
    rows = [line.strip() for line in start[dialect.skip :].decode("utf-8", "replace").splitlines() if line.strip()]
    cells = [_cells(row, dialect.delimiter) for row in rows[:_ROWS_SEEN]]
    same = [row for row in cells if len(row) == len(cells[0]) > 1]
    return len(same) > 0.8 * len(cells) and any(_is_number(cell) for row in same for cell in row)


def text_of(path: str):
    """A context manager of the file's bytes, at the beginning, with lines that end in a line feed.

    UTF-16 and the line ends of old Macintosh programs say nothing to a search for lines: such files are read whole.
    """
    whole = _transcoded(path, *stamp_of(path))
    return opened(path) if whole is None else io.BytesIO(whole)


@lru_cache(maxsize=2)
def _transcoded(path: str, size: int, mtime_ns: int) -> bytes | None:
    """The file as UTF-8 with line feeds, if its bytes are something else."""
    with opened(path) as file:
        file.seek(0)
        start = file.read(_HEAD_BYTES)
        is_utf16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        is_utf32 = start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE))
        if is_utf32 or (b"\0" in start and not is_utf16):
            raise ValueError("it holds bytes of value 0, as no text in UTF-8 or Latin-1 does: is it UTF-32, UTF-16 "
                             "without a byte-order mark, or no text at all? Save it as UTF-8")
        if not is_utf16 and (b"\n" in start or b"\r" not in start):
            return None
        content = start + file.read()
    content = content.decode("utf-16").encode() if is_utf16 else content
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


@lru_cache(maxsize=16)
def _read_dialect(path: str, size: int, mtime_ns: int) -> Dialect:
    with text_of(path) as file:
        file.seek(0)
        content = file.read(_HEAD_BYTES)
    mark = len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0
    lines = [line.decode("utf-8", "replace") for line in content[mark:].splitlines(keepends=True)]
    comments, rest = _split_comments(lines)
    skip = mark + len(b"".join(content[mark:].splitlines(keepends=True)[: len(comments)]))
    if comments and comments[0].startswith(_ECSV):
        return _ecsv(skip, comments)
    if found := _sextractor(comments):
        names, units = found
        return Dialect(skip, WHITESPACE, units, names=names)
    rows = [line.strip() for line in rest if line.strip()][:50]
    delimiter = _delimiter(rows[0]) if rows else ","
    names = _names_in_comment(comments, rows, delimiter)
    return Dialect(skip, delimiter, decimal=_decimal(rows[0 if names else 1 :], delimiter), names=names)


def _split_comments(lines: list[str]) -> tuple[list[str], list[str]]:
    """Lines that begin with "#", and the others. A header may begin with "#" too: then it has commas."""
    is_ecsv = bool(lines) and lines[0].startswith(_ECSV)
    for number, line in enumerate(lines):
        if not line.startswith("#") or ("," in line and not is_ecsv and not _SEXTRACTOR.match(line)):
            return lines[:number], lines[number:]
    return lines, []


def _ecsv(skip: int, comments: list[str]) -> Dialect:
    from astropy.table.meta import YamlParseError, get_header_from_yaml

    try:
        header = get_header_from_yaml([line[2:].rstrip() for line in comments[1:]])
        units = {item["name"]: str(item["unit"]) for item in header["datatype"] if item.get("unit")}
        return Dialect(skip, header.get("delimiter", " "), units)
    except (YamlParseError, AttributeError, LookupError, TypeError, RecursionError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"its header says that it is ECSV, and is none ({first}); it is damaged or cut off") from error


def _sextractor(comments: list[str]) -> tuple[tuple[str, ...], dict[str, str]] | None:
    """Names and units of a header with one numbered comment a column; a vector has one for all its columns."""
    found = [match for line in comments if (match := _SEXTRACTOR.match(line.strip()))]
    if not found or int(found[0][1]) != 1:
        return None
    names: list[str] = []
    for match in found:
        while len(names) < int(match[1]) - 1:
            first, _, number = names[-1].rpartition("_")
            names.append(f"{first}_{int(number) + 1}" if first in names else f"{names[-1]}_1")
        names.append(match[2])
    return tuple(names), {match[2]: match[3] for match in found if match[3]}


def _delimiter(header: str) -> str:
    """What stands between the names of a header; a comma where there is one name alone.

    >>> _delimiter("id;ra;dec"), _delimiter("id ra dec"), _delimiter("id, ra, dec")
    (';', '\\\\s+', ',')
    """
    bare = re.sub(r'"[^"]*"', "", header)
    often = max((",", ";", "\t", "|"), key=bare.count)
    if bare.count(often):
        return often
    return WHITESPACE if len(bare.split()) > 1 else ","


def _names_in_comment(comments: list[str], rows: list[str], delimiter: str) -> tuple[str, ...] | None:
    """Names in the last comment, where the first row holds numbers and as many values."""
    if not comments or not rows or not any(map(_is_number, _cells(rows[0], delimiter))):
        return None
    words = _cells(comments[-1].lstrip("#").strip(), delimiter)
    return tuple(words) if len(words) == len(_cells(rows[0], delimiter)) and not any(map(_is_number, words)) else None


def _decimal(rows: list[str], delimiter: str) -> str:
    if delimiter == ",":
        return "."
    cells = [cell for row in rows for cell in _cells(row, delimiter)]
    has_comma, has_point = (any(map(form.match, cells)) for form in (_COMMA_DECIMAL, _POINT_DECIMAL))
    return "," if has_comma and not has_point else "."


def _cells(row: str, delimiter: str) -> list[str]:
    return row.split() if delimiter == WHITESPACE else [cell.strip() for cell in row.split(delimiter)]


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True

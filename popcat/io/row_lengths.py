"""Whether every row of a text table has a value for each column: a line that is no row shows itself by its length."""

import re
from functools import lru_cache

from popcat.errors import PopcatError
from popcat.io.dialects import WHITESPACE, Dialect

_SHOWN = 40


class RowLengths:
    """The number of values in the lines of a file, each given once; the first is the header, unless names are known.

    Rows that are all equally short are no fault: some programs leave out what is blank at the end.
    """

    def __init__(self, path: str, dialect: Dialect):
        self.path, self.delimiter = path, dialect.delimiter.encode()
        self.expected = len(dialect.names) if dialect.names else 0
        self._short: tuple[int, int, bytes] | None = None
        self._has_others = False

    def add(self, line: bytes, number: int, *, is_part: bool) -> None:
        """Count a line that is not blank; PopcatError for a row of more values than columns, or of fewer than others.

        A line that is a part of a row, because a quoted value spans several, is not counted.
        """
        if is_part:
            self._has_others = True
            return
        most, least = self._counts(line)
        if not self.expected:
            self.expected = least
            return
        if least > self.expected and self._is_separated:
            raise PopcatError(f"{self.path}: line {number} after the comments has {least} values, expected "
                              f"{self.expected}, one a column: put a text with a separator in it between quotes")
        if most >= self.expected:
            self._has_others = True
        elif self._short is None:
            self._short = (number, most, line)
        elif self._short[1] != most:
            self._has_others = True
        if self._short is not None and self._has_others:
            first, values, text = self._short
            raise PopcatError(f'{self.path}: line {first} after the comments has {_values(values)}, expected '
                              f'{self.expected}, one a column: "{_shown(text)}"; remove it if it is no row, otherwise '
                              "write the missing values as blanks")

    @property
    def _is_separated(self) -> bool:
        return self.delimiter not in (WHITESPACE.encode(), b" ")

    def _counts(self, line: bytes) -> tuple[int, int]:
        """Values in a line, with and without the blanks at its end."""
        bare = _quoted(self.delimiter).sub(rb"\1x", line) if b'"' in line else line
        if not self._is_separated:
            return (len(bare.split()),) * 2
        return bare.count(self.delimiter) + 1, bare.rstrip(self.delimiter + b" \r\n").count(self.delimiter) + 1


@lru_cache(maxsize=8)
def _quoted(delimiter: bytes) -> re.Pattern:
    """A value between quotes, from the separator before it."""
    between = rb"\s" if delimiter == WHITESPACE.encode() else re.escape(delimiter)
    return re.compile(rb"(^[ ]*|" + between + rb'[ ]*)"(?:[^"]|"")*"')


def _values(number: int) -> str:
    return f"{number} value{'s' if number != 1 else ''}"


def _shown(line: bytes) -> str:
    text = " ".join(line.decode("utf-8", "replace").split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN - 3]}..."

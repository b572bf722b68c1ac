"""A file that is read in ranges of bytes, each of which a function gives."""

import io
from collections.abc import Callable
from typing import Any


class RangeFile(io.RawIOBase):
    """A raw file of so many bytes, of which read(start, stop) gives some: each read is one call.

    >>> file = RangeFile(lambda start, stop: b"galaxies"[start:stop], 8)
    >>> file.seek(-3, io.SEEK_END), file.read(9)
    (5, b'ies')
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int):
        super().__init__()
        self._read, self._size, self._at = read, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence], 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        stop = min(self._at + len(buffer), self._size)
        if stop <= self._at:
            return 0
        found = self._read(self._at, stop)
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)

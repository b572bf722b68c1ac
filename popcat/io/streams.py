"""Files as streams of bytes, compressed (gzip, bzip2) or not: the first bytes of a file say it, not its name."""

import bz2
import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from popcat.paths import AnyPath, first_bytes, is_url, open_bytes, openable, stamp_of

_MAGIC = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open}
_LOCK = threading.RLock()
_kept: dict[tuple, IO[bytes]] = {}


def is_compressed(path: str | AnyPath) -> bool:
    """Whether a file is compressed as a whole."""
    return _opener(path) is not None


@contextmanager
def opened(path: str | AnyPath) -> Iterator[IO[bytes]]:
    """A file's content, uncompressed, at its beginning.

    The chunks of a compressed file are read one after the other, each from where the last one ended: so the last
    stream stays open, and none is read from its beginning again for every chunk.
    """
    if (opener := _opener(path)) is None:
        with open_bytes(path) as file:
            yield file
        return
    key = (str(path), *stamp_of(path))
    with _LOCK:
        if key not in _kept:
            while _kept:
                _kept.popitem()[1].close()
            _kept[key] = opener(openable(path))
        try:
            yield _kept[key]
        except BaseException:
            if key in _kept:
                _kept.pop(key).close()
            raise


def head(path: str | AnyPath, size: int) -> bytes:
    """The first bytes of a file, uncompressed."""
    with opened(path) as file:
        file.seek(0)
        return file.read(size)


def content_of(path: str | AnyPath):
    """What astropy opens for a path, which knows compressed files on the disk: of an object its content."""
    if not is_url(path):
        return path
    opener = _opener(path)
    return openable(path) if opener is None else opener(openable(path))


def _opener(path: str | AnyPath):
    start = first_bytes(path, 3)
    return next((opener for magic, opener in _MAGIC.items() if start.startswith(magic)), None)

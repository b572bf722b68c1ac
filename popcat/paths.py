"""Where a path leads: to the disk, or to a store of objects, whose paths are URLs (popcat.stores)."""

import hashlib
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import IO, Any, TypeAlias

from popcat.errors import PopcatError
from popcat.ranges import RangeFile
from popcat.stores import StorePath, store_path

AnyPath: TypeAlias = Path | StorePath
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
"""One slash is enough: `pathlib.Path` makes one of two. A single letter is a drive."""


def is_url(path: object) -> bool:
    """Whether a path is the URL of something.

    >>> is_url("s3://bucket/posteriors"), is_url(Path("s3://bucket/posteriors")), is_url("posteriors")
    (True, True, False)
    """
    return isinstance(path, StorePath) or (isinstance(path, str | Path) and _URL.match(str(path)) is not None)


def path_of(given: str | AnyPath) -> AnyPath:
    """A path on the disk as `pathlib.Path`, a URL as `StorePath`; PopcatError for a URL that popcat cannot read.

    >>> path_of("posteriors").is_absolute(), str(path_of("s3://bucket/posteriors") / "a")
    (False, 's3://bucket/posteriors/a')
    """
    if isinstance(given, StorePath):
        return given
    return store_path(_text(given)) if is_url(given) else Path(given)


def output_path(given: str | AnyPath) -> AnyPath:
    """The path of what is to be written, for a start; PopcatError for a store that cannot be reached, before anything
    is computed."""
    path = path_of(given).expanduser()
    if isinstance(path, StorePath):
        path.require_reachable()
    return path


def local(path: str | AnyPath) -> Path:
    """A path on the disk; PopcatError for a URL, of which `pathlib.Path` would make a folder here.

    >>> local("posteriors").name
    'posteriors'
    >>> local("s3://bucket/posteriors")
    Traceback (most recent call last):
    ...
    popcat.errors.PopcatError: s3://bucket/posteriors: expected a path on a disk of this machine, got a URL: ...
    """
    if is_url(path):
        raise PopcatError(f"{_text(path)}: expected a path on a disk of this machine, got a URL: name a local path "
                          "here, and copy what is there, or mount it")
    return Path(str(path))


def below(path: AnyPath, folder: AnyPath) -> PurePath:
    """A path as it is named from a folder that it is in."""
    return path.relative_to(folder)  # type: ignore[arg-type]  # both are of one kind


def open_bytes(path: str | AnyPath) -> IO[bytes]:
    """A file, or an object of a store, open for reading."""
    return path_of(path).open("rb")


def openable(path: str | AnyPath) -> Any:
    """What `open` and its like take for a path: of an object of a store, a file that is open."""
    return open_bytes(path) if is_url(path) else path


def first_bytes(path: str | AnyPath, size: int) -> bytes:
    """The first bytes of a file."""
    if isinstance(where := path_of(path), StorePath):
        return where.read_range(0, size) if where.stat().st_size else b""
    with open(where, "rb") as file:
        return file.read(size)


def stamp_of(path: str | AnyPath) -> tuple[int, int]:
    """Size of a file in bytes, and a number that changes with it: its time of change in ns, of an object its ETag's.

    Raises OSError if it cannot be looked at.
    """
    found: Any = path_of(path).stat()
    if hasattr(found, "st_mtime_ns"):
        return found.st_size, found.st_mtime_ns
    return found.st_size, int.from_bytes(hashlib.sha256(found.e_tag.encode()).digest()[:7], "big")


def arrow_options(path: str | AnyPath) -> dict[str, Any]:
    """What Arrow opens for a path, as `source`, and how: ranges of an object are read together."""
    if isinstance(where := path_of(path), StorePath):
        size, version = where.stat()
        return {"source": RangeFile(partial(where.read_range, version=version), size), "pre_buffer": True}
    return {"source": path}


def arrow_source(path: str | AnyPath) -> Any:
    """What Arrow reads the footer of a path from."""
    return arrow_options(path)["source"]


def sizes_of(folder: AnyPath, names: Sequence[str]) -> list[int | None]:
    """Sizes of files of a folder, in bytes, None where there is none: of a store one listing says it."""
    if isinstance(folder, StorePath):
        found = {item.name: item.listed.st_size for item in folder.iterdir() if item.listed}
        return [found.get(name) for name in names]
    sizes: list[int | None] = []
    for name in names:
        try:
            sizes.append((folder / name).stat().st_size)
        except OSError:
            sizes.append(None)
    return sizes


def _text(path: object) -> str:
    return re.sub(r":/+", "://", str(path), count=1)

"""Where a path leads: to the disk, or to a store of objects, which has a URL."""

import re
from pathlib import Path

from popcat.errors import PopcatError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
"""One slash is enough: `pathlib.Path` makes one of two. A single letter is a drive."""


def is_url(path: object) -> bool:
    """Whether a path is the URL of something.

    >>> is_url("s3://bucket/posteriors"), is_url(Path("s3://bucket/posteriors")), is_url("posteriors")
    (True, True, False)
    """
    return isinstance(path, str | Path) and _URL.match(str(path)) is not None


def local(path: str | Path) -> Path:
    """A path on the disk; PopcatError for a URL, of which `pathlib.Path` would make a folder here.

    >>> local("posteriors").name
    'posteriors'
    >>> local("s3://bucket/posteriors")
    Traceback (most recent call last):
    ...
    popcat.errors.PopcatError: s3://bucket/posteriors: expected a path on a disk of this machine, got a URL: ...
    """
    if is_url(path):
        text = re.sub(r":/+", "://", str(path), count=1)
        raise PopcatError(f"{text}: expected a path on a disk of this machine, got a URL: name a local path here, and "
                          "copy what is there, or mount it")
    return Path(path)

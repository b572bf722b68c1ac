"""Objects in a store (S3) as paths: what popcat asks of a file, in as few requests as it takes.

A store has no folders, no renaming and no times to rely on. It has whole objects: a PUT is there wholly or not at all,
may ask that nothing is there yet, or that what is there still is what was seen, by its ETag; a GET may ask for a range
of bytes. A folder is what names begin with.

Credentials and the server's address come from the environment alone (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL and so on).
"""

import fnmatch
import glob
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from errno import EACCES, ENOENT
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from popcat.errors import OutputError, PopcatError
from popcat.ranges import RangeFile

SCHEMES = ("s3",)
"""What the extra `stores` reads and writes."""
_VARIABLES = ("AWS_",)
_ONE_PUT = 256 * 2**20
"""Up to here an object is one request; a larger one goes up in pieces, and is there when the last one is."""
_BUFFER, _STREAMED = 2**20, 8 * 2**20
_NONE = "no credentials"
_DENIED = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "ExpiredToken", "NoSuchBucket", _NONE)
"""What another try would not change."""
_HURRY: Any = {"max_retries": 6, "retry_timeout": timedelta(seconds=15)}
"""Until a bucket has answered once: a server that is not there is said soon, one that is busy later is waited for."""
_answered: set[tuple] = set()


class StoreError(PopcatError, OSError):
    """A store does not do what it is asked: an error of a disk to those who expect one, and a line to the user."""


class RefusedError(StoreError, OutputError):
    """Another try would not fare better, here or on another worker: a run stops."""

    errno = EACCES
    remedy = "what is written is kept: give every worker credentials (docs/howto/object_stores.md), and run it again"


class ChangedError(StoreError):
    """The object is not the one that was seen."""


class Found(NamedTuple):
    """Size of an object in bytes, and its version: the ETag."""

    st_size: int
    e_tag: str


@dataclass(frozen=True)
class StorePath:
    """The URL of an object, or of a folder of some, with those methods of `pathlib.Path` that popcat uses.

    Deliberately no `os.PathLike`: what would take it for a file of this machine fails.

    >>> path = StorePath("s3://bucket", "run/part-000000.parquet")
    >>> str(path.parent / "_popcat"), path.name
    ('s3://bucket/run/_popcat', 'part-000000.parquet')
    """

    root: str
    key: str
    listed: Found | None = field(default=None, compare=False, repr=False)
    """What a listing said of it."""

    def __str__(self) -> str:
        return f"{self.root}/{self.key}" if self.key else self.root

    def __truediv__(self, name: "str | PurePosixPath") -> "StorePath":
        return StorePath(self.root, str(PurePosixPath(self.key) / name) if self.key else str(name))

    def __lt__(self, other: "StorePath") -> bool:
        return str(self) < str(other)

    @property
    def name(self) -> str:
        return PurePosixPath(self.key).name

    @property
    def stem(self) -> str:
        return PurePosixPath(self.key).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.key).suffix

    @property
    def parent(self) -> "StorePath":
        up = str(PurePosixPath(self.key).parent)
        return StorePath(self.root, "" if up == "." else up)

    def with_suffix(self, suffix: str) -> "StorePath":
        return StorePath(self.root, str(PurePosixPath(self.key).with_suffix(suffix)))

    def relative_to(self, other: Any) -> PurePosixPath:
        return PurePosixPath(self.key).relative_to(other.key)

    def absolute(self) -> "StorePath":
        return self

    resolve = expanduser = absolute

    def is_symlink(self) -> bool:
        return False

    def mkdir(self, **options: object) -> None:
        """Nothing: a folder is there as soon as something is in it."""

    # What is there

    def stat(self) -> Found:
        """Size and version as they are now; FileNotFoundError if there is no object, OSError if the store refuses."""
        with self._said():
            meta = _obstore().head(self._store(), self.key)
        return Found(meta["size"], meta["e_tag"] or "")

    def is_file(self) -> bool:
        if self.listed is not None:
            return True
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        if self.listed is not None:
            return False
        with self._said():
            found = _obstore().list(self._store(), self.key or None, chunk_size=1)
            return next(iter(found), None) is not None

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def rglob(self, pattern: str) -> "list[StorePath]":
        """All objects below whose name fits the pattern."""
        with self._said():
            metas = [meta for chunk in _obstore().list(self._store(), self.key or None) for meta in chunk]
        below = [StorePath(self.root, meta["path"], Found(meta["size"], meta["e_tag"] or "")) for meta in metas]
        return [one for one in below if fnmatch.fnmatchcase(one.name, pattern)]

    def glob(self, pattern: str) -> "list[StorePath]":
        """Objects below whose path fits the pattern, in which "**" stands for any number of folders."""
        wanted = _matcher(pattern)
        return [one for one in self.rglob("*") if wanted(str(one.relative_to(self)))]

    def matches(self) -> "list[StorePath]":
        """Objects that this path names as a glob, from the bucket on."""
        folders = self.key.split("/")
        at = next((i for i, part in enumerate(folders) if glob.has_magic(part)), len(folders) - 1)
        return StorePath(self.root, "/".join(folders[:at])).glob("/".join(folders[at:]))

    def iterdir(self) -> "list[StorePath]":
        """Objects and folders directly below."""
        with self._said():
            found = _obstore().list_with_delimiter(self._store(), self.key or None)
        objects = [StorePath(self.root, meta["path"], Found(meta["size"], meta["e_tag"] or ""))
                   for meta in found["objects"]]  # fmt: skip
        return objects + [StorePath(self.root, key) for key in found["common_prefixes"]]

    # Reading

    def read_bytes(self, most: int | None = None) -> bytes:
        """The whole object in one request; ValueError if it is larger than `most`."""
        with self._said():
            found = _obstore().get(self._store(), self.key)
            if most is not None and found.meta["size"] > most:
                raise ValueError(f"expected a file of at most {most / 1e6:,.0f} MB, got "
                                 f"{found.meta['size'] / 1e6:,.0f} MB")
            return bytes(found.bytes())

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def read_versioned(self) -> tuple[bytes, str]:
        """The whole object, and its version."""
        with self._said():
            found = _obstore().get(self._store(), self.key)
            return bytes(found.bytes()), found.meta["e_tag"] or ""

    def read_range(self, start: int, stop: int, version: str | None = None) -> bytes:
        """Some bytes; ChangedError if the object is of another version by now."""
        options: dict[str, Any] = {"range": (start, stop)} | ({"if_match": version} if version else {})
        with self._said():
            return bytes(_obstore().get(self._store(), self.key, options=options).bytes())

    def read_end(self, size: int) -> tuple[bytes, int]:
        """The last bytes, at most so many, in one request, and the size of the whole object."""
        with self._said():
            found = _obstore().get(self._store(), self.key, options={"range": {"suffix": size}})
            return bytes(found.bytes()), found.meta["size"]

    def chunks(self) -> Iterator[bytes]:
        """The content, piece after piece of one request."""
        with self._said():
            for chunk in _obstore().get(self._store(), self.key).stream(min_chunk_size=_STREAMED):
                yield bytes(chunk)

    def open(self, mode: str = "rb") -> IO[bytes]:
        """The object as a file that is read in ranges of a megabyte or more."""
        if mode != "rb":
            raise ValueError(f"an object of a store is opened with mode rb, not {mode}")
        size, version = self.stat()
        return io.BufferedReader(RangeFile(partial(self.read_range, version=version), size), _BUFFER)

    # Writing

    def put(self, content: bytes | Path, *, over: str | None = None, create: bool = False) -> str:
        """Write the whole object and return its version.

        `create`: only where there is none, else FileExistsError. `over`: only over this version, else ChangedError.
        """
        if over is None:
            return self._put(content, "create" if create else "overwrite")
        try:
            return self._put(content, {"e_tag": over})
        except ChangedError:
            if self.stat().e_tag != over:
                raise
            return self._put(content, {"e_tag": over.strip('"')})  # as Ceph's gateway wants it

    def _put(self, content: bytes | Path, mode: Any) -> str:
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        with self._said():
            done = _obstore().put(self._store(), self.key, content, mode=mode, use_multipart=size > _ONE_PUT)
        return done["e_tag"] or ""

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object; a store does not say whether there was one."""
        with self._said():
            _obstore().delete(self._store(), self.key)

    def require_reachable(self) -> None:
        """PopcatError if the bucket cannot be listed: no such bucket, no credentials, no such server."""
        try:
            with self._said():
                _obstore().list_with_delimiter(self._store(), self.key or None)
        except OSError as error:
            raise PopcatError(f"cannot reach {error}; expected a bucket that is there, and "
                              "credentials in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY; "
                              "AWS_ENDPOINT_URL for another server than Amazon's)") from error

    def _store(self) -> Any:
        asked = (self.root, _environment())
        return _store(*asked, hurry=asked not in _answered)

    @contextmanager
    def _said(self) -> Iterator[None]:
        """What a store says, as the OSError that a disk would raise."""
        from obstore import exceptions as said

        try:
            yield
            _answered.add((self.root, _environment()))
        except FileNotFoundError as error:
            text = f"{self}: {_short(error)}"
            raise (RefusedError(text) if "NoSuchBucket" in text else FileNotFoundError(ENOENT, text)) from None
        except said.AlreadyExistsError as error:
            raise FileExistsError(_short(error)) from None
        except said.PreconditionError as error:
            raise ChangedError(f"{self} is not the one it was ({_short(error)})") from None
        except said.BaseError as error:
            text, refuses = _short(error), isinstance(error, said.PermissionDeniedError | said.UnauthenticatedError)
            is_final = refuses or any(word in text for word in _DENIED)
            raise (RefusedError if is_final else StoreError)(f"{self}: {text}") from None


def store_path(url: str) -> StorePath:
    """The path of a URL; PopcatError for a scheme that popcat does not know, or without the extra that it needs.

    >>> store_path("s3://bucket//a/./b/").key
    'a/b'
    >>> store_path("gs://bucket/a")
    Traceback (most recent call last):
    ...
    popcat.errors.PopcatError: gs://bucket/a: popcat knows no URLs of gs://; expected s3://BUCKET/NAME or a local path
    """
    scheme, _, rest = url.partition(":")
    bucket, _, key = rest.lstrip("/").partition("/")
    if scheme.lower() not in SCHEMES or not bucket:
        what = f"no URLs of {scheme}://" if bucket else "no URL without a bucket"
        raise PopcatError(f"{url}: popcat knows {what}; expected s3://BUCKET/NAME or a local path")
    _obstore(url)
    parts = [part for part in key.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise PopcatError(f"{url}: expected a URL without ..")
    return StorePath(f"{scheme.lower()}://{bucket}", "/".join(parts))


def _obstore(url: str = "") -> Any:
    try:
        import obstore
    except ImportError as error:
        raise PopcatError(f"{url}: URLs need obstore: pip install 'popcat[stores]'") from error
    return obstore


def _environment() -> tuple[tuple[str, str], ...]:
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith(_VARIABLES)))


@lru_cache(maxsize=16)
def _store(root: str, environment: tuple[tuple[str, str], ...], *, hurry: bool) -> Any:
    from obstore.store import from_url

    server = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
    options: Any = {"connect_timeout": timedelta(seconds=5 if hurry else 20), "timeout": timedelta(minutes=5),
                    "allow_http": server.startswith("http://")}  # as whoever set the variable asked
    return from_url(root, client_options=options, retry_config=_HURRY if hurry else None)


def _short(error: BaseException) -> str:
    """What a store says, as one line: the code and the message of the server where it gave them."""
    text = str(error)
    if "/latest/api/token" in text:  # of the machine's own role, which is asked for where nothing else is named
        return f"{_NONE}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (public: AWS_SKIP_SIGNATURE=true)"
    code, message = (re.search(f"<{name}>(.*?)</{name}>", text, re.DOTALL) for name in ("Code", "Message"))
    if code:
        return " ".join(f"{code[1]}: {message[1] if message else ''}".split()).rstrip(": ")
    return " ".join(text.partition("\n\nDebug source")[0].partition("<")[0].split())[:300]


def _matcher(pattern: str) -> Any:
    """Whether a relative path fits a pattern, folder by folder.

    >>> [bool(_matcher("a/**/*.csv")(path)) for path in ("a/x.csv", "a/b/c/x.csv", "b/x.csv", "a/x.txt")]
    [True, True, False, False]
    """
    parts = ["(?:[^/]+/)*" if part == "**" else _translated(part) + "/" for part in pattern.split("/")]
    return re.compile("".join(parts).removesuffix("/")).fullmatch


def _translated(part: str) -> str:
    """A glob of one name as a regular expression."""
    inner = fnmatch.translate(part).removeprefix("(?s:").removesuffix(r")\Z")
    return inner.replace(".*", "[^/]*")

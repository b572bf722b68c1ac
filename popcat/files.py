"""Files that appear whole or not at all, also when a writer is killed or the machine stops.

A file is written under a temporary name that starts with "." (readers of Parquet folders ignore it), synced to disk,
and renamed; then the folder is synced, so that the new name survives too.

A folder appears likewise. Arrays that are kept in the cache folder; files that other installed packages hold.
"""

import errno
import hashlib
import importlib.util
import io
import json
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from popcat.caches import cache_folder
from popcat.errors import DiskFullError, OutputError, PopcatError
from popcat.paths import AnyPath, local, path_of
from popcat.stores import ChangedError, RefusedError, StoreError, StorePath

ROW_GROUP_ROWS = 2500
"""Small enough to find one galaxy in a fraction of a second, large enough to compress."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FOOTER_END = 8
_LIKELY_FOOTER = 2**17
"""What is read of the end of an object at once: the footers of most parts are shorter."""
MAX_RECORD_BYTES = 500_000_000
"""The manifest of a million parts is not larger."""
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


def is_full_disk(error: OSError) -> bool:
    """Whether an error says that the disk is full, or a quota used up.

    >>> is_full_disk(OSError(errno.ENOSPC, "No space left on device")), is_full_disk(FileNotFoundError(2, "no file"))
    (True, False)
    """
    return error.errno in _FULL


def write_json_atomic(path: str | AnyPath, obj, tag: str = "") -> None:
    """Write an object as indented JSON; numpy scalars and paths become plain values.

    Raises PopcatError if the disk refuses.
    """
    with replacing(path_of(path), tag) as temporary:
        temporary.write_bytes(_json(obj))


def read_small(path: str | AnyPath, most: int = MAX_RECORD_BYTES) -> bytes:
    """The bytes of a file that holds a record; ValueError if it is larger than any, OSError if it cannot be read."""
    if isinstance(path := path_of(path), StorePath):
        return path.read_bytes(most)
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > most:
        raise ValueError(f"expected a file of at most {most / 1e6:,.0f} MB, got {status.st_size / 1e6:,.0f} MB")
    return path.read_bytes()


def read_json(path: str | AnyPath) -> Any:
    """The object in a JSON file; ValueError if it holds none, however deep it is nested, OSError if unreadable."""
    try:
        return json.loads(read_small(path))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def create_json(path: str | AnyPath, obj) -> bool:
    """Write an object as JSON where there is no file yet; whether it did: of several that try at once, one does.

    The file is whole as soon as it is there. Raises PopcatError if the disk refuses.
    """
    if isinstance(path := path_of(path), StorePath):
        return _put_if(path, _json(obj), create=True) is not None
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.tmp")
    try:
        with _refused(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(_json(obj))
            _sync(temporary, os.O_RDWR)
            created = _linked(temporary, path)
            _sync(path.parent, os.O_RDONLY)
            return created
    finally:
        with suppress(OSError):
            temporary.unlink()


def swap_json(path: StorePath, obj, seen: str | None) -> str | None:
    """Write an object as JSON over the version that was seen, or where nothing was; its version, None if another writer
    was first. Raises PopcatError if the store refuses."""
    return _put_if(path, _json(obj), **({"create": True} if seen is None else {"over": seen}))


def _put_if(path: StorePath, content: bytes, **condition) -> str | None:
    with _refused(path):
        try:
            return path.put(content, **condition)
        except (FileExistsError, ChangedError):
            with suppress(FileNotFoundError):  # the answer to our own request may have been lost, and it tried again
                there, version = path.read_versioned()
                return version if there == content else None
            return None


def version_of(path: StorePath) -> str | None:
    """The version of an object; None if there is none."""
    with suppress(FileNotFoundError):
        return path.stat().e_tag
    return None


def _linked(temporary: Path, path: Path) -> bool:
    """Give a file a second name, if that is free."""
    try:
        os.link(temporary, path)
        return True
    except FileExistsError:
        return temporary.stat().st_nlink == 2  # NFS may have made the link, and lost its answer
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    try:
        with open(path, "xb") as file:
            file.write(temporary.read_bytes())
        return True
    except FileExistsError:
        return False


def write_bytes_atomic(path: str | AnyPath, content: bytes) -> None:
    """Write bytes; PopcatError if the disk refuses."""
    with replacing(path_of(path)) as temporary:
        temporary.write_bytes(content)


def write_parquet_atomic(path: str | AnyPath, table: pa.Table, tag: str = "", *,
                         group_rows: int = ROW_GROUP_ROWS) -> dict:  # fmt: skip
    """Write a table in popcat's layout; its rows, bytes, sha256 and footer_sha256.

    Zstandard, row groups of 2,500, floats (lists of them too) with BYTE_STREAM_SPLIT, counts (integers without a sign)
    with DELTA_BINARY_PACKED, strings with dictionaries, page checksums. Metadata that pandas left on the table is
    dropped, because plain `pandas.read_parquet` fails on the Arrow list types it names; the metadata of the fields
    (unit, description) is kept.

    Raises PopcatError if the disk refuses.
    """
    with replacing(path_of(path), tag) as temporary:
        _write(temporary, table, group_rows)
        return {"rows": table.num_rows, "bytes": temporary.stat().st_size, "sha256": sha256_of(temporary),
                "footer_sha256": footer_sha256(temporary)}  # fmt: skip


@contextmanager
def folder_atomic(path: str | Path) -> Iterator[Path]:
    """A folder to fill, which becomes `path` if the block succeeds.

    If `path` is there by then, another process was first, and its folder is kept. Raises OSError if the disk refuses.
    """
    path = local(path)
    building = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        building.mkdir(parents=True)
        yield building
        building.rename(path)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def kept_array(key: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array that `make` gives, of finite numbers, from the cache folder if it is there; `key` says what is in it.

    For what takes a package seconds to import and to compute. A damaged file is made again, and a folder that cannot
    be written costs the seconds, not the run: band tables, which take minutes, say so.
    """
    path = cache_folder() / f"array-{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
    with suppress(OSError, ValueError, EOFError):
        array = np.load(path, allow_pickle=False)
        if np.isfinite(array).all():
            return array
    array, content = make(), io.BytesIO()
    np.save(content, array)
    with suppress(PopcatError, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(path, content.getvalue())
    return array


def sha256_of(path: str | AnyPath) -> str:
    """sha256 of a file's bytes, in hexadecimal; OSError if it cannot be read."""
    if isinstance(path := path_of(path), StorePath):
        digest = hashlib.sha256()
        for chunk in path.chunks():
            digest.update(chunk)
        return digest.hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_sha256(path: Path, expected: str, what: str, make: str) -> None:
    """PopcatError if a file of `what` is missing, or not the one that was saved; `make` says how to make it again."""
    if not path.is_file():
        raise PopcatError(f"{what} has no {path.name}: copy the whole folder again")
    if (got := sha256_of(path)) != expected:
        raise PopcatError(f"{what}: {path.name} is not the one it was saved with (SHA-256 {got[:12]}, expected "
                          f"{expected[:12]}): copy the folder again or {make}")


def footer_sha256(path: str | AnyPath) -> str:
    """sha256 of what a Parquet file says at its end of where its pages are; OSError or ValueError if there is none."""
    if isinstance(path := path_of(path), StorePath):
        end, size = path.read_end(_LIKELY_FOOTER)
        length = _footer_length(end[-_FOOTER_END:], size)
        whole = end[-length:] if length <= len(end) else path.read_end(length)[0]
        return hashlib.sha256(whole).hexdigest()
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - _FOOTER_END, 0))
        length = _footer_length(file.read(_FOOTER_END), size)
        file.seek(size - length)
        return hashlib.sha256(file.read(length)).hexdigest()


def _footer_length(tail: bytes, size: int) -> int:
    """Bytes of a footer, by the last ones of a file of some size."""
    length = int.from_bytes(tail[:4], "little") + _FOOTER_END
    if len(tail) < _FOOTER_END or length > size:
        raise ValueError("no footer of a Parquet file at its end")
    return length


def _write(path: Path, table: pa.Table, group_rows: int):
    metadata = {key: value for key, value in (table.schema.metadata or {}).items() if key != b"pandas"}
    pq.write_table(
        table.replace_schema_metadata(metadata or None), path,
        compression="zstd", compression_level=3, row_group_size=group_rows, write_page_checksum=True,
        use_dictionary=[field.name for field in table.schema if _is_text(field.type)],
        column_encoding=dict.fromkeys(_float_leaves(table.schema), "BYTE_STREAM_SPLIT") | dict.fromkeys(
            (field.name for field in table.schema if pa.types.is_unsigned_integer(field.type)), "DELTA_BINARY_PACKED"),
    )  # fmt: skip


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _float_leaves(schema: pa.Schema) -> list[str]:
    """Paths, in a Parquet file, of the columns and list elements that are floats."""
    leaves = [field.name for field in schema if pa.types.is_floating(field.type)]
    lists = [field for field in schema if pa.types.is_list(field.type)]
    return leaves + [f"{field.name}.list.element" for field in lists if pa.types.is_floating(field.type.value_type)]


@contextmanager
def replacing(path: AnyPath, tag: str = "") -> Iterator[Path]:
    """A temporary name beside `path`, which becomes `path` if the block succeeds; the folder is made. The name has the
    `tag` in it, by which whoever cleans up knows its own. For an object it is a file on this machine, which goes up
    whole."""
    if isinstance(path, StorePath):
        with tempfile.TemporaryDirectory(prefix="popcat-") as folder, _refused(path):
            yield Path(folder) / path.name
            path.put(Path(folder) / path.name)
        return
    temporary = path.with_name(f".{path.stem}.{tag}{uuid.uuid4().hex}.tmp")
    try:
        with _refused(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _sync(temporary, os.O_RDWR)
            os.replace(temporary, path)
            if os.name != "nt":  # Windows cannot open a folder
                _sync(path.parent, os.O_RDONLY)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def _refused(path: AnyPath) -> Iterator[None]:
    """What a disk says, in words."""
    try:
        yield
    except StoreError as error:
        raise (OutputError if isinstance(error, RefusedError) else PopcatError)(f"cannot write {error}") from error
    except OSError as error:
        if is_full_disk(error):
            raise DiskFullError(f"cannot write {path}: the disk is full or the quota used up ({error})") from error
        kind = OutputError if error.errno in _READ_ONLY else PopcatError
        raise kind(f"cannot write {path}: {error}") from error


def _sync(path: Path, mode: int):
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _json(obj) -> bytes:
    return (json.dumps(obj, indent=1, default=_plain) + "\n").encode()


def _plain(value):
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path | StorePath):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def embedded_arrays(name: str) -> dict[str, np.ndarray]:
    """The arrays of a .npz file among popcat's embedded data, in double precision.

    >>> embedded_arrays("dust_emission")["q_pah"].shape
    (7,)
    """
    with np.load(str(files("popcat") / "data" / f"{name}.npz"), allow_pickle=False) as file:
        return {key: np.asarray(file[key], dtype=float) for key in file.files}


def package_folder(package: str, missing: str) -> Path:
    """Folder of an installed package, which is not imported.

    Raises PopcatError with the text `missing` if it is not installed.

    >>> package_folder("numpy", "pip install numpy").name
    'numpy'
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise PopcatError(missing)
    return Path(spec.origin).parent

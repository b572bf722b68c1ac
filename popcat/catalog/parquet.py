"""Parquet files that popcat wrote: a bit that a disk or a copy has changed is an error, not another number.

    pages       each has a checksum (CRC-32), which every reader here looks at
    footer      where pages are, and their extremes; its SHA-256 is in the manifest: looked at when a catalogue opens
    all bytes   SHA-256 in the manifest: looked at where a whole file is read, by export, reweight and verify

Other files have what their writers gave them: pages without a checksum are taken as they are.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from popcat.arrow_stores import filesystem_of
from popcat.catalog.manifest import READERS, Written
from popcat.display import listed
from popcat.errors import PopcatError
from popcat.files import footer_sha256, sha256_of
from popcat.paths import AnyPath, arrow_options, arrow_source, path_of
from popcat.stores import StoreError

_BROKEN = (OSError, ValueError, LookupError, MemoryError, pa.ArrowException)
_MOST_NAMED = 5


def read_parquet(path: str | AnyPath, columns: list[str] | None = None, *, sha256: str | None = None) -> pa.Table:
    """The table of one file, its pages held to their checksums; with `sha256`, all its bytes to that.

    Raises PopcatError if the file is damaged, or cannot be read.
    """
    with readable(path):
        options = {}
        if sha256 is not None:
            content = path_of(path).read_bytes()
            if hashlib.sha256(content).hexdigest() != sha256:
                raise PopcatError(_changed(path))
            options = {"source": pa.BufferReader(content)}
        with pq.ParquetFile(**(options or arrow_options(path)), page_checksum_verification=True) as file:
            return file.read(columns=columns)


def parquet_format() -> ds.ParquetFileFormat:
    """The format of a dataset whose pages are held to their checksums."""
    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    return ds.ParquetFileFormat(default_fragment_scan_options=options)


def parquet_dataset(files: Sequence[str], path: str | AnyPath) -> ds.Dataset:
    """Files as one dataset; PopcatError that names `path` if the first is broken."""
    with readable(path):
        if (stores := filesystem_of(files)) is None:
            return ds.dataset(list(files), format=parquet_format())
        return ds.FileSystemDataset.from_paths(
            list(files), schema=pq.read_schema(arrow_source(files[0])), format=parquet_format(), filesystem=stores)


@contextmanager
def readable(path: str | AnyPath) -> Iterator[None]:
    """What Parquet's reader says of a damaged file, as a PopcatError that names it."""
    try:
        yield
    except StoreError:
        raise
    except _BROKEN as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PopcatError(f"cannot read {path}, it is damaged or gone ({what}): copy it again; `popcat verify` "
                          "checks the whole folder of a catalogue or a library") from error


def require_footers(folder: AnyPath, parts: Sequence[Written]) -> None:
    """PopcatError for parts whose footer is not the one that was written: by it readers find rows, and skip them."""
    _require(folder, [part for part in parts if part.footer_sha256], lambda part, path: part.footer_sha256 ==
             footer_sha256(path))  # fmt: skip


def require_written(folder: AnyPath, parts: Sequence[Written]) -> None:
    """PopcatError for parts that are not those that were written, by all their bytes."""
    _require(folder, parts, lambda part, path: part.sha256 == sha256_of(path))


def _require(folder: AnyPath, parts: Sequence[Written], is_same: Callable[[Written, AnyPath], bool]) -> None:
    def is_other(part: Written) -> bool:
        try:
            return not is_same(part, folder / part.file)
        except (OSError, ValueError):
            return True

    with ThreadPoolExecutor(READERS) as pool:
        bad = [part.file for part, other in zip(parts, pool.map(is_other, parts), strict=True) if other]
    if bad:
        raise PopcatError(_changed(listed([str(folder / file) for file in bad], _MOST_NAMED)))


def _changed(path: str | AnyPath) -> str:
    return f"{path}: not what was written (the SHA-256 differs); `popcat verify` says what is wrong and what repairs it"

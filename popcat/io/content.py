"""What the files of a catalogue hold, as hashes: one that changes between two runs, or during one, is another one.

    _popcat/sources.json    in the output: columns that were read; path, size, time of change and hash of each file

Hashed are the bytes of the columns that the survey names in a Parquet file, and all bytes of a file of another format,
at about the speed of a disk. A file of which path, size and time of change are those of a record is not hashed again. A
copy of a file, with another path and time, has the same hash. Of an object of a store the size and the ETag are taken
for its content.
"""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from popcat.catalog.manifest import META, READERS, Sha256, read_or_none
from popcat.catalog.record import Count
from popcat.display import listed
from popcat.errors import PopcatError
from popcat.expressions import base_name, sources_of
from popcat.files import sha256_of, write_json_atomic
from popcat.io.chunks import Chunk
from popcat.io.parquet_files import masks
from popcat.io.photometry import catalog_columns
from popcat.io.sources import read_fields
from popcat.paths import AnyPath, is_url, path_of, stamp_of
from popcat.survey import Survey

_MOST_NAMED = 5


class SourceFile(BaseModel):
    """A file of a catalogue, as it was when it was hashed."""

    model_config = ConfigDict(strict=True, frozen=True)

    path: str
    bytes: Count
    mtime_ns: int
    sha256: Sha256


class SourceFiles(BaseModel):
    """The files of a catalogue, in the order of its rows; `columns` are those that the survey reads."""

    model_config = ConfigDict(strict=True, frozen=True)

    columns: tuple[str, ...]
    files: tuple[SourceFile, ...]

    @property
    def digest(self) -> str:
        """A hash of what the files hold, wherever they are."""
        return hashlib.sha256("\n".join(file.sha256 for file in self.files).encode()).hexdigest()

    def changed(self, before: "SourceFiles") -> list[str]:
        """Paths of files that hold something else than before."""
        old = {file.path: file.sha256 for file in before.files}
        return [file.path for file in self.files if old.get(file.path, file.sha256) != file.sha256]


def source_files(chunks: Sequence[Chunk], survey: Survey, known: SourceFiles | None = None) -> SourceFiles:
    """The files behind a plan, hashed; those that `known` records as they are now are taken from there."""
    tables = {chunk.label: chunk for chunk in chunks}
    columns = _columns_read(chunks[0], survey)
    usable = known.files if known is not None and known.columns == columns else ()
    recorded = {(file.path, file.bytes, file.mtime_ns): file for file in usable}

    def looked(label: str) -> SourceFile:
        path, table = tables[label].path, tables[label].table
        size, changed = stamp_of(path)
        if (label, size, changed) in recorded:
            return recorded[label, size, changed]
        if is_url(path):  # an ETag is of all bytes, which need not come here for that
            sha256 = hashlib.sha256(f"{size} {changed}".encode()).hexdigest()
        else:
            sha256 = _sha256_of_columns(path, columns) if tables[label].format == "parquet" else sha256_of(path)
        if table > 1:  # another table of the same file is another catalogue
            sha256 = hashlib.sha256(f"{sha256}[{table}]".encode()).hexdigest()
        return SourceFile(path=label, bytes=size, mtime_ns=changed, sha256=sha256)

    with ThreadPoolExecutor(READERS) as pool:
        return SourceFiles(columns=columns, files=tuple(pool.map(looked, tables)))


def recorded_files(output: str | AnyPath | None) -> SourceFiles | None:
    """The files that an output folder was made of; None of a new folder, or one that does not say."""
    return None if output is None else read_or_none(_record_of(output), SourceFiles)


def record_files(output: str | AnyPath, files: SourceFiles) -> None:
    """Write down the files that an output folder is made of."""
    write_json_atomic(_record_of(output), files.model_dump(mode="json"))


def require_unchanged(output: str | AnyPath, now: SourceFiles, before: SourceFiles | None) -> None:
    """PopcatError that names the files which changed since an output folder was begun."""
    if before is None or now.columns != before.columns or not (changed := now.changed(before)):
        return
    raise PopcatError(f"{listed(changed, _MOST_NAMED)} changed after {output} was begun: its parts are of the "
                      "file as it was; name another folder, or remove this one, or put the old file back")


def require_unchanged_since(
    chunks: Sequence[Chunk], survey: Survey, before: SourceFiles, output: str | AnyPath
) -> None:
    """PopcatError that names the files which changed while a run was reading them."""
    if changed := source_files(chunks, survey, before).changed(before):
        raise PopcatError(f"{listed(changed, _MOST_NAMED)} changed while it was read: the parts in {output} may "
                          "mix both states; remove that folder and run again")


def _record_of(output: str | AnyPath) -> AnyPath:
    return path_of(output) / META / "sources.json"


def _columns_read(chunk: Chunk, survey: Survey) -> tuple[str, ...]:
    """Columns of a file that a survey reads, by name."""
    there = read_fields(chunk)
    sources = {source for name in catalog_columns(survey, there) for source in sources_of(name, there)}
    names = {source if source in there else base_name(source) for source in sources}
    return tuple(sorted(names | set(masks(chunk.path, names) if chunk.format == "parquet" else ())))


def _sha256_of_columns(path: str, columns: Iterable[str]) -> str:
    """sha256 of the pages of some columns of a Parquet file."""
    wanted, metadata = set(columns), pq.read_metadata(path)
    digest = hashlib.sha256(f"{metadata.num_rows}:{metadata.num_row_groups}".encode())
    with open(path, "rb") as file:
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            for column in map(group.column, range(group.num_columns)):
                if column.path_in_schema.split(".")[0] in wanted or column.path_in_schema in wanted:
                    file.seek(min(column.data_page_offset, column.dictionary_page_offset or column.data_page_offset))
                    digest.update(f"{column.path_in_schema}:{column.physical_type}".encode())
                    digest.update(file.read(column.total_compressed_size))
    return digest.hexdigest()

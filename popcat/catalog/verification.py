"""Whether an output folder is what its manifest says: every byte, row, identifier and column.

    checksums     sha256 of each part, against its sidecar and the manifest
    rows          of each file, against its sidecar; their sum, against the manifest and the input
    schema        of each part (names, types, units), against the first's
    identifiers   object_id without nulls, each once in the whole catalogue

Nothing in the folder is trusted, and no more than `ids_at_once` identifiers are in memory: a larger catalogue is gone
through several times, each time for the identifiers whose hash falls into one bucket.
"""

import shlex
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from popcat.catalog.manifest import (
    META,
    READERS,
    CatalogManifest,
    Manifest,
    Run,
    Sidecar,
    Written,
    fingerprint_hash,
    read_or_none,
    read_record,
    read_run,
)
from popcat.catalog.parquet import read_parquet
from popcat.catalog.parts import OutputFolder
from popcat.display import Displayed
from popcat.errors import PopcatError
from popcat.files import sha256_of
from popcat.paths import AnyPath, arrow_source, path_of

IDS_AT_ONCE = 2**25
"""A quarter of a gigabyte of identifiers."""
_MAX_NAMED = 5
_REMARKS = (b"calibration", b"learned")
_BROKEN = (OSError, ValueError, TypeError, LookupError, MemoryError, pa.ArrowException)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ODDS = {"star": "star_odds", "quasar": "qso_odds"}
_COMMANDS: dict[str, list[tuple[str, str, tuple[str, ...], str]]] = {
    "posteriors": [("infer", "source", ("posterior", "draws", "seed", "rows_per_partition"), "--check"),
                   ("reweight", "posteriors", ("prior", "seed"), "")],
    "library": [("simulate", "", ("survey", "n", "seed"), "--check")],
}  # fmt: skip
"""By the kind of the output, commands that write it: their argument, their options, and what reads every byte."""


class Problem(NamedTuple):
    """What is wrong, in which file or files, and what mends it."""

    where: str
    what: str
    remedy: str


@dataclass(frozen=True, repr=False)
class Verification(Displayed):
    """What `verify` found."""

    path: str
    kind: str
    parts: int
    rows: int
    bytes: int
    problems: tuple[Problem, ...]
    trust: Mapping[str, str] = field(default_factory=dict)
    """What the manifest of a posterior catalogue says of certificates and of the training set; whole is not right."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def _title(self) -> str:
        return f"{self.path}: {f'{len(self.problems)} problems' if self.problems else 'nothing is wrong'}"

    def _facts(self) -> dict[str, object]:
        size = f"{self.parts:,} sound parts, {self.rows:,} rows, {self.bytes / 1e6:,.0f} MB"
        return {self.kind: size, **{one.where: one.what for one in self.problems[:_MAX_NAMED]}, **self.trust}


@dataclass(frozen=True)
class _Part:
    """A part that could be read, or what is wrong with it."""

    index: int
    rows: int = 0
    bytes: int = 0
    schema: pa.Schema = None
    """None of a part that is wrong."""
    wrong: str = ""
    listed: Written | None = None
    """What its sidecar says of it, for the manifest."""


def verify(
    path: str | AnyPath, *, ids_at_once: int = IDS_AT_ONCE, report: Callable[[int], None] | None = None
) -> Verification:
    """Check a whole output folder of popcat, whatever it holds; `report` is called with each part that is done.

    Raises PopcatError only if the folder is no output of popcat: everything else is a problem in the result.

    >>> import tempfile
    >>> folder = OutputFolder.open(tempfile.mkdtemp(), {"n": 2}, 1, kind="demo")
    >>> _ = folder.write_part(0, pa.table({"object_id": [1, 1]}))
    >>> _ = folder.finish()
    >>> [problem.what for problem in verify(folder.path).problems]
    ['1 identifiers are there more than once: 1']
    """
    path = path_of(path)
    run = read_run(path)
    folder = OutputFolder(str(path), run.fingerprint_sha256, run.n_parts)
    again = rerun_command(run, path)
    parts: list[_Part] = []
    one: pa.Schema | None = None
    with ThreadPoolExecutor(READERS) as pool:
        for part in pool.map(lambda index: _look(folder, index), range(run.n_parts)):
            one = one or part.schema
            is_same = part.schema is not None and part.schema.equals(one, check_metadata=True)
            parts.append(replace(part, schema=one) if is_same else part)  # 50,000 copies of a schema are gigabytes
            if report is not None:
                report(part.index)
    sound = [part for part in parts if not part.wrong]
    problems = [Problem(folder.part_path(part.index).name, part.wrong, again) for part in parts if part.wrong]
    problems += _schemas(folder, sound, again)
    problems += _manifest(folder, run, parts, again)
    problems += _strangers(folder)
    problems += _identifiers(folder, sound, ids_at_once)
    rows, size = sum(part.rows for part in sound), sum(part.bytes for part in sound)
    manifest = read_or_none(path / META / "manifest.json", CatalogManifest)
    trust = manifest.trust if manifest is not None and run.kind == CatalogManifest.KIND else {}
    return Verification(str(path), run.kind, len(sound), rows, size, tuple(problems), trust)


def rerun_command(run: Run, path: str | AnyPath) -> str:
    """The command that finishes or mends a run; it names only options that popcat has, and quotes their values."""
    given = run.arguments | _effort(run)
    if all(str(value).isprintable() for value in given.values()):
        for command, argument, options, check in _COMMANDS.get(run.kind, []):
            if {argument, *options} - {""} <= {*given}:
                words = ["popcat", command] + ([str(given[argument])] if argument else [])
                for name in (*options, *_effort(run)):
                    words += [f"--{name.replace('_', '-')}", str(given[name])] if given[name] is not True else []
                words += [f"--{name.replace('_', '-')}" for name, value in given.items() if value is True]
                return shlex.join([*words, "-o", str(path), *([check] if check else [])])
    return "give the command that wrote it again"


def _effort(run: Run) -> dict[str, float | bool]:
    """Options of `popcat infer` that a certified catalogue was made with."""
    effort = run.fingerprint.get("effort")
    names = ("budget_ms", "target_ess")
    if not isinstance(effort, dict) or not all(isinstance(effort.get(name), int | float) for name in names):
        return {}
    found: dict[str, float | bool] = {"certify": True} | {name: float(effort[name]) for name in names}
    found |= {"refit": True} if effort.get("refit") is True else {}
    odds = run.fingerprint.get("odds")
    if isinstance(odds, dict) and all(isinstance(value, int | float) for value in odds.values()):
        found |= {option: float(odds[name]) for name, option in _ODDS.items() if name in odds}
    return found


def _look(folder: OutputFolder, index: int) -> _Part:
    """Sidecar, checksum, footer and schema of one part."""
    try:
        sidecar = read_record(folder.sidecar_path(index), Sidecar)
    except (FileNotFoundError, NotADirectoryError):
        there = folder.part_path(index).exists()
        return _Part(index, wrong="has no sidecar: its writer did not finish" if there else "is missing")
    except PopcatError as error:
        return _Part(index, wrong=f"its sidecar {error}")
    path = folder.part_path(index)
    listed = Written(**sidecar.model_dump(include=set(Written.model_fields)))
    try:
        wrong = _wrong(folder, path, sidecar)
        schema = None if wrong else pq.read_schema(arrow_source(path))
        return _Part(index, sidecar.rows, sidecar.bytes, schema, wrong, listed)
    except FileNotFoundError:
        return _Part(index, wrong="is missing", listed=listed)
    except _BROKEN as error:
        return _Part(index, wrong=f"cannot be read: {_line(error)}", listed=listed)


def _wrong(folder: OutputFolder, path: AnyPath, sidecar: Sidecar) -> str:
    if sidecar.fingerprint_sha256 != folder.fingerprint_sha256 or sidecar.file != path.name:
        return "its sidecar is of another run or part"
    if (size := path.stat().st_size) != sidecar.bytes:
        return f"has {size} bytes, expected {sidecar.bytes}"
    if sha256_of(path) != sidecar.sha256:
        return "its checksum is not the one it was written with: the file has changed since"
    rows = pq.read_metadata(arrow_source(path)).num_rows
    return "" if rows == sidecar.rows else f"has {rows} rows, expected {sidecar.rows}"


def _schemas(folder: OutputFolder, sound: list[_Part], again: str) -> Iterator[Problem]:
    for part in sound[1:]:
        expected, schema = _bare(sound[0].schema), _bare(part.schema)
        if not schema.equals(expected, check_metadata=True):
            first, name = folder.part_path(sound[0].index).name, folder.part_path(part.index).name
            what = f"its columns differ from those of {first}: {_difference(expected, schema)}"
            yield Problem(name, what, f"remove {name} and its sidecar, then {again}")


def _bare(schema: pa.Schema) -> pa.Schema:
    """A schema without remarks: a posterior may be calibrated anew before a run is finished, and another device may
    change the last digit of what is learned."""
    said = [{key: text for key, text in (field.metadata or {}).items() if key not in _REMARKS} for field in schema]
    return pa.schema([field.with_metadata(kept) for field, kept in zip(schema, said, strict=True)], schema.metadata)


def _difference(first: pa.Schema, other: pa.Schema) -> str:
    names = dict.fromkeys([*first.names, *other.names])
    differ = [name for name in names if _field(first, name) != _field(other, name)]
    return ", ".join(map(_printable, differ[:_MAX_NAMED])) or "order or metadata"


def _field(schema: pa.Schema, name: str):
    at = schema.get_field_index(name)
    return None if at < 0 else (schema.field(at).type, schema.field(at).metadata)


def _manifest(folder: OutputFolder, run: Run, parts: list[_Part], again: str) -> Iterator[Problem]:
    """Manifest against sidecars and the run."""
    name = f"{META}/manifest.json"
    if fingerprint_hash(run.fingerprint) != run.fingerprint_sha256:
        yield Problem(f"{META}/run.json", "its fingerprint has changed since it was written", "remove the folder")
    try:
        manifest = read_record(path_of(folder.path) / name, Manifest)
    except (FileNotFoundError, NotADirectoryError):
        yield Problem(name, "is missing: the run did not finish", again)
        return
    except PopcatError as error:
        yield Problem(name, str(error), again)
        return
    if manifest.parts != [part.listed for part in parts if part.listed]:
        yield Problem(name, "lists other parts, rows, bytes or checksums than the sidecars", again)
    for total in ("rows", "bytes"):
        expected = sum(getattr(part, total) for part in manifest.parts)
        if getattr(manifest, total) != expected:
            yield Problem(name, f"says {getattr(manifest, total)} {total}, its parts have {expected}", again)
    wanted = run.fingerprint.get("n")
    if isinstance(wanted, int) and manifest.rows != wanted:
        yield Problem(name, f"says {manifest.rows} rows, the input has {wanted}", again)
    if manifest.fingerprint_sha256 != run.fingerprint_sha256:
        yield Problem(name, "is of another run", again)


def _strangers(folder: OutputFolder) -> Iterator[Problem]:
    """Files that readers of the whole folder would take for parts."""
    known = {folder.part_path(index).name for index in range(folder.n_parts)}
    for entry in sorted(entry.name for entry in path_of(folder.path).iterdir()):
        if entry not in known and not entry.startswith((".", "_")):
            yield Problem(_printable(entry), "is no part of this run, but readers of the folder would read it",
                          "move it elsewhere")  # fmt: skip


def _identifiers(folder: OutputFolder, sound: list[_Part], ids_at_once: int) -> Iterator[Problem]:
    """Identifiers that are null, no int64, or there more than once."""
    usable = []
    for part in sound:
        if _field(part.schema, "object_id") is None or part.schema.field("object_id").type != pa.int64():
            where = folder.part_path(part.index).name
            yield Problem(where, "has no column object_id of int64", "give the command that wrote it again")
        else:
            usable.append(part)
    repeated, buckets = [], -(-sum(part.rows for part in usable) // ids_at_once)
    try:
        for bucket in range(buckets):
            repeated += _repeated(folder, usable, bucket, buckets)
    except (PopcatError, ValueError) as error:
        yield Problem("object_id", f"cannot be read: {_line(error)}", "give the command that wrote it again")
        return
    if repeated:
        named = ", ".join(map(str, repeated[:_MAX_NAMED])) + (", ..." if len(repeated) > _MAX_NAMED else "")
        yield Problem("object_id", f"{len(repeated)} identifiers are there more than once: {named}",
                      "give the galaxies of the input one identifier each, and write another folder")  # fmt: skip


def _repeated(folder: OutputFolder, parts: list[_Part], bucket: int, buckets: int) -> list[int]:
    found = []
    for part in parts:
        column = read_parquet(folder.part_path(part.index), ["object_id"])["object_id"]
        if column.null_count:
            raise ValueError(f"{folder.part_path(part.index).name} has {column.null_count} nulls")
        ids = column.to_numpy()
        found.append(ids[(ids.view(np.uint64) * _GOLDEN >> np.uint64(40)) % np.uint64(buckets) == bucket])
    ids = np.sort(np.concatenate(found))
    return np.unique(ids[1:][ids[1:] == ids[:-1]]).tolist()


def _line(error: BaseException) -> str:
    """An error as one printable line."""
    return _printable(" ".join(str(error).split())[:200] or type(error).__name__)


def _printable(text: str) -> str:
    """A name without the control characters that a terminal would obey."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)

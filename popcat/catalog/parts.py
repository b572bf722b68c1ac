"""A folder of Parquet parts that a killed run can finish.

A part counts as done only if its sidecar carries the run's fingerprint and the file is the recorded one: by size and
time of change, which costs nothing; where the time differs, as after a copy, by its checksum. `check=True` reads every
byte, and so finds what a disk has changed behind the file system's back. So a run that is killed anywhere, any number
of times, ends with each row once, and a folder never mixes two runs. Which files there are: popcat.catalog.manifest.
"""

import json
import math
import os
import reprlib
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa

from popcat.catalog.lease import alone
from popcat.catalog.manifest import (
    MAX_PARTS,
    META,
    READERS,
    RESULTS,
    Manifest,
    Run,
    Sidecar,
    Written,
    canonical,
    fingerprint_hash,
    is_output,
    is_whole,
    missing_parts,
    names_of,
    part_path,
    read_or_none,
    read_record,
    sidecar_path,
    unfinished,
)
from popcat.catalog.record import CatalogRecord
from popcat.display import listed
from popcat.errors import OutputGoneError, PopcatError
from popcat.files import create_json, swap_json, version_of, write_json_atomic, write_parquet_atomic
from popcat.paths import AnyPath, path_of, stamp_of
from popcat.run.runner import How, run
from popcat.stores import StorePath
from popcat.timing import recorded, stage

_MAX_NAMED = 5


@dataclass(frozen=True)
class OutputFolder:
    """One run's output folder: small and picklable, so that workers can write their own parts.

    >>> import tempfile
    >>> folder = OutputFolder.open(tempfile.mkdtemp(), {"seed": 1}, 2, kind="demo")
    >>> _ = folder.write_part(0, pa.table({"object_id": [1, 2]}))
    >>> folder.is_done(0), folder.pending()
    (True, [1])
    """

    path: str
    fingerprint_sha256: str
    n_parts: int
    writer: str = ""
    """The lease of the run that writes (popcat.catalog.lease), and when it began, by the clock of the disk."""
    since_ns: int = 0

    @classmethod
    def open(
        cls, path: str | AnyPath, fingerprint: dict, n_parts: int, *, kind: str, arguments: dict | None = None
    ) -> "OutputFolder":
        """Start a run in a new or empty folder, or go on with the same run.

        `fingerprint` is a JSON object of everything that decides the content of the parts; `arguments` (text and
        numbers) are those of the command, for whoever has to give it again.

        Raises PopcatError if the folder holds another run, or something else.
        """
        if n_parts > MAX_PARTS:
            raise PopcatError(f"{n_parts} parts are too many: at most {MAX_PARTS}; put more rows in a partition")
        path = path_of(path).absolute()
        fingerprint = json.loads(canonical(fingerprint))
        run = Run(kind=kind, n_parts=n_parts, fingerprint=fingerprint, fingerprint_sha256=fingerprint_hash(fingerprint),
                  popcat_version=_version(), results=RESULTS, arguments=arguments or {})  # fmt: skip
        if not is_output(path):
            _refuse_foreign(path)
            _make_folder(path / META)
            create_json(path / META / "run.json", run.model_dump())  # of several runs that begin at once, one is there
        there = _same_run(path, run)
        return cls(str(path), fingerprint_hash(there.fingerprint), n_parts)

    @contextmanager
    def alone(self) -> Iterator["OutputFolder"]:
        """The same folder, as the only run that writes there until the block ends; PopcatError if another one does."""
        path = path_of(self.path) / META / "writer.json"
        with alone(path, self.path) as lease:
            since_ns = path.stat().st_mtime_ns if isinstance(path, Path) else 0
            yield replace(self, writer=lease.id, since_ns=since_ns)

    def is_done(self, index: int, *, check: bool = False) -> bool:
        """Whether a part is there, whole, and of this run; `check` reads it all, whatever its time of change."""
        return is_whole(self.path, index, self.fingerprint_sha256, check=check)

    def pending(self, *, check: bool = False) -> list[int]:
        """Parts that are still to be written, in order."""
        return missing_parts(self.path, self.n_parts, self.fingerprint_sha256, check=check)

    def resume(self, *, check: bool = False) -> list[int]:
        """`pending`, and what the folder says of those parts is withdrawn, so that it is not believed later."""
        pending = self.pending(check=check)
        stale = [path_of(self.path) / META / "manifest.json"] if pending else []
        there = names_of(path_of(self.path))
        for path in stale + [self.sidecar_path(index) for index in pending]:
            if there is None or path.name in there:
                path.unlink(missing_ok=True)
        return pending

    def part_path(self, index: int) -> AnyPath:
        """Where a part is, or will be."""
        return part_path(self.path, index)

    def sidecar_path(self, index: int) -> AnyPath:
        """Where the sidecar of a part is, or will be."""
        return sidecar_path(self.path, index)

    def write_part(self, index: int, table: pa.Table, extra: dict | None = None) -> dict:
        """Write a part, then its sidecar, each atomically; the sidecar. `extra` is any JSON the run wants to keep.

        Writing a part again replaces it: parts must be a function of the fingerprint and the index alone.
        """
        path = self.part_path(index)
        self._require_there()
        with stage("write"):
            written = write_parquet_atomic(path, table, self.writer)
        sidecar = {"file": path.name, **written, "mtime_ns": stamp_of(path)[1],
                   "fingerprint_sha256": self.fingerprint_sha256, "popcat_version": _version(), "extra": extra or {},
                   "made": recorded()}  # fmt: skip
        self._require_there()
        write_json_atomic(self.sidecar_path(index), sidecar, self.writer)
        return sidecar

    def _require_there(self) -> None:
        """OutputGoneError if the folder has vanished: a part would begin another folder, without those before it."""
        record = path_of(self.path) / META / "run.json"
        if record.is_file():
            return
        if isinstance(record, StorePath):
            raise OutputGoneError(f"the output {self.path} is gone, or is not seen from {socket.gethostname()}")
        with suppress(OSError):
            os.listdir(record.parent)  # lets a network file system see what another machine has just written
        if not record.is_file():
            raise OutputGoneError(f"the output folder {self.path} is gone, or is not seen from {socket.gethostname()}")

    def finish(self, record: CatalogRecord | None = None) -> Manifest:
        """Remove what dead writers left, write the manifest, and give it back; call it when no writer is at work.

        `record` is what a posterior catalogue is of: who opens it reads it as fields of its manifest.

        Raises PopcatError if a part is missing.
        """
        path = path_of(self.path)
        for folder in (path, path / META) if isinstance(path, Path) else ():
            os.listdir(folder)  # lets a network file system see what other machines have just written
        seen = version_of(path / META / "manifest.json") if isinstance(path, StorePath) else None
        pending = self.pending()
        if pending:
            raise PopcatError(unfinished(self.path, self.n_parts - len(pending), self.n_parts))
        self._clean()
        manifest = self._manifest()
        content = manifest.model_dump() | (record.model_dump(mode="json") if record else {})
        self._write_manifest(path / META / "manifest.json", content, seen)
        return manifest

    def _write_manifest(self, path: AnyPath, content: dict, seen: str | None) -> None:
        """In a store only over what was seen there when this run began to end."""
        if not isinstance(path, StorePath):
            write_json_atomic(path, content)
        elif swap_json(path, content, seen) is None:
            raise PopcatError(f"another run ended in {self.path} at the same time: `popcat verify {self.path}` says "
                              "whether all is well; if not, give the same command again")

    def _clean(self) -> None:
        """Remove temporary files of this run, and those that nobody has touched since it began: others may be another
        run's. A store has none."""
        path = path_of(self.path)
        for leftover in [*path.glob(".*.tmp"), *(path / META).glob(".*.tmp")] if isinstance(path, Path) else []:
            with suppress(FileNotFoundError):
                is_own = not self.writer or f".{self.writer}" in leftover.name
                if is_own or leftover.stat().st_mtime_ns < self.since_ns:
                    leftover.unlink()

    def _manifest(self) -> Manifest:
        parts, stages = [], Counter[str]()
        with ThreadPoolExecutor(READERS) as pool:
            paths = map(self.sidecar_path, range(self.n_parts))
            for sidecar in pool.map(lambda path: read_record(path, Sidecar), paths):
                stages.update(sidecar.made.get("seconds", {}))
                parts.append(Written(**sidecar.model_dump(include=set(Written.model_fields))))
        return Manifest(
            **read_record(path_of(self.path) / META / "run.json", Run).model_dump(),
            rows=sum(part.rows for part in parts),
            bytes=sum(part.bytes for part in parts),
            parts=parts,
            stages={name: round(seconds, 3) for name, seconds in stages.items()},
        )


def write_parts(
    folder: OutputFolder, task: Callable, jobs: dict[int, tuple], rows: list[int], verb: str, how: How, *,
    seconds: float = math.inf, memory: tuple[int, int] | None = None,
) -> None:  # fmt: skip
    """Run task(*jobs[i]), which writes part i, for every i (popcat.run.runner.run), and write _popcat/summary.json.

    `rows` are those of all parts, also of those that are there; `seconds` what the jobs take on one core, about;
    `memory` what a worker needs, and what for each row.

    Raises PopcatError that names the parts that failed, and says how many are written.
    """
    summary = path_of(folder.path) / META / "summary.json"
    outcomes = run(task, jobs, verb=verb, how=how, sizes=rows, seconds=seconds, memory=memory, summary=summary)
    errors = {index: outcome.error for index, outcome in outcomes.items() if outcome.error is not None}
    if errors:
        first, error = next(iter(errors.items()))
        written = len(rows) - len(errors)
        there = f"{written or 'none'} of {len(rows)} {'are' if written > 1 else 'is'}"
        raise PopcatError(
            f"{len(errors)} of {len(jobs)} partitions failed ({', '.join(map(str, [*errors][:10]))}); {there} written, "
            f"and the same command tries the rest again. Partition {first}: {type(error).__name__}: {error}"
        ) from error
    folder._require_there()  # it may have gone after its last part


def _refuse_foreign(path: AnyPath):
    """A folder may hold what a start that was killed at once leaves, and nothing else."""
    if path.exists() and not path.is_dir():
        raise PopcatError(f"{path} is a file: name a folder for the output")
    if any(file for file in path.rglob("*") if file != path / META and file.suffix != ".tmp") and not is_output(path):
        raise PopcatError(f"{path} is not a popcat output and not empty: name a new or empty folder")


def _make_folder(path: AnyPath):
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PopcatError(f"cannot make the folder {path}: {error}") from error


def _same_run(path: AnyPath, run: Run) -> Run:
    """The run that a folder holds; PopcatError with what differs if it is another one than `run`."""
    there = read_or_none(path / META / "run.json", Run)
    if not there:
        raise PopcatError(f"{path / META / 'run.json'} is damaged: remove {path} or name another folder")
    if there.kind != run.kind:
        raise PopcatError(f"{path} holds another run's {there.kind}; this run writes {run.kind}: "
                          "name another folder, or remove this one")
    if there.results != run.results:
        raise PopcatError(f"{path} was begun by popcat {there.popcat_version}, whose numbers are others than those of "
                          f"this version, {run.popcat_version} (results {there.results}, now {run.results}): name "
                          "another folder, or finish it with that version")
    old, new = ({**_flat(one.settings), "n_parts": one.n_parts} for one in (there, run))
    different = [f"{key} ({reprlib.repr(old.get(key))} there, {reprlib.repr(new.get(key))} now)"
                 for key in {**old, **new} if key not in old or key not in new or old[key] != new[key]]
    if different:
        raise PopcatError(f"{path} holds another run, which differs in {listed(different, _MAX_NAMED)}: "
                          "name another folder, or remove this one")
    return there


def _flat(tree: dict, prefix: str = "") -> dict:
    """Leaves of nested dictionaries under dotted names."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return leaves


@cache
def _version() -> str:
    try:
        return version("popcat")
    except PackageNotFoundError:
        return "unknown"

"""A folder of Parquet parts that a killed run can finish.

    part-000000.parquet ...       data: whole or absent
    _popcat/run.json              what the run is: its fingerprint, how many parts
    _popcat/000000.json ...       written after its part: rows, bytes, sha256, mtime, the run's fingerprint, times
    _popcat/manifest.json         written last: the catalogue is complete

A part counts as done only if its sidecar carries the run's fingerprint and the file is the recorded one: by size and
time of change, which costs nothing; where the time differs, as after a copy, by its checksum. `check=True` reads every
byte, and so finds what a disk has changed behind the file system's back. So a run that is killed anywhere, any number
of times, ends with each row once, and a folder never mixes two runs.
"""

import hashlib
import json
import math
import os
import reprlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset

from popcat.catalog.manifest import MAX_PARTS, Manifest, Run, Sidecar, read_or_none, read_record
from popcat.errors import PopcatError
from popcat.files import sha256_of, write_json_atomic, write_parquet_atomic
from popcat.run.runner import How, run
from popcat.timing import recorded, stage

META = "_popcat"
READERS = 8
"""Threads that look at parts: the disk is the limit, and hashing lets others run."""
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

    @classmethod
    def open(
        cls, path: str | Path, fingerprint: dict, n_parts: int, *, kind: str, arguments: dict | None = None
    ) -> "OutputFolder":
        """Start a run in a new or empty folder, or go on with the same run.

        `fingerprint` is a JSON object of everything that decides the content of the parts; `arguments` (text and
        numbers) are those of the command, for whoever has to give it again.

        Raises PopcatError if the folder holds another run, or something else.
        """
        if n_parts > MAX_PARTS:
            raise PopcatError(f"{n_parts} parts are too many: at most {MAX_PARTS}; put more rows in a partition")
        path = Path(path).absolute()
        fingerprint = json.loads(_canonical(fingerprint))
        run = {"kind": kind, "n_parts": n_parts, "fingerprint": fingerprint,
               "fingerprint_sha256": fingerprint_hash(fingerprint), "popcat_version": _version(),
               "arguments": arguments or {}}
        if not is_output(path):
            _refuse_foreign(path)
            _make_folder(path / META)
            write_json_atomic(path / META / "run.json", run)
        _refuse_other_run(path, run)
        return cls(str(path), run["fingerprint_sha256"], n_parts)

    def is_done(self, index: int, *, check: bool = False) -> bool:
        """Whether a part is there, whole, and of this run; `check` reads it all, whatever its time of change."""
        sidecar, path = read_or_none(self.sidecar_path(index), Sidecar), self.part_path(index)
        if sidecar is None or sidecar.fingerprint_sha256 != self.fingerprint_sha256 or sidecar.file != path.name:
            return False
        try:
            status = path.stat()
            if status.st_size != sidecar.bytes:
                return False
            return (not check and status.st_mtime_ns == sidecar.mtime_ns) or sha256_of(path) == sidecar.sha256
        except OSError:
            return False

    def pending(self, *, check: bool = False) -> list[int]:
        """Parts that are still to be written, in order."""
        with ThreadPoolExecutor(READERS) as pool:
            done = pool.map(lambda index: self.is_done(index, check=check), range(self.n_parts))
            return [index for index, whole in enumerate(done) if not whole]

    def resume(self, *, check: bool = False) -> list[int]:
        """`pending`, and what the folder says of those parts is withdrawn, so that it is not believed later."""
        pending = self.pending(check=check)
        stale = [Path(self.path) / META / "manifest.json"] if pending else []
        for path in stale + [self.sidecar_path(index) for index in pending]:
            path.unlink(missing_ok=True)
        return pending

    def part_path(self, index: int) -> Path:
        """Where a part is, or will be."""
        return Path(self.path) / f"part-{index:06d}.parquet"

    def write_part(self, index: int, table: pa.Table, extra: dict | None = None) -> dict:
        """Write a part, then its sidecar, each atomically; the sidecar. `extra` is any JSON the run wants to keep.

        Writing a part again replaces it: parts must be a function of the fingerprint and the index alone.
        """
        path = self.part_path(index)
        with stage("write"):
            written = write_parquet_atomic(path, table)
        sidecar = {"file": path.name, **written, "mtime_ns": path.stat().st_mtime_ns,
                   "fingerprint_sha256": self.fingerprint_sha256, "extra": extra or {}, "made": recorded()}
        write_json_atomic(self.sidecar_path(index), sidecar)
        return sidecar

    def finish(self, extra: dict | None = None) -> dict:
        """Remove what dead writers left, write the manifest, and give it back; call it when no writer is at work.

        Raises PopcatError if a part is missing.
        """
        for folder in (self.path, Path(self.path) / META):
            os.listdir(folder)  # lets a network file system see what other machines have just written
        pending = self.pending()
        if pending:
            raise PopcatError(_unfinished(self.path, self.n_parts - len(pending), self.n_parts))
        for leftover in [*Path(self.path).glob(".*.tmp"), *(Path(self.path) / META).glob(".*.tmp")]:
            leftover.unlink(missing_ok=True)
        manifest = self._manifest(extra or {})
        write_json_atomic(Path(self.path) / META / "manifest.json", manifest)
        return manifest

    def _manifest(self, extra: dict) -> dict:
        with ThreadPoolExecutor(READERS) as pool:
            paths = map(self.sidecar_path, range(self.n_parts))
            sidecars = list(pool.map(lambda path: read_record(path, Sidecar), paths))
        stages = Counter()
        for sidecar in sidecars:
            stages.update(sidecar.made.get("seconds", {}))
        return {
            **read_record(Path(self.path) / META / "run.json", Run).model_dump(),
            "rows": sum(sidecar.rows for sidecar in sidecars),
            "bytes": sum(sidecar.bytes for sidecar in sidecars),
            "parts": [sidecar.model_dump(include={"file", "rows", "bytes", "sha256"}) for sidecar in sidecars],
            "stages": {name: round(seconds, 3) for name, seconds in stages.items()},
            "extra": extra,
        }

    def sidecar_path(self, index: int) -> Path:
        """Where the sidecar of a part is, or will be."""
        return Path(self.path) / META / f"{index:06d}.json"


def fingerprint_hash(fingerprint: dict) -> str:
    """sha256 of a fingerprint, whatever the order of its keys.

    >>> fingerprint_hash({"a": 1, "b": 2}) == fingerprint_hash({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(_canonical(fingerprint).encode()).hexdigest()


def is_output(path: str | Path) -> bool:
    """Whether a folder is one that popcat writes to, finished or not."""
    return (Path(path) / META / "run.json").is_file()


def read_manifest(path: str | Path, *, kind: str | None = None) -> dict:
    """The manifest of a complete output: kind, fingerprint, parts, rows, bytes, extra.

    Raises PopcatError if the folder is no output of popcat (of this kind, where one is named), is not finished, or a
    part is missing or has changed size.
    """
    path = Path(path)
    run = read_run(path)
    if kind is not None and run.kind != kind:
        raise PopcatError(f"{path} holds a {run.kind}, not {kind}: name a folder of {kind}")
    manifest = read_or_none(path / META / "manifest.json", Manifest)
    parts = manifest.parts if manifest else []
    whole = [part for part in parts if _size(path / part.file) == part.bytes]
    if manifest and len(whole) == len(parts) == run.n_parts:
        return manifest.model_dump()
    folder = OutputFolder(str(path), run.fingerprint_sha256, run.n_parts)
    raise PopcatError(_unfinished(path, run.n_parts - len(folder.pending()), run.n_parts))


def read_run(path: str | Path) -> Run:
    """What the run of an output folder is; PopcatError if the folder is no output of popcat."""
    try:
        return read_record(Path(path) / META / "run.json", Run)
    except (FileNotFoundError, NotADirectoryError):
        raise PopcatError(f"{path} is not a popcat output: expected a folder with {META}/run.json in it") from None


def open_catalog(path: str | Path) -> pyarrow.dataset.Dataset:
    """A complete output as a pyarrow dataset of its parts, in order; PopcatError as `read_manifest`."""
    parts = read_manifest(path)["parts"]
    return pyarrow.dataset.dataset([str(Path(path) / part["file"]) for part in parts], format="parquet")


def write_parts(
    folder: OutputFolder, task: Callable, jobs: dict[int, tuple], rows: list[int], verb: str, how: How, *,
    seconds: float = math.inf,
) -> None:  # fmt: skip
    """Run task(*jobs[i]), which writes part i, for every i (popcat.run.runner.run), and write _popcat/summary.json.

    `rows` are those of all parts, also of those that are there; `seconds` what the jobs take on one core, about.

    Raises PopcatError that names the parts that failed; the others are written.
    """
    summary = Path(folder.path) / META / "summary.json"
    outcomes = run(task, jobs, verb=verb, how=how, sizes=rows, seconds=seconds, summary=summary)
    errors = {index: outcome.error for index, outcome in outcomes.items() if outcome.error is not None}
    if errors:
        first, error = next(iter(errors.items()))
        raise PopcatError(
            f"{len(errors)} of {len(jobs)} partitions failed ({', '.join(map(str, [*errors][:10]))}); the others are "
            f"written, and the same command finishes the rest. Partition {first}: {type(error).__name__}: {error}"
        ) from error


def _refuse_foreign(path: Path):
    """A folder may hold what a start that was killed at once leaves, and nothing else."""
    if path.exists() and not path.is_dir():
        raise PopcatError(f"{path} is a file: name a folder for the output")
    if any(file for file in path.rglob("*") if file != path / META and file.suffix != ".tmp"):
        raise PopcatError(f"{path} is not a popcat output and not empty: name a new or empty folder")


def _make_folder(path: Path):
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PopcatError(f"cannot make the folder {path}: {error}") from error


def _refuse_other_run(path: Path, run: dict):
    record = read_or_none(path / META / "run.json", Run)
    if not record:
        raise PopcatError(f"{path / META / 'run.json'} is damaged: remove {path} or name another folder")
    there = record.model_dump()
    if there["kind"] != run["kind"]:
        raise PopcatError(f"{path} holds another run's {there['kind']}; this run writes {run['kind']}: "
                          "name another folder, or remove this one")
    old, new = ({**_flat(one["fingerprint"]), "n_parts": one["n_parts"]} for one in (there, run))
    different = [f"{key} ({reprlib.repr(old.get(key))} there, {reprlib.repr(new.get(key))} now)"
                 for key in {**old, **new} if key not in old or key not in new or old[key] != new[key]]
    if different:
        more = f" and {len(different) - _MAX_NAMED} more" if len(different) > _MAX_NAMED else ""
        raise PopcatError(f"{path} holds another run, which differs in {', '.join(different[:_MAX_NAMED])}{more}: "
                          "name another folder, or remove this one")


def _flat(tree: dict, prefix: str = "") -> dict:
    """Leaves of nested dictionaries under dotted names."""
    leaves = {}
    for key, value in tree.items():
        leaves |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return leaves


def _unfinished(path, done: int, n_parts: int) -> str:
    return f"{path} is not complete: {done} of {n_parts} parts are done; run the same command again to finish it"


def _canonical(fingerprint: dict) -> str:
    return json.dumps(fingerprint, sort_keys=True, separators=(",", ":"))


def _version() -> str:
    try:
        return version("popcat")
    except PackageNotFoundError:
        return "unknown"


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None

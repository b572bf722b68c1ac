"""A folder of Parquet parts that a killed run can finish.

    part-000000.parquet ...       data: whole or absent
    _popcat/run.json              what the run is: its fingerprint, how many parts
    _popcat/000000.json ...       written after its part: rows, bytes, sha256, the run's fingerprint
    _popcat/manifest.json         written last: the catalogue is complete

A part counts as done only if its sidecar carries the run's fingerprint and the recorded size is the size of the file.
So a run that is killed anywhere, any number of times, ends with each row once, and a folder never mixes two runs.
"""

import hashlib
import json
import reprlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset

from popcat.catalog.atomic import write_json_atomic, write_parquet_atomic
from popcat.errors import PopcatError

META = "_popcat"
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
    def open(cls, path: str | Path, fingerprint: dict, n_parts: int, *, kind: str) -> "OutputFolder":
        """Start a run in a new or empty folder, or go on with the same run.

        `fingerprint` is a JSON object of everything that decides the content of the parts.

        Raises PopcatError if the folder holds another run, or something else.
        """
        path = Path(path).absolute()
        fingerprint = json.loads(_canonical(fingerprint))
        run = {"kind": kind, "n_parts": n_parts, "fingerprint": fingerprint,
               "fingerprint_sha256": fingerprint_hash(fingerprint), "popcat_version": _version()}
        if not is_output(path):
            _refuse_foreign(path)
            _make_folder(path / META)
            write_json_atomic(path / META / "run.json", run)
        _refuse_other_run(path, run)
        return cls(str(path), run["fingerprint_sha256"], n_parts)

    def is_done(self, index: int) -> bool:
        """Whether a part is there, whole, and of this run."""
        sidecar = _read_json(self._sidecar(index))
        if not sidecar or sidecar.get("fingerprint_sha256") != self.fingerprint_sha256:
            return False
        return _size(self.part_path(index)) == sidecar["bytes"]

    def pending(self) -> list[int]:
        """Parts that are still to be written, in order."""
        return [index for index in range(self.n_parts) if not self.is_done(index)]

    def part_path(self, index: int) -> Path:
        """Where a part is, or will be."""
        return Path(self.path) / f"part-{index:06d}.parquet"

    def write_part(self, index: int, table: pa.Table, extra: dict | None = None) -> dict:
        """Write a part, then its sidecar, each atomically; the sidecar. `extra` is any JSON the run wants to keep.

        Writing a part again replaces it: parts must be a function of the fingerprint and the index alone.
        """
        written = write_parquet_atomic(self.part_path(index), table)
        sidecar = {"file": self.part_path(index).name, **written, "fingerprint_sha256": self.fingerprint_sha256,
                   "extra": extra or {}}
        write_json_atomic(self._sidecar(index), sidecar)
        return sidecar

    def finish(self, extra: dict | None = None) -> dict:
        """Remove what dead writers left, write the manifest, and give it back; call it when no writer is at work.

        Raises PopcatError if a part is missing.
        """
        pending = self.pending()
        if pending:
            raise PopcatError(_unfinished(self.path, self.n_parts - len(pending), self.n_parts))
        for leftover in [*Path(self.path).glob(".*.tmp"), *(Path(self.path) / META).glob(".*.tmp")]:
            leftover.unlink(missing_ok=True)
        manifest = self._manifest(extra or {})
        write_json_atomic(Path(self.path) / META / "manifest.json", manifest)
        return manifest

    def _manifest(self, extra: dict) -> dict:
        sidecars = [_read_json(self._sidecar(index)) for index in range(self.n_parts)]
        parts = [{key: sidecar[key] for key in ("file", "rows", "bytes", "sha256")} for sidecar in sidecars]
        return {
            **_read_json(Path(self.path) / META / "run.json"),
            "rows": sum(part["rows"] for part in parts),
            "bytes": sum(part["bytes"] for part in parts),
            "parts": parts,
            "extra": extra,
        }

    def _sidecar(self, index: int) -> Path:
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
    run = _read_json(path / META / "run.json")
    if not run:
        raise PopcatError(f"{path} is not a popcat output: expected a folder with {META}/run.json in it")
    if kind is not None and run["kind"] != kind:
        raise PopcatError(f"{path} holds a {run['kind']}, not {kind}: name a folder of {kind}")
    manifest = _read_json(path / META / "manifest.json")
    parts = manifest["parts"] if manifest else []
    whole = [part for part in parts if _size(path / part["file"]) == part["bytes"]]
    if manifest and len(whole) == len(parts):
        return manifest
    folder = OutputFolder(str(path), run["fingerprint_sha256"], run["n_parts"])
    raise PopcatError(_unfinished(path, run["n_parts"] - len(folder.pending()), run["n_parts"]))


def open_catalog(path: str | Path) -> pyarrow.dataset.Dataset:
    """A complete output as a pyarrow dataset of its parts, in order; PopcatError as `read_manifest`."""
    parts = read_manifest(path)["parts"]
    return pyarrow.dataset.dataset([str(Path(path) / part["file"]) for part in parts], format="parquet")


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
    there = _read_json(path / META / "run.json")
    if not there:
        raise PopcatError(f"{path / META / 'run.json'} is damaged: remove {path} or name another folder")
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


def _read_json(path: Path) -> dict | None:
    """None where there is no file, or a damaged one: whatever it stood for is to be done again."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None

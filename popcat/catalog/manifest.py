"""The JSON files of an output folder: what they may hold, and reading them without trust.

    part-000000.parquet ...       data: whole or absent
    _popcat/run.json              what the run is: its fingerprint, how many parts (Run)
    _popcat/000000.json ...       written after its part: rows, bytes, sha256, mtime, fingerprint, times (Sidecar)
    _popcat/sources.json          files of photometry that a posterior catalogue was made of (popcat.io.content)
    _popcat/prior.parquet         draws of the prior of a posterior catalogue (popcat.catalog.prior_draws)
    _popcat/manifest.json         written last: the output is complete (Manifest), and what it is of (CatalogRecord)

They lie in folders that travel, so whatever they say is checked before it is used: no file is named but a part, and
no number counts what cannot be. Files of before, in which the posterior was the "model" and what a catalogue is of
stood under "extra", are read under the names of today.
"""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, ClassVar, TypeVar, overload

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from popcat.catalog.record import CatalogRecord, Count
from popcat.errors import PopcatError
from popcat.files import footer_sha256, read_small, sha256_of
from popcat.paths import AnyPath, path_of, sizes_of, stamp_of
from popcat.stores import StoreError, StorePath

META = "_popcat"
RESULTS = 9
"""Rises with every change of popcat after which the same input gives other numbers: no run mixes the two.

2: each galaxy is compared with the catalogue's own. 3: edges are flagged. 4: what a forward model reads is hashed. 5:
the law of attenuation is tabulated at the tables' redshifts, and the tables are compressed. 6: the physical prior;
galaxies are simulated where they may pass the selection; high_chi2 by limits from mocks; stars and quasars. 7: p_star
and p_qso of a posterior without a flow. 8: fewer proposals. 9: proposals that are fitted to a galaxy start at its
posterior's highest points."""
MAX_PARTS = 1_000_000
"""Parts are numbered with six digits."""
READERS = 8
"""Threads that look at parts: the disk is the limit, and hashing lets others run."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Record = TypeVar("Record", bound=BaseModel)


class Written(BaseModel):
    """One part, as the manifest lists it."""

    model_config = ConfigDict(strict=True)

    file: str = Field(pattern=r"^part-[0-9]{6}\.parquet$")
    rows: Count
    bytes: int = Field(ge=1, le=2**62)
    sha256: Sha256
    footer_sha256: Sha256 | None = None
    """None in a part of before."""


class Sidecar(Written):
    """Written after its part: `mtime_ns` is the part's (of an object a number that stands for its ETag:
    popcat.paths.stamp_of), `made` says by whom and how long each stage took."""

    mtime_ns: int = 0
    fingerprint_sha256: Sha256
    popcat_version: str = ""
    extra: dict[str, Any] = {}
    made: dict[str, Any] = {}


_RENAMED = {"posteriors": {"model": "posterior"}, "library": {"model": "galaxy_model"}}


def renamed(settings: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Settings of a run of some kind, in which keys of before have the names of today.

    >>> renamed({"model": "sdss", "draws": 100}, "posteriors")
    {'posterior': 'sdss', 'draws': 100}
    """
    today = _RENAMED.get(kind, {})
    return {today.get(key, key): value for key, value in settings.items()}


class Run(BaseModel):
    """What the run is.

    fingerprint : everything that decides the parts, as it was written: `fingerprint_sha256` is its hash. `settings` is
    the same under the names of today. results : RESULTS of the popcat that began it. arguments : those of the command
    that began it; they decide nothing.
    """

    model_config = ConfigDict(strict=True)

    kind: str
    n_parts: int = Field(ge=0, le=MAX_PARTS)
    fingerprint: dict[str, Any]
    fingerprint_sha256: Sha256
    popcat_version: str
    results: int = 0
    arguments: dict[str, str | int | float | bool] = {}

    @field_validator("arguments")
    @classmethod
    def _today(cls, arguments, info):
        return renamed(arguments, info.data.get("kind", ""))

    @property
    def settings(self) -> dict[str, Any]:
        """The fingerprint under the names of today."""
        return renamed(self.fingerprint, self.kind)


class Manifest(Run):
    """The output is complete. `stages` are seconds, summed over the parts."""

    KIND: ClassVar[str] = ""
    EXPECTED: ClassVar[str] = "an output of popcat"

    rows: Count
    bytes: Count
    parts: list[Written] = Field(max_length=MAX_PARTS)
    stages: dict[str, float] = {}


class CatalogManifest(CatalogRecord, Manifest):
    """The manifest of a posterior catalogue: its parts, and what it is of."""

    KIND: ClassVar[str] = "posteriors"
    EXPECTED: ClassVar[str] = "a posterior catalogue, a folder that `popcat infer` wrote"

    @model_validator(mode="before")
    @classmethod
    def _today_record(cls, data):
        """What stood under `extra` in the manifests of before."""
        if not isinstance(data, dict) or not isinstance(data.get("extra"), dict):
            return data
        found = dict(data["extra"])
        settings = data.get("fingerprint")
        name = settings.get("model") if isinstance(settings, dict) else None
        found["posterior"] = {"name": name, "location": found.pop("model", None)}
        return found | data

    @property
    def record(self) -> CatalogRecord:
        """What the catalogue is of, without its parts."""
        return CatalogRecord.model_validate({name: getattr(self, name) for name in CatalogRecord.model_fields})


def read_record(path: AnyPath, kind: type[Record]) -> Record:
    """A JSON file as a record; PopcatError if it is no such record, FileNotFoundError or NotADirectoryError if none."""
    try:
        return kind.model_validate_json(read_small(path))
    except ValidationError as error:
        raise PopcatError(f"{path} is damaged: {_first(error)}") from error
    except ValueError as error:
        raise PopcatError(f"{path} is damaged: {error}") from error
    except (FileNotFoundError, NotADirectoryError, StoreError):
        raise
    except OSError as error:
        raise PopcatError(f"cannot read {path}: {error}") from error


def read_or_none(path: AnyPath, kind: type[Record]) -> Record | None:
    """A record, or None where there is no file, or a damaged one: it is to be done again. StoreError if unreachable."""
    try:
        return read_record(path, kind)
    except StoreError:
        raise
    except (FileNotFoundError, NotADirectoryError, PopcatError):
        return None


def part_path(folder: str | AnyPath, index: int) -> AnyPath:
    """Where a part of an output folder is, or will be.

    >>> part_path("out", 3).as_posix()
    'out/part-000003.parquet'
    """
    return path_of(folder) / f"part-{index:06d}.parquet"


def sidecar_path(folder: str | AnyPath, index: int) -> AnyPath:
    """Where the sidecar of a part is, or will be."""
    return path_of(folder) / META / f"{index:06d}.json"


def is_whole(folder: str | AnyPath, index: int, fingerprint_sha256: str, *, check: bool = False) -> bool:
    """Whether a part is there, whole, and of this run; `check` reads it all, whatever its time of change."""
    sidecar, path = read_or_none(sidecar_path(folder, index), Sidecar), part_path(folder, index)
    if sidecar is None or sidecar.fingerprint_sha256 != fingerprint_sha256 or sidecar.file != path.name:
        return False
    try:
        size, version = stamp_of(path)
        if size != sidecar.bytes:
            return False
        if check or version != sidecar.mtime_ns:
            return sha256_of(path) == sidecar.sha256
        return isinstance(path, StorePath) or sidecar.footer_sha256 in (None, footer_sha256(path))
    except StoreError:
        raise
    except (OSError, ValueError):
        return False


def missing_parts(
    folder: str | AnyPath, n_parts: int, fingerprint_sha256: str, *, check: bool = False
) -> list[int]:
    """Parts of a run that are still to be written, in order. In a store a listing says first which cannot be there."""
    there = names_of(path_of(folder))

    def is_done(index: int) -> bool:
        names = {part_path(folder, index).name, sidecar_path(folder, index).name}
        return (there is None or names <= there) and is_whole(folder, index, fingerprint_sha256, check=check)

    with ThreadPoolExecutor(READERS) as pool:
        return [index for index, done in enumerate(pool.map(is_done, range(n_parts))) if not done]


def names_of(folder: AnyPath) -> set[str] | None:
    """Names of parts and records of an output folder in a store; None on a disk, where one may as well ask for each."""
    if not isinstance(folder, StorePath):
        return None
    return {one.name for where in (folder, folder / META) for one in where.iterdir()}


def is_output(path: str | AnyPath) -> bool:
    """Whether a folder is one that popcat writes to, finished or not."""
    return (path_of(path) / META / "run.json").is_file()


def read_run(path: str | AnyPath) -> Run:
    """What the run of an output folder is; PopcatError if the folder is no output of popcat."""
    try:
        return read_record(path_of(path) / META / "run.json", Run)
    except (FileNotFoundError, NotADirectoryError):
        raise PopcatError(f"{path} is not a popcat output: expected a folder with {META}/run.json in it") from None


AnyManifest = TypeVar("AnyManifest", bound=Manifest)


@overload
def read_manifest(path: str | AnyPath) -> Manifest: ...
@overload
def read_manifest(path: str | AnyPath, kind: type[AnyManifest]) -> AnyManifest: ...
def read_manifest(path: str | AnyPath, kind: type[Manifest] = Manifest) -> Manifest:
    """The manifest of a complete output: of any, or of the kind that is asked for, such as `CatalogManifest`.

    Raises PopcatError if the folder is no output of popcat (of this kind), is not finished, or a part is missing or
    has changed size.

    >>> manifest = read_manifest("posteriors", CatalogManifest)
    >>> manifest.rows, manifest.survey.name, manifest.draws
    (40, 'sdss', 20)
    """
    path, run = path_of(path), read_run(path)
    if kind.KIND and run.kind != kind.KIND:
        raise PopcatError(f"{path} holds {run.kind}: expected {kind.EXPECTED}")
    plain = read_or_none(path / META / "manifest.json", Manifest)
    sizes = sizes_of(path, [one.file for one in plain.parts]) if plain else []
    if plain and len(plain.parts) == run.n_parts and sizes == [one.bytes for one in plain.parts]:
        return plain if kind is Manifest else read_record(path / META / "manifest.json", kind)
    missing = missing_parts(path, run.n_parts, run.fingerprint_sha256)
    raise PopcatError(unfinished(path, run.n_parts - len(missing), run.n_parts))


def fingerprint_hash(fingerprint: dict) -> str:
    """sha256 of a fingerprint, whatever the order of its keys.

    >>> fingerprint_hash({"a": 1, "b": 2}) == fingerprint_hash({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(canonical(fingerprint).encode()).hexdigest()


def canonical(fingerprint: dict) -> str:
    """A fingerprint as JSON with sorted keys."""
    return json.dumps(fingerprint, sort_keys=True, separators=(",", ":"))


def unfinished(path: str | AnyPath, done: int, n_parts: int) -> str:
    """What is said of an output that is not complete."""
    return f"{path} is not complete: {done} of {n_parts} parts are done; run the same command again to finish it"


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, problem["loc"]))
    return f"{where + ': ' if where else ''}{problem['msg']}"

"""The JSON files of an output folder: what they may hold, and reading them without trust.

They lie in folders that travel, so whatever they say is checked before it is used: no file is named but a part, and
no number counts what cannot be.
"""

import stat
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from popcat.errors import PopcatError

MAX_PARTS = 1_000_000
"""Parts are numbered with six digits."""
MAX_BYTES = 500_000_000
"""A manifest of as many parts is not larger."""

Count = Annotated[int, Field(ge=0, le=2**62)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Written(BaseModel):
    """One part, as the manifest lists it."""

    model_config = ConfigDict(strict=True)

    file: str = Field(pattern=r"^part-[0-9]{6}\.parquet$")
    rows: Count
    bytes: int = Field(ge=1, le=2**62)
    sha256: Sha256


class Sidecar(Written):
    """Written after its part: `mtime_ns` is the part's, `made` says by whom and how long each stage took."""

    mtime_ns: int = 0
    fingerprint_sha256: Sha256
    extra: dict[str, Any] = {}
    made: dict[str, Any] = {}


class Run(BaseModel):
    """What the run is. `arguments` are those of the command that began it; they decide nothing."""

    model_config = ConfigDict(strict=True)

    kind: str
    n_parts: int = Field(ge=0, le=MAX_PARTS)
    fingerprint: dict[str, Any]
    fingerprint_sha256: Sha256
    popcat_version: str
    arguments: dict[str, str | int | bool] = {}


class Manifest(Run):
    """The catalogue is complete. `stages` are seconds, summed over the parts."""

    rows: Count
    bytes: Count
    parts: list[Written] = Field(max_length=MAX_PARTS)
    stages: dict[str, float] = {}
    extra: dict[str, Any] = {}


def read_record(path: Path, kind: type[BaseModel]) -> BaseModel:
    """A JSON file as a record; PopcatError if it is no such record, FileNotFoundError or NotADirectoryError if none."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise PopcatError(f"{path} is damaged: expected a JSON file of at most {MAX_BYTES / 1e6:.0f} MB")
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise PopcatError(f"{path} is damaged: {_first(error)}") from error
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise PopcatError(f"cannot read {path}: {error}") from error


def read_or_none(path: Path, kind: type[BaseModel]) -> BaseModel | None:
    """A record, or None where there is no file, or a damaged one: whatever it stood for is to be done again."""
    try:
        return read_record(path, kind)
    except (FileNotFoundError, NotADirectoryError, PopcatError):
        return None


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, problem["loc"]))
    return f"{where + ': ' if where else ''}{problem['msg']}"

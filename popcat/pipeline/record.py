"""fit.json: what a fit is of, the sizes that were chosen for it, and the command that would do each step again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from popcat import __version__
from popcat.errors import PopcatError
from popcat.files import read_json, write_json_atomic
from popcat.flows.settings import Training

FILE = "fit.json"
"""In the folder of a fit."""


class StepRecord(BaseModel):
    """A step that is done: its product, hash of what that was made of, seconds, the command that does it again."""

    model_config = ConfigDict(frozen=True)
    product: str
    made_of: str
    seconds: float
    command: str


class Chosen(BaseModel):
    """What decides the posteriors beside the user's options; a fit that goes on keeps it."""

    model_config = ConfigDict(frozen=True)
    proposals: Literal["flow", "fitted"] = "flow"
    library: int = Field(ge=1)
    training: Training
    mocks: int = Field(ge=20)
    mock_draws: int = Field(ge=20)
    rows_per_library_part: int = Field(ge=1)
    rows_per_part: int = Field(ge=1)


class FitRecord(BaseModel):
    """What fit.json holds. `made_of`: the user's options, and hashes of the catalogue and the settings."""

    format: int = 1
    popcat_version: str = __version__
    made_of: dict[str, Any]
    remarks: list[str] = []
    chosen: Chosen | None = None
    measured: dict[str, Any] = {}
    steps: dict[str, StepRecord] = {}
    result: dict[str, Any] | None = None

    def save(self, folder: Path) -> None:
        """Write it into the folder of the fit."""
        write_json_atomic(folder / FILE, self.model_dump(mode="json"))


def read_fit(folder: Path) -> FitRecord | None:
    """The record in a folder; None if there is none yet. PopcatError if it is damaged."""
    if not (folder / FILE).is_file():
        return None
    try:
        return FitRecord.model_validate(read_json(folder / FILE))
    except (ValueError, ValidationError) as error:
        text = " ".join(str(error).split())[:200]
        raise PopcatError(f"{folder / FILE} is damaged: {text}; name another folder, or remove this one") from error


def same_fit(folder: Path, there: FitRecord, made_of: Mapping[str, Any]) -> None:
    """PopcatError with what differs if a folder holds another fit."""
    old, new = there.made_of, json.loads(json.dumps(made_of))
    different = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if different:
        told = ", ".join(f"{name} ({_short(old.get(name))} there, {_short(new.get(name))} now)" for name in different)
        raise PopcatError(f"{folder} holds another fit, which differs in {told}: name another folder, or remove this "
                          "one")  # fmt: skip


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}…"

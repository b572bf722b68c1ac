"""What all settings share: pydantic models read from TOML; an unknown key or a wrong value is refused with its name."""

import hashlib
import json
import re
import tomllib
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TypeVar

import pydantic

from popcat.errors import PopcatError
from popcat.paths import path_of
from popcat.stores import StorePath

Kind = TypeVar("Kind", bound=pydantic.BaseModel)


class Settings(pydantic.BaseModel):
    """Base of what a user sets: unknown keys are refused, values do not change, numbers are finite."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def ascending(name: str, low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"{name} must be low < high, got {low:g}, {high:g}")


def parse_toml(kind: type[Kind], path: Traversable | StorePath) -> Kind:
    """Settings of one kind from a TOML file; PopcatError names the file, the key and the reason."""
    try:
        return kind.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, OSError) as error:
        raise PopcatError(f"{path} is not valid TOML: {error}") from error
    except pydantic.ValidationError as error:
        raise PopcatError(f"{path} is not a valid {_words(kind.__name__)}: {validation_summary(error)}") from error


def settings_of(kind: type[Kind], given: "Kind | str | Path | None", what: str) -> Kind:
    """Settings as a user gives them: themselves, the path of a TOML file, or None for the defaults.

    Raises PopcatError for a file that is not there or not such settings; `what` says what they are of.
    """
    if given is None:
        return kind()
    if isinstance(given, kind):
        return given
    if not isinstance(given, str | Path):
        raise PopcatError(f"{what} settings: expected a {kind.__name__} or a TOML file, got {type(given).__name__}")
    if not path_of(given).is_file():
        raise PopcatError(f"no {what} settings at {given}: expected a TOML file")
    return parse_toml(kind, path_of(given))


def validation_summary(error: pydantic.ValidationError) -> str:
    """One line for a pydantic error: each key, what is wrong, and what came.

    Raises nothing; used by every reader of user settings.
    """
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"]) or "file"
        got = f" (got {item['input']!r})" if not isinstance(item["input"], dict) else ""
        lines.append(f"{key}: {item['msg']}{got}")
    return "; ".join(lines)


def _words(name: str) -> str:
    """A class's name in words: GalaxyModel is "galaxy model"."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", name.strip("_")).lower()


def sha256_of_json(content: object) -> str:
    """SHA-256 of settings as canonical JSON: the same whatever the order of their keys.

    >>> sha256_of_json({"b": 1, "a": 2}) == sha256_of_json({"a": 2, "b": 1})
    True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

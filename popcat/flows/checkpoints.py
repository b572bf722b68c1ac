"""A training on disk between two epochs: one safetensors file, whole or not there at all, never a pickle."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from popcat.errors import PopcatError


def write_checkpoint(path: Path, tensors: dict[str, torch.Tensor], header: dict) -> None:
    """Replace the file at `path`; PopcatError if the disk refuses."""
    content = safetensors.torch.save(
        {name: value.detach().to("cpu").clone() for name, value in tensors.items()},
        metadata={"training": json.dumps(header)},
    )
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise PopcatError(f"cannot write {path}: {error}") from error


def read_checkpoint(path: Path, made_for: dict) -> tuple[dict[str, torch.Tensor], dict] | None:
    """Tensors and header of a checkpoint, or None if there is none.

    Raises PopcatError if it is damaged, or of another training than `made_for` says.
    """
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            header = json.loads(file.metadata()["training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise PopcatError(f"{path} holds no checkpoint that popcat stored: {error}; delete it to start anew") from error
    other = [key for key, value in made_for.items() if header["made_for"].get(key) != value]
    if other:
        raise PopcatError(
            f"the checkpoint {path} is of a training with other {' and '.join(other)}: "
            "delete it to start anew, or train with what it was begun with"
        )
    return tensors, header


def header_of(made_for: dict, history, optimizer) -> dict:
    """What a checkpoint says beside its tensors."""
    return {
        "made_for": made_for,
        "history": asdict(history),
        "n_steps": optimizer.n_steps,
        "total_steps": optimizer.total_steps,
    }

"""A flow on disk: weights as safetensors, architecture as JSON. Nothing is ever unpickled."""

import json

import safetensors
import safetensors.torch

from popcat.errors import PopcatError
from popcat.flows.architecture import Architecture, build_flow

# The architecture decides masks and degrees: half of the file, if they were stored.
_DERIVED = (".mask", ".degrees")


def flow_to_bytes(flow, architecture: Architecture) -> bytes:
    """Weights as a safetensors file with the architecture in its header."""
    tensors = {name: value.contiguous() for name, value in flow.state_dict().items() if not name.endswith(_DERIVED)}
    return safetensors.torch.save(tensors, metadata={"architecture": architecture.model_dump_json()})


def flow_from_file(path):
    """A flow that `flow_to_bytes` stored, in evaluation mode, and its architecture.

    Raises PopcatError if the file is missing, damaged, or of another architecture.
    """
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            architecture = Architecture.model_validate(json.loads(file.metadata()["architecture"]))
        flow = build_flow(architecture)
        _fill(flow, safetensors.torch.load_file(str(path)))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise PopcatError(f"{path} holds no flow that popcat stored: {error}") from error
    return flow.eval(), architecture


def _fill(flow, tensors: dict) -> None:
    """Set every weight; ValueError names what is missing or foreign."""
    found = flow.load_state_dict(tensors, strict=False)
    missing = [name for name in found.missing_keys if not name.endswith(_DERIVED)]
    if missing or found.unexpected_keys:
        raise ValueError(f"missing {missing[:3]}, unexpected {found.unexpected_keys[:3]}")

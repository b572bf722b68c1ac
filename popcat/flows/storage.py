"""A flow on disk: weights as safetensors, architecture as JSON. Nothing is ever unpickled."""

import json

import safetensors
import safetensors.torch

from popcat.errors import PopcatError
from popcat.flows.architecture import Architecture, build_flow


def flow_to_bytes(flow, architecture: Architecture) -> bytes:
    """Weights as a safetensors file with the architecture in its header."""
    tensors = {name: value.contiguous() for name, value in flow.state_dict().items()}
    return safetensors.torch.save(tensors, metadata={"architecture": architecture.model_dump_json()})


def flow_from_file(path):
    """A flow that `flow_to_bytes` stored, in evaluation mode, and its architecture.

    Raises PopcatError if the file is missing, damaged, or of another architecture.
    """
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            architecture = Architecture.model_validate(json.loads(file.metadata()["architecture"]))
        flow = build_flow(architecture)
        flow.load_state_dict(safetensors.torch.load_file(str(path)))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise PopcatError(f"{path} holds no flow that popcat stored: {error}") from error
    return flow.eval(), architecture

"""Where tensors are: a copy of an object with every tensor in it on another device."""

import copy
from typing import TypeVar

import torch

T = TypeVar("T")


def moved(value: T, device: "str | torch.device") -> T:
    """A copy with every tensor on a device: of a tensor, a module, or an object, list, tuple or dict that holds some.

    >>> moved({"a": [torch.ones(2)]}, "meta")["a"][0].device.type
    'meta'
    """
    return _moved(value, torch.device(device), {})


def _moved(value, device, known):
    if id(value) in known:
        return known[id(value)]
    if isinstance(value, torch.nn.Module):
        found = copy.deepcopy(value).to(device)
    elif isinstance(value, torch.Tensor):
        found = value.to(device)
    elif isinstance(value, list | tuple):
        parts = [_moved(part, device, known) for part in value]
        found = type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    elif isinstance(value, dict):
        found = {key: _moved(part, device, known) for key, part in value.items()}
    elif hasattr(value, "__dict__") and not callable(value):
        found = copy.copy(value)
        vars(found).update({name: _moved(part, device, known) for name, part in vars(value).items()})
    else:
        found = value
    known[id(value)] = found
    return found

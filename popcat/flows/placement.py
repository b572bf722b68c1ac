"""Where tensors are: a copy of an object with every tensor in it on another device."""

import copy
from typing import TypeVar

import torch

from popcat.errors import PopcatError

T = TypeVar("T")


def require_device(device: str) -> None:
    """PopcatError unless torch can use a device here, such as "cpu", "cuda" or "cuda:1".

    >>> require_device("cpu")
    """
    try:
        named = torch.device(device)
        module = torch.get_device_module(named)
        good = module.is_available() and (named.index or 0) < module.device_count()
    except (RuntimeError, AttributeError):
        good = False
    if not good:
        raise PopcatError(f'no device "{device}" that torch can use here, expected "cpu", or "cuda" where there is a '
                          "GPU: `popcat doctor` says what there is")


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

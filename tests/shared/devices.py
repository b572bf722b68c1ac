"""The devices that torch's code is tested on, and what holds it to them."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


class NothingElsewhere(TorchDispatchMode):
    """Refuses an operation that makes a tensor of numbers on another device from tensors of this one."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        there = [one for one in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        made = [one for one in torch.utils._pytree.tree_leaves(result) if isinstance(one, torch.Tensor)]
        if any(one.device.type == "meta" for one in there):
            assert all(one.device.type == "meta" for one in made), function
        elif made and not there:
            # constants come from numpy, and leave for the device at once
            assert all(one.device.type == "meta" or one.numel() <= 1 for one in made), function
        return result

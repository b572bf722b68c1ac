"""Matrix products of single precision on the CPU through oneDNN, where torch carries it.

torch's own products go through MKL, which leaves half of the AVX-512 units of AMD processors idle: oneDNN, which torch
carries too, multiplies the matrices of a flow 1.5 to 2 times faster there and as fast as MKL elsewhere.
"""

import functools

import torch


def matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The product of two matrices, any strides, without a graph for gradients.

    >>> matmul(torch.eye(2), torch.ones(2, 3)).shape
    torch.Size([2, 3])
    """
    if a.dtype == torch.float32 and a.device.type == "cpu" and a.shape[0] and b.shape[1] and onednn_works():
        return torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")
    return torch.mm(a, b)


@functools.cache
def onednn_works() -> bool:
    """Whether this torch has the operator, which is not part of its public interface, and it multiplies."""
    a = torch.arange(12.0).reshape(3, 4)
    try:
        product = torch.ops.mkldnn._linear_pointwise(a, a, None, "none", [], "")
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    return torch.equal(product, torch.mm(a, a.t()))

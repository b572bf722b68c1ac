"""Band fluxes that torch can differentiate, on the CPU: the numba kernels and their own gradient.

Backward multiplies the Jacobian by the incoming vector, which the kernel can do only once it knows that vector: it
computes the fluxes again, so that nothing is stored between the passes but theta and redshift.
"""

import numpy as np
import torch

from popcat.sps.photometry import Photometry


class _Flux(torch.autograd.Function):
    @staticmethod
    def forward(ctx, photometry, theta, redshift):
        ctx.photometry = photometry
        ctx.save_for_backward(theta, redshift)
        return torch.from_numpy(photometry.flux(_array(theta), _array(redshift))).to(theta)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v):
        theta, redshift = ctx.saved_tensors
        _, grad, grad_z = ctx.photometry.flux_vjp(_array(theta), _array(redshift), _array(v))
        return None, torch.from_numpy(grad).to(theta), torch.from_numpy(grad_z).to(redshift)


def differentiable_flux(photometry: Photometry, theta: torch.Tensor, redshift: torch.Tensor) -> torch.Tensor:
    """Fluxes in nMgy (n, n_band) of theta (n, d) at redshift (n,), differentiable once in both.

    Computed on the CPU in float64; the result has theta's type and device.

    Raises PopcatError as `Photometry.flux` does.
    """
    return _Flux.apply(photometry, theta, redshift)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(np.float64)

"""What an autoregressive block does to one dimension, given its outputs: affine (MAF) or a spline.

Arrays are feature-major: outputs of all dimensions are (n_out, n_dim, n), those of one dimension (n_out, n).
"""

import torch
from torch.nn import functional

from popcat.flows.architecture import SMALLEST
from popcat.flows.splines import n_spline_outputs, spline


def elementwise_of(transform):
    """The elementwise part of an nflows autoregressive transform from `build_flow`."""
    return Spline(transform.num_bins, transform.tail_bound) if hasattr(transform, "num_bins") else Affine()


class Affine:
    """z = scale x + shift, scale = softplus(raw) + smallest."""

    n_out = 2

    def forward(self, out, x, *, keep=True):
        """z, log|det| (n,), and what `backward` needs."""
        raw, shift = out
        scale = functional.softplus(raw).add_(SMALLEST)
        return torch.addcmul(shift, scale, x), torch.log(scale).sum(0), (raw, scale, x)

    def backward(self, kept, g):
        """Gradients of a loss - mean log|det| + ... by the outputs and by x, given g, that by z."""
        raw, scale, x = kept
        by_scale = torch.addcmul(torch.reciprocal(scale).mul_(-1 / g.shape[1]), g, x)
        return torch.stack([by_scale.mul_(torch.sigmoid(raw)), g]), g * scale

    def solver(self, x, out):
        """Solves for x in place, one dimension after the other."""
        return _AffineSolver(x, out)


class Spline:
    """z = spline(x)."""

    def __init__(self, n_bins: int, bound: float):
        self.n_out, self.bound = n_spline_outputs(n_bins), bound

    def forward(self, out, x, *, keep=True):
        """z, log|det| (n,), and what `backward` needs: a small graph."""
        if not keep:
            z, log_slope = spline(out, x, self.bound)
            return z, log_slope.sum(0), None
        with torch.enable_grad():
            out, x = out.detach().requires_grad_(), x.detach().requires_grad_()
            z, log_slope = spline(out, x, self.bound)
            log_det = log_slope.sum(0)
        return z.detach(), log_det.detach(), (out, x, z, log_det)

    def backward(self, kept, g):
        """Gradients of a loss - mean log|det| + ... by the outputs and by x, given g, that by z."""
        out, x, z, log_det = kept
        return torch.autograd.grad([z, log_det], [out, x], [g, torch.full_like(log_det, -1 / g.shape[1])])

    def solver(self, x, out):
        """Solves for x in place, one dimension after the other."""
        return _SplineSolver(x, out, self)


class _AffineSolver:
    """x = (noise - shift) / scale."""

    def __init__(self, x, out):
        self.scale = torch.empty_like(x)
        self.views = list(zip(out[0::2].unbind(), out[1::2].unbind(), self.scale.unbind(), x.unbind(), strict=True))

    def solve(self, d, noise):
        raw, shift, scale, x = self.views[d]
        torch.ops.aten.softplus.out(raw, out=scale).add_(SMALLEST)
        torch.sub(noise, shift, out=x).div_(scale)

    def log_det(self):
        """log|dx/dnoise| (n,)."""
        return -torch.log(self.scale).sum(0)


class _SplineSolver:
    """x = spline^-1(noise)."""

    def __init__(self, x, out, elementwise):
        self.log_slope, self.bound = torch.empty_like(x), elementwise.bound
        self.views = list(zip(out.view(len(x), elementwise.n_out, -1).unbind(), x.unbind(), strict=True))

    def solve(self, d, noise):
        out, x = self.views[d]
        value, self.log_slope[d] = spline(out, noise, self.bound, inverse=True)
        x.copy_(value)

    def log_det(self):
        """log|dx/dnoise| (n,)."""
        return self.log_slope.sum(0)

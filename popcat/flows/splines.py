"""What a block of a flow does to one dimension, affine (MAF) or a spline; and the coupling flow of such splines.

Arrays are feature-major: outputs of all dimensions are (n_out, n_dim, n), those of one dimension (n_out, n).

Monotonic rational-quadratic splines with linear tails (Durkan et al. 2019), equal to nflows', parameters first. Where
rounding takes the root of an inverse out of its domain nflows stops; here it stays on the edge.

A coupling flow transforms half of the dimensions given the other half, so its inverse costs one pass, as the density
does. Its networks are nflows'.
"""

import torch
from torch.nn import functional

from popcat.flows.architecture import FARTHEST, SMALLEST, Block, blocks_of
from popcat.flows.optimizer import backward


def elementwise_of(block: Block):
    """The elementwise part of an autoregressive block."""
    return Spline(block.n_bins, block.bound) if block.n_bins else Affine()


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
        torch.sub(noise, shift, out=x).div_(scale).clamp_(-FARTHEST, FARTHEST)

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


def n_spline_outputs(n_bins: int) -> int:
    """Raw parameters of one spline: widths, heights and inner slopes.

    >>> n_spline_outputs(8)
    23
    """
    return 3 * n_bins - 1


def spline(raw: torch.Tensor, x: torch.Tensor, bound: float, *, inverse: bool = False):
    """The spline of x (...) with raw parameters (3 n_bins - 1, ...), or its inverse, and the log of its slope.

    Outside of +-bound it is the identity.

    >>> y, _ = spline(torch.zeros(5, 1), torch.tensor([0.5]), 1.0)
    >>> spline(torch.zeros(5, 1), y, 1.0, inverse=True)[0]
    tensor([0.5000])
    """
    n_bins = (len(raw) + 1) // 3
    x_edges, y_edges = _edges(raw[:n_bins], bound), _edges(raw[n_bins : 2 * n_bins], bound)
    slopes = functional.pad(SMALLEST + functional.softplus(raw[2 * n_bins :]), (0, 0) * x.dim() + (1, 1), value=1.0)
    inside = x.clamp(-bound, bound)
    bins = (inside >= (y_edges if inverse else x_edges)[1:-1]).sum(0, keepdim=True)
    knots = torch.stack([x_edges, y_edges, slopes])
    left, right = (knots.gather(1, i.expand(3, *i.shape)).squeeze(1) for i in (bins, bins + 1))
    y, log_slope = (_inverse_in_bin if inverse else _forward_in_bin)(inside, left, right)
    outside = x.abs() > bound
    return torch.where(outside, x, y), torch.where(outside, 0.0, log_slope)


def _edges(raw, bound):
    """Edges of the bins from -bound to bound."""
    sizes = SMALLEST + (1 - SMALLEST * len(raw)) * torch.softmax(raw, 0)
    inner = 2 * bound * torch.cumsum(sizes[:-1], 0) - bound
    return functional.pad(
        functional.pad(inner, (0, 0) * (raw.dim() - 1) + (1, 0), value=-bound),
        (0, 0) * (raw.dim() - 1) + (0, 1),
        value=bound,
    )


def _forward_in_bin(x, left, right):
    (x0, y0, d0), (x1, y1, d1) = left, right
    secant = (y1 - y0) / (x1 - x0)
    t = (x - x0) / (x1 - x0)
    numerator = (y1 - y0) * (secant * t * t + d0 * t * (1 - t))
    return y0 + numerator / _denominator(t, secant, d0, d1), _log_slope(t, secant, d0, d1)


def _inverse_in_bin(y, left, right):
    (x0, y0, d0), (x1, y1, d1) = left, right
    secant, rise = (y1 - y0) / (x1 - x0), y - y0
    bend = rise * (d0 + d1 - 2 * secant)
    a, b, c = bend + (y1 - y0) * (secant - d0), (y1 - y0) * d0 - bend, -secant * rise
    root = torch.sqrt((b * b - 4 * a * c).clamp_min(0))
    t = (2 * c / (-b - root)).clamp(0, 1)
    return x0 + t * (x1 - x0), -_log_slope(t, secant, d0, d1)


def _denominator(t, secant, d0, d1):
    return secant + (d0 + d1 - 2 * secant) * t * (1 - t)


def _log_slope(t, secant, d0, d1):
    numerator = d1 * t * t + 2 * secant * t * (1 - t) + d0 * (1 - t) ** 2
    return 2 * torch.log(secant) + torch.log(numerator) - 2 * torch.log(_denominator(t, secant, d0, d1))


class Coupling:
    """The density of a "coupling" flow."""

    def __init__(self, flow):
        self.flow = flow

    def frozen(self) -> "Coupling":
        """The weights are not masked, so there is nothing to keep."""
        return self

    @torch.no_grad()
    def log_prob(self, theta: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """log q(theta | context), (n,) in nats; theta is (n, features), context (n / k, n_context), each row for k."""
        n_repeat = len(theta) // max(len(context), 1)
        return self.flow.log_prob(theta, context.repeat_interleave(n_repeat, dim=0))

    def loss_and_gradients(self, theta: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Minus the mean of log q in nats; the flow's `.grad`, which must be there, become its gradients."""
        return backward(self.flow, -self.flow.log_prob(theta, context).mean())


class CouplingInverse:
    """The inverse of one coupling block, feature-major; differentiable in the flow's weights."""

    def __init__(self, block: Block):
        self.block, self.n_size_outputs = block, 2 * block.n_bins

    def context_term(self, context: torch.Tensor) -> torch.Tensor:
        """The context, feature-major."""
        return context.t()

    def work(self, n: int, like: torch.Tensor) -> None:
        """It needs no buffers."""

    def inverse(self, noise: torch.Tensor, term: torch.Tensor, work: None) -> tuple[torch.Tensor, torch.Tensor]:
        """x (n_dim, n) of noise (n_dim, n), n = galaxies x draws, and log|det| of the inverse (n,)."""
        halves, n = self.block.network, noise.shape[1]
        context = term.repeat_interleave(n // max(term.shape[1], 1), dim=1).t()
        raw = halves.net(noise[halves.given].t(), context).t().view(len(halves.changed), -1, n).transpose(0, 1)
        raw = torch.cat([raw[: self.n_size_outputs] * halves.scale, raw[self.n_size_outputs :]])
        x = noise.clone()
        x[halves.changed], log_slope = spline(raw, noise[halves.changed], self.block.bound, inverse=True)
        return x, log_slope.sum(0)


def draw(flow, noise: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """x (n, n_dim) of a coupling flow from standard normal noise (n, n_dim), with gradients in the flow's weights.

    context is (1, n_context), or one row for each row of the noise.
    """
    x = noise.t()
    for block in reversed(blocks_of(flow)):
        inverse = CouplingInverse(block)
        x, _ = inverse.inverse(x, inverse.context_term(context), None)
        x = x.index_select(0, torch.argsort(block.permutation))
    return x.t()

"""Monotonic rational-quadratic splines with linear tails (Durkan et al. 2019), equal to nflows', parameters first.

Where rounding takes the root of an inverse out of its domain nflows stops; here it stays on the edge.
"""

import torch
from torch.nn import functional

from popcat.flows.architecture import SMALLEST


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

"""Splines are monotonic, invert themselves, end where they should, and equal those of nflows."""

import pytest
import torch
from nflows.transforms.splines.rational_quadratic import unconstrained_rational_quadratic_spline

from popcat.flows.splines import n_spline_outputs, spline

BOUND = 5.0


def raw_and_points(n_bins=6, n=2000, dtype=torch.float64, spread=2.0):
    torch.manual_seed(n_bins)
    raw = spread * torch.randn(n_spline_outputs(n_bins), n, dtype=dtype)
    return raw, 2.5 * torch.randn(n, dtype=dtype)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("n_bins", [2, 6, 20])
def test_values_and_slopes_equal_those_of_nflows(n_bins, inverse):
    raw, x = raw_and_points(n_bins)
    parts = (raw[:n_bins].t(), raw[n_bins : 2 * n_bins].t(), raw[2 * n_bins :].t())
    expected = unconstrained_rational_quadratic_spline(x, *parts, inverse=inverse, tail_bound=BOUND)
    for value, other in zip(spline(raw, x, BOUND, inverse=inverse), expected, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-7, atol=1e-7)


def test_the_inverse_inverts_value_and_slope():
    raw, x = raw_and_points()
    y, log_slope = spline(raw, x, BOUND)
    back, log_slope_back = spline(raw, y, BOUND, inverse=True)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-7)
    torch.testing.assert_close(log_slope_back, -log_slope, rtol=0, atol=1e-5)


def test_a_spline_rises_through_both_ends_and_is_the_identity_beyond():
    raw, _ = raw_and_points(n=1)
    x = torch.linspace(-7, 7, 4001, dtype=torch.float64)
    y, log_slope = spline(raw.expand(-1, len(x)), x, BOUND)
    assert (y.diff() > 0).all()
    outside = x.abs() > BOUND
    assert torch.equal(y[outside], x[outside]) and (log_slope[outside] == 0).all()


def test_the_slope_is_the_derivative():
    raw, x = raw_and_points()
    x.requires_grad_()
    y, log_slope = spline(raw, x, BOUND)
    (derivative,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(log_slope, derivative.log(), rtol=1e-8, atol=1e-8)


def test_steep_splines_stay_finite_and_within_their_bounds_in_single_precision():
    raw, y = raw_and_points(n=200_000, dtype=torch.float32, spread=8.0)
    x, log_slope = spline(raw, y.clamp(-BOUND, BOUND), BOUND, inverse=True)
    assert torch.isfinite(x).all() and torch.isfinite(log_slope).all()
    assert (x.abs() <= BOUND + 1e-5).all()

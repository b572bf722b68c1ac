"""The density and its gradients are held to nflows and to autograd."""

import pytest
import torch

from popcat.flows import autoregressive
from popcat.flows.architecture import Architecture, build_flow
from popcat.flows.sampler import density_of

SHAPES = {
    "two dimensions": Architecture(features=2, context=1, n_blocks=1, hidden=4, n_layers=1),
    "as embedded": Architecture(features=11, context=12, n_blocks=8, hidden=128, n_layers=2),
    "SiLU": Architecture(features=11, context=12, n_blocks=4, hidden=64, n_layers=2, activation="silu"),
    "spline": Architecture(family="spline", features=5, context=3, n_blocks=2, hidden=24, n_layers=2),
    "coupling": Architecture(family="coupling", features=5, context=3, n_blocks=3, hidden=24, n_layers=2),
    "deep": Architecture(features=4, context=3, n_blocks=2, hidden=33, n_layers=4),
    "fewer units than dimensions": Architecture(features=9, context=2, n_blocks=2, hidden=5, n_layers=2),
}


def make(architecture, dtype=torch.float32, n=50):
    torch.manual_seed(0)
    flow = build_flow(architecture)
    theta, context = torch.randn(n, architecture.features), torch.randn(n, architecture.context)
    for value in flow.parameters():
        value.data += 0.1 * torch.randn_like(value)
    return flow.to(dtype), theta.to(dtype), context.to(dtype)


def gradients_of(flow, loss):
    """By autograd; afterwards the flow's gradients hold rubbish, which a step must replace."""
    by_autograd = torch.autograd.grad(loss, list(flow.parameters()))
    for value in flow.parameters():
        value.grad = torch.full_like(value, 7.0)
    return by_autograd


@pytest.mark.parametrize("shape", SHAPES)
def test_the_density_equals_that_of_nflows(shape):
    flow, theta, context = make(SHAPES[shape])
    expected = flow.log_prob(theta, context).detach()
    torch.testing.assert_close(density_of(flow).log_prob(theta, context), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_loss_and_gradients_equal_those_of_autograd(shape):
    flow, theta, context = make(SHAPES[shape], torch.float64)
    loss = -flow.log_prob(theta, context).mean()
    expected = gradients_of(flow, loss)
    assert density_of(flow).loss_and_gradients(theta, context).item() == pytest.approx(loss.item(), rel=1e-12)
    for value, gradient in zip(flow.parameters(), expected, strict=True):
        torch.testing.assert_close(value.grad, gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("onednn", [True, False])
def test_single_precision_gradients_are_good_with_and_without_onednn(monkeypatch, onednn):
    if not onednn:
        monkeypatch.setattr("popcat.flows.autoregressive.onednn_works", lambda: False)
    flow, theta, context = make(SHAPES["as embedded"])
    exact = make(SHAPES["as embedded"], torch.float64)
    expected = gradients_of(exact[0], -exact[0].log_prob(*exact[1:]).mean())
    gradients_of(flow, flow.log_prob(theta, context).mean())
    density_of(flow).loss_and_gradients(theta, context)
    for value, gradient in zip(flow.parameters(), expected, strict=True):
        torch.testing.assert_close(value.grad.double(), gradient, rtol=0, atol=1e-5 * gradient.abs().max().item())


def test_masked_weights_have_no_gradient():
    flow, theta, context = make(SHAPES["as embedded"])
    gradients_of(flow, flow.log_prob(theta, context).mean())
    density_of(flow).loss_and_gradients(theta, context)
    layers = [layer for layer in flow.modules() if hasattr(layer, "mask")]
    assert len(layers) == 8 * 4
    assert all((layer.weight.grad[layer.mask == 0] == 0).all() for layer in layers)


@pytest.mark.parametrize("shapes", [((3, 4), (4, 5)), ((1, 1), (1, 1)), ((0, 4), (4, 5)), ((3, 4), (4, 0))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_equal_those_of_torch_for_any_strides(shapes, dtype):
    torch.manual_seed(0)
    a, b = (torch.randn(shape, dtype=dtype) for shape in shapes)
    for left in (a, a.t().contiguous().t()):
        for right in (b, b.t().contiguous().t()):
            torch.testing.assert_close(autoregressive.matmul(left, right), a @ b)

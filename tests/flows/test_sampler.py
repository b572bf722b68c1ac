"""The inverse that popcat writes out is held to nflows' own inverse and density, on the same noise."""

import numpy as np
import pytest
import torch
from random_flows import by_nflows, inputs, make_flow

from popcat.flows import autoregressive
from popcat.flows import sampler as sampler_module
from popcat.flows.architecture import Architecture
from popcat.flows.sampler import BlockByBlock, Sampler

SHAPES = {
    "two dimensions": Architecture(features=2, context=1, n_blocks=1, hidden=4, n_layers=1),
    "as embedded": Architecture(features=11, context=12, n_blocks=4, hidden=64, n_layers=2),
    "one layer": Architecture(features=5, context=3, n_blocks=3, hidden=24, n_layers=1),
    "deep": Architecture(features=4, context=3, n_blocks=2, hidden=33, n_layers=4),
    "fewer units than dimensions": Architecture(features=9, context=2, n_blocks=2, hidden=5, n_layers=2),
    "SiLU": Architecture(features=6, context=4, n_blocks=3, hidden=32, n_layers=2, activation="silu"),
    "spline": Architecture(family="spline", features=5, context=3, n_blocks=3, hidden=24, n_layers=2),
    "spline of three bins": Architecture(
        family="spline", features=4, context=2, n_blocks=1, hidden=9, n_layers=1, n_bins=3
    ),
    "coupling": Architecture(family="coupling", features=7, context=3, n_blocks=4, hidden=24, n_layers=2),
    "odd": Architecture(features=7, context=13, n_blocks=5, hidden=17, n_layers=3),
}
SCALES = {"initial": 1.0, "trained": 2.0}


def deviation(draws, expected):
    """Largest difference in standard deviations."""
    return ((draws - expected).abs() / expected.std(dim=(0, 1))).max()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", SHAPES)
def test_draws_and_log_q_equal_those_of_nflows_in_double_precision(shape, scale):
    flow = make_flow(SHAPES[shape], SCALES[scale]).double()
    noise, context = inputs(SHAPES[shape], dtype=torch.float64)
    draws, log_q = Sampler(flow).transform(noise, context)
    expected_draws, expected_log_q = by_nflows(flow, noise, context)
    torch.testing.assert_close(draws, expected_draws, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(log_q, expected_log_q, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("sampled", [lambda flow: Sampler(flow).transform, lambda flow: BlockByBlock(flow).inverse])
@pytest.mark.parametrize("shape", SHAPES)
def test_single_precision_is_good_to_a_small_part_of_a_standard_deviation(shape, sampled):
    flow = make_flow(SHAPES[shape])
    noise, context = inputs(SHAPES[shape])
    draws, log_q = sampled(flow)(noise, context)
    exact, exact_log_q = by_nflows(flow.double(), noise.double(), context.double())
    assert deviation(draws, exact) < 1e-4
    assert (log_q - exact_log_q).abs().max() < 1e-3


def test_noise_comes_back_through_the_forward_pass():
    flow = make_flow(SHAPES["as embedded"]).double()
    noise, context = inputs(SHAPES["as embedded"], dtype=torch.float64)
    draws, _ = Sampler(flow).transform(noise, context)
    with torch.no_grad():
        back, _ = flow._transform(draws.flatten(0, 1), context.repeat_interleave(10, dim=0))
    torch.testing.assert_close(back.reshape(noise.shape), noise, rtol=0, atol=1e-8)


@pytest.mark.parametrize("chunk", [1, 7, 30, 1_000_000])
def test_chunks_do_not_change_the_draws(monkeypatch, chunk):
    architecture = SHAPES["as embedded"]
    flow, (noise, context) = make_flow(architecture), inputs(architecture)
    draws, log_q = BlockByBlock(flow).inverse(noise, context)
    monkeypatch.setattr(sampler_module, "CHUNK", chunk)
    again, log_q_again = BlockByBlock(flow).inverse(noise, context)
    assert deviation(again, draws) < 1e-5
    torch.testing.assert_close(log_q_again, log_q, rtol=0, atol=1e-4)


def test_a_galaxy_alone_has_the_draws_it_has_in_a_batch():
    architecture = SHAPES["as embedded"]
    flow, (noise, context) = BlockByBlock(make_flow(architecture)), inputs(architecture, n_galaxy=50)
    together, _ = flow.inverse(noise, context)
    alone = torch.cat([flow.inverse(noise[i : i + 1], context[i : i + 1])[0] for i in range(50)])
    assert deviation(alone, together) < 1e-5


def test_the_draws_follow_the_density():
    """With p = exp(log_q) the mean of 1_A / p over draws is the area of A, here a square that holds many draws."""
    flow = make_flow(SHAPES["two dimensions"])
    noise, context = inputs(SHAPES["two dimensions"], n_galaxy=1, n_draw=200_000)
    draws, log_q = Sampler(flow).transform(noise, context)
    inside = ((draws - draws.median(1, keepdim=True).values).abs() < 0.5 * draws.std(1, keepdim=True)).all(-1)
    area = draws.std(1).prod().item()
    assert (inside / log_q.exp()).mean().item() == pytest.approx(area, rel=0.02)


def test_sampling_needs_and_keeps_no_gradient():
    architecture = SHAPES["one layer"]
    flow, (noise, context) = make_flow(architecture), inputs(architecture)
    before = noise.clone()
    draws, log_q = Sampler(flow).transform(noise, context.requires_grad_())
    assert not draws.requires_grad and not log_q.requires_grad
    assert all(value.grad is None for value in flow.parameters())
    assert torch.equal(noise, before)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_density_of_draws_is_the_log_q_that_came_with_them(shape):
    flow = make_flow(SHAPES[shape]).double()
    sampler, (noise, context) = Sampler(flow), inputs(SHAPES[shape], dtype=torch.float64)
    draws, log_q = sampler.transform(noise, context)
    torch.testing.assert_close(sampler.log_prob(draws, context), log_q, rtol=1e-9, atol=1e-9)


def test_the_density_takes_any_points_in_chunks(monkeypatch):
    monkeypatch.setattr(sampler_module, "CHUNK", 30)
    architecture = SHAPES["as embedded"]
    flow, (points, context) = make_flow(architecture), inputs(architecture, n_galaxy=7)
    with torch.no_grad():
        expected = flow.log_prob(points.flatten(0, 1), context.repeat_interleave(10, dim=0)).reshape(7, 10)
    for density in (Sampler(flow), BlockByBlock(flow)):
        torch.testing.assert_close(density.log_prob(points, context), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("panel", [1, 3, 11])
def test_panels_do_not_change_the_draws(monkeypatch, panel):
    architecture = SHAPES["as embedded"]
    flow, (noise, context) = make_flow(architecture), inputs(architecture)
    draws, _ = BlockByBlock(flow).inverse(noise, context)
    monkeypatch.setattr(autoregressive, "PANEL", panel)
    assert deviation(BlockByBlock(flow).inverse(noise, context)[0], draws) < 1e-5


@pytest.mark.parametrize(("n_galaxy", "n_draw"), [(0, 4), (3, 1), (1, 5000)])
def test_any_number_of_galaxies_and_draws_keeps_its_shape(n_galaxy, n_draw):
    architecture = SHAPES["one layer"]
    draws, log_q = Sampler(make_flow(architecture)).transform(*inputs(architecture, n_galaxy, n_draw))
    assert draws.shape == (n_galaxy, n_draw, 5) and log_q.shape == (n_galaxy, n_draw)
    assert np.isfinite(draws.numpy()).all() and np.isfinite(log_q.numpy()).all()

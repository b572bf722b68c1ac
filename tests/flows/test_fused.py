"""The fused kernel is held to nflows and to the inverse and density in torch."""

import pytest
import torch
from random_flows import by_nflows, inputs, make_flow

from popcat.flows.architecture import Architecture, blocks_of, build_flow
from popcat.flows.fused import Fused, fits
from popcat.flows.sampler import BlockByBlock, Sampler

SHAPES = [
    *(Architecture(features=n, context=3, n_blocks=3, hidden=40, n_layers=2) for n in range(2, 15)),
    Architecture(features=10, context=17, n_blocks=8, hidden=128, n_layers=2),
    Architecture(features=6, context=5, n_blocks=2, hidden=31, n_layers=1),
    Architecture(features=7, context=1, n_blocks=5, hidden=53, n_layers=3),
    Architecture(features=3, context=2, n_blocks=1, hidden=1, n_layers=1),
    Architecture(features=12, context=4, n_blocks=2, hidden=7, n_layers=2),
]


def name_of(shape):
    return f"{shape.features} dimensions, {shape.n_blocks} x {shape.n_layers} x {shape.hidden}"


def close(found, exact):
    """In units of the standard deviation, or of one nat."""
    spread = exact.std((0, 1)) if exact.dim() == 3 else 1.0
    return ((found - exact).abs() / spread).max() < 1e-5


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
def test_draws_and_densities_equal_those_of_torch_and_of_nflows(shape, activation):
    flow = make_flow(shape.model_copy(update={"activation": activation}))
    noise, context = inputs(shape, n_galaxy=40, n_draw=9)
    assert fits(blocks_of(flow))
    draws, log_q = Fused(blocks_of(flow)).inverse(noise, context)
    density = Fused(blocks_of(flow)).log_prob(draws, context)
    flow, noise, context = flow.double(), noise.double(), context.double()
    exact, _ = by_nflows(flow, noise, context)
    torch_draws, torch_log_q = BlockByBlock(flow).inverse(noise, context)
    assert close(draws, exact) and close(draws, torch_draws)
    assert (log_q - torch_log_q).abs().max() < 1e-4
    assert (density - BlockByBlock(flow).log_prob(draws.double(), context)).abs().max() < 1e-4


@pytest.mark.parametrize("n_draw", [1, 3, 16, 100])
def test_a_galaxy_alone_has_the_very_draws_it_has_in_a_batch(n_draw):
    shape = SHAPES[9]
    fused, (noise, context) = Fused(blocks_of(make_flow(shape))), inputs(shape, n_galaxy=70, n_draw=n_draw)
    together, log_q = fused.inverse(noise, context)
    for i in (0, 1, 63, 64, 69):
        alone, log_q_alone = fused.inverse(noise[i : i + 1], context[i : i + 1])
        assert torch.equal(alone[0], together[i]) and torch.equal(log_q_alone[0], log_q[i])
        assert torch.equal(fused.log_prob(alone, context[i : i + 1])[0], fused.log_prob(together, context)[i])


def test_a_draw_is_the_same_whether_its_galaxy_has_one_context_or_each_draw_its_own():
    shape = SHAPES[9]
    fused, (noise, context) = Fused(blocks_of(make_flow(shape))), inputs(shape, n_galaxy=5, n_draw=50)
    draws, _ = fused.inverse(noise, context)
    apart, _ = fused.inverse(noise.reshape(250, 1, -1), context.repeat_interleave(50, dim=0))
    assert torch.equal(apart.reshape(draws.shape), draws)


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_extreme_outputs_keep_scale_and_log_q_right(activation):
    """Raw scales of -200 to 200: softplus is the number itself, or zero, and the smallest scale remains."""
    shape = Architecture(features=4, context=2, n_blocks=1, hidden=9, n_layers=1, activation=activation)
    flow, (noise, context) = make_flow(shape), inputs(shape)
    with torch.no_grad():
        blocks_of(flow)[0].network.layers[-1].bias.view(4, 2)[:, 0] = torch.tensor([-200.0, 200.0, -15.0, 15.0])
    draws, log_q = Fused(blocks_of(flow)).inverse(noise, context)
    exact, exact_log_q = BlockByBlock(flow.double()).inverse(noise.double(), context.double())
    torch.testing.assert_close(draws.double(), exact, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(log_q.double(), exact_log_q, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_a_context_that_is_no_number_gives_draws_that_are_none(activation):
    shape = Architecture(features=4, context=2, n_blocks=2, hidden=20, n_layers=2, activation=activation)
    noise, context = inputs(shape)
    context[2] = torch.nan
    draws, log_q = Fused(blocks_of(make_flow(shape))).inverse(noise, context)
    assert draws[2].isnan().all() and log_q[2].isnan().all()
    others = torch.arange(len(draws)) != 2
    assert draws[others].isfinite().all() and log_q[others].isfinite().all()


def test_inputs_of_any_strides_and_with_gradients_are_taken():
    shape = SHAPES[3]
    fused, (noise, context) = Fused(blocks_of(make_flow(shape))), inputs(shape)
    draws, log_q = fused.inverse(noise, context)
    strided = noise.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    again, log_q_again = fused.inverse(strided, context.t().contiguous().t().requires_grad_())
    assert torch.equal(again, draws) and torch.equal(log_q_again, log_q) and not again.requires_grad


@pytest.mark.parametrize(("family", "dtype"), [("spline", "float32"), ("coupling", "float32"), ("maf", "float64")])
def test_other_families_and_double_precision_stay_in_torch(family, dtype):
    shape = Architecture(family=family, features=4, context=2, n_blocks=1, hidden=9, n_layers=1)
    flow = build_flow(shape).to(getattr(torch, dtype))
    assert not fits(blocks_of(flow))
    assert isinstance(Sampler(flow)._flow, BlockByBlock)


def test_another_device_stays_in_torch():
    shape = Architecture(features=4, context=2, n_blocks=1, hidden=9, n_layers=1)
    assert not fits(blocks_of(build_flow(shape).to("meta")))

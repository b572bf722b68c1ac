"""A mixture draws from its members in proportion, and knows its density exactly."""

import pytest
import torch

from popcat.flows.architecture import Architecture, build_flow
from popcat.flows.sampler import Mixture, Sampler, make_sampler, member_settings, stacking_weights
from popcat.flows.settings import Training

SHAPE = Architecture(features=3, context=2, n_blocks=2, hidden=16, n_layers=2)


def flows(n=3, dtype=torch.float64):
    torch.manual_seed(0)
    made = [build_flow(SHAPE) for _ in range(n)]
    for flow in made:
        for value in flow.parameters():
            value.data += 0.1 * torch.randn_like(value)
    return [flow.to(dtype).eval() for flow in made]


def inputs(n_galaxy=5, n_draw=40, dtype=torch.float64):
    torch.manual_seed(1)
    noise, context = torch.randn(n_galaxy, n_draw, 3, dtype=dtype), torch.randn(n_galaxy, 2, dtype=dtype)
    return noise, context, torch.rand(n_galaxy, n_draw, dtype=dtype)


def test_each_draw_is_that_of_the_member_its_number_stands_for():
    members, (noise, context, uniform) = flows(), inputs()
    draws, _ = Mixture(members).transform(noise, context, uniform)
    of_each = torch.stack([Sampler(flow).transform(noise, context)[0] for flow in members])
    number = (3 * uniform).long()
    expected = of_each.gather(0, number[None, ..., None].expand(1, -1, -1, 3))[0]
    torch.testing.assert_close(draws, expected, rtol=1e-9, atol=1e-9)
    assert len(number.unique()) == 3


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 5.0], [0.0, 1.0, 1.0]])
def test_log_q_is_that_of_the_whole_mixture(weights):
    members, (noise, context, uniform) = flows(), inputs()
    draws, log_q = Mixture(members, weights).transform(noise, context, uniform)
    repeated = context.repeat_interleave(40, dim=0)
    with torch.no_grad():
        each = torch.stack([flow.log_prob(draws.flatten(0, 1), repeated) for flow in members]).exp()
    share = torch.tensor(weights or [1.0, 1.0, 1.0], dtype=torch.float64)
    expected = (each * (share / share.sum())[:, None]).sum(0).log().reshape(5, 40)
    torch.testing.assert_close(log_q, expected, rtol=1e-6, atol=1e-6)


def test_members_are_drawn_in_proportion_to_their_weights():
    uniform = (torch.arange(1000) + 0.5) / 1000
    counts = torch.bincount(Mixture(flows(), [1.0, 0.0, 3.0]).member_of(uniform), minlength=3)
    assert counts.tolist() == [250, 0, 750]


def test_draws_follow_the_mixture_density():
    """E[1 / q] over draws within a square is its area, as in the test of one flow."""
    members = flows(dtype=torch.float32)
    noise, context, uniform = inputs(1, 100_000, dtype=torch.float32)
    draws, log_q = make_sampler(members).transform(noise, context, uniform)
    inside = ((draws - draws.median(1, keepdim=True).values).abs() < 0.5 * draws.std(1, keepdim=True)).all(-1)
    assert (inside / log_q.exp()).mean().item() == pytest.approx(draws.std(1).prod().item(), rel=0.03)


def test_a_mixture_of_equals_is_the_flow_itself():
    (flow,), (noise, context, uniform) = flows(1), inputs()
    draws, log_q = Mixture([flow, flow]).transform(noise, context, uniform)
    alone, log_q_alone = make_sampler([flow]).transform(noise, context, uniform)
    torch.testing.assert_close(draws, alone, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(log_q, log_q_alone, rtol=1e-6, atol=1e-6)


def test_stacking_prefers_the_members_that_explain_more_and_never_loses_to_equal_weights():
    torch.manual_seed(0)
    log_prob = torch.randn(3, 5000) + torch.tensor([[0.0], [1.0], [-3.0]])
    weights = stacking_weights(log_prob)
    assert weights.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert weights[1] > weights[0] > weights[2]
    stacked, equal = (
        torch.logsumexp(log_prob + w.log()[:, None], 0).mean() for w in (weights, torch.full((3,), 1 / 3))
    )
    assert stacked > equal


def test_members_train_with_seeds_of_their_own():
    members = member_settings(Training(members=4, seed=2, hidden=32))
    assert len({member.seed for member in members}) == 4
    assert all(member.members == 1 and member.hidden == 32 for member in members)

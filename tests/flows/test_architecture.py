"""A flow from `build_flow` is a density, autoregressive, and conditional on its context."""

from concurrent.futures import ThreadPoolExecutor

import pydantic
import pytest
import torch

from popcat.flows.architecture import Architecture, architecture_for, blocks_of, build_flow
from popcat.flows.settings import Training

SMALL = Architecture(features=2, context=3, n_blocks=2, hidden=16, n_layers=1)


def test_the_density_integrates_to_one():
    torch.manual_seed(0)
    flow = build_flow(SMALL)
    axis = torch.linspace(-12, 12, 481)
    points = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = flow.log_prob(points, torch.ones(len(points), 3)).exp()
    assert density.sum().item() * (24 / 480) ** 2 == pytest.approx(1.0, abs=1e-3)


def test_every_made_is_autoregressive():
    torch.manual_seed(0)
    flow = build_flow(Architecture(features=4, context=3, n_blocks=3, hidden=32, n_layers=2))
    mades = [transform.autoregressive_net for transform in flow._transform._transforms[1::2]]
    assert len(mades) == 3
    for made in mades:
        jacobian = torch.autograd.functional.jacobian(lambda x, made=made: made(x, torch.ones(1, 3)), torch.zeros(1, 4))
        by_dimension = jacobian.reshape(4, 2, 4).abs().sum(1)
        assert torch.equal(by_dimension.triu(), torch.zeros(4, 4))
        assert by_dimension.tril(-1).sum() > 0


def test_the_context_changes_the_density():
    torch.manual_seed(0)
    flow = build_flow(SMALL)
    x = torch.zeros(1, 2)
    assert flow.log_prob(x, torch.zeros(1, 3)).item() != flow.log_prob(x, torch.ones(1, 3)).item()


@pytest.mark.parametrize(
    "wrong", [{"family": "nsf"}, {"features": 1}, {"context": 0}, {"n_blocks": 0}, {"depth": 3}, {"activation": "step"}]
)
def test_an_architecture_that_cannot_be_built_is_refused(wrong):
    with pytest.raises(pydantic.ValidationError, match=next(iter(wrong))):
        Architecture.model_validate(SMALL.model_dump() | wrong)


def test_training_settings_name_an_architecture():
    settings = Training(n_blocks=3, hidden=40, n_layers=1, activation="silu")
    expected = Architecture(features=5, context=4, n_blocks=3, hidden=40, n_layers=1, activation="silu")
    assert architecture_for(settings, features=5, context=4) == expected


def test_an_untrained_flow_is_about_as_wide_as_its_base():
    torch.manual_seed(0)
    flow = build_flow(Architecture(features=11, context=12, n_blocks=8, hidden=128, n_layers=2))
    draws = flow.sample(1, torch.randn(2000, 12)).detach()[:, 0]
    assert ((draws.std(0) > 0.8) & (draws.std(0) < 1.5)).all()


@pytest.mark.parametrize("features", [2, 3, 5, 12])
def test_a_coupling_flow_transforms_every_dimension_once_in_two_blocks(features):
    shape = Architecture(family="coupling", features=features, context=1, n_blocks=6, hidden=16, n_layers=1)
    position, count = torch.arange(features), torch.zeros(features)
    for i, block in enumerate(blocks_of(build_flow(shape))):
        position = position[block.permutation]
        count[position[block.network.changed]] += 1
        if i % 2:
            assert (count == (i + 1) // 2).all()


def test_a_seed_gives_the_same_weights_whatever_other_threads_make():
    """torch has one generator a process, and several workers may be threads of one."""
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda i: build_flow(SMALL, i % 2), range(40)))
    for i, flow in enumerate(made):
        assert all(map(torch.equal, flow.parameters(), made[i % 2].parameters()))
    assert not all(map(torch.equal, made[0].parameters(), made[1].parameters()))


def test_a_seed_leaves_the_numbers_of_others_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_flow(SMALL, 7)
    assert torch.equal(torch.rand(3), expected)

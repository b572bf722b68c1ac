"""The optimiser is held to torch's own parts: Adam, OneCycleLR, clipping."""

import copy

import pytest
import torch

from popcat.flows.optimizer import Optimizer
from popcat.flows.settings import Training

SETTINGS = Training(learning_rate=1e-2, clip_norm=0.5, average=0.1)
N_STEPS = 50


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))


def loss_of(net, step):
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(step))
    return 3 * ((net(x)[:, 0] - x.sum(1)) ** 2).mean()


def stepped(settings=SETTINGS, n_steps=N_STEPS):
    """A network after some steps, its optimiser, and the weights after each."""
    net = network()
    optimizer, weights = Optimizer(net, settings, n_steps), []
    for step in range(n_steps):
        optimizer.gradients.zero_()
        loss_of(net, step).backward()
        optimizer.step()
        weights.append(optimizer.weights.clone())
    return net, optimizer, weights


def test_steps_equal_those_of_torch():
    expected = network()
    adam = torch.optim.Adam(expected.parameters(), lr=1e-2)
    cycle = torch.optim.lr_scheduler.OneCycleLR(adam, 1e-2, total_steps=N_STEPS, pct_start=5.9 / N_STEPS)
    for step in range(N_STEPS):
        adam.zero_grad()
        loss_of(expected, step).backward()
        torch.nn.utils.clip_grad_norm_(expected.parameters(), 0.5)
        adam.step()
        if step + 1 < N_STEPS:
            cycle.step()
    net, _, _ = stepped()
    for value, other in zip(net.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(value, other, rtol=0, atol=1e-5)


def test_the_flow_sees_every_step():
    net, optimizer, weights = stepped()
    assert torch.equal(torch.cat([value.detach().reshape(-1) for value in net.parameters()]), weights[-1])
    assert not torch.equal(weights[-1], weights[-2])
    assert optimizer.n_steps == N_STEPS


def test_the_average_follows_its_recursion():
    _, optimizer, weights = stepped()
    expected = torch.cat([value.detach().reshape(-1) for value in network().parameters()])
    for step, value in enumerate(weights):
        share = max(1 / 6, 9 / (step + 10)) if step else 1.0
        expected = expected + share * (value - expected)
    torch.testing.assert_close(optimizer.average, expected)


def test_no_average_is_the_last_step():
    _, optimizer, weights = stepped(SETTINGS.model_copy(update={"average": 0.0}))
    assert torch.equal(optimizer.average, weights[-1])


def test_the_averaged_weights_are_there_meanwhile():
    net, optimizer, _ = stepped()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(KeyError), optimizer.averaged():
        assert torch.equal(optimizer.weights, optimizer.average)
        assert not torch.equal(net[0].weight, before["0.weight"])
        raise KeyError
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())

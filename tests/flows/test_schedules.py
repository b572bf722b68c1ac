"""Schedules start, peak and end where they should, and stay at the end."""

import pytest
import torch

from popcat.flows.optimizer import SCHEDULES, Optimizer
from popcat.flows.settings import Training

RATE = 1e-2


def rates_of(name, n, n_taken=None):
    """Learning rate, as a share of the highest, and momentum of each step."""
    optimizer = Optimizer(torch.nn.Linear(1, 1), Training(schedule=name, learning_rate=RATE), n)
    group, found = optimizer._adam.param_groups[0], []
    for _ in range(n_taken or n):
        found.append((group["lr"] / RATE, group["betas"][0]))
        optimizer.step()
    return zip(*found, strict=True)


@pytest.mark.parametrize(("name", "ends"), [("one_cycle", (0.04, 4e-6)), ("cosine", (1 / 21, 0)), ("constant", (1, 1))])
def test_a_schedule_rises_to_one_and_ends_low(name, ends):
    rates, _ = rates_of(name, 1001)
    assert (rates[0], rates[-1]) == pytest.approx(ends, abs=1e-9)
    assert max(rates) == pytest.approx(1.0)
    peak = rates.index(max(rates))
    assert peak == {"one_cycle": 100, "cosine": 20, "constant": 0}[name]
    assert list(rates[: peak + 1]) == sorted(rates[: peak + 1])
    assert list(rates[peak:]) == sorted(rates[peak:], reverse=True)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run_that_takes_more_steps_than_planned_stays_at_the_end(name):
    rates, momenta = rates_of(name, 100, 130)
    assert set(rates[99:]) == {rates[99]}
    assert set(momenta[99:]) == {momenta[99]}
    assert 0.8 < momenta[99] < 1


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("n", [1, 2, 3, 10, 20])
def test_a_training_of_any_length_has_a_schedule(name, n):
    rates, _ = rates_of(name, n)
    assert all(0.0 <= rate <= 1.0 + 1e-9 for rate in rates)

"""Schedules start, peak and end where they should."""

import pytest

from popcat.flows.optimizer import SCHEDULES


@pytest.mark.parametrize(("name", "ends"), [("one_cycle", (0.04, 4e-6)), ("cosine", (0, 0)), ("constant", (1, 1))])
def test_a_schedule_rises_to_one_and_ends_low(name, ends):
    rates = [SCHEDULES[name](i / 1000)[0] for i in range(1001)]
    assert (rates[0], rates[-1]) == pytest.approx(ends, abs=1e-9)
    assert max(rates) == pytest.approx(1.0)
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1]) and rates[peak:] == sorted(rates[peak:], reverse=True)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run_that_takes_more_steps_than_planned_stays_at_the_end(name):
    rate, momentum = SCHEDULES[name](1.3)
    assert (rate, momentum) == pytest.approx(SCHEDULES[name](1.0))
    assert 0.8 < momentum < 1

"""Seconds go to the stage that spent them, once."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from popcat.timing import recorded, recording, stage


@pytest.fixture
def clock(monkeypatch):
    """Each look at the clock is one second after the last."""
    now = iter(range(1000))
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))


def test_a_stage_inside_a_stage_is_not_counted_twice(clock):
    with recording() as record, stage("derive"), stage("sample"):
        pass
    assert record.seconds == {"sample": 1, "derive": 2}


def test_a_stage_that_comes_again_adds_up(clock):
    with recording() as record:
        for _ in range(3):
            with stage("sample"):
                pass
    assert record.seconds == {"sample": 3}


def test_a_stage_that_fails_still_counts(clock):
    with recording() as record:
        with pytest.raises(KeyError), stage("read"):
            raise KeyError
        assert recorded()["seconds"] == {"read": 1}
    assert record.seconds == {"read": 1}


def test_without_a_record_nothing_is_kept():
    with stage("read"):
        assert recorded() == {}


def test_threads_keep_records_of_their_own():
    def work(name):
        with recording(name):
            with stage(name):
                time.sleep(0.01)
            return recorded()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, "abcd"))
    assert [(one["worker"], list(one["seconds"])) for one in found] == [(name, [name]) for name in "abcd"]

"""Workers that are too small for a part are refused before the first one, with the sizes and what to do."""

import pytest

from popcat.columns import posterior_schema
from popcat.errors import PopcatError
from popcat.inference.infer import infer
from popcat.inference.partition import memory_of
from popcat.run.client import SYNCHRONOUS
from popcat.run.memory import ENDED, Memory
from popcat.run.runner import How, run
from popcat.survey import load_survey

MB = 10**6
SMALL = Memory(process=500 * MB, row=100_000, rows=4_000)  # 900 MB with one thread
NEEDS, SIZES = (SMALL.process, SMALL.row), [10, SMALL.rows]


@pytest.fixture
def cluster_of(cluster):
    """A cluster of one-threaded workers with these memory limits, as the scheduler sees them: a client."""

    def started(*limits):
        client = cluster(*({} for _ in limits))
        scheduler = client.cluster.scheduler
        for worker, limit in zip(scheduler.workers.values(), limits, strict=True):
            worker.memory_limit = limit
        return client

    return started


def test_workers_that_are_all_too_small_are_refused_with_the_sizes_and_two_remedies():
    with pytest.raises(PopcatError) as found:
        SMALL.require([(800 * MB, 1), (700 * MB, 1)])
    said = str(found.value)
    assert "workers have at most 800 MB of memory, but a part of 4,000 galaxies needs 1,125 MB" in said
    assert "dask worker --memory-limit" in said and "--rows-per-partition 1400 and a new output folder" in said
    assert "\n" not in said


def test_where_the_process_alone_does_not_fit_smaller_parts_are_no_remedy():
    with pytest.raises(PopcatError) as found:
        SMALL.require([(500 * MB, 1)])
    assert "--rows-per-partition" not in str(found.value)


def test_the_part_that_is_advised_fits():
    assert Memory(SMALL.process, SMALL.row, 1400).of(1) <= 0.8 * 800 * MB


@pytest.mark.parametrize("workers", [[], [(None, 1)], [(0, 1)], [(800 * MB, 1), (1000 * MB, 1)]])
def test_a_worker_that_is_large_enough_or_unlimited_or_to_come_is_waited_for(workers):
    SMALL.require(workers)


def test_every_thread_of_a_worker_has_a_part():
    SMALL.require([(1000 * MB, 1)])
    with pytest.raises(PopcatError, match="on each of 2 threads needs"):
        SMALL.require([(1000 * MB, 2)])


def test_a_run_begins_nothing_on_workers_that_are_too_small(cluster_of):
    with pytest.raises(PopcatError, match="workers have at most 800 MB of memory"):
        run(fail, {1: ()}, verb="trying", how=How(cluster_of(800 * MB, 200 * MB)), sizes=SIZES, memory=NEEDS)


def fail():
    raise AssertionError("was begun")


def test_a_worker_that_is_large_enough_is_enough(cluster_of):
    how = How(cluster_of(300 * MB, 2000 * MB))
    assert run(abs, {1: (-1,)}, verb="trying", how=how, sizes=SIZES, memory=NEEDS)[1].value == 1


def test_only_jobs_that_are_still_to_be_done_count(cluster_of):
    how = How(cluster_of(800 * MB))
    assert run(abs, {0: (-1,)}, verb="trying", how=how, sizes=SIZES, memory=NEEDS)[0].value == 1


def test_infer_refuses_small_workers_before_it_begins_a_folder(cluster_of, galaxies, tiny_model, tmp_path):
    client = cluster_of(500 * MB)
    with pytest.raises(PopcatError, match=r"at most 500 MB of memory, but a part of 150 galaxies needs \d+ MB"):
        infer(galaxies, tiny_model, output=tmp_path / "out", draws=4, client=client)
    assert not (tmp_path / "out").exists()
    with pytest.raises(PopcatError, match="at most 500 MB of memory"):
        infer(galaxies, tiny_model, draws=4, client=client)


def test_what_is_said_of_a_part_is_no_more_than_what_was_measured():
    """docs/measured.md: the peaks of a worker with 500, 7,000 and 14,000 galaxies a part, 100 draws."""
    needs = memory_of(posterior_schema(load_survey("sdss")), 100)
    for rows, peak_mb in ((500, 749), (7_000, 989), (14_000, 1080)):
        assert 0.8 * peak_mb * MB < Memory(*needs, rows).of(1) <= peak_mb * MB
    assert Memory(*needs, 7_000).of(1) > ENDED * 800 * MB  # of which workers died


def test_a_worker_that_would_be_paused_with_nothing_to_do_is_too_small():
    with pytest.raises(PopcatError, match="at most 600 MB"):
        Memory(process=500 * MB, row=1, rows=1).require([(600 * MB, 1)])


def test_nothing_is_asked_of_this_process():
    How(SYNCHRONOUS).require_memory(NEEDS, SIZES)
    How().require_memory(NEEDS, SIZES)

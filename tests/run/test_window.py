"""Every partition has one outcome, whatever becomes of the workers; GPUs first; nobody innocent is blamed."""

import queue
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import cloudpickle
import pyarrow as pa
import pytest
from distributed import KilledWorker

import popcat
from popcat.catalog.manifest import Sidecar, read_record
from popcat.errors import PopcatError
from popcat.run import window
from popcat.run.outcome import Here
from popcat.run.window import Window, run_on_worker


def write(folder, index):
    folder.write_part(index, pa.table({"object_id": [2 * index, 2 * index + 1]}))
    return 2 * index


def moody(folder, index):
    """Fails the first two times."""
    tries = folder.sidecar_path(index).with_suffix(".tries")
    with open(tries, "a") as file:
        file.write("x")
    if len(tries.read_text()) < 3:
        raise OSError("the network has a mood")
    write(folder, index)


def refused(folder, index):
    with open(folder.sidecar_path(index).with_suffix(".tries"), "a") as file:
        file.write("x")
    raise PopcatError("mend your input")


def bottomless(*_):
    bottomless()


class OddError(Exception):
    """Cannot be unpickled."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def odd(*_):
    raise OddError("salt", "pepper")


def silent(event, **fields):
    pass


def made(folder):
    return [read_record(folder.sidecar_path(index), Sidecar).made for index in range(folder.n_parts)]


def test_every_partition_is_written_and_its_sidecar_says_by_whom(cluster, folder, jobs):
    client = cluster({}, {})
    workers = set(client.nthreads())
    outcomes = sorted(Window(client, write, jobs, silent))
    assert [(one.index, one.error, one.value) for one in outcomes] == [(index, None, 2 * index) for index in range(6)]
    assert {one.made["worker"] for one in outcomes} <= workers
    assert {one["worker"] for one in made(folder)} <= workers
    assert {one["gpu"] for one in made(folder)} == {False}


def test_partitions_go_to_workers_with_a_gpu_alone(cluster, folder, jobs):
    client = cluster({}, {"GPU": 1}, {}, {"GPU": 1})
    workers = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
    with_gpu = {name for name, one in workers.items() if one["resources"]}
    list(Window(client, write, jobs, silent))
    assert {one["gpu"] for one in made(folder)} == {True}
    assert {one["worker"] for one in made(folder)} <= with_gpu


def test_in_this_process_the_outcomes_are_the_same(folder, jobs):
    outcomes = list(Here(write, jobs))
    assert [(one.index, one.error, one.value) for one in outcomes] == [(index, None, 2 * index) for index in range(6)]
    assert {one.made["worker"] for one in outcomes} == {"this process"}


def test_in_this_process_an_error_is_an_outcome_and_nothing_begins_after_a_stop(folder, jobs):
    here = Here(refused, jobs)
    outcomes = iter(here)
    assert str(next(outcomes).error) == "mend your input"
    here.stop()
    assert list(outcomes) == []


def test_an_error_of_the_moment_is_tried_again(cluster, folder, jobs):
    noted = Counter()
    outcomes = list(Window(cluster({}), moody, jobs, lambda event, **_: noted.update([event])))
    assert {outcome.error for outcome in outcomes} == {None}
    assert noted["part_retried"] == 12
    assert folder.pending() == []


def test_what_the_user_has_to_mend_is_not_tried_again(cluster, folder, jobs):
    outcomes = list(Window(cluster({}), refused, jobs, silent))
    assert {str(outcome.error) for outcome in outcomes} == {"mend your input"}
    assert folder.sidecar_path(0).with_suffix(".tries").read_text() == "x"


@pytest.mark.parametrize(("task", "said"), [(bottomless, "maximum recursion depth"), (odd, "salt and pepper")])
def test_an_error_that_cannot_travel_is_said_all_the_same(cluster, jobs, task, said):
    (outcome,) = Window(cluster({}), task, {0: jobs[0]}, silent)
    assert said in str(outcome.error)


def test_a_worker_with_another_popcat_is_refused(cluster, folder, jobs, monkeypatch):
    outcome, *_ = Window(cluster({}), write, {0: jobs[0]}, silent)
    assert outcome.error is None
    with pytest.raises(PopcatError, match="install the same version"):
        cluster({}).submit(run_on_worker, cloudpickle.dumps((write, jobs[1])), False, "0.0.1").result()


def test_a_worker_without_the_gpu_that_was_asked_for_says_so(cluster):
    with pytest.raises(PopcatError, match="has no GPU"):
        cluster({}).submit(run_on_worker, b"", True, popcat.__version__).result()


class FakeClient:
    """A cluster of two one-threaded workers; `fate(index, attempt)` is an error, None or a status."""

    status, address = "running", "tcp://scheduler"

    def __init__(self, fate, workers=2, gpus=0):
        self.fate, self.attempts, self.most, self.together = fate, Counter(), 0, []
        self.workers = {f"w{i}": {"nthreads": 1, "resources": {"GPU": 1} if i < gpus else {}} for i in range(workers)}
        self.flying = {}
        self.resources = set()

    def identity(self, n_workers):
        return {"workers": self.workers}

    @property
    def scheduler(self):
        return self

    def sync(self, function, **options):
        return function(**options)

    def cancel(self, futures, **_):
        self.cancelled = len(futures)

    def submit(self, *_, key, resources, **__):
        index = int(key.split("-")[1])
        self.attempts[index] += 1
        self.resources.add(str(resources))
        self.flying[key] = index
        self.most = max(self.most, len(self.flying))
        self.together.append(sorted(self.flying.values()))
        result = self.fate(index, self.attempts[index])
        status = result if isinstance(result, str) else "error" if result else "finished"
        future = SimpleNamespace(key=key, status=status, exception=lambda: result,
                                 result=lambda: (index, {}))  # fmt: skip
        future.add_done_callback = lambda put: put(future)
        return future


@pytest.fixture
def run(monkeypatch):
    """Run ten partitions with a fate, without waiting."""
    monkeypatch.setattr(window, "_LOOK_S", 0.0)

    def ran(fate, n=10, **options):
        client = FakeClient(fate, **options)
        driver = Window(client, None, {index: (index,) for index in range(n)}, silent)
        settle = driver._settle

        def landed(future):
            client.flying.pop(future.key)
            return settle(future)

        driver._settle = landed
        return client, driver

    return ran


def killed():
    return KilledWorker("key", SimpleNamespace(address="w0"), 3)


def test_no_more_than_two_partitions_a_thread_are_in_flight(run):
    client, driver = run(lambda *_: None)
    assert len(list(driver)) == 10
    assert client.most == 4


def test_a_suspect_is_tried_alone_and_cleared(run):
    client, driver = run(lambda index, attempt: killed() if index in (3, 4) and attempt == 1 else None)
    assert {outcome.error for outcome in driver} == {None}
    assert client.together[-2:] == [[3], [4]]


def test_a_poisoned_partition_is_named_and_the_others_are_done(run):
    client, driver = run(lambda index, attempt: killed() if index == 3 else None)
    outcomes = {outcome.index: outcome.error for outcome in driver}
    assert len(outcomes) == 10
    assert [index for index, error in outcomes.items() if error] == [3]
    assert "its worker died each time" in str(outcomes[3])
    assert client.attempts[3] == 2


def test_without_workers_the_run_ends_with_the_reason(run, monkeypatch):
    monkeypatch.setattr(window, "NO_WORKERS_S", 0.05)
    _, driver = run(lambda *_: None, workers=0)
    with pytest.raises(PopcatError, match=r"no worker for .*same command again"):
        list(driver)


def test_a_run_that_waits_for_workers_says_so_once(run, monkeypatch):
    monkeypatch.setattr(window, "NO_WORKERS_S", 0.5)
    monkeypatch.setattr(window, "WAITING_SAID_S", 0.05)
    _, driver = run(lambda *_: None, workers=0)
    said = []
    driver.say = said.append
    with pytest.raises(PopcatError, match="no worker for"):
        list(driver)
    (line,) = said
    assert "waiting for a worker: the scheduler has none" in line and "dask worker" in line


def test_when_the_gpus_are_lost_the_run_does_not_wait_for_ever(run, monkeypatch):
    monkeypatch.setattr(window, "NO_WORKERS_S", 0.05)
    client, driver = run(lambda *_: None, gpus=1)
    outcomes = iter(driver)
    next(outcomes)
    for worker in client.workers.values():
        worker["resources"] = {}
    driver.waiting.extend(range(1000))
    driver.jobs |= {index: (index,) for index in range(1000)}
    with pytest.raises(PopcatError, match="no worker with a GPU"):
        list(outcomes)
    assert client.resources == {"{'GPU': 1}"}


@pytest.mark.parametrize("status", ["cancelled", "lost"])
def test_a_future_that_went_with_its_scheduler_is_not_taken_for_done(run, status):
    client, driver = run(lambda *_: status)
    client.status = "closed"
    driver._look = lambda: None  # which may see it only later
    driver.limit = 1
    with pytest.raises(PopcatError, match=r"connection to the Dask scheduler is lost.*same command again"):
        list(driver)


def test_a_client_that_lost_its_scheduler_says_so(run):
    client, driver = run(lambda *_: None)
    client.status = "connecting"
    with pytest.raises(PopcatError, match="connection is connecting"):
        list(driver)


def test_a_scheduler_that_is_too_busy_to_answer_is_not_given_up(run):
    client, driver = run(lambda *_: None)
    answer, silent_looks = client.identity, iter([False, True, True])

    def busy(**options):
        if next(silent_looks, False):
            raise TimeoutError("no answer within 30 s")
        return answer(**options)

    client.identity = busy
    assert len(list(driver)) == 10


def test_a_stopped_window_begins_nothing_more(run):
    client, driver = run(lambda *_: None)
    outcomes = iter(driver)
    next(outcomes)
    driver.stop()
    assert len(list(outcomes)) == 3
    assert sum(client.attempts.values()) == 4


def test_an_empty_window_has_no_outcome(run):
    _, driver = run(lambda *_: None, n=0)
    assert list(driver) == []
    with pytest.raises(queue.Empty):
        driver.done.get(timeout=0)


def test_what_a_scheduler_unpickles_imports_neither_torch_nor_the_stages():
    heavy = {"torch", "numba", "pandas", "popcat.inference.partition"}
    code = f"import sys, popcat.run.window; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_a_worker_took_with_it_is_waited_for_again():
    """A worker that dies with the value of a task that is done: Dask computes it again, and calls once more."""
    called = []
    future = SimpleNamespace(key="part-000003", status="lost", add_done_callback=called.append)
    window = Window(SimpleNamespace(status="running"), pow, {3: (2, 3)}, lambda *_, **__: None)
    window.running["part-000003"] = 3, future
    assert window._settle(future) is None and len(called) == 1
    future.status, future.result = "finished", lambda: (8, {})
    assert window._settle(future).value == 8 and window.running == {}


def test_when_every_worker_dies_the_run_ends_after_three_parts_and_not_after_all(run):
    client, driver = run(lambda *_: killed(), n=1000)
    outcomes = []
    with pytest.raises(PopcatError, match=r"every worker that was given a part died: 3 are given up.*is kept.*emory"):
        for outcome in driver:
            outcomes.append(outcome)
    assert [outcome.index for outcome in outcomes] == [0, 1, 2]
    assert sum(client.attempts.values()) < 10


def test_where_one_part_is_done_the_others_are_tried_whatever_dies(run):
    _, driver = run(lambda index, _: killed() if index != 2 else None, n=20)
    outcomes = {outcome.index: outcome.error for outcome in driver}
    assert len(outcomes) == 20 and [index for index, error in outcomes.items() if not error] == [2]


def test_a_first_suspect_that_is_cleared_lets_the_run_go_on(run):
    client, driver = run(lambda index, attempt: killed() if index < 4 and attempt == 1 else None)
    assert {outcome.error for outcome in driver} == {None}
    assert client.attempts[9] == 1


def test_a_suspect_that_fails_otherwise_leaves_no_run_that_waits(run):
    def fate(index, attempt):
        return killed() if attempt == 1 else PopcatError("mend it")

    _, driver = run(fate, n=8)
    outcomes = list(driver)
    assert sorted(outcome.index for outcome in outcomes) == list(range(8))


def test_workers_that_are_all_paused_end_the_run_with_the_reason(run, monkeypatch):
    monkeypatch.setattr(window, "PAUSED_S", 0.05)
    client, driver = run(lambda *_: None)
    client.submit = lambda *_, **options: SimpleNamespace(
        key=options["key"], status="pending", add_done_callback=lambda put: None
    )
    for worker in client.workers.values():
        worker |= {"status": "paused", "metrics": {"task_counts": {}}}
    with pytest.raises(PopcatError, match=r"all 2 workers are paused, because their memory.*is kept.*--memory-limit"):
        list(driver)


def test_a_paused_worker_that_works_is_waited_for(run, monkeypatch):
    monkeypatch.setattr(window, "PAUSED_S", 0.0)
    client, driver = run(lambda *_: None)
    for worker in client.workers.values():
        worker |= {"status": "paused", "metrics": {"task_counts": {"executing": 1}}}
    assert len(list(driver)) == 10


def test_of_a_worker_with_a_gpu_only_what_the_gpu_does_at_a_time_counts():
    workers = {"cpu": {"nthreads": 4, "resources": {}, "memory_limit": 1},
               "gpu": {"nthreads": 8, "resources": {"GPU": 1}, "memory_limit": 2}}  # fmt: skip
    assert window.rooms_of(workers) == [(2, 1)]
    assert window.rooms_of({"cpu": workers["cpu"]}) == [(1, 4)]

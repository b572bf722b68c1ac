"""A bounded window of tasks on a cluster that loses workers.

Each task is whole, read to write, so that nothing piles up between stages. With workers that have the resource "GPU",
tasks go to those alone; several workers may share a GPU, and keep it busy while others use their CPU.

What can go wrong, and who answers for it:

    a worker dies                 Dask gives its tasks to another; a task that was there too often is a suspect
    a suspect                     tried once more, alone: if the worker dies again, it is poisoned, named and left out
    no job is done, three are     suspects are tried before anything else; when three are poisoned, the run ends: what
    suspects                      kills every worker, such as too little memory, would kill the others too
    workers too small for a job   an error before the first
    an error that is no PopcatError   tried again, because disks and networks have moods
    the disk is full              nothing more is begun
    all workers are paused        an error after PAUSED_S: Dask pauses those whose memory is nearly full
    no worker is left             an error after NO_WORKERS_S (or Dask's distributed.scheduler.no-workers-timeout)
    the scheduler dies            an error at once; a rerun finishes

What a worker runs is here too: so this file is light to import, because the scheduler and the event loops of workers
import it.
"""

import contextlib
import logging
import pickle
import queue
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator
from typing import Any

import cloudpickle
import dask
import distributed
from distributed.client import CancelledError, ClosedClientError
from distributed.comm import CommClosedError

import popcat
from popcat.errors import PopcatError
from popcat.run.memory import Memory
from popcat.run.outcome import Outcome
from popcat.stores import RefusedError
from popcat.timing import recording

GPU = "GPU"
"""The resource that marks a worker with a GPU: `dask worker --resources GPU=1`."""
NO_WORKERS_S = 600
"""How long a run waits for a worker when there is none."""
WAITING_SAID_S = 10
"""After so long it says what it waits for."""
PAUSED_S = 120
"""How long a run waits while all workers are paused and none of them works."""
TASKS_PER_THREAD = 2
RETRIES = 2
POISONED = 3
"""After so many jobs that kill every worker, and none that is done, the run ends."""
_LOOK_S = 2.0
_MORE_MEMORY = "start workers with more (dask worker --memory-limit) and give the same command again"


class Window:
    """task(*jobs[i]) for every i on a cluster, as outcomes in the order in which they come.

    `note` is called with the name of an event and its fields; `noun` is what a job is called there. `say` is called
    with what the user should know while the run waits; by default it is a warning. `memory` is what the largest job
    needs. What is still under way when the iteration ends early, as when the user interrupts it, is cancelled.

    Raises PopcatError where no outcome can come any more.
    """

    def __init__(
        self, client: distributed.Client, task: Callable, jobs: dict[int, tuple], note: Callable, noun: str = "part",
        say: Callable[[str], None] | None = None, memory: Memory | None = None,
    ):  # fmt: skip
        self.client, self.task, self.jobs, self.note, self.noun = client, task, jobs, note, noun
        self.say, self.said, self.memory = say or _warn, False, memory
        self.waiting, self.suspects = deque(jobs), deque[int]()
        self.running: dict[str, tuple[int, distributed.Future]] = {}
        self.attempts, self.alone = Counter[int](), set[int]()
        self.succeeded, self.killed, self.poisoned = False, set[int](), 0
        self.done: queue.SimpleQueue = queue.SimpleQueue()
        self.limit, self.uses_gpu, self.looked, self.seen = 0, False, -_LOOK_S, time.monotonic()
        self.awake = self.seen
        self.workers: frozenset[str] = frozenset()

    def __iter__(self) -> Generator[Outcome, None, None]:
        try:
            while self.waiting or self.suspects or self.running:
                self._look()
                self._fill()
                try:
                    outcome = self._settle(self.done.get(timeout=_LOOK_S))
                except queue.Empty:
                    continue
                if outcome is not None:
                    yield outcome
                if self.poisoned >= POISONED and not self.succeeded:
                    raise self._all_die()
        except (CommClosedError, ClosedClientError, OSError, TimeoutError) as error:
            raise _lost(error) from error
        finally:
            self._cancel()

    def stop(self) -> None:
        """Begin nothing more; what runs is waited for."""
        self.waiting.clear()
        self.suspects.clear()

    def _cancel(self) -> None:
        """Of what runs no outcome is wanted any more. A dead scheduler has nothing to cancel."""
        if self.running and self.client.status == "running":
            with contextlib.suppress(CommClosedError, ClosedClientError, OSError, TimeoutError):
                self.client.cancel([future for _, future in self.running.values()], force=True)
        self.running.clear()

    def _look(self) -> None:
        """Count the workers every few seconds: clusters grow, shrink and die."""
        now = time.monotonic()
        if now - self.looked < _LOOK_S:
            return
        self.looked = now
        try:
            workers = workers_of(self.client)
        except (CommClosedError, OSError, TimeoutError):
            workers = None  # dead, or only too busy to answer
        if self.client.status != "running":
            raise _lost(f"its connection is {self.client.status}")
        if workers is None:
            return
        gpus = sum(int(worker["resources"].get(GPU, 0)) for worker in workers.values())
        self.uses_gpu = self.uses_gpu or gpus > 0
        slots = gpus if self.uses_gpu else sum(worker["nthreads"] for worker in workers.values())
        self.limit = TASKS_PER_THREAD * slots
        self._tell(frozenset(workers), gpus)
        if self.memory is not None and not self.succeeded:
            self.memory.require(rooms_of(workers))
        self._require_awake(workers, now)
        if not slots and now - self.seen > WAITING_SAID_S and not self.said:
            self.said = True
            what = "worker with a GPU" if self.uses_gpu else "worker"
            self.say(f"waiting for a {what}: the scheduler has none; start one with `dask worker "
                     f"{self.client.scheduler.address}`")  # fmt: skip
        if slots:
            self.seen, self.said = now, False
        elif now - self.seen > _patience():
            what = "worker with a GPU" if self.uses_gpu else "worker"
            raise PopcatError(f"no {what} for {_patience():.0f} s; what is written is kept: start workers and "
                              "give the same command again")  # fmt: skip

    def _require_awake(self, workers: dict[str, dict], now: float) -> None:
        """PopcatError once all workers have been paused for long, with nothing at work that could free memory."""
        if not workers or not all(map(_stuck, workers.values())):
            self.awake = now
        elif now - self.awake > PAUSED_S:
            raise PopcatError(f"all {len(workers)} workers are paused, because their memory is nearly full, and none "
                              f"has worked for {PAUSED_S:.0f} s; what is written is kept: {_MORE_MEMORY}")  # fmt: skip

    def _tell(self, workers: frozenset[str], gpus: int) -> None:
        for event, names in (("worker_lost", self.workers - workers), ("worker_came", workers - self.workers)):
            for name in sorted(names):
                self.note(event, worker=name, workers=len(workers), gpus=gpus)
        self.workers = workers

    def _fill(self) -> None:
        in_doubt = self._in_doubt()
        while self.waiting and len(self.running) < self.limit and not in_doubt:
            self._submit(self.waiting.popleft())
        if self.suspects and self.limit and not self.running and (in_doubt or not self.waiting):
            index = self.suspects.popleft()
            self.alone.add(index)
            self._submit(index)

    def _in_doubt(self) -> bool:
        """Whether it is open that any job can be done: several have killed workers, and none is done."""
        tried = self.suspects or any(index in self.alone for index, _ in self.running.values())
        return not self.succeeded and len(self.killed) >= POISONED and bool(tried)

    def _submit(self, index: int) -> None:
        needs = {GPU: 1} if self.uses_gpu else None
        future = self.client.submit(
            run_on_worker, cloudpickle.dumps((self.task, self.jobs[index])), self.uses_gpu, popcat.__version__,
            pure=False, resources=needs, key=f"{self.noun}-{index:06d}-{time.monotonic_ns()}",
        )  # fmt: skip
        self.running[str(future.key)] = index, future
        future.add_done_callback(self.done.put)

    def _all_die(self) -> PopcatError:
        return PopcatError(f"every worker that was given a {self.noun} died: {POISONED} are given up and none is done; "
                           "the run has stopped, what is written is kept. A worker's log says why; memory is the usual "
                           f"reason: {_MORE_MEMORY}")  # fmt: skip

    def _settle(self, future: distributed.Future) -> Outcome | None:
        """The outcome of a future, or None where its job is tried again."""
        index, _ = self.running.pop(str(future.key))
        if future.status == "finished":
            try:
                outcome = Outcome(index, None, *future.result())
                self.succeeded = True
                return outcome
            except CancelledError as error:
                raise _lost(f"{self.noun} {index} is cancelled") from error
        if future.status in ("lost", "pending") and self.client.status == "running":
            # its worker died with what it returned: Dask computes it again
            self.running[str(future.key)] = index, future
            future.add_done_callback(self.done.put)
            return None
        if future.status != "error":
            raise _lost(f"{self.noun} {index} is {future.status}")
        error = future.exception()
        killed = isinstance(error, distributed.KilledWorker)
        if killed and index not in self.alone:
            self.suspects.append(index)
            self.killed.add(index)
        elif killed:
            self.poisoned += 1
            return Outcome(index, PopcatError("its worker died each time, the last time with nothing else at work; "
                                              "look at the worker's log for why (memory is the usual reason)"))
        elif isinstance(error, PopcatError) or self.attempts[index] >= RETRIES:
            return Outcome(index, error)
        else:
            self.waiting.append(index)
        self.attempts[index] += 1
        self.note(f"{self.noun}_retried", **{self.noun: index}, error=f"{type(error).__name__}: {error}")
        return None


def workers_of(client: distributed.Client) -> dict[str, dict]:
    """The workers, as the scheduler describes them; OSError or TimeoutError where it does not answer."""
    # not client.scheduler_info(), whose periodic refresh forgets the workers for a moment
    return client.sync(client.scheduler.identity, n_workers=-1)["workers"]


def rooms_of(workers: dict[str, dict]) -> list[tuple[int | None, int]]:
    """Of every worker that is given jobs, its memory limit and how many it does at a time."""
    with_gpu = [one for one in workers.values() if one["resources"].get(GPU)]
    return [(one.get("memory_limit"), min(one["nthreads"], int(one["resources"][GPU]))) for one in with_gpu] or [
        (one.get("memory_limit"), one["nthreads"]) for one in workers.values()]  # fmt: skip


def _stuck(worker: dict) -> bool:
    """Whether a worker, as the scheduler describes it, is paused and nothing runs on it."""
    return worker.get("status") == "paused" and not worker["metrics"].get("task_counts", {}).get("executing")


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=2)


def _patience() -> float:
    configured = dask.config.get("distributed.scheduler.no-workers-timeout", default=None)
    return dask.utils.parse_timedelta(configured) if configured else NO_WORKERS_S


def _lost(why) -> PopcatError:
    return PopcatError(f"the connection to the Dask scheduler is lost ({why}); what is written is kept: "
                       "start a scheduler and give the same command again")  # fmt: skip


def run_on_worker(payload: bytes, needs_gpu: bool, version: str) -> tuple[Any, dict]:
    """task(*arguments) of a pickled (task, arguments), and its record under the worker's name (popcat.timing).

    The pickle is the client's own, and opened only here: in a thread of the worker that may take its time to import.

    Raises PopcatError on a worker that is not the one that was meant.
    """
    worker = distributed.get_worker()
    gpu = worker.state.total_resources.get(GPU, 0) > 0
    if needs_gpu and not gpu:
        raise PopcatError(f"worker {worker.address} has no GPU, but was given a task that needs one")
    if popcat.__version__ != version:
        raise PopcatError(f"worker {worker.address} has popcat {popcat.__version__}, expected {version}: install the "
                          "same version on every machine")  # fmt: skip
    task, arguments = pickle.loads(payload)
    try:
        with recording(worker.address, gpu=gpu) as record:
            return task(*arguments), record.as_dict()
    except Exception as error:
        if not isinstance(error, PopcatError):
            logging.getLogger("popcat").exception("a task failed")
        if isinstance(error, RefusedError):  # perhaps only this worker's environment lacks the credentials
            error = RefusedError(f"{error} (on the worker {worker.address})")
        raise _portable(error) from None


def _portable(error: Exception) -> Exception:
    """An error that can travel, without the traceback, which stays in the worker's log.

    A client waits for ever for one that it cannot unpickle, or whose traceback is too deep.
    """
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error.with_traceback(None)

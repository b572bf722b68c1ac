"""One way to run work: a task for each job, on whatever cluster there is, with progress, a log and a summary.

Everything that popcat runs on Dask goes through `run`: parts of catalogues and libraries, members of ensembles,
metallicities of a grid, mocks of a calibration. So all of it tries again what fails for a moment, names what fails for
good, shows how far it is, and stops cleanly when it is interrupted.

Long work shows itself (`Reporter`): a bar on the terminal, a log of JSON lines, a summary.
"""

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from popcat.display import duration
from popcat.errors import OutputError, PopcatError
from popcat.files import write_json_atomic
from popcat.paths import AnyPath, local
from popcat.run.client import Where, check_client, check_performance_report, connect, performance_reported
from popcat.run.memory import Memory
from popcat.run.outcome import Here, Outcome
from popcat.run.shown import EventLog, Shown, new_bar, rate_text
from popcat.run.told import Told, listening

_LINE_EVERY_S = 60.0
More: TypeAlias = Callable[[dict[int, Outcome]], tuple[Sequence[tuple], Sequence[int]]]
"""From the outcomes so far to further jobs, and the size of each."""


@dataclass(frozen=True)
class How:
    """How a run is carried out; decides nothing about what it writes.

    client, workers: where (`popcat.run.client.connect`). progress: a bar on stderr, or that of the steps that the run
    is one of (popcat.run.steps). check: read every byte of the parts that are there. log: a file for one JSON object an
    event. performance_report: a file for Dask's own report.
    """

    client: Where = None
    workers: int | None = None
    progress: "bool | Shown" = False
    check: bool = False
    log: str | Path | None = None
    performance_report: str | Path | None = None

    def verify(self) -> None:
        """PopcatError for what cannot work, before an output folder is begun."""
        check_client(self.client, self.workers, answers=True)
        check_performance_report(self.performance_report)
        if self.log is not None:
            local(self.log)

    def require_memory(self, memory: tuple[int, int], sizes: Sequence[int]) -> None:
        """PopcatError if the workers that are there already are too small, before an output folder is begun; `memory`
        and `sizes` as of `run`."""
        if self.client is not None:
            with connect(self.client) as client:
                if client is not None:
                    from popcat.run.window import rooms_of, workers_of
                    Memory(*memory, max(sizes, default=0)).require(rooms_of(workers_of(client)))


def run(
    task: Callable, jobs: dict[int, tuple], *, verb: str, how: How | None = None, sizes: Sequence[int] | None = None,
    unit: str = "galaxies", noun: str = "part", seconds: float = math.inf, memory: tuple[int, int] | None = None,
    summary: AnyPath | None = None, more: More | None = None, told: Path | None = None,
) -> dict[int, Outcome]:  # fmt: skip
    """task(*jobs[i]) for every i, a bounded window at a time: the outcomes by i, in order.

    A job that fails is an outcome with an error, and does not stop the others. What a task returns travels to this
    process: files are for what is large.

    Parameters
    ----------
    verb : what the run does, for its user, such as "inferring"
    how : where it runs and what it shows
    sizes : how much each job is in `unit`, also those that need not be done; by default one of `unit` each
    noun : what a job is called in the log, such as part
    seconds : what the jobs take on one core, about; work that is shorter than workers take to start runs here
    memory : bytes that a worker needs whatever it does, and for each of `unit` of a job; by default nothing is required
    summary : file for the summary (`Reporter.summary`), which is written however the run ends, if its folder is there
    more : asked each time that all jobs are done and none failed, with the outcomes so far: further jobs, and the size
        of each; none ends the run
    told : folder, which the workers see too, in which jobs tell how far they are (popcat.run.told)

    Raises PopcatError if the cluster cannot be reached, is lost, or cannot do any job; OutputError, which begins
    nothing more; and KeyboardInterrupt, with one line on what was done, if the user interrupts it.

    >>> outcomes = run(pow, {0: (2, 3), 1: (2, -1), 2: (0, -1)}, verb="computing", how=How("synchronous"))
    >>> [outcome.value for outcome in outcomes.values()], type(outcomes[2].error).__name__
    ([8, 0.5, None], 'ZeroDivisionError')
    """
    how = how or How()
    sizes = [1] * (max(jobs, default=-1) + 1) if sizes is None else sizes
    outcomes: dict[int, Outcome] = {}
    with (Reporter(verb, sizes, jobs, show=how.progress, log=how.log, unit=unit, noun=noun) as reporter,
          listening(told, reporter.heard)):  # fmt: skip
        try:
            with connect(how.client, workers=how.workers, tasks=len(jobs), seconds=seconds) as client:
                if client is not None:
                    reporter.say(f"dashboard: {client.dashboard_link}")
                    reporter.note("connected", scheduler=client.scheduler.address, dashboard=client.dashboard_link)
                with performance_reported(client, how.performance_report):
                    coming = jobs
                    while coming:
                        _do(task, coming, outcomes, client, reporter, memory)
                        coming = _further(more, outcomes, reporter)
        except KeyboardInterrupt:
            done = sum(outcome.error is None for outcome in outcomes.values())
            raise KeyboardInterrupt(
                f"{verb} stopped after {done} of {reporter.pending} {_plural(noun)}; what is written is kept: give the "
                "same command again to go on"
            ) from None
        finally:
            if summary is not None and summary.parent.is_dir():
                with contextlib.suppress(PopcatError):  # a full disk has an error of its own
                    write_json_atomic(summary, reporter.summary())
    _raise_output_error(outcomes)
    return dict(sorted(outcomes.items()))


def _do(task: Callable, jobs: dict[int, tuple], outcomes: dict[int, Outcome], client, reporter: "Reporter",
        memory: tuple[int, int] | None) -> None:  # fmt: skip
    """Do some jobs, here or on a cluster; adds to the outcomes."""
    say = reporter.say if reporter.show else None
    needs = Memory(*memory, max(reporter.sizes[i] for i in jobs), reporter.unit) if memory else None
    work = (Here(task, jobs) if client is None
            else _window(client, task, jobs, reporter.note, reporter.noun, say, needs))  # fmt: skip
    with contextlib.closing(iter(work)) as coming:
        for outcome in coming:
            outcomes[outcome.index] = outcome._replace(made={})  # many records of how would take room
            _tell(reporter, outcome)
            if isinstance(outcome.error, OutputError):  # every other job would meet it too
                work.stop()


def _further(more: More | None, outcomes: dict[int, Outcome], reporter: "Reporter") -> dict[int, tuple]:
    """The jobs that come next, numbered on, which the reporter is told of."""
    if more is None or any(outcome.error is not None for outcome in outcomes.values()):
        return {}
    jobs, sizes = more(dict(sorted(outcomes.items())))
    start = reporter.extend(sizes)
    return dict(enumerate(jobs, start))


def _window(*arguments):
    """popcat.run.window.Window, imported late: it needs Dask."""
    from popcat.run.window import Window

    return Window(*arguments)


def _raise_output_error(outcomes: dict[int, Outcome]) -> None:
    for _, error, *_ in outcomes.values():
        if isinstance(error, OutputError):
            raise type(error)(f"{error}; the run has stopped, {error.remedy}") from error


def values_of(outcomes: dict[int, Outcome], noun: str) -> list:
    """What the tasks returned, in order; PopcatError names the jobs that failed, unless all failed alike."""
    failed = {index: outcome.error for index, outcome in outcomes.items() if outcome.error is not None}
    if failed:
        first, error = next(iter(failed.items()))
        if isinstance(error, PopcatError) and len(failed) == len(outcomes) and len({*map(str, failed.values())}) == 1:
            raise error
        raise PopcatError(
            f"{len(failed)} of {len(outcomes)} {_plural(noun)} failed ({', '.join(map(str, list(failed)[:10]))}). "
            f"{noun.capitalize()} {first}: {type(error).__name__}: {error}"
        ) from error
    return [outcome.value for outcome in outcomes.values()]


def _plural(noun: str) -> str:
    return f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"


class Reporter:
    """Tells of a run as it goes: `note` any event, `done` and `failed` for jobs; `summary` at the end.

    sizes: how much each job is, of all of them, in `unit`, such as galaxies; pending: those that are still to be done;
    noun: what one job is called, such as part.
    show: a rich bar with the rate, time left and failures on stderr, below it a line for each job that tells how far it
    is; where stderr is no terminal, a line a minute.
    log: a file to which each event is appended as one JSON object a line, with its time (UTC).
    """

    def __init__(
        self, verb: str, sizes: Sequence[int], pending: Collection[int], *, show: bool | Shown, log: str | Path | None,
        unit: str = "galaxies", noun: str = "part",
    ):  # fmt: skip
        self.verb, self.sizes, self.show, self.unit, self.noun = verb, sizes, show, unit, noun
        self.total, self.kept = sum(sizes), sum(sizes) - sum(sizes[index] for index in pending)
        self.parts, self.pending = len(sizes), len(pending)
        self.finished, self.retries = 0, 0
        self.failures: dict[int, str] = {}
        self._first: tuple[float, int] | None = None
        self.stages: Counter[str] = Counter()
        self.workers: dict[str, dict] = {}
        self.under_way: dict[int, Told] = {}
        self._ended: set[int] = set()
        self._log = EventLog(log)
        self._bar: Any = None
        self._task: Any = None
        self._lines: dict[int, Any] = {}

    def __enter__(self) -> "Reporter":
        self.started, self._start = datetime.now(UTC), time.monotonic()
        self._said = self._start
        if self.show:
            self._bar = bar = new_bar() if self.show is True else self.show.bar
            self._task = bar.add_task(self.verb, total=self.total, completed=self.kept, rate="", failed="")
            if self.show is True and bar.console.is_terminal:
                bar.start()
        self.note("run_started", verb=self.verb, parts=self.parts, pending=self.pending, **{self.unit: self.total})
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.note("run_ended", error=(str(error) or kind.__name__) if kind else None, **self.summary())
        if self._bar is not None:
            self._show_jobs({})
            self._bar.stop() if self.show is True else self._bar.remove_task(self._task)
        self._log.close()

    def say(self, text: str) -> None:
        """A line for the user, above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def extend(self, sizes: Sequence[int]) -> int:
        """There are more jobs, of these sizes: the number of the first."""
        start = self.parts
        if sizes:
            self.sizes = [*self.sizes, *sizes]
            self.total, self.parts = self.total + sum(sizes), start + len(sizes)
            self.pending += len(sizes)
            self.note("run_extended", parts=self.parts, **{self.unit: self.total})
            if self._bar is not None:
                self._bar.update(self._task, total=self.total)
        return start

    def note(self, event: str, **fields) -> None:
        """One line of the log; the log never stops a run."""
        self.retries += event == f"{self.noun}_retried"
        self._log.note(event, **fields)

    def done(self, index: int, made: Mapping) -> None:
        """A job is done; `made` is the record of how."""
        self.finished += self.sizes[index]
        self.stages.update(made.get("seconds", {}))
        worker = self.workers.setdefault(made.get("worker", ""), {"parts": 0, "gpu": made.get("gpu", False)})
        worker |= {"parts": worker["parts"] + 1, "peak_rss_mb": made.get("peak_rss_mb")}
        size = {"rows" if self.unit == "galaxies" else self.unit: self.sizes[index]}
        self.note(f"{self.noun}_done", **{self.noun: index}, **size, **made)
        self._end(index)

    def failed(self, index: int, error: Exception) -> None:
        """A job is given up."""
        self.failures[index] = f"{type(error).__name__}: {error}"
        self.note(f"{self.noun}_failed", **{self.noun: index}, error=self.failures[index])
        self._end(index)

    def heard(self, index: int, told: Told) -> None:
        """A job that is under way says how far it is (popcat.run.told)."""
        self.note(f"{self.noun}_at", **{self.noun: index}, **asdict(told))
        if index not in self._ended:  # the last word of a job may be read after its end
            self.under_way[index] = told
            self._show()

    def summary(self) -> dict:
        """What the run did, as JSON: galaxies (or another unit) per second, seconds by stage, workers, failures."""
        seconds = time.monotonic() - self._start
        return {
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            self.unit: self.finished,
            f"{self.unit}_per_s": round(self.finished / seconds, 2) if seconds > 0 else None,
            "parts": {"total": self.parts, "kept": self.parts - self.pending, "failed": len(self.failures)},
            "retries": self.retries,
            "stages": {name: round(value, 3) for name, value in self.stages.items()},
            "workers": self.workers,
            "failures": [{self.noun: index, "error": error} for index, error in sorted(self.failures.items())],
        }

    def _end(self, index: int) -> None:
        """A job is no longer under way."""
        self._ended.add(index)
        self.under_way.pop(index, None)
        self._show()

    def _show(self) -> None:
        """Bring the bar up to date."""
        if self._bar is None:
            return
        now, under_way = time.monotonic(), dict(self.under_way)
        done = self.finished + sum(told.done for told in under_way.values())
        rate = self._rate(now, done)
        done += self.kept
        failed = f"{len(self.failures)} failed" if self.failures else ""
        self._bar.update(self._task, completed=done, rate=rate_text(rate, self.unit), failed=failed)
        self._show_jobs(under_way)
        left_s = [told.left_s for told in under_way.values() if told.left_s is not None]
        if rate:
            left_s.append((self.total - done) / rate)
        if self.show and self.show is not True:
            self.show.at(done / max(self.total, 1), *([max(left_s)] if under_way and left_s else []))
        if not self._bar.console.is_terminal and now - self._said > _LINE_EVERY_S:
            self._said, left = now, f"{duration(max(left_s))} left" if left_s else ""
            self.say(", ".join(filter(None, [f"{self.verb} {done:,} of {self.total:,} {self.unit}", rate_text(rate, ""),
                                             left, failed, *(told.words for told in under_way.values())])))  # fmt: skip

    def _show_jobs(self, under_way: Mapping[int, Told]) -> None:
        """A line below the bar for each job that has said how far it is."""
        for index in self._lines.keys() - under_way.keys():
            self._bar.remove_task(self._lines.pop(index))
        for index, told in under_way.items():
            if index not in self._lines:
                self._lines[index] = self._bar.add_task("", total=self.sizes[index], rate="", failed="")
            self._bar.update(self._lines[index], description=f"  {told.words}", completed=told.done)

    def _rate(self, now: float, done: int) -> float:
        """Units per second since the first part was done: before that, workers load and compile."""
        if self._first is None:
            self._first = now, done
        since, before = self._first
        if done > before:
            return (done - before) / max(now - since, 1e-9)
        return done / max(now - self._start, 1e-9)


def _tell(reporter: Reporter, outcome: Outcome) -> None:
    if outcome.error is None:
        reporter.done(outcome.index, outcome.made)
    else:
        reporter.failed(outcome.index, outcome.error)

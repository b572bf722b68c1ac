"""One way to run work: a task for each job, on whatever cluster there is, with progress, a log and a summary.

Everything that popcat runs on Dask goes through `run`: parts of catalogues and libraries, members of ensembles,
metallicities of a grid, mocks of a calibration. So all of it tries again what fails for a moment, names what fails for
good, shows how far it is, and stops cleanly when it is interrupted.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from popcat.errors import DiskFullError, PopcatError
from popcat.files import write_json_atomic
from popcat.run.client import Where, check_client, check_performance_report, connect, performance_reported
from popcat.run.progress import Reporter
from popcat.run.window import Here, Outcome, Window


@dataclass(frozen=True)
class How:
    """How a run is carried out; decides nothing about what it writes.

    client, workers: where (`popcat.run.client.connect`). progress: a bar on stderr. check: read every byte of the parts
    that are there. log: a file for one JSON object an event. performance_report: a file for Dask's own report.
    """

    client: Where = None
    workers: int | None = None
    progress: bool = False
    check: bool = False
    log: str | Path | None = None
    performance_report: str | Path | None = None

    def verify(self) -> None:
        """PopcatError for what cannot work, before an output folder is begun."""
        check_client(self.client, self.workers, answers=True)
        check_performance_report(self.performance_report)


def run(
    task: Callable, jobs: dict[int, tuple], *, verb: str, how: How | None = None, sizes: Sequence[int] | None = None,
    unit: str = "galaxies", noun: str = "part", seconds: float = math.inf, summary: Path | None = None,
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
    summary : file for the summary (popcat.run.progress), which is written however the run ends

    Raises PopcatError if the cluster cannot be reached or is lost, DiskFullError, which begins nothing more, and
    KeyboardInterrupt, with one line on what was done, if the user interrupts it.

    >>> outcomes = run(pow, {0: (2, 3), 1: (2, -1), 2: (0, -1)}, verb="computing", how=How("synchronous"))
    >>> [outcome.value for outcome in outcomes.values()], type(outcomes[2].error).__name__
    ([8, 0.5, None], 'ZeroDivisionError')
    """
    how = how or How()
    sizes = [1] * (max(jobs, default=-1) + 1) if sizes is None else sizes
    outcomes: dict[int, Outcome] = {}
    with Reporter(verb, sizes, jobs, show=how.progress, log=how.log, unit=unit, noun=noun) as reporter:
        try:
            with connect(how.client, workers=how.workers, tasks=len(jobs), seconds=seconds) as client:
                if client is not None:
                    reporter.say(f"dashboard: {client.dashboard_link}")
                    reporter.note("connected", scheduler=client.scheduler.address, dashboard=client.dashboard_link)
                work = Here(task, jobs) if client is None else Window(client, task, jobs, reporter.note, noun)
                with performance_reported(client, how.performance_report), contextlib.closing(iter(work)) as coming:
                    for outcome in coming:
                        outcomes[outcome.index] = outcome
                        _tell(reporter, outcome)
                        if isinstance(outcome.error, DiskFullError):  # every other job would meet it too
                            work.stop()
        except KeyboardInterrupt:
            done = sum(outcome.error is None for outcome in outcomes.values())
            raise KeyboardInterrupt(
                f"{verb} stopped after {done} of {len(jobs)} {_plural(noun)}; what is written is kept: give the same "
                "command again to go on"
            ) from None
        finally:
            if summary is not None:
                with contextlib.suppress(PopcatError):  # a full disk has an error of its own
                    write_json_atomic(summary, reporter.summary())
    _raise_full_disk(outcomes)
    return dict(sorted(outcomes.items()))


def _raise_full_disk(outcomes: dict[int, Outcome]) -> None:
    for _, error, *_ in outcomes.values():
        if isinstance(error, DiskFullError):
            raise DiskFullError(
                f"{error}; the run has stopped, what is written is kept and nothing is half written: make room and "
                "give the same command again"
            ) from error


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


def _tell(reporter: Reporter, outcome: Outcome) -> None:
    if outcome.error is None:
        reporter.done(outcome.index, outcome.made)
    else:
        reporter.failed(outcome.index, outcome.error)

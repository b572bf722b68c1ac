"""A run from files to files: one task a partition, in a bounded window, on whatever cluster there is."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from popcat.catalog.manifest import Sidecar, read_or_none
from popcat.catalog.parts import META, OutputFolder
from popcat.errors import DiskFullError, PopcatError
from popcat.files import write_json_atomic
from popcat.run.client import check_performance_report, check_scheduler, connect, performance_reported
from popcat.run.progress import Reporter
from popcat.run.window import Window, run_synchronous


@dataclass(frozen=True)
class How:
    """How a run is carried out; decides nothing about what it writes."""

    scheduler: str | None
    workers: int | None
    progress: bool
    check: bool
    log: str | Path | None
    performance_report: str | Path | None

    def check_door(self) -> None:
        """PopcatError for what cannot work, before an output folder is begun."""
        check_scheduler(self.scheduler)
        check_performance_report(self.performance_report)


def run(folder: OutputFolder, task: Callable, jobs: dict[int, tuple], rows: list[int], verb: str, how: How) -> None:
    """Run task(*jobs[i]) for every i, a bounded window at a time, and write the summary; failures are named."""
    with Reporter(verb, rows, list(jobs), show=how.progress, log=how.log) as reporter:
        try:
            with connect(how.scheduler, workers=how.workers, tasks=len(jobs)) as client:
                if client is not None:
                    reporter.say(f"dashboard: {client.dashboard_link}")
                    reporter.note("connected", scheduler=client.scheduler.address, dashboard=client.dashboard_link)
                with performance_reported(client, how.performance_report):
                    errors = _outcomes(client, folder, task, jobs, reporter)
        finally:
            with contextlib.suppress(PopcatError):  # a full disk has an error of its own
                write_json_atomic(Path(folder.path) / META / "summary.json", reporter.summary())
        _raise_failures(errors, folder, len(jobs))


def _outcomes(client, folder: OutputFolder, task, jobs, reporter: Reporter) -> dict[int, Exception]:
    """Errors by partition. A full disk begins nothing more: every other partition would meet it too."""
    errors: dict[int, Exception] = {}
    window = None if client is None else Window(client, task, jobs, reporter.note)
    for index, error in run_synchronous(task, jobs) if window is None else window:
        if error is None:
            sidecar = read_or_none(folder.sidecar_path(index), Sidecar)
            reporter.done(index, sidecar.made if sidecar else {})
            continue
        errors[index] = error
        reporter.failed(index, error)
        if isinstance(error, DiskFullError):
            if window is None:
                break
            window.stop()
    return errors


def _raise_failures(errors: dict[int, Exception], folder: OutputFolder, n_jobs: int) -> None:
    full = [error for error in errors.values() if isinstance(error, DiskFullError)]
    if full:
        raise DiskFullError(
            f"{full[0]}; the run has stopped, its parts are kept and none is half written: make room and give the "
            "same command again"
        ) from full[0]
    if errors:
        first, error = min(errors.items())
        raise PopcatError(
            f"{len(errors)} of {n_jobs} partitions failed ({', '.join(map(str, sorted(errors)[:10]))}); the "
            f"others are written, and the same command finishes the rest. Partition {first}: "
            f"{type(error).__name__}: {error}"
        ) from error

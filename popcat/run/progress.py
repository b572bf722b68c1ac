"""Long work shows itself: a bar on the terminal, a log of JSON lines, a summary."""

import json
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from popcat.errors import PopcatError

_LINE_EVERY_S = 60.0


class Reporter:
    """Tells of a run as it goes: `note` any event, `done` and `failed` for jobs; `summary` at the end.

    sizes: how much each job is, of all of them, in `unit`, such as galaxies; pending: those that are still to be done;
    noun: what one job is called, such as part.
    show: a rich bar with the rate, time left and failures on stderr; where stderr is no terminal, a line a minute.
    log: a file to which each event is appended as one JSON object a line, with its time (UTC).
    """

    def __init__(
        self, verb: str, sizes: Sequence[int], pending: Collection[int], *, show: bool, log: str | Path | None,
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
        self._log = _open_log(log)
        self._bar = self._task = None

    def __enter__(self) -> "Reporter":
        self.started, self._start = datetime.now(UTC), time.monotonic()
        self._said = self._start
        if self.show:
            self._bar = bar = _bar()
            self._task = bar.add_task(self.verb, total=self.total, completed=self.kept, rate="", failed="")
            if bar.console.is_terminal:
                bar.start()
        self.note("run_started", verb=self.verb, parts=self.parts, pending=self.pending, **{self.unit: self.total})
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.note("run_ended", error=(str(error) or kind.__name__) if kind else None, **self.summary())
        if self._bar is not None:
            self._bar.stop()
        if self._log is not None:
            self._log.close()

    def say(self, text: str) -> None:
        """A line for the user, above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def note(self, event: str, **fields) -> None:
        """One line of the log; the log never stops a run."""
        self.retries += event == f"{self.noun}_retried"
        if self._log is not None:
            line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
            with suppress(OSError, ValueError):
                self._log.write(json.dumps(line, default=str) + "\n")

    def done(self, index: int, made: Mapping) -> None:
        """A job is done; `made` is the record of how."""
        self.finished += self.sizes[index]
        self.stages.update(made.get("seconds", {}))
        worker = self.workers.setdefault(made.get("worker", ""), {"parts": 0, "gpu": made.get("gpu", False)})
        worker |= {"parts": worker["parts"] + 1, "peak_rss_mb": made.get("peak_rss_mb")}
        size = {"rows" if self.unit == "galaxies" else self.unit: self.sizes[index]}
        self.note(f"{self.noun}_done", **{self.noun: index}, **size, **made)
        self._advance(self.sizes[index])

    def failed(self, index: int, error: Exception) -> None:
        """A job is given up."""
        self.failures[index] = f"{type(error).__name__}: {error}"
        self.note(f"{self.noun}_failed", **{self.noun: index}, error=self.failures[index])
        self._advance(0)

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

    def _advance(self, size: int) -> None:
        if self._bar is None:
            return
        now = time.monotonic()
        rate = self._rate(now)
        failed = f"{len(self.failures)} failed" if self.failures else ""
        self._bar.update(self._task, advance=size, rate=_rate_text(rate, self.unit), failed=failed)
        if not self._bar.console.is_terminal and now - self._said > _LINE_EVERY_S:
            self._said, done = now, self.kept + self.finished
            left = (self.total - done) / rate / 60 if rate else float("inf")
            self.say(f"{self.verb} {done:,} of {self.total:,} {self.unit}, {_rate_text(rate, '')}, {left:.0f} min left "
                     f"{failed}")  # fmt: skip

    def _rate(self, now: float) -> float:
        """Units per second since the first part was done: before that, workers load and compile."""
        if self._first is None:
            self._first = now, self.finished
        since, before = self._first
        if self.finished > before:
            return (self.finished - before) / max(now - since, 1e-9)
        return self.finished / max(now - self._start, 1e-9)


def _rate_text(rate: float, unit: str) -> str:
    """Galaxies come many a second, members of an ensemble a few an hour.

    >>> _rate_text(1234.5, "galaxies"), _rate_text(0.002, "members")
    ('1,234 galaxies/s', '7.2 members/h')
    """
    number, per = (f"{rate:,.0f}", "s") if rate >= 1.0 else (f"{3600.0 * rate:,.1f}", "h")
    return f"{number} {unit}".rstrip() + f"/{per}"


def _open_log(path: str | Path | None):
    if path is None:
        return None
    try:
        return open(path, "a", encoding="utf-8", buffering=1)
    except OSError as error:
        raise PopcatError(f"cannot write the log {path}: {error}") from error


def _bar():
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
               TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("[red]{task.fields[failed]}"))  # fmt: skip
    return Progress(*columns, console=Console(stderr=True))

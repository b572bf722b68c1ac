"""What long work shows of itself: a bar on stderr, and a log of JSON lines."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from popcat.errors import PopcatError
from popcat.paths import local


class Shown(Protocol):
    """A bar that several runs share, and that is told how much of the present one is done (popcat.run.steps)."""

    bar: Any

    def at(self, fraction: float, left_s: float | None = None) -> None: ...


class EventLog:
    """A file to which each event is appended as one JSON object a line, with its time (UTC); without a path, nothing.

    Raises PopcatError if the file cannot be opened. Later the log never stops any work.
    """

    def __init__(self, path: str | Path | None):
        self._file, self._lock = None, Lock()
        if path is not None:
            try:
                self._file = local(path).open("a", encoding="utf-8", buffering=1)
            except OSError as error:
                raise PopcatError(f"cannot write the log {path}: {error}") from error

    def note(self, event: str, **fields) -> None:
        """One line of the log."""
        if self._file is not None:
            line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
            with self._lock, suppress(OSError, ValueError):
                self._file.write(json.dumps(line, default=str) + "\n")

    def close(self) -> None:
        """End the log."""
        if self._file is not None:
            self._file.close()


def new_bar():
    """A rich bar on stderr, which is not shown yet; its tasks have the fields `rate` and `failed`."""
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


def rate_text(rate: float, unit: str) -> str:
    """Galaxies come many a second, members of an ensemble a few an hour.

    >>> rate_text(1234.5, "galaxies"), rate_text(0.002, "members")
    ('1,234 galaxies/s', '7.2 members/h')
    """
    number, per = (f"{rate:,.0f}", "s") if rate >= 1.0 else (f"{3600.0 * rate:,.1f}", "h")
    return f"{number} {unit}".rstrip() + f"/{per}"

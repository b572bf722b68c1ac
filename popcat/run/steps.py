"""Work of several steps under one bar: which step it is, how much of all is done, how much is left."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from popcat.display import duration
from popcat.run.shown import EventLog, new_bar


class Steps:
    """The steps of long work, with the seconds that each is expected to take.

    bar : a rich bar on stderr, which runs inside a step share (`popcat.run.runner.How.progress`); where stderr is no
    terminal, a line for each step. show : whether there is any. log : file for an event at both ends of each step.

    >>> steps = Steps({"simulate": 60.0, "train": 120.0}, show=False)
    >>> with steps.step("simulate", "simulating 1,000 galaxies"):
    ...     steps.at(0.5)
    ...     steps.left_s
    150.0
    """

    def __init__(self, seconds: Mapping[str, float], *, show: bool, log: str | Path | None = None):
        self.seconds, self.show, self._log = dict(seconds), show, EventLog(log)
        self.took: dict[str, float] = {}
        self.bar: Any = None
        self._now, self._fraction, self._began = "", 0.0, 0.0
        self._task: Any = None
        if show:
            self.bar = new_bar()
            self._task = self.bar.add_task("", total=self.total_s, rate="", failed="")

    def __enter__(self) -> "Steps":
        if self.show and self.bar.console.is_terminal:
            self.bar.start()
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self.show and self.bar.console.is_terminal:
            self.bar.stop()
        self._log.close()

    @property
    def progress(self) -> "bool | Steps":
        """What runs inside a step are given."""
        return self if self.show else False

    @property
    def total_s(self) -> float:
        return sum(self.seconds.values())

    @property
    def left_s(self) -> float:
        """Seconds that are left, as expected."""
        coming = sum(value for name, value in self.seconds.items() if name not in self.took and name != self._now)
        return coming + (1.0 - self._fraction) * self.seconds.get(self._now, 0.0)

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Steps take this long, as far as is known now."""
        self.seconds |= seconds
        self._draw()

    def at(self, fraction: float, left_s: float | None = None) -> None:
        """So much of the present step is done, and it takes so many more seconds, where that is known."""
        self._fraction = min(max(fraction, 0.0), 1.0)
        if left_s is not None and self._now:
            spent = time.monotonic() - self._began
            self.seconds[self._now] = spent + left_s
            self._fraction = spent / max(spent + left_s, 1e-9)
        self._draw()

    @contextmanager
    def step(self, name: str, words: str, *, is_short: bool = False) -> Iterator[None]:
        """One of the steps, in words such as "simulating 1,000 galaxies"; a short one has no line of its own."""
        self._began, self._now, self._fraction = time.monotonic(), name, 0.0
        number = f"step {list(self.seconds).index(name) + 1} of {len(self.seconds)}: {words}"
        if self.show and not self.bar.console.is_terminal and not is_short:
            self.say(f"{number}; about {duration(self.left_s)} left in all")
        self._draw(number)
        self._log.note("step_started", step=name, words=words)
        try:
            yield
        finally:
            self.took[name], self._now = time.monotonic() - self._began, ""
            self._log.note("step_ended", step=name, seconds=round(self.took[name], 3))
            self._draw()

    def say(self, text: str) -> None:
        """A line for the user, above the bar."""
        if self.show:
            self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _draw(self, words: str | None = None) -> None:
        if self.show:
            said = {} if words is None else {"description": words}
            self.bar.update(self._task, total=round(self.total_s), completed=round(self.total_s - self.left_s),
                            rate="s", **said)  # fmt: skip

"""Whether workers have the memory that a job needs: asked before the first job, not learned from workers that die."""

from collections.abc import Iterable
from dataclasses import dataclass

from popcat.errors import PopcatError

ENDED, PAUSED = 0.95, 0.8
"""Shares of its memory limit at which Dask ends a worker and at which it gives it nothing more to do."""


@dataclass(frozen=True)
class Memory:
    """What jobs need of a worker, in bytes: `process` whatever it does, and `row` for each of the `rows` of a job, as
    many jobs at a time as it has threads.

    >>> Memory(process=700 * 10**6, row=20_000, rows=10_000).of(threads=2)
    1100000000
    """

    process: int
    row: int
    rows: int
    unit: str = "galaxies"

    def of(self, threads: int) -> int:
        """Bytes that a worker of so many threads needs."""
        return self.process + threads * self.row * self.rows

    def require(self, workers: Iterable[tuple[int | None, int]]) -> None:
        """PopcatError if there are workers, each (memory limit, jobs at a time), and all of them are too small."""
        there = [(limit or 0, threads) for limit, threads in workers]
        if not there or any(not limit or self._fits(limit, threads) for limit, threads in there):
            return
        limit, threads = max(there)
        at_once = f" on each of {threads} threads" if threads > 1 else ""
        raise PopcatError(
            f"workers have at most {_mb(limit)} of memory, but a part of {self.rows:,} {self.unit}{at_once} needs "
            f"{_mb(self.of(threads) / PAUSED)}: start workers with more (dask worker --memory-limit), "
            f"or fewer of them on a machine (--workers){self._smaller(limit, threads)}"
        )

    def _fits(self, limit: int, threads: int) -> bool:
        return self.of(threads) <= ENDED * limit and self.process <= PAUSED * limit

    def _smaller(self, limit: int, threads: int) -> str:
        """The other remedy, where there is one: parts that fit."""
        rows = int((PAUSED * limit - self.process) / (threads * self.row))
        rows -= rows % 100
        return f", or give --rows-per-partition {rows} and a new output folder" if rows > 0 else ""


def _mb(size: float) -> str:
    return f"{size / 1e6:,.0f} MB"

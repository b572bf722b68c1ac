"""Seconds by stage of what one thread is doing, and who does it: what the sidecar of a part remembers.

>>> with recording(worker="a") as record:
...     with stage("derive"):
...         with stage("sample"):
...             pass
>>> record.worker, sorted(record.seconds)
('a', ['derive', 'sample'])
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Record:
    """Seconds of each stage so far, stages inside a stage not counted twice."""

    worker: str = ""
    gpu: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    _inner: list[float] = field(default_factory=list, repr=False)

    def as_dict(self) -> dict:
        """JSON for a sidecar."""
        return {"worker": self.worker, "gpu": self.gpu, "peak_rss_mb": peak_rss_mb(),
                "seconds": {name: round(value, 4) for name, value in self.seconds.items()}}  # fmt: skip


_current: ContextVar[Record | None] = ContextVar("popcat_record", default=None)


@contextmanager
def recording(worker: str = "", *, gpu: bool = False) -> Iterator[Record]:
    """Record the stages that this thread goes through inside the block."""
    record = Record(worker, gpu)
    token = _current.set(record)
    try:
        yield record
    finally:
        _current.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Add the seconds of the block to a stage of the record; nothing where none is kept."""
    record = _current.get()
    if record is None:
        yield
        return
    start = time.perf_counter()
    record._inner.append(0.0)
    try:
        yield
    finally:
        elapsed = time.perf_counter() - start
        own = elapsed - record._inner.pop()
        record.seconds[name] = record.seconds.get(name, 0.0) + own
        if record._inner:
            record._inner[-1] += elapsed


def peak_rss_mb() -> float | None:
    """The most memory that this process has had, in 10^6 bytes; None where the system does not say.

    Not ru_maxrss, which on Linux begins with the memory of the process that started this one.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    peak = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return round(int(peak[0]) * 1024 / 1e6, 1) if peak else None


def recorded() -> dict:
    """The record of this thread so far as JSON, or {}."""
    record = _current.get()
    return record.as_dict() if record else {}

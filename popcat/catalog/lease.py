"""One run at a time writes to a folder.

A run that writes keeps a file there, its lease: which process it is, and a time of change that it renews every few
seconds. Where another run finds it, it is refused as long as the first one lives. One whose process has ended is
replaced at once on its own machine, and elsewhere after half a minute in which nothing was renewed; no clock is
compared with that of another machine.

In a store a lease is an object that is only ever written over the version that was seen: of several runs that would
replace it one does. Renewing it writes it anew, and it is not removed at the end, but marked as ended: a removal could
not ask whose lease it removes.
"""

import os
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

from popcat.catalog.manifest import read_or_none
from popcat.errors import PopcatError
from popcat.files import create_json, swap_json, version_of, write_json_atomic
from popcat.paths import AnyPath, path_of, stamp_of
from popcat.stores import StorePath

LEASE = ".writer.json"
"""The file in a folder that is not an `OutputFolder`: hidden from whoever reads the folder."""
BEAT_S = 5.0
"""How often a lease is renewed."""
SILENT_S = 30.0
"""Whoever has not renewed its lease for so long has ended."""
_SETTLED_S = 0.5
_LOOK_S = 0.5
_TRIES = 5
_OF_STORES = {"beat", "ended"}


class Lease(BaseModel):
    """Who writes: `place` is its machine and, in a container, the container; `began` when its process did."""

    model_config = ConfigDict(strict=True, frozen=True)

    id: str
    place: str
    pid: int
    began: float
    beat: int = 0
    """In a store: how often it was renewed."""
    ended: bool = False
    """In a store: its run has."""

    @classmethod
    def own(cls) -> "Lease":
        process = psutil.Process()
        return cls(id=uuid.uuid4().hex[:12], place=_place(), pid=process.pid, began=process.create_time())

    def __str__(self) -> str:
        return f"process {self.pid} on {self.place.split()[0]}"


@contextmanager
def alone(path: str | AnyPath, what: str | Path) -> Iterator[Lease]:
    """Be the only one that writes `what`, as the lease in the file `path` says, until the block ends.

    Raises PopcatError if another run does, or began at the same moment; at the end, if another run took over meanwhile,
    as it may where this process was stopped for minutes.
    """
    if isinstance(path := path_of(path), StorePath):
        with _alone_in_store(path, Lease.own(), what) as own:
            yield own
        return
    own, ended = Lease.own(), threading.Event()
    _take(path, own, what)
    beat = threading.Thread(target=_renew, args=(path, own, ended), daemon=True)
    beat.start()
    try:
        yield own
        _require_own(path, own, what)
    finally:
        ended.set()
        beat.join()
        if read_or_none(path, Lease) == own:
            with suppress(OSError):
                path.unlink()


class _Held:
    """A lease in a store, and the version of it that this process wrote last; None if another one wrote over it."""

    def __init__(self, path: StorePath, own: Lease, version: str | None):
        self.path, self.own, self.version = path, own, version
        self.ended, self._lock = threading.Event(), threading.Lock()

    def renew(self) -> None:
        """Write it again every few seconds, until the run has ended."""
        while not self.ended.wait(BEAT_S):
            with suppress(OSError, PopcatError):
                self.write()

    def write(self, **changes: object) -> None:
        """Write it over the version before, as one beat more."""
        with self._lock:
            if self.version is not None:
                self.own = self.own.model_copy(update={"beat": self.own.beat + 1, **changes})
                self.version = swap_json(self.path, self.own.model_dump(), self.version) or self._again()

    def _again(self) -> str | None:
        """Where it was not the version before: an answer that never came may have been of this process's own beat."""
        seen = version_of(self.path)
        there = None if seen is None else read_or_none(self.path, Lease)
        return swap_json(self.path, self.own.model_dump(), seen) if there and there.id == self.own.id else None


@contextmanager
def _alone_in_store(path: StorePath, own: Lease, what: str | Path) -> Iterator[Lease]:
    held = _Held(path, own, _take_in_store(path, own, what))
    beat = threading.Thread(target=held.renew, daemon=True)
    beat.start()
    try:
        yield own
        held.write()
        if held.version is None:
            raise PopcatError(_taken_over(what, read_or_none(path, Lease)))
    finally:
        held.ended.set()
        beat.join()
        with suppress(OSError, PopcatError):
            held.write(ended=True)


def _take_in_store(path: StorePath, own: Lease, what: str | Path) -> str:
    """The version of the lease that was written; PopcatError if another run has it."""
    for _ in range(_TRIES):
        seen = version_of(path)
        there = None if seen is None else read_or_none(path, Lease)
        if there is not None and not there.ended and _lives(path, there, what):
            raise PopcatError(f"another run writes to {what} ({there}): wait until it has ended, or end it")
        if (version := swap_json(path, own.model_dump(), seen)) is not None:
            return version
    raise PopcatError(f"another run began to write to {what} at the same moment: wait until it has ended")


def _take(path: Path, own: Lease, what: str | Path) -> None:
    for _ in range(_TRIES):
        if create_json(path, own.model_dump(exclude=_OF_STORES)):
            return
        there = read_or_none(path, Lease)
        if there is None and not path.exists():
            continue  # it has just ended
        if there is not None and _lives(path, there, what):
            raise PopcatError(f"another run writes to {what} ({there}): wait until it has ended, or end it")
        write_json_atomic(path, own.model_dump(exclude=_OF_STORES))
        time.sleep(_SETTLED_S)  # of several that replace it, the last one stays
        break
    _require_own(path, own, what)


def _require_own(path: Path, own: Lease, what: str | Path) -> None:
    there = read_or_none(path, Lease)
    if there is None and not path.parent.is_dir():
        return  # a folder that is gone has an error of its own
    if there != own:
        raise PopcatError(_taken_over(what, there))


def _taken_over(what: str | Path, there: Lease | None) -> str:
    return (f"another run took {what} over ({there or 'its lease is gone'}): wait until it has ended, then give the "
            "same command again")


def _lives(path: AnyPath, there: Lease, what: str | Path) -> bool:
    """Whether the holder of a lease lives: its process, here; elsewhere it renews the lease within half a minute."""
    if there.place == _place():
        with suppress(psutil.Error):
            return abs(psutil.Process(there.pid).create_time() - there.began) < 1.0
        return False
    warnings.warn(f"{what} was being written by {there}: waiting up to {SILENT_S:.0f} s for a sign of life of it",
                  UserWarning, stacklevel=5)  # fmt: skip
    before, start = _changed(path), time.monotonic()
    while time.monotonic() - start < SILENT_S:
        time.sleep(_LOOK_S)
        if _changed(path) != before:
            return path.exists()
    return False


def _renew(path: Path, own: Lease, ended: threading.Event) -> None:
    while not ended.wait(BEAT_S):
        with suppress(OSError):
            if read_or_none(path, Lease) == own:
                os.utime(path)


def _changed(path: AnyPath) -> int | None:
    with suppress(OSError):
        return stamp_of(path)[1]
    return None


def _place() -> str:
    """This machine, and the namespace of its process numbers: containers may share a name."""
    with suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()

"""How far a task is while it runs, wherever it runs: one small file in a folder that the waiting process sees too.

A task of an hour would otherwise be silent until its end. It writes its file after each piece of its work; a thread of
the process that waits reads it and passes it on (`popcat.run.runner.run`, argument `told`).
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event, Thread

from popcat.errors import PopcatError
from popcat.files import read_json, write_json_atomic

_EVERY_S = 0.5


@dataclass(frozen=True)
class Told:
    """How far one job is.

    done : how much of it, in the unit of the run. words : what it is at, in a few words. left_s : seconds that are left
    of it, as far as is known. facts : for the log.
    """

    done: int
    words: str
    left_s: float | None = None
    facts: dict = field(default_factory=dict)


def tell(folder: Path, index: int, told: Told) -> None:
    """Say how far job `index` is. What cannot be said never stops the job.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with listening(Path(folder), lambda index, told: print(index, told.words)):
    ...         tell(Path(folder), 3, Told(done=10, words="step 10 of 20"))
    3 step 10 of 20
    """
    with contextlib.suppress(OSError, PopcatError):
        write_json_atomic(_path(folder, index), asdict(told))


@contextlib.contextmanager
def listening(folder: Path | None, hear: Callable[[int, Told], None]) -> Iterator[None]:
    """While the block runs, `hear` is called in a thread with what each job says; nothing without a folder.

    What an earlier run has left in the folder is removed first.
    """
    if folder is None:
        yield
        return
    seen: dict[Path, Told] = {}
    ended = Event()
    for path in folder.glob("told-*.json"):
        path.unlink(missing_ok=True)
    thread = Thread(target=_listen, args=(folder, hear, seen, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _look(folder, hear, seen)


def _listen(folder: Path, hear: Callable[[int, Told], None], seen: dict[Path, Told], ended: Event) -> None:
    while not ended.wait(_EVERY_S):
        _look(folder, hear, seen)


def _look(folder: Path, hear: Callable[[int, Told], None], seen: dict[Path, Told]) -> None:
    """Pass on what is new."""
    for path in sorted(folder.glob("told-*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError, PopcatError):
            told = Told(**read_json(path))
            if told != seen.get(path):
                seen[path] = told
                hear(int(path.stem.removeprefix("told-")), told)


def _path(folder: Path, index: int) -> Path:
    return folder / f"told-{index}.json"

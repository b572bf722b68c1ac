"""What became of a job, and jobs that this process does itself, without Dask, which takes a second to import."""

from collections.abc import Callable, Generator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from popcat.timing import recording


class Outcome(NamedTuple):
    """What became of a job: `error` is None where it is done; then `value` is what its task returned, and `made` the
    record of who did it and how long each stage took (popcat.timing). A run tells of `made` and does not keep it.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of it
    error: Exception | None
    value: Any = None
    made: Mapping = MappingProxyType({})


class Here:
    """task(*jobs[i]) for every i in this process, one after the other, as outcomes."""

    def __init__(self, task: Callable, jobs: dict[int, tuple]):
        self.task, self.jobs, self.stopped = task, jobs, False

    def __iter__(self) -> Generator[Outcome, None, None]:
        for index, arguments in self.jobs.items():
            if self.stopped:
                return
            try:
                with recording("this process") as record:
                    outcome = Outcome(index, None, self.task(*arguments), record.as_dict())
            except Exception as error:
                outcome = Outcome(index, error)
            yield outcome

    def stop(self) -> None:
        """Begin nothing more."""
        self.stopped = True


class OnlyHere:
    """A function that is called in the process that made this, and does nothing in any other.

    >>> import pickle
    >>> told = []
    >>> tell = OnlyHere(told.append)
    >>> tell("an epoch")
    >>> pickle.loads(pickle.dumps(tell))("elsewhere")
    >>> told
    ['an epoch']
    """

    def __init__(self, call: Callable):
        self.call = call

    def __call__(self, *arguments) -> None:
        self.call(*arguments)

    def __reduce__(self):
        return OnlyHere, (_nothing,)


def _nothing(*arguments) -> None:
    """What `OnlyHere` does elsewhere."""

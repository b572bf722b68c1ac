"""What a worker runs. Light to import, because the scheduler and the workers' event loops import it too."""

import logging
import pickle
from collections.abc import Callable
from typing import Any

import distributed

import popcat
from popcat.errors import PopcatError
from popcat.timing import recording

GPU = "GPU"
"""The resource that marks a worker with a GPU: `dask worker --resources GPU=1`."""


def run_on_worker(payload: bytes, needs_gpu: bool, version: str) -> tuple[Any, dict]:
    """task(*arguments) of a pickled (task, arguments), and its record under the worker's name (popcat.timing).

    The pickle is the client's own, and opened only here: in a thread of the worker that may take its time to import.

    Raises PopcatError on a worker that is not the one that was meant.
    """
    worker = distributed.get_worker()
    gpu = worker.state.total_resources.get(GPU, 0) > 0
    if needs_gpu and not gpu:
        raise PopcatError(f"worker {worker.address} has no GPU, but was given a task that needs one")
    if popcat.__version__ != version:
        raise PopcatError(f"worker {worker.address} has popcat {popcat.__version__}, expected {version}: install the "
                          "same version on every machine")  # fmt: skip
    task, arguments = pickle.loads(payload)
    try:
        with recording(worker.address, gpu=gpu) as record:
            return task(*arguments), record.as_dict()
    except Exception as error:
        if not isinstance(error, PopcatError):
            logging.getLogger("distributed.worker").exception("popcat: a task failed")
        raise _portable(error) from None


def _portable(error: Exception) -> Exception:
    """An error that can travel, without the traceback, which stays in the worker's log.

    A client waits for ever for one that it cannot unpickle, or whose traceback is too deep.
    """
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error.with_traceback(None)


class OnlyHere:
    """A function that is called in the process that made this, and does nothing in any other.

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

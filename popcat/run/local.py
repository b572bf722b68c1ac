"""Local workers: new processes, each of which imports the script that started them, and has a scratch folder.

Nobody else on the machine can give them work.
"""

import ast
import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from popcat.errors import PopcatError

if TYPE_CHECKING:
    import distributed

# A partition that kills two local workers is to blame; a cluster of its own has Dask's default of four.
_LOCAL = {"distributed.scheduler.allowed-failures": 1}
# Kernels and torch are single-threaded: Dask does the parallelism.
_THREADS = {"OMP_NUM_THREADS": 1, "MKL_NUM_THREADS": 1, "OPENBLAS_NUM_THREADS": 1, "NUMBA_NUM_THREADS": 1}


@contextlib.contextmanager
def local_client(n: int) -> "Iterator[distributed.Client]":
    """A client of a new cluster of n one-threaded processes, which ends with the block.

    A scheduler runs whatever a client sends it, and any user of the machine reaches its port: so this one and its
    workers speak TLS with certificates that only they have. The dashboard, which runs nothing, is on the loopback
    interface; Dask knows no password for it.

    Raises PopcatError if the script that runs would start itself again in each process, or a process cannot start.
    """
    import dask
    import distributed

    if (line := unguarded_line(sys._getframe())) is not None:
        raise PopcatError(f"line {line} of {_script()} starts processes, which run the script again: put what it does "
                          'under `if __name__ == "__main__":`, or give client="synchronous" to use this process alone')
    with contextlib.ExitStack() as stack:
        try:  # Dask's logs show a traceback of what popcat says in a line; of what is unexpected popcat shows it
            stack.enter_context(dask.config.set({**_LOCAL, "distributed.nanny.pre-spawn-environ": _THREADS}))
            cluster = stack.enter_context(distributed.LocalCluster(
                n_workers=n, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0",
                security=distributed.Security.temporary(), silence_logs=logging.CRITICAL,
            ))  # fmt: skip
            client = stack.enter_context(distributed.Client(cluster, set_as_default=False))
        except (OSError, RuntimeError) as error:
            raise PopcatError(f"no local workers can be started: {_first_cause(error)}; their scratch folder is "
                              f"{_scratch()}: set DASK_TEMPORARY_DIRECTORY to a folder that can be written, or give "
                              'client="synchronous" (--client synchronous) to use this process alone') from error
        yield client


def unguarded_line(frame: FrameType | None) -> int | None:
    """The line of the main script that a call comes from, if a process that imports the script would run it too.

    None where the call is under `if __name__ == "__main__":`, in a notebook, from another thread, or where the main
    module is that of a package (`python -m popcat`), which new processes do not import.
    """
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name.endswith("__main__"):
        return None
    while frame is not None and frame.f_back is not None:
        frame = frame.f_back
    path = getattr(main, "__file__", None)
    if frame is None or path is None or frame.f_globals is not vars(main) or frame.f_code.co_name != "<module>":
        return None
    try:
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return None
    guards = (node for node in tree.body if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test))
    if any(guard.lineno <= frame.f_lineno <= (guard.end_lineno or guard.lineno) for guard in guards):
        return None
    return frame.f_lineno


def _script() -> str:
    return Path(getattr(sys.modules["__main__"], "__file__", "the script")).name


def _scratch() -> str:
    import dask

    return str(dask.config.get("temporary-directory") or "dask-scratch-space in the folder for temporary files")


def _first_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

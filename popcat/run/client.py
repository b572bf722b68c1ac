"""Where a run runs: in this process, on a local cluster, or on the cluster of a scheduler."""

import contextlib
import importlib.util
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import dask
import distributed

from popcat.errors import PopcatError

SYNCHRONOUS = "synchronous"
"""Instead of a scheduler's address: run everything in this process, for debuggers and small inputs."""
# A partition that kills two local workers is to blame; a cluster of its own has Dask's default of four.
_LOCAL = {"distributed.scheduler.allowed-failures": 1}
# Kernels and torch are single-threaded: Dask does the parallelism.
_THREADS = {"OMP_NUM_THREADS": 1, "MKL_NUM_THREADS": 1, "OPENBLAS_NUM_THREADS": 1, "NUMBA_NUM_THREADS": 1}


@contextlib.contextmanager
def connect(
    scheduler: str | None, *, workers: int | None = None, tasks: int | None = None
) -> Iterator[distributed.Client | None]:
    """A client of a scheduler, of a local cluster of one-threaded processes, or None for `SYNCHRONOUS` or no tasks.

    `scheduler` is an address or the scheduler file that `dask scheduler --scheduler-file` writes. For a "tls://"
    address the certificates come from Dask's configuration (distributed.comm.tls).

    Raises PopcatError if nothing answers at the address.
    """
    if scheduler == SYNCHRONOUS or tasks == 0:
        yield None
    elif scheduler is not None:
        with _quiet(), _remote(scheduler) as client:
            yield client
    else:
        n = min(workers or dask.system.CPU_COUNT, tasks or sys.maxsize)
        with (
            dask.config.set({**_LOCAL, "distributed.nanny.pre-spawn-environ": _THREADS}),
            distributed.LocalCluster(
                n_workers=n, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=logging.ERROR
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client


def check_scheduler(scheduler: str | None) -> None:
    """PopcatError if nothing answers at the address: asked before an output folder is begun."""
    if scheduler not in (None, SYNCHRONOUS):
        _remote(scheduler, set_as_default=False).close()


def check_performance_report(path: str | Path | None) -> None:
    """PopcatError if a performance report could not be written there."""
    if path is None:
        return
    if importlib.util.find_spec("bokeh") is None:
        raise PopcatError("a performance report needs bokeh: pip install 'dask[diagnostics]'")
    if not Path(path).absolute().parent.is_dir():
        raise PopcatError(f"cannot write {path}: there is no folder {Path(path).parent}")


@contextlib.contextmanager
def performance_reported(client: distributed.Client | None, path: str | Path | None) -> Iterator[None]:
    """Dask's report of what happens in the block, as HTML; nothing without a cluster or a path."""
    if client is None or path is None:
        yield
        return
    report = distributed.performance_report(filename=str(path))
    report.__enter__()
    try:
        yield
    finally:
        # a dead scheduler has no report, and its own error is the one to see
        if client.status == "running":
            report.__exit__(None, None, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Dask's log of a lost connection is pages long; popcat says it in one line."""
    loggers = [logging.getLogger(f"distributed.{name}") for name in ("client", "core", "comm", "batched")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _remote(address: str, *, set_as_default: bool = True) -> distributed.Client:
    try:
        where = _from_file(Path(address)) if str(address).endswith(".json") else address
        return distributed.Client(where, timeout="10s", set_as_default=set_as_default)
    except (OSError, ValueError, TypeError, LookupError, RecursionError, TimeoutError) as error:
        raise PopcatError(
            f"no Dask scheduler answers at {address}: {error}; start one with `dask scheduler`, check the "
            "address with `popcat doctor --scheduler`, or leave --scheduler out"
        ) from error


def _from_file(path: Path) -> str:
    """The address in a scheduler file."""
    if not path.is_file():
        raise PopcatError(f"no scheduler file {path}: `dask scheduler --scheduler-file {path}` writes it")
    address = json.loads(path.read_text(encoding="utf-8"))["address"]
    if not isinstance(address, str) or not address:
        raise TypeError("expected a scheduler file with an address in it")
    return address

"""Where work runs: on a cluster that is given, on the active client's, on a local one, or in this process.

Dask is imported where it is used: work that runs in this process needs none of it, and starts a second earlier.
"""

import asyncio
import contextlib
import importlib.util
import logging
import math
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeGuard, Union

from popcat.errors import PopcatError
from popcat.files import read_json
from popcat.paths import local
from popcat.run.local import local_client

if TYPE_CHECKING:
    import distributed
    from distributed.deploy import Cluster

    Where: TypeAlias = distributed.Client | Cluster | str | Path | None
else:
    Where = Union["distributed.Client", "distributed.deploy.Cluster", str, Path, None]  # of late imports
"""A client, a cluster, the address of a scheduler or its scheduler file, `SYNCHRONOUS`, or None: see `connect`."""

SYNCHRONOUS = "synchronous"
"""Instead of a cluster: run everything in this process, for debuggers and small inputs."""
START_S = 4.0
"""Seconds that local workers take to start and to import (3 to 5 on two cores, with warm caches)."""
ANSWER_S = 6.0
"""Seconds in which a scheduler must have answered: what takes connections and is none may never do."""


@contextlib.contextmanager
def connect(
    client: Where = None, *, workers: int | None = None, tasks: int | None = None, seconds: float = math.inf
) -> "Iterator[distributed.Client | None]":
    """The client that `tasks` tasks run on, or None where they run in this process.

    `client` is a distributed.Client, a cluster object, an address, the file of `dask scheduler --scheduler-file`, or
    `SYNCHRONOUS`. None means, in this order: a local cluster of `workers` one-threaded processes where `workers` is
    given; the active client; this process, where starting workers costs more than they save of the `seconds` that the
    work takes on one core; a local cluster with one process a core. What was open before stays open.

    For a "tls://" address the certificates come from Dask's configuration (distributed.comm.tls).

    Raises PopcatError if the client or cluster is closed, or nothing answers at the address.

    >>> with connect("synchronous") as client:
    ...     print(client)
    None
    """
    check_client(client, workers)
    if client is None and workers is None and tasks != 0:
        client = active()
    if tasks == 0 or client == SYNCHRONOUS:
        yield None
    elif _is_client(client):
        yield client
    elif client is not None:
        with _quiet(), _connected(client) as own:  # type: ignore[arg-type]  # no client, as seen above
            yield own
    elif workers is None and not _pays(seconds, tasks):
        yield None
    else:
        with local_client(min(workers or cores(), tasks or sys.maxsize)) as own:
            yield own


def check_client(client: Where, workers: int | None = None, *, answers: bool = False) -> None:
    """PopcatError for a `client` that cannot work, or `workers` beside one; `answers`: also if no scheduler answers."""
    if client is not None and workers is not None:
        raise PopcatError("workers is the size of a local cluster: leave out workers, or client")
    if _is_client(client) or _is_cluster(client):
        if (state := _state(client)) != "running":
            raise PopcatError(f"client: expected a {type(client).__name__} that is running, got one that is {state}: "
                              "open a new one")  # fmt: skip
    elif not isinstance(client, str | Path | None):
        remedy = "; give its client: client=cluster.get_client()" if hasattr(client, "get_client") else ""
        raise PopcatError("client: expected a distributed.Client, a cluster, an address, a scheduler file or "
                          f'"{SYNCHRONOUS}", got {type(client).__name__}{remedy}')  # fmt: skip
    elif answers and client not in (None, SYNCHRONOUS):
        _connected(client).close()


def _is_client(one) -> "TypeGuard[distributed.Client]":
    """Whether it is a distributed.Client, without the import: who has one has imported it."""
    module = sys.modules.get("distributed")
    return module is not None and isinstance(one, module.Client)


def _is_cluster(one) -> "TypeGuard[Cluster]":
    module = sys.modules.get("distributed.deploy")
    return module is not None and isinstance(one, module.Cluster)


def cores() -> int:
    """Cores that this process may use, as Dask counts them: limits of containers too."""
    from dask.system import CPU_COUNT

    return CPU_COUNT


def _state(one: "distributed.Client | Cluster") -> str:
    """ "running" for what can be used from here."""
    return "asynchronous" if one.asynchronous else getattr(one.status, "name", one.status)


def active() -> "distributed.Client | str | None":
    """The client of the caller's own, where there is one. Inside a task it is this process: a task that waits for
    others could take the place that they need.
    """
    if (distributed := sys.modules.get("distributed")) is None:
        return None
    with contextlib.suppress(ValueError):
        distributed.get_worker()
        return SYNCHRONOUS
    with contextlib.suppress(ValueError):
        active = distributed.get_client()
        return active if _state(active) == "running" else None
    return None


def _pays(seconds: float, tasks: int | None) -> bool:
    """Whether local workers save more than they cost. One core counts as two: workers also contain what goes wrong."""
    if tasks == 1:
        return False
    n = max(min(cores(), tasks or sys.maxsize), 2)
    return seconds * (1.0 - 1.0 / n) > START_S


def check_performance_report(path: str | Path | None) -> None:
    """PopcatError if a performance report could not be written there."""
    if path is None:
        return
    if importlib.util.find_spec("bokeh") is None:
        raise PopcatError("a performance report needs bokeh: pip install 'dask[diagnostics]'")
    if not local(path).absolute().parent.is_dir():
        raise PopcatError(f"cannot write {path}: there is no folder {Path(path).parent}")


@contextlib.contextmanager
def performance_reported(client: "distributed.Client | None", path: str | Path | None) -> Iterator[None]:
    """Dask's report of what happens in the block, as HTML; nothing without a cluster or a path."""
    if client is None or path is None:
        yield
        return
    import distributed

    report = distributed.performance_report(filename=str(path))
    with client.as_current():
        report.__enter__()
    try:
        yield
    finally:
        # a dead scheduler has no report, and its own error is the one to see
        if client.status == "running":
            with client.as_current():
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


def _connected(where: "Cluster | str | Path") -> "distributed.Client":
    """A client of a cluster, an address or a scheduler file, not the default of later Dask work."""
    import distributed
    from distributed.deploy import Cluster

    if isinstance(where, Cluster):
        return distributed.Client(where, set_as_default=False)
    try:
        is_file = isinstance(where, Path) or where.endswith(".json")
        address = _from_file(Path(where)) if is_file else where
        _require_scheduler(str(address))
        return distributed.Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError, TypeError, LookupError, RecursionError, TimeoutError) as error:
        raise PopcatError(
            f"no Dask scheduler answers at {where}: {error}; start one with `dask scheduler`, check the "
            "address with `popcat doctor --client`, or leave --client (client=) out"
        ) from error


def _require_scheduler(address: str) -> None:
    """What distributed raises, within ANSWER_S, where no scheduler answers at an address that leaves this process.

    distributed.Client waits for minutes for what takes connections and never speaks, and prints pages about it.
    """
    from distributed.comm import parse_address
    from distributed.comm.registry import get_backend
    from distributed.security import Security

    scheme, _ = parse_address(address)
    get_backend(scheme)  # refuses http:// and the like
    if scheme == "inproc":
        return
    security = Security()
    if scheme == "tls" and not security.get_tls_config_for_role("client")["ca_file"]:
        raise ValueError("tls:// needs certificates, and Dask's configuration names none: set DASK_CONFIG to a file "
                         "with distributed.comm.tls, as deploy/dask.yaml has it")  # fmt: skip
    with ThreadPoolExecutor(1) as pool:  # in a notebook this thread runs an event loop already
        next(pool.map(asyncio.run, [_ask(address, security.get_connection_args("client"))]))


async def _ask(address: str, arguments: dict) -> None:
    """Connect to a scheduler and let it say what it is."""
    from distributed.comm import connect

    async def asked() -> None:
        comm = await connect(address, timeout=ANSWER_S - 1.0, **arguments)
        try:
            await comm.write({"op": "identity", "reply": True})
            told = await comm.read()
        finally:
            comm.abort()
        if not isinstance(told, dict) or told.get("type") != "Scheduler":
            kind = told.get("type", "something else") if isinstance(told, dict) else "something else"
            raise ValueError(f"expected a scheduler, got a {kind}")

    try:
        await asyncio.wait_for(asked(), ANSWER_S)
    except TimeoutError as error:
        raise TimeoutError(f"it accepts connections, but did not answer in Dask's protocol for "
                           f"{ANSWER_S:.0f} s") from error  # fmt: skip


def _from_file(path: Path) -> str:
    """The address in a scheduler file."""
    if not path.is_file():
        raise PopcatError(f"no scheduler file {path}: `dask scheduler --scheduler-file {path}` writes it")
    address = read_json(path)["address"]
    if not isinstance(address, str) or not address:
        raise TypeError("expected a scheduler file with an address in it")
    return address

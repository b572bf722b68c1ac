"""Clusters to measure on: a scheduler and workers, each a process of this machine."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from popcat.run.client import connect

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


@contextlib.contextmanager
def cluster(folder: Path, workers: int, threads: int = 1) -> Iterator[Path]:
    """A scheduler and workers, each a process: the scheduler file, once the workers are there."""
    folder.mkdir()
    file = folder / "scheduler.json"
    dask, quiet = [sys.executable, "-m", "dask"], ["--no-dashboard"]
    commands = [[*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file), *quiet]]
    commands += [[*dask, "worker", "--scheduler-file", str(file), "--nthreads", str(threads),
                  "--local-directory", str(folder), *quiet]] * workers  # fmt: skip
    started = []
    try:
        for number, command in enumerate(commands):
            with open(folder / f"{number}.log", "w") as log:
                started.append(subprocess.Popen(command, env={**os.environ, **ONE_THREAD}, stdout=log, stderr=log))
            while not file.exists():
                time.sleep(0.1)
        with connect(str(file)) as client:
            client.wait_for_workers(workers, timeout=300)
        yield file
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait()

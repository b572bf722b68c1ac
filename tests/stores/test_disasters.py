"""Runs into a store that are killed, or whose store is busy: each ends, after a rerun, in the undisturbed catalogue."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pyarrow.parquet as pq
import pytest

from popcat import infer, verify
from popcat.catalog.manifest import read_manifest
from popcat.paths import path_of

ROWS = 5
HOW = {"draws": 20, "rows_per_partition": ROWS}
PATIENCE_S = 900


@pytest.fixture(scope="module")
def catalog(galaxies, tmp_path_factory):
    path = tmp_path_factory.mktemp("catalog") / "galaxies.parquet"
    pq.write_table(pq.read_table(galaxies), path)
    return path


@pytest.fixture(scope="module")
def undisturbed(catalog, tmp_path_factory):
    made = infer(catalog, output=tmp_path_factory.mktemp("whole") / "out", client="synchronous", **HOW)
    return [part.sha256 for part in made.require_manifest().parts]


@pytest.fixture
def start(catalog, proxy, bucket, tmp_path):
    """Start `popcat infer` into the bucket on two workers; what is left of it at the end is killed."""
    started = []

    def run():
        command = [sys.executable, "-m", "popcat", "infer", catalog, "--draws", 20, "--rows-per-partition", ROWS,
                   "--workers", 2, "-o", f"{bucket}/out"]  # fmt: skip
        with open(tmp_path / f"{len(started)}.log", "w") as log:
            environment = {**os.environ, "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            started.append(subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, env=environment))
        return started[-1]

    yield run
    for process in started:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            process.kill()
        process.wait()


def written(bucket):
    """How many parts there are."""
    return len(path_of(f"{bucket}/out").rglob("part-*.parquet"))


def wait_for(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def workers_of(process):
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    return []


def digest(bucket):
    assert verify(f"{bucket}/out").ok
    return [part.sha256 for part in read_manifest(f"{bucket}/out").parts]


@pytest.mark.slow
def test_workers_and_clients_that_are_killed_change_nothing(start, bucket, undisturbed):
    rng = random.Random(0)
    for _ in range(3):  # clients, and before each of them a worker
        client = start()
        aim = min(written(bucket) + 3, len(undisturbed) - 1)
        wait_for(lambda aim=aim, client=client: written(bucket) >= aim or client.poll() is not None)
        if alive := workers_of(client):
            rng.choice(alive).kill()
        wait_for(lambda aim=aim, client=client: written(bucket) >= aim + 2 or client.poll() is not None)
        children = psutil.Process(client.pid).children(recursive=True) if client.poll() is None else []
        client.send_signal(signal.SIGKILL)
        client.wait()
        psutil.wait_procs(children, timeout=60)
    assert start().wait(PATIENCE_S) == 0
    assert digest(bucket) == undisturbed
    names = {str(one.relative_to(path_of(f"{bucket}/out"))) for one in path_of(f"{bucket}/out").rglob("*")}
    assert not [name for name in names if name.endswith(".tmp")]
    assert len([name for name in names if name.startswith("part-")]) == len(undisturbed)


@pytest.mark.slow
def test_a_store_that_is_busy_is_asked_again(proxy, start, bucket, undisturbed, tmp_path):
    number = itertools.count()
    proxy.fails = lambda method, path: next(number) % 5 == 3
    client = start()
    assert client.wait(PATIENCE_S) == 0, (tmp_path / "0.log").read_text()[-2000:]
    assert sum(one.status == 503 for one in proxy.seen) > len(undisturbed)
    proxy.fails = lambda method, path: False
    assert digest(bucket) == undisturbed


def test_an_answer_503_is_asked_again_in_one_process(proxy, bucket, forty):
    number = itertools.count()
    proxy.fails = lambda method, path: next(number) % 4 == 1
    infer(forty, output=f"{bucket}/out", draws=4, rows_per_partition=20, client="synchronous")
    assert any(one.status == 503 for one in proxy.seen)
    proxy.fails = lambda method, path: False
    assert verify(f"{bucket}/out").ok

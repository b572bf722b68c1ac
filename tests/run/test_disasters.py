"""What a survey run lives through, with real processes: each ends, after a rerun, in the undisturbed catalogue."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from popcat.catalog.manifest import read_manifest
from popcat.catalog.verification import verify
from popcat.inference.infer import infer as infer_posteriors
from popcat.run.client import SYNCHRONOUS, connect

pytestmark = pytest.mark.slow
GALAXIES, ROWS, DRAWS = 600, 10, 20
PARTS = GALAXIES // ROWS
PATIENCE_S = 1200
LOCAL = {"client": SYNCHRONOUS}

POISON = """
import os, signal
from popcat.inference import partition
real = getattr(partition, "real", partition.write_posterior_part)  # Dask runs a preloaded file twice
partition.real = real

def write_posterior_part(folder, index, *rest):
    if index == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(folder, index, *rest)

write_posterior_part.__module__, write_posterior_part.__qualname__ = real.__module__, real.__qualname__
partition.write_posterior_part = write_posterior_part
"""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("catalog") / "galaxies.parquet"
    pq.write_table(pq.read_table(files("popcat") / "data" / "galaxies_sdss.parquet").slice(0, GALAXIES), path)
    return path


@pytest.fixture(scope="module")
def infer(catalog, tiny_model):
    def inferred(output, **options):
        given = {"posterior": tiny_model, "draws": DRAWS, "rows_per_partition": ROWS, **LOCAL, **options}
        return infer_posteriors(catalog, output=output, **given)

    return inferred


@pytest.fixture(scope="module")
def undisturbed(infer, tmp_path_factory):
    return [part.sha256 for part in infer(tmp_path_factory.mktemp("whole") / "out").require_manifest().parts]


@pytest.fixture
def command(catalog, tiny_model, tmp_path):
    """The same run as a command line."""
    return [sys.executable, "-m", "popcat", "infer", catalog, "--posterior", tiny_model, "--draws", DRAWS,
            "--rows-per-partition", ROWS, "-o", tmp_path / "out"]  # fmt: skip


@pytest.fixture
def start(tmp_path):
    """Start a process; what is left of it and its children at the end is killed."""
    started = []

    def run(*arguments, **options):
        with open(tmp_path / f"{len(started)}.log", "w") as log:
            words = [str(word) for word in arguments]
            started.append(subprocess.Popen(words, stdout=log, stderr=log, **options))
        return started[-1]

    yield run
    for process in reversed(started):
        kill_tree(process.pid)
        process.wait()


@pytest.fixture
def scheduler(start, tmp_path):
    """Start `dask scheduler`: the process and its scheduler file."""

    def run():
        file = tmp_path / "scheduler.json"
        file.unlink(missing_ok=True)
        process = start(sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0",
                        "--scheduler-file", file, "--no-dashboard")  # fmt: skip
        wait_for(file.exists)
        return process, file

    return run


@pytest.fixture
def worker(start):
    """Start `dask worker` with one thread."""

    def run(file, *options):
        return start(sys.executable, "-m", "dask", "worker", "--scheduler-file", file, "--nthreads", "1",
                     "--no-dashboard", *options, env=one_thread())  # fmt: skip

    return run


def one_thread():
    return {**os.environ, "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def kill_tree(pid):
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.Process(pid).kill()


def wait_for(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def parts(folder):
    return len(list(folder.glob("part-*.parquet")))


def digests(folder):
    assert verify(folder).ok
    return [part.sha256 for part in read_manifest(folder).parts]


def worker_processes(nanny):
    """The process that works, not the nanny that starts it again nor the helper of multiprocessing."""
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(nanny.pid).children(recursive=True)
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    return []


def test_ten_random_kills_of_workers_change_nothing(scheduler, worker, start, command, undisturbed, tmp_path):
    _, file = scheduler()
    nannies = [worker(file), worker(file)]
    client = start(*command, "--client", file)
    rng, kills, aim = random.Random(0), 0, 1
    while client.poll() is None and kills < 10:
        wait_for(lambda aim=aim: parts(tmp_path / "out") >= aim or client.poll() is not None)
        time.sleep(rng.uniform(0, 0.2))
        alive = [process for nanny in nannies for process in worker_processes(nanny)]
        if alive:
            with suppress(psutil.NoSuchProcess):
                rng.choice(alive).kill()
                kills += 1
                aim = parts(tmp_path / "out") + rng.randint(1, 4)
    assert client.wait(PATIENCE_S) == 0
    assert kills == 10
    assert digests(tmp_path / "out") == undisturbed


def test_a_client_that_is_killed_leaves_a_run_that_a_rerun_finishes(start, command, infer, undisturbed, tmp_path):
    client = start(*command, "--workers", 1)
    wait_for(lambda: parts(tmp_path / "out") >= 5)
    processes = psutil.Process(client.pid).children(recursive=True)
    client.send_signal(signal.SIGKILL)
    client.wait()
    psutil.wait_procs(processes, timeout=60)
    assert not any(process.is_running() for process in processes)  # workers do not outlive their client
    assert parts(tmp_path / "out") < PARTS
    infer(tmp_path / "out")
    assert digests(tmp_path / "out") == undisturbed


def test_a_scheduler_that_dies_is_said_and_a_rerun_finishes(
    scheduler, worker, start, command, undisturbed, tmp_path
):
    process, file = scheduler()
    worker(file, "--no-nanny", "--death-timeout", "20")
    client = start(*command, "--client", file)
    wait_for(lambda: parts(tmp_path / "out") >= 5)
    process.kill()
    assert client.wait(PATIENCE_S) == 2
    said = (tmp_path / "2.log").read_text()
    assert said.splitlines()[-1].startswith("Error: the connection to the Dask scheduler is lost")
    assert "Traceback" not in said
    assert parts(tmp_path / "out") < PARTS
    _, file = scheduler()
    worker(file, "--no-nanny")
    assert start(*command, "--client", file).wait(PATIENCE_S) == 0
    assert digests(tmp_path / "out") == undisturbed


def test_a_poisoned_partition_is_named_and_the_others_are_written(
    scheduler, worker, start, command, infer, undisturbed, tmp_path
):
    (tmp_path / "poison.py").write_text(POISON)
    _, file = scheduler()
    for _ in range(2):
        worker(file, "--preload", tmp_path / "poison.py")
    client = start(*command, "--client", file, "--log", tmp_path / "log.jsonl")
    assert client.wait(PATIENCE_S) == 2
    said = (tmp_path / "3.log").read_text()
    assert "1 of 60 partitions failed (7)" in said
    assert "its worker died each time" in said
    assert parts(tmp_path / "out") == PARTS - 1
    assert '"part_failed", "part": 7' in (tmp_path / "log.jsonl").read_text()
    infer(tmp_path / "out")
    assert digests(tmp_path / "out") == undisturbed


def test_sampling_runs_on_workers_with_a_gpu_alone(scheduler, worker, infer, undisturbed, tmp_path):
    _, file = scheduler()
    worker(file, "--name", "cpu")
    # it may have no GPU: what it is given is the question here
    (tmp_path / "pretend.py").write_text("from popcat.posterior.posterior import Posterior\n"
                                         "Posterior.to = lambda posterior, device: posterior\n")  # fmt: skip
    worker(file, "--name", "gpu", "--resources", "GPU=1", "--preload", tmp_path / "pretend.py")
    with connect(str(file)) as client:
        client.wait_for_workers(2, timeout=PATIENCE_S)
        workers = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
    gpu = {address for address, one in workers.items() if one["resources"]}
    infer(tmp_path / "out", client=str(file))
    sidecars = [(tmp_path / "out" / "_popcat" / f"{index:06d}.json").read_text() for index in range(PARTS)]
    assert all(f'"worker": "{address}"' in text for text in sidecars for address in gpu)
    assert all('"gpu": true' in text for text in sidecars)
    assert digests(tmp_path / "out") == undisturbed


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 300 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], capture_output=True)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted: {done.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("workers", [["--client", "synchronous"], ["--workers", "2"]])
def test_a_disk_that_fills_stops_the_run_and_a_rerun_finishes(command, small_disk, start, undisturbed, workers):
    out = small_disk / "out"
    command = [*command[:-1], out, *workers]
    assert start(*command).wait(PATIENCE_S) == 2
    said = (small_disk.parent / "0.log").read_text()
    assert "the disk is full" in said and "make room and give the same command again" in said
    assert 0 < parts(out) < PARTS
    assert [path for path in out.rglob("*.tmp")] == []
    for part in out.glob("part-*.parquet"):
        pq.read_table(part)
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert start(*command).wait(PATIENCE_S) == 0
    assert digests(out) == undisturbed


def test_a_quota_that_is_reached_is_a_full_disk(command, start, tmp_path):
    limited = f"ulimit -f 8; trap '' XFSZ; exec {' '.join(map(str, command))} --client synchronous"
    assert start("bash", "-c", limited, env={**one_thread(), "NUMBA_CACHE_DIR": str(tmp_path)}).wait(PATIENCE_S) == 2
    assert "the disk is full" in (tmp_path / "0.log").read_text()
    assert [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".tmp", ".parquet")] == []

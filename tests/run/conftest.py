"""A cluster in this process, and parts that cost nothing."""

import warnings

import pytest

from popcat.catalog.parts import OutputFolder


@pytest.fixture
def cluster():
    """Start a cluster of one-threaded workers in this process, with these resources each: a client."""
    from distributed import Client, Scheduler, SpecCluster, Worker

    open_ones = []

    def start(*resources):
        options = {"dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}
        workers = {
            i: {"cls": Worker, "options": {"nthreads": 1, "resources": one, "host": "127.0.0.1",
                                           "dashboard_address": "127.0.0.1:0"}}
            for i, one in enumerate(resources)
        }  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about ports
            spec = SpecCluster(workers=workers, scheduler={"cls": Scheduler, "options": options}, silence_logs=50)
        client = Client(spec, set_as_default=False)
        open_ones.extend([client, spec])
        return client

    yield start
    for one in open_ones:
        one.close()


@pytest.fixture
def folder(tmp_path):
    """An output folder of six parts."""
    return OutputFolder.open(tmp_path / "out", {"n": 12}, 6, kind="demo")


@pytest.fixture
def jobs(folder):
    return {index: (folder, index) for index in range(6)}

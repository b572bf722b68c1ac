"""`client=` says where work runs: what is given is used and stays open, and little work needs no cluster at all."""

import asyncio
import contextlib
import http.server
import json
import socket
import threading
import time

import dask
import distributed
import pytest

from popcat.errors import PopcatError
from popcat.run import client as module
from popcat.run.client import ANSWER_S, START_S, SYNCHRONOUS, check_client, connect

NOTHING_STARTS = "a local cluster was started"


@pytest.fixture(autouse=True)
def started(monkeypatch):
    """Local clusters are not started, but counted by their number of workers."""
    sizes = []

    @contextlib.contextmanager
    def local(n):
        sizes.append(n)
        yield NOTHING_STARTS

    monkeypatch.setattr(module, "local_client", local)
    return sizes


@pytest.fixture
def client(cluster):
    return cluster({}, {})


def given(kind, client, tmp_path):
    """The same cluster, as each thing that `client=` may be."""
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": client.scheduler.address}))
    return {"client": client, "cluster": client.cluster, "address": client.scheduler.address, "file": str(file),
            "path": file}[kind]  # fmt: skip


@pytest.mark.parametrize("kind", ["client", "cluster", "address", "file", "path"])
def test_a_cluster_may_be_given_in_every_way_and_stays_open(kind, client, tmp_path):
    with connect(given(kind, client, tmp_path)) as connected:
        assert connected.scheduler.address == client.scheduler.address
        assert (connected is client) == (kind == "client")
    assert client.status == "running" and client.cluster.status.name == "running"
    assert (connected.status == "running") == (kind == "client")
    assert client.submit(abs, -1).result() == 1


def test_the_word_synchronous_is_this_process(started):
    with connect(SYNCHRONOUS) as connected:
        assert connected is None
    assert started == []


def test_without_a_client_the_active_one_is_taken_and_left_open(client, started):
    with client.as_current(), connect() as connected:
        assert connected is client
    assert client.status == "running" and started == []


def test_workers_ask_for_a_local_cluster_also_beside_an_active_client(client, started):
    with client.as_current(), connect(workers=3) as connected:
        assert connected == NOTHING_STARTS
    assert started == [3]


def test_little_work_runs_in_this_process_and_much_on_a_local_cluster(started, monkeypatch):
    monkeypatch.setattr(dask.system, "CPU_COUNT", 2)
    for seconds, connected in [(0.0, None), (2 * START_S, None), (2 * START_S + 0.1, NOTHING_STARTS)]:
        with connect(tasks=9, seconds=seconds) as found:
            assert found == connected
    assert started == [2]


def test_a_single_task_needs_no_cluster(started):
    with connect(tasks=1) as connected:
        assert connected is None
    with connect(tasks=1, workers=1) as connected:
        assert connected == NOTHING_STARTS
    assert started == [1]


def test_one_core_has_a_worker_for_long_work_which_contains_what_goes_wrong(started, monkeypatch):
    monkeypatch.setattr(dask.system, "CPU_COUNT", 1)
    with connect(tasks=100) as connected:
        assert connected == NOTHING_STARTS
    assert started == [1]


def test_there_are_no_more_local_workers_than_tasks(started):
    with connect(workers=8, tasks=3):
        pass
    assert started == [3]


def inside():
    with connect(tasks=5) as connected:
        return connected


def test_inside_a_task_it_is_the_process_of_that_task(client):
    assert client.submit(inside).result() is None


def test_without_tasks_nothing_is_connected_to(client):
    with connect("tcp://127.0.0.1:1", tasks=0) as connected:
        assert connected is None


def test_a_closed_client_or_cluster_is_refused(cluster):
    one = cluster({})
    one.cluster.close()
    with pytest.raises(PopcatError, match=r"expected a SpecCluster that is running, got one that is closed"):
        check_client(one.cluster)
    one.close()
    with pytest.raises(PopcatError, match=r"expected a Client that is running, got one that is closed"):
        check_client(one)


def test_what_is_no_client_is_refused_by_its_type():
    with pytest.raises(PopcatError, match=r"client: expected .* a scheduler file or \"synchronous\", got int"):
        check_client(5)


@pytest.mark.parametrize("client", [SYNCHRONOUS, "tcp://127.0.0.1:8786"])
def test_workers_beside_a_client_would_do_nothing_and_are_refused(client):
    with pytest.raises(PopcatError, match="workers is the size of a local cluster"):
        check_client(client, 2)


def test_a_scheduler_that_does_not_answer_is_one_clear_error(tmp_path):
    with pytest.raises(PopcatError, match="no Dask scheduler answers at not an address"):
        check_client("not an address", answers=True)
    with pytest.raises(PopcatError, match=r"no scheduler file .*absent.json: `dask scheduler"):
        check_client(tmp_path / "absent.json", answers=True)


def test_a_client_of_popcats_own_is_not_the_default_of_later_work(client):
    with connect(client.scheduler.address), pytest.raises(ValueError, match="No clients found"):
        distributed.default_client()


@contextlib.contextmanager
def mute_server():
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextlib.contextmanager
def http_server():
    """A port that speaks HTTP."""
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize("started", [mute_server, http_server])
def test_what_takes_connections_and_is_no_scheduler_is_given_up_soon(started, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_S", 1.2)
    begun = time.monotonic()
    with started() as port, pytest.raises(PopcatError) as found:
        check_client(f"tcp://127.0.0.1:{port}", answers=True)
    assert time.monotonic() - begun < 10
    said = str(found.value)
    assert "it accepts connections, but did not answer in Dask's protocol" in said and "\n" not in said


def test_a_scheduler_must_have_answered_within_ten_seconds():
    assert ANSWER_S < 10


def test_certificates_that_are_not_configured_are_asked_for_at_once():
    said = r"tls:// needs certificates.*set DASK_CONFIG.*distributed\.comm\.tls"
    with dask.config.set({"distributed.comm.tls.ca-file": None}), pytest.raises(PopcatError, match=said):
        check_client("tls://127.0.0.1:1", answers=True)


def test_the_address_of_a_web_page_is_no_address_of_a_scheduler():
    with pytest.raises(PopcatError, match="unknown address scheme 'http'"):
        check_client("http://127.0.0.1:8787/status", answers=True)


def test_a_worker_is_no_scheduler(client):
    worker, *_ = client.nthreads()
    with pytest.raises(PopcatError, match="expected a scheduler, got a Worker"):
        check_client(worker, answers=True)


def test_a_scheduler_is_asked_from_within_a_running_event_loop_too(client):
    async def asked():
        check_client(client.scheduler.address, answers=True)

    asyncio.run(asked())


def test_a_cluster_of_another_kind_is_told_to_give_its_client():
    """A GatewayCluster is no distributed.deploy.Cluster."""

    class GatewayCluster:
        def get_client(self):
            """A client."""

    with pytest.raises(PopcatError, match=r"got GatewayCluster; give its client: client=cluster\.get_client\(\)$"):
        check_client(GatewayCluster())

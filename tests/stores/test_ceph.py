"""Runs into Ceph's gateway, a real store: one monitor, one storage daemon in memory, and radosgw, as processes.

They are of the Debian packages ceph-mon, ceph-osd, ceph-common and radosgw. Where these lie elsewhere than Debian puts
them, PATH, LD_LIBRARY_PATH, PYTHONPATH and CEPH_ARGS (--plugin-dir, --erasure-code-dir, --osd-class-dir) say where.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from contextlib import suppress
from datetime import timedelta
from threading import Thread

import psutil
import pytest

from popcat import infer, open_catalog, verify
from popcat.catalog import lease
from popcat.catalog.manifest import read_manifest
from popcat.errors import PopcatError
from popcat.files import create_json, swap_json, version_of
from popcat.paths import path_of
from popcat.stores import ChangedError

pytestmark = pytest.mark.slow

PROGRAMS = ("monmaptool", "ceph-mon", "ceph-osd", "ceph", "radosgw-admin", "radosgw")
KEY = "tests"
HOW = {"draws": 10, "rows_per_partition": 4}
PATIENCE_S = 120
CONFIGURATION = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{port}/0]
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
osd crush chooseleaf type = 0
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd objectstore = memstore
memstore device bytes = 2147483648
run dir = {folder}
log file = {folder}/$name.log
admin socket = {folder}/$name.asok
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
"""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """The address of radosgw, with a user."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"no {', '.join(missing)}: apt-get install ceph-mon ceph-osd ceph-common radosgw")
    folder, fsid, port, there = tmp_path_factory.mktemp("ceph"), str(uuid.uuid4()), free_port(), free_port()
    (folder / "ceph.conf").write_text(CONFIGURATION.format(fsid=fsid, port=port, folder=folder))
    environment = {**os.environ, "CEPH_CONF": str(folder / "ceph.conf")}
    started = []

    def do(*command):
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr

    def start(*command):
        with open(folder / f"{command[0]}.out", "w") as log:
            started.append(subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log))

    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    try:
        do("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{port}/0]", "monmap")
        do("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap")
        start("ceph-mon", "-f", "-i", "a")
        disk = str(uuid.uuid4())
        do("ceph", "osd", "new", disk, "0")
        do("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        start("ceph-osd", "-f", "-i", "0")
        do("ceph", "osd", "crush", "set", "osd.0", "1.0", "root=default", "host=here")
        do("radosgw-admin", "user", "create", "--uid", KEY, "--display-name", KEY, "--access-key", KEY, "--secret", KEY)
        start("radosgw", "-f", "-n", "client.admin", "--ms-mon-client-mode", "crc", "--rgw-frontends",
              f"beast endpoint=127.0.0.1:{there}")  # fmt: skip
        wait_for(lambda: answers(f"http://127.0.0.1:{there}/"))
        yield f"http://127.0.0.1:{there}"
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()


def answers(url):
    with suppress(OSError):
        return urllib.request.urlopen(url, timeout=2).status == 200
    return False


def wait_for(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


@pytest.fixture
def bucket(gateway, monkeypatch):
    """The URL of a new bucket of the gateway."""
    obstore = pytest.importorskip("obstore")
    from obstore.store import from_url

    for name, value in {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": KEY, "AWS_DEFAULT_REGION": "us-east-1",
                        "AWS_ENDPOINT_URL": gateway}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    url = f"s3://b-{uuid.uuid4().hex}"
    make = obstore.sign(from_url(url, client_options={"allow_http": True}), "PUT", "", timedelta(minutes=1))
    assert urllib.request.urlopen(urllib.request.Request(make, method="PUT")).status == 200
    return url


def test_an_object_is_created_once_and_replaced_only_as_it_was_seen(bucket):
    path = path_of(f"{bucket}/a.json")
    assert create_json(path, {"writer": 1}) and not create_json(path, {"writer": 2})
    first = version_of(path)
    second = swap_json(path, {"writer": 3}, first)
    assert second == version_of(path) != first
    assert swap_json(path, {"writer": 4}, first) is None
    with pytest.raises(ChangedError):
        path.put(b"x", over=first)
    assert path.read_range(0, 1, second) == b"{"


def test_a_lease_is_renewed_and_keeps_others_out(bucket, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_S", 0.2)
    path = path_of(f"{bucket}/writer.json")
    with lease.alone(path, "out"):
        wait_for(lambda: lease.read_or_none(path, lease.Lease).beat >= 2)
        refused = []

        def other():
            try:
                with lease.alone(path, "out"):
                    pass
            except PopcatError as error:
                refused.append(str(error))

        thread = Thread(target=other)
        thread.start()
        thread.join()
        assert "another run writes to out" in refused[0]
    with lease.alone(path, "out"):
        pass


def test_a_killed_run_ends_in_the_undisturbed_catalogue(bucket, forty, tmp_path):
    expected = [part.sha256 for part in infer(forty, output=tmp_path / "out", client="synchronous", **HOW)
                .require_manifest().parts]  # fmt: skip
    output = f"{bucket}/out"
    command = [sys.executable, "-m", "popcat", "infer", str(forty), "--draws", "10", "--rows-per-partition", "4",
               "--workers", "2", "-o", output]  # fmt: skip
    client = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(path_of(output).rglob("part-*.parquet")) >= 2 or client.poll() is not None)
    children = psutil.Process(client.pid).children(recursive=True) if client.poll() is None else []
    client.send_signal(signal.SIGKILL)
    client.wait()
    psutil.wait_procs(children, timeout=60)
    infer(forty, output=output, client="synchronous", **HOW)
    assert verify(output).ok
    assert [part.sha256 for part in read_manifest(output).parts] == expected
    assert len(open_catalog(output).to_pandas(["log_mstar_p50"])) == 40

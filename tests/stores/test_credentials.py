"""As whom a process reaches a store: by a role and a token where a cluster gives those; never without saying so."""

import os
import socket
import subprocess
import sys

import pyarrow as pa
import pytest
from distributed import Client, LocalCluster

from popcat.catalog.parts import OutputFolder, write_parts
from popcat.errors import OutputError
from popcat.paths import path_of
from popcat.run.runner import How

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def test_a_role_and_a_token_stand_for_keys(bucket, tokens, tmp_path, monkeypatch):
    """As the pods of deploy/kubernetes have them."""
    (tmp_path / "token").write_text("a-token")
    for name in KEYS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/popcat")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    path = path_of(f"{bucket}/a")
    path.put(b"1")
    assert path.read_bytes() == b"1"
    assert tokens
    for asked in tokens:
        assert "Action=AssumeRoleWithWebIdentity" in asked.path and "WebIdentityToken=a-token" in asked.path


@pytest.fixture
def without_keys(environment, tmp_path):
    """A client of a cluster whose worker has no credentials, nor a machine that gives it some."""
    variables = {name: value for name, value in os.environ.items() if name not in KEYS}
    with socket.socket() as closed, LocalCluster(
        n_workers=0, dashboard_address="127.0.0.1:0", host="127.0.0.1"
    ) as cluster:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        variables["AWS_METADATA_ENDPOINT"] = f"http://127.0.0.1:{closed.getsockname()[1]}"
        command = [sys.executable, "-m", "dask", "worker", cluster.scheduler_address, "--nthreads", "2", "--no-nanny",
                   "--no-dashboard", "--local-directory", tmp_path]  # fmt: skip
        worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=variables)
        try:
            with Client(cluster) as client:
                client.wait_for_workers(1, timeout=120)
                yield client
        finally:
            worker.kill()
            worker.wait()


def test_a_worker_without_credentials_ends_the_run_in_one_line(without_keys, bucket, tmp_path):
    folder, log = OutputFolder.open(f"{bucket}/out", {"n": 20}, 20, kind="demo"), tmp_path / "log.jsonl"

    def write(folder, index):
        folder.write_part(index, pa.table({"object_id": [index]}))

    jobs = {index: (folder, index) for index in range(20)}
    with pytest.raises(OutputError, match=r"no credentials: set AWS_\w+") as raised:
        write_parts(folder, write, jobs, [1] * 20, "writing", How(without_keys, log=log))
    said = str(raised.value)
    assert "\n" not in said and "on the worker tcp://127.0.0.1:" in said and "give every worker credentials" in said
    events = log.read_text()
    assert 1 <= events.count('"part_failed"') <= 4 and "part_retried" not in events
    assert not path_of(f"{bucket}/out").rglob("part-*")

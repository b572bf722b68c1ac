"""A store to test with: the server of moto, in a process, with a bucket for each test."""

import http.client
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import uuid
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

from popcat.paths import path_of

KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_DEFAULT_REGION": "us-east-1"}


def server_command():
    """moto has requirements that clash with popcat's own, and so an environment of its own, which `make test` makes."""
    named = os.environ.get("POPCAT_MOTO_SERVER") or Path(sys.prefix) / "moto" / "bin" / "moto_server"
    return shutil.which(named) or shutil.which("moto_server")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The address of a server of objects."""
    command = server_command()
    if command is None:
        pytest.skip("no moto_server: `make test` installs it (tests/stores/moto.txt), or POPCAT_MOTO_SERVER names it")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("moto") / "log"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with open(log, "w") as file:
        process = subprocess.Popen([command, "-H", "127.0.0.1", "-p", str(port)], stdout=file, stderr=file,
                                   env=environment)  # fmt: skip
    try:
        for _ in range(600):
            with suppress(OSError):
                asked(f"127.0.0.1:{port}", "GET", "/moto-api/")
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def asked(server, method, where):
    """The status of a plain request."""
    connection = http.client.HTTPConnection(server, timeout=60)
    with closing(connection):
        connection.request(method, where)
        return connection.getresponse().status


@pytest.fixture
def environment(server, monkeypatch):
    """Variables by which popcat finds the server, and processes that the test starts."""
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://{server}"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(server, environment):
    """The URL of a new bucket."""
    name = f"b-{uuid.uuid4().hex}"
    assert asked(server, "PUT", f"/{name}") == 200
    return f"s3://{name}"


class Seen(NamedTuple):
    """A request that came by: its method, its path, the bytes that it asked for, the bytes that it carried or got."""

    method: str
    path: str
    range: str | None
    size: int
    status: int


class PassOn(http.server.BaseHTTPRequestHandler):
    """Passes requests on to the server of objects, but for those that its own server has fail."""

    def do(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = self.path
        if self.server.fails(self.command, asked):
            status, headers, answer = 503, {}, b"<Error><Code>SlowDown</Code></Error>"
        else:
            status, headers, answer = self._asked(body)
        size = len(answer) if self.command == "GET" else len(body)
        self.server.seen.append(Seen(self.command, asked, self.headers.get("Range"), size, status))
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("connection", "transfer-encoding", "server", "date", "content-length"):
                self.send_header(name, value)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else len(answer)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do  # noqa: N815 (names of http.server)

    def _asked(self, body):
        connection = http.client.HTTPConnection(self.server.behind, timeout=60)
        with closing(connection):
            connection.request(self.command, self.path, body=body, headers=dict(self.headers))
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def log_message(self, *_):
        pass


class PassOnTokens(PassOn):
    """Passes on what is asked of Amazon's service of tokens; moto wants in the body what stands in the URL."""

    def _asked(self, body):
        self.path, query = "/", self.path.partition("?")[2].encode()
        del self.headers["Content-Length"]
        self.headers["Content-Type"] = "application/x-www-form-urlencoded"
        return super()._asked(query)


@contextmanager
def passing_on(server, handler=PassOn, tls=None):
    """A server between popcat and the objects: `seen` lists the requests, `fails` may refuse some with status 503."""
    between = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    between.behind, between.seen, between.fails = server, [], lambda method, path: False
    if tls is not None:
        between.socket = tls.wrap_socket(between.socket, server_side=True)
    thread = threading.Thread(target=between.serve_forever, daemon=True)
    thread.start()
    yield between
    between.shutdown()
    between.server_close()
    thread.join()


@pytest.fixture
def proxy(server, environment, monkeypatch):
    """What stands between popcat and the objects."""
    with passing_on(server) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{between.server_address[1]}")
        yield between


@pytest.fixture
def tokens(server, environment, tmp_path, monkeypatch):
    """The requests to a service that gives credentials for tokens. It speaks TLS: it is not asked otherwise."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
            "1", "-subj", "/CN=tokens", "-addext", "subjectAltName=IP:127.0.0.1", "-addext",
            "basicConstraints=critical,CA:FALSE", "-keyout", tmp_path / "key", "-out", tmp_path / "cert"]  # fmt: skip
    subprocess.run(make, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    with passing_on(server, PassOnTokens, tls) as between:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"https://127.0.0.1:{between.server_address[1]}")
        yield between.seen


@pytest.fixture(scope="session")
def forty(galaxies, tmp_path_factory):
    """Forty galaxies, as a Parquet file."""
    path = tmp_path_factory.mktemp("forty") / "galaxies.parquet"
    pq.write_table(pq.read_table(galaxies)[:40], path)
    return path


@pytest.fixture
def uploaded(bucket):
    """Copy a file or a folder into the bucket: its URL."""

    def upload(path, name):
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file():
                (path_of(f"{bucket}/{name}") / str(file.relative_to(path))).put(file)
        return f"{bucket}/{name}"

    return upload

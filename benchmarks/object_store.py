"""A posterior catalogue into a store of objects, beside the same one onto the disk; and when the run is killed.

The store is the server of moto, started here on this machine (tests/stores/moto.txt says how it is installed), which
takes a part of its cores and is no measure of a real store: requests and bytes are the same with any.

    galaxies_per_s   of the whole command, workers that start included, local and remote, `--repeats` times in turn
    requests         to the server during a run into the store, by method, and for each part
    kills            of the client, at random moments, before the run is given again and ends
    digest_equal     whether all parts are the bytes of the run onto the disk
"""

import http.client
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from popcat.catalog.manifest import read_manifest
from popcat.catalog.verification import verify
from popcat.paths import path_of

from environment import conclude, parser, print_table

KEYS = {"AWS_ACCESS_KEY_ID": "benchmark", "AWS_SECRET_ACCESS_KEY": "benchmark", "AWS_DEFAULT_REGION": "us-east-1"}
BUCKET = "benchmark"
REQUEST = re.compile(r'"([A-Z]+) /(\S*) HTTP')


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--galaxies", type=int, default=10_000, help="of the embedded ones (10000)")
    options.add_argument("--draws", type=int, default=100, help="per galaxy (100)")
    options.add_argument("--rows", type=int, default=500, help="galaxies in a part (500)")
    options.add_argument("--workers", type=int, default=2, help="processes (2)")
    options.add_argument("--repeats", type=int, default=2, help="runs of each kind (2)")
    options.add_argument("--kills", type=int, default=3, help="clients to kill (3)")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch, Server(Path(scratch) / "server.log") as server:
        conclude(arguments.json, measured(arguments, Path(scratch), server))


class Server:
    """The server of moto, and the requests that it wrote down."""

    def __init__(self, log: Path):
        self.log = log

    def __enter__(self) -> "Server":
        command = os.environ.get("POPCAT_MOTO_SERVER") or shutil.which(
            Path(sys.prefix) / "moto" / "bin" / "moto_server") or "moto_server"  # fmt: skip
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        with open(self.log, "w") as file:
            self.process = subprocess.Popen([command, "-H", "127.0.0.1", "-p", str(port)], stdout=file, stderr=file,
                                            env=environment)  # fmt: skip
        os.environ.update({**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"})
        for _ in range(600):
            with suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", port)
                connection.request("PUT", f"/{BUCKET}")
                connection.getresponse().read()
                return self
            time.sleep(0.1)
        raise SystemExit(f"no answer of {command}")

    def __exit__(self, *_) -> None:
        self.process.terminate()
        self.process.wait()

    def requests(self, wanted: str) -> Counter:
        """By method, of those that named an output."""
        return Counter(match[1] for line in self.log.read_text().splitlines()
                       if (match := REQUEST.search(line)) and wanted in match[2])  # fmt: skip


def measured(arguments, scratch: Path, server: Server) -> dict:
    catalog = scratch / "galaxies.parquet"
    galaxies = pq.read_table(str(files("popcat") / "data" / "galaxies_sdss.parquet"))
    pq.write_table(galaxies[: arguments.galaxies], catalog)
    rates: dict[str, list[float]] = {"local": [], "remote": []}
    for number in range(arguments.repeats):
        for kind, output in (("local", str(scratch / f"out-{number}")), ("remote", f"s3://{BUCKET}/out-{number}")):
            start = time.monotonic()
            assert started(arguments, catalog, output).wait() == 0
            rates[kind].append(round(arguments.galaxies / (time.monotonic() - start), 1))
    requests = server.requests("out-0")
    expected, manifest = digest(str(scratch / "out-0")), read_manifest(f"s3://{BUCKET}/out-0")
    kills = killed(arguments, catalog, f"s3://{BUCKET}/killed")
    found = {
        "galaxies": arguments.galaxies, "draws": arguments.draws, "parts": len(manifest.parts),
        "workers": arguments.workers, "galaxies_per_s": rates, "bytes": manifest.bytes, "requests": dict(requests),
        "requests_per_part": round(sum(requests.values()) / len(manifest.parts), 2), "kills": kills,
        "digest_equal": all(digest(f"s3://{BUCKET}/{one}") == expected for one in ("out-0", "killed")),
    }  # fmt: skip
    print_table([{"what": name, "measured": str(value)} for name, value in found.items()], "popcat infer")
    return found


def started(arguments, catalog: Path, output: str) -> subprocess.Popen:
    words = ["infer", catalog, "--draws", arguments.draws, "--rows-per-partition", arguments.rows, "--workers",
             arguments.workers, "-o", output]  # fmt: skip
    command = [sys.executable, "-m", "popcat", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def killed(arguments, catalog: Path, output: str) -> int:
    """Kill the client some times, each with a few more parts written, then let the run end."""
    rng, kills = random.Random(0), 0
    for _ in range(arguments.kills):
        process, aim = started(arguments, catalog, output), parts_of(output) + rng.randint(1, 4)
        while process.poll() is None and parts_of(output) < aim:
            time.sleep(0.1)
        time.sleep(rng.uniform(0.0, 0.3))
        if process.poll() is None:
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGKILL)
            kills += 1
            psutil.wait_procs(children, timeout=60)
        process.wait()
    assert started(arguments, catalog, output).wait() == 0
    return kills


def parts_of(output: str) -> int:
    return len(path_of(output).rglob("part-*.parquet"))


def digest(output: str) -> list[str]:
    assert verify(output).ok
    return [part.sha256 for part in read_manifest(output).parts]


if __name__ == "__main__":
    main()

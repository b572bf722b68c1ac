"""A run of many parts through the scheduler, the parts themselves being next to nothing: what the running costs.

50,000 parts of 20,000 galaxies are a billion galaxies. Here each part has ten rows, so that nearly all of the time is
that of the run: popcat's own runner gives tasks to `dask worker` processes, these write part and sidecar, and the
client notes the outcome. A file system in memory (`--folder /dev/shm/parts`) leaves out what syncing to a disk takes.
With `--workers 0` this process makes the parts, one after the other, and there is no scheduler to be measured.

    parts_per_s    from the start of the run to its end, of the `made` parts: those that were there before are kept
    client_mb      most memory of this process meanwhile; client_kb_per_part: its growth for each part, from a tenth of
                   the time on. scheduler_mb and scheduler_kb_per_part: of the scheduler
    finish_s       to look at all parts once more and write the manifest; manifest_mb: its size
    resume_s       until a rerun knows which parts are missing (every hundredth was removed); rerun_s: the whole rerun
    open_s         to read the manifest and look at the sizes of the parts, as a reader of the catalogue does
    verify_s       to verify every byte, row and identifier; verify_mb: most memory of this process then
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import pyarrow as pa

from popcat.catalog.manifest import META, read_manifest
from popcat.catalog.parts import OutputFolder, write_parts
from popcat.catalog.verification import verify
from popcat.run.client import SYNCHRONOUS, connect
from popcat.run.runner import How

from clusters import cluster
from environment import conclude, parser, print_table

LOOK_S = 0.2
MISSING = 100
"""One part of so many is removed before the rerun."""


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--parts", type=int, default=50_000, help="how many (50000)")
    arguments.add_argument("--rows", type=int, default=10, help="rows of each (10)")
    arguments.add_argument("--workers", type=int, default=2, help="processes; 0: this one (2)")
    arguments.add_argument("--threads", type=int, default=16, help="of each, as if there were so many workers (16)")
    arguments.add_argument("--folder", type=Path, help="where the parts go and stay: 50,000 take 400 MB in blocks of "
                           "4 kB; a run that was killed is continued there (a temporary folder)")  # fmt: skip
    arguments = arguments.parse_args()
    with TemporaryDirectory() as scratch:
        found = measured(arguments.folder or Path(scratch) / "parts", Path(scratch), arguments)
    print_table([{"what": name, "measured": str(value)} for name, value in found.items()], "a run of many parts")
    conclude(arguments.json, found)


def stand_in(folder: OutputFolder, index: int, rows: int) -> int:
    """A part that costs nothing to make: identifiers, and a column of numbers."""
    ids = np.arange(index * rows, (index + 1) * rows, dtype=np.int64)
    folder.write_part(index, pa.table({"object_id": ids, "log_mstar_p50": ids.astype(np.float32)}))
    return rows


def measured(path: Path, scratch: Path, arguments) -> dict:
    """The numbers that the module's words explain."""
    parts, rows = arguments.parts, arguments.rows
    found: dict = {name: getattr(arguments, name) for name in ("parts", "rows", "workers", "threads")}
    folder = OutputFolder.open(path, {"n": parts * rows}, parts, kind="demo")
    with started(scratch, arguments) as (where, processes):
        pending = folder.resume()
        with watched(*processes.values()) as memory, timed(found, "seconds"):
            run(folder, pending, arguments, where)
        found |= {"made": len(pending), "parts_per_s": round(len(pending) / found["seconds"], 1)}
        found |= memory.summary(tuple(processes), len(pending))
        with timed(found, "finish_s"):
            folder.finish()
        found["manifest_mb"] = round((path / META / "manifest.json").stat().st_size / 1e6, 1)
        for index in range(0, parts, MISSING):
            folder.part_path(index).unlink()
        with timed(found, "rerun_s"):
            with timed(found, "resume_s"):
                pending = folder.resume()
            run(folder, pending, arguments, where)
            folder.finish()
        if pending != list(range(0, parts, MISSING)):
            raise RuntimeError(f"{len(pending)} parts were written again, not every {MISSING}th")
    with timed(found, "open_s"):
        read_manifest(path)
    with watched(psutil.Process()) as memory, timed(found, "verify_s"):
        verification = verify(path)
    if not verification.ok or verification.rows != parts * rows:
        raise RuntimeError(f"{verification.rows} rows, problems: {verification.problems[:3]}")
    return found | {"verify_mb": memory.most(0)}


@contextmanager
def started(scratch: Path, arguments) -> Iterator[tuple[str, dict[str, psutil.Process]]]:
    """Where the parts are made, and whose memory is looked at."""
    client = {"client": psutil.Process()}
    if not arguments.workers:
        yield SYNCHRONOUS, client
        return
    with cluster(scratch / "cluster", arguments.workers, arguments.threads) as file:
        with connect(str(file)) as one:
            pid = one.run_on_scheduler(os.getpid)
        yield str(file), client | {"scheduler": psutil.Process(pid)}


def run(folder: OutputFolder, indices, arguments, where: str) -> None:
    jobs = {index: (folder, index, arguments.rows) for index in indices}
    sizes = [arguments.rows] * arguments.parts
    write_parts(folder, stand_in, jobs, sizes, "making parts of", How(where, progress=True))


@contextmanager
def timed(found: dict, name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    found[name] = round(time.perf_counter() - start, 2)


class Memory:
    """Resident memory of processes, looked at all the time."""

    def __init__(self):
        self.seen: list[tuple[int, ...]] = []

    def most(self, which: int) -> float:
        """In MB."""
        return round(max(one[which] for one in self.seen) / 1e6, 1)

    def summary(self, names: tuple[str, ...], parts: int) -> dict:
        """For each process its most, and its growth for each part after the first tenth."""
        after = self.seen[len(self.seen) // 10 :]
        return {key: value for which, name in enumerate(names) for key, value in {
            f"{name}_mb": self.most(which),
            f"{name}_kb_per_part": round((after[-1][which] - after[0][which]) / 1e3 / max(0.9 * parts, 1), 3),
        }.items()}  # fmt: skip


@contextmanager
def watched(*processes: psutil.Process) -> Iterator[Memory]:
    """Look at the memory of processes while the block runs."""
    memory, ended = Memory(), threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_S):
            memory.seen.append(tuple(process.memory_info().rss for process in processes))

    thread = threading.Thread(target=look, daemon=True)
    memory.seen.append(tuple(process.memory_info().rss for process in processes))
    thread.start()
    try:
        yield memory
    finally:
        ended.set()
        thread.join()


if __name__ == "__main__":
    main()

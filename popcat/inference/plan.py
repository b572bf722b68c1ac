"""What a run will take, before it is begun: one part is made on one local worker, and the rest follows from it.

    seconds   = start + parts per worker x rows of a part x seconds a galaxy
    memory    = what the worker had when small + what the measured rows added, scaled to a whole part
    limit     = memory / 0.7, above which a Dask worker begins to spill
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from popcat.catalog.manifest import Sidecar, read_record
from popcat.catalog.parts import OutputFolder
from popcat.checks.calibration import require_calibrated
from popcat.columns import posterior_schema
from popcat.display import Displayed, duration
from popcat.errors import PopcatError
from popcat.inference.infer import cut
from popcat.inference.partition import Request, write_posterior_part
from popcat.io.checking import check_catalog
from popcat.io.chunks import Chunk
from popcat.io.named import Source
from popcat.io.sources import parts_of_chunks
from popcat.posterior.locations import posterior_location
from popcat.posterior.posterior import Posterior, load_posterior
from popcat.run.client import Where
from popcat.run.runner import How, run, values_of
from popcat.timing import recording

MEASURED_ROWS = 2000
_WARM_ROWS = 50
_SPILL = 0.7


@dataclass(frozen=True)
class Measured:
    """What one worker took for some rows: seconds by stage and to start, memory at the start and per row (MB)."""

    rows: int
    bytes: int
    stages: dict[str, float]
    start_s: float
    start_rss_mb: float
    added_mb_per_row: float


@dataclass(frozen=True, repr=False)
class Plan(Displayed):
    """What a run will take; `sampling_counted` is False where GPUs sample, which is not in `seconds`."""

    galaxies: int
    draws: int
    parts: int
    rows_per_partition: int
    workers: int
    gpus: int
    sampling_counted: bool
    seconds: float
    galaxies_per_s_per_worker: float
    worker_peak_mb: int
    worker_limit_mb: int
    output_mb: float
    measured: Measured

    def _facts(self) -> dict[str, object]:
        late = "" if self.sampling_counted else " and the sampling on GPUs, which is not measured here"
        stages = {name: 1e3 * seconds / self.measured.rows for name, seconds in self.measured.stages.items()}
        return {
            "galaxies": f"{self.galaxies:,} x {self.draws} draws",
            "parts": f"{self.parts:,} of {self.rows_per_partition:,} galaxies",
            "memory": f"{self.worker_peak_mb:,} MB per worker; give it {self.worker_limit_mb:,} MB",
            "output": f"{self.output_mb:,.1f} MB",
            "time": f"{duration(self.seconds)} on {self.workers} workers like this machine's cores{late}",
            "ms per galaxy": ", ".join(f"{name} {value:.3g}" for name, value in stages.items()),
        }


def plan(
    source: Source, posterior: str | Path = "sdss", *, draws: int = 100, workers: int = 1, gpus: int = 0,
    rows_per_partition: int | None = None, client: Where = None,
) -> Plan:  # fmt: skip
    """Parts, memory, time and output size of `infer` with these options, from a measurement of some seconds.

    `workers` are one-threaded processes like those of this machine; with `gpus`, those that share the GPUs. Sampling on
    a GPU is not measured: `seconds` then counts all but the sampling, and `sampling_counted` is False. `client` may
    be "synchronous", to measure in this process; by default a local worker is measured.

    Raises PopcatError for a catalogue or model that cannot work.

    >>> found = plan("galaxies.parquet", draws=20, workers=8, client="synchronous")
    >>> found.galaxies, found.seconds > 0
    (40, True)
    """
    if draws < 1 or workers < 1 or gpus < 0:
        raise PopcatError(f"expected at least 1 draw, 1 worker and 0 gpus, got {draws}, {workers}, {gpus}")
    where, posterior = posterior, load_posterior(posterior)
    schema = posterior_schema(posterior.survey, posterior.galaxy_model)
    chunks, rows = cut(source, posterior.survey, schema, draws, rows_per_partition)
    check_catalog(source, posterior.survey, chunks)
    _ = posterior.forward, posterior.physical  # builds their tables before the clock runs
    parts = parts_of_chunks(chunks, rows)
    measured = _measure(_largest(parts[len(parts) // 2]), where, posterior, draws, client)
    n = sum(chunk.stop - chunk.start for chunk in chunks)
    counted = {name: one for name, one in measured.stages.items() if name != "sample" or not gpus}
    per_galaxy = sum(counted.values()) / measured.rows
    waves = -(-len(parts) // workers)
    peak = measured.start_rss_mb + measured.added_mb_per_row * min(rows, n)
    return Plan(
        galaxies=n, draws=draws, parts=len(parts), rows_per_partition=min(rows, n),
        workers=workers, gpus=gpus, sampling_counted=not gpus,
        seconds=round(measured.start_s + min(waves * rows, n) * per_galaxy, 1),
        galaxies_per_s_per_worker=round(1 / per_galaxy, 1),
        worker_peak_mb=round(peak), worker_limit_mb=round(peak / _SPILL),
        output_mb=round(measured.bytes / measured.rows * n / 1e6, 1),
        measured=measured,
    )  # fmt: skip


def _largest(part: Sequence[Chunk]) -> Chunk:
    return max(part, key=lambda chunk: chunk.stop - chunk.start)


def _measure(chunk: Chunk, where: str | Path, posterior: Posterior, draws: int, client: Where) -> Measured:
    """Make a few rows, to load and compile everything, then some more, on one worker."""
    rows = min(chunk.stop - chunk.start, MEASURED_ROWS)
    sizes = [min(_WARM_ROWS, rows), rows]
    with tempfile.TemporaryDirectory(prefix="popcat-plan-") as path:
        folder = OutputFolder.open(Path(path) / "out", {}, len(sizes), kind="plan")
        parts = [replace(chunk, index=index, stop=chunk.start + size) for index, size in enumerate(sizes)]
        words = require_calibrated(where, allow=True).of_columns(corrected=False)
        request = Request(posterior_location(where), posterior.name, posterior.survey, draws, 0,
                          prior=posterior.prior_name, calibration=words)  # fmt: skip
        jobs = {0: (folder, parts, request)}
        began, how = time.time(), How(client, 1 if client is None else None)
        (warm_at,) = values_of(run(_make, jobs, verb="measuring", how=how, sizes=[sum(sizes)]), "part")
        warm, full = (read_record(folder.sidecar_path(index), Sidecar) for index in range(len(sizes)))
    start_s = warm_at - began
    before, after = (one.made["peak_rss_mb"] or 0.0 for one in (warm, full))
    return Measured(
        rows=full.rows, bytes=full.bytes, stages=full.made["seconds"], start_s=round(start_s, 2),
        start_rss_mb=before, added_mb_per_row=(after - before) / max(sizes[1] - sizes[0], 1),
    )  # fmt: skip


def _make(folder: OutputFolder, parts: list[Chunk], request: Request) -> float:
    """Make the parts one after the other, each with a record of its own; when the first was done (Unix time, s)."""
    times = []
    for part in parts:
        with recording("measured"):
            write_posterior_part(folder, part.index, part, request)
        times.append(time.time())
    return times[0]

"""What a run will take, before it is begun: one part is made on one local worker, and the rest follows from it.

    seconds   = start + parts per worker x rows of a part x seconds a galaxy
    memory    = what the worker had when small + what the measured rows added, scaled to a whole part
    limit     = memory / 0.7, above which a Dask worker begins to spill

How many galaxies a part holds: so many that a part is a good size, and every worker has some.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from popcat.catalog.manifest import Sidecar, read_record
from popcat.catalog.parts import OutputFolder
from popcat.columns import posterior_schema
from popcat.errors import PopcatError
from popcat.forward.model import forward_for
from popcat.inference.partition import write_posterior_part
from popcat.io.chunks import Chunk
from popcat.io.reading import check_catalog
from popcat.io.sources import plan_chunks
from popcat.posterior.posterior import Posterior, load_posterior, posterior_location
from popcat.run.client import Where
from popcat.run.runner import How, run, values_of
from popcat.timing import recording

MEASURED_ROWS = 2000
_WARM_ROWS = 50
_SPILL = 0.7


def plan(
    source: str | Path, *, posterior: str | Path = "sdss", draws: int = 100, workers: int = 1, gpus: int = 0,
    rows_per_partition: int | None = None, client: Where = None,
) -> dict:  # fmt: skip
    """Parts, memory, time and output size of `infer_catalog` with these options, from a measurement of some seconds.

    `workers` are one-threaded processes like those of this machine; with `gpus`, those that share the GPUs. Sampling on
    a GPU is not measured: `seconds` then counts all but the sampling, and `sampling_counted` is False. `client` may
    be "synchronous", to measure in this process; by default a local worker is measured.

    Raises PopcatError for a catalogue or model that cannot work.

    >>> found = plan("galaxies.parquet", draws=20, workers=8, client="synchronous")
    >>> found["galaxies"], found["seconds"] > 0
    (40, True)
    """
    if draws < 1 or workers < 1 or gpus < 0:
        raise PopcatError(f"expected at least 1 draw, 1 worker and 0 gpus, got {draws}, {workers}, {gpus}")
    where, posterior = posterior, load_posterior(posterior)
    schema = posterior_schema(posterior.survey, posterior.galaxy_model)
    chunks, rows = cut(source, schema, draws, rows_per_partition)
    check_catalog(source, posterior.survey, chunks)
    forward_for(posterior.survey, posterior.galaxy_model)
    measured = _measure(chunks[len(chunks) // 2], where, posterior, draws, client)
    n = sum(chunk.stop - chunk.start for chunk in chunks)
    counted = {name: one for name, one in measured["stages"].items() if name != "sample" or not gpus}
    per_galaxy = sum(counted.values()) / measured["rows"]
    waves = -(-len(chunks) // workers)
    peak = measured["start_rss_mb"] + measured["added_mb_per_row"] * min(rows, n)
    return {
        "galaxies": n, "draws": draws, "parts": len(chunks), "rows_per_partition": min(rows, n),
        "workers": workers, "gpus": gpus, "sampling_counted": not gpus,
        "seconds": round(measured["start_s"] + min(waves * rows, n) * per_galaxy, 1),
        "galaxies_per_s_per_worker": round(1 / per_galaxy, 1),
        "worker_peak_mb": round(peak), "worker_limit_mb": round(peak / _SPILL),
        "output_mb": round(measured["bytes"] / measured["rows"] * n / 1e6, 1),
        "measured": measured,
    }  # fmt: skip


def _measure(chunk: Chunk, where: str | Path, posterior: Posterior, draws: int, client: Where) -> dict:
    """Make a few rows, to load and compile everything, then some more, on one worker."""
    rows = min(chunk.stop - chunk.start, MEASURED_ROWS)
    sizes = [min(_WARM_ROWS, rows), rows]
    with tempfile.TemporaryDirectory(prefix="popcat-plan-") as path:
        folder = OutputFolder.open(Path(path) / "out", {}, len(sizes), kind="plan")
        parts = [replace(chunk, index=index, stop=chunk.start + size) for index, size in enumerate(sizes)]
        jobs = {0: (folder, parts, posterior_location(where), posterior.name, draws)}
        began, how = time.time(), How(client, 1 if client is None else None)
        (warm_at,) = values_of(run(_make, jobs, verb="measuring", how=how, sizes=[sum(sizes)]), "part")
        warm, full = (read_record(folder.sidecar_path(index), Sidecar) for index in range(len(sizes)))
    start_s = warm_at - began
    before, after = (one.made["peak_rss_mb"] or 0.0 for one in (warm, full))
    return {
        "rows": full.rows, "bytes": full.bytes, "stages": full.made["seconds"], "start_s": round(start_s, 2),
        "start_rss_mb": before, "added_mb_per_row": (after - before) / max(sizes[1] - sizes[0], 1),
    }  # fmt: skip


def _make(folder: OutputFolder, parts: list[Chunk], where: str, name: str, draws: int) -> float:
    """Make the parts one after the other, each with a record of its own; when the first was done (Unix time, s)."""
    times = []
    for part in parts:
        with recording("measured"):
            write_posterior_part(folder, part, where, name, draws, 0)
        times.append(time.time())
    return times[0]


SECONDS_PER_DRAW, SECONDS_CERTIFIED = 1.65e-5, 0.02
"""Of one core, for a draw and for a certified galaxy, about (docs/measured.md)."""


def seconds_of(n: int, draws: int, *, certified: bool = False) -> float:
    """What the posteriors of n galaxies take on one core, about: enough to know whether a cluster is worth its start.

    >>> seconds_of(1000, 100), seconds_of(1000, 100, certified=True)
    (1.65, 20.0)
    """
    return n * (SECONDS_CERTIFIED if certified else SECONDS_PER_DRAW * draws)


PART_BYTES = 2**26
"""64 MB of a part in memory: below a tenth of a small worker's memory, and tens of MB on disk."""
MIN_PARTS = 16
"""A small catalogue is cut finer, so that there is work for every core of one machine."""
MIN_ROWS = 500
_TEXT_BYTES = 16
_ALL = 2**62


def bytes_per_row(schema: pa.Schema, draws: int) -> int:
    """Bytes of a row in memory, lists as long as the number of draws.

    >>> bytes_per_row(pa.schema([("object_id", pa.int64()), ("x_draws", pa.list_(pa.float32()))]), 100)
    412
    """
    return sum(_width(field.type, draws) for field in schema)


def rows_per_part(schema: pa.Schema, draws: int, n: int) -> int:
    """Rows of a part of a catalogue of n galaxies: a function of the catalogue and the draws, not of the cluster.

    >>> schema = pa.schema([("x_draws", pa.list_(pa.float32()))])
    >>> [rows_per_part(schema, 10_000, n) for n in (10, 10_000, 10**6)]
    [500, 625, 1677]
    """
    fits = max(PART_BYTES // bytes_per_row(schema, draws), 1)
    return min(fits, max(-(-n // MIN_PARTS), MIN_ROWS))


def cut(source: str | Path, schema: pa.Schema, draws: int, rows: int | None) -> tuple[list[Chunk], int]:
    """The chunks of a catalogue and the rows of each, chosen where `rows` is None; PopcatError as `plan_chunks`."""
    if rows is None:
        whole = plan_chunks(source, rows_per_partition=_ALL)
        rows = rows_per_part(schema, draws, sum(chunk.stop - chunk.start for chunk in whole))
    return plan_chunks(source, rows_per_partition=rows), rows


def _width(kind: pa.DataType, draws: int) -> int:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return 4 + draws * _width(kind.value_type, draws)
    try:
        return max(kind.bit_width // 8, 1)
    except ValueError:
        return _TEXT_BYTES

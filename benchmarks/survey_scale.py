"""A survey through real `dask scheduler` and `dask worker` processes: galaxies/s, memory, size, time by stage.

Mock galaxies of the survey sdss, from one of popcat's priors, written as a Parquet catalogue; then `popcat infer`
with 100 draws a galaxy and the embedded model, as a user types it, on one-threaded workers. A run's seconds begin when
the workers are up and end with the manifest: what a long-lived cluster sees, reading the door's checks included.

`peak_worker_rss_mb` is the most that any worker process has had, by its own account, in the run. Every run is verified
(`popcat verify`). The largest size runs on one worker only if asked (`--one-worker N`): `speedup_2_workers` is of the
largest size that ran on one and on two. `--certify` corrects every galaxy by the exact likelihood.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from popcat.catalog.manifest import read_manifest
from popcat.catalog.queries import open_catalog
from popcat.catalog.verification import verify
from popcat.forward.noise import default_noise
from popcat.galaxy_model import GalaxyModel
from popcat.posterior.simulated import selected, simulate_partition
from popcat.prior import PHYSICAL, PRIORS
from popcat.survey import Survey, load_survey

from clusters import ONE_THREAD, cluster
from environment import conclude, parser, print_table

SEED, CHUNK = 7, 50_000


def main():
    arguments = options()
    survey = load_survey("sdss")
    runs = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for n in arguments.sizes:
            catalog = write_catalog(Path(folder) / f"catalog-{n}.parquet", n, survey, arguments.prior)
            for workers in [1, 2] if n <= arguments.one_worker else [2]:
                runs.append(measure(catalog, n, workers, arguments, Path(folder) / f"out-{n}-{workers}"))
                print_table([{**one, "stages": shares(one["stages"])} for one in runs], "popcat infer")
    speedup = speedup_of(runs)
    print(f"2 workers against 1: {speedup:.2f}" if speedup else "2 workers against 1: no size ran on both")
    conclude(arguments.json, {"draws": arguments.draws, "certify": arguments.certify, "prior": arguments.prior,
                              "runs": runs, "speedup_2_workers": speedup, "gpu": None})  # fmt: skip


def options():
    arguments = parser(__doc__)
    arguments.add_argument("--sizes", default="10000,100000,1000000", help="galaxies (10000,100000,1000000)",
                           type=lambda text: [int(word) for word in text.split(",")])  # fmt: skip
    arguments.add_argument("--draws", type=int, default=100, help="posterior draws a galaxy (100)")
    arguments.add_argument("--one-worker", metavar="N", type=int, default=100_000,
                           help="largest size that also runs on one worker (100000)")  # fmt: skip
    arguments.add_argument("--certify", action="store_true", help="correct each posterior by the exact likelihood")
    arguments.add_argument("--prior", choices=PRIORS, default=PHYSICAL, help="of the mocks, and of their posteriors")
    arguments.add_argument("--folder", type=Path, help="where to write: a million galaxies need 7 GB for a while")
    return arguments.parse_args()


def write_catalog(path: Path, n: int, survey: Survey, prior: str) -> Path:
    """The first n mocks inside the survey's magnitude limits, in the survey's own columns and units."""
    left, start = n, 0
    writer = None
    while left:
        frame = simulate_partition(start, start + CHUNK, survey, GalaxyModel(), default_noise(survey), SEED, prior)
        start += CHUNK
        frame = selected(frame, survey, prior).iloc[:left]
        table = as_observed(frame, survey)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
        left -= len(frame)
    writer.close()
    return path


def as_observed(frame, survey: Survey) -> pa.Table:
    """A library frame as a catalogue that the survey's settings bring back to it: no extinction, its AB offsets."""
    columns = {survey.columns.object_id: frame["object_id"], survey.columns.redshift: frame["redshift"]}
    columns |= {name: np.zeros(len(frame)) for name in (survey.columns.ra, survey.columns.dec) if name}
    for band in survey.bands:
        scale = 10 ** (0.4 * band.ab_offset_mag)
        flux, err = frame[f"flux_{band.name}"] * scale, frame[f"flux_err_{band.name}"] * scale
        # the floor that reading adds is in the mock's error already
        err = np.sqrt(np.maximum(err**2 - (band.error_floor * flux) ** 2, (1e-3 * err) ** 2))
        columns |= {band.flux: flux, band.flux_err: err}
        if band.extinction:
            columns[band.extinction] = np.zeros(len(frame))
    return pa.table({name: pa.array(np.asarray(values)) for name, values in columns.items()})


def measure(catalog: Path, n: int, workers: int, arguments, output: Path) -> dict:
    """One run of `popcat infer` on a cluster of its own."""
    with cluster(output.with_suffix(".cluster"), workers) as scheduler:
        command = [sys.executable, "-m", "popcat", "infer", catalog, "-o", output, "--draws", arguments.draws,
                   "--prior", arguments.prior,
                   "--client", scheduler, *(["--certify"] if arguments.certify else [])]  # fmt: skip
        start = time.perf_counter()
        subprocess.run([str(word) for word in command], check=True, env={**os.environ, **ONE_THREAD})
        seconds = time.perf_counter() - start
    manifest, found = read_manifest(output), verify(output)
    if not found.ok or manifest.rows != n:
        raise RuntimeError(f"{manifest.rows} of {n} rows, problems: {found.problems}")
    summary = json.loads((output / "_popcat" / "summary.json").read_text())
    is_certified = open_catalog(output).to_pandas(["certified"])["certified"]
    return {
        "n": n, "workers": workers, "certified": float(is_certified.mean()) if arguments.certify else None,
        "seconds": round(seconds, 1), "galaxies_per_s": round(n / seconds, 1),
        "peak_worker_rss_mb": max(one["peak_rss_mb"] for one in summary["workers"].values()),
        "output_mb": round(manifest.bytes / 1e6, 1), "parts": len(manifest.parts),
        "stages": manifest.stages,
    }  # fmt: skip


def shares(stages: dict[str, float]) -> str:
    """Stages by their share of the workers' time."""
    total = sum(stages.values())
    return ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in stages.items())


def speedup_of(runs: list[dict]) -> float | None:
    """Seconds on one worker over seconds on two, for the largest size that ran on both."""
    seconds = {(run["n"], run["workers"]): run["seconds"] for run in runs}
    both = [n for n, workers in seconds if workers == 1 and (n, 2) in seconds]
    return round(seconds[max(both), 1] / seconds[max(both), 2], 3) if both else None


if __name__ == "__main__":
    main()

"""A library by the command that a user types, and where the time goes."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from popcat import rng
from popcat.catalog.parts import OutputFolder
from popcat.columns import library_schema
from popcat.forward.noise import add_noise, default_noise
from popcat.forward.properties import forward_for
from popcat.galaxy_model import GalaxyModel
from popcat.posterior.simulated import draw_prior
from popcat.survey import load_survey

ROWS = 50_000


def simulate(n: int, workers: int) -> dict:
    """Wall-clock seconds of `popcat simulate`, start of the workers included; and of each part on one core.

    model_s: draws of the prior and their fluxes. noise_s: normals and noisy fluxes. write_s: frame, Parquet, fsync.
    The parts are timed on one partition, the median of five, and scaled to n.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "library"
        command = [sys.executable, "-m", "popcat", "simulate", "--survey", "sdss", "-n", str(n), "-o", output]
        start = time.perf_counter()
        subprocess.run([*command, "--workers", str(workers)], check=True)
        seconds = time.perf_counter() - start
        size_mb = sum(part.stat().st_size for part in output.glob("part-*.parquet")) / 1e6
        times = np.median([part_times(Path(folder) / f"part{i}") for i in range(6)][1:], axis=0) * n / ROWS
    parts = dict(zip(("model_s", "noise_s", "write_s"), times.tolist(), strict=True))
    return {"n": n, "workers": workers, "seconds": seconds, **parts, "size_mb": size_mb}


def part_times(folder: Path) -> list[float]:
    """Seconds of the three parts for one partition."""
    survey, galaxy_model = load_survey("sdss"), GalaxyModel()
    noise, object_id = default_noise(survey), np.arange(ROWS)
    marks = [time.perf_counter()]
    theta, redshift = draw_prior(object_id, survey, galaxy_model, 0)
    flux = forward_for(survey, galaxy_model).photometry.flux(theta, redshift)
    marks.append(time.perf_counter())
    normals = rng.normal(0, rng.STREAM_NOISE, object_id, 2 * len(survey.bands))
    noisy, err = add_noise(flux, noise, normals)
    marks.append(time.perf_counter())
    columns = [object_id, redshift, *theta.T, *flux.T, *noisy.T, *err.T]
    schema = library_schema(survey)
    arrays = [pa.array(c).cast(f.type) for c, f in zip(columns, schema, strict=True)]
    OutputFolder.open(folder, {}, 1, kind="benchmark").write_part(0, pa.table(arrays, schema=schema))
    marks.append(time.perf_counter())
    return np.diff(marks).tolist()

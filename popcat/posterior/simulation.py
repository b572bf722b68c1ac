"""Simulated galaxies: parameters of the prior, model fluxes, noise. A library trains a posterior, mocks test it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from popcat import rng
from popcat.catalog.parts import OutputFolder, write_parts
from popcat.columns import library_meta, library_schema, schema_digest, to_pandas
from popcat.errors import PopcatError
from popcat.forward.noise import Noise, add_noise, noise_of
from popcat.forward.properties import forward_for, grid_hash
from popcat.galaxy_model import GalaxyModel, make_prior
from popcat.posterior.library import Library, open_library
from popcat.posterior.posterior import Posterior
from popcat.run.client import Where
from popcat.run.frames import Frame, frame_of
from popcat.run.runner import How
from popcat.settings import settings_of
from popcat.survey import Survey, load_survey
from popcat.timing import stage
from popcat.units import nmgy_to_ab_mag

_MAX_MOCK_BATCHES = 100
_SECONDS = 2e-5
"""Of one core for one galaxy, about."""


def draw_prior(object_id: np.ndarray, survey: Survey, galaxy_model: GalaxyModel, seed: int) -> tuple[np.ndarray,
                                                                                                     np.ndarray]:
    """theta (n, d) and redshift (n,) from the prior, a function of (seed, object_id) alone."""
    prior = make_prior(galaxy_model)
    u = rng.uniform(seed, rng.STREAM_PRIOR, object_id, prior.n_unconstrained + 1)
    low, high = survey.redshift_range
    return prior.from_unit(u[:, :-1]), low + (high - low) * u[:, -1]


def simulate_partition(
    start: int, stop: int, survey: Survey, galaxy_model: GalaxyModel, noise: Noise, seed: int
) -> pd.DataFrame:
    """Galaxies start <= object_id < stop of the library with this seed: columns of popcat.columns.library_schema."""
    object_id = np.arange(start, stop, dtype=np.int64)
    theta, redshift = draw_prior(object_id, survey, galaxy_model, seed)
    flux_model = forward_for(survey, galaxy_model).photometry.flux(theta, redshift)
    normals = rng.normal(seed, rng.STREAM_NOISE, object_id, 2 * len(survey.bands))
    flux, err = add_noise(flux_model, noise, normals)
    columns = [object_id, redshift, *theta.T, *flux_model.T, *flux.T, *err.T]
    schema = library_schema(survey, galaxy_model)
    return to_pandas(pa.table([pa.array(c).cast(f.type) for c, f in zip(columns, schema, strict=True)], schema=schema))


def draw_mocks(posterior: Posterior, n: int, seed: int) -> pd.DataFrame:
    """The first n simulated galaxies that pass the survey's selection: a library frame, fresh for every seed.

    Their numbers begin at 2^40, beyond any training library, so that no seed repeats its galaxies.

    Raises PopcatError if hardly any galaxy passes.
    """
    survey, parts, found = posterior.survey, [], 0
    for start in range(2**40, 2**40 + _MAX_MOCK_BATCHES * 4 * n, 4 * n):
        frame = simulate_partition(start, start + 4 * n, survey, posterior.galaxy_model, posterior.noise, seed)
        mag = nmgy_to_ab_mag(frame[f"flux_{survey.selection.band}"].to_numpy())
        parts.append(frame[(mag >= survey.selection.bright_mag) & (mag <= survey.selection.faint_mag)])
        found += len(parts[-1])
        if found >= n:
            return pd.concat(parts, ignore_index=True).iloc[:n]
    raise PopcatError(
        f"only {found} of {_MAX_MOCK_BATCHES * 4 * n} simulated galaxies pass the selection of survey "
        f'"{survey.name}" ({survey.selection.band} {survey.selection.bright_mag} to {survey.selection.faint_mag} mag)'
    )


def write_library_part(folder: OutputFolder, index: int, start: int, stop: int, survey, galaxy_model, noise,
                       seed) -> int:
    """Simulate one part of a library and write it; the number of rows."""
    with stage("simulate"):
        frame = simulate_partition(start, stop, survey, galaxy_model, noise, seed)
    folder.write_part(index, pa.Table.from_pandas(frame, schema=library_schema(survey, galaxy_model),
                                                  preserve_index=False))
    return len(frame)


def simulate(
    survey: "str | Path | Survey" = "sdss", n: int = 1_000_000, *, output: str | Path | None = None,
    galaxy_model: "GalaxyModel | str | Path | None" = None, noise: "Noise | str | Path | None" = None, seed: int = 0,
    rows_per_partition: int = 50_000, client: Where = None, workers: int | None = None, progress: bool = False,
    check: bool = False, log: str | Path | None = None, performance_report: str | Path | None = None,
) -> Library | Frame:  # fmt: skip
    """A simulated library of n galaxies: theta and redshift from the prior, model fluxes, one noisy observation.

    Row i is a function of (seed, i) alone. `noise` defaults to the embedded one of an embedded survey, else to the
    nominal one of its depths. With `output`, a folder, the library is written there, by a run with the options of
    `infer`, and a rerun finishes what is missing; without, it is a lazy Dask frame.

    Raises PopcatError if the folder holds another run's output, or for an option of a run without `output`.

    >>> simulate("sdss", 1000).npartitions
    1
    >>> len(simulate("sdss", 100, output="library", client="synchronous"))
    100
    """
    label = survey.name if isinstance(survey, Survey) else str(survey)
    survey, galaxy_model = load_survey(survey), settings_of(GalaxyModel, galaxy_model, "galaxy-model")
    noise = noise_of(noise, survey)
    if output is not None:
        how = How(client, workers, progress, check, log, performance_report)
        return _write_library(Path(output), label, survey, n, galaxy_model, noise, seed, rows_per_partition, how)
    given = {"client": client, "workers": workers, "check": check or None, "log": log,
             "performance_report": performance_report}  # fmt: skip
    if useless := [name for name, value in given.items() if value is not None]:
        raise PopcatError(f"{', '.join(useless)}: these are of a run that writes files: give output, too")
    starts, stops = zip(*_spans(n, rows_per_partition), strict=True)
    options = {"survey": survey, "galaxy_model": galaxy_model, "noise": noise, "seed": seed}
    return frame_of(simulate_partition, starts, stops, **options, meta=library_meta(survey, galaxy_model))


def _write_library(output: Path, label: str, survey: Survey, n: int, galaxy_model: GalaxyModel, noise: Noise,
                   seed: int, rows_per_partition: int, how: How) -> Library:  # fmt: skip
    spans = _spans(n, rows_per_partition)
    settings = {"survey": survey.model_dump(mode="json"), "galaxy_model": galaxy_model.model_dump(mode="json"),
                "noise": noise.model_dump(mode="json"), "seed": seed, "n": n, "grid": grid_hash(galaxy_model),
                "rows_per_partition": rows_per_partition, "schema": schema_digest(library_schema(survey,
                                                                                           galaxy_model))}  # fmt: skip
    how.verify()
    arguments = {"survey": label, "n": n, "seed": seed}
    folder = OutputFolder.open(output, settings, len(spans), kind="library", arguments=arguments)
    forward_for(survey, galaxy_model)  # build the tables once, before the workers look for them
    jobs = {i: (folder, i, *spans[i], survey, galaxy_model, noise, seed) for i in folder.resume(check=how.check)}
    rows = [stop - start for start, stop in spans]
    seconds = _SECONDS * sum(rows[index] for index in jobs)
    write_parts(folder, write_library_part, jobs, rows, "simulating", how, seconds=seconds)
    folder.finish()
    return open_library(output)


def _spans(n: int, rows: int) -> list[tuple[int, int]]:
    if n < 1 or rows < 1:
        raise PopcatError(f"expected at least one galaxy and one row a partition, got {n} and {rows}")
    return [(start, min(start + rows, n)) for start in range(0, n, rows)]

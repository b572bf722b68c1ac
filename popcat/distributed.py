"""Dask, and only here: stages mapped over partitions, lazily as Dask dataframes or from files to files.

Lazy: `read_catalog`, `simulate`, `infer` return Dask dataframes for ad hoc work. Files to files: `simulate_library`,
`infer_catalog` write one part a partition, atomically, through a bounded window of tasks; a rerun finishes what is
missing.
"""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dask
import dask.dataframe as dd
import distributed

from popcat import stages
from popcat.catalog.partitions import OutputFolder
from popcat.catalog.readers import check_catalog, plan_chunks
from popcat.catalog.sources import content_digest
from popcat.errors import PopcatError
from popcat.inference.posterior import embedded_posteriors, load_posterior
from popcat.noise import NoiseModel, check_noise, default_noise, noise_counts, noise_from_counts
from popcat.schema import library_meta, photometry_meta, posterior_meta
from popcat.settings import Model, Survey, load_survey
from popcat.sps.filters import load_curves

SYNCHRONOUS = "synchronous"
"""Instead of a scheduler's address: run everything in this process, for debuggers and small inputs."""
_TASKS_PER_THREAD = 2
_RETRIES = 2


def read_catalog(path: str | Path, survey: "str | Path | Survey", *, rows_per_partition: int = 2500) -> dd.DataFrame:
    """An observed catalogue as a lazy photometry frame: one row a galaxy, fluxes in nMgy, extinction removed.

    Raises PopcatError if the file, a column, a unit or an identifier is not what the survey says.

    >>> from importlib.resources import files
    >>> frame = read_catalog(files("popcat") / "data" / "galaxies_sdss.parquet", "sdss")
    >>> frame.npartitions
    4
    """
    survey = load_survey(survey)
    chunks = plan_chunks(path, rows_per_partition=rows_per_partition)
    check_catalog(path, survey, chunks)
    return dd.from_map(stages.read_partition, chunks, survey=survey, meta=photometry_meta(survey))


def simulate(
    survey: "str | Path | Survey", n: int, *, model: Model | None = None, noise: NoiseModel | None = None,
    seed: int = 0, rows_per_partition: int = 50_000,
) -> dd.DataFrame:  # fmt: skip
    """A simulated library as a lazy frame: theta and redshift from the prior, model fluxes, one noisy observation.

    Row i is a function of (seed, i) alone. `noise` defaults to the embedded one of an embedded survey.

    >>> simulate("sdss", 1000).npartitions
    1
    """
    survey, model = load_survey(survey), model or Model()
    noise = default_noise(survey) if noise is None else check_noise(noise, survey, "noise")
    starts, stops = zip(*_spans(n, rows_per_partition), strict=True)
    options = {"survey": survey, "model": model, "noise": noise, "seed": seed}
    return dd.from_map(stages.simulate_partition, starts, stops, **options, meta=library_meta(survey, model))


def infer(catalog: dd.DataFrame, model: str | Path = "sdss", *, draws: int = 100, seed: int = 0) -> dd.DataFrame:
    """Posteriors of a lazy photometry frame, partition by partition: a lazy posterior frame.

    `model` is the folder of a posterior, which every worker must see, or the name of an embedded one.

    >>> from importlib.resources import files
    >>> frame = read_catalog(files("popcat") / "data" / "galaxies_sdss.parquet", "sdss")
    >>> infer(frame, "sdss").npartitions
    4
    """
    posterior = load_posterior(model)
    _check_bands(catalog, posterior.survey)
    meta = posterior_meta(posterior.survey, posterior.model)
    return catalog.map_partitions(stages.infer_partition, str(model), draws, seed, meta=meta, enforce_metadata=False)


def fit_noise(catalog: dd.DataFrame, survey: "str | Path | Survey") -> NoiseModel:
    """The empirical noise model of a lazy photometry frame; independent of the partitioning.

    Raises PopcatError where a band has too few galaxies.
    """
    survey = load_survey(survey)
    load_curves(survey)  # an unknown filter is said now, not when the library is simulated
    counts = [dask.delayed(noise_counts)(part, survey) for part in catalog.to_delayed()]
    return noise_from_counts(dask.delayed(sum)(counts).compute(), survey)


def simulate_library(
    output: str | Path, survey: "str | Path | Survey", n: int, *, model: Model | None = None,
    noise: NoiseModel | None = None, seed: int = 0, rows_per_partition: int = 50_000,
    scheduler: str | None = None, workers: int | None = None, progress: bool = False,
) -> dict:  # fmt: skip
    """Write a simulated library of n galaxies to a folder and return its manifest.

    Raises PopcatError if the folder holds another run's output; a rerun of the same run finishes it.
    """
    survey, model = load_survey(survey), model or Model()
    noise = default_noise(survey) if noise is None else check_noise(noise, survey, "noise")
    spans = _spans(n, rows_per_partition)
    settings = {"survey": survey.model_dump(mode="json"), "model": model.model_dump(mode="json"),
                "noise": noise.model_dump(mode="json"), "seed": seed, "n": n, "grid": stages.grid_hash(model),
                "rows_per_partition": rows_per_partition}  # fmt: skip
    _check_scheduler(scheduler)
    folder = OutputFolder.open(output, settings, len(spans), kind="library")
    stages.forward_for(survey, model)  # build the tables once, before the workers look for them
    jobs = {i: (folder, i, *spans[i], survey, model, noise, seed) for i in folder.pending()}
    rows = [stop - start for start, stop in spans]
    with connect(scheduler, workers=workers, tasks=len(jobs)) as client:
        _run(client, stages.write_library_part, jobs, rows, "simulating", progress)
    return folder.finish()


def infer_catalog(
    source: str | Path, output: str | Path, *, model: str | Path = "sdss", draws: int = 100, seed: int = 0,
    rows_per_partition: int = 2500, scheduler: str | None = None, workers: int | None = None, progress: bool = False,
) -> dict:  # fmt: skip
    """Write the posteriors of a catalogue to a folder, one part a partition, and return its manifest.

    `scheduler` is the address of a Dask scheduler; None starts a local cluster of `workers` processes (one a core).
    Parts that are there already are kept. A partition that fails is named and does not stop the others. In a script,
    call it under `if __name__ == "__main__":`, because local workers are new processes that import the script.

    Raises PopcatError at the door for a catalogue or model that cannot work, and at the end for failed partitions.
    """
    if draws < 1:
        raise PopcatError(f"draws must be at least 1, got {draws}")
    posterior = load_posterior(model)
    chunks = plan_chunks(source, rows_per_partition=rows_per_partition)
    check_catalog(source, posterior.survey, chunks)
    settings = {"model": posterior.name, "draws": draws, "seed": seed, "rows_per_partition": rows_per_partition,
                "catalog": content_digest(chunks)}  # fmt: skip
    _check_scheduler(scheduler)
    folder = OutputFolder.open(output, settings, len(chunks), kind="posteriors")
    pending = folder.pending()
    if pending:
        stages.forward_for(posterior.survey, posterior.model)
    where = str(model) if str(model) in embedded_posteriors() else str(Path(model).absolute())
    jobs = {i: (folder, chunks[i], where, posterior.name, draws, seed) for i in pending}
    rows = [chunk.stop - chunk.start for chunk in chunks]
    start = time.monotonic()
    with connect(scheduler, workers=workers, tasks=len(jobs)) as client:
        _run(client, stages.write_posterior_part, jobs, rows, "inferring", progress)
    extra = {
        "source": str(source),
        "model": where,
        "survey": posterior.survey.model_dump(mode="json"),
        "galaxy_model": posterior.model.model_dump(mode="json"),
        "provenance": posterior.provenance,
        "draws": draws,
        "seed": seed,
    }
    return folder.finish({**extra, "seconds": round(time.monotonic() - start, 3)} if pending else extra)


@contextlib.contextmanager
def connect(
    scheduler: str | None, *, workers: int | None = None, tasks: int | None = None
) -> Iterator[distributed.Client | None]:
    """A client of a scheduler, of a local cluster of one-threaded processes, or None for `SYNCHRONOUS` or no tasks.

    Raises PopcatError if nothing answers at the address.
    """
    if scheduler == SYNCHRONOUS or tasks == 0:
        yield None
    elif scheduler is not None:
        with _remote(scheduler) as client:
            yield client
    else:
        # kernels and torch are single-threaded: Dask does the parallelism
        threads = {"OMP_NUM_THREADS": 1, "MKL_NUM_THREADS": 1, "OPENBLAS_NUM_THREADS": 1, "NUMBA_NUM_THREADS": 1}
        n = min(workers or dask.system.CPU_COUNT, tasks or sys.maxsize)
        with (
            dask.config.set({"distributed.nanny.pre-spawn-environ": threads}),
            distributed.LocalCluster(
                n_workers=n, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=logging.ERROR
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client


def _check_scheduler(scheduler: str | None) -> None:
    """PopcatError if nothing answers at the address: asked before an output folder is begun."""
    if scheduler not in (None, SYNCHRONOUS):
        _remote(scheduler).close()


def _remote(address: str) -> distributed.Client:
    try:
        return distributed.Client(address, timeout="10s")
    except (OSError, ValueError, TimeoutError) as error:
        raise PopcatError(
            f"no Dask scheduler answers at {address}: {error}; start one with `dask scheduler`, check the "
            "address with `popcat doctor --scheduler`, or leave --scheduler out"
        ) from error


def _run(client, task: Callable, jobs: dict[int, tuple], rows: list[int], verb: str, progress: bool) -> None:
    """Run task(*jobs[i]) for every i, a bounded window at a time; every failure is named at the end."""
    failed = {}
    with _progress_bar(verb, rows, jobs, progress) as advance:
        for index, error in _synchronous(task, jobs) if client is None else _windowed(client, task, jobs):
            if error is not None:
                failed[index] = error
            advance(rows[index])
    if failed:
        first, error = min(failed.items())
        raise PopcatError(
            f"{len(failed)} of {len(jobs)} partitions failed ({', '.join(map(str, sorted(failed)[:10]))}); the "
            f"others are written, and the same command finishes the rest. Partition {first}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _synchronous(task, jobs) -> Iterator[tuple[int, Exception | None]]:
    for index, arguments in jobs.items():
        try:
            task(*arguments)
            yield index, None
        except Exception as error:
            yield index, error


def _windowed(client, task, jobs) -> Iterator[tuple[int, Exception | None]]:
    """At most a few tasks a thread are in flight, so no stage floods memory ahead of another."""
    queue = iter(jobs.items())
    index_of = {}

    def submit() -> list:
        item = next(queue, None)
        if item is None:
            return []
        future = client.submit(task, *item[1], pure=False, retries=_RETRIES)
        index_of[future.key] = item[0]
        return [future]

    window = _TASKS_PER_THREAD * max(sum(client.nthreads().values()), 1)
    running = distributed.as_completed([future for _ in range(window) for future in submit()])
    for future in running:
        yield index_of.pop(future.key), future.exception() if future.status == "error" else None
        future.release()
        running.update(submit())


@contextlib.contextmanager
def _progress_bar(verb, rows, jobs, show: bool):
    """A function that takes galaxies done; a rich bar on the terminal if `show`."""
    if not show:
        yield lambda n: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("galaxies"),
               TimeElapsedColumn(), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        total = sum(rows)
        task = bar.add_task(verb, total=total, completed=total - sum(rows[i] for i in jobs))
        yield lambda n: bar.advance(task, n)


def _spans(n: int, rows: int) -> list[tuple[int, int]]:
    if n < 1 or rows < 1:
        raise PopcatError(f"expected at least one galaxy and one row a partition, got {n} and {rows}")
    return [(start, min(start + rows, n)) for start in range(0, n, rows)]


def _check_bands(catalog: dd.DataFrame, survey: Survey) -> None:
    missing = [name for name in photometry_meta(survey).columns if name not in catalog.columns]
    if missing:
        raise PopcatError(
            f'the frame lacks {", ".join(missing)} of survey "{survey.name}", for which the model was '
            "trained: read it with popcat.read_catalog and that survey"
        )

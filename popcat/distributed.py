"""Dask, and only here: stages mapped over partitions, lazily as Dask dataframes or from files to files.

Lazy: `read_catalog`, `simulate`, `infer` return Dask dataframes for ad hoc work. Files to files: `simulate_library`,
`infer_catalog` write one part a partition, atomically, through a bounded window of tasks; a rerun finishes what is
missing.
"""

import contextlib
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import dask
import dask.dataframe as dd
import distributed

from popcat import stages
from popcat.calibrating import require_calibrated
from popcat.catalog.partitions import OutputFolder
from popcat.catalog.readers import check_catalog, plan_chunks
from popcat.catalog.sources import content_digest
from popcat.errors import PopcatError
from popcat.flows.training import History
from popcat.inference.learn import CHECKPOINTS, member_from_part, train, train_member_part
from popcat.inference.posterior import Posterior, embedded_posteriors, load_posterior
from popcat.noise import NoiseModel, check_noise, default_noise, noise_counts, noise_from_counts
from popcat.schema import library_meta, photometry_meta, posterior_meta
from popcat.settings import Model, Survey, Training, load_survey
from popcat.sps.engines import assemble_metallicities, check_sps_home, probe_fsps, read_metallicity
from popcat.sps.filters import load_curves
from popcat.sps.grid import SSPGrid

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
    return dd.from_map(stages.simulate_partition, starts, stops, **options, meta=library_meta(survey))


def infer(
    catalog: dd.DataFrame, model: str | Path = "sdss", *, draws: int = 100, seed: int = 0,
    allow_uncalibrated: bool = False,
) -> dd.DataFrame:  # fmt: skip
    """Posteriors of a lazy photometry frame, partition by partition: a lazy posterior frame.

    `model` is the folder of a posterior, which every worker must see, or the name of an embedded one. A galaxy whose
    redshift is NaN has it inferred.

    Raises PopcatError for a model that has not passed its calibration, unless allow_uncalibrated.

    >>> from importlib.resources import files
    >>> frame = read_catalog(files("popcat") / "data" / "galaxies_sdss.parquet", "sdss")
    >>> infer(frame, "sdss").npartitions
    4
    """
    require_calibrated(model, allow=allow_uncalibrated)
    posterior = load_posterior(model)
    _check_bands(catalog, posterior.survey)
    meta = posterior_meta(posterior.survey)
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


def train_ensemble(
    library: str | Path, output: str | Path, *, settings: Training | None = None, device: str = "cpu",
    report: Callable = lambda epoch, history: None, scheduler: str | None = None, workers: int | None = None,
) -> tuple[Posterior, History]:  # fmt: skip
    """Train a posterior whose members (settings.members) are Dask tasks, one flow a task, and freeze it in `output`.

    Workers must see the library and `output` under the same paths, as they read the first and leave checkpoints in the
    second. Tasks go to workers with the resource GPU where there are any.

    Raises PopcatError as `popcat.inference.learn.train` does, and if nothing answers at the scheduler's address.
    """
    library, output = Path(library).absolute(), Path(output).absolute()
    fixed = {"checkpoints": str(output / CHECKPOINTS), "device": device}

    def run_members(setup, members, size):
        jobs = [(str(library), setup, member, size, *fixed.values()) for member in members]
        with connect(scheduler, workers=workers, tasks=len(jobs)) as client:
            parts = [train_member_part(*job) for job in jobs] if client is None else _gather(client, jobs)
        return [member_from_part(*part, output / CHECKPOINTS / "member") for part in parts]

    return train(library, output, settings=settings, device=device, report=report, run_members=run_members)


def _gather(client, jobs) -> list:
    """Results of `train_member_part`, on GPU workers where there are any."""
    has_gpu = any(info["resources"].get("GPU") for info in client.scheduler_info(n_workers=-1)["workers"].values())
    where = {"resources": {"GPU": 1}} if has_gpu else {}
    return client.gather([client.submit(train_member_part, *job, pure=False, **where) for job in jobs])


def infer_catalog(
    source: str | Path, output: str | Path, *, model: str | Path = "sdss", draws: int = 100, seed: int = 0,
    rows_per_partition: int = 2500, hide_redshift: bool = False, allow_uncalibrated: bool = False,
    scheduler: str | None = None, workers: int | None = None, progress: bool = False,
) -> dict:  # fmt: skip
    """Write the posteriors of a catalogue to a folder, one part a partition, and return its manifest.

    `scheduler` is the address of a Dask scheduler; None starts a local cluster of `workers` processes (one a core).
    `hide_redshift` infers every redshift, also where the catalogue has one. Parts that are there already are kept. A
    partition that fails is named and does not stop the others. In a script, call it under
    `if __name__ == "__main__":`, because local workers are new processes that import the script.

    Raises PopcatError at the door for a catalogue that cannot work or a model that cannot or may not (it has not passed
    its calibration, unless allow_uncalibrated), and at the end for failed partitions.
    """
    if draws < 1:
        raise PopcatError(f"draws must be at least 1, got {draws}")
    calibrated = require_calibrated(model, allow=allow_uncalibrated)
    posterior = load_posterior(model)
    chunks = plan_chunks(source, rows_per_partition=rows_per_partition)
    check_catalog(source, posterior.survey, chunks)
    settings = {"model": posterior.name, "draws": draws, "seed": seed, "rows_per_partition": rows_per_partition,
                "catalog": content_digest(chunks), "hide_redshift": hide_redshift}  # fmt: skip
    _check_scheduler(scheduler)
    folder = OutputFolder.open(output, settings, len(chunks), kind="posteriors")
    pending = folder.pending()
    if pending:
        stages.forward_for(posterior.survey, posterior.model)
    where = str(model) if str(model) in embedded_posteriors() else str(Path(model).absolute())
    jobs = {i: (folder, chunks[i], where, posterior.name, draws, seed, hide_redshift) for i in pending}
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
        "calibration": calibrated,
        "draws": draws,
        "seed": seed,
    }
    return folder.finish({**extra, "seconds": round(time.monotonic() - start, 3)} if pending else extra)


def build_fsps_grid(
    sps_home: str | Path | None = None, *, folder: str | Path | None = None, imf: str = "chabrier",
    scheduler: str | None = None, workers: int | None = None,
) -> SSPGrid:  # fmt: skip
    """The grid of `popcat.sps.engines.read_fsps`, one metallicity a task, each with an FSPS process of its own.

    Workers must see `sps_home` and `folder`, in which metallicities are kept until all are there (by default a
    temporary folder of this machine). A task takes up to 1 GB.

    Raises PopcatError as `read_fsps` does, naming every metallicity that failed.
    """
    home = check_sps_home(sps_home).absolute()
    z_abs = probe_fsps(home)["z_abs"]
    options = {"sps_home": home, "imf": imf}
    with (
        tempfile.TemporaryDirectory(prefix=".popcat-fsps-", dir=folder) as parts,
        connect(scheduler, workers=workers, tasks=len(z_abs)) as client,
    ):
        options["folder"] = Path(parts).absolute()
        outcomes = _metallicities(client, range(1, len(z_abs) + 1), options)
        failed = {i: outcome for i, outcome in enumerate(outcomes) if isinstance(outcome, Exception)}
        if failed:
            said = "; ".join(f"{i + 1} (Z = {z_abs[i]:.2g}): {error}" for i, error in failed.items())
            raise PopcatError(f"{len(failed)} of {len(z_abs)} metallicities of FSPS failed. {said}")
        return assemble_metallicities(outcomes)


def _metallicities(client, indices: Iterable[int], options: dict) -> "list[Path | Exception]":
    """What `read_metallicity` gave or raised for each index."""
    if client is not None:
        futures = client.map(read_metallicity, indices, **options, pure=False)
        distributed.wait(futures)
        return [future.exception() or future.result() for future in futures]
    outcomes = []
    for index in indices:
        try:
            outcomes.append(read_metallicity(index, **options))
        except PopcatError as error:
            outcomes.append(error)
    return outcomes


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

"""Populations on a cluster: one flow a task, failures named and left out."""

from collections.abc import Callable, Sequence
from pathlib import Path

from popcat.catalog.atomic import write_parquet_atomic
from popcat.catalog.partitions import is_output, read_manifest
from popcat.distributed.cluster import check_scheduler, connect
from popcat.distributed.doors import read_catalog
from popcat.errors import PopcatError
from popcat.noise import NoiseModel, check_noise
from popcat.population.ensemble import assemble
from popcat.population.fitted import Population, load_population, save_population
from popcat.population.jobs import job_of_photometry, job_of_posteriors, with_start
from popcat.population.members import check_folder, fit_member, read_job, write_job
from popcat.population.sampling import sample_folder
from popcat.population.settings import PopulationSettings
from popcat.settings import Model, Survey, load_survey
from popcat.sps.photometry import Photometry

SAMPLES = 100_000


def fit_population(
    source: str | Path, output: str | Path, *, survey: "str | Path | Survey" = "sdss",
    galaxy_model: Model | None = None, noise: NoiseModel | None = None, cuts: Sequence[str] = (),
    settings: PopulationSettings | None = None, device: str = "cpu", scheduler: str | None = None,
    workers: int | None = None, samples: int = SAMPLES, report: Callable[[str], None] = lambda text: None,
) -> Population:  # fmt: skip
    """Fit the population behind a catalogue, freeze it in `output`, and sample it there.

    `source` is a catalogue of photometry (the Wasserstein route) or a posterior catalogue from `popcat infer` (the
    hierarchical route; its survey and galaxy model are then the catalogue's). `noise` defaults to the catalogue's own,
    with posteriors to the survey's. `cuts` are those of the survey, such as "r<19.8", applied to the catalogue and to
    synthetic galaxies alike. A rerun to the same folder goes on where it was cut off, also with more members.

    Raises PopcatError for a catalogue or cuts that cannot work, a folder with another fit, or if no member could be
    fitted.
    """
    settings, output = settings or PopulationSettings(), Path(output).absolute()
    check_scheduler(scheduler)
    if output.exists() and not output.is_dir():
        raise PopcatError(f"{output} is a file: expected a folder for the population, or a path that is not there yet")
    from_posteriors = is_output(source) and read_manifest(source)["kind"] == "posteriors"
    if from_posteriors:
        job = job_of_posteriors(source, cuts, settings, noise=noise)
    else:
        survey = load_survey(survey)
        is_noise = settings.error_floors == "scatter"
        frame = read_catalog(source, survey if is_noise else survey.without_error_floors()).compute()
        noise = noise and check_noise(noise, survey, "noise")
        job = job_of_photometry(frame, survey, galaxy_model or Model(), cuts, settings, noise=noise, report=report)
    check_folder(job, output)
    job = with_start(job, output, report)
    write_job(job, output)
    Photometry(job.survey, job.model)  # builds the tables once, before the workers look for them
    outcomes = _fit_members(output, settings.members, device, scheduler, workers, report)
    population = assemble(read_job(output), outcomes, output, str(source))
    save_population(population, output)
    population = load_population(output)
    if samples:
        write_parquet_atomic(output / "samples.parquet", sample_folder(output, samples, seed=settings.seed))
    return population


def _fit_members(output: Path, n: int, device: str, scheduler, workers, report) -> list:
    """What every member came to, in order: a Member and its flow, or an exception."""
    with connect(scheduler, workers=workers, tasks=n) as client:
        if client is None:
            return [_said(i, _attempt(output, i, device), report) for i in range(n)]
        gpus = [info["resources"].get("GPU") for info in client.scheduler_info(n_workers=-1)["workers"].values()]
        where, device = ({"resources": {"GPU": 1}}, "cuda") if any(gpus) else ({}, device)
        futures = [client.submit(fit_member, str(output), i, device, pure=False, **where)
                   for i in range(n)]  # fmt: skip
        return [_said(i, _result(future), report) for i, future in enumerate(futures)]


def _attempt(output, number, device):
    try:
        return fit_member(str(output), number, device)
    except Exception as error:
        return error


def _result(future):
    try:
        return future.result()
    except Exception as error:
        return error


def _said(number: int, outcome, report):
    if isinstance(outcome, Exception):
        report(f"flow {number}: FAILED, left out: {type(outcome).__name__}: {outcome}")
    else:
        report(f"flow {number}: score {outcome[0].score:.4f}, {outcome[0].steps} steps, {outcome[0].seconds:.0f} s")
    return outcome

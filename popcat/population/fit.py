"""Fit the population behind a catalogue, one flow a task, and say what to trust of it.

The members that were fitted become one population (popcat.population.ensemble); beside them a shorter fit from another
start shows what the data do not measure (popcat.population.second).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from popcat.catalog.lease import LEASE, alone
from popcat.catalog.manifest import CatalogManifest, is_output, read_run
from popcat.errors import PopcatError
from popcat.files import write_parquet_atomic
from popcat.flows.placement import require_device
from popcat.forward.coverage import require_light
from popcat.forward.filters import with_curves
from popcat.forward.noise import Noise, noise_of, read_noise
from popcat.forward.photometry import Photometry
from popcat.galaxy_model import GalaxyModel
from popcat.io.reading import read_catalog
from popcat.paths import local
from popcat.population.ensemble import assemble, distance_of
from popcat.population.fitted import Member, Population, load_population, save_population
from popcat.population.jobs import job_of_photometry, job_of_posteriors
from popcat.population.members import WORK, Job, check_folder, fit_member, flow_of, read_job, with_start, write_job
from popcat.population.sampling import sample_population
from popcat.population.second import first_start, fit_second, second_job, second_start, work_of
from popcat.population.sensitivity import FILE, SecondFit, quantities_of, samples_of
from popcat.population.settings import PopulationSettings
from popcat.run.client import Where, cores
from popcat.run.runner import How, Outcome, run
from popcat.run.steps import Steps
from popcat.settings import settings_of
from popcat.survey import Survey, load_survey
from popcat.timing import recorded

SAMPLES = 100_000


def fit_population(
    source: str | Path, output: str | Path = "population", *, survey: "str | Path | Survey | None" = None,
    galaxy_model: "GalaxyModel | str | Path | None" = None, noise: "Noise | str | Path | None" = None,
    cuts: Sequence[str] = (), settings: "PopulationSettings | str | Path | None" = None, device: str = "cpu",
    client: Where = None, workers: int | None = None, samples: int = SAMPLES, progress: bool = False,
    log: str | Path | None = None, report: Callable[[str], None] = lambda text: None,
) -> Population:  # fmt: skip
    """Fit the population behind a catalogue, freeze it in `output`, and sample it there.

    `source` is a catalogue of photometry (the Wasserstein route) or a posterior catalogue from `popcat infer` (the
    hierarchical route), which has its own survey and galaxy model. The survey of photometry is "sdss" by default.
    `noise` defaults to the catalogue's own, with posteriors to the survey's. `cuts` are those of the survey, such as
    "r<19.8", applied to the catalogue and to synthetic galaxies alike. A rerun to the same folder goes on where it was
    cut off, also with more members.

    A second, shorter fit starts elsewhere (settings.second_start): what differs is what the data do not measure.
    `popcat.population.trust.statements(population.description)` says what to trust.

    progress : a bar on stderr, with a line for each flow. log : a file for one JSON object an event. report : is called
    with each line for the user.

    Raises PopcatError for a catalogue or cuts that cannot work, a folder with another fit, or if no member could be
    fitted. An option that would do nothing is refused: survey or galaxy_model with posteriors.

    >>> fit_population("posteriors", survey="gama")
    Traceback (most recent call last):
    ...
    popcat.errors.PopcatError: posteriors is a posterior catalogue, which has its own: leave out survey
    """
    settings, output = settings_of(PopulationSettings, settings, "population"), local(output).absolute()
    How(client, workers, log=log).verify()
    require_device(device)
    if output.exists() and not output.is_dir():
        raise PopcatError(f"{output} is a file: expected a folder for the population, or a path that is not there yet")
    with Steps(_EXPECTED_S, show=progress, log=log) as steps:

        def say(text: str) -> None:
            steps.say(text)
            report(text)

        how = How(client, workers, steps.progress, log=log)
        with steps.step("catalogue", "reading the catalogue", is_short=True):
            job = _job(source, survey, galaxy_model, noise, cuts, settings, say)
            # builds the tables once, before the workers look for them
            second = second_start(job, Photometry(job.survey, job.galaxy_model))
            steps.expect(_expected_s(job, work_of(job, second), workers or cores()))
        with alone(output / LEASE, output):
            check_folder(job, output)
            with steps.step("start", "reweighting galaxies of the start towards the data"):
                job = with_start(job, output, say)
                write_job(job, output)
            fitted = _flows(job, second, output, device, how, steps, say)
            with steps.step("distance", "comparing with the data"):
                _save(read_job(output), second, fitted, output, str(source))
            with steps.step("samples", "drawing galaxies", is_short=True):
                population = load_population(output)
                if samples:
                    sample_population(population, samples, output=output / "samples.parquet", seed=settings.seed)
    return population


_EXPECTED_S = {"catalogue": 10.0, "start": 60.0, "flows": 1200.0, "distance": 60.0, "samples": 10.0}
"""The steps, and what they take about."""
_SECONDS_PER_DRAW, _SECONDS_OF_LIBRARY = 6e-5, 6e-4
"""Of one core, about, for a draw of a flow and for a galaxy of the start's library."""


def _expected_s(job: Job, work: list[int], at_once: int) -> dict[str, float]:
    """What the steps take, as far as the settings say: the flows say it more exactly as they go."""
    library = _SECONDS_OF_LIBRARY * job.settings.library if job.galaxies is not None else 0.0
    return {"start": library, "flows": _SECONDS_PER_DRAW * max(max(work), sum(work) / min(at_once, len(work)))}


def _job(
    source: str | Path, survey: "str | Path | Survey | None", galaxy_model: "GalaxyModel | str | Path | None",
    noise: "Noise | str | Path | None", cuts: Sequence[str], settings: PopulationSettings, say: Callable[[str], None],
) -> Job:  # fmt: skip
    """What is fitted: of a catalogue of photometry, or of posteriors."""
    if is_output(source) and read_run(source).kind == CatalogManifest.KIND:
        useless = [name for name, one in {"survey": survey, "galaxy_model": galaxy_model}.items() if one is not None]
        if useless:
            raise PopcatError(f"{source} is a posterior catalogue, which has its own: leave out {', '.join(useless)}")
        own = read_noise(noise) if isinstance(noise, str | Path) else noise
        return job_of_posteriors(source, cuts, settings, noise=own)
    survey = with_curves(load_survey(survey or "sdss"))
    galaxy_model = settings_of(GalaxyModel, galaxy_model, "galaxy-model")
    require_light(survey, galaxy_model)
    is_noise = settings.error_floors == "scatter"
    frame = read_catalog(source, survey if is_noise else survey.without_error_floors()).compute()
    own = None if noise is None else noise_of(noise, survey)
    return job_of_photometry(frame, survey, galaxy_model, cuts, settings, noise=own, report=say)


def _flows(
    job: Job, second: str | None, output: Path, device: str, how: How, steps: Steps, say: Callable[[str], None]
) -> list[tuple[Member, bytes] | Exception]:
    """Fit the members, and after them the flow from a second start, each a task: what became of them."""
    work, members = work_of(job, second), job.settings.members
    names = [*(f"flow {number}" for number in range(members)), *(["second start"] if second else [])]
    jobs: dict[int, tuple] = {number: (str(output), number, device) for number in range(members)}
    if second:
        jobs[members] = (str(output), members, device, second)
    words = f"fitting {members} flow{'s' if members > 1 else ''}" + (" and one from a second start" if second else "")
    with steps.step("flows", words):
        found = run(_fit_here, jobs, verb="fitting", how=how, unit="draws", noun="flow", sizes=work, told=output / WORK)
    return [_said(name, outcome, say) for name, outcome in zip(names, found.values(), strict=True)]


def _fit_here(output: str, number: int, device: str, second: str | None = None) -> tuple[Member, bytes]:
    """`fit_member`, or the fit from a second start, on the GPU of a worker that has one."""
    device = "cuda" if recorded().get("gpu") else device
    return fit_member(output, number, device) if second is None else fit_second(output, second, number, device)


def _said(name: str, outcome: Outcome, say: Callable[[str], None]) -> tuple[Member, bytes] | Exception:
    """What became of a flow, told to the user: the member and its flow, or why it is left out."""
    if outcome.error is not None:
        say(f"{name}: FAILED, left out: {type(outcome.error).__name__}: {outcome.error}")
        return outcome.error
    member, _ = outcome.value
    say(f"{name}: score {member.score:.4f}, {member.steps} steps, {member.seconds:.0f} s")
    return outcome.value


def _save(job: Job, second: str | None, fitted: list[tuple[Member, bytes] | Exception], output: Path, source: str):
    """Write the population of what was fitted, and what to trust of it."""
    population = assemble(job, fitted[: job.settings.members], output, source)
    compared = _compared(job, population, second, fitted[job.settings.members :], output)
    measured = population.description.measured | compared
    description = population.description.model_copy(update={"measured": measured})
    save_population(Population(description, population.flows, population.architecture), output)


def _compared(job: Job, population: Population, start: str | None, outcomes: list, output: Path) -> dict[str, Any]:
    """What the start decides, for population.json; the galaxies behind it are written beside it."""
    synthesis, first, second, fared = job.synthesis(), first_start(job), None, None
    if start is not None and isinstance(outcomes[0], Exception):
        fared = {"start": start, "failure": f"{type(outcomes[0]).__name__}: {outcomes[0]}"}
    elif start is not None:
        member, content = outcomes[0]
        second = SecondFit(start, second_job(job, start), member, flow_of(content, output)[0])
        distance = distance_of(job, [second.flow], [1.0], repeats=_REPEATS_OF_SECOND)
        fared = {"start": start, **member.model_dump(include={"score", "steps", "seconds", "cpu_seconds"}), **distance}
    samples = samples_of(job, synthesis, first, second)
    write_parquet_atomic(output / FILE, pa.Table.from_pandas(samples, preserve_index=False))
    return {"start": first, "second": fared, "quantities": quantities_of(population, synthesis, samples)}


_REPEATS_OF_SECOND = 4
"""Halvings of the data for the distance of the second fit, of which a rough number will do."""

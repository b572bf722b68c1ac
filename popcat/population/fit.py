"""What is fitted: a catalogue's galaxies that pass the cuts, or the draws of a posterior catalogue.

Populations on a cluster: one flow a task, failures named and left out.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from popcat.catalog.draws import decode_table
from popcat.catalog.manifest import CatalogManifest, is_output, read_run
from popcat.catalog.queries import open_catalog
from popcat.errors import PopcatError
from popcat.forward.noise import Noise, check_noise, default_noise, noise_of, read_noise
from popcat.forward.photometry import Photometry
from popcat.galaxies import observed
from popcat.galaxy_model import GalaxyModel, make_prior
from popcat.io.reading import read_catalog
from popcat.population.cuts import Cuts, parse_cuts
from popcat.population.distance import Galaxies, fit_scaling
from popcat.population.ensemble import assemble
from popcat.population.fitted import Member, Population, load_population, save_population
from popcat.population.hierarchical import PosteriorDraws
from popcat.population.members import Job, check_folder, fit_member, known_start, read_job, write_job
from popcat.population.sampling import sample_population
from popcat.population.settings import PopulationSettings
from popcat.population.start import WIDE, start_prior
from popcat.population.synthesis import Space, catalogue_noise
from popcat.population.unfolding import unfold
from popcat.run.client import Where
from popcat.run.runner import How, Outcome, run
from popcat.settings import settings_of
from popcat.survey import Survey, load_survey
from popcat.timing import recorded

_FEWEST = 200


def job_of_photometry(
    frame: pd.DataFrame, survey: Survey, galaxy_model: GalaxyModel, cuts: Sequence[str],
    settings: PopulationSettings, *,
    noise: Noise | None = None, report: Callable[[str], None] = lambda text: None,
) -> Job:  # fmt: skip
    """The Wasserstein route from a photometry frame: galaxies with every band that pass the cuts.

    `noise` defaults to that of the frame itself, by true flux. `report` is told how many galaxies are left. Redshifts
    outside the survey's range count as unknown.

    Raises PopcatError if too few galaxies are left.
    """
    made = parse_cuts(cuts, survey.band_names)
    flux, err = (frame[[f"{kind}_{name}" for name in survey.band_names]].to_numpy(dtype=float)
                 for kind in ("flux", "flux_err"))  # fmt: skip
    kept = np.asarray(observed(flux, err).all(axis=1))
    n_whole = int(kept.sum())
    kept[kept] = made.passes(flux[kept], err[kept])
    _enough(int(kept.sum()), len(frame), made)
    left_out = f"{len(frame) - n_whole:,} lack a band, {n_whole - kept.sum():,} do not pass the cuts"
    redshift = _in_range(frame["redshift"].to_numpy(dtype=float), survey, report)
    if settings.redshifts != "ignored":
        _enough_known(int(np.isfinite(redshift[kept]).sum()), settings.redshifts)
    if settings.redshifts == "distance":
        left_out += f", {(kept & ~np.isfinite(redshift)).sum():,} of the others have no known redshift"
        kept &= np.isfinite(redshift)
    report(f"{kept.sum():,} of {len(frame):,} galaxies are fitted: {left_out}")
    noise = noise or catalogue_noise(flux[kept], err[kept], survey, settings.seed)
    galaxies = Galaxies(flux[kept], err[kept], redshift[kept])
    scaling = fit_scaling(galaxies.flux, galaxies.err, redshift[kept] if settings.redshifts == "distance" else None)
    return Job(survey, galaxy_model, noise, made, settings, "wasserstein", galaxies, None, scaling)


def with_start(job: Job, output: Path, report: Callable[[str], None] = lambda text: None) -> Job:
    """The same job, with the library that its flows learn first; it may be in `output` from an earlier call
    (`check_folder` says whether of the same fit).
    """
    if job.galaxies is None or not job.settings.start_steps:
        return job
    start = known_start(output)
    if start is None:
        start = unfold(job.synthesis(), job.galaxies, job.scaling, job.settings, report)
    return dataclasses.replace(job, start=start)


def job_of_posteriors(
    posteriors: "str | Path", cuts: Sequence[str], settings: PopulationSettings, *, noise: Noise | None = None
) -> Job:
    """The hierarchical route from a posterior catalogue.

    Only galaxies with a posterior that pass the cuts count. `noise`, for the share that the cuts hide, defaults to the
    survey's.

    Raises PopcatError if too few galaxies are left, or the posteriors are under another prior than the training prior.
    """
    if settings.redshifts != "ignored":
        raise PopcatError(f'redshifts = "{settings.redshifts}" is for catalogues of photometry: posteriors have the '
                          "known redshifts in them, unless `popcat infer` hid them")  # fmt: skip
    catalog = open_catalog(posteriors)
    manifest, survey, galaxy_model = catalog.require_manifest(), catalog.survey, catalog.galaxy_model
    if manifest.prior is not None:
        raise PopcatError(f"{posteriors} was reweighted: fit a population to the catalogue it came from, "
                          f"{manifest.reweighted_from}, which has the training prior")  # fmt: skip
    made = parse_cuts(cuts, survey.band_names)
    space = Space(make_prior(galaxy_model), survey.redshift_range)
    bands = [f"{kind}_{band}" for kind in ("flux", "flux_err") for band in survey.band_names]
    columns = [*bands, *(f"{name}_draws" for name in (*space.prior.names, "redshift"))]
    start = start_prior(settings.start_prior or WIDE, space, Photometry(survey, galaxy_model))
    noise = default_noise(survey) if noise is None else check_noise(noise, survey, "noise")
    batches = catalog.batches(columns, where="status == 'ok'")
    found = [some for batch in batches if (some := _draws_of(batch, bands, space, made, start)) is not None]
    _enough(sum(len(x) for x, _ in found), manifest.rows, made)
    draws = PosteriorDraws.under_prior(*map(np.concatenate, zip(*found, strict=True)))
    return Job(survey, galaxy_model, noise, made, settings, "hierarchical", None, draws, None)


def _draws_of(
    batch: pa.RecordBatch, bands: Sequence[str], space: Space, cuts: Cuts, start: Callable
) -> tuple[np.ndarray, np.ndarray] | None:
    """Draws (n, k, d) of the galaxies of a batch that pass the cuts, unconstrained, and ln ratios of the start's prior
    at them, (n, k); None where no galaxy is left.
    """
    flux, err = np.split(np.column_stack([batch[name].to_numpy().astype(float) for name in bands]), 2, axis=1)
    batch = batch.filter(pa.array(cuts.passes(flux, err)))
    rows, draws = decode_table(batch, [*space.prior.names, "redshift"])
    if len(rows) == 0:
        return None
    n, k = draws["redshift"].shape
    theta = np.column_stack([draws[name].ravel() for name in space.prior.names]).astype(float)
    redshift = draws["redshift"].ravel().astype(float)
    return space.unconstrained(theta, redshift).reshape(n, k, -1), start(theta, redshift).reshape(n, k)


def _in_range(redshift: np.ndarray, survey: Survey, report: Callable[[str], None]) -> np.ndarray:
    """Redshifts, NaN where outside the survey's range: codes of missing values, stars, failures."""
    low, high = survey.redshift_range
    outside = (redshift < low) | (redshift > high)
    if outside.any():
        report(f"{outside.sum():,} redshifts outside {low:g} to {high:g}, the survey's range, count as unknown")
    return np.where(outside, np.nan, redshift)


def _enough_known(n: int, what_for: str) -> None:
    if n < _FEWEST:
        raise PopcatError(f"{n} galaxies that pass the cuts have a redshift in the survey's range; expected at least "
                          f'{_FEWEST}: leave out redshifts = "{what_for}"')  # fmt: skip


def _enough(n: int, rows: int, cuts: Cuts) -> None:
    if n < _FEWEST:
        text = ", ".join(map(str, cuts.cuts)) or "none"
        raise PopcatError(f"{n} of {rows} galaxies are left (every band observed, cuts: {text}); expected at least "
                          f"{_FEWEST} to fit a population to")  # fmt: skip


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

    Raises PopcatError for a catalogue or cuts that cannot work, a folder with another fit, or if no member could be
    fitted. An option that would do nothing is refused: survey or galaxy_model with posteriors.

    >>> fit_population("posteriors", survey="gama")
    Traceback (most recent call last):
    ...
    popcat.errors.PopcatError: posteriors is a posterior catalogue, which has its own: leave out survey
    """
    settings, output = settings_of(PopulationSettings, settings, "population"), Path(output).absolute()
    how = How(client, workers, progress, log=log)
    how.verify()
    if output.exists() and not output.is_dir():
        raise PopcatError(f"{output} is a file: expected a folder for the population, or a path that is not there yet")
    from_posteriors = is_output(source) and read_run(source).kind == CatalogManifest.KIND
    if from_posteriors:
        useless = [name for name, one in {"survey": survey, "galaxy_model": galaxy_model}.items() if one is not None]
        if useless:
            raise PopcatError(f"{source} is a posterior catalogue, which has its own: leave out {', '.join(useless)}")
        own = read_noise(noise) if isinstance(noise, str | Path) else noise
        job = job_of_posteriors(source, cuts, settings, noise=own)
    else:
        survey, galaxy_model = load_survey(survey or "sdss"), settings_of(GalaxyModel, galaxy_model, "galaxy-model")
        is_noise = settings.error_floors == "scatter"
        frame = read_catalog(source, survey if is_noise else survey.without_error_floors()).compute()
        own = None if noise is None else noise_of(noise, survey)
        job = job_of_photometry(frame, survey, galaxy_model, cuts, settings, noise=own, report=report)
    check_folder(job, output)
    job = with_start(job, output, report)
    write_job(job, output)
    Photometry(job.survey, job.galaxy_model)  # builds the tables once, before the workers look for them
    jobs = {number: (str(output), number, device) for number in range(settings.members)}
    found = run(_fit_here, jobs, verb="fitting", how=how, unit="members", noun="member")
    outcomes = [_said(number, outcome, report) for number, outcome in found.items()]
    population = assemble(read_job(output), outcomes, output, str(source))
    save_population(population, output)
    population = load_population(output)
    if samples:
        sample_population(population, samples, output=output / "samples.parquet", seed=settings.seed)
    return population


def _fit_here(output: str, number: int, device: str) -> tuple[Member, bytes]:
    """`fit_member`, on the GPU of a worker that has one."""
    return fit_member(output, number, "cuda" if recorded().get("gpu") else device)


def _said(number: int, outcome: Outcome, report: Callable[[str], None]) -> tuple[Member, bytes] | Exception:
    """What became of a member, told to the user: the member and its flow, or why it is left out."""
    if outcome.error is not None:
        report(f"flow {number}: FAILED, left out: {type(outcome.error).__name__}: {outcome.error}")
        return outcome.error
    member, _ = outcome.value
    report(f"flow {number}: score {member.score:.4f}, {member.steps} steps, {member.seconds:.0f} s")
    return outcome.value

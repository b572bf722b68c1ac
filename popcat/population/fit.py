"""A population on a cluster, one flow a task: what is fitted, and the ensemble of what was.

What is fitted are a catalogue's galaxies that pass the cuts, or the draws of a posterior catalogue. The members that
were fitted become one population, with weights by their held-out loss; what failed is named and left out.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from popcat import __version__
from popcat.catalog.draws import decode_table
from popcat.catalog.lease import LEASE, alone
from popcat.catalog.manifest import CatalogManifest, is_output, read_run
from popcat.catalog.queries import open_catalog
from popcat.errors import PopcatError
from popcat.flows.placement import require_device
from popcat.flows.sampler import stacking_weights
from popcat.forward.coverage import require_light
from popcat.forward.filters import with_curves
from popcat.forward.noise import Noise, check_noise, default_noise, noise_of, read_noise
from popcat.forward.photometry import Photometry
from popcat.galaxies import observed
from popcat.galaxy_model import GalaxyModel
from popcat.io.reading import read_catalog
from popcat.paths import local
from popcat.population.cuts import Cuts, parse_cuts
from popcat.population.distance import Galaxies, features_of, fit_scaling, floor_of, sliced_distance, split
from popcat.population.fitted import Description, Member, Population, load_population, save_population
from popcat.population.hierarchical import MAX_HELD, PosteriorDraws, log_evidence, seen_share
from popcat.population.members import Job, check_folder, fit_member, flow_of, read_job, with_start, write_job
from popcat.population.sampling import sample_population
from popcat.population.settings import PopulationSettings
from popcat.population.start import WIDE, start_prior
from popcat.population.synthesis import Space, catalogue_noise, draw
from popcat.prior import FLAT, make_prior
from popcat.run.client import Where
from popcat.run.runner import How, Outcome, run
from popcat.settings import settings_of
from popcat.survey import Survey, load_survey
from popcat.timing import recorded

_FEWEST = 200


def job_of_photometry(
    frame: pd.DataFrame, survey: Survey, galaxy_model: GalaxyModel, cuts: Sequence[str],
    settings: PopulationSettings, *, noise: Noise | None = None, report: Callable[[str], None] = lambda text: None,
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
    if manifest.prior is not None or manifest.posterior.prior != FLAT:
        why = f"is under the {manifest.posterior.prior} prior" if manifest.prior is None else "was reweighted"
        raise PopcatError(f"{posteriors} {why}: fit a population to posteriors of `popcat infer --prior flat`")
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
    if (outside := (redshift < low) | (redshift > high)).any():
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
    settings, output = settings_of(PopulationSettings, settings, "population"), local(output).absolute()
    how = How(client, workers, progress, log=log)
    how.verify()
    require_device(device)
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
        survey = with_curves(load_survey(survey or "sdss"))
        galaxy_model = settings_of(GalaxyModel, galaxy_model, "galaxy-model")
        require_light(survey, galaxy_model)
        is_noise = settings.error_floors == "scatter"
        frame = read_catalog(source, survey if is_noise else survey.without_error_floors()).compute()
        own = None if noise is None else noise_of(noise, survey)
        job = job_of_photometry(frame, survey, galaxy_model, cuts, settings, noise=own, report=report)
    with alone(output / LEASE, output):
        check_folder(job, output)
        job = with_start(job, output, report)
        write_job(job, output)
        Photometry(job.survey, job.galaxy_model)  # builds the tables once, before the workers look for them
        jobs = {number: (str(output), number, device) for number in range(settings.members)}
        found = run(_fit_here, jobs, verb="fitting", how=how, unit="members", noun="member")
        outcomes = [_said(number, outcome, report) for number, outcome in found.items()]
        save_population(assemble(read_job(output), outcomes, output, str(source)), output)
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


_MEASURED, _REPEATS, _MOST_TURNS = 50_000, 16, 40
"""Galaxies of either side of the distance that is published, how often it is taken, and how often as many parents are
drawn for as many galaxies to pass the cuts."""
_DETECTION_DRAWS = 20_000
"""Of the share that the survey observes of one member's population."""


def assemble(job: Job, outcomes: list[tuple[Member, bytes] | Exception], output: Path, source: str) -> Population:
    """The population of the members that were fitted.

    Raises PopcatError if none was.
    """
    fitted = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    if not fitted:
        first = outcomes[0]
        raise PopcatError(f"none of {len(outcomes)} flows could be fitted: {type(first).__name__}: {first}") from first
    flows, architecture = [], None
    for _, content in fitted:
        flow, architecture = flow_of(content, output)
        flows.append(flow)
    weights = iter(_weights(job, [member for member, _ in fitted], flows))
    members = [_member(i, outcome, weights) for i, outcome in enumerate(outcomes)]
    kept = tuple(flow for flow, (member, _) in zip(flows, fitted, strict=True) if members[member.number].weight > 0.0)
    description = Description(
        survey=job.survey, galaxy_model=job.galaxy_model, noise=job.noise, cuts=tuple(job.cuts.to_list()),
        route=job.route,
        settings=job.settings, members=tuple(members), measured=_measured(job, flows, members),
        provenance={"popcat": __version__, "source": source, "job": job.digest},
    )  # fmt: skip
    return Population(description, kept, architecture)


def _member(number: int, outcome, weights) -> Member:
    if isinstance(outcome, Exception):
        return Member(number=number, seed=-1, failure=f"{type(outcome).__name__}: {outcome}")
    weight = float(next(weights))
    # a share that no sample would show is none
    return outcome[0].model_copy(update={"weight": weight if weight > 1e-3 else 0.0})


def _weights(job: Job, members: list[Member], flows) -> np.ndarray:
    """Sliced distance: exp(-(d - least) / floor). Posteriors: those that make the held-out galaxies most probable."""
    if job.route == "hierarchical":
        return _hierarchical_weights(job, flows)
    scores = np.array([member.score for member in members])
    weights = np.exp(-(scores - scores.min()) / floor_of(job.galaxies, job.scaling))
    return weights / weights.sum()


def _hierarchical_weights(job: Job, flows) -> np.ndarray:
    """Weights w that make the held-out galaxies most probable, sum w_e L_ie / sum w_e alpha_e (Mandel et al. 2019).

    With v_e ~ w_e alpha_e, the members' shares of what is observed, that is a mixture of L_ie / alpha_e.
    """
    _, held = split(len(job.draws), job.settings.held_out, job.settings.seed)
    evidence = torch.stack([log_evidence(flow, job.draws[held[:MAX_HELD]]) for flow in flows])
    if not job.cuts.cuts:
        return stacking_weights(evidence).numpy()
    synthesis = job.synthesis()
    with torch.no_grad():
        alpha = torch.stack([seen_share(flow, synthesis, _DETECTION_DRAWS, torch.Generator().manual_seed(8))
                             for flow in flows]).clamp_min(1e-6)  # fmt: skip
    weights = stacking_weights(evidence - torch.log(alpha)[:, None]) / alpha
    return (weights / weights.sum()).numpy()


def _measured(job: Job, flows, members) -> dict:
    """Distance of the whole ensemble's photometry from the data, beside the sampling floor at the same size.

    The floor is the distance of two halves of the data, that of the ensemble the mean of its distances to either; both
    are means over halvings and as many synthetic samples. The ratio of one of each scatters by a fifth: of two samples
    even the means differ by as much as this measures.
    """
    if job.galaxies is None:
        return {"galaxies": len(job.draws)}
    data, synthesis = features_of(job.galaxies, job.scaling), job.synthesis()
    half = min(len(data) // 2, _MEASURED)
    weights = np.array([member.weight for member in members if member.score is not None])
    rows = []
    for repeat in range(_REPEATS):
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(3 + repeat))
        halves = data[order[:half]], data[order[half : 2 * half]]
        features, share = _sample(flows, weights / weights.sum(), job, synthesis, half, repeat)
        distance = np.mean([sliced_distance(features, one) for one in halves])
        rows.append((distance, sliced_distance(halves[1], halves[0]), share))
    (distance, floor, share), error = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1) / _REPEATS**0.5
    ratio = float(distance / floor)
    return {"galaxies": len(data), "compared": half, "distance": float(distance), "floor": float(floor),
            "distance_over_floor": ratio,
            "distance_over_floor_err": ratio * float(np.hypot(error[0] / distance, error[1] / floor)),
            "selected_fraction": float(share), "features": job.scaling.to_dict(job.survey.band_names)}  # fmt: skip


def _sample(flows, weights: np.ndarray, job: Job, synthesis, n: int, repeat: int):
    """Features of n selected galaxies of the whole ensemble, and the share of galaxies that are selected.

    n of them, however few the survey selects: the distance of a smaller sample would be larger.
    """
    parts, selected = [], []
    for turn in range(_MOST_TURNS):
        for number, (flow, w) in enumerate(zip(flows, weights, strict=True)):
            seed = 10_000 * turn + 100 * repeat + number
            features, one = _synthetic(flow, job, synthesis, int(np.ceil(n * w)) + 1, seed)
            parts.append(features)
            selected.append(one)
        if sum(map(len, parts)) >= n:
            break
    features = torch.cat(parts)
    if len(features) == 0:
        raise PopcatError("the population was fitted, but none of its galaxies passes the cuts: check cuts and units")
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(4 + repeat))
    return features[order[:n]], np.mean(np.concatenate(selected))


def _synthetic(flow, job: Job, synthesis, n: int, seed: int):
    """Features of the selected of n synthetic galaxies, and which those are; members differ in their seeds."""
    random = torch.Generator().manual_seed(1005 + seed)
    with torch.no_grad():
        x = draw(flow, torch.randn(n, job.space.n_dim, generator=random))
        seen = synthesis.observe(x, torch.randn(n, 2 * synthesis.n_band, generator=random), hard=True)
    selected = seen.weight > 0
    return job.scaling(seen.flux, seen.redshift)[selected], selected.numpy()

"""What is fitted: a catalogue's galaxies that pass the cuts, or the draws of a posterior catalogue."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from popcat.catalog.partitions import read_manifest
from popcat.catalog.photometry import observed
from popcat.errors import PopcatError
from popcat.noise import NoiseModel, default_noise
from popcat.population.catalogue_noise import catalogue_noise
from popcat.population.cuts import Cuts, parse_cuts
from popcat.population.distance import fit_scaling
from popcat.population.hierarchical import PosteriorDraws
from popcat.population.members import Job, known_start
from popcat.population.settings import PopulationSettings
from popcat.population.space import Space
from popcat.population.start_prior import WIDE, start_prior
from popcat.population.unfolding import unfold
from popcat.population.wasserstein import Galaxies
from popcat.prior import make_prior
from popcat.settings import Model, Survey
from popcat.sps.photometry import Photometry

_FEWEST = 200


def job_of_photometry(
    frame: pd.DataFrame, survey: Survey, model: Model, cuts: Sequence[str], settings: PopulationSettings, *,
    noise: NoiseModel | None = None,
) -> Job:  # fmt: skip
    """The Wasserstein route from a photometry frame: galaxies with every band that pass the cuts.

    `noise` defaults to that of the frame itself, by true flux.

    Raises PopcatError if too few galaxies are left.
    """
    made = parse_cuts(cuts, survey.band_names)
    flux, err = (frame[[f"{kind}_{name}" for name in survey.band_names]].to_numpy(dtype=float)
                 for kind in ("flux", "flux_err"))  # fmt: skip
    kept = observed(flux, err).all(axis=1)
    kept[kept] = made.passes(flux[kept], err[kept])
    redshift = frame["redshift"].to_numpy(dtype=float)
    if settings.redshifts == "distance":
        kept &= np.isfinite(redshift)
    _enough(int(kept.sum()), len(frame), made)
    if settings.redshifts == "distribution":
        _enough_known(int(np.isfinite(redshift[kept]).sum()))
    noise = noise or catalogue_noise(flux[kept], err[kept], survey, settings.seed)
    galaxies = Galaxies(flux[kept], err[kept], redshift[kept])
    scaling = fit_scaling(galaxies.flux, galaxies.err, redshift[kept] if settings.redshifts == "distance" else None)
    return Job(survey, model, noise, made, settings, "wasserstein", galaxies, None, scaling)


def with_start(job: Job, output: Path, report: Callable[[str], None] = lambda text: None) -> Job:
    """The same job, with the library that its flows learn first; it may be in `output` from an earlier call."""
    if not job.settings.start_steps:
        return job
    start = known_start(job, output)
    if start is None:
        start = unfold(job.synthesis(), job.galaxies, job.scaling, job.settings, report)
    return dataclasses.replace(job, start=start)


def job_of_posteriors(
    posteriors: "str | Path", cuts: Sequence[str], settings: PopulationSettings, *, noise: NoiseModel | None = None
) -> Job:
    """The hierarchical route from a posterior catalogue, with the importance weights where there are any.

    Only galaxies with a posterior that pass the cuts count. `noise`, for the share that the cuts hide, defaults to the
    survey's.

    Raises PopcatError if too few galaxies are left.
    """
    if settings.redshifts != "ignored":
        raise PopcatError(f'redshifts = "{settings.redshifts}" is for catalogues of photometry: posteriors have the '
                          "known redshifts in them, unless `popcat infer` hid them")  # fmt: skip
    manifest = read_manifest(posteriors, kind="posteriors")
    survey = Survey.model_validate(manifest["extra"]["survey"])
    model = Model.model_validate(manifest["extra"]["galaxy_model"])
    made = parse_cuts(cuts, survey.band_names)
    space = Space(make_prior(model), survey.redshift_range)
    paths = [Path(posteriors) / part["file"] for part in manifest["parts"]]
    start = start_prior(settings.start_prior or WIDE, space, Photometry(survey, model))
    x, *logs = zip(*(_draws_of(path, survey, space, made, start) for path in paths), strict=True)
    _enough(sum(map(len, x)), manifest["rows"], made)
    noise = noise or default_noise(survey)
    draws = PosteriorDraws.under_prior(np.concatenate(x), *map(np.concatenate, logs))
    return Job(survey, model, noise, made, settings, "hierarchical", None, draws, None)


def _draws_of(path: Path, survey: Survey, space: Space, cuts: Cuts, start: Callable) -> tuple[np.ndarray, ...]:
    """Draws (n, k, d) of one part, unconstrained, their ln weights and ln ratios of the start's prior, (n, k)."""
    names = [*space.prior.names, "redshift"]
    bands = [f"{kind}_{band}" for kind in ("flux", "flux_err") for band in survey.band_names]
    schema = pq.read_schema(path).names
    weights = ["weights"] if "weights" in schema else []
    table = pq.read_table(path, columns=["status", *bands, *(f"{name}_draws" for name in names), *weights])
    flux, err = np.split(np.column_stack([table[name].to_numpy().astype(float) for name in bands]), 2, axis=1)
    kept = table["status"].to_numpy(zero_copy_only=False) == "ok"
    kept[kept] = cuts.passes(flux[kept], err[kept])
    rows = table.filter(kept)
    lists = [rows[name].combine_chunks() for name in (*(f"{name}_draws" for name in names), *weights)]
    arrays = [one.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1) for one in lists]
    n, k = arrays[0].shape if len(rows) else (0, 1)
    theta = np.column_stack([one.ravel() for one in arrays[: len(names) - 1]])
    theta, redshift = theta.astype(float), arrays[len(names) - 1].ravel().astype(float)
    x = space.unconstrained(theta, redshift).reshape(n, k, -1)
    ratio = start(theta, redshift).reshape(n, k)
    with np.errstate(divide="ignore"):
        return x, np.log(arrays[-1]) if weights else np.zeros((n, k)), ratio


def _enough_known(n: int) -> None:
    if n < _FEWEST:
        raise PopcatError(f"{n} galaxies that pass the cuts have a redshift; expected at least {_FEWEST} for their "
                          'distribution: leave out redshifts = "distribution"')  # fmt: skip


def _enough(n: int, rows: int, cuts: Cuts) -> None:
    if n < _FEWEST:
        text = ", ".join(map(str, cuts.cuts)) or "none"
        raise PopcatError(f"{n} of {rows} galaxies are left (every band observed, cuts: {text}); expected at least "
                          f"{_FEWEST} to fit a population to")  # fmt: skip

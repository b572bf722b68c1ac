"""What a population is fitted to: a catalogue's galaxies that pass the cuts, or the draws of a posterior catalogue."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from popcat.catalog.draws import decode_table
from popcat.catalog.queries import open_catalog
from popcat.errors import PopcatError
from popcat.forward.noise import Noise, check_noise, default_noise
from popcat.forward.photometry import Photometry
from popcat.galaxies import observed
from popcat.galaxy_model import GalaxyModel
from popcat.population.cuts import Cuts, parse_cuts
from popcat.population.distance import Galaxies, fit_scaling
from popcat.population.hierarchical import PosteriorDraws
from popcat.population.members import Job
from popcat.population.settings import PopulationSettings
from popcat.population.start import WIDE, start_prior
from popcat.population.synthesis import Space, catalogue_noise
from popcat.prior import FLAT, make_prior
from popcat.survey import Survey

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

"""Simulated galaxies: parameters of a prior, model fluxes, noise. Libraries train posteriors, and mocks test them."""

from functools import lru_cache, partial

import numpy as np
import pandas as pd
import pyarrow as pa

from popcat import rng
from popcat.columns import library_schema, to_pandas
from popcat.errors import PopcatError
from popcat.forward.noise import Noise, add_noise
from popcat.forward.properties import forward_for
from popcat.galaxy_model import GalaxyModel
from popcat.physical.prior import physical_prior
from popcat.posterior.posterior import Posterior
from popcat.prior import BOTH, FLAT, PHYSICAL, PRIORS, make_prior
from popcat.survey import Survey
from popcat.units import ab_mag_to_nmgy, nmgy_to_ab_mag

_MAX_MOCK_BATCHES = 100
_BLOCK = 500
"""Galaxies that are drawn from the physical prior together."""
_LIMITS_MAG = (0.0, 1.0, 2.0, 3.0, 4.0)
"""Ten times as many galaxies are seen for every 1.7 mag that a survey sees fainter, and a training needs the bright
ones, too: galaxies of the physical prior are used, in turn, to limits so far above the survey's. A cut in observed
quantities leaves the posterior of what passes as it is."""
_LEAST_RANGE_MAG = 1.0
"""No limit is nearer to the bright end of the selection."""
_CANDIDATES, _CANDIDATES_OF_MOCKS = 20, 100
"""Draws of the galaxy model's own prior for one of the physical prior. Of few, the same history is drawn several times:
a training does not mind, but mocks that are counted are to be independent."""
_MARGINS_MAG, _SCATTER = (0.3, 3.0), 5.0
"""Galaxies are drawn as far below a limit as noise may bring above it: at least and at most this far, and else by so
many of its median errors, for galaxies have larger ones, and a training widens them."""
_MAX_ATTEMPTS = 200
"""Sets of galaxies of the physical prior that are drawn for one that is bright enough."""
_DUST = ("tau_bc", "tau_ism")
_STREAM_PHYSICAL = 13


def draw_prior(
    object_id: np.ndarray, survey: Survey, galaxy_model: GalaxyModel, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """theta (n, d) and redshift (n,) from the galaxy model's own prior, a function of (seed, object_id) alone."""
    prior = make_prior(galaxy_model)
    u = rng.uniform(seed, rng.STREAM_PRIOR, object_id, prior.n_unconstrained + 1)
    return prior.from_unit(u[:, :-1]), prior.redshift_law(survey.redshift_range).from_unit(u[:, -1])


def draw_physical(
    number: np.ndarray, survey: Survey, galaxy_model: GalaxyModel, noise: Noise, seed: int,
    candidates: int = _CANDIDATES,
) -> tuple[np.ndarray, np.ndarray]:
    """theta (n, d) and redshift (n,) of galaxies of the physical prior by number, a function of (seed, number) alone.

    Nearly all of its galaxies are faint: those are left out that are too faint to pass their limits of magnitude
    (`limits_of`), whatever the noise. Masses are drawn above those that would be too faint without any dust.

    Raises PopcatError if hardly any galaxy of the prior is bright enough.
    """
    joint = physical_prior(galaxy_model, survey.redshift_range)
    photometry = forward_for(survey, galaxy_model).photometry
    dust = [i for i, name in enumerate(joint.prior.names) if name in _DUST]
    band = survey.band_names.index(survey.selection.band)

    def magnitude(theta, redshift):
        return nmgy_to_ab_mag(photometry.flux(theta, redshift)[:, band])

    def least(theta, redshift, faint):
        clear = theta.copy()
        clear[:, dust] = 0.0
        mag = magnitude(clear, redshift)
        if galaxy_model.dust_emission != "none":  # dust may be what the band sees
            mag = np.minimum(mag, magnitude(theta, redshift))
        return theta[:, 0] + 0.4 * (mag - faint)

    @lru_cache
    def above(faint):
        of_limit = partial(least, faint=faint)
        return {"least": of_limit, "redshifts": joint.redshifts_above(of_limit), "candidates": candidates}

    def drawn_block(random, faint):
        found, left = [], _BLOCK
        for _ in range(_MAX_ATTEMPTS):
            drawn = joint.sample(_BLOCK, random, **above(faint))
            bright = np.flatnonzero(magnitude(drawn.theta, drawn.redshift) <= faint)[:left]
            found.append((drawn.theta[bright], drawn.redshift[bright]))
            left -= len(bright)
            if left == 0:
                return (np.concatenate(parts) for parts in zip(*found, strict=True))
        raise _hardly_any(survey, _BLOCK - left, _BLOCK * _MAX_ATTEMPTS)

    turn, which = np.divmod(number, len(_LIMITS_MAG))
    (block, place), limits = np.divmod(turn, _BLOCK), _limits(survey)
    theta, found = np.empty((len(number), len(joint.prior.names))), np.empty(len(number))
    for one, k in np.unique(np.column_stack([block, which]), axis=0):
        random = np.random.default_rng((seed % 2**64, _STREAM_PHYSICAL, int(one) % 2**64, int(k)))
        rows = (block == one) & (which == k)
        theta[rows], found[rows] = (values[place[rows]]
                                    for values in drawn_block(random, faintest_mag(survey, noise, limits[k])))
    return theta, found


def _hardly_any(survey: Survey, found: int, tried: int) -> PopcatError:
    cut = survey.selection
    return PopcatError(f'only {found} of {tried} simulated galaxies pass the selection of survey "{survey.name}" '
                       f"({cut.band} {cut.bright_mag} to {cut.faint_mag} mag): widen it")  # fmt: skip


def _limits(survey: Survey) -> np.ndarray:
    cut = survey.selection
    return np.maximum(cut.faint_mag - np.array(_LIMITS_MAG), min(cut.bright_mag + _LEAST_RANGE_MAG, cut.faint_mag))


def limits_of(object_id: np.ndarray, survey: Survey, prior: str) -> np.ndarray:
    """Faintest observed magnitude, in the band of the survey's selection, at which each galaxy of a library is used.

    >>> from popcat.survey import load_survey
    >>> limits_of(np.arange(6), load_survey("sdss"), PHYSICAL).tolist()
    [20.0, 19.0, 18.0, 17.0, 16.0, 20.0]
    """
    number = object_id // 2 if prior == BOTH else object_id
    limit = _limits(survey)[number % len(_LIMITS_MAG)]
    return np.where(priors_of(object_id, prior) == PRIORS.index(PHYSICAL), limit, survey.selection.faint_mag)


def faintest_mag(survey: Survey, noise: Noise, limit: float) -> float:
    """Magnitude, in the band of the selection, of the faintest galaxies that noise may bring above a limit in it."""
    band = noise.bands[survey.selection.band]
    margin = np.linspace(*_MARGINS_MAG, 201)
    flux = ab_mag_to_nmgy(limit + margin)
    err = np.exp(np.interp(np.log(flux), band.ln_flux, band.ln_err))
    passes = flux + _SCATTER * err > ab_mag_to_nmgy(limit)
    return limit + float(margin[passes][-1] if passes.any() else margin[0])


def priors_of(object_id: np.ndarray, prior: str) -> np.ndarray:
    """Number in PRIORS of the prior that each galaxy of a library is drawn from, (n,)."""
    return object_id % 2 if prior == BOTH else np.full(len(object_id), PRIORS.index(prior))


def simulate_partition(
    start: int, stop: int, survey: Survey, galaxy_model: GalaxyModel, noise: Noise, seed: int, prior: str = FLAT,
    candidates: int = _CANDIDATES,
) -> pd.DataFrame:  # fmt: skip
    """Galaxies start <= object_id < stop of the library with this seed: columns of popcat.columns.library_schema."""
    object_id = np.arange(start, stop, dtype=np.int64)
    of_prior = priors_of(object_id, prior)
    theta, redshift = draw_prior(object_id, survey, galaxy_model, seed)
    rows = np.flatnonzero(of_prior == PRIORS.index(PHYSICAL))
    if len(rows):
        number = object_id[rows] // 2 if prior == BOTH else object_id[rows]
        theta[rows], redshift[rows] = draw_physical(number, survey, galaxy_model, noise, seed, candidates)
    flux_model = forward_for(survey, galaxy_model).photometry.flux(theta, redshift)
    normals = rng.normal(seed, rng.STREAM_NOISE, object_id, 2 * len(survey.bands))
    flux, err = add_noise(flux_model, noise, normals)
    columns = [object_id, redshift, *theta.T, *flux_model.T, *flux.T, *err.T]
    if prior == BOTH:
        columns.append(np.array(PRIORS)[of_prior])
    schema = library_schema(survey, galaxy_model, has_prior=prior == BOTH)
    return to_pandas(pa.table([pa.array(c).cast(f.type) for c, f in zip(columns, schema, strict=True)], schema=schema))


def draw_mocks(posterior: Posterior, n: int, seed: int) -> pd.DataFrame:
    """The first n simulated galaxies of the posterior's prior that pass the survey's selection, those of the physical
    prior their own limits (`limits_of`): a library frame, fresh for every seed.

    Their numbers begin at 2^40, beyond any training library, so that no seed repeats its galaxies.

    Raises PopcatError if hardly any galaxy passes.
    """
    survey, parts, found = posterior.survey, [], 0
    made = survey, posterior.galaxy_model, posterior.noise, seed, posterior.prior_name, _CANDIDATES_OF_MOCKS
    for start in range(2**40, 2**40 + _MAX_MOCK_BATCHES * 4 * n, 2 * n):
        frame = simulate_partition(start, start + 2 * n, *made)
        mag = nmgy_to_ab_mag(frame[f"flux_{survey.selection.band}"].to_numpy())
        faint = limits_of(frame["object_id"].to_numpy(), survey, posterior.prior_name)
        parts.append(frame[(mag >= survey.selection.bright_mag) & (mag <= faint)])
        found += len(parts[-1])
        if found >= n:
            return pd.concat(parts, ignore_index=True).iloc[:n]
    raise _hardly_any(survey, found, _MAX_MOCK_BATCHES * 4 * n)

"""Simulated galaxies: parameters of a prior, model fluxes, noise. Libraries train posteriors, and mocks test them.

Only galaxies that noise may bring into the survey's selection are simulated, each with the prior's own probability:

    p(theta, z | window) ~ p(theta, z) 1[bright <= m(theta, z) <= faint]

m is the model magnitude in the selection's band, and the window is the selection widened by what noise can do to a
magnitude. The selection is a cut in observed quantities, which leaves p(theta, z | photometry) of whatever passes as it
is, and what is outside the window cannot pass. Fluxes are linear in the mass: other parameters and redshift are
accepted with the probability that the mass is in the window, and then the mass is drawn there, so that few draws are in
vain.

Ten times as many galaxies are seen for every 1.7 mag that a survey sees fainter, and a training needs the bright ones,
too. So galaxies of the physical prior are used, in turn, to limits of the observed magnitude brighter than the survey's
(`limits_of`), each drawn in the window of its own limit. That, too, is a cut in an observed quantity.
"""

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.special import ndtr

from popcat import rng
from popcat.columns import library_schema, to_pandas
from popcat.errors import PopcatError
from popcat.forward.noise import BandNoise, Noise, add_noise
from popcat.forward.properties import forward_for
from popcat.galaxy_model import GalaxyModel
from popcat.physical.prior import physical_prior
from popcat.posterior.posterior import Posterior
from popcat.prior import BOTH, FLAT, MASS, PHYSICAL, PRIORS, Prior, make_prior
from popcat.survey import Survey
from popcat.units import ab_mag_to_nmgy, nmgy_to_ab_mag

_MAX_MOCK_BATCHES = 100
_MAX_TRIES, _EARLY_TRIES = 20_000, 400
"""Draws for one galaxy in the window; and those after which not one of a thousand must have been accepted."""
_BLOCK = 500
"""Galaxies that are drawn from the physical prior together."""
_LIMITS_MAG, _LEAST_RANGE_MAG = (0.0, 1.0, 2.0, 3.0, 4.0), 1.0
"""Limits of galaxies of the physical prior above the survey's; none is nearer to the bright end of the selection."""
_CANDIDATES, _CANDIDATES_OF_MOCKS = 20, 100
"""Draws of the galaxy model's own prior for one of the physical prior. Of few, the same history is drawn several times:
a training does not mind, but mocks that are counted are to be independent."""
COMMON_SCATTER = 0.4
"""Of the natural logarithm of all errors of a galaxy that a training sees (popcat.posterior.library.widen)."""
_MARGIN_MAG, _LOST, _SLOPE = 3.0, 0.015, 0.4
"""Galaxies are drawn so far outside the selection that of those which noise brings into it at most this part of the
galaxies in its outermost magnitude is lost, if their number goes as 10^(0.4 m); and at most this many magnitudes."""
_MAX_ATTEMPTS = 200
"""Blocks of the physical prior that are drawn for one of galaxies in the window."""
_DARK_MAG = 90.0
"""No galaxy of any mass is in a selection if it is as faint."""
_DUST = ("tau_bc", "tau_ism")
_STREAM_PHYSICAL = 13


_blocks: dict[tuple, list[np.ndarray]] = {}
_MAX_BLOCKS = 64
"""Blocks of some 100 kB that a process keeps: mocks are drawn a few at a time, and again with more after them."""


def draw_prior(
    object_id: np.ndarray, survey: Survey, galaxy_model: GalaxyModel, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """theta (n, d) and redshift (n,) from the galaxy model's own prior, a function of (seed, object_id) alone."""
    prior = make_prior(galaxy_model)
    u = rng.uniform(seed, rng.STREAM_PRIOR, object_id, prior.n_unconstrained + 1)
    return prior.from_unit(u[:, :-1]), prior.redshift_law(survey.redshift_range).from_unit(u[:, -1])


def draw_inside(
    object_id: np.ndarray, survey: Survey, galaxy_model: GalaxyModel, noise: Noise, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """theta (n, d) and redshift (n,) of the galaxy model's own prior in the window of the selection (see above), by
    rejection; a function of (seed, object_id) alone.

    Raises PopcatError if hardly any galaxy of the prior is in the window.
    """
    prior = make_prior(galaxy_model)
    redshift_law = prior.redshift_law(survey.redshift_range)
    photometry, window = forward_for(survey, galaxy_model).photometry, window_of(survey, noise)
    theta, redshift = np.empty((len(object_id), len(prior.names))), np.empty(len(object_id))
    left, number = np.arange(len(object_id)), 0
    most = _most_in_window(prior, window) if prior.mass_is_linear else 1.0
    while len(left):
        u = rng.uniform(seed + (number << 40), rng.STREAM_PRIOR, object_id[left], prior.n_unconstrained + 2)
        drawn, z = prior.from_unit(u[:, :-2]), redshift_law.from_unit(u[:, -2])
        mag = nmgy_to_ab_mag(photometry.flux(drawn, z)[:, window.band])
        if prior.mass_is_linear:
            low, high = (_mass_at(prior, drawn[:, 0], mag, end) for end in (window.faint_mag, window.bright_mag))
            drawn[:, 0] = prior.laws[MASS].from_unit(low + u[:, 0] * (high - low))
            share = (high - low) / most
        else:
            share = ((mag >= window.bright_mag) & (mag <= window.faint_mag)).astype(float)
        accepted = u[:, -1] < share
        theta[left[accepted]], redshift[left[accepted]] = drawn[accepted], z[accepted]
        left, number = left[~accepted], number + 1
        if number >= _MAX_TRIES or (number == _EARLY_TRIES and len(left) > 0.999 * len(object_id)):
            raise _hardly_any(survey, len(object_id) - len(left), len(object_id), number)
    return theta, redshift


def _most_in_window(prior: Prior, window: "Window") -> float:
    """At least the largest probability that a mass is in the window, whatever else: that of a window a bit wider."""
    law, width = prior.laws[MASS], 0.4 * (window.faint_mag - window.bright_mag)
    low, step = np.linspace(law.low, law.high, 1001, retstep=True)
    return float(np.max(law.to_unit(np.minimum(low + width + step, law.high)) - law.to_unit(low)))


def _mass_at(prior: Prior, log_mass: np.ndarray, mag: np.ndarray, at: float) -> np.ndarray:
    """Probability of a mass below that of magnitude `at`, (n,), of galaxies whose magnitude is `mag` at `log_mass`."""
    law = prior.laws[MASS]
    return law.to_unit(law.inside(log_mass + 0.4 * (np.fmin(mag, _DARK_MAG) - at)))


def _hardly_any(survey: Survey, found: int, wanted: int, tries: int) -> PopcatError:
    cut = survey.selection
    return PopcatError(
        f"only {found} of {wanted} simulated galaxies, of {tries} tries for each, pass the selection of survey "
        f'"{survey.name}" ({cut.band} {cut.bright_mag:g} to {cut.faint_mag:g} mag): widen the selection or the priors'
    )


def draw_physical(
    number: np.ndarray, survey: Survey, galaxy_model: GalaxyModel, noise: Noise, seed: int,
    candidates: int = _CANDIDATES,
) -> tuple[np.ndarray, np.ndarray]:
    """theta (n, d) and redshift (n,) of galaxies of the physical prior in the windows of their limits (see above), by
    number; a function of (seed, number) alone.

    Masses are drawn above those that would be too faint without any dust. Of the galaxies that are drawn so, those
    count that are in the window with their dust.

    Raises PopcatError if hardly any galaxy of the prior is in the window.
    """
    joint, limits = physical_prior(galaxy_model, survey.redshift_range), _limits(survey)
    photometry = forward_for(survey, galaxy_model).photometry
    dust = [i for i, name in enumerate(joint.prior.names) if name in _DUST]

    def magnitude(theta, redshift, band):
        return nmgy_to_ab_mag(photometry.flux(theta, redshift)[:, band])

    def least(theta, redshift, window):
        clear = theta.copy()
        clear[:, dust] = 0.0
        mag = magnitude(clear, redshift, window.band)
        if galaxy_model.dust_emission != "none":  # dust may be what the band sees
            mag = np.fmin(mag, magnitude(theta, redshift, window.band))
        found = theta[:, 0] + 0.4 * (np.fmin(mag, _DARK_MAG) - window.faint_mag)
        if not np.any(found < joint.prior.bounds(MASS)[1]):
            raise _hardly_any(survey, 0, _BLOCK, candidates)
        return found

    made = survey.model_dump_json(), galaxy_model.model_dump_json(), noise.model_dump_json(), seed, candidates

    @lru_cache
    def of_limit(k: int):
        window = window_of(survey, noise, limits[k])
        above = partial(least, window=window)
        return window, {"least": above, "redshifts": joint.redshifts_above(above), "candidates": candidates}

    def block_of(one: int, k: int):
        if (*made, one, k) in _blocks:
            return _blocks[(*made, one, k)]
        window, options = of_limit(k)
        kept, n_kept, n_drawn, n = [], 0, 0, _BLOCK
        for attempt in range(_MAX_ATTEMPTS):
            random = np.random.default_rng((seed % 2**64, _STREAM_PHYSICAL, one % 2**64, k, attempt))
            drawn = joint.sample(n, random, **options)
            mag = magnitude(drawn.theta, drawn.redshift, window.band)
            rows = np.flatnonzero((mag >= window.bright_mag) & (mag <= window.faint_mag))
            kept.append((drawn.theta[rows], drawn.redshift[rows]))
            n_kept, n_drawn = n_kept + len(rows), n_drawn + n
            if n_kept >= _BLOCK:
                if len(_blocks) >= _MAX_BLOCKS:
                    _blocks.clear()
                _blocks[(*made, one, k)] = [np.concatenate(parts) for parts in zip(*kept, strict=True)]
                return _blocks[(*made, one, k)]
            n = min(int(1.1 * (_BLOCK - n_kept) * n_drawn / max(n_kept, 1)) + 20, _BLOCK)
        raise _hardly_any(survey, n_kept, _BLOCK, n_drawn // _BLOCK * candidates)

    turn, which = np.divmod(number, len(limits))
    block, place = np.divmod(turn, _BLOCK)
    theta, found = np.empty((len(number), len(joint.prior.names))), np.empty(len(number))
    for one, k in np.unique(np.column_stack([block, which]), axis=0).tolist():
        rows = (block == one) & (which == k)
        in_theta, in_redshift = block_of(one, k)
        theta[rows], found[rows] = in_theta[place[rows]], in_redshift[place[rows]]
    return theta, found


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


@dataclass(frozen=True)
class Window:
    """Model magnitudes, in the band of this number, of galaxies that noise may bring into a survey's selection."""

    band: int
    bright_mag: float
    faint_mag: float


def window_of(survey: Survey, noise: Noise, faint_mag: float | None = None) -> Window:
    """The selection, or that to another faint end, widened by what noise can do to a magnitude."""
    cut = survey.selection
    faint = cut.faint_mag if faint_mag is None else faint_mag
    below, above = (_margin(noise.bands[cut.band], end, side)
                    for end, side in ((faint, 1.0), (cut.bright_mag, -1.0)))  # fmt: skip
    return Window(survey.band_names.index(cut.band), cut.bright_mag - above, faint + below)


def _margin(band: BandNoise, end: float, side: float) -> float:
    """Magnitudes outside the end of a selection: side is 1 at its faint end, -1 at its bright end."""
    away = np.linspace(0.0, _MARGIN_MAG, 301)
    flux, at = ab_mag_to_nmgy(end + side * away), np.log(ab_mag_to_nmgy(end + side * away))
    # brighter than the catalogue of the noise model the error is a fraction of the flux, as in add_noise
    ln_err = np.interp(at, band.ln_flux, band.ln_err) + np.maximum(at - band.ln_flux[-1], 0.0)
    node, weight = np.polynomial.hermite_e.hermegauss(21)
    own, passes = np.interp(at, band.ln_flux, band.scatter), np.zeros(len(away))
    for scatter in (own, np.hypot(own, COMMON_SCATTER)):  # of as many galaxies each
        shift = np.abs(flux - ab_mag_to_nmgy(end))[:, None] / np.exp(ln_err[:, None] + scatter[:, None] * node)
        passes += 0.5 * (ndtr(-shift) @ weight) / weight.sum()
    number = 10.0 ** (_SLOPE * side * away) * passes
    beyond = np.cumsum(number[::-1])[::-1] * (away[1] - away[0])
    outermost = (1.0 - 10.0 ** (-side * _SLOPE)) / (side * _SLOPE * np.log(10.0))
    return float(away[np.argmax(beyond < _LOST * outermost)] if beyond[-1] < _LOST * outermost else _MARGIN_MAG)


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
    theta, redshift = np.empty((len(object_id), len(make_prior(galaxy_model).names))), np.empty(len(object_id))
    rows = np.flatnonzero(of_prior == PRIORS.index(FLAT))
    theta[rows], redshift[rows] = draw_inside(object_id[rows], survey, galaxy_model, noise, seed)
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
    step = n + n // 2
    for start in range(2**40, 2**40 + _MAX_MOCK_BATCHES * 4 * n, step):
        frame = simulate_partition(start, start + step, *made)
        mag = nmgy_to_ab_mag(frame[f"flux_{survey.selection.band}"].to_numpy())
        faint = limits_of(frame["object_id"].to_numpy(), survey, posterior.prior_name)
        parts.append(frame[(mag >= survey.selection.bright_mag) & (mag <= faint)])
        found += len(parts[-1])
        if found >= n:
            return pd.concat(parts, ignore_index=True).iloc[:n]
    raise PopcatError(
        f"only {found} of {_MAX_MOCK_BATCHES * 4 * n} simulated galaxies pass the selection of survey "
        f'"{survey.name}" ({survey.selection.band} {survey.selection.bright_mag} to {survey.selection.faint_mag} mag)'
    )

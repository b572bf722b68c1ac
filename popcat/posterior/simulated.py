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
(`faint_limits`), each drawn in the window of its own limit. That, too, is a cut in an observed quantity.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.special import ndtr

from popcat import rng
from popcat.columns import library_schema, to_pandas
from popcat.errors import PopcatError
from popcat.forward.flux_errors import FluxErrors
from popcat.forward.noise import BandNoise, Noise, add_noise, check_noise
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
_KEPT_BLOCKS = 64
"""Blocks of some 100 kB that a process keeps: mocks are drawn a few at a time, and again with more after them."""
_DARK_MAG = 90.0
"""No galaxy of any mass is in a selection if it is as faint."""
_DUST = ("tau_bc", "tau_ism")
_STREAM_PHYSICAL = 13


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
    turn, which = np.divmod(number, len(_LIMITS_MAG))
    block, place = np.divmod(turn, _BLOCK)
    made = tuple(one.model_dump_json() for one in (survey, galaxy_model, noise))
    theta, redshift = np.empty((len(number), len(make_prior(galaxy_model).names))), np.empty(len(number))
    for one, k in np.unique(np.column_stack([block, which]), axis=0).tolist():
        rows = (block == one) & (which == k)
        in_theta, in_redshift = _block(*made, seed, candidates, one, k)
        theta[rows], redshift[rows] = in_theta[place[rows]], in_redshift[place[rows]]
    return theta, redshift


@lru_cache(maxsize=_KEPT_BLOCKS)
def _block(
    survey: str, galaxy_model: str, noise: str, seed: int, candidates: int, number: int, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """theta and redshift of the galaxies of a block that are used to one of the limits; settings are JSON."""
    bright = _bright(survey, galaxy_model, noise, limit)
    theta, redshift, n_drawn, n = np.empty((0, len(bright.joint.prior.names))), np.empty(0), 0, _BLOCK
    for attempt in range(_MAX_ATTEMPTS):
        random = np.random.default_rng((seed % 2**64, _STREAM_PHYSICAL, number % 2**64, limit, attempt))
        drawn = bright.joint.sample(n, random, candidates=candidates, least=bright.least, redshifts=bright.redshifts)
        rows = bright.inside(drawn.theta, drawn.redshift)
        theta, redshift = np.concatenate([theta, drawn.theta[rows]]), np.concatenate([redshift, drawn.redshift[rows]])
        n_drawn += n
        if len(redshift) >= _BLOCK:
            return theta, redshift
        n = min(int(1.1 * (_BLOCK - len(redshift)) * n_drawn / max(len(redshift), 1)) + 20, _BLOCK)
    raise _hardly_any(bright.survey, len(redshift), _BLOCK, n_drawn // _BLOCK * candidates)


@lru_cache(maxsize=2 * len(_LIMITS_MAG))
def _bright(survey: str, galaxy_model: str, noise: str, limit: int) -> "_Bright":
    return _Bright(Survey.model_validate_json(survey), GalaxyModel.model_validate_json(galaxy_model),
                   Noise.model_validate_json(noise), limit)  # fmt: skip


class _Bright:
    """Galaxies of the physical prior in the window of one of the limits."""

    def __init__(self, survey: Survey, galaxy_model: GalaxyModel, noise: Noise, limit: int):
        self.survey, self.joint = survey, physical_prior(galaxy_model, survey.redshift_range)
        self._photometry = forward_for(survey, galaxy_model).photometry
        self._window = window_of(survey, check_noise(noise, survey, "the noise model"), _limits(survey)[limit])
        self._dust = [i for i, name in enumerate(self.joint.prior.names) if name in _DUST]
        self._has_emission = galaxy_model.dust_emission != "none"
        self.redshifts = self.joint.redshifts_above(self.least)

    def least(self, theta: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """log10 of the mass (n,) with which a galaxy would be at the window's faint end if it had no dust."""
        clear = theta.copy()
        clear[:, self._dust] = 0.0
        mag = self._magnitude(clear, redshift)
        if self._has_emission:  # dust may be what the band sees
            mag = np.fmin(mag, self._magnitude(theta, redshift))
        found = theta[:, 0] + 0.4 * (np.fmin(mag, _DARK_MAG) - self._window.faint_mag)
        if not np.any(found < self.joint.prior.bounds(MASS)[1]):
            raise _hardly_any(self.survey, 0, _BLOCK, len(found) // _BLOCK)
        return found

    def inside(self, theta: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """Rows of galaxies that are in the window."""
        mag = self._magnitude(theta, redshift)
        return np.flatnonzero((mag >= self._window.bright_mag) & (mag <= self._window.faint_mag))

    def _magnitude(self, theta, redshift) -> np.ndarray:
        return nmgy_to_ab_mag(self._photometry.flux(theta, redshift)[:, self._window.band])


def _limits(survey: Survey) -> np.ndarray:
    cut = survey.selection
    return np.maximum(cut.faint_mag - np.array(_LIMITS_MAG), min(cut.bright_mag + _LEAST_RANGE_MAG, cut.faint_mag))


def faint_limits(object_id: np.ndarray, survey: Survey, prior: str) -> np.ndarray:
    """Faintest observed magnitude, in the band of the survey's selection, at which each galaxy of a library is used.

    >>> from popcat.survey import load_survey
    >>> faint_limits(np.arange(6), load_survey("sdss"), PHYSICAL).tolist()
    [20.0, 19.0, 18.0, 17.0, 16.0, 20.0]
    """
    number = object_id // 2 if prior == BOTH else object_id
    limit = _limits(survey)[number % len(_LIMITS_MAG)]
    return np.where(priors_of(object_id, prior) == PRIORS.index(PHYSICAL), limit, survey.selection.faint_mag)


def selected(frame: pd.DataFrame, survey: Survey, prior: str) -> pd.DataFrame:
    """The galaxies of a library frame of this prior whose noisy magnitude passes the selection, those of the physical
    prior their own limits."""
    mag = nmgy_to_ab_mag(frame[f"flux_{survey.selection.band}"].to_numpy())
    limit = faint_limits(frame["object_id"].to_numpy(), survey, prior)
    return frame[(mag >= survey.selection.bright_mag) & (mag <= limit)]


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
    number = survey.band_names.index(cut.band)
    template = FluxErrors(survey).largest(number, survey.redshift_range)
    below, above = (_margin(noise.bands[cut.band], template, end, side)
                    for end, side in ((faint, 1.0), (cut.bright_mag, -1.0)))  # fmt: skip
    return Window(number, cut.bright_mag - above, faint + below)


def _margin(band: BandNoise, template: float, end: float, side: float) -> float:
    """Magnitudes outside the end of a selection: side is 1 at its faint end, -1 at its bright end. template : relative
    error of the spectra."""
    away = np.linspace(0.0, _MARGIN_MAG, 301)
    flux, at = ab_mag_to_nmgy(end + side * away), np.log(ab_mag_to_nmgy(end + side * away))
    ln_err = band.median_ln_err(at)
    node, weight = np.polynomial.hermite_e.hermegauss(21)
    own, passes = np.interp(at, band.ln_flux, band.scatter), np.zeros(len(away))
    for scatter in (own, np.hypot(own, COMMON_SCATTER)):  # of as many galaxies each
        err = np.hypot(np.exp(ln_err[:, None] + scatter[:, None] * node), template * flux[:, None])
        shift = np.abs(flux - ab_mag_to_nmgy(end))[:, None] / err
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
    n_band = len(survey.bands)
    flux, err = add_noise(flux_model, noise, rng.normal(seed, rng.STREAM_NOISE, object_id, 2 * n_band))
    flux = FluxErrors(survey).scattered(
        flux, flux_model, redshift, lambda: rng.normal(seed, rng.STREAM_TEMPLATE, object_id, n_band)
    )
    columns = [object_id, redshift, *theta.T, *flux_model.T, *flux.T, *err.T]
    if prior == BOTH:
        columns.append(np.array(PRIORS)[of_prior])
    schema = library_schema(survey, galaxy_model, has_prior=prior == BOTH)
    return to_pandas(pa.table([pa.array(c).cast(f.type) for c, f in zip(columns, schema, strict=True)], schema=schema))


def draw_mocks(posterior: Posterior, n: int, seed: int) -> pd.DataFrame:
    """The first n simulated galaxies of the posterior's prior that pass the survey's selection, those of the physical
    prior their own limits (`faint_limits`): a library frame, fresh for every seed.

    Their numbers begin at 2^40, beyond any training library, so that no seed repeats its galaxies.

    Raises PopcatError if hardly any galaxy passes.
    """
    survey, parts, found = posterior.survey, [], 0
    made = survey, posterior.galaxy_model, posterior.noise, seed, posterior.prior_name, _CANDIDATES_OF_MOCKS
    step = n + n // 2
    for start in range(2**40, 2**40 + _MAX_MOCK_BATCHES * 4 * n, step):
        frame = simulate_partition(start, start + step, *made)
        parts.append(selected(frame, survey, posterior.prior_name))
        found += len(parts[-1])
        if found >= n:
            return pd.concat(parts, ignore_index=True).iloc[:n]
    raise _hardly_any(survey, found, n, 4 * _MAX_MOCK_BATCHES)

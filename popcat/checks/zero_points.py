"""Zero points of bands, fitted from galaxies: how far each band is off, given the others and the galaxy model.

A band pulls its own fit, so each is left out in turn. The posterior of a galaxy from its other bands and its redshift,
weighted by the exact likelihood, predicts the flux f of the band. The rank of f among the predicted fluxes m_k with
weights w_k, each with the noise of the band, becomes a standard normal number:

    t = Phi^-1( sum_k w_k Phi((f - m_k) / err) )

For galaxies of the model t is normal, whatever the shape of the prediction. In a band that is too bright t is above
zero; so it is if the other bands are too faint. How a prediction changes with the flux of another band follows from the
same draws, dE[m_b] / df_c = Cov(m_b, m_c - f_c) / err_c^2. So the mean t of all bands is one linear system in all
offsets, which is solved in a few steps. The brightness of all bands together is the mass: one band, the reference,
stays as it is. In the band by whose magnitude the galaxies were selected, those are left out that the other bands
predict near the faint end: there are only the bright ones of them.

The galaxy model allows galaxies of many colours. Along those colours an offset is hardly constrained, and small faults
of the model become large offsets. Therefore an offset has a prior about zero (PRIOR_MAG), and the mean
prediction of a band is believed to MODEL_ERROR of its flux and to PRIOR_ERROR of the spread that the other bands leave:
where they leave much open, the prior of the galaxy model decides. The errors of the offsets include all of that.

The template error of a band is the scatter of its residuals beyond the errors of the catalogue and of the prediction.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr, ndtri

from popcat.forward.flux_errors import FluxErrors
from popcat.galaxies import MIN_BANDS, Observation, observed
from popcat.posterior.posterior import Posterior
from popcat.units import POGSON, nmgy_to_ab_mag

N_DRAWS = 128
"""Draws of each galaxy for each band that is left out."""
PRIOR_MAG = 0.1
"""Scale of the prior of an offset, which has heavy tails: rather one band is far off than all a little."""
MODEL_ERROR, PRIOR_ERROR = 0.01, 0.2
"""So good the galaxy model may be in a band, in the mean of many galaxies: a fraction of the flux, and one of the
spread of the band's predictions, whose mean in that spread is the prior's."""
MIN_ESS = 20.0
"""Weights of a galaxy are tempered, as larger errors would, until so many of its draws are effective."""
MAX_STEPS, MAX_CHANGE = 12, 0.25
"""Steps at most, and the largest change of ln flux in one."""
MIN_GALAXIES = 50
"""Galaxies of a band, with fewer of which it has no offset."""
_CLIP = 2.0
"""A residual t that is further out counts as if it were there."""
_MEMORY = 4
"""Steps that the next one is made of."""
_SETTLED = 0.3
"""The last change of an offset, over its error."""
_FEW, _FEWEST = 0.25, 200
"""Share, and least number, of the galaxies with which the first steps are made."""
_MAX_TEMPLATE_ERROR = 0.5
_FAR = 4.0
"""Beyond, a rank among few draws says nothing, and t is the distance from the mean over the error."""
_FAINTEST, _REACH = 1.0, 2.0
"""Percentile of the fluxes that is where a selection ends, and errors of a prediction that are kept away from it."""
_BATCH_DRAWS = 200_000


@dataclass(frozen=True)
class Residuals:
    """Of n galaxies in each band, (n, n_band), NaN where a band is not observed or the others are too few.

    t : normal with scatter 1 for galaxies of the model. sensitivity : change of t with ln flux. mag : AB magnitude that
    the other bands predict.
    """

    t: np.ndarray
    sensitivity: np.ndarray
    mag: np.ndarray

    @property
    def excess_mag(self) -> np.ndarray:
        """Magnitudes by which the band is brighter than predicted."""
        return POGSON * self.t / self.sensitivity


@dataclass(frozen=True)
class Fit:
    """Zero points of the bands of a survey, (n_band,) each, and the residuals that they were fitted to.

    offset_mag, offset_err : what is to be added to the magnitudes, and its error; 0 of the reference, NaN where a band
    has too few galaxies. template_error : fraction of the flux. is_settled : the last change was below the error.
    """

    offset_mag: np.ndarray
    offset_err: np.ndarray
    template_error: np.ndarray
    n_galaxies: np.ndarray
    steps: int
    is_settled: bool
    before: Residuals
    after: Residuals


def fit_offsets(
    posterior: Posterior, data: Observation, floors: np.ndarray, reference: int, seed: int = 0,
    report: Callable[[str], object] = lambda line: None,
) -> Fit:  # fmt: skip
    """Offsets and template errors of the bands from galaxies whose errors have floors (n_band,), fractions of the flux.

    `reference` is the index of the band that stays as it is.
    """
    n_band = len(floors)
    x, template, error = np.zeros(n_band), np.zeros(n_band), np.full(n_band, np.nan)
    few = np.unique(np.linspace(0, len(data) - 1, max(int(_FEW * len(data)), min(_FEWEST, len(data)))).astype(int))
    is_settled, step, rows = False, 0, few
    history: list[tuple[np.ndarray, np.ndarray]] = []
    while step < MAX_STEPS:
        some = corrected(data[rows], x, floors, np.maximum(floors, template))
        seen = _predict(posterior, some, seed)
        template = _template_errors(seen, some, np.maximum(floors, template))
        change, error = _solve(seen, x, reference)
        history.append((x, change))
        x, step = x + np.clip(_next(history, error) - x, -MAX_CHANGE, MAX_CHANGE), step + 1
        worst = float(np.max(np.abs(change[error > 0.0]) / error[error > 0.0], initial=0.0))
        report(f"step {step}, {len(rows):,} galaxies: largest change {POGSON * np.abs(change).max():.3f} mag, "
               f"{worst:.1f} of its error")  # fmt: skip
        if worst < _SETTLED and len(rows) == len(data):
            is_settled = True
            break
        if len(rows) < len(data) and (worst < 1.0 or step >= MAX_STEPS // 2):
            rows, history = np.arange(len(data)), []
    before, count = _predict(posterior, data, seed).residuals, np.isfinite(seen.residuals.t).sum(axis=0)
    error = np.where(count < MIN_GALAXIES, np.nan, error)
    return Fit(POGSON * x, POGSON * error, template, count, step, is_settled, before, seen.residuals)


def _next(history: list[tuple[np.ndarray, np.ndarray]], error: np.ndarray) -> np.ndarray:
    """The next offsets after steps (x, change): those whose change would be least if it were linear in x (Anderson).

    Weights and template errors follow the offsets, so that each step by itself falls short.
    """
    (x, change), some = history[-1], history[-_MEMORY:]
    if len(some) < 2:
        return x + change
    free = error > 0.0
    moved, changed = (np.diff(np.array(values)[:, free], axis=0).T for values in zip(*some, strict=True))
    share = np.linalg.lstsq(changed / error[free, None], change[free] / error[free], rcond=1e-3)[0]
    found = x.copy()
    found[free] += change[free] - (moved + changed) @ share
    return found


def best_chi2(posterior: Posterior, data: Observation, seed: int) -> float:
    """Median over the galaxies of the chi2 of the best draw, of all bands."""
    return float(np.median(posterior.sample(data, N_DRAWS, seed).chi2.min(axis=1)))


def corrected(data: Observation, x: np.ndarray, floors: np.ndarray, new_floors: np.ndarray) -> Observation:
    """Photometry whose fluxes were too large by exp(x), with other floors in its errors."""
    flux = data.flux * np.exp(-x)
    variance = np.maximum(data.flux_err**2 - (floors * data.flux) ** 2, 1e-6 * data.flux_err**2) * np.exp(-2.0 * x)
    good = observed(data.flux, data.flux_err)
    return replace(data, flux=flux, flux_err=np.where(good, np.sqrt(variance + (new_floors * flux) ** 2), np.nan))


@dataclass(frozen=True)
class _Seen:
    """Residuals, and what they are made of: draws (n_band, n, k) of each band from the others, their weights, their
    spread over their mean (n, n_band), how ln of each prediction changes with ln flux of each band, (n, n_band,
    n_band), and the survey's template_error at each galaxy's redshift (n, n_band)."""

    residuals: Residuals
    draws: np.ndarray
    weight: np.ndarray
    spread: np.ndarray
    response: np.ndarray
    of_spectra: np.ndarray


def _predict(posterior: Posterior, data: Observation, seed: int) -> _Seen:
    n, n_band = data.flux.shape
    seen = observed(data.flux, data.flux_err)
    draws, weight = (np.full((n_band, n, N_DRAWS), np.nan, dtype=np.float32) for _ in range(2))
    response, errors = np.zeros((n, n_band, n_band)), FluxErrors(posterior.survey)
    redshift = np.array(data.redshift, dtype=float)
    for b in range(n_band):
        rows = np.flatnonzero(seen[:, b] & (seen.sum(axis=1) >= MIN_BANDS))
        hidden = replace(data, flux=np.where(np.arange(n_band) == b, np.nan, data.flux))
        step = max(_BATCH_DRAWS // N_DRAWS, 1)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            some = posterior.sample(hidden[part], N_DRAWS, seed)
            flat = posterior.forward.flux(some.theta.reshape(-1, some.theta.shape[-1]), some.redshift.ravel())
            model = flat.reshape(len(part), N_DRAWS, n_band)
            w, power = tempered(some.log_weight)
            draws[b, part], weight[b, part] = model[:, :, b], w
            redshift[part] = np.where(np.isnan(redshift[part]), np.sum(w * some.redshift, axis=1), redshift[part])
            of_others = errors.applied(hidden[part], redshift[part])
            response[part, b] = power[:, None] * _response(model, w, b, of_others)
    residuals, spread = _residuals(draws, weight, errors.applied(data, redshift))
    at = posterior.survey.band_names.index(posterior.survey.selection.band)
    residuals.t[_near_limit(residuals, data.flux[:, at], at), at] = np.nan
    of_spectra = np.zeros((n, n_band)) if errors.law is None else np.nan_to_num(errors.fraction(redshift))
    return _Seen(residuals, draws, weight, spread, response, of_spectra)


def _near_limit(residuals: Residuals, flux, at: int) -> np.ndarray:
    """Galaxies whose predicted flux in a band, with its error, reaches below nearly all observed ones, (n,) bool."""
    faintest = np.nanpercentile(flux, _FAINTEST) if np.isfinite(flux).any() else 0.0
    with np.errstate(invalid="ignore"):
        return residuals.mag[:, at] + _REACH * POGSON / residuals.sensitivity[:, at] > float(nmgy_to_ab_mag(faintest))


def _response(model, weight, b, data: Observation) -> np.ndarray:
    """Change of ln of the mean of band b with ln flux (and error) of each other band, (n, n_band)."""
    seen = observed(data.flux, data.flux_err)
    flux, err = np.where(seen, data.flux, 0.0), np.where(seen, data.flux_err, np.inf)
    slope = (model - flux[:, None]) * model / err[:, None] ** 2
    mean = np.einsum("nk,nk->n", weight, model[:, :, b])
    away = model[:, :, b] - mean[:, None]
    return np.einsum("nk,nk,nkc->nc", weight, away, slope) / mean[:, None]


def tempered(log_weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normalised weights (n, k), and the power (n,) in (0, 1] to which each galaxy's were raised for MIN_ESS.

    >>> weight, power = tempered(np.array([[0.0] * 100, [0.0] * 99 + [50.0]]))
    >>> power[0], bool(power[1] < 0.2), (1.0 / (weight**2).sum(axis=1)).round().tolist()
    (np.float64(1.0), True, [100.0, 20.0])
    """
    log_weight = np.where(np.isfinite(log_weight), log_weight, -1e30)
    away = log_weight - log_weight.max(axis=1, keepdims=True)

    def ess(power):
        w = np.exp(power[:, None] * away)
        return w.sum(axis=1) ** 2 / np.sum(w**2, axis=1)

    low, high = np.zeros(len(away)), np.ones(len(away))
    is_short = ess(high) < MIN_ESS
    for _ in range(40):
        middle = 0.5 * (low + high)
        below = ess(middle) < MIN_ESS
        low, high = np.where(below, low, middle), np.where(below, middle, high)
    power = np.where(is_short, low, 1.0)
    weight = np.exp(power[:, None] * away)
    return weight / weight.sum(axis=1, keepdims=True), power


def _residuals(draws, weight, data: Observation) -> tuple[Residuals, np.ndarray]:
    """Residuals, and the spread of the draws of each band over their mean, (n, n_band)."""
    n_band = data.flux.shape[1]
    t, sensitivity, mag, spread = np.full((4, *data.flux.shape), np.nan)
    for b in range(n_band):
        rows = np.flatnonzero(np.isfinite(draws[b, :, 0]))
        model, w = draws[b, rows].astype(float), weight[b, rows].astype(float)
        flux, err = data.flux[rows, b], data.flux_err[rows, b]
        mean = np.sum(w * model, axis=1)
        variance = np.sum(w * (model - mean[:, None]) ** 2, axis=1)
        width = np.sqrt(err**2 + variance)
        spread[rows, b] = np.sqrt(variance) / np.maximum(mean, 1e-30)
        t[rows, b] = _normal(model, w, flux, err, mean, width)
        sensitivity[rows, b] = np.maximum(mean, 1e-30) / width
        mag[rows, b] = nmgy_to_ab_mag(np.maximum(mean, 1e-30))
    return Residuals(t, sensitivity, mag), spread


def _normal(model, weight, flux, err, mean, width) -> np.ndarray:
    """The rank of a flux among draws with its noise, as a standard normal number, (n,)."""
    u = (flux[:, None] - model) / err[:, None]
    t = ndtri(np.clip(np.sum(weight * ndtr(u), axis=1), 1e-12, 1.0 - 1e-12))
    about = (flux - mean) / width
    return np.where((np.abs(about) > _FAR) | (np.abs(t) > _FAR), about, t)


def _template_errors(seen: _Seen, data: Observation, floors) -> np.ndarray:
    """The floor of each band, (n_band,), with which the scatter of its residuals is 1; 0 where it is less without."""
    found = np.zeros(len(floors))
    bare = corrected(data, np.zeros(len(floors)), floors, np.zeros(len(floors)))
    for b in range(len(floors)):
        rows = np.flatnonzero(np.isfinite(seen.residuals.t[:, b]))
        if len(rows) < MIN_GALAXIES:
            continue
        model, w = seen.draws[b, rows].astype(float), seen.weight[b, rows].astype(float)
        mean = np.sum(w * model, axis=1)
        variance = np.sum(w * (model - mean[:, None]) ** 2, axis=1)
        flux, err = data.flux[rows, b], bare.flux_err[rows, b]
        err = np.hypot(err, seen.of_spectra[rows, b] * np.maximum(flux, 0.0))

        def scatter(floor, model=model, w=w, mean=mean, variance=variance, flux=flux, err=err):
            total = np.hypot(err, floor * flux)
            t = _normal(model, w, flux, total, mean, np.sqrt(total**2 + variance))
            return 1.4826 * np.median(np.abs(t - np.median(t)))

        low, high = 0.0, _MAX_TEMPLATE_ERROR
        for _ in range(20):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if scatter(middle) > 1.0 else (low, middle)
        found[b] = low if low > 1e-5 else 0.0
    return found


def location(t: np.ndarray, sensitivity: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Robust mean of ln(observed / predicted) of n residuals, the influence of each on it, (n,), and its weight, (n,).

    >>> mean, influence, _ = location(np.array([1.0, 1.2, 0.8, 9.0]), np.full(4, 10.0))
    >>> round(mean, 2)
    0.17
    """
    x = float(np.median(t / sensitivity))
    for _ in range(50):
        away = t - sensitivity * x
        w = np.minimum(1.0, _CLIP / np.maximum(np.abs(away), 1e-12)) * sensitivity**2
        x = float(np.sum(w * t / sensitivity) / np.sum(w))
    away = t - sensitivity * x
    inside = sensitivity**2 * (np.abs(away) < _CLIP)
    return x, sensitivity * np.clip(away, -_CLIP, _CLIP) / max(inside.sum(), 1e-30), inside


def _solve(seen: _Seen, x, reference: int) -> tuple[np.ndarray, np.ndarray]:
    """Change of the ln offsets x (n_band,), and their errors; 0 and NaN of bands that have none."""
    n_band = len(x)
    mean, variance, matrix = np.zeros(n_band), np.full(n_band, np.inf), np.eye(n_band)
    of_model = np.full(n_band, MODEL_ERROR)
    for b in range(n_band):
        rows = np.flatnonzero(np.isfinite(seen.residuals.t[:, b]))
        if len(rows) < MIN_GALAXIES:
            continue
        mean[b], influence, weight = location(seen.residuals.t[rows, b], seen.residuals.sensitivity[rows, b])
        variance[b] = np.sum(influence**2)
        of_model[b] = np.hypot(MODEL_ERROR, PRIOR_ERROR * np.average(seen.spread[rows, b], weights=weight + 1e-9))
        matrix[b] -= weight @ seen.response[rows, b] / max(weight.sum(), 1e-30)
    precision = 1.0 / (variance + of_model**2)
    free = np.flatnonzero((np.arange(n_band) != reference) & (precision > 0.0))
    some = matrix[:, free]
    # of a Student-t with eight degrees of freedom, as a normal one at these offsets
    prior = np.diag((POGSON / PRIOR_MAG) ** 2 / (1.0 + (POGSON * x[free] / PRIOR_MAG) ** 2 / 8.0))
    normal = some.T @ (precision[:, None] * some) + prior
    change, error = np.zeros(n_band), np.full(n_band, np.nan)
    change[free] = np.linalg.solve(normal, some.T @ (precision * mean) - prior @ x[free])
    error[free] = np.sqrt(np.diag(np.linalg.inv(normal)))
    error[reference] = 0.0
    return change, error

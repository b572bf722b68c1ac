"""Flags of galaxies: the tests that each must pass, and which band disagrees with the others.

A galaxy is compared with the best of its draws (chi2), with the galaxies that the posterior was trained on
(popcat.posterior.support), and with the catalogue's own galaxies. The band that disagrees is the one without which the
others are fitted best.

The catalogue's own galaxies: the prior of a galaxy model allows colours that hardly any galaxy has, so under it a band,
given the others, may be almost anything. The galaxies of the catalogue are a narrower standard. A Gaussian mixture
describes their magnitudes and redshifts without their noise, by extreme deconvolution (Bovy, Hogg & Roweis 2011, arXiv
0905.2979): each galaxy is its own errors wider than the mixture. A band that is missing, or a redshift, is one with a
very large error. Whether half of the catalogue is off in the same way it cannot tell; the training set can.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numba
import numpy as np
import pandas as pd

from popcat.galaxies import (
    FLAGS,
    MIN_BANDS,
    OWN_TAIL,
    SUPPORT_TAIL,
    Observation,
    asinh_mag,
    has_posterior,
    observation,
    observed,
)
from popcat.posterior.per_galaxy import PerGalaxy
from popcat.posterior.posterior import Posterior
from popcat.posterior.support import least, two_sided
from popcat.prior import Prior
from popcat.units import POGSON

N_DRAWS = 64
"""Draws for each band left out: enough to find a fit, few enough for every suspicious galaxy of a survey."""
# The same where proposals are fitted to the galaxy: for all bands in one.
_N_WITHOUT = 1024
# Draws at a time of the bands left out: bounds the memory of a partition.
_BATCH_DRAWS = 200_000
# Of a redshift over 1 + z: with a wider error it says little about colours.
_WIDE_REDSHIFT = 0.01


@dataclass(frozen=True)
class Checked:
    """What the tests say of n galaxies.

    flags : (n,) bits to add. tails : the columns of tail probabilities by name, each (n,). worst : (n,), index of the
    band that disagrees where a test failed, else -1.
    """

    flags: np.ndarray
    tails: dict[str, np.ndarray]
    worst: np.ndarray


def check_galaxies(
    posterior: Posterior, data: Observation, is_high: np.ndarray, seed: int, own: "OwnGalaxies | None" = None
) -> Checked:
    """The tests of galaxies by the training set and the catalogue's own galaxies. Without the latter their tail
    probabilities are NaN.

    is_high : (n,) bool, whether the best chi2 is above its limit (popcat.catalog.chi2_limits).
    """
    known = known_redshift(data)
    noise, colours = posterior.support.tails(data.flux, data.flux_err, known)
    by_training, band = posterior.support.band_tails(data.flux, data.flux_err, known)
    by_own, own_band = np.full(len(data), np.nan), band
    if own is not None:
        by_own, own_band = own.band_tails(replace(data, redshift=known))
    failed = {
        "high_chi2": is_high,
        "unusual_noise": noise < SUPPORT_TAIL,
        "unusual_colours": colours < SUPPORT_TAIL,
        "band_off": (by_training < SUPPORT_TAIL) | (by_own < OWN_TAIL),
    }
    worst = _worst(posterior, data, failed, seed)
    worst = np.where(failed["band_off"], np.where(by_own < OWN_TAIL, own_band, band), worst)
    flags = np.sum([FLAGS[name] * mask for name, mask in failed.items()], axis=0)
    tails = {"tail_noise": noise, "tail_colours": colours, "tail_band": by_training, "tail_peers": by_own}
    return Checked(flags, tails, worst)


EDGE_WIDTH, EDGE_SHARE = 0.02, 0.2
"""at_edge: a fifth of the draws lie in the last 2% of a range, ten times what a flat posterior has there."""


def is_at_edge(
    draws: Mapping[str, np.ndarray], is_free: np.ndarray, prior: Prior, redshift_range: tuple[float, float]
) -> np.ndarray:
    """Whether draws (n, k) by name pile up where a range ends beyond which galaxies go on: (n,) bool.

    Such are the upper end of the redshift range, the lower one unless it is next to zero, where the redshift is drawn
    (`is_free`, (n,)); both ends of the mass formed, and the largest tau_ism. Other bounds of the prior are where
    galaxies end, such as no dust, or where photometry says nothing.
    """
    z, (low, high) = draws["redshift"], redshift_range
    found = is_free & (_share_above(z, high - EDGE_WIDTH * (high - low)) >= EDGE_SHARE)
    if low > EDGE_WIDTH * (high - low):
        found |= is_free & (_share_above(-z, -low - EDGE_WIDTH * (high - low)) >= EDGE_SHARE)
    for name, ends in (("log_mstar_formed", (-1.0, 1.0)), ("tau_ism", (1.0,))):
        low, high = prior.bounds(name)
        for sign in ends:
            edge = high if sign > 0 else low
            found |= _share_above(sign * draws[name], sign * edge - EDGE_WIDTH * (high - low)) >= EDGE_SHARE
    return found


def _share_above(values: np.ndarray, limit: float) -> np.ndarray:
    return np.mean(values > limit, axis=1)


def known_redshift(data: Observation) -> np.ndarray:
    """Redshifts; NaN with a wide error, which is no coordinate of the colours."""
    is_wide = data.redshift_err > _WIDE_REDSHIFT * (1.0 + data.redshift)
    return np.where(is_wide, np.nan, data.redshift)


def _worst(posterior: Posterior, data: Observation, failed: dict[str, np.ndarray], seed: int) -> np.ndarray:
    """Index of the band that disagrees where a galaxy fails a test, else -1: by its flux, or else by its error."""
    worst = np.full(len(data), -1)
    rows = np.flatnonzero(failed["unusual_noise"])
    worst[rows] = posterior.support.unusual_noise(data.flux[rows], data.flux_err[rows])
    # band_off names its own
    rows = np.flatnonzero((failed["high_chi2"] | failed["unusual_colours"]) & ~failed["band_off"])
    step = max(_BATCH_DRAWS // N_DRAWS, 1)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        worst[part] = worst_bands(posterior, data[part], seed)
    return worst


def worst_bands(posterior: Posterior, data: Observation, seed: int) -> np.ndarray:
    """Index of the band that disagrees, (n,): of those observed, the one whose removal leaves the smallest chi2_best.

    -1 with fewer than three bands.
    """
    n, n_band = data.flux.shape
    seen = observed(data.flux, data.flux_err)
    best = np.full((n, n_band), np.inf)
    enough, placed = seen.sum(axis=1) >= MIN_BANDS, posterior.placed
    if isinstance(placed, PerGalaxy):
        for row in np.flatnonzero(enough):
            best[row, seen[row]] = _best_without(placed, data[row : row + 1], seen[row], seed)
    for b in range(0 if isinstance(placed, PerGalaxy) else n_band):
        rows = np.flatnonzero(seen[:, b] & enough)
        if len(rows) == 0:
            continue
        some = data[rows]
        hidden = replace(some, flux=np.where(np.arange(n_band) == b, np.nan, some.flux))
        best[rows, b] = posterior.sample(hidden, N_DRAWS, seed).chi2.min(axis=1)
    # an infinite chi2 everywhere names no band
    return np.where(np.isfinite(best).any(axis=1), np.argmin(best, axis=1), -1)


def _best_without(placed: PerGalaxy, one: Observation, seen: np.ndarray, seed: int) -> np.ndarray:
    """The smallest chi2 of one galaxy without each of its observed bands, (n_seen,): of draws for errors so much larger
    that the best fit has a chi2 of their number, among which are those that fit the other bands."""
    chi2 = placed.sample(one, _N_WITHOUT, seed).chi2.min()
    wider = np.sqrt(max(chi2 / seen.sum(), 1.0)) if np.isfinite(chi2) else 1.0
    without = one[np.zeros(seen.sum(), dtype=int)]
    hidden = np.eye(len(seen), dtype=bool)[seen]
    without = replace(without, flux=np.where(hidden, np.nan, without.flux))
    like = replace(one, flux_err=wider * one.flux_err)
    return placed.sample_alike(without, _N_WITHOUT, seed, like).chi2.min(axis=1)


MIN_GALAXIES, N_FIT = 600, 4000
"""Galaxies that a mixture needs, and that it is fitted to at most."""
N_BLOCKS, BLOCK_ROWS = 16, 500
"""Rows of a catalogue that are looked at: so many blocks, evenly spaced, of so many rows; twice N_FIT."""
_PER_COMPONENT, _MAX_COMPONENTS, _ITERATIONS = 300, 8, 40
_LEAST_VARIANCE, _UNKNOWN = 1e-5, 1e8


@dataclass(frozen=True)
class OwnGalaxies:
    """The mixture, of (x - centre) / scale with x the magnitudes and the redshift.

    softening : (n_band,) nMgy. centre, scale : (d,), d = n_band + 1. weights : (k,). means : (k, d). covariances :
    (k, d, d). n_galaxies : that it was fitted to.
    """

    softening: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    n_galaxies: int

    def band_tails(self, data: Observation) -> tuple[np.ndarray, np.ndarray]:
        """Tail probability of the most deviant band given the others, and its index, each (n,).

        Of a galaxy like the others, and with its errors right, the probability of one below p is p, whatever the number
        of bands. NaN and -1 with fewer than three bands.
        """
        x, variance = _standard(*_inputs(data, self.softening), self.centre, self.scale)
        n_band = len(self.softening)
        parts = []
        for start in range(0, len(x), N_FIT):
            part = slice(start, start + N_FIT)
            precision = np.linalg.inv(_total(self.covariances[:, None], variance[part]))
            parts.append(two_sided(x[part] - self.means[:, None], precision, np.log(self.weights))[:, :n_band])
        probability = np.concatenate(parts) if parts else np.empty((0, n_band))
        return least(np.where(variance[:, :n_band] < _UNKNOWN, probability, np.nan))


def rows_to_fit(n: int) -> list[tuple[int, int]]:
    """First and last (excluded) rows of what stands for a catalogue of n rows: all, or evenly spaced blocks of it.

    A function of n alone, so that a catalogue is described alike however it is read and cut.

    >>> rows_to_fit(7000), rows_to_fit(10**6)[:2]
    ([(0, 7000)], [(0, 500), (66633, 67133)])
    """
    if n <= N_BLOCKS * BLOCK_ROWS:
        return [(0, n)]
    starts = np.round(np.linspace(0, n - BLOCK_ROWS, N_BLOCKS)).astype(int)
    return [(int(start), int(start) + BLOCK_ROWS) for start in starts]


def describe_own_galaxies(frame: pd.DataFrame, posterior: Posterior) -> OwnGalaxies | None:
    """The mixture of a photometry frame's galaxies that have a posterior and pass the quality cuts; None if too few."""
    flags = frame["flags"].to_numpy()
    good = has_posterior(flags) & (flags & FLAGS["quality_cut"] == 0)
    return fit_own_galaxies(observation(frame[good], posterior.survey), posterior.features.softening)


def fit_own_galaxies(data: Observation, softening: np.ndarray, *, seed: int = 0) -> OwnGalaxies | None:
    """The mixture of galaxies, for softenings (n_band,) in nMgy; None with fewer than MIN_GALAXIES of them."""
    x, variance = _inputs(data, softening)
    chosen = np.random.default_rng(seed).permutation(np.flatnonzero(np.isfinite(x).any(axis=1)))[:N_FIT]
    if len(chosen) < MIN_GALAXIES:
        return None
    x, variance = x[chosen], variance[chosen]
    centre, scale = _location(x)
    x, variance = _standard(x, variance, centre, scale)
    k, bounded = min(len(x) // _PER_COMPONENT, _MAX_COMPONENTS), np.clip(x, -8.0, 8.0)
    # first components half as wide as all galaxies, about some of these, with what is missing at the centre
    wide = 0.25 * np.cov(bounded.T) + 1e-3 * np.eye(x.shape[1])
    weight, mean, covariance = np.full(k, 1.0 / k), bounded[:k], np.repeat(wide[None], k, axis=0)
    for _ in range(_ITERATIONS):
        weight, mean, covariance = improve(x, variance, weight, mean, covariance)
    return OwnGalaxies(np.asarray(softening, dtype=float), centre, scale, weight, mean, covariance, len(x))


@numba.njit(nogil=True, cache=True)
def improve(x, variance, weights, means, covariances):
    """One step of expectation and maximisation: equations 12 to 14 of Bovy et al. (2011).

    x, variance are (n, d); the mixture's weights (k,), means (k, d), covariances (k, d, d) come back improved.
    """
    n, d = x.shape
    k = len(weights)
    total, first, second = np.full(k, 1e-9), np.zeros((k, d)), np.zeros((k, d, d))
    factor, pull = np.empty((d, d)), np.empty(d)
    log_density, expected, explained = np.empty(k), np.empty((k, d)), np.empty((k, d, d))
    for i in range(n):
        top = -np.inf
        for j in range(k):
            _factorise(covariances[j], variance[i], factor)
            log_density[j] = np.log(weights[j])
            for a in range(d):
                value = x[i, a] - means[j, a]
                for b in range(a):
                    value -= factor[a, b] * pull[b]
                pull[a] = value / factor[a, a]
                log_density[j] -= 0.5 * pull[a] ** 2 + np.log(factor[a, a])
                for c in range(d):
                    value = covariances[j, a, c]
                    for b in range(a):
                        value -= factor[a, b] * explained[j, b, c]
                    explained[j, a, c] = value / factor[a, a]
            for c in range(d):
                expected[j, c] = means[j, c]
                for a in range(d):
                    expected[j, c] += explained[j, a, c] * pull[a]
            top = max(top, log_density[j])
        norm = 0.0
        for j in range(k):
            log_density[j] = np.exp(log_density[j] - top)
            norm += log_density[j]
        for j in range(k):
            share = log_density[j] / norm
            if share < 1e-12:
                continue
            total[j] += share
            for a in range(d):
                first[j, a] += share * expected[j, a]
                for b in range(a + 1):
                    value = covariances[j, a, b] + expected[j, a] * expected[j, b]
                    for c in range(d):
                        value -= explained[j, c, a] * explained[j, c, b]
                    second[j, a, b] += share * value
    for j in range(k):
        for a in range(d):
            first[j, a] /= total[j]
            for b in range(a + 1):
                second[j, a, b] = second[j, a, b] / total[j] - first[j, a] * first[j, b]
                second[j, b, a] = second[j, a, b]
            second[j, a, a] += _LEAST_VARIANCE
    return total / total.sum(), first, second


@numba.njit(nogil=True, cache=True)
def _factorise(covariance, variance, factor):
    """Lower Cholesky factor of a covariance (d, d) with a galaxy's variances (d,) on its diagonal."""
    for a in range(len(variance)):
        for b in range(a + 1):
            value = covariance[a, b] + (variance[a] if a == b else 0.0)
            for c in range(b):
                value -= factor[a, c] * factor[b, c]
            factor[a, b] = np.sqrt(max(value, 1e-300)) if a == b else value / factor[b, b]


def _total(covariance, variance):
    """Covariances of noisy values: (..., n, d, d) of covariance (..., d, d), or (..., 1, d, d), and variance (n, d)."""
    return covariance + variance[:, :, None] * np.eye(variance.shape[1])


def _inputs(data: Observation, softening) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes and redshift, (n, n_band + 1), NaN where not observed, and the variances of their errors."""
    seen = observed(data.flux, data.flux_err)
    flux, err = np.where(seen, data.flux, np.nan), np.where(seen, data.flux_err, 1.0)
    error = POGSON * err / np.hypot(flux, 2.0 * softening)
    sigma = np.where(np.isnan(data.redshift_err), 0.0, data.redshift_err)
    return np.column_stack([asinh_mag(flux, softening), data.redshift]), np.column_stack([error, sigma]) ** 2


def _location(x) -> tuple[np.ndarray, np.ndarray]:
    """Median and half of the central 68% of each column; of one without values, 0 and 1."""
    low, middle, high = np.zeros((3, x.shape[1]))
    has = np.isfinite(x).any(axis=0)
    low[has], middle[has], high[has] = np.nanpercentile(x[:, has], (16, 50, 84), axis=0)
    return middle, np.maximum(0.5 * (high - low), 1e-3) * has + ~has


def _standard(x, variance, centre, scale) -> tuple[np.ndarray, np.ndarray]:
    """Standardised values and variances; what is missing is at the centre, with a very large variance."""
    known = np.isfinite(x)
    value = np.where(known, (x - centre) / scale, 0.0)
    return value, np.where(known, np.minimum(variance / scale**2, 0.1 * _UNKNOWN), _UNKNOWN)

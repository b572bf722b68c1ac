"""Is a band off, by the standard of the catalogue's own galaxies?

A model's prior allows colours that hardly any galaxy has, so what it expects of a band, given the others, is broad. The
galaxies of the catalogue know better. A Gaussian mixture describes their magnitudes and redshifts without their noise,
by extreme deconvolution (Bovy, Hogg & Roweis 2011, arXiv 0905.2979): each galaxy is its own errors wider than the
mixture. A band that is missing, or a redshift, is one with a very large error.

Whether half of the catalogue is off in the same way it cannot tell: that is what the model's support is for.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from popcat.galaxies import FLAGS, asinh_mag, has_posterior, observation, observed
from popcat.io.reading import read_partition, without_redshift
from popcat.io.sources import plan_chunks
from popcat.posterior.posterior import Posterior
from popcat.posterior.support import least, two_sided
from popcat.units import POGSON

MIN_GALAXIES, N_FIT = 600, 4000
"""Galaxies that a mixture needs, and that it is fitted to at most."""
_PER_COMPONENT, _MAX_COMPONENTS, _ITERATIONS = 300, 8, 40
_LEAST_VARIANCE, _UNKNOWN = 1e-5, 1e8


@dataclass(frozen=True)
class Peers:
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

    def band_tails(self, flux, flux_err, redshift, redshift_err) -> tuple[np.ndarray, np.ndarray]:
        """Probability of a band so far from what the other bands let expect, and its index, each (n,).

        Of a galaxy like the others, and with its errors right, the probability of one below p is p, whatever the number
        of bands. NaN and -1 with fewer than three bands.
        """
        noisy = _inputs(flux, flux_err, redshift, redshift_err, self.softening)
        x, variance = _standard(*noisy, self.centre, self.scale)
        n_band = len(self.softening)
        parts = []
        for start in range(0, len(x), N_FIT):
            part = slice(start, start + N_FIT)
            precision = np.linalg.inv(_total(self.covariances[:, None], variance[part]))
            parts.append(two_sided(x[part] - self.means[:, None], precision, np.log(self.weights))[:, :n_band])
        probability = np.concatenate(parts) if parts else np.empty((0, n_band))
        return least(np.where(variance[:, :n_band] < _UNKNOWN, probability, np.nan))


def fit_peers(flux, flux_err, redshift, redshift_err, softening, *, seed: int = 0) -> Peers | None:
    """The mixture of a catalogue's galaxies, (n, n_band) photometry and (n,) redshifts; None with too few of them."""
    from sklearn.mixture import GaussianMixture

    x, variance = _inputs(flux, flux_err, redshift, redshift_err, softening)
    chosen = np.random.default_rng(seed).permutation(np.flatnonzero(np.isfinite(x).any(axis=1)))[:N_FIT]
    if len(chosen) < MIN_GALAXIES:
        return None
    x, variance = x[chosen], variance[chosen]
    centre, scale = _location(x)
    x, variance = _standard(x, variance, centre, scale)
    k = min(len(x) // _PER_COMPONENT, _MAX_COMPONENTS)
    # a start: of the noisy values, with what is missing at the centre
    start = GaussianMixture(k, reg_covar=1e-3, max_iter=20, tol=0.1, random_state=seed).fit(np.clip(x, -8.0, 8.0))
    mixture = start.weights_, start.means_, start.covariances_
    for _ in range(_ITERATIONS):
        mixture = _improve(x, variance, *mixture)
    return Peers(np.asarray(softening, dtype=float), centre, scale, *mixture, len(x))


def _improve(x, variance, weights, means, covariances):
    """One step of expectation and maximisation: equations 12 to 14 of Bovy et al. (2011)."""
    log_density = np.empty((len(weights), len(x)))
    expected, spread = np.empty((len(weights), *x.shape)), []
    for j, (weight, mean, covariance) in enumerate(zip(weights, means, covariances, strict=True)):
        precision = np.linalg.inv(_total(covariance, variance))
        pull = (precision @ (x - mean)[..., None])[..., 0]
        log_density[j] = 0.5 * (np.linalg.slogdet(precision)[1] - np.sum(pull * (x - mean), axis=1)) + np.log(weight)
        expected[j] = mean + pull @ covariance
        spread.append(covariance - covariance @ precision @ covariance)
    share = np.exp(log_density - logsumexp(log_density, axis=0))
    total = share.sum(axis=1) + 1e-9
    means = np.einsum("kn,kni->ki", share, expected) / total[:, None]
    covariances = np.empty_like(covariances)
    for j, mean in enumerate(means):
        away = expected[j] - mean
        covariances[j] = ((share[j] * away.T) @ away + np.tensordot(share[j], spread[j], 1)) / total[j]
        covariances[j] += _LEAST_VARIANCE * np.eye(len(mean))
    return total / total.sum(), means, covariances


def _total(covariance, variance):
    """Covariances of noisy values: (..., n, d, d) of covariance (..., d, d), or (..., 1, d, d), and variance (n, d)."""
    return covariance + variance[:, :, None] * np.eye(variance.shape[1])


def _inputs(flux, flux_err, redshift, redshift_err, softening) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes and redshift, (n, n_band + 1), NaN where not observed, and the variances of their errors."""
    flux, flux_err = (np.asarray(values, dtype=float) for values in (flux, flux_err))
    redshift, sigma = (np.asarray(values, dtype=float) for values in (redshift, redshift_err))
    seen = observed(flux, flux_err)
    flux, err = np.where(seen, flux, np.nan), np.where(seen, flux_err, 1.0)
    error = POGSON * err / np.hypot(flux, 2.0 * softening)
    sigma = np.where(np.isnan(sigma), 0.0, sigma)
    return np.column_stack([asinh_mag(flux, softening), redshift]), np.column_stack([error, sigma]) ** 2


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


def find_peers(source: str | Path, posterior: Posterior, *, hide_redshift: bool = False) -> Peers | None:
    """A description of a catalogue's own galaxies, of parts spread evenly over it; None if they are too few.

    A function of the catalogue alone, not of how a run cuts it.
    """
    chunks = plan_chunks(source)
    rows = sum(chunk.stop - chunk.start for chunk in chunks) / max(len(chunks), 1)
    n = min(len(chunks), int(np.ceil(2 * N_FIT / max(rows, 1.0))))
    chosen = [chunks[i] for i in np.unique(np.linspace(0, len(chunks) - 1, n).astype(int))]
    frame = pd.concat([read_partition(chunk, posterior.survey) for chunk in chosen], ignore_index=True)
    frame = without_redshift(frame) if hide_redshift else frame
    flags = frame["flags"].to_numpy()
    good = has_posterior(flags) & (flags & FLAGS["quality_cut"] == 0)
    data = observation(frame[good], posterior.survey)
    return fit_peers(data.flux, data.flux_err, data.redshift, data.redshift_err, posterior.features.softening)

"""Which band is off: the one without which the others are fitted best."""

from collections.abc import Callable

import numpy as np

from popcat.catalog.photometry import observed
from popcat.inference.posterior import Posterior

N_DRAWS = 64
"""Draws for each band left out: enough to find a fit, few enough for every suspicious galaxy of a survey."""
MIN_BANDS = 3


def chi2_of(model_flux: np.ndarray, flux: np.ndarray, flux_err: np.ndarray) -> np.ndarray:
    """chi2 (n, k) of model fluxes (n, k, n_band) against photometry (n, n_band), over the bands that are observed."""
    seen = observed(flux, flux_err)
    safe_err = np.where(seen, flux_err, 1.0)
    with np.errstate(over="ignore"):  # an absurdly small error is an infinite chi2
        residual = np.where(seen[:, None], (model_flux - np.where(seen, flux, 0.0)[:, None]) / safe_err[:, None], 0.0)
        return np.sum(residual**2, axis=2)


def worst_bands(
    posterior: Posterior, forward: Callable, flux, flux_err, redshift, redshift_err, object_id, seed: int
) -> np.ndarray:
    """Index of the band that is off, (n,): of those observed, the one whose removal leaves the smallest chi2_best.

    forward takes theta (m, n_parameter) and redshift (m,) to fluxes (m, n_band). -1 with fewer than three bands.
    """
    n, n_band = flux.shape
    seen = observed(flux, flux_err)
    best = np.full((n, n_band), np.inf)
    for b in range(n_band):
        rows = np.flatnonzero(seen[:, b] & (seen.sum(axis=1) >= MIN_BANDS))
        if len(rows) == 0:
            continue
        hidden = np.where(np.arange(n_band) == b, np.nan, flux[rows])
        draws = posterior.sample(
            hidden, flux_err[rows], redshift[rows], object_id[rows], N_DRAWS, seed, redshift_err=redshift_err[rows]
        )
        theta = draws.theta.reshape(-1, draws.theta.shape[2])
        model_flux = forward(theta, draws.redshift.ravel()).reshape(len(rows), N_DRAWS, n_band)
        best[rows, b] = chi2_of(model_flux, hidden, flux_err[rows]).min(axis=1)
    # an infinite chi2 everywhere names no band
    return np.where(np.isfinite(best).any(axis=1), np.argmin(best, axis=1), -1)

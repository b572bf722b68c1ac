"""Flags of galaxies: the tests that each must pass, and which band disagrees with the others.

The band that disagrees is the one without which the others are fitted best.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from popcat.checks.peers import Peers
from popcat.galaxies import CHI2_TAIL, FLAGS, MIN_BANDS, PEERS_TAIL, SUPPORT_TAIL, Observation, chi2_of, observed
from popcat.posterior.posterior import Posterior

# Draws at a time of the bands left out: bounds the memory of a partition.
_BATCH_DRAWS = 200_000
# Of a redshift over 1 + z: with a wider error it says little about colours.
_WIDE_REDSHIFT = 0.01


@dataclass(frozen=True)
class Judgement:
    """What the tests say of n galaxies: flags (n,) bits to add; the columns of tails, each (n,); worst (n,), the index
    of the band that is off where a test failed, else -1."""

    flags: np.ndarray
    tails: dict[str, np.ndarray]
    worst: np.ndarray


def judge(
    data: Observation, posterior: Posterior, forward: Callable, chi2_best: np.ndarray, seed: int,
    peers: Peers | None = None,
) -> Judgement:  # fmt: skip
    """The tests of galaxies whose best fit has chi2_best (n,), by the model and by the catalogue's own galaxies."""
    known = _known_redshift(data)
    noise, colours = posterior.support.tails(data.flux, data.flux_err, known)
    by_model, band = posterior.support.band_tails(data.flux, data.flux_err, known)
    by_peers, peers_band = np.full(len(data), np.nan), band
    if peers is not None:
        by_peers, peers_band = peers.band_tails(data.flux, data.flux_err, known, data.redshift_err)
    failed = {
        "high_chi2": chi2_best > _chi2_limit(observed(data.flux, data.flux_err).sum(axis=1)),
        "unusual_noise": noise < SUPPORT_TAIL,
        "unusual_colours": colours < SUPPORT_TAIL,
        "band_off": (by_model < SUPPORT_TAIL) | (by_peers < PEERS_TAIL),
    }
    worst = _worst(data, failed, posterior, forward, seed)
    worst = np.where(failed["band_off"], np.where(by_peers < PEERS_TAIL, peers_band, band), worst)
    flags = sum(FLAGS[name] * mask for name, mask in failed.items())
    tails = {"tail_noise": noise, "tail_colours": colours, "tail_band": by_model, "tail_peers": by_peers}
    return Judgement(flags, tails, worst)


def _known_redshift(data) -> np.ndarray:
    """Redshifts; NaN with a wide error, which is no coordinate of the colours."""
    is_wide = data.redshift_err > _WIDE_REDSHIFT * (1.0 + data.redshift)
    return np.where(is_wide, np.nan, data.redshift)


def _worst(data, failed: dict[str, np.ndarray], posterior: Posterior, forward: Callable, seed: int) -> np.ndarray:
    """Index of the band that is off where a galaxy fails a test, else -1: by its flux, or else by its error."""
    worst = np.full(len(data), -1)
    rows = np.flatnonzero(failed["unusual_noise"])
    worst[rows] = posterior.support.unusual_noise(data.flux[rows], data.flux_err[rows])
    # band_off names its own
    rows = np.flatnonzero((failed["high_chi2"] | failed["unusual_colours"]) & ~failed["band_off"])
    step = max(_BATCH_DRAWS // N_DRAWS, 1)
    for start in range(0, len(rows), step):
        some = data[rows[start : start + step]]
        worst[rows[start : start + step]] = worst_bands(posterior, forward, *vars(some).values(), seed)
    return worst


def _chi2_limit(n_bands: np.ndarray) -> np.ndarray:
    """chi2 that pure noise exceeds with probability CHI2_TAIL: even the best of all models would not fit."""
    from scipy.stats import chi2

    return chi2.isf(CHI2_TAIL, n_bands)


N_DRAWS = 64
"""Draws for each band left out: enough to find a fit, few enough for every suspicious galaxy of a survey."""


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


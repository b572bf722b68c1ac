"""The catalogue's own noise against the galaxies' true flux, which is what synthetic galaxies have.

`popcat.noise` bins errors by the flux as observed. Where noise is a third of the flux, the faintest bins hold galaxies
that noise has made faint, with the errors of brighter ones. Here every galaxy is spread over the fluxes that it may
truly have: the responsibilities of a one-dimensional deconvolution of the band's fluxes by expectation-maximisation.
"""

import numpy as np

from popcat.noise import LN_ERR_BINS, LN_FLUX_BINS, NoiseModel, noise_from_counts
from popcat.settings import Survey

_MEASURED_SCATTER = {"widen": 1.0, "min_scatter": 0.02}
"""A posterior's noise model covers the data; a population's has to be the data's own."""
_MOST, _ITERATIONS = 100_000, 12


def catalogue_noise(flux: np.ndarray, err: np.ndarray, survey: Survey, seed: int = 0) -> NoiseModel:
    """The noise model of galaxies with fluxes and errors (n, n_band) in nMgy, by true flux, scatter not widened.

    Raises PopcatError where a band has too few galaxies.
    """
    rows = np.random.default_rng((seed, 53)).permutation(len(flux))[:_MOST]
    counts = [_counts(flux[rows, i], err[rows, i]) for i in range(flux.shape[1])]
    return noise_from_counts(np.array(counts) * (len(flux) / len(rows)), survey, **_MEASURED_SCATTER)


def _counts(flux: np.ndarray, err: np.ndarray) -> np.ndarray:
    """Expected counts by ln(true flux) and ln(error), (n_flux, n_err), of one band."""
    middle = 0.5 * (LN_FLUX_BINS[1:] + LN_FLUX_BINS[:-1])
    lowest, highest = np.log(np.percentile(np.maximum(flux, err), [0.0, 100.0]))
    near = np.flatnonzero((middle > lowest - 1.0) & (middle < highest + 0.2))
    share = responsibilities(flux, err, np.exp(middle[near]))
    place = np.clip(np.searchsorted(LN_ERR_BINS, np.log(err)) - 1, 0, len(LN_ERR_BINS) - 2)
    counts = np.zeros((len(middle), len(LN_ERR_BINS) - 1))
    for i, column in zip(near, share.T, strict=True):
        counts[i] = np.bincount(place, weights=column, minlength=counts.shape[1])
    return counts


def responsibilities(flux: np.ndarray, err: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Probability (n, n_node) that a galaxy observed with flux +- err truly has each of the fluxes `nodes`."""
    with np.errstate(under="ignore"):
        step = np.gradient(nodes)
        # a galaxy whose error is less than the distance of two nodes is between them
        width = np.hypot(err[:, None], 0.5 * step)
        likelihood = np.exp(-0.5 * ((flux[:, None] - nodes) / width) ** 2) / width + 1e-300
        prior = np.full(len(nodes), 1.0 / len(nodes))
        for _ in range(_ITERATIONS):
            share = likelihood * prior
            share /= share.sum(axis=1, keepdims=True)
            prior = share.mean(axis=0)
    return share

"""Posterior draws of single galaxies, redshifts inferred, from an amortized model and the exact likelihood."""

import numpy as np
import torch

from popcat.inference.posterior import Posterior
from popcat.population.hierarchical import PosteriorDraws
from popcat.population.space import Space
from popcat.population.wasserstein import Galaxies
from popcat.sps.photometry import Photometry

_OVERSAMPLING = 4
_BATCH_DRAWS = 200_000


def posterior_draws(
    posterior: Posterior, photometry: Photometry, galaxies: Galaxies, space: Space, *, draws: int, seed: int
) -> PosteriorDraws:
    """Draws of each galaxy under the training prior: the flow's, resampled by likelihood x prior / q.

    Galaxies whose likelihood is zero at every draw are left out.
    """
    step = max(_BATCH_DRAWS // (_OVERSAMPLING * draws), 1)
    parts = [
        _resampled(posterior, photometry, galaxies[start : start + step], space, draws, seed, start)
        for start in range(0, len(galaxies), step)
    ]
    return PosteriorDraws.under_prior(np.concatenate(parts))


def _resampled(posterior, photometry, galaxies, space, draws, seed, first):
    n, k = len(galaxies), _OVERSAMPLING * draws
    found = posterior.sample(
        galaxies.flux, galaxies.err, np.full(n, np.nan), np.arange(first, first + n), k, seed
    )
    flat, z = found.theta.reshape(n * k, -1), found.redshift.ravel()
    model = photometry.flux(flat, z).reshape(n, k, -1)
    chi2 = (((model - galaxies.flux[:, None]) / galaxies.err[:, None]) ** 2).sum(-1)
    log_weight = -0.5 * chi2 + found.log_prior - found.log_q
    log_weight -= log_weight.max(1, keepdims=True)
    weight = torch.as_tensor(np.exp(log_weight))
    chosen = torch.multinomial(weight, draws, replacement=True,
                               generator=torch.Generator().manual_seed(1_000_003 * (seed + 1) + first)).numpy()  # fmt: skip
    x = space.unconstrained(flat, z).reshape(n, k, -1)
    return np.take_along_axis(x, chosen[..., None], axis=1)

"""Where a fit starts: posterior draws of single galaxies, redshifts inferred, stacked under a start prior."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from popcat.errors import PopcatError
from popcat.inference.posterior import Posterior
from popcat.inference.reweight import load_prior
from popcat.population.hierarchical import PosteriorDraws
from popcat.population.space import Space, log_standard_normal
from popcat.population.wasserstein import Galaxies
from popcat.sps.photometry import Photometry

_OVERSAMPLING = 4
_BATCH_DRAWS = 200_000
FLAT, EMBEDDED = "flat", "embedded"


def start_prior(name: str, space: Space) -> Callable:
    """A function of theta (n, d) and redshift (n,): ln of the start's prior over the training prior, (n,).

    Raises PopcatError if there is no such file or it does not fit the galaxy model.
    """
    if name == FLAT:
        return lambda theta, redshift: np.zeros(len(theta))
    embedded = Path(str(files("popcat") / "data" / "population_start.toml"))
    try:
        new = load_prior(embedded if name == EMBEDDED else name, space.prior, space.redshift_range)
    except PopcatError:
        if name != EMBEDDED:
            raise
        return lambda theta, redshift: np.zeros(len(theta))  # a galaxy model with other parameters

    def log_ratio(theta, redshift):
        draws = dict(zip(space.prior.names, theta.T[:, :, None], strict=True)) | {"redshift": redshift[:, None]}
        return new.log_ratio(draws, np.ones(len(theta), dtype=bool))[:, 0]

    return log_ratio


def posterior_draws(
    posterior: Posterior, photometry: Photometry, galaxies: Galaxies, space: Space, *, draws: int, seed: int,
    prior: str = EMBEDDED,
) -> PosteriorDraws:  # fmt: skip
    """Draws of each galaxy under the start prior: the flow's, resampled by likelihood x prior / q."""
    log_ratio = start_prior(prior, space)
    step = max(_BATCH_DRAWS // (_OVERSAMPLING * draws), 1)
    parts = [
        _resampled(posterior, photometry, galaxies[start : start + step], space, draws, seed, start, log_ratio)
        for start in range(0, len(galaxies), step)
    ]
    x, ratio = (torch.as_tensor(np.concatenate(one), dtype=torch.float32) for one in zip(*parts, strict=True))
    return PosteriorDraws(x, -log_standard_normal(x) - ratio, torch.zeros_like(ratio))


def _resampled(posterior, photometry, galaxies, space, draws, seed, first, log_ratio):
    """x (n, draws, d) of some galaxies, and the ln ratio of the two priors there."""
    n, k = len(galaxies), _OVERSAMPLING * draws
    ids = np.arange(first, first + n)
    found = posterior.sample(galaxies.flux, galaxies.err, np.full(n, np.nan), ids, k, seed)
    flat, z = found.theta.reshape(n * k, -1), found.redshift.ravel()
    model = photometry.flux(flat, z).reshape(n, k, -1)
    chi2 = (((model - galaxies.flux[:, None]) / galaxies.err[:, None]) ** 2).sum(-1)
    ratio = log_ratio(flat, z).reshape(n, k)
    log_weight = -0.5 * chi2 + found.log_prior - found.log_q + ratio
    weight = torch.as_tensor(np.exp(log_weight - log_weight.max(1, keepdims=True)))
    random = torch.Generator().manual_seed(1_000_003 * (seed + 1) + first)
    chosen = torch.multinomial(weight, draws, replacement=True, generator=random).numpy()
    x = space.unconstrained(flat, z).reshape(n, k, -1)
    return np.take_along_axis(x, chosen[..., None], axis=1), np.take_along_axis(ratio, chosen, axis=1)

"""Posterior draws of every quantity."""


import numpy as np

from popcat.columns import quantity_fields
from popcat.forward.model import derive, forward_for
from popcat.galaxies import Observation, chi2_of
from popcat.posterior.posterior import Posterior
from popcat.timing import stage

# Galaxies sampled at a time: bounds the memory of a partition whatever its size.
_BATCH_DRAWS = 200_000


def sample_quantities(
    data: Observation, posterior: Posterior, draws: int, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draws of every quantity, {name: (n, draws) float32}, and chi2_best (n,), in batches of bounded memory."""
    survey = posterior.survey
    photometry = forward_for(survey, posterior.galaxy_model).photometry
    out = {name: np.empty((len(data), draws), dtype=np.float32) for name in quantity_fields(survey,
                                                                                            posterior.galaxy_model)}
    chi2 = np.empty(len(data))
    step = max(_BATCH_DRAWS // draws, 1)
    for start in range(0, len(data), step):
        part = slice(start, start + step)
        some = data[part]
        with stage("sample"):
            found = posterior.sample(
                some.flux, some.flux_err, some.redshift, some.object_id, draws, seed, redshift_err=some.redshift_err
            )
        flat, z = found.theta.reshape(-1, found.theta.shape[2]), found.redshift.ravel()
        model_flux = photometry.flux(flat, z).reshape(len(some), draws, -1)
        chi2[part] = chi2_of(model_flux, some.flux, some.flux_err).min(axis=1)
        for name, values in derive(flat, z, survey, posterior.galaxy_model).items():
            out[name][part] = values.reshape(-1, draws)
    return out, chi2

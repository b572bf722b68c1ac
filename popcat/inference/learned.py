"""What the photometry of a catalogue says beyond the prior: draws of the prior, and posteriors of some galaxies."""


import numpy as np
import pandas as pd

from popcat.catalog.learned import REDSHIFT, Learned, PriorDraws, medians
from popcat.catalog.manifest import RESULTS
from popcat.catalog.prior_draws import write_prior
from popcat.checks.training_check import sample_of
from popcat.columns import quantity_fields
from popcat.errors import PopcatError
from popcat.files import kept_array
from popcat.paths import AnyPath
from popcat.posterior.posterior import Posterior
from popcat.posterior.simulated import draw_mocks

N_PRIOR = 2000
"""Galaxies of the prior."""
N_DRAWS = 100
"""Draws of each galaxy of the sample: fewer say less."""
_SEED = 5


def learned_of(frame: pd.DataFrame, posterior: Posterior, seed: int) -> Learned | None:
    """What the galaxies of a photometry frame say beyond the posterior's prior; None without a galaxy to say it of.

    Of the galaxies that are compared with the training set, and of the trained posterior's draws: before a correction
    by the exact likelihood.
    """
    data, prior = sample_of(frame, posterior.survey, 0), prior_of(posterior)
    if prior is None or len(data) == 0:
        return None
    draws, _ = posterior.quantities(data, N_DRAWS, seed)
    gains = prior.gains(draws, data.redshift, data.redshift_err)
    return medians(gains, posterior.prior_name, posterior.survey.band_names)


def keep_prior(folder: str | AnyPath, posterior: Posterior) -> None:
    """Write the posterior's prior beside the parts of an output folder, for `Catalog.learned` and the report."""
    prior = prior_of(posterior)
    if prior is not None:
        write_prior(folder, prior)


def prior_of(posterior: Posterior) -> PriorDraws | None:
    """Galaxies of the posterior's prior that pass the survey's selection; None if hardly any passes.

    They are made once for a posterior and kept in the cache folder: of the physical prior they take seconds.
    """
    names = list(quantity_fields(posterior.survey, posterior.galaxy_model))

    def make() -> np.ndarray:
        mocks = draw_mocks(posterior, N_PRIOR, _SEED)
        theta, redshift = mocks[list(posterior.prior.names)].to_numpy(dtype=float), mocks[REDSHIFT].to_numpy()
        found = posterior.derive(theta[:, None], redshift[:, None])
        return np.concatenate([found[name] for name in names], axis=1)

    key = f"prior {posterior.prior_name} of {posterior.name} {N_PRIOR} {RESULTS} {posterior.forward_hashes}"
    try:
        values = kept_array(key, make)
    except PopcatError:  # hardly any passes
        return None
    return PriorDraws.of(dict(zip(names, values.T, strict=True)))

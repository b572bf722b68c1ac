"""Whatever the prior, the flow's weights and draws of the prior know the same evidence: each part reads it alike."""

import numpy as np
import pytest
from trained import TRAINING

from popcat.checks.samplers import Galaxy, sample_galaxy
from popcat.checks.weights import importance
from popcat.galaxies import Observation
from popcat.galaxy_model import GalaxyModel
from popcat.posterior.library import LibraryArrays
from popcat.posterior.simulated import draw_prior
from popcat.posterior.training import train_posterior

MODEL = GalaxyModel(log_mstar_formed=(9.5, 12.5), priors={
    "log_mstar_formed": {"family": "schechter", "log_mass": 11.0, "alpha": -1.1},
    "tau_ism": {"family": "exponential", "scale": 0.5}, "tau_bc": {"family": "tied", "to": "tau_ism", "factor": 2.0},
    "f_burst": {"family": "fixed", "value": 0.0}, "n_dust": {"family": "normal", "mean": -0.5, "sigma": 0.4},
    "beta": {"family": "dirichlet", "concentration": [2.0, 1.0, 1.0, 0.5]},
    "redshift": {"family": "table", "x": [0.0, 0.1, 0.6], "density": [0.0, 1.0, 0.0]},
})  # fmt: skip


@pytest.fixture(scope="module")
def posterior(survey, noise):
    from popcat.forward.photometry import Photometry

    theta, redshift = draw_prior(np.arange(6000), survey, MODEL, 3)
    library = LibraryArrays.from_theta(theta, redshift, Photometry(survey, MODEL).flux(theta, redshift), MODEL)
    return train_posterior(library, survey, MODEL, noise, TRAINING, provenance={"made_by": "a test"})[0]


@pytest.mark.parametrize(("redshift", "error"), [(np.nan, np.nan), (0.12, 0.02), (0.12, np.nan)])
def test_the_evidence_is_that_of_the_prior(posterior, redshift, error):
    flux = np.array([10.0, 40.0, 75.0, 100.0, 120.0])
    flux_err = 0.3 * flux
    data = Observation(flux[None], flux_err[None], np.array([redshift]), np.array([error]), np.array([7]))
    weights = importance(posterior.sample(data, 40_000, 11).log_weight)
    galaxy = Galaxy(posterior.forward.flux, posterior.prior, posterior.survey.redshift_range, flux, flux_err, redshift,
                    error)  # fmt: skip
    chain = sample_galaxy(galaxy, None, 5, sampler="prior", max_steps=2000)
    assert weights.ess[0] > 1000 and chain.converged
    assert weights.log_evidence[0] == pytest.approx(chain.log_evidence, abs=0.12)

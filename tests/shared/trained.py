"""Three thousand simulated SDSS galaxies and a posterior trained on them in two epochs: honest, not good."""

from pathlib import Path

import numpy as np
import pytest

from popcat.flows.settings import Training
from popcat.forward.noise import BandNoise, Noise
from popcat.forward.photometry import Photometry
from popcat.galaxies import Observation
from popcat.galaxy_model import GalaxyModel
from popcat.posterior.library import LibraryArrays
from popcat.posterior.posterior import load_posterior
from popcat.posterior.training import train_posterior
from popcat.prior import make_prior
from popcat.survey import load_survey

N = 3000
TRAINING = Training(hidden=16, n_blocks=2, n_layers=1, batch=32, learning_rate=1e-2, max_epochs=2, redshift_epochs=2,
                    redshift_hidden=16, seed=5)  # fmt: skip


@pytest.fixture(scope="session")
def survey():
    return load_survey("sdss")


@pytest.fixture(scope="session")
def model():
    """Massive galaxies only: more of them pass the survey's selection."""
    return GalaxyModel(log_mstar_formed=(9.5, 12.5))


@pytest.fixture(scope="session")
def noise(survey):
    """A background of 0.5 nMgy below 10 nMgy, 5 per cent of the flux above."""
    band = BandNoise(ln_flux=(np.log(10.0), np.log(100.0)), ln_err=(np.log(0.5), np.log(5.0)), scatter=(0.3, 0.3))
    return Noise(survey=survey.name, n_galaxies=1, bands=dict.fromkeys(survey.band_names, band))


@pytest.fixture(scope="session")
def library(survey, model):
    random = np.random.default_rng(0)
    theta = make_prior(model).from_unit(random.uniform(size=(N, 11)))
    redshift = random.uniform(*survey.redshift_range, N)
    return LibraryArrays.from_theta(theta, redshift, Photometry(survey, model).flux(theta, redshift), model)


@pytest.fixture(scope="session")
def trained(library, survey, model, noise):
    """The posterior and its history."""
    return train_posterior(library, survey, model, noise, TRAINING, provenance={"made_by": "a test"})


@pytest.fixture
def observed(library, survey, noise):
    """Forty galaxies that pass the selection, with exact redshifts."""
    from popcat.posterior.library import observe

    flux, err, rows = observe(library, survey, noise, (1, 2, 3))
    redshift, exact = library.redshift[rows[:40]], np.full(40, np.nan)
    return Observation(flux[:40], err[:40], redshift, exact, np.arange(40) * 10**12 - 7)


@pytest.fixture(scope="session")
def format_2():
    """A small posterior as popcat wrote it when the mass was in the flow."""
    return load_posterior(Path(__file__).parents[1] / "data" / "older" / "posterior")

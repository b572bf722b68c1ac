"""The physics under test: the embedded survey and model, prior draws, and a grid small enough to know by heart."""

import numpy as np
import pytest

from popcat.forward.filters import load_curves
from popcat.forward.grid import SSPGrid
from popcat.forward.ingredients import load_ingredients
from popcat.forward.photometry import Photometry
from popcat.galaxy_model import GalaxyModel
from popcat.prior import make_prior
from popcat.survey import Band, Selection, Survey, load_survey


@pytest.fixture(scope="session")
def survey():
    return load_survey("sdss")


@pytest.fixture(scope="session")
def curves(survey):
    return load_curves(survey)


@pytest.fixture(scope="session")
def model():
    return load_ingredients(GalaxyModel())


@pytest.fixture(scope="session")
def photometry(survey):
    return Photometry(survey, GalaxyModel())


@pytest.fixture(scope="session")
def draw(survey):
    """Prior draws: (n, seed) -> theta (n, 12), redshift (n,) uniform in the survey's range or in `z_range`."""

    def function(n, seed=1, z_range=survey.redshift_range):
        rng = np.random.default_rng(seed)
        return make_prior(GalaxyModel()).from_unit(rng.random((n, 11))), rng.uniform(*z_range, n)

    return function


@pytest.fixture(scope="session")
def galaxy():
    """theta (12,) of one ordinary galaxy, with parameters changed by the number of their column."""

    def function(changes=None):
        theta = np.array([10.5, 0.25, 0.25, 0.25, 0.25, 0.2, 1.0, -2.5, -2.2, 0.8, 0.4, -0.5])
        for column, value in (changes or {}).items():
            theta[column] = value
        return theta

    return function


@pytest.fixture(scope="session")
def small_grid():
    """Three metallicities, nine ages, 400 wavelengths; light that fades and reddens with age."""
    log_age, log_z = np.linspace(5.0, 10.2, 9), np.array([-4.0, -2.5, -1.3])
    wave = np.geomspace(1000.0, 30000.0, 400)
    slope = 0.4 * (log_age - 8.0)[None, :, None] + 0.2 * (log_z + 2.5)[:, None, None]
    lum = 10.0 ** (-4.0 - 0.8 * (log_age[None, :, None] - 8.0)) * (wave / 5000.0) ** slope
    mstar = np.broadcast_to(np.linspace(1.0, 0.5, 9), (3, 9)) + 0.01 * np.arange(3)[:, None]
    return SSPGrid(log_age, log_z, wave, lum, mstar, {"engine": "test", "mstar_has_remnants": True})


@pytest.fixture
def make_survey(tmp_path):
    """A survey of one top-hat band, kept in a file."""

    def function(low=4000.0, high=5000.0, redshift_range=(0.05, 0.06)):
        path = tmp_path / f"hat_{low:g}_{high:g}.txt"
        wave = np.linspace(low, high, 101)
        np.savetxt(path, np.column_stack([wave, np.ones(101)]))
        band = Band(name="hat", filter=str(path), flux="f", flux_err="e")
        selection = Selection(band="hat", bright_mag=10, faint_mag=20)
        return Survey(name="tiny", redshift_range=redshift_range, bands=(band,), selection=selection)

    return function

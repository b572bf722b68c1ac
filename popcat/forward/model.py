"""The forward model of a survey: photometry and derived properties, loaded once a process."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from popcat.columns import parameter_fields
from popcat.forward.grid import load_grid
from popcat.forward.photometry import Photometry
from popcat.forward.properties import Properties
from popcat.galaxy_model import GalaxyModel
from popcat.survey import Survey

_MAX_FORWARDS = 4


@dataclass(frozen=True)
class Forward:
    """What theta and redshift imply: band fluxes and properties.

    >>> from popcat.survey import load_survey
    >>> forward = forward_for(load_survey("sdss"), GalaxyModel())
    >>> theta = np.array([[10.5, 0.25, 0.25, 0.25, 0.25, 0.1, 1.0, -2.0, -2.0, 0.5, 0.3, -0.5]])
    >>> forward.flux(theta, np.array([0.1])).shape, forward.derive(theta, np.array([0.1]))["redshift"].tolist()
    ((1, 5), [0.1])
    """

    galaxy_model: GalaxyModel
    photometry: Photometry
    properties: Properties

    def flux(self, theta: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """Fluxes in nMgy, (n, n_band), of theta (n, d) and redshift (n,); PopcatError outside the survey's range."""
        return self.photometry.flux(theta, redshift)

    def derive(self, theta: np.ndarray, redshift: np.ndarray) -> dict[str, np.ndarray]:
        """Every quantity by name, each (n,): parameters, properties, redshift."""
        parameters = dict(zip(parameter_fields(self.galaxy_model), theta.T, strict=True))
        return {**parameters, **self.properties(theta, redshift), "redshift": redshift}


_forwards: OrderedDict[str, Forward] = OrderedDict()
_lock = threading.Lock()


def forward_for(survey: Survey, galaxy_model: GalaxyModel) -> Forward:
    """The forward model of a survey; built once a process, shared by its threads."""
    key = survey.model_dump_json() + galaxy_model.model_dump_json()
    with _lock:
        if key not in _forwards:
            photometry = Photometry(survey, galaxy_model)
            _forwards[key] = Forward(galaxy_model, photometry, Properties(survey, photometry.ingredients))
            if len(_forwards) > _MAX_FORWARDS:
                _forwards.popitem(last=False)
        return _forwards[key]


def grid_hash(galaxy_model: GalaxyModel) -> str:
    """SHA-256 of the SSP grid that a model names: goes into fingerprints and provenance."""
    return load_grid(galaxy_model.grid).content_hash()

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
    """What theta and redshift imply: band fluxes and properties."""

    photometry: Photometry
    properties: Properties


_forwards: OrderedDict[str, Forward] = OrderedDict()
_lock = threading.Lock()


def forward_for(survey: Survey, galaxy_model: GalaxyModel) -> Forward:
    """The forward model of a survey; built once a process, shared by its threads."""
    key = survey.model_dump_json() + galaxy_model.model_dump_json()
    with _lock:
        if key not in _forwards:
            photometry = Photometry(survey, galaxy_model)
            _forwards[key] = Forward(photometry, Properties(survey, photometry.ingredients))
            if len(_forwards) > _MAX_FORWARDS:
                _forwards.popitem(last=False)
        return _forwards[key]


def derive(theta: np.ndarray, redshift: np.ndarray, survey: Survey, galaxy_model: GalaxyModel) -> dict[str, np.ndarray]:
    """Every quantity by name, each (n,), of theta (n, d) and redshift (n,)."""
    properties = forward_for(survey, galaxy_model).properties(theta, redshift)
    return {**dict(zip(parameter_fields(galaxy_model), theta.T, strict=True)), **properties, "redshift": redshift}


def grid_hash(galaxy_model: GalaxyModel) -> str:
    """SHA-256 of the SSP grid that a model names: goes into fingerprints and provenance."""
    return load_grid(galaxy_model.grid).content_hash()

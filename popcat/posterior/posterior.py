"""A frozen amortized posterior q(theta, z | fluxes, errors, redshift): a folder of safetensors and JSON, no pickle.

q(theta, z | x) = q(z | x) q(theta' | x, z) p(M | x, theta', z): a given redshift skips the first factor, one with an
error multiplies it, an unknown one is drawn from it. The flow is the second factor; the mass M is drawn from its own
law (popcat.posterior.mass), and theta' is the rest. Any subset of the survey's bands may be missing.

The folder holds posterior.json (survey, galaxy model, features, noise, provenance, hash of every other file), and
flow.safetensors (flow-1.safetensors, ... of an ensemble), redshift.safetensors and support.safetensors. The SHA-256 of
posterior.json names the posterior: change anything and the name changes. `popcat calibrate` adds the folder
calibration/, which does not.
"""

import hashlib
import json
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pydantic
import torch

from popcat.columns import quantity_fields
from popcat.display import Displayed, listed
from popcat.distributions import Law
from popcat.errors import PopcatError
from popcat.files import read_small, require_sha256, write_bytes_atomic, write_json_atomic
from popcat.flows.architecture import Architecture, flow_from_file, flow_to_bytes
from popcat.flows.piecewise import PiecewiseDensity, piecewise_from_file, piecewise_to_bytes
from popcat.flows.placement import require_device
from popcat.flows.sampler import Mixture, Sampler, make_sampler
from popcat.forward.noise import Noise, check_noise
from popcat.forward.properties import Forward, forward_for, forward_hashes, require_same
from popcat.galaxies import Observation
from popcat.galaxy_model import GalaxyModel, RecordedGalaxyModel
from popcat.paths import local
from popcat.physical.prior import JointPrior, prior_named, redshift_law_of
from popcat.posterior.draws import Draws
from popcat.posterior.features import Features
from popcat.posterior.locations import DESCRIPTION, posterior_folder
from popcat.posterior.on_cpu import OnCPU
from popcat.posterior.on_device import OnDevice
from popcat.posterior.per_galaxy import PerGalaxy
from popcat.posterior.support import Support, support_from_file, support_to_bytes
from popcat.prior import FLAT, Prior, make_prior, require_prior
from popcat.settings import validation_summary
from popcat.survey import Survey
from popcat.timing import stage

_FORMAT = 5
_READ_FORMATS = (2, 3, 4, 5)
_REDSHIFT, _SUPPORT = "redshift.safetensors", "support.safetensors"
_MAX_LOADED = 4
FITTED = "fitted"
"""provenance["proposals"] of a posterior without a flow."""
_MOST_BYTES = 50_000_000
"""Of a description, which may hold filter curves."""
# Galaxies sampled at a time: bounds the memory of a partition whatever its size.
_BATCH_DRAWS, _DEVICE_DRAWS = 200_000, 2_000_000


class _Description(pydantic.BaseModel):
    """What posterior.json holds."""

    model_config = pydantic.ConfigDict(extra="forbid")
    format: int
    survey: Survey
    # "model" in format 2
    galaxy_model: RecordedGalaxyModel = pydantic.Field(validation_alias=pydantic.AliasChoices("galaxy_model", "model"))
    noise: Noise
    features: dict
    redshift_features: dict
    draws_mass: bool = False
    priors: tuple[str, ...] = (FLAT,)
    files: dict[str, str]
    provenance: dict


@dataclass(frozen=True, repr=False)
class Posterior(Displayed):
    """A trained posterior, ready to sample.

    Attributes
    ----------
    survey, galaxy_model, noise : what it was trained for
    features : photometry and redshift to the context of the flow
    flows, architecture : the trained nflows flows, sampled as a mixture in equal parts, and their shape; none, and
        None, for a posterior whose proposals are fitted to each galaxy (popcat.posterior.from_prior)
    redshift_features, redshift_density : photometry to q(z | photometry), uniform prior in the survey's range
    support : the training set's inputs, to tell galaxies that are not like it
    provenance : versions, seeds, library, grid hash, validation log-probability
    draws_mass : whether the mass is no coordinate of the flows and drawn from its own law
    priors : names of the priors that it was trained under (popcat.prior.PRIORS)
    prior_name : the one of these that its draws are under
    name : SHA-256 of its description
    device : where it samples, as torch names it
    """

    survey: Survey
    galaxy_model: GalaxyModel
    noise: Noise
    features: Features
    flows: tuple[torch.nn.Module, ...]
    architecture: Architecture | None
    redshift_features: Features
    redshift_density: PiecewiseDensity
    support: Support
    provenance: dict
    draws_mass: bool = True
    priors: tuple[str, ...] = (FLAT,)
    prior_name: str = FLAT
    name: str = ""
    device: str = "cpu"

    def _title(self) -> str:
        return f"Posterior {self.name[:8]} of survey {self.survey.name}".replace("  ", " ")

    def _facts(self) -> dict[str, object]:
        made, (low, high) = self.provenance, self.survey.redshift_range
        found = {
            "bands": listed(self.survey.band_names, 20),
            "redshift": f"{low:g} to {high:g}: given, with an error, or inferred",
            "galaxy model": f"grid {self.galaxy_model.grid}, bases {self.galaxy_model.bases}",
            "parameters": listed(self.prior.names, 20),
            "flows": len(self.flows) or "none: proposals are fitted to each galaxy",
            "trained on": f"{made['n_library']:,} simulated galaxies" if "n_library" in made else "",
            "popcat": made.get("popcat_version", ""),
        }
        return {name: value for name, value in found.items() if value}

    @cached_property
    def prior(self) -> Prior:
        return make_prior(self.galaxy_model)

    @property
    def n_coordinates(self) -> int:
        """Coordinates of the flows."""
        return self.prior.n_unconstrained - self.draws_mass

    @cached_property
    def physical(self) -> JointPrior | None:
        """The physical prior, where draws are under that."""
        return prior_named(self.prior_name, self.galaxy_model, self.survey.redshift_range)

    @property
    def redshift_law(self) -> Law:
        """The prior of a redshift that is not given."""
        return redshift_law_of(self.prior, self.survey.redshift_range, self.physical)

    @cached_property
    def sampler(self) -> Sampler | Mixture:
        return make_sampler(self.flows)

    def to(self, device: str) -> "Posterior":
        """The same posterior, which samples on a device: "cpu", or "cuda" for a GPU; its draws are the same.

        Raises PopcatError if torch has no such device here.
        """
        if device != self.device:
            require_device(device)
            if not self.flows:
                raise PopcatError(f'device "{device}": a posterior without a flow samples on the CPU; leave it out')
        return self._other(self.prior_name, device)

    def under(self, prior: str | None) -> "Posterior":
        """The same posterior under one of the priors that it was trained under; None leaves it as it is.

        Raises PopcatError if it was not trained under that.

        >>> load_posterior("sdss").under("flat").prior_name
        'flat'
        """
        if prior is None:
            return self
        require_prior(prior)
        if prior not in self.priors:
            raise PopcatError(f"posterior {self.name[:12]} was trained under the prior {' and '.join(self.priors)}, "
                              f'not "{prior}": leave it out, or train on a library of `popcat simulate --prior both`')
        return self._other(prior, self.device)

    def _other(self, prior_name: str, device: str) -> "Posterior":
        key = prior_name, device
        if key not in self._others:
            number = float(self.priors.index(prior_name)) if len(self.priors) > 1 else 0.0
            features, of_redshift = (replace(one, prior=number) for one in (self.features, self.redshift_features))
            other = replace(self, features=features, redshift_features=of_redshift, prior_name=prior_name,
                            device=device)  # fmt: skip
            other.__dict__["_others"] = self._others
            self._others[key] = other
        return self._others[key]

    @cached_property
    def _others(self) -> "dict[tuple[str, str], Posterior]":
        """By name of the prior, and device."""
        return {(self.prior_name, self.device): self}

    @cached_property
    def placed(self) -> "OnCPU | OnDevice | PerGalaxy":
        """What samples, where it does."""
        if not self.flows:
            return PerGalaxy(self)
        return OnCPU(self) if self.device == "cpu" else OnDevice(self, self.device)

    @cached_property
    def forward(self) -> Forward:
        """The forward model that it was trained on, loaded once a process.

        Raises PopcatError if what it reads from files and packages is not what it was then.
        """
        require_same(self.provenance, self.forward_hashes, self.galaxy_model, f"posterior {self.name[:12]}")
        return forward_for(self.survey, self.galaxy_model)

    @cached_property
    def forward_hashes(self) -> dict[str, str]:
        """Of what its forward model reads from files and packages now, by what it is."""
        return forward_hashes(self.survey, self.galaxy_model)

    def sample(self, data: Observation, n_draws: int, seed: int) -> Draws:
        """Draws of theta and redshift, every one inside the prior; none is rejected.

        The noise of draw k of a galaxy depends on (seed, object_id, k) alone, so a galaxy's draws are the same in any
        catalogue and any partition to within float32 rounding (about 1e-5 standard deviations).
        """
        return self.placed.sample(data, n_draws, seed)

    def transform(self, data: Observation, normals: np.ndarray, uniforms: np.ndarray,
                  masses: "np.ndarray | None" = None) -> Draws:  # fmt: skip
        """The draws that given random numbers make: standard normal ones (n, k, n_coordinates) and uniform ones (n, k).

        The first uniform ones become redshifts where none is given exactly, the second masses where those are drawn
        from their own law (without any: the median). All draws, and q, are of the first flow, so that each galaxy's map
        is one to one and smooth, and takes these distributions to q.
        """
        return self.placed.of_numbers(data, normals, uniforms, masses)

    def derive(self, theta: np.ndarray, redshift: np.ndarray) -> dict[str, np.ndarray]:
        """Every quantity by name, each (n, k) float32, of draws theta (n, k, d) at redshift (n, k)."""
        found = self.placed.derive(theta.reshape(-1, theta.shape[-1]), redshift.ravel())
        return {name: values.reshape(redshift.shape).astype(np.float32) for name, values in found.items()}

    def quantities(self, data: Observation, n_draws: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Draws of every quantity, {name: (n, n_draws) float32}, and chi2 of the best draw, (n,); in bounded memory."""
        names, chi2 = quantity_fields(self.survey, self.galaxy_model), np.empty(len(data))
        out = {name: np.empty((len(data), n_draws), dtype=np.float32) for name in names}
        step = max((_BATCH_DRAWS if self.device == "cpu" else _DEVICE_DRAWS) // n_draws, 1)
        for start in range(0, len(data), step):
            part = slice(start, start + step)
            some = data[part]
            with stage("sample"):
                draws = self.sample(some, n_draws, seed)
            chi2[part] = draws.chi2.min(axis=1)
            for name, values in self.derive(draws.theta, draws.redshift).items():
                out[name][part] = values
        return out, chi2

    def redshift_nodes(self, flux: np.ndarray, flux_err: np.ndarray) -> np.ndarray:
        """ln q(u | photometry) at equidistant u = (z - low) / (high - low), (n, n_bins + 1): the photo-z PDF."""
        context = torch.from_numpy(self.redshift_features(flux, flux_err))
        with torch.no_grad():
            return self.redshift_density.log_nodes(context).numpy()


def save_posterior(posterior: Posterior, folder: "str | Path") -> str:
    """Write a posterior to a folder and return its name; the description comes last, so a torn folder has none."""
    (folder := local(folder)).mkdir(parents=True, exist_ok=True)
    contents = {
        **{_flow_file(i): flow_to_bytes(flow, posterior.architecture) for i, flow in enumerate(posterior.flows)},
        _REDSHIFT: piecewise_to_bytes(posterior.redshift_density),
        _SUPPORT: support_to_bytes(posterior.support),
    }
    for name, content in contents.items():
        write_bytes_atomic(folder / name, content)
    description = _Description(
        format=_FORMAT,
        survey=posterior.survey,
        galaxy_model=posterior.galaxy_model,
        noise=posterior.noise,
        features=posterior.features.to_dict(),
        redshift_features=posterior.redshift_features.to_dict(),
        draws_mass=posterior.draws_mass,
        priors=posterior.priors,
        files={name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        provenance=posterior.provenance,
    )
    write_json_atomic(folder / DESCRIPTION, description.model_dump(mode="json"))
    return hashlib.sha256((folder / DESCRIPTION).read_bytes()).hexdigest()


def _flow_file(i: int) -> str:
    return f"flow-{i}.safetensors" if i else "flow.safetensors"


_loaded: OrderedDict[str, Posterior] = OrderedDict()
_lock = threading.Lock()


def load_posterior(posterior: "str | Path") -> Posterior:
    """A posterior by folder or embedded name, checked against its hashes; kept in memory by content.

    Raises PopcatError if it is missing, damaged, or written by another version of the format.

    >>> load_posterior("sdss").prior.names[:2]
    ('log_mstar_formed', 'beta1')
    """
    folder = posterior_folder(posterior)
    content = _described(folder)
    name = hashlib.sha256(content).hexdigest()
    with _lock:
        if name not in _loaded:
            _loaded[name] = _read(folder, content, name)
            if len(_loaded) > _MAX_LOADED:
                _loaded.popitem(last=False)
        _loaded.move_to_end(name)
        return _loaded[name]


def _described(folder: Path) -> bytes:
    try:
        return read_small(folder / DESCRIPTION, _MOST_BYTES)
    except ValueError as error:
        raise PopcatError(f"posterior {folder}: {DESCRIPTION} is damaged: {error}") from error


def _read(folder: Path, content: bytes, name: str) -> Posterior:
    try:
        stored = json.loads(content)
        if stored.get("format") not in _READ_FORMATS:
            raise PopcatError(f"posterior {folder} has format {stored.get('format')}; this popcat reads 2 to "
                              f"{_FORMAT}: train it again")
        description = _Description.model_validate(stored)
        features = Features.from_dict(description.features)
        redshift_features = Features.from_dict(description.redshift_features)
    except pydantic.ValidationError as error:
        raise PopcatError(f"posterior {folder}: {DESCRIPTION} is damaged: {validation_summary(error)}") from error
    except (ValueError, KeyError, AttributeError, TypeError, UnicodeDecodeError, RecursionError) as error:
        raise PopcatError(f"posterior {folder}: {DESCRIPTION} is damaged: {error}") from error
    noise = check_noise(description.noise, description.survey, f"posterior {folder}")
    fewest = 0 if description.provenance.get("proposals") == FITTED else 1
    members = [_flow_file(i) for i in range(max(len(description.files) - 2, fewest))]
    for file in (*members, _REDSHIFT, _SUPPORT):
        require_sha256(folder / file, description.files.get(file, "none"), f"posterior {folder}", "train it anew")
    flows = [flow_from_file(folder / file) for file in members]
    return Posterior(
        description.survey, description.galaxy_model, noise, features, tuple(flow for flow, _ in flows),
        flows[0][1] if flows else None, redshift_features,
        piecewise_from_file(folder / _REDSHIFT), support_from_file(folder / _SUPPORT), description.provenance,
        description.draws_mass, description.priors, description.priors[0], name,
    ).under(description.priors[-1])  # fmt: skip

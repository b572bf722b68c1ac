"""A frozen amortized posterior q(theta | fluxes, errors, redshift): a folder of safetensors and JSON, never a pickle.

The folder holds posterior.json (survey, galaxy model, features, noise, provenance, hash of the weights) and
flow.safetensors. The SHA-256 of posterior.json names the posterior: change anything and the name changes.
"""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import numpy as np
import pydantic
import torch

from popcat import rng
from popcat.catalog.atomic import write_bytes_atomic, write_json_atomic
from popcat.errors import PopcatError, did_you_mean
from popcat.flows.architecture import Architecture
from popcat.flows.sampler import Sampler
from popcat.flows.storage import flow_from_file, flow_to_bytes
from popcat.inference.features import Features
from popcat.noise import NoiseModel, check_noise
from popcat.prior import Prior, make_prior
from popcat.settings import Model, Survey, validation_summary

_FORMAT = 1
_JSON, _FLOW = "posterior.json", "flow.safetensors"
_MAX_LOADED = 4


class _Description(pydantic.BaseModel):
    """What posterior.json holds."""

    model_config = pydantic.ConfigDict(extra="forbid")
    format: int
    survey: Survey
    model: Model
    noise: NoiseModel
    features: dict
    flow_sha256: str
    provenance: dict


@dataclass(frozen=True)
class Posterior:
    """A trained posterior, ready to sample.

    Attributes
    ----------
    survey, model, noise : what it was trained for
    features : photometry to flow context
    flow, architecture : the trained nflows flow and its shape
    provenance : versions, seeds, library, grid hash, validation log-probability
    name : SHA-256 of its description
    """

    survey: Survey
    model: Model
    noise: NoiseModel
    features: Features
    flow: torch.nn.Module
    architecture: Architecture
    provenance: dict
    name: str = ""

    @cached_property
    def prior(self) -> Prior:
        return make_prior(self.model)

    @cached_property
    def sampler(self) -> Sampler:
        return Sampler(self.flow)

    def sample(self, flux, flux_err, redshift, object_id, n_draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws theta (n, n_draws, d) float64, every one inside the prior, and log q of their unconstrained
        coordinates (n, n_draws).

        flux, flux_err are (n, n_band) in nMgy. The noise of draw k of a galaxy depends on (seed, object_id, k) alone,
        so a galaxy's draws are the same in any catalogue and any partition to within float32 rounding (about 1e-5
        standard deviations).
        """
        context, width = torch.from_numpy(self.features(flux, flux_err, redshift)), self.prior.n_unconstrained
        noise = rng.normal(seed, rng.STREAM_FLOW, object_id, n_draws * width).astype(np.float32)
        with _one_thread():
            draws, log_q = self.sampler.transform(
                torch.from_numpy(noise).reshape(-1, n_draws, width), context
            )
        theta = self.prior.from_unconstrained(draws.reshape(-1, width).double().numpy())
        return theta.reshape(-1, n_draws, theta.shape[1]), log_q.numpy()


@contextmanager
def _one_thread() -> Iterator[None]:
    """torch on one thread: Dask does the parallelism, and the sampler's small products do not gain from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def save_posterior(posterior: Posterior, folder: "str | Path") -> str:
    """Write a posterior to a folder and return its name; the description comes last, so a torn folder has none."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = flow_to_bytes(posterior.flow, posterior.architecture)
    write_bytes_atomic(folder / _FLOW, weights)
    description = _Description(
        format=_FORMAT,
        survey=posterior.survey,
        model=posterior.model,
        noise=posterior.noise,
        features=posterior.features.to_dict(),
        flow_sha256=hashlib.sha256(weights).hexdigest(),
        provenance=posterior.provenance,
    )
    write_json_atomic(folder / _JSON, description.model_dump(mode="json"))
    return hashlib.sha256((folder / _JSON).read_bytes()).hexdigest()


def embedded_posteriors() -> list[str]:
    """Names of the posteriors that popcat carries."""
    folder = files("popcat") / "data" / "models"
    return sorted(item.name for item in folder.iterdir()) if folder.is_dir() else []


def posterior_folder(model: "str | Path") -> Path:
    """The folder of a posterior: a path, or the name of an embedded one; PopcatError if there is none."""
    if str(model) in embedded_posteriors():
        return Path(str(files("popcat") / "data" / "models" / str(model)))
    if not (Path(model) / _JSON).is_file():
        raise PopcatError(
            f'no model "{model}": expected a folder that `popcat train` wrote (it holds {_JSON}) or an '
            f"embedded name; {did_you_mean(str(model), embedded_posteriors())}"
        )
    return Path(model)


_loaded: OrderedDict[str, Posterior] = OrderedDict()
_lock = threading.Lock()


def load_posterior(model: "str | Path") -> Posterior:
    """A posterior by folder or embedded name, checked against its hashes; kept in memory by content.

    Raises PopcatError if it is missing, damaged, or written by another version of the format.
    """
    folder = posterior_folder(model)
    content = (folder / _JSON).read_bytes()
    name = hashlib.sha256(content).hexdigest()
    with _lock:
        if name not in _loaded:
            _loaded[name] = _read(folder, content, name)
            if len(_loaded) > _MAX_LOADED:
                _loaded.popitem(last=False)
        _loaded.move_to_end(name)
        return _loaded[name]


def _read(folder: Path, content: bytes, name: str) -> Posterior:
    try:
        stored = json.loads(content)
        if stored.get("format") != _FORMAT:
            raise PopcatError(
                f"model {folder} has format {stored.get('format')}; this popcat reads {_FORMAT}: train it again"
            )
        description = _Description.model_validate(stored)
        features = Features.from_dict(description.features)
    except pydantic.ValidationError as error:
        raise PopcatError(f"model {folder}: {_JSON} is damaged: {validation_summary(error)}") from error
    except (ValueError, KeyError, AttributeError, UnicodeDecodeError) as error:
        raise PopcatError(f"model {folder}: {_JSON} is damaged: {error}") from error
    noise = check_noise(description.noise, description.survey, f"model {folder}")
    _check_weights(folder / _FLOW, description.flow_sha256)
    flow, architecture = flow_from_file(folder / _FLOW)
    return Posterior(
        description.survey,
        description.model,
        noise,
        features,
        flow,
        architecture,
        description.provenance,
        name,
    )


def _check_weights(path: Path, expected: str) -> None:
    if not path.is_file():
        raise PopcatError(f"model {path.parent} has no {path.name}: copy the whole folder again")
    got = hashlib.sha256(path.read_bytes()).hexdigest()
    if got != expected:
        raise PopcatError(
            f"model {path.parent}: {path.name} is not the one it was saved with (SHA-256 {got[:12]}, "
            f"expected {expected[:12]}): copy the folder again or train it anew"
        )

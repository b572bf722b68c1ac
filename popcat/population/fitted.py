"""A fitted population: a weighted mixture of flows, kept as a folder of safetensors and JSON.

population.json has the survey, the galaxy model, noise, cuts, settings, how each member fared, and the hash of every
other file; flow-<e>.safetensors are the members. samples.parquet and report.html are made from it.

As the prior of single galaxies (`population_prior`) it weights their draws by population / training prior.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pydantic
import torch

from popcat.display import Displayed, listed
from popcat.errors import PopcatError
from popcat.files import read_json, require_sha256, sha256_of, write_bytes_atomic, write_json_atomic
from popcat.flows.architecture import Architecture, flow_from_file, flow_to_bytes
from popcat.forward.noise import Noise, check_noise
from popcat.galaxy_model import GalaxyModel, RecordedGalaxyModel
from popcat.paths import local
from popcat.population.cuts import Cut, Cuts
from popcat.population.settings import PopulationSettings
from popcat.population.synthesis import Space, draw, log_density, log_standard_normal
from popcat.prior import Prior, make_prior
from popcat.settings import sha256_of_json, validation_summary
from popcat.survey import Survey

JSON = "population.json"
_FORMAT = 1
_CHUNK = 20_000


class Member(pydantic.BaseModel):
    """How one flow of an ensemble fared; a failed one has no score and no weight."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
    number: int
    seed: int
    score: float | None = None
    """On held-out galaxies, lower is better: sliced distance, or -ln L a galaxy."""
    weight: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    steps: int = 0
    failure: str = ""


class Description(pydantic.BaseModel):
    """What population.json holds."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
    format: int = _FORMAT
    survey: Survey
    # "model" in older files
    galaxy_model: RecordedGalaxyModel = pydantic.Field(validation_alias=pydantic.AliasChoices("galaxy_model", "model"))
    noise: Noise
    cuts: tuple[dict, ...]
    route: str
    settings: PopulationSettings
    members: tuple[Member, ...]
    measured: dict = {}
    """Galaxies, sampling floor, distance, features of the distance."""
    provenance: dict = {}
    files: dict[str, str] = {}


@dataclass(frozen=True, repr=False)
class Population(Displayed):
    """A fitted population, ready to sample.

    flows : of the members with a weight, in their order. architecture : their shape. name : see `name_of`.
    """

    description: Description
    flows: tuple[torch.nn.Module, ...]
    architecture: Architecture
    name: str = field(default="")

    def _title(self) -> str:
        return f"Population {self.name[:8]} of survey {self.survey.name}"

    def _facts(self) -> dict[str, object]:
        made, measured, (low, high) = self.description, self.description.measured, self.survey.redshift_range
        found = {
            "bands": listed(self.survey.band_names, 20),
            "redshift": f"{low:g} to {high:g}",
            "cuts": "; ".join(str(cut) for cut in self.cuts.cuts) or "none",
            "fitted to": made.route,
            "galaxies": f"{measured['galaxies']:,}" if "galaxies" in measured else "",
            "flows": f"{len(self.flows)} of {len(made.members)} members",
            "parameters": listed(self.space.prior.names, 20),
        }
        return {name: value for name, value in found.items() if value}

    @property
    def survey(self) -> Survey:
        return self.description.survey

    @property
    def galaxy_model(self) -> GalaxyModel:
        return self.description.galaxy_model

    @property
    def weights(self) -> np.ndarray:
        """Of the flows, summing to one."""
        values = np.array([member.weight for member in self.description.members if member.weight > 0.0])
        return values / values.sum()

    @property
    def cuts(self) -> Cuts:
        return Cuts(self.survey.band_names, tuple(Cut(**cut) for cut in self.description.cuts))

    @cached_property
    def space(self) -> Space:
        return Space(make_prior(self.galaxy_model), self.survey.redshift_range)

    def draw(self, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """x (n, d) float32 of the whole mixture, and the number of each draw's member (n,), in order of the members."""
        member = np.sort(np.random.default_rng((seed, 3)).choice(len(self.flows), size=n, p=self.weights))
        noise = torch.randn(n, self.space.n_dim, generator=torch.Generator().manual_seed(seed))
        parts = [_chunked(draw, flow, noise[member == e]) for e, flow in enumerate(self.flows)]
        return torch.cat(parts).numpy(), member

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """ln q (n,) of x (n, d): of the unconstrained coordinates."""
        x = torch.as_tensor(np.asarray(x, dtype=np.float32))
        each = torch.stack([_chunked(log_density, flow, x) for flow in self.flows])
        return torch.logsumexp(each.double() + torch.log(torch.as_tensor(self.weights))[:, None], 0).numpy()


def _chunked(call, flow, values):
    with torch.no_grad():
        return torch.cat([call(flow, part) for part in values.split(_CHUNK)]) if len(values) else values


def name_of(description: Description) -> str:
    """SHA-256 of a description without where its data lay and how long it took: the same fit has the same name."""
    content = description.model_dump(mode="json", exclude={"provenance", "measured", "members"})
    content["model"] = content.pop("galaxy_model")  # as in older files, so that names stay
    del content["settings"]["second_start"]  # it decides nothing about the flows
    content["members"] = [member.model_dump(exclude={"seconds", "cpu_seconds"}) for member in description.members]
    return sha256_of_json(content)


def save_population(population: Population, folder: "str | Path") -> None:
    """Write a population; the description comes last, so a torn folder has none."""
    folder = local(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kept = [member.number for member in population.description.members if member.weight > 0.0]
    files = {}
    for number, flow in zip(kept, population.flows, strict=True):
        name = f"flow-{number}.safetensors"
        write_bytes_atomic(folder / name, flow_to_bytes(flow, population.architecture))
        files[name] = sha256_of(folder / name)
    description = population.description.model_copy(update={"files": files})
    write_json_atomic(folder / JSON, description.model_dump(mode="json"))


def load_population(folder: "str | Path") -> Population:
    """A population that `popcat population fit` wrote, checked against its hashes.

    Raises PopcatError if there is none, or it is damaged.

    >>> load_population("nowhere")
    Traceback (most recent call last):
    ...
    popcat.errors.PopcatError: no population at nowhere: expected a folder that `popcat population fit` wrote...
    """
    folder = local(folder)
    if not (folder / JSON).is_file():
        raise PopcatError(f"no population at {folder}: expected a folder that `popcat population fit` wrote ({JSON})")
    try:
        description = Description.model_validate(read_json(folder / JSON))
    except (ValueError, UnicodeDecodeError) as error:
        text = validation_summary(error) if isinstance(error, pydantic.ValidationError) else error
        raise PopcatError(f"population {folder}: {JSON} is damaged: {text}") from error
    if description.format != _FORMAT:
        raise PopcatError(f"population {folder} has format {description.format}; this popcat reads {_FORMAT}")
    for name, digest in description.files.items():
        require_sha256(folder / name, digest, f"population {folder}", "fit it again")
    loaded = [flow_from_file(folder / name) for name in description.files]
    if not loaded:
        raise PopcatError(f"population {folder} has no member that was fitted")
    noise = check_noise(description.noise, description.survey, f"population {folder}")
    name = name_of(description)
    description = description.model_copy(update={"noise": noise})
    return Population(description, tuple(flow for flow, _ in loaded), loaded[0][1], name)


_DRAWS, _CELLS = 50_000, 200


@dataclass(frozen=True)
class PopulationPrior:
    """The density of the population in `folder`; picklable, for workers that see the folder.

    name : the hash of the population that was meant.
    """

    folder: str
    name: str

    @cached_property
    def population(self) -> Population:
        """The population; PopcatError if the folder holds another one by now."""
        found = load_population(self.folder)
        if found.name != self.name:
            raise PopcatError(f"population {self.folder} changed during the run: expected {self.name[:12]}, found "
                              f"{found.name[:12]}")  # fmt: skip
        return found

    def log_ratio(self, draws: Mapping[str, np.ndarray], is_free: np.ndarray) -> np.ndarray:
        """ln population / training prior, (n, k), of draws by name, each (n, k); is_free (n,): redshift inferred.

        Where the redshift is given it is that of p(theta | z).
        """
        names = self.population.space.prior.names
        shape = np.shape(draws["redshift"])
        theta = np.column_stack([np.asarray(draws[name], dtype=float).ravel() for name in names])
        x = self.population.space.unconstrained(theta, np.ravel(draws["redshift"]))
        ratio = self.population.log_density(x) - log_standard_normal(torch.from_numpy(x)).double().numpy()
        of_redshift = np.interp(x[:, -1], *self._redshift_ratio)
        return ratio.reshape(shape) - np.where(np.asarray(is_free)[:, None], 0.0, of_redshift.reshape(shape))

    def __getstate__(self):
        return {"folder": self.folder, "name": self.name}

    @cached_property
    def _redshift_ratio(self) -> tuple[np.ndarray, np.ndarray]:
        """ln of the population's p(z) over the flat one, at nodes of the redshift's coordinate: smoothed counts."""
        from scipy.ndimage import gaussian_filter1d

        x, _ = self.population.draw(_DRAWS, 1)
        edges = np.linspace(-5.0, 5.0, _CELLS + 1)
        middle = 0.5 * (edges[1:] + edges[:-1])
        density = gaussian_filter1d(np.histogram(x[:, -1], edges, density=True)[0], 2.0)
        return middle, np.log(np.maximum(density, 1e-12)) + 0.5 * middle**2 + 0.5 * np.log(2.0 * np.pi)


def population_prior(folder: "str | Path", prior: Prior, redshift_range: tuple[float, float]) -> PopulationPrior:
    """A population as the new prior of draws that were made under `prior`.

    Raises PopcatError where the population's range is not that of the training prior: beyond it there are no draws.
    """
    population = load_population(folder)
    own = population.space
    if own.prior.names != prior.names or own.prior.weights != prior.weights:
        raise PopcatError(f"population {folder} is of another galaxy model: expected the parameters "
                          f"{', '.join(prior.names)}")  # fmt: skip
    if own.prior != prior or not np.allclose(own.redshift_range, redshift_range):
        raise PopcatError(
            f"population {folder} was fitted with other priors, or in another range of redshift "
            f"({own.redshift_range}), than the catalogue's training prior ({tuple(redshift_range)}): outside there are "
            "no draws; fit the population with the catalogue's survey and galaxy model"
        )
    return PopulationPrior(str(Path(folder).absolute()), population.name)

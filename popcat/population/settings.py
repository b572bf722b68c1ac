"""What the user decides about a population fit: the flow, the distance, the steps."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from popcat.display import Displayed
from popcat.errors import PopcatError, did_you_mean
from popcat.flows.settings import Training
from popcat.paths import path_of
from popcat.settings import parse_toml, validation_summary

Batch = Annotated[int, pydantic.Field(ge=16)]


class PopulationSettings(Displayed, pydantic.BaseModel):
    """How the flows of a population are fitted; the defaults are for two cores, `published` is PopSED's recipe."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
    members: int = pydantic.Field(default=5, ge=1)
    n_blocks: int = pydantic.Field(default=6, ge=1)
    hidden: int = pydantic.Field(default=64, ge=16)
    n_layers: int = pydantic.Field(default=1, ge=1)
    n_bins: int = pydantic.Field(default=8, ge=2)
    learning_rate: float = pydantic.Field(default=1e-3, gt=0)
    """The highest of a one-cycle schedule."""
    average: float = pydantic.Field(default=0.05, ge=0, lt=1)
    """Weights are averaged over about this share of all steps."""
    clip_norm: float = pydantic.Field(default=5.0, gt=0)
    steps: int = pydantic.Field(default=1800, ge=0)
    """Of the Wasserstein route."""
    batch: tuple[Batch, Batch] = (2000, 14_000)
    """Synthetic galaxies a step, from the first step to the last, geometrically: a small batch finds the way, but in
    the end its quantiles are off by more than what is left to learn."""
    loss: Literal["sliced", "sinkhorn"] = "sliced"
    projections: int = pydantic.Field(default=64, ge=1)
    """Random directions a step of the sliced distance, beside magnitudes and colours themselves."""
    power: Literal[1, 2] = 1
    """p of the Wasserstein distance."""
    sinkhorn_batch: int = pydantic.Field(default=1000, ge=16)
    """Galaxies of either kind a step of the Sinkhorn divergence, whose cost grows with their square."""
    blur: tuple[pydantic.PositiveFloat, pydantic.PositiveFloat] = (0.3, 0.01)
    """Of the Sinkhorn divergence, from the first step to the last, geometrically; in scaled features."""
    noise_scale: tuple[pydantic.NonNegativeFloat, pydantic.NonNegativeFloat] = (1.0, 1.0)
    """Synthetic noise in units of the survey's, from the first step to the middle one."""
    max_hidden: float = pydantic.Field(default=0.65, ge=0, le=1)
    """Share of the population that may lie beyond the cuts at no cost. Some must: noise brings galaxies from beyond
    into the sample, the more of them the larger it is at the cut. Of more of it the data say nothing."""
    redshifts: Literal["ignored", "distance", "distribution"] = "ignored"
    """Known redshifts: a further dimension of the distance (galaxies without one are left out), or only their
    distribution, for which those of some galaxies will do if they are a fair sample of all."""
    error_floors: Literal["ignored", "scatter"] = "ignored"
    """The survey's error floors are for what the galaxy model gets wrong, alike in all galaxies of a kind: as noise of
    synthetic galaxies they would make them scatter more than the observed. Its `template_error` is left out either
    way."""
    held_out: float = pydantic.Field(default=0.1, gt=0, lt=0.5)
    check_every: int = pydantic.Field(default=100, ge=1)
    """Steps between two validations on the held-out galaxies, and two checkpoints."""
    patience: int = pydantic.Field(default=24, ge=1)
    """Validations without gain after which a fit stops."""
    start_steps: int = pydantic.Field(default=800, ge=0)
    """Of the start, in which the flow learns a reweighted library, or of the hierarchical route; 0: no start."""
    start_batch: int = pydantic.Field(default=2048, ge=16)
    library: int = pydantic.Field(default=100_000, ge=500)
    """Galaxies of the start's library."""
    rounds: int = pydantic.Field(default=3, ge=1)
    iterations: int = pydantic.Field(default=8, ge=0)
    """Rounds of so many reweightings of it towards the data; between two of them its galaxies are made distinct."""
    start_prior: str | None = None
    """Where the fit starts in what photometry leaves open (popcat.population.start): "physical", "wide", "flat"
    (the training prior), or a TOML file of `popcat reweight`. None: physical from photometry, wide from posteriors."""
    second_start: str | None = None
    """Where a second, shorter fit starts, as `start_prior`: what differs between the two is what the data do not
    measure (popcat.population.second). "none": no second fit. None: the training prior, or for a fit that starts there
    the physical one (from posteriors the wide one)."""
    stack_share: float = pydantic.Field(default=0.2, ge=0, le=1)
    """Of the hierarchical steps, the first ones, in which the flow learns the posteriors stacked under that prior."""
    start_learning_rate: float = pydantic.Field(default=4e-3, gt=0)
    galaxies: int = pydantic.Field(default=64, ge=1)
    """A step of the hierarchical route."""
    seed: int = pydantic.Field(default=0, ge=0)

    def _facts(self) -> dict[str, object]:
        fields = type(self).model_fields
        changed = [f"{name} = {getattr(self, name)}" for name in fields if getattr(self, name) != fields[name].default]
        return {
            "flow": f"{self.n_blocks} blocks of {self.n_layers} x {self.hidden} units",
            "members": self.members,
            "steps": f"{self.start_steps} of the start, {self.steps} of the {self.loss} distance",
            "redshifts": self.redshifts,
            "second start": self.second_start or "another one than the first",
            "not default": "; ".join(changed) or "none",
        }

    def training(self, **changes) -> Training:
        """The settings of the flow and of its training, with changes."""
        names = ("n_blocks", "hidden", "n_layers", "n_bins", "learning_rate", "average", "clip_norm", "patience",
                 "seed")  # fmt: skip
        own = {name: getattr(self, name) for name in names}
        return Training(**{"family": "coupling", "activation": "silu"} | own | changes)


PUBLISHED = {"members": 10, "n_blocks": 20, "hidden": 100, "n_layers": 2, "learning_rate": 3e-4, "steps": 900,
             "loss": "sinkhorn", "sinkhorn_batch": 5000, "blur": (0.3, 0.002), "average": 0.0}  # fmt: skip
"""PopSED's flow, distance and schedule (Li et al. 2023)."""
_PRESETS = {"default": {}, "published": PUBLISHED}


def population_settings(path: Path | None = None, preset: str = "default", changes: dict | None = None):
    """Settings of a preset, with those of a TOML file in their place, and with changes.

    Raises PopcatError for an unknown preset, key or value.

    >>> population_settings(preset="published", changes={"members": 2}).n_blocks
    20
    """
    if preset not in _PRESETS:
        raise PopcatError(f'no population preset "{preset}"; {did_you_mean(preset, list(_PRESETS))}')
    if path is not None and not path_of(path).is_file():
        raise PopcatError(f"no population settings at {path}: expected a TOML file")
    given = {} if path is None else parse_toml(PopulationSettings, path_of(path)).model_dump(exclude_unset=True)
    try:
        return PopulationSettings(**(_PRESETS[preset] | given | (changes or {})))
    except pydantic.ValidationError as error:
        raise PopcatError(f"population settings: {validation_summary(error)}") from error

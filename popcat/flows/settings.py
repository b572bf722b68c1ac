"""How a flow is trained."""

from pathlib import Path
from typing import Any, Literal

import pydantic

from popcat.display import Displayed
from popcat.errors import PopcatError, did_you_mean
from popcat.settings import Settings, settings_of, validation_summary


class Training(Displayed, Settings):
    """How a flow is trained."""

    family: Literal["maf", "spline", "coupling"] = "maf"
    """Kind of flow: masked autoregressive (maf), autoregressive with splines (spline), or coupling with splines."""
    n_blocks: int = pydantic.Field(default=8, ge=1)
    """Number of blocks of the flow. More: more flexible and slower."""
    hidden: int = pydantic.Field(default=128, ge=16)
    """Units of each hidden layer."""
    n_layers: int = pydantic.Field(default=2, ge=1)
    """Hidden layers of each block."""
    batch: int = pydantic.Field(default=1024, ge=2)
    """Galaxies in each step of the training."""
    learning_rate: float = pydantic.Field(default=4e-3, gt=0)
    """Highest learning rate of the schedule."""
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    """How the learning rate changes during the training."""
    max_epochs: int = pydantic.Field(default=60, ge=1)
    """Largest number of passes over the library."""
    patience: int = pydantic.Field(default=20, ge=1)
    """The training ends after so many epochs without a better validation."""
    validation_fraction: float = pydantic.Field(default=0.05, gt=0, lt=0.5)
    """Fraction of the library that is held out for the validation."""
    clip_norm: float = pydantic.Field(default=5.0, gt=0)
    """Largest norm of the gradient in a step."""
    average: float = pydantic.Field(default=0.01, ge=0, lt=1)
    """Weights are averaged over about this share of all steps; 0 keeps those of the last step."""
    activation: Literal["relu", "silu"] = "silu"
    """Activation function of the hidden layers."""
    members: int = pydantic.Field(default=1, ge=1)
    """Flows trained apart and sampled as a mixture."""
    n_bins: int = pydantic.Field(default=8, ge=2)
    """Bins of each spline of the families "spline" and "coupling"."""
    redshift_bins: int = pydantic.Field(default=160, ge=2)
    """Nodes of the tabulated density of the redshift."""
    redshift_hidden: int = pydantic.Field(default=192, ge=8)
    """Units of each hidden layer of its network."""
    redshift_epochs: int = pydantic.Field(default=20, ge=1)
    """Passes over the library for its training."""
    complete_fraction: float = pydantic.Field(default=0.5, gt=0.0, le=1.0)
    """Of the training galaxies this fraction has every band; the others miss a random subset."""
    seed: int = 0
    """Seed of weights, noise and batches."""

    @classmethod
    def preset(cls, name: str, **changes: Any) -> "Training":
        """Settings by name, with changes: "default", or "published", the recipe of SEDflow (Hahn & Melchior 2022).

        Raises PopcatError if there is no such preset.

        >>> Training.preset("published").n_blocks
        15
        """
        if name not in _PRESETS:
            raise PopcatError(f'no training preset "{name}"; {did_you_mean(name, list(_PRESETS))}')
        return cls(**(_PRESETS[name] | changes))

    @classmethod
    def chosen(cls, path: "Path | None" = None, preset: str = "default", changes: dict | None = None) -> "Training":
        """Settings of a preset, with those of a TOML file in their place, and with changes.

        Raises PopcatError for an unknown preset, key or value, or a file that is not there.

        >>> Training.chosen(preset="published", changes={"members": 2}).n_blocks
        15
        """
        given = {} if path is None else settings_of(cls, path, "training").model_dump(exclude_unset=True)
        try:
            return cls.preset(preset, **(given | (changes or {})))
        except pydantic.ValidationError as error:
            raise PopcatError(f"training settings: {validation_summary(error)}") from error

    def _facts(self) -> dict[str, object]:
        return {
            "flow": f"{self.family}, {self.n_blocks} blocks of {self.n_layers} x {self.hidden} units",
            "members": self.members,
            "batch": f"{self.batch} galaxies",
            "learning rate": f"{self.learning_rate:g}, {self.schedule}",
            "epochs": f"at most {self.max_epochs}, {self.patience} without gain",
            "redshift": f"{self.redshift_bins} bins, {self.redshift_hidden} units, {self.redshift_epochs} epochs",
            "seed": self.seed,
        }


# The published training ran until its validation loss had not fallen for 20 epochs; 1,000 stands for no limit.
_PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "published": {
        "n_blocks": 15, "hidden": 500, "n_layers": 2, "batch": 50, "learning_rate": 5e-4, "schedule": "constant",
        "max_epochs": 1000, "patience": 20, "validation_fraction": 0.1, "average": 0.0, "activation": "relu",
    },
}  # fmt: skip

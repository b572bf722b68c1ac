"""A conditional density on the unit interval, linear between equidistant nodes: for one variable with several modes.

A multilayer perceptron takes the context to the logarithms of the density at the nodes; the normalisation is the
trapezoid sum, exactly. One variable needs no autoregression and no base distribution, and multiplying its density by
a likelihood, or inverting its distribution function, is elementary.
"""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pydantic
import safetensors
import safetensors.torch
import torch
from torch import nn

from popcat.errors import PopcatError
from popcat.flows.architecture import seeded, stored_tensors
from popcat.flows.optimizer import backward
from popcat.flows.settings import Training
from popcat.flows.training import EpochData, History, Pairs, train_density


class PiecewiseShape(pydantic.BaseModel):
    """Shape of a `PiecewiseDensity`: nodes are 0, 1 / n_bins, ..., 1."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
    context: int = pydantic.Field(ge=1)
    n_bins: int = pydantic.Field(ge=2)
    hidden: int = pydantic.Field(ge=1)
    n_layers: int = pydantic.Field(ge=1)


class PiecewiseDensity(nn.Module):
    """q(u | context) on 0 <= u <= 1."""

    def __init__(self, shape: PiecewiseShape):
        super().__init__()
        self.shape = shape
        widths = [shape.context, *[shape.hidden] * shape.n_layers]
        layers = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), nn.SiLU())]
        self.net = nn.Sequential(*layers, nn.Linear(shape.hidden, shape.n_bins + 1))

    def log_nodes(self, context: torch.Tensor) -> torch.Tensor:
        """ln q at the nodes, (n, n_bins + 1), for context (n, n_context).

        >>> density = PiecewiseDensity(PiecewiseShape(context=1, n_bins=4, hidden=8, n_layers=1))
        >>> q = density.log_nodes(torch.zeros(1, 1)).exp()
        >>> float(torch.trapezoid(q, dx=0.25).detach().round(decimals=5))
        1.0
        """
        raw = self.net(context)
        ends = torch.zeros_like(raw[:1])
        ends[:, 0] = ends[:, -1] = -_LN_2
        return raw - torch.logsumexp(raw + ends, dim=1, keepdim=True) + torch.log(raw.new_tensor(self.shape.n_bins))

    def log_prob(self, u: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """ln q(u | context), (n,), for u (n, 1)."""
        nodes = self.log_nodes(context)
        at = u[:, 0].clamp(0.0, 1.0) * self.shape.n_bins
        left = at.long().clamp(max=self.shape.n_bins - 1)
        fraction = at - left
        low, high = (nodes.gather(1, (left + k)[:, None])[:, 0] for k in (0, 1))
        # ln of the linear interpolation, stable whatever the size of q
        top = torch.maximum(low, high)
        return top + torch.log((1.0 - fraction) * torch.exp(low - top) + fraction * torch.exp(high - top))


_LN_2 = 0.6931471805599453


def train_piecewise(
    shape: PiecewiseShape,
    epoch_data: EpochData,
    validation: Pairs,
    settings: Training,
    *,
    epoch_size: int | None = None,
    checkpoint: "Path | None" = None,
    data_id: str = "",
    device: str = "cpu",
    report: Callable[[int, History], None] = lambda epoch, history: None,
) -> tuple[PiecewiseDensity, History]:
    """A trained density, on the CPU and in evaluation mode, and its History: as `train_flow` trains a flow, for
    `redshift_epochs` passes.

    Pairs are u (n, 1) and context (n, n_context).

    Raises PopcatError if no epoch has a finite validation log-probability.
    """
    with seeded(settings.seed):
        density = PiecewiseDensity(shape)
    return train_density(
        density, _Autograd, epoch_data, validation,
        settings.model_copy(update={"max_epochs": settings.redshift_epochs}), epoch_size=epoch_size,
        checkpoint=checkpoint, identity={"shape": shape.model_dump(), "data": data_id}, device=device, report=report,
    )  # fmt: skip


class _Autograd:
    """What a training asks of a density, by torch's own gradients."""

    def __init__(self, density: PiecewiseDensity):
        self.density = density
        self.log_prob = density.log_prob

    def loss_and_gradients(self, u, context) -> torch.Tensor:
        return backward(self.density, -self.density.log_prob(u, context).mean())


def piecewise_to_bytes(density: PiecewiseDensity) -> bytes:
    """Weights as a safetensors file with the shape in its header."""
    return safetensors.torch.save(stored_tensors(density), metadata={"shape": density.shape.model_dump_json()})


def piecewise_from_file(path) -> PiecewiseDensity:
    """A density that `piecewise_to_bytes` stored, in evaluation mode; PopcatError if the file holds none."""
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            shape = PiecewiseShape.model_validate(json.loads(file.metadata()["shape"]))
        density = PiecewiseDensity(shape)
        density.load_state_dict(safetensors.torch.load_file(str(path)))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise PopcatError(f"{path} holds no density that popcat stored: {error}") from error
    return density.eval()

"""A conditional density on the unit interval, linear between equidistant nodes: for one variable with several modes.

A multilayer perceptron takes the context to the logarithms of the density at the nodes; the normalisation is the
trapezoid sum, exactly. One variable needs no autoregression and no base distribution, and multiplying its density by
a likelihood, or inverting its distribution function, is elementary.
"""

import itertools
import json
import time
from collections.abc import Callable

import pydantic
import safetensors
import safetensors.torch
import torch
from torch import nn

from popcat.errors import PopcatError
from popcat.flows.batches import EpochData, Pairs, batches
from popcat.flows.optimizer import Optimizer
from popcat.flows.training import History
from popcat.settings import Training


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
    device: str = "cpu",
    report: Callable[[int, History], None] = lambda epoch, history: None,
) -> tuple[PiecewiseDensity, History]:
    """A trained density, on the CPU and in evaluation mode, and its History: as `train_flow` trains a flow.

    epoch_data gives u (n, 1) and context (n, n_context). Takes `redshift_epochs` passes; the averaged weights of the
    best epoch on `validation` are kept.

    Raises PopcatError if no epoch has a finite validation log-probability.
    """
    torch.manual_seed(settings.seed)
    density = PiecewiseDensity(shape).to(device)
    validation = [values.to(device) for values in validation]
    history, best, optimizer, start = History(), None, None, time.monotonic()
    for epoch in range(settings.redshift_epochs):
        data = epoch_data(epoch)
        n_batch = max(len(data[0]) // settings.batch, 1)
        optimizer = optimizer or Optimizer(density, settings, n_batch * settings.redshift_epochs)
        shuffled = batches(data, settings.batch, 1_000_003 * settings.seed + epoch, device)
        train = _epoch(density, optimizer, shuffled)
        with optimizer.averaged(), torch.no_grad():
            value = density.log_prob(*validation).mean().item()
        if history.add(train, value, time.monotonic() - start):
            best = optimizer.average.clone()
        report(epoch, history)
    if best is None:
        raise PopcatError(
            f"training of the redshift diverged: got validation log-probabilities {history.validation}; "
            f"lower the learning_rate ({settings.learning_rate:g})"
        )
    trained = PiecewiseDensity(shape)
    torch.nn.utils.vector_to_parameters(best.cpu(), trained.parameters())
    return trained.eval(), history


def _epoch(density, optimizer, shuffled) -> float:
    values = []
    for u, context in shuffled:
        optimizer.gradients.zero_()
        loss = -density.log_prob(u, context).mean()
        loss.backward()
        optimizer.step()
        values.append(-loss.item())
    return sum(values) / max(len(values), 1)


def piecewise_to_bytes(density: PiecewiseDensity) -> bytes:
    """Weights as a safetensors file with the shape in its header."""
    return safetensors.torch.save(density.state_dict(), metadata={"shape": density.shape.model_dump_json()})


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

"""Adam on all weights of a flow at once: clipping, learning rate schedule, and a moving average of the weights.

Learning rate and Adam's momentum over a training, as functions of its progress from 0 to 1.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from popcat.flows.settings import Training


class Optimizer:
    """Holds the weights of a flow as one vector, and steps it.

    Attributes
    ----------
    weights, gradients : one vector each; the flow's parameters and their gradients are views of them
    average : exponential moving average of the weights over about `settings.average` of all steps
    n_steps, total_steps : taken, and the length of the schedule
    """

    def __init__(self, flow: torch.nn.Module, settings: Training, total_steps: int):
        self.weights, self.gradients = _flatten(flow)
        self.average = self.weights.clone()
        self.n_steps, self.total_steps = 0, total_steps
        self._settings, self._schedule = settings, SCHEDULES[settings.schedule]
        self._parameter = torch.nn.Parameter(self.weights)
        self._parameter.grad = self.gradients
        self._adam = torch.optim.Adam([self._parameter], lr=settings.learning_rate, fused=True)

    def step(self) -> None:
        """One step along the gradients, which are scaled to at most `clip_norm` first."""
        norm = torch.linalg.vector_norm(self.gradients)
        self.gradients.mul_((self._settings.clip_norm / (norm + 1e-6)).clamp(max=1.0))
        rate, momentum = self._schedule(self.n_steps / max(self.total_steps - 1, 1))
        group = self._adam.param_groups[0]
        group["lr"], group["betas"] = rate * self._settings.learning_rate, (momentum, 0.999)
        self._adam.step()
        self.average.lerp_(self.weights, self._average_weight())
        self.n_steps += 1

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The flow has the averaged weights meanwhile."""
        latest = self.weights.clone()
        self.weights.copy_(self.average)
        try:
            yield
        finally:
            self.weights.copy_(latest)

    def state(self) -> dict[str, torch.Tensor]:
        """All that the next step depends on, but the settings and the numbers of steps."""
        adam = self._adam.state[self._parameter]
        moments = {f"adam.{name}": adam[name] for name in ("step", "exp_avg", "exp_avg_sq")}
        return {"weights": self.weights, "average": self.average, **moments}

    def restore(self, state: dict[str, torch.Tensor], n_steps: int) -> None:
        """Go on from a `state`."""
        self.weights.copy_(state["weights"])
        self.average.copy_(state["average"])
        moments = {name: state[f"adam.{name}"].to(self.weights.device) for name in ("step", "exp_avg", "exp_avg_sq")}
        self._adam.state[self._parameter] = moments
        self.n_steps = n_steps

    def _average_weight(self) -> float:
        """Weight of the newest; the first steps, far from the best, are forgotten soon."""
        return max(1 / (self._settings.average * self.total_steps + 1), 9 / (self.n_steps + 10))


def _flatten(flow) -> tuple[torch.Tensor, torch.Tensor]:
    """Make a flow's parameters, and their gradients, views of one vector each."""
    parameters = list(flow.parameters())
    weights = torch.cat([value.detach().reshape(-1) for value in parameters])
    gradients = torch.zeros_like(weights)
    start = 0
    for value in parameters:
        part = slice(start, start + value.numel())
        value.data, value.grad = weights[part].view_as(value), gradients[part].view_as(value)
        start = part.stop
    return weights, gradients


_START, _END = 1 / 25, 1e-4 / 25
"""Learning rate at the start and the end of a cycle, as shares of the highest (as in torch's OneCycleLR)."""
_CYCLE_WARM_UP, _COSINE_WARM_UP = 0.1, 0.02
_MOMENTUM_HIGH, _MOMENTUM, _MOMENTUM_LOW = 0.95, 0.9, 0.85


def one_cycle(progress: float) -> tuple[float, float]:
    """Up over a tenth, then down; the momentum the other way (Smith 2018): (share of the highest rate, momentum).

    >>> one_cycle(0.1)
    (1.0, 0.85)
    """
    if progress < _CYCLE_WARM_UP:
        share = progress / _CYCLE_WARM_UP
        return _cosine(_START, 1.0, share), _cosine(_MOMENTUM_HIGH, _MOMENTUM_LOW, share)
    share = min((progress - _CYCLE_WARM_UP) / (1 - _CYCLE_WARM_UP), 1.0)
    return _cosine(1.0, _END, share), _cosine(_MOMENTUM_LOW, _MOMENTUM_HIGH, share)


def cosine(progress: float) -> tuple[float, float]:
    """A short straight warm-up, then half a cosine to zero."""
    if progress < _COSINE_WARM_UP:
        return progress / _COSINE_WARM_UP, _MOMENTUM
    return _cosine(1.0, 0.0, min((progress - _COSINE_WARM_UP) / (1 - _COSINE_WARM_UP), 1.0)), _MOMENTUM


def constant(progress: float) -> tuple[float, float]:
    """The same throughout, as the published recipe has it."""
    return 1.0, _MOMENTUM


SCHEDULES = {"one_cycle": one_cycle, "cosine": cosine, "constant": constant}


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))

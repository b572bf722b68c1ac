"""torch's Adam, learning rate schedules, clipping and moving average, on all weights of a module as one vector."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.utils import clip_grad_norm_, parameters_to_vector, vector_to_parameters
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from popcat.flows.settings import Training


class Optimizer:
    """Holds the weights of a module as one vector, and steps it.

    One vector, because the eighty tensors of a flow would cost each of torch's parts as many calls.

    Attributes
    ----------
    weights, gradients : one vector each; the module's parameters and their gradients are views of them
    average : exponential moving average of the weights over about `settings.average` of all steps
    n_steps : taken
    """

    def __init__(self, module: torch.nn.Module, settings: Training, total_steps: int):
        self._module, self._clip_norm, self._total_steps = module, settings.clip_norm, total_steps
        self.weights, self.gradients = _flatten(module)
        self._flat = torch.nn.ParameterList([torch.nn.Parameter(self.weights)])
        self._flat[0].grad = self.gradients
        self._adam = torch.optim.Adam(self._flat.parameters(), lr=settings.learning_rate, fused=True)
        self._schedule = SCHEDULES[settings.schedule](self._adam, settings.learning_rate, max(total_steps, 2))
        self._window, self.n_steps = settings.average * total_steps, 0
        self._averaged = AveragedModel(self._flat, multi_avg_fn=self._move_average)

    @property
    def average(self) -> torch.Tensor:
        return next(self._averaged.parameters()).detach()

    def step(self) -> torch.Tensor:
        """One step along the gradients, scaled to at most `clip_norm`; whether they were finite. If not, they are zero.

        Nothing here waits for a GPU.
        """
        is_finite = torch.isfinite(clip_grad_norm_(self._flat.parameters(), self._clip_norm))
        self.gradients.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        self._adam.step()
        self._averaged.update_parameters(self._flat)
        self.n_steps += 1
        if self.n_steps < self._total_steps:  # later steps have the last rate
            self._schedule.step()
        return is_finite

    def _move_average(self, average, latest, _) -> None:
        """torch's own; but the first steps, far from the best, are forgotten soon."""
        get_ema_multi_avg_fn(1.0 - max(1.0 / (self._window + 1.0), 9.0 / (self.n_steps + 10.0)))(average, latest, _)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The module has the averaged weights meanwhile."""
        latest = self.weights.clone()
        self.weights.copy_(self.average)
        try:
            yield
        finally:
            self.weights.copy_(latest)

    def release(self, weights: torch.Tensor) -> None:
        """Leave the module these weights, no longer views of one vector."""
        self.weights.copy_(weights)
        for value in self._module.parameters():
            value.data, value.grad = value.data.clone(), None

    def state(self) -> tuple[dict[str, torch.Tensor], dict]:
        """All that the next step depends on, but the settings: tensors, and what JSON can hold."""
        adam = self._adam.state_dict()
        tensors = {f"adam.{name}": value for name, value in adam["state"][0].items()}
        tensors |= {f"average.{name}": value for name, value in self._averaged.state_dict().items()}
        header = {"adam": adam["param_groups"], "schedule": self._schedule.state_dict(), "steps_done": self.n_steps}
        return {"weights": self.weights, **tensors}, header

    def restore(self, tensors: dict[str, torch.Tensor], header: dict) -> None:
        """Go on from a `state`."""
        self.weights.copy_(tensors["weights"])
        adam, average = ({name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
                         for start in ("adam.", "average."))  # fmt: skip
        self._adam.load_state_dict({"state": {0: adam}, "param_groups": header["adam"]})
        self._schedule.load_state_dict(header["schedule"])
        self._averaged.load_state_dict(average)
        self.n_steps = header["steps_done"]


def _flatten(module: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Make a module's parameters, and their gradients, views of one vector each."""
    weights = parameters_to_vector(module.parameters()).detach().clone()
    vector_to_parameters(weights, module.parameters())
    gradients = torch.zeros_like(weights)
    for value, gradient in zip(
        module.parameters(), gradients.split([value.numel() for value in module.parameters()]), strict=True
    ):
        value.grad = gradient.view_as(value)
    return weights, gradients


def backward(module: torch.nn.Module, loss: torch.Tensor) -> torch.Tensor:
    """Put the gradients of a loss in the `.grad` of a module's parameters, which are there; the loss as a number."""
    for value in module.parameters():
        value.grad.zero_()
    loss.backward()
    return loss.detach()


_CYCLE_WARM_UP, _COSINE_WARM_UP = 0.1, 0.02


def one_cycle(adam: torch.optim.Optimizer, rate: float, total: int) -> lr_scheduler.LRScheduler:
    """Up over a tenth, then down; the momentum the other way (Smith 2018)."""
    # torch's peak is at step pct_start x total - 1
    peak = (_CYCLE_WARM_UP * (total - 1) + 1) / total
    return lr_scheduler.OneCycleLR(adam, rate, total_steps=total, pct_start=peak)


def cosine(adam: torch.optim.Optimizer, rate: float, total: int) -> lr_scheduler.LRScheduler:
    """A short straight warm-up, then half a cosine to zero."""
    n_up = max(round(_COSINE_WARM_UP * total), 1)
    up = lr_scheduler.LinearLR(adam, start_factor=1.0 / (n_up + 1), total_iters=n_up)
    down = lr_scheduler.CosineAnnealingLR(adam, T_max=max(total - 1 - n_up, 1))
    return lr_scheduler.SequentialLR(adam, [up, down], milestones=[n_up])


def constant(adam: torch.optim.Optimizer, rate: float, total: int) -> lr_scheduler.LRScheduler:
    """The same throughout, as the published recipe has it."""
    return lr_scheduler.ConstantLR(adam, factor=1.0)


SCHEDULES = {"one_cycle": one_cycle, "cosine": cosine, "constant": constant}

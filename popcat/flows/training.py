"""Train a conditional flow: maximum likelihood, one-cycle learning rate, averaged weights, best epoch kept."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from popcat.errors import PopcatError
from popcat.flows.architecture import Architecture, build_flow
from popcat.flows.density import density_of
from popcat.flows.optimizer import Optimizer
from popcat.settings import Training


@dataclass
class History:
    """Mean log-probability per epoch (nats), higher is better, and the epoch that was kept.

    train is of the weights of each step, validation of their average at the end of the epoch.
    """

    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_epoch: int = -1


Batches = Callable[[int], tuple[torch.Tensor, torch.Tensor]]
"""Epoch number -> (theta (n, features), context (n, context)), float32: the training set of that epoch."""


def train_flow(
    architecture: Architecture,
    epoch_data: Batches,
    validation: tuple[torch.Tensor, torch.Tensor],
    settings: Training,
    *,
    device: str = "cpu",
    report: Callable[[int, History], None] = lambda epoch, history: None,
):
    """A trained flow, on the CPU and in evaluation mode, and its History.

    Each epoch is one pass over `epoch_data(epoch)` in random batches. The learning rate follows one cycle over
    max_epochs (Smith 2018); gradients are clipped at clip_norm. A moving average of the weights is what is validated
    and kept; training stops after `patience` epochs without gain.

    Raises PopcatError if no epoch has a finite validation log-probability.
    """
    torch.manual_seed(settings.seed)
    flow = build_flow(architecture).to(device)
    history, best, best_value, optimizer = History(), None, -math.inf, None
    start = time.monotonic()
    for epoch in range(settings.max_epochs):
        theta, context = (values.to(device) for values in epoch_data(epoch))
        if optimizer is None:
            n_batch = max(len(theta) // settings.batch, 1)
            optimizer = Optimizer(flow, settings, n_batch * settings.max_epochs)
        history.train.append(_epoch(flow, optimizer, theta, context, settings.batch))
        history.validation.append(_validate(flow, optimizer, validation, device))
        history.seconds.append(time.monotonic() - start)
        if history.validation[-1] > best_value:
            best_value = history.validation[-1]
            history.best_epoch, best = epoch, optimizer.average.clone()
        report(epoch, history)
        if epoch - history.best_epoch >= settings.patience:
            break
    if best is None:
        raise PopcatError(
            f"training diverged: expected finite validation log-probabilities, got {history.validation}; "
            f"lower the learning_rate ({settings.learning_rate:g})"
        )
    optimizer.weights.copy_(best)
    return _released(flow), history


def _epoch(flow, optimizer, theta, context, batch) -> float:
    """One pass; the mean log-probability on the way."""
    density, total = density_of(flow), torch.zeros((), device=theta.device)
    n_batch = max(len(theta) // batch, 1)
    order = torch.randperm(len(theta), device=theta.device)
    for rows in order[: n_batch * batch].chunk(n_batch):
        total += density.loss_and_gradients(theta[rows], context[rows])
        optimizer.step()
    return -total.item() / n_batch


def _validate(flow, optimizer, validation, device) -> float:
    with optimizer.averaged():
        return mean_log_prob(flow, *validation, device=device)


def mean_log_prob(flow, theta: torch.Tensor, context: torch.Tensor, *, device: str = "cpu", batch: int = 2048) -> float:
    """Mean log-probability of theta given context, in nats."""
    density = density_of(flow)
    pairs = zip(theta.split(batch), context.split(batch), strict=True)
    return sum(density.log_prob(t.to(device), c.to(device)).sum().item() for t, c in pairs) / len(theta)


def _released(flow):
    """The flow on the CPU, in evaluation mode, its parameters no longer views of the optimiser's vectors."""
    for value in flow.parameters():
        value.data, value.grad = value.data.clone(), None
    return flow.to("cpu").eval()

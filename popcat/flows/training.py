"""Train a conditional flow: maximum likelihood, one-cycle learning rate, early stopping, best epoch kept."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from popcat.errors import PopcatError
from popcat.flows.architecture import Architecture, build_flow
from popcat.settings import Training


@dataclass
class History:
    """Mean log-probability per epoch (nats), higher is better, and the epoch that was kept."""

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
    build: Callable[..., torch.nn.Module] = build_flow,
):
    """A trained flow, on the CPU and in evaluation mode, and its History.

    Each epoch is one pass over `epoch_data(epoch)` in random batches. The learning rate follows one cycle over
    max_epochs (Smith 2018); gradients are clipped at clip_norm; training stops after `patience` epochs without gain.
    `build` makes the density from its shape.

    Raises PopcatError if no epoch has a finite validation log-probability.
    """
    torch.manual_seed(settings.seed)
    flow = build(architecture).to(device)
    history, best, best_value = History(), None, -math.inf
    optimizer = torch.optim.Adam(flow.parameters(), lr=settings.learning_rate)
    schedule = None
    start = time.monotonic()
    for epoch in range(settings.max_epochs):
        theta, context = epoch_data(epoch)
        if schedule is None:
            steps = max(len(theta) // settings.batch, 1) * settings.max_epochs
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, settings.learning_rate, total_steps=steps + settings.max_epochs, pct_start=0.1
            )
        history.train.append(_epoch(flow, optimizer, schedule, theta.to(device), context.to(device), settings))
        history.validation.append(mean_log_prob(flow, *validation, device=device))
        history.seconds.append(time.monotonic() - start)
        if history.validation[-1] > best_value:
            best_value = history.validation[-1]
            history.best_epoch, best = epoch, copy.deepcopy(flow.state_dict())
        report(epoch, history)
        if epoch - history.best_epoch >= settings.patience:
            break
    if best is None:
        raise PopcatError(
            f"training diverged: expected finite validation log-probabilities, got {history.validation}; "
            f"lower the learning_rate ({settings.learning_rate:g})"
        )
    flow.load_state_dict(best)
    return flow.to("cpu").eval(), history


def _epoch(flow, optimizer, schedule, theta, context, settings) -> float:
    flow.train()
    order = torch.randperm(len(theta), device=theta.device)
    n_batch = max(len(theta) // settings.batch, 1)
    total = 0.0
    for batch in order[: n_batch * settings.batch].chunk(n_batch):
        optimizer.zero_grad(set_to_none=True)
        loss = -flow.log_prob(theta[batch], context[batch]).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), settings.clip_norm)
        optimizer.step()
        if schedule.last_epoch < schedule.total_steps - 1:
            schedule.step()
        total += loss.item()
    return -total / n_batch


@torch.no_grad()
def mean_log_prob(flow, theta: torch.Tensor, context: torch.Tensor, *, device: str = "cpu", batch: int = 8192) -> float:
    """Mean log-probability of theta given context, in nats."""
    flow.eval()
    pairs = zip(theta.split(batch), context.split(batch), strict=True)
    return sum(flow.log_prob(t.to(device), c.to(device)).sum().item() for t, c in pairs) / len(theta)

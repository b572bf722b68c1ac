"""The loop that both routes share: steps on a random loss, looks at held-out galaxies, the best look kept, checkpoints.

Step i draws its random numbers from (seed, i) alone, so a fit that goes on from a checkpoint ends in the same bits.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from popcat.errors import PopcatError
from popcat.flows.checkpoints import header_of, read_checkpoint, write_checkpoint
from popcat.flows.optimizer import Optimizer
from popcat.settings import Training


@dataclass
class Progress:
    """Looks at a fit: the step, the mean loss since the last look, the held-out score (lower is better), seconds."""

    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best: int = -1

    def add(self, step: int, loss: float, score: float, seconds: float) -> bool:
        """Whether this look is the best."""
        for values, value in zip((self.step, self.loss, self.score, self.seconds), (step, loss, score, seconds),
                                 strict=True):
            values.append(value)
        is_best = math.isfinite(score) and (self.best < 0 or score < self.score[self.best])
        if is_best:
            self.best = len(self.score) - 1
        return is_best


@dataclass(frozen=True)
class Plan:
    """How long a fit goes on, and where it is kept. `made_for` tells its checkpoint from others."""

    n_steps: int
    check_every: int
    patience: int
    training: Training
    checkpoint: Path | None = None
    made_for: dict = field(default_factory=dict)


def fit_flow(
    flow: torch.nn.Module, loss: Callable[[int], torch.Tensor], score: Callable[[], float], plan: Plan,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Progress:  # fmt: skip
    """Fit a flow in place: `loss(step)` is minimised, the averaged weights with the least `score()` are kept.

    Raises PopcatError if no look has a finite score, or the checkpoint is of another fit.
    """
    run = _Run(flow, plan)
    while not run.finished():
        run.advance(loss, score)
        report(run.progress)
    run.keep_best()
    return run.progress


class _Run:
    """A fit between two looks."""

    def __init__(self, flow, plan: Plan):
        self.flow, self.plan, self.progress, self.best = flow, plan, Progress(), None
        self.optimizer = Optimizer(flow, plan.training, plan.n_steps)
        found = read_checkpoint(plan.checkpoint, plan.made_for) if plan.checkpoint else None
        if found:
            tensors, header = found
            self.progress = Progress(**header["history"])
            self.optimizer.restore(tensors, header["n_steps"])
            self.best = tensors["best"].to(self.optimizer.weights) if "best" in tensors else None
        self.start = time.monotonic() - (self.progress.seconds[-1] if self.progress.seconds else 0.0)

    def finished(self) -> bool:
        """Whether all steps are done, or patience is at its end."""
        waited = len(self.progress.step) - 1 - self.progress.best
        return self.optimizer.n_steps >= self.plan.n_steps or waited >= self.plan.patience

    def advance(self, loss, score) -> None:
        """Steps up to the next look, the look, the checkpoint."""
        first = self.optimizer.n_steps
        last = min(first + self.plan.check_every, self.plan.n_steps)
        total = sum(self._step(loss, i) for i in range(first, last))
        with self.optimizer.averaged(), torch.no_grad():
            value = score()
        if self.progress.add(last, total / (last - first), value, time.monotonic() - self.start):
            self.best = self.optimizer.average.clone()
        if self.plan.checkpoint:
            tensors = self.optimizer.state() | ({} if self.best is None else {"best": self.best})
            header = header_of(self.plan.made_for, self.progress, self.optimizer)
            write_checkpoint(self.plan.checkpoint, tensors, header)

    def _step(self, loss, i: int) -> float:
        self.optimizer.gradients.zero_()
        value = loss(i)
        value.backward()
        # one synthetic galaxy in a corner of the model may overflow: its step is left out
        if torch.isfinite(self.optimizer.gradients).all():
            self.optimizer.step()
        else:
            self.optimizer.n_steps += 1
        return float(value.detach())

    def keep_best(self) -> None:
        """The best weights, no longer views of the optimiser's vectors."""
        if self.plan.n_steps and self.best is None:
            raise PopcatError(f"the fit diverged: expected finite scores of the held-out galaxies, got "
                              f"{self.progress.score}; lower the learning rate")  # fmt: skip
        if self.best is not None:
            self.optimizer.weights.copy_(self.best)
        for value in self.flow.parameters():
            value.data, value.grad = value.data.clone(), None

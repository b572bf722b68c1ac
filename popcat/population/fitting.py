"""The loop that both routes share: steps on a random loss, looks at held-out galaxies, one look kept, checkpoints.

Step i draws its random numbers from (seed, i) alone, so a fit that goes on from a checkpoint ends in the same bits.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from popcat.errors import PopcatError
from popcat.flows.optimizer import Optimizer
from popcat.flows.settings import Training
from popcat.flows.training import header_of, read_checkpoint, write_checkpoint


@dataclass
class Progress:
    """Looks at a fit: the step, the mean loss since the last look, the held-out score (lower is better), seconds.

    best : number of the look with the least score. kept : of the one whose weights are kept.
    """

    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best: int = -1
    kept: int = -1

    def add(self, step: int, loss: float, score: float, seconds: float, tolerance: float = 0.0) -> bool:
        """Whether this look is kept: as good as the best, but for a share `tolerance`."""
        for values, value in zip(
            (self.step, self.loss, self.score, self.seconds), (step, loss, score, seconds), strict=True
        ):
            values.append(value)
        if not math.isfinite(score):
            return False
        last = len(self.score) - 1
        if self.best < 0 or score < self.score[self.best]:
            self.best = last
        is_kept = score <= self.score[self.best] + tolerance * abs(self.score[self.best])
        if is_kept:
            self.kept = last
        return is_kept


@dataclass(frozen=True)
class Plan:
    """How long a fit goes on, and where it is kept. `made_for` tells its checkpoint from others.

    tolerance : share by which a look's score may be above the least for its weights to be kept, if it is the last such.
    """

    n_steps: int
    check_every: int
    patience: int
    training: Training
    checkpoint: Path | None = None
    made_for: dict = field(default_factory=dict)
    tolerance: float = 0.0


def fit_flow(
    flow: torch.nn.Module, loss: Callable[[int], torch.Tensor], score: Callable[[], float], plan: Plan,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Progress:  # fmt: skip
    """Fit a flow in place: `loss(step)` is minimised, the averaged weights with the least `score()` are kept, or
    the last of those within the plan's tolerance of it.

    Raises PopcatError if no look has a finite score, or the checkpoint is of another fit.
    """
    run = _Run(flow, plan)
    while not run.finished():
        run.advance(loss, score)
        report(run.progress)
    run.keep()
    return run.progress


class _Run:
    """A fit between two looks."""

    def __init__(self, flow, plan: Plan):
        self.flow, self.plan, self.progress, self.kept = flow, plan, Progress(), None
        self.optimizer = Optimizer(flow, plan.training, plan.n_steps)
        found = read_checkpoint(plan.checkpoint, plan.made_for) if plan.checkpoint else None
        if found:
            tensors, header = found
            self.progress = Progress(**header["history"])
            self.optimizer.restore(tensors, header["n_steps"])
            self.kept = tensors["kept"].to(self.optimizer.weights) if "kept" in tensors else None
        self.start = time.monotonic() - (self.progress.seconds[-1] if self.progress.seconds else 0.0)

    def finished(self) -> bool:
        """Whether all steps are done, or patience is at its end."""
        waited = len(self.progress.step) - 1 - self.progress.best
        return self.optimizer.n_steps >= self.plan.n_steps or waited >= self.plan.patience

    def advance(self, loss, score) -> None:
        """Steps up to the next look, the look, the checkpoint."""
        first = self.optimizer.n_steps
        last = min(first + self.plan.check_every, self.plan.n_steps)
        losses = [self._step(loss, i) for i in range(first, last)]
        taken = [value for value in losses if value is not None]
        if 2 * len(taken) < len(losses):
            raise PopcatError(f"the fit diverged: {len(losses) - len(taken)} of {len(losses)} steps had no finite "
                              "gradient; lower the learning rate, or check the survey's noise")  # fmt: skip
        mean = sum(taken) / len(taken)
        with self.optimizer.averaged(), torch.no_grad():
            value = score()
        seconds = time.monotonic() - self.start
        if self.progress.add(last, mean, value, seconds, self.plan.tolerance):
            self.kept = self.optimizer.average.clone()
        if self.plan.checkpoint:
            tensors = self.optimizer.state() | ({} if self.kept is None else {"kept": self.kept})
            header = header_of(self.plan.made_for, self.progress, self.optimizer)
            write_checkpoint(self.plan.checkpoint, tensors, header)

    def _step(self, loss, i: int) -> float | None:
        """The loss of step i; None if it was left out."""
        self.optimizer.gradients.zero_()
        value = loss(i)
        value.backward()
        # one synthetic galaxy in a corner of the model may overflow: its step is left out
        if not torch.isfinite(self.optimizer.gradients).all():
            self.optimizer.n_steps += 1
            return None
        self.optimizer.step()
        return float(value.detach())

    def keep(self) -> None:
        """The kept weights, no longer views of the optimiser's vectors."""
        if self.plan.n_steps and self.kept is None:
            raise PopcatError(f"the fit diverged: expected finite scores of the held-out galaxies, got "
                              f"{self.progress.score}; lower the learning rate")  # fmt: skip
        if self.kept is not None:
            self.optimizer.weights.copy_(self.kept)
        for value in self.flow.parameters():
            value.data, value.grad = value.data.clone(), None

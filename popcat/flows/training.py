"""Train a conditional flow: maximum likelihood, a learning rate schedule, averaged weights, the best epoch kept.

Random batches of an epoch, from memory or from shards that are read one after the other.

A training on disk between two epochs: one safetensors file, whole or not there at all, never a pickle.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from popcat.errors import PopcatError
from popcat.flows.architecture import Architecture, build_flow
from popcat.flows.optimizer import Optimizer
from popcat.flows.sampler import density_of
from popcat.flows.settings import Training

Pairs = tuple[torch.Tensor, torch.Tensor]
"""theta (n, features) and context (n, n_context), float32."""
EpochData = Callable[[int], Pairs | Iterator[Pairs]]
"""Epoch number -> its training set, or shards of it; a function of the number alone, so that a run can be resumed."""


@dataclass
class History:
    """Mean log-probability per epoch (nats), higher is better, and the epoch that was kept.

    train is of the weights of each step, validation of their average at the end of the epoch.
    """

    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_epoch: int = -1

    def add(self, train: float, validation: float, seconds: float) -> bool:
        """Whether the new epoch is the best."""
        best = self.validation[self.best_epoch] if self.best_epoch >= 0 else -math.inf
        self.train.append(train)
        self.validation.append(validation)
        self.seconds.append(seconds)
        if validation > best:
            self.best_epoch = len(self.validation) - 1
        return validation > best


def train_flow(
    architecture: Architecture,
    epoch_data: EpochData,
    validation: Pairs,
    settings: Training,
    *,
    epoch_size: int | None = None,
    checkpoint: "Path | None" = None,
    data_id: str = "",
    device: str = "cpu",
    report: Callable[[int, History], None] = lambda epoch, history: None,
):
    """A trained flow, on the CPU and in evaluation mode, and its History.

    Each epoch is one pass over `epoch_data(epoch)` in random batches; an epoch of shards needs `epoch_size`, about how
    many pairs it holds, for the schedule. Gradients are clipped at clip_norm. A moving average of the weights is what
    is validated and kept; training stops after `patience` epochs without gain.

    With `checkpoint` each epoch ends in that file, and a training that finds it goes on from there, to the very weights
    of an undisturbed one; `data_id` names the training set, so that a checkpoint of another is refused.

    Raises PopcatError if no epoch has a finite validation log-probability, or the checkpoint is not of this training.
    """
    torch.manual_seed(settings.seed)
    return train_density(
        build_flow(architecture), density_of, architecture.model_dump(), epoch_data, validation, settings,
        epoch_size=epoch_size, checkpoint=checkpoint, data_id=data_id, device=device, report=report,
    )  # fmt: skip


def train_density(
    flow: torch.nn.Module, density: Callable, shape: dict, epoch_data: EpochData, validation: Pairs, settings: Training,
    *, epoch_size: int | None, checkpoint: "Path | None", data_id: str, device: str, report: Callable,
):  # fmt: skip
    """`train_flow` for any module: `density` takes it to what has `log_prob` and `loss_and_gradients`; `shape` is what
    a checkpoint is told apart by.
    """
    run = _Run(flow, density, settings, device)
    made_for = {"architecture": shape, "settings": settings.model_dump(), "data": data_id}
    found = read_checkpoint(Path(checkpoint), made_for) if checkpoint else None
    if found:
        run.resume(*found)
    while not run.finished():
        run.epoch(epoch_data(len(run.history.train)), epoch_size, validation)
        if checkpoint:
            write_checkpoint(Path(checkpoint), run.tensors(), header_of(made_for, run.history, run.optimizer))
        report(len(run.history.train) - 1, run.history)
    return run.best_flow(), run.history


class _Run:
    """A training between two epochs."""

    def __init__(self, flow, density, settings, device):
        self.flow, self.density, self.settings, self.device = flow.to(device), density, settings, device
        self.history, self.best, self.optimizer = History(), None, None
        self.start = time.monotonic()

    def finished(self) -> bool:
        n_epoch = len(self.history.train)
        return n_epoch >= self.settings.max_epochs or n_epoch - 1 - self.history.best_epoch >= self.settings.patience

    def epoch(self, data, epoch_size, validation):
        """One pass over the data, and the validation."""
        if self.optimizer is None:
            self.optimizer = Optimizer(self.flow, self.settings, self._total_steps(data, epoch_size))
        train = self._pass(data)
        with self.optimizer.averaged():
            value = mean_log_prob(self.flow, *validation, device=self.device, density=self.density)
        if self.history.add(train, value, time.monotonic() - self.start):
            self.best = self.optimizer.average.clone()

    def _pass(self, data) -> float:
        """Mean log-probability on the way."""
        density, total, n_batch = self.density(self.flow), torch.zeros((), device=self.device), 0
        # One generator an epoch: where a resumed training begins, nothing has to be wound forward.
        seed = 1_000_003 * self.settings.seed + len(self.history.train)
        for theta, context in batches(data, self.settings.batch, seed, self.device):
            total += density.loss_and_gradients(theta, context)
            self.optimizer.step()
            n_batch += 1
        if not n_batch:
            raise PopcatError("training: an epoch without a single pair of parameters and photometry")
        return -total.item() / n_batch

    def _total_steps(self, data, epoch_size):
        if epoch_size is None and not isinstance(data, tuple):
            raise PopcatError("training from shards: expected epoch_size, about how many pairs an epoch holds")
        return max((epoch_size or len(data[0])) // self.settings.batch, 1) * self.settings.max_epochs

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that a resumed training needs."""
        return self.optimizer.state() | ({} if self.best is None else {"best": self.best})

    def resume(self, tensors, header):
        """Take up where the checkpoint stopped."""
        self.history = History(**header["history"])
        self.optimizer = Optimizer(self.flow, self.settings, header["total_steps"])
        self.optimizer.restore(tensors, header["n_steps"])
        self.best = tensors["best"].to(self.device) if "best" in tensors else None
        self.start = time.monotonic() - self.history.seconds[-1]

    def best_flow(self):
        """The flow of the best epoch, its parameters no longer views of the optimiser's vectors."""
        if self.best is None:
            raise PopcatError(
                f"training diverged: expected finite validation log-probabilities, got {self.history.validation}; "
                f"lower the learning_rate ({self.settings.learning_rate:g})"
            )
        self.optimizer.weights.copy_(self.best)
        for value in self.flow.parameters():
            value.data, value.grad = value.data.clone(), None
        return self.flow.to("cpu").eval()


def mean_log_prob(
    flow, theta: torch.Tensor, context: torch.Tensor, *, device: str = "cpu", batch: int = 2048, density=density_of
) -> float:
    """Mean log-probability of theta given context, in nats."""
    made = density(flow)
    pairs = zip(theta.split(batch), context.split(batch), strict=True)
    with torch.no_grad():
        return sum(made.log_prob(t.to(device), c.to(device)).sum().item() for t, c in pairs) / len(theta)


def batches(data: Pairs | Iterator[Pairs], batch: int, seed: int, device: str = "cpu") -> Iterator[Pairs]:
    """Batches of `batch` pairs, shuffled within each shard; what is left of a shard goes into the next.

    The last few pairs, less than a batch, are left out, unless they are all there is.

    >>> [len(theta) for theta, _ in batches((torch.zeros(7, 2), torch.zeros(7, 1)), 3, 0)]
    [3, 3]
    """
    generator, left, n_given = torch.Generator().manual_seed(seed), None, 0
    for theta, context in [data] if isinstance(data, tuple) else data:
        order = torch.randperm(len(theta), generator=generator)
        theta, context = theta.to(device), context.to(device)
        rows = order.to(device)
        if left is not None and len(left[0]):
            theta, context = torch.cat([left[0], theta[rows]]), torch.cat([left[1], context[rows]])
            rows = torch.arange(len(theta), device=device)
        n_whole = len(rows) // batch * batch
        for part in rows[:n_whole].split(batch) if n_whole else ():
            yield theta[part], context[part]
            n_given += 1
        left = theta[rows[n_whole:]], context[rows[n_whole:]]
    if left is not None and not n_given and len(left[0]):
        yield left


def write_checkpoint(path: Path, tensors: dict[str, torch.Tensor], header: dict) -> None:
    """Replace the file at `path`; PopcatError if the disk refuses."""
    content = safetensors.torch.save(
        {name: value.detach().to("cpu").clone() for name, value in tensors.items()},
        metadata={"training": json.dumps(header)},
    )
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise PopcatError(f"cannot write {path}: {error}") from error


def read_checkpoint(path: Path, made_for: dict) -> tuple[dict[str, torch.Tensor], dict] | None:
    """Tensors and header of a checkpoint, or None if there is none.

    Raises PopcatError if it is damaged, or of another training than `made_for` says.
    """
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            header = json.loads(file.metadata()["training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise PopcatError(f"{path} holds no checkpoint that popcat stored: {error}; delete it to start anew") from error
    other = [key for key, value in made_for.items() if header["made_for"].get(key) != value]
    if other:
        raise PopcatError(
            f"the checkpoint {path} is of a training with other {' and '.join(other)}: "
            "delete it to start anew, or train with what it was begun with"
        )
    return tensors, header


def header_of(made_for: dict, history, optimizer) -> dict:
    """What a checkpoint says beside its tensors."""
    return {
        "made_for": made_for,
        "history": asdict(history),
        "n_steps": optimizer.n_steps,
        "total_steps": optimizer.total_steps,
    }

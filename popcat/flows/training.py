"""The one training loop: of conditional flows, of the density of redshift, and of populations.

Gradient steps with Adam, a learning rate schedule and clipped gradients; after every epoch the averaged weights are
validated, and the training written to a checkpoint: one safetensors file, whole or not there at all, never a pickle. A
training that goes on from its checkpoint ends in the very weights of one that was not cut off.

An epoch is the steps between two validations: a pass over a library, or so many steps on galaxies made on the way.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from popcat.errors import PopcatError
from popcat.files import write_bytes_atomic
from popcat.flows.architecture import Architecture, architecture_for, build_flow
from popcat.flows.optimizer import Optimizer, backward
from popcat.flows.sampler import density_of
from popcat.flows.settings import Training

Pairs = tuple[torch.Tensor, torch.Tensor]
"""theta (n, features) and context (n, n_context), float32."""
EpochData = Callable[[int], Pairs | Iterator[Pairs]]
"""Epoch number -> its training set, or shards of it; a function of the number alone, so that a run can be resumed."""
Steps = Callable[[int], Iterator[torch.Tensor]]
"""Epoch number -> losses of its steps, one after the other; each leaves its gradients in the parameters' `.grad`."""


@dataclass
class History:
    """A training, epoch by epoch.

    step : steps until then. train : mean loss of the epoch's steps, or its negative where higher is better. validation
    : score of the averaged weights. seconds : since the start. best_epoch : the one of the best validation; -1 as long
    as none is finite. kept_epoch : the one whose weights are kept.
    """

    higher_is_better: bool = False
    step: list[int] = field(default_factory=list)
    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_epoch: int = -1
    kept_epoch: int = -1

    def add(self, step: int, loss: float, validation: float, seconds: float, tolerance: float = 0.0) -> bool:
        """Whether the weights of this epoch are kept: it is the best, or worse by no more than a share `tolerance`."""
        sign = -1.0 if self.higher_is_better else 1.0
        new = {"step": step, "train": sign * loss, "validation": validation, "seconds": seconds}
        for name, value in new.items():
            getattr(self, name).append(value)
        if not math.isfinite(validation):
            return False
        last = len(self.validation) - 1
        if self.best_epoch < 0 or sign * validation < sign * self.validation[self.best_epoch]:
            self.best_epoch = self.kept_epoch = last
        elif tolerance and sign * (validation - self.validation[self.best_epoch]) <= tolerance * abs(
            self.validation[self.best_epoch]
        ):
            self.kept_epoch = last
        return self.kept_epoch == last


def fit(
    module: torch.nn.Module, epoch: Steps, validate: Callable[[], float], settings: Training, *,
    n_epochs: int, n_steps: int, higher_is_better: bool = False, tolerance: float = 0.0,
    checkpoint: Path | None = None, identity: dict | None = None,
    report: Callable[[int, History], None] = lambda epoch, history: None,
) -> History:  # fmt: skip
    """Train a module in place and leave it the averaged weights of the best epoch.

    Parameters
    ----------
    epoch, validate : the steps of an epoch, and the score of the weights that the module has
    settings : learning_rate, schedule, clip_norm and average; patience, epochs without gain after which training ends
    n_epochs, n_steps : epochs at most, and about the steps in all of them: the length of the schedule
    higher_is_better : of the score
    tolerance : share by which a score may be worse than the best; the last such epoch is kept
    checkpoint, identity : file that every epoch ends in, and what tells it from those of other trainings

    A gradient that is not finite counts as zero.

    Raises PopcatError if most gradients of an epoch, or the scores of all, are not finite, or if the checkpoint is
    damaged or of another training.
    """
    identity = {**(identity or {}), "n_steps": n_steps}
    history, optimizer, kept = History(higher_is_better), Optimizer(module, settings, n_steps), {}
    found = read_checkpoint(checkpoint, identity) if checkpoint else None
    if found:
        tensors, header = found
        history = History(**header["history"])
        kept = {"kept": tensors.pop("kept").to(optimizer.weights)} if "kept" in tensors else {}
        optimizer.restore(tensors, header)
    start = time.monotonic() - (history.seconds[-1] if found else 0.0)
    while len(history.step) < n_epochs and len(history.step) - 1 - history.best_epoch < settings.patience:
        loss = _epoch_loss(epoch(len(history.step)), optimizer, settings)
        with optimizer.averaged():
            score = validate()
        if history.add(optimizer.n_steps, loss, score, time.monotonic() - start, tolerance):
            kept = {"kept": optimizer.average.clone()}
        if checkpoint:
            tensors, header = optimizer.state()
            write_checkpoint(checkpoint, tensors | kept, {"identity": identity, "history": asdict(history)} | header)
        report(len(history.step) - 1, history)
    if not kept:
        raise PopcatError(f"training diverged: expected finite validation scores, got {history.validation}; "
                          f"lower the learning_rate ({settings.learning_rate:g})")  # fmt: skip
    optimizer.release(kept["kept"])
    return history


def _epoch_loss(losses: Iterator[torch.Tensor], optimizer: Optimizer, settings: Training) -> float:
    """Take the steps of an epoch; the mean loss of those with finite gradients."""
    total, n_finite, n = torch.zeros((), device=optimizer.weights.device), 0, 0
    for loss in losses:
        is_finite = optimizer.step()
        total, n_finite, n = total + torch.where(is_finite, loss, 0.0), n_finite + is_finite.long(), n + 1
    if not n:
        raise PopcatError("training: an epoch without a single step; expected at least one training pair")
    if 2 * int(n_finite) < n:
        raise PopcatError(f"training diverged: {n - int(n_finite)} of {n} steps had no finite gradient; lower the "
                          f"learning_rate ({settings.learning_rate:g}), or check what it is trained on")  # fmt: skip
    return total.item() / int(n_finite)


def fit_loss(
    module: torch.nn.Module, loss: Callable[[int], torch.Tensor], score: Callable[[], float], settings: Training, *,
    n_steps: int, every: int, **options,
) -> History:  # fmt: skip
    """`fit` to a loss that is a function of the step's number, by autograd; an epoch is `every` steps.

    Step i may draw random numbers from its number alone. A lower score is better; other options are those of `fit`.
    """

    def epoch(number: int) -> Iterator[torch.Tensor]:
        for i in range(number * every, min((number + 1) * every, n_steps)):
            yield backward(module, loss(i))

    with_no_grad = torch.no_grad()(score)
    return fit(module, epoch, with_no_grad, settings, n_epochs=-(-n_steps // every), n_steps=n_steps, **options)


def train_flow(
    architecture: Architecture, epoch_data: EpochData, validation: Pairs, settings: Training, *,
    epoch_size: int | None = None, checkpoint: Path | None = None, data_id: str = "", device: str = "cpu",
    report: Callable[[int, History], None] = lambda epoch, history: None,
) -> tuple[torch.nn.Module, History]:  # fmt: skip
    """A flow trained by maximum likelihood, on the CPU and in evaluation mode, and its History: log-probabilities in
    nats, higher is better.

    Each epoch is one pass over `epoch_data(epoch)` in random batches; shards need `epoch_size`, about how many pairs an
    epoch holds, for the schedule. `data_id` names the training set: a checkpoint of another is refused.

    Raises PopcatError as `fit` does.
    """
    return train_density(
        build_flow(architecture, settings.seed), density_of, epoch_data, validation, settings, epoch_size=epoch_size,
        device=device, checkpoint=checkpoint, identity={"architecture": architecture.model_dump(), "data": data_id},
        report=report,
    )  # fmt: skip


def seconds_per_pair(settings: Training, *, features: int, context: int) -> float:
    """Seconds that a flow of these settings takes for a pair of an epoch on this machine, from a few steps.

    >>> seconds_per_pair(Training(n_blocks=1, hidden=16, n_layers=1, batch=64), features=3, context=4) > 0.0
    True
    """
    generator, n = torch.Generator().manual_seed(0), 4 * settings.batch
    pairs = torch.randn(n, features, generator=generator), torch.randn(n, context, generator=generator)
    few = pairs[0][:64], pairs[1][:64]
    architecture = architecture_for(settings, features=features, context=context)
    _, history = train_flow(architecture, lambda epoch: pairs, few, settings.model_copy(update={"max_epochs": 4}))
    return min(after - before for before, after in pairwise(history.seconds)) / n  # others may use the machine, too


def train_density(
    module: torch.nn.Module, density: Callable, epoch_data: EpochData, validation: Pairs, settings: Training, *,
    epoch_size: int | None = None, device: str = "cpu", identity: dict, **options,
) -> tuple[torch.nn.Module, History]:  # fmt: skip
    """`train_flow` for any module, in settings.max_epochs passes: `density` takes it to what has `log_prob` and
    `loss_and_gradients`. Other options are those of `fit`.
    """
    module = module.to(device)
    made = density(module)

    def epoch(number: int) -> Iterator[torch.Tensor]:
        # one generator an epoch: where a resumed training begins, nothing has to be wound forward
        seed = 1_000_003 * settings.seed + number
        for theta, context in batches(epoch_data(number), settings.batch, seed, device):
            yield made.loss_and_gradients(theta, context)

    steps_per_epoch = max((epoch_size or _size_of(epoch_data(0))) // settings.batch, 1)
    history = fit(
        module, epoch, lambda: mean_log_prob(module, *validation, device=device, density=density), settings,
        n_epochs=settings.max_epochs, n_steps=steps_per_epoch * settings.max_epochs, higher_is_better=True,
        identity={**identity, "settings": settings.model_dump()}, **options,
    )  # fmt: skip
    return module.to("cpu").eval(), history


def _size_of(data: Pairs | Iterator[Pairs]) -> int:
    if not isinstance(data, tuple):
        raise PopcatError("training from shards: expected epoch_size, about how many pairs an epoch holds")
    return len(data[0])


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
    tensors = {name: value.detach().to("cpu").clone() for name, value in tensors.items()}
    write_bytes_atomic(path, safetensors.torch.save(tensors, metadata={"training": json.dumps(header)}))


def read_checkpoint(path: Path, identity: dict) -> tuple[dict[str, torch.Tensor], dict] | None:
    """Tensors and header of a checkpoint, or None if there is none.

    Raises PopcatError if it is damaged, or of another training than `identity` says.
    """
    if not Path(path).exists():
        return None
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            header = json.loads(file.metadata()["training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        found = header["identity"]
    except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise PopcatError(f"{path} holds no checkpoint that popcat stored: {error}; delete it to start anew") from error
    other = [key for key, value in json.loads(json.dumps(identity)).items() if found.get(key) != value]
    if other:
        raise PopcatError(f"the checkpoint {path} is of a training with other {' and '.join(other)}: delete it to "
                          "start anew, or train with what it was begun with")  # fmt: skip
    return tensors, header

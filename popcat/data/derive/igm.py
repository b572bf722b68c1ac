"""Coefficients of the Lyman series of Inoue et al. (2014, table 2) from the files of redrock.

    python popcat/data/derive/igm.py FOLDER -o popcat/data/igm_inoue_2014.npz

FOLDER is redrock/data of the wheel redrock 0.21.0: LAFcoeff.txt and DLAcoeff.txt, a line of the series in each row.
"""

import argparse
from pathlib import Path

import numpy as np


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    _, wave, *laf = np.loadtxt(arguments.folder / "LAFcoeff.txt", unpack=True)
    _, same, *dla = np.loadtxt(arguments.folder / "DLAcoeff.txt", unpack=True)
    assert np.array_equal(wave, same)
    ascending = np.argsort(wave)
    with open(arguments.output, "wb") as file:
        np.savez_compressed(file, wave_aa=wave[ascending], laf=np.array(laf)[:, ascending],
                            dla=np.array(dla)[:, ascending])  # fmt: skip


if __name__ == "__main__":
    main()

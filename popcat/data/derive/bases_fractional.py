"""Make popcat's bases of histories in lookback time over the age of the universe: popcat/data/bases_fractional.csv.

Run ``python popcat/data/derive/bases_fractional.py -o popcat/data/bases_fractional.csv`` (numpy alone; at once).

Star formation. With u = t / t_age from 0 (now) to 1 (the Big Bang) and v = sqrt(u), the bases are the Bernstein
polynomials of degree n = 5 in v, scaled to unit integral in u:

    s_k(u) ~ v^k (1 - v)^(n - k),   k = 0 ... n.

They are nowhere negative and at no redshift alike. The first rises towards the observed epoch, the last falls all the
time, those between peak at u = (k / n)^2. Their mean ages are t_age (k + 2) (k + 3) / ((n + 3) (n + 4)): at z = 0 from
1.1 to 10.7 Gyr, evenly spread in ln t. The square root gives young stars, which outshine the others, more bases.

Metallicity. The curves of bases.csv, of galaxies seen 13.8 Gyr after the Big Bang, as functions of u.
"""

import argparse
from math import comb
from pathlib import Path

import numpy as np

DEGREE = 5
T_NOW_GYR = 13.8
N_STEP = 48  # in v: the first is 6 Myr long at z = 0


def bases() -> tuple[np.ndarray, np.ndarray]:
    """u (n_t,) and the star-formation bases (DEGREE + 1, n_t), of integral 1 by trapezoids."""
    v = np.linspace(0.0, 1.0, N_STEP + 1)
    u = v**2
    rows = np.stack([comb(DEGREE, k) * v**k * (1.0 - v) ** (DEGREE - k) for k in range(DEGREE + 1)])
    return u, rows / np.array([[np.trapezoid(row, u)] for row in rows])


def metallicity(u: np.ndarray) -> np.ndarray:
    """The metallicity bases of bases.csv at lookback times of 13.8 u Gyr, (2, n_t)."""
    source = Path(__file__).parents[1] / "bases.csv"
    lines = [line for line in source.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    table = np.array([[float(x) for x in line.split(",")] for line in lines[1:]]).T
    first = lines[0].split(",").index("zh1")
    return np.stack([np.interp(T_NOW_GYR * u, table[0], row) for row in table[first:]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    u, sfh = bases()
    zh = metallicity(u)
    header = [
        "popcat's bases of star-formation (sfh) and metallicity (zh) histories in fractions of the age of the universe",
        "made by popcat/data/derive/bases_fractional.py, whose docstring gives the formulae",
        "lookback_gyr: lookback time before the observed epoch over the age of the universe then; linear in between",
        f"sfh1..{len(sfh)}: star-formation rate of unit formed mass, integral 1 (trapezoid), youngest first",
        "zh1..2: metallicity history, maximum 3: Z = gamma1 zh1 + gamma2 zh2, absolute mass fraction",
    ]
    names = ["lookback_gyr", *(f"sfh{k + 1}" for k in range(len(sfh))), *(f"zh{k + 1}" for k in range(len(zh)))]
    rows = [",".join(f"{x:.6g}" for x in row) for row in np.column_stack([u, *sfh, *zh])]
    parts = [*(f"# {line}" for line in header), ",".join(names), *rows]
    parser.parse_args().output.write_text("\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

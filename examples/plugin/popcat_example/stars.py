"""An SSP engine: stars of the main sequence as black bodies, good for an example and nothing else.

A star of mass m (solar) has L = m^3.5, T = 5772 K m^0.5 and lives 10 Gyr m^-2.5. Salpeter's initial mass function.
"""

from pathlib import Path

import numpy as np

from popcat.forward.grid import SSPGrid

HC_OVER_K_AA_K = 1.438776877e8


def build(source: Path | None) -> SSPGrid:
    """The grid; `source` is what --source names, of which this engine has no need."""
    log_age_yr, wave_aa = np.arange(6.0, 10.21, 0.1), np.geomspace(912.0, 3e4, 600)
    mass = np.geomspace(0.1, 100.0, 400)
    share = mass**-1.35 / np.trapezoid(mass**-1.35, mass)  # of the mass formed, per mass
    alive = mass < (10.0 ** (log_age_yr[:, None] - 10.0)) ** -0.4
    black_body = wave_aa**-5.0 / np.expm1(HC_OVER_K_AA_K / (wave_aa * 5772.0 * mass[:, None] ** 0.5))
    light = (mass**2.5)[:, None] * black_body / np.trapezoid(black_body, wave_aa)[:, None]  # Lsun / AA / Msun
    lum = np.trapezoid(alive[:, :, None] * share[:, None] * light, mass, axis=1)
    mstar = np.trapezoid(alive * share, mass, axis=1)
    log_z_abs = np.log10([0.002, 0.02])  # the same stars at every metallicity
    return SSPGrid(log_age_yr, log_z_abs, wave_aa, np.stack([lum] * 2), np.stack([mstar] * 2),
                   {"imf": "Salpeter", "source": "black bodies"})  # fmt: skip

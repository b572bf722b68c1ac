"""Light of an active nucleus: accretion disc and hot dust (Temple, Hewett & Banerji 2021, MNRAS 508, 737).

f_nu of the disc is a power law of the wavelength in three pieces, w^1.349, w^0.349 and w^-0.593, that meet at 1200 and
3880 A; the hot dust is a black body of 1243.6 K with 3.961 times, at 2 micron, the disc's f_nu at 5500 A. These are the
values that the authors fit to the colours of quasars, as their code qsogen has them. Lines are left out. As there, no
light is left below the Lyman limit, and all of it is reddened, by dust like that of the Small Magellanic Cloud
(popcat.forward.dust.smc_curve). What that dust absorbs is not part of the galaxy's energy balance.

Luminosities are in units of the disc's between 0.1 and 1 micron before reddening.
"""

import numpy as np

from popcat.forward.dust import SMC_R_V, smc_curve
from popcat.forward.grid import LYMAN_LIMIT_AA

SLOPES = (1.349, 0.349, -0.593)
BREAKS_AA = (1200.0, 3880.0)
DUST_K = 1243.6
DUST_AT_2_MICRON = 3.961
DISC_AA = (1000.0, 10000.0)
"""The disc's luminosity between these wavelengths is the unit of all."""
_HC_OVER_K_AA = 1.438776877e8


def _disc_f_nu(wave_aa):
    """f_nu of the disc in units of that at 5500 A."""
    blue = (BREAKS_AA[1] / 5500.0) ** SLOPES[2]
    return np.where(
        wave_aa >= BREAKS_AA[1], (wave_aa / 5500.0) ** SLOPES[2],
        blue * (wave_aa / BREAKS_AA[1]) ** SLOPES[1]
        * np.where(wave_aa < BREAKS_AA[0], (wave_aa / BREAKS_AA[0]) ** (SLOPES[0] - SLOPES[1]), 1.0),
    )  # fmt: skip


def _black_body_f_nu(wave_aa):
    """f_nu of the hot dust in units of the disc's at 5500 A."""
    return DUST_AT_2_MICRON * planck_f_nu(wave_aa, DUST_K) / planck_f_nu(20000.0, DUST_K)


def planck_f_nu(wave_aa, temperature_k: float):
    """f_nu of a black body in units of its own: w^-3 / (exp(h c / (w k T)) - 1), of the shape of wave_aa in Angstrom.

    >>> bool(planck_f_nu(5000.0, 6000.0) > planck_f_nu(5000.0, 5000.0))
    True
    """
    return wave_aa**-3.0 / np.expm1(np.minimum(_HC_OVER_K_AA / (temperature_k * wave_aa), 600.0))


def _disc_luminosity() -> float:
    """int f_nu w^-2 dw of the disc over `DISC_AA`, piece by piece in closed form."""
    edges, total = (DISC_AA[0], *BREAKS_AA, DISC_AA[1]), 0.0
    for low, high, slope in zip(edges, edges[1:], SLOPES, strict=False):
        at, power = np.sqrt(low * high), slope - 1.0
        total += float(_disc_f_nu(at)) * at**-slope * (high**power - low**power) / power
    return total


def agn_spectrum(wave_aa, ebv_agn=0.0) -> np.ndarray:
    """L_lambda of disc and hot dust in 1 / Angstrom, per luminosity of the unreddened disc from 0.1 to 1 micron.

    wave_aa : rest-frame wavelengths in Angstrom, of any shape. ebv_agn : E(B-V) of the reddening, A(w) = 2.93 E(B-V)
    A(w) / A_V.

    >>> wave = np.linspace(1000.0, 10000.0, 20001)
    >>> round(float(np.trapezoid(agn_spectrum(wave), wave)), 2)
    1.0
    """
    wave = np.asarray(wave_aa, dtype=float)
    f_nu = _disc_f_nu(wave) + _black_body_f_nu(wave)
    through = np.exp(-ebv_agn * reddening(wave))
    return np.where(wave >= LYMAN_LIMIT_AA, f_nu / wave**2 / _disc_luminosity() * through, 0.0)


def reddening(wave_aa) -> np.ndarray:
    """Optical depth per E(B-V) of the nucleus's dust: 0.4 ln(10) 2.93 A(w) / A_V.

    >>> round(float(reddening(5500.0)), 3)
    2.699
    """
    return 0.4 * np.log(10.0) * SMC_R_V * smc_curve(wave_aa)

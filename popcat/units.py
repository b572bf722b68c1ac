"""Constants (CODATA 2018, IAU 2015) and the only unit conversions in popcat.

Inside popcat a flux is in nanomaggies (nMgy): 1 nMgy is AB magnitude 22.5, 3.631e-6 Jy.
"""

import numpy as np

C_AA_S = 2.99792458e18
"""Speed of light in Angstrom per second."""
C_KM_S = 2.99792458e5
"""Speed of light in km per second."""
LSUN_ERG_S = 3.828e33
"""Nominal solar luminosity in erg per second."""
PC_CM = 3.0856775814913673e18
"""Parsec in cm."""
AB_FNU = 3.631e-20
"""Spectral flux density of AB magnitude 0 in erg/s/cm2/Hz."""
NMGY_FNU = AB_FNU * 1e-9
"""One nanomaggy in erg/s/cm2/Hz."""
LN_2PI = float(np.log(2.0 * np.pi))
POGSON = float(2.5 / np.log(10.0))
"""Magnitudes in one unit of ln flux: m = -POGSON ln f + constant."""
AB_ZERO_NMGY = 22.5
"""AB magnitude of one nanomaggy."""

NMGY_PER_UNIT = {
    "nMgy": 1.0,
    "nJy": 1e-9 / 3.631e-6,
    "uJy": 1e-6 / 3.631e-6,
    "mJy": 1e-3 / 3.631e-6,
    "Jy": 1.0 / 3.631e-6,
}
"""Linear flux units that a catalogue may use, as nanomaggies."""

COUNT_RATE = "count/s"
"""Counts per second: a flux in a unit of the instrument's own, whose zero point is 22.5 plus the band's AB offset."""


def nmgy_per(unit: str) -> float:
    """Nanomaggies in a linear unit, before the band's AB offset.

    >>> nmgy_per("nMgy"), nmgy_per("count/s")
    (1.0, 1.0)
    """
    return 1.0 if unit == COUNT_RATE else NMGY_PER_UNIT[unit]


def nmgy_to_ab_mag(flux_nmgy):
    """AB magnitude of a flux: m = 22.5 - 2.5 log10(f); NaN where the flux is not positive.

    >>> float(nmgy_to_ab_mag(100.0))
    17.5
    """
    flux = np.asarray(flux_nmgy, dtype=float)
    safe = np.where(flux > 0, flux, np.nan)
    return AB_ZERO_NMGY - 2.5 * np.log10(safe)


def ab_mag_to_nmgy(mag):
    """Flux in nanomaggies of an AB magnitude: f = 10^(0.4 (22.5 - m)).

    >>> float(ab_mag_to_nmgy(17.5))
    100.0
    """
    return 10.0 ** (0.4 * (AB_ZERO_NMGY - np.asarray(mag, dtype=float)))


def ab_mag_err_to_nmgy(mag, mag_err):
    """Flux error in nanomaggies of a magnitude and its error: sigma_f = f sigma_m ln(10) / 2.5."""
    return ab_mag_to_nmgy(mag) * np.asarray(mag_err, dtype=float) * np.log(10.0) / 2.5


def asinh_mag_to_nmgy(mag, softening: float):
    """Flux in nanomaggies of an asinh magnitude (Lupton, Gunn & Szalay 1999): f = f0 2 b sinh(-m ln10 / 2.5 - ln b).

    f0 = 1e9 nMgy is the flux of magnitude zero, b the softening.

    >>> float(asinh_mag_to_nmgy(17.5, 1.2e-10).round(4)), float(asinh_mag_to_nmgy(24.8, 1.2e-10).round(4))
    (99.9999, 0.0005)
    """
    return 2e9 * softening * np.sinh(_asinh_argument(mag, softening))


def asinh_mag_err_to_nmgy(mag, mag_err, softening: float):
    """Flux error in nanomaggies: sigma_f = f0 2 b cosh(-m ln10 / 2.5 - ln b) sigma_m ln(10) / 2.5."""
    slope = 2e9 * softening * np.cosh(_asinh_argument(mag, softening))
    return slope * np.asarray(mag_err, dtype=float) * np.log(10.0) / 2.5


def _asinh_argument(mag, softening):
    return -np.asarray(mag, dtype=float) * np.log(10.0) / 2.5 - np.log(softening)

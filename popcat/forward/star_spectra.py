"""Spectra of stars, coarse, as alternatives to a galaxy: the stellar locus, and black bodies.

The locus is the median colours of 300,000 stars in ugrizJHK by their g - i, from F to M (Covey et al. 2007, AJ 134,
2398, table of the locus; AB magnitudes, J, H, Ks from Vega's by Blanton & Roweis 2007). Between the pivot wavelengths
of these bands ln f_nu is a monotone cubic of ln wavelength, whose means over top-hats as wide as the bands are the
magnitudes. Beyond Ks it falls as w^-2, and below u as steeply as from
g to u. Spectra have no lines, and one metallicity for each colour, so that a band has an error of its own
(`template_error_mag`). Black bodies from 2,500 to 40,000 K stand for what the locus lacks: white dwarfs, hot stars.
"""

import numpy as np

from popcat.forward.agn import planck_f_nu
from popcat.units import POGSON

LOCUS_GI = (0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2, 2.4, 2.6, 2.8, 3.0, 3.2, 3.4)
"""g - i of the rows of the locus, AB mag."""
_COLOURS = np.array([
    (1.05, 0.09, 0.02, -0.03, 0.76, 0.23, 0.12), (1.07, 0.24, 0.06, 0.00, 0.79, 0.23, 0.08),
    (1.07, 0.30, 0.10, 0.01, 0.81, 0.28, 0.06), (1.14, 0.37, 0.13, 0.03, 0.84, 0.31, 0.07),
    (1.25, 0.44, 0.16, 0.04, 0.87, 0.34, 0.07), (1.40, 0.51, 0.19, 0.06, 0.91, 0.38, 0.08),
    (1.56, 0.58, 0.21, 0.08, 0.95, 0.42, 0.08), (1.90, 0.73, 0.27, 0.12, 1.01, 0.49, 0.10),
    (2.17, 0.87, 0.32, 0.16, 1.07, 0.55, 0.11), (2.38, 1.02, 0.38, 0.20, 1.10, 0.60, 0.12),
    (2.53, 1.15, 0.45, 0.24, 1.14, 0.64, 0.14), (2.61, 1.26, 0.54, 0.29, 1.18, 0.66, 0.16),
    (2.61, 1.35, 0.65, 0.35, 1.21, 0.66, 0.18), (2.61, 1.41, 0.79, 0.43, 1.25, 0.65, 0.20),
    (2.59, 1.41, 0.98, 0.52, 1.30, 0.63, 0.22), (2.58, 1.41, 1.18, 0.62, 1.35, 0.61, 0.24),
    (2.62, 1.43, 1.36, 0.72, 1.41, 0.60, 0.26), (2.61, 1.47, 1.52, 0.81, 1.48, 0.59, 0.27),
    (2.64, 1.52, 1.68, 0.90, 1.54, 0.59, 0.30), (2.50, 1.56, 1.83, 0.99, 1.60, 0.60, 0.32),
])  # fmt: skip
"""u-g, g-r, r-i, i-z, z-J, J-H, H-Ks of each, J to Ks in Vega magnitudes."""
LOCUS_NUMBER = (0.1, 0.5, 2.0, 6.0, 17.0, 14.0, 16.0, 13.0, 10.0, 9.0, 10.0, 10.0, 12.0, 13.0, 15.0, 14.0, 10.0, 5.0,
                2.0, 0.8)  # fmt: skip
"""Stars per colour, relative."""
_PIVOT_AA = (3557.0, 4702.0, 6176.0, 7490.0, 8947.0, 12350.0, 16620.0, 21590.0)
_WIDTH_AA, _ITERATIONS = (770.0, 1380.0, 1370.0, 1530.0, 950.0, 1620.0, 2510.0, 2620.0), 6
_VEGA_TO_AB = (0.0, 0.0, 0.0, 0.0, 0.0, 0.91, 1.39, 1.85)
HOTTEST_K, COOLEST_K = 40_000.0, 2500.0
# Error of a template in mag, log-linear in wavelength between these: metals in the blue, no data in the far ultraviolet
# and beyond 2.4 micron.
_ERROR_AA = (1500.0, 2500.0, 3200.0, 3600.0, 4500.0, 22000.0, 30000.0, 50000.0)
_ERROR_MAG = (1.5, 0.7, 0.2, 0.07, 0.025, 0.04, 0.1, 0.2)


def locus_f_nu(wave_aa: np.ndarray, g_i: float) -> np.ndarray:
    """f_nu of a star of the locus, (n_wave,), in units of its mean over r; g_i: its AB g - i.

    >>> bool(np.all(np.diff(locus_f_nu(np.array([3500.0, 5000.0, 9000.0]), 1.0)) > 0.0))
    True
    """
    from scipy.interpolate import PchipInterpolator

    colours = np.array([np.interp(g_i, LOCUS_GI, column) for column in _COLOURS.T])
    colours *= np.array([1.0, *[g_i / (colours[1] + colours[2])] * 2, 1.0, 1.0, 1.0, 1.0])  # rounding of g-r and r-i
    mag = np.concatenate([[0.0], -np.cumsum(colours)])
    wanted = -(mag - mag[2] + _VEGA_TO_AB) / POGSON
    in_bands = np.multiply.outer(_PIVOT_AA, np.ones(15)) + np.multiply.outer(_WIDTH_AA, np.linspace(-0.5, 0.5, 15))
    x, y = np.log(_PIVOT_AA), wanted.copy()

    def ln_f_nu(at):
        blue = (y[1] - y[0]) / (x[1] - x[0])
        inside = PchipInterpolator(x, y)(np.clip(at, x[0], x[-1]))
        return inside + blue * np.minimum(at - x[0], 0.0) - 2.0 * np.maximum(at - x[-1], 0.0)

    for _ in range(_ITERATIONS):
        y += wanted - np.log(np.exp(ln_f_nu(np.log(in_bands))).mean(axis=1))
    return np.exp(ln_f_nu(np.log(np.asarray(wave_aa, dtype=float))))


def black_body_f_nu(wave_aa: np.ndarray, temperature_k: float) -> np.ndarray:
    """f_nu of a black body, (n_wave,), in units of that at 6176 A: w^-3 / (exp(h c / (w k T)) - 1).

    >>> black_body_f_nu(np.array([6176.0]), 5000.0).tolist()
    [1.0]
    """
    wave = np.asarray(wave_aa, dtype=float)
    return planck_f_nu(wave, temperature_k) / planck_f_nu(_PIVOT_AA[2], temperature_k)


def template_error_mag(wave_aa: "np.ndarray | float") -> np.ndarray:
    """Error of these spectra in a band at a wavelength, mag.

    >>> template_error_mag(np.array([3600.0, 10000.0])).round(3).tolist()
    [0.07, 0.033]
    """
    return np.interp(np.log(wave_aa), np.log(_ERROR_AA), _ERROR_MAG)

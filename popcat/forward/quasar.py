"""Spectra of quasars as alternatives to a galaxy: the nucleus of popcat.forward.agn with its broad lines.

Equivalent widths are those of the mean spectrum of SDSS quasars (Vanden Berk et al. 2001, AJ 122, 549, table 2); every
line is a Gaussian of 5,000 km/s (FWHM). The intergalactic medium absorbs as in galaxies (popcat.forward.igm).
"""

import numpy as np

from popcat.forward.agn import agn_spectrum
from popcat.forward.igm import transmission

LINES = {"Ly alpha": (1215.67, 92.9), "C IV": (1549.1, 23.8), "C III]": (1908.7, 21.2), "Mg II": (2798.8, 32.3),
         "H gamma": (4341.7, 12.6), "H beta": (4862.7, 46.2), "H alpha": (6564.6, 194.5)}  # fmt: skip
"""Rest-frame wavelength and equivalent width in Angstrom."""
_SIGMA = 5000.0 / 2.998e5 / 2.3548
TEMPLATE_ERROR_MAG = 0.1
"""Quasars differ from their mean by about this in a band."""


def quasar_f_nu(wave_aa: np.ndarray, redshift: float, ebv: float) -> np.ndarray:
    """f_nu at observed wavelengths, (n_wave,), in units of its own; ebv: E(B-V) of the reddening.

    >>> wave = np.array([3646.5, 4000.0]) * 1.5
    >>> bool(quasar_f_nu(wave, 0.5, 0.0).min() > 0.0)
    True
    """
    rest = np.asarray(wave_aa, dtype=float) / (1.0 + redshift)
    f_nu = agn_spectrum(rest, ebv) * rest**2
    for line, width in LINES.values():
        sigma = _SIGMA * line
        f_nu = f_nu * (1.0 + width * np.exp(-0.5 * ((rest - line) / sigma) ** 2) / (np.sqrt(2.0 * np.pi) * sigma))
    return f_nu * transmission(wave_aa, redshift)

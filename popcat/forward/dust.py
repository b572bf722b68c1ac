"""Dust attenuation: birth clouds and the diffuse medium (Kriek & Conroy 2013 as FSPS has it, dust_type=4).

Light is multiplied by exp(-tau(w)). The diffuse curve of FSPS steps by 0.006 at 6300 A, where the two branches of
Calzetti et al. (2000) meet: 2% in light at tau = 3. Here it is written as a smooth curve plus that step,
`calzetti_step`, which is nonzero between 6300 A and the wavelength where the branches cross: quadrature over a band
can treat each by itself.
"""

import numpy as np

STEP_LOW_AA = 6300.0
BUMP_CENTRE_AA = 2175.0
BUMP_WIDTH_AA = 350.0
R_V = 4.05
NORM = 0.44 * R_V


def _branch_short(x):
    return 1.17 * (-2.156 + 1.509 * x - 0.198 * x**2 + 0.011 * x**3) + 1.78


def _branch_long(x):
    return 1.17 * (-1.857 + 1.04 * x) + 1.78


def _crossing_aa() -> float:
    """Wavelength above 6300 A at which the two branches cross."""
    roots = np.roots([0.011, -0.198, 1.509 - 1.04, -2.156 + 1.857])
    waves = 1e4 / roots[np.isreal(roots)].real
    return float(waves[waves > STEP_LOW_AA].min())


STEP_HIGH_AA = _crossing_aa()
"""The branches cross here: 7226.55 A."""


def calzetti(wave_aa):
    """Calzetti et al. (2000) curve of FSPS, in units of the optical depth near 5500 A, floored at zero."""
    x = 1e4 / np.asarray(wave_aa, dtype=float)
    k = np.where(x >= 1e4 / STEP_LOW_AA, _branch_short(x), _branch_long(x))
    return np.maximum(k / NORM, 0.0)


def calzetti_smooth(wave_aa):
    """`calzetti` without its step: the short-wave branch goes on to where it meets the other."""
    x = 1e4 / np.asarray(wave_aa, dtype=float)
    k = np.where(x >= 1e4 / STEP_HIGH_AA, _branch_short(x), _branch_long(x))
    return np.maximum(k / NORM, 0.0)


def calzetti_step(wave_aa):
    """`calzetti` - `calzetti_smooth`."""
    return calzetti(wave_aa) - calzetti_smooth(wave_aa)


def bump(wave_aa):
    """Drude profile of the 2175 A bump for unit strength, divided by R_V = 4.05."""
    w = np.asarray(wave_aa, dtype=float)
    width = (BUMP_WIDTH_AA * w) ** 2
    return width / ((w**2 - BUMP_CENTRE_AA**2) ** 2 + width) / R_V


def bump_strength(n_dust):
    """E_b = 0.85 - 1.9 n (Kriek & Conroy 2013, eq. 3)."""
    return 0.85 - 1.9 * np.asarray(n_dust, dtype=float)


def diffuse_curve(wave_aa, n_dust):
    """tau(w) / tau_ism of the diffuse dust: (k(w) + E_b D(w)) (w / 5500 A)^n.

    >>> round(float(diffuse_curve(5500.0, 0.0)), 4)
    0.9995
    """
    tilt = (np.asarray(wave_aa, dtype=float) / 5500.0) ** n_dust
    return (calzetti(wave_aa) + bump_strength(n_dust) * bump(wave_aa)) * tilt


def birth_cloud_curve(wave_aa):
    """tau(w) / tau_bc of the birth clouds: (w / 5500 A)^-1."""
    return 5500.0 / np.asarray(wave_aa, dtype=float)

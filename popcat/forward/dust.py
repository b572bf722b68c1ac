"""Dust attenuation: birth clouds and the diffuse medium.

The default law is that of Kriek & Conroy (2013) as FSPS has it, dust_type=4; `LAWS` holds it and the others.

Light is multiplied by exp(-tau(w)). The diffuse curve of FSPS steps by 0.006 at 6300 A, where the two branches of
Calzetti et al. (2000) meet: 2% in light at tau = 3. Here it is written as a smooth curve plus that step,
`calzetti_step`, which is nonzero between 6300 A and the wavelength where the branches cross: quadrature over a band
can treat each by itself.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

STEP_LOW_AA = 6300.0
BUMP_CENTRE_AA = 2175.0
BUMP_WIDTH_AA = 350.0
R_V = 4.05
NORM = 0.44 * R_V


def _short(x):
    """Calzetti et al. (2000, eq. 4), up to 0.63 micron: a cubic of one over the wavelength in micron."""
    return -2.156 + 1.509 * x - 0.198 * x**2 + 0.011 * x**3


def _long(x):
    return -1.857 + 1.04 * x


def _branch_short(x):
    return 1.17 * _short(x) + 1.78


def _branch_long(x):
    return 1.17 * _long(x) + 1.78


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
    return 0.85 - 1.9 * n_dust


def diffuse_curve(wave_aa, n_dust):
    """tau(w) / tau_ism of the diffuse dust: (k(w) + E_b D(w)) (w / 5500 A)^n.

    >>> round(float(diffuse_curve(5500.0, 0.0)), 4)
    0.9995
    """
    tilt = (np.asarray(wave_aa, dtype=float) / 5500.0) ** n_dust
    return (calzetti(wave_aa) + bump_strength(n_dust) * bump(wave_aa)) * tilt


def calzetti_curve(wave_aa):
    """tau(w) / tau_ism of Calzetti et al. (2000, eq. 4), R_V = 4.05: k(w) / R_V, without the step at 6300 A.

    The published branches are 0.006 apart at 6300 A; here the short-wave one goes on to where they meet, 7226.55 A.
    Below 1200 A, where nothing was measured, the cubic goes on; beyond 3.1 micron it is zero.

    >>> calzetti_curve([1500.0, 5500.0, 20000.0]).round(3).tolist()
    [2.552, 0.999, 0.122]
    """
    x = 1e4 / np.asarray(wave_aa, dtype=float)
    return np.maximum(2.659 / R_V * np.where(x >= 1e4 / STEP_HIGH_AA, _short(x), _long(x)) + 1.0, 0.0)


_SMC_AMPLITUDE = np.array([185.0, 27.0, 0.005, 0.010, 0.012, 0.030])
_SMC_MICRON = np.array([0.042, 0.08, 0.22, 9.7, 18.0, 25.0])
_SMC_B = np.array([90.0, 5.5, -1.95, -1.95, -1.80, 0.0])
_SMC_N = np.array([2.0, 4.0, 2.0, 2.0, 2.0, 2.0])
SMC_R_V = 2.93


def smc_curve(wave_aa):
    """tau(w) / tau(5500 A) of the Small Magellanic Cloud: A(w) / A(5500 A) by the fit of Pei (1992, table 4).

    A(w) / A_B = sum_i a_i / ((w / w_i)^n_i + (w_i / w)^n_i + b_i): smooth from the far ultraviolet to the far infrared.

    >>> smc_curve([1500.0, 5500.0, 20000.0]).round(3).tolist()
    [4.595, 1.0, 0.11]
    """
    return _pei(wave_aa) / _pei(5500.0)


def _pei(wave_aa):
    ratio = np.asarray(wave_aa, dtype=float)[..., None] / (1e4 * _SMC_MICRON)
    return (_SMC_AMPLITUDE / (ratio**_SMC_N + ratio**-_SMC_N + _SMC_B)).sum(axis=-1)


def salim_r_v(delta):
    """R_V of Calzetti's curve tilted by delta: 4.05 / (5.05 (4400 / 5500)^delta - 4.05) (Salim et al. 2018, eq. 4).

    >>> round(float(salim_r_v(-0.4)), 3)
    2.752
    """
    return R_V / ((R_V + 1.0) * 0.8 ** np.asarray(delta, dtype=float) - R_V)


def salim_curve(wave_aa, delta, bump_dust):
    """tau(w) / tau_ism of Noll et al. (2009) as normalised by Salim, Boquien & Lee (2018, eq. 3).

    k(w) / R_V (w / 5500 A)^delta + B D(w) / R_V(delta): Calzetti's curve tilted, and a bump of amplitude B, which for
    the Milky Way is about 3. R_V(delta) falls below zero beyond delta = 0.98.

    >>> bool(np.allclose(salim_curve([1500.0, 9000.0], 0.0, 0.0), calzetti_curve([1500.0, 9000.0])))
    True
    """
    tilt = (np.asarray(wave_aa, dtype=float) / 5500.0) ** delta
    return calzetti_curve(wave_aa) * tilt + bump_dust * R_V / salim_r_v(delta) * bump(wave_aa)


def power_law_curve(wave_aa, exponent):
    """(w / 5500 A)^exponent: tau(w) / tau_ism of Charlot & Fall (2000), of -0.7 in their paper; and tau(w) / tau_bc of
    birth clouds, of -1 as a rule and -1.3 in da Cunha, Charlot & Elbaz (2008).
    """
    return (np.asarray(wave_aa, dtype=float) / 5500.0) ** exponent


class Law(NamedTuple):
    """An attenuation law.

    curve : tau(w) / tau_ism of (wave_aa, *parameters), which popcat.galaxy_model.LAW_PARAMETERS names. It is
    (smooth(w) + e D(w)) (w / 5500 A)^n + b D(w) with the bump D, but for the step of `step` laws at 6300 A.
    shape : n, e and b of the parameters.
    birth_cloud : exponent of tau(w) / tau_bc = (w / 5500 A)^birth_cloud.
    """

    curve: Callable[..., np.ndarray]
    smooth: Callable[..., np.ndarray]
    shape: Callable[..., tuple]
    birth_cloud: float = -1.0
    step: bool = False


def _kriek_conroy_shape(n_dust):
    return n_dust, bump_strength(n_dust), 0.0


def _salim_shape(n_dust, bump_dust):
    return n_dust, 0.0, bump_dust * ((R_V + 1.0) * 0.8**n_dust - R_V)


def _flat_shape(n_dust=0.0):
    return n_dust, 0.0, 0.0


LAWS = {
    "kriek_conroy": Law(diffuse_curve, calzetti_smooth, _kriek_conroy_shape, step=True),
    "calzetti": Law(calzetti_curve, calzetti_curve, _flat_shape),
    "smc": Law(smc_curve, smc_curve, _flat_shape),
    "salim": Law(salim_curve, calzetti_curve, _salim_shape),
    "charlot_fall": Law(power_law_curve, np.ones_like, _flat_shape, birth_cloud=-1.3),
}
"""Attenuation laws by the name that the galaxy model's `dust_law` gives them."""


def smooth_attenuation(law: str, wave_aa, tau_bc, tau_ism, *parameters):
    """exp(-tau) of birth clouds and diffuse dust without the step at 6300 A; all that is given broadcasts.

    >>> bool(np.allclose(smooth_attenuation("calzetti", 5500.0, 0.0, 1.0), np.exp(-calzetti_curve(5500.0))))
    True
    """
    found = LAWS[law]
    n, e, b = found.shape(*parameters)
    drude, tilt = bump(wave_aa), (wave_aa / 5500.0) ** n
    diffuse = (found.smooth(wave_aa) + e * drude) * tilt + b * drude
    return np.exp(-tau_ism * diffuse - tau_bc * power_law_curve(wave_aa, found.birth_cloud))

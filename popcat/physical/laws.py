"""Published laws of galaxies that the physical prior is made of, each with its source.

| law | source | numbers from |
|---|---|---|
| stellar mass function, z = 0.05 | Baldry et al. 2012, MNRAS 421, 621: double Schechter | codes that cite it |
| z = 0.2 to 3 | Leja et al. 2020, ApJ 893, 111: continuity model, Appendix B | Prospector |
| z = 4 to 12 | Tacchella et al. 2018, ApJ 868, 92, table 2 | Prospector |
| star-forming sequence, 0 < z < 6 | Popesso et al. 2023, MNRAS 519, 1526, eq. 15 | codes that cite it |
| its width | Speagle et al. 2014, ApJS 214, 15, whose sequence is within 0.1 dex at 10^10.5 | its abstract |
| quenched fraction | Brammer et al. 2011 as in Behroozi et al. 2013, ApJ 770, 57 | Behroozi's code |
| mass-weighted age | Wang et al. 2023, ApJL 944, L58: the cosmic history, later in more massive galaxies | Prospector |
| cosmic star-formation history | Madau & Dickinson 2014, ARA&A 52, 415, eq. 15 | codes that cite it |
| metallicity | Gallazzi et al. 2005, MNRAS 362, 41, for a Chabrier IMF | Prospector's table |
| diffuse dust of galaxies that form stars | Garn & Best 2010, MNRAS 409, 421, eq. 5 | codes that cite it |
| birth clouds over diffuse dust | Charlot & Fall 2000; 1 +- 0.3 as in Leja et al. 2019 | codes that cite it |
| slope against diffuse dust | Prospector's fits of 3D-HST, as in Alsing et al. 2023 | codes that cite it |

No number was read in the papers themselves, of which only abstracts could be had. Gallazzi et al. weigh metallicities
by light, and the quenched fraction is one of colours: both are taken for what they stand for. Salim, Boquien & Lee 2018
(ApJ 859, 11) find the same trend of the slope, with steeper curves of thin dust, without numbers in the abstract: a
width of 0.4 leaves room for them. Of quenched galaxies no more is assumed than that their specific star-formation rate
is anywhere from 10^-13 / yr to 1.2 dex below the sequence, and that their diffuse dust is exponential, 0.15 in the mean
as where population fits start: neither is of a publication.

Masses are surviving stellar masses in log10 Msun, rates Msun / yr over 100 Myr, times Gyr. IMFs of Kroupa and Chabrier
are taken as one.
"""

import numpy as np

from popcat.distributions import Schechter
from popcat.forward.cosmology import CosmologyTable

SIGMA_SEQUENCE = 0.35
"""Width of the star-forming sequence in dex: 0.2 in Speagle et al. 2014, wider for errors of its normalisation."""
QUENCHED_FROM, QUENCHED_BELOW, QUENCHED_EDGE, QUENCHED_WIDTH = -13.0, 1.2, 0.1, 0.8
"""log10 specific rate from which on quenched galaxies are uniform; how far below the sequence that ends, how softly in
dex, and over how many dex at least."""
SIGMA_AGE = 0.15
"""Of the mass-weighted age over the age of the universe: wide, for Wang et al. 2023 give a history, not its scatter."""
TAU_QUENCHED = 0.15
Z_SUN = 0.02
"""Of Gallazzi et al. 2005."""

_BALDRY_Z, _LEJA_Z = 0.05, (0.2, 1.6, 3.0)
_BALDRY = (10.66, (3.96e-3, 7.9e-4), (-0.35, -1.47))
_LEJA = {"log_phi1": (-2.44, -3.08, -4.14), "log_phi2": (-2.89, -3.29, -3.51), "log_mstar": (10.79, 10.88, 10.84)}
_LEJA_ALPHA = (-0.28, -1.48)
_TACCHELLA_Z = np.arange(4.0, 13.0)
_TACCHELLA = {
    "phi": (261.9, 201.2, 140.5, 78.0, 38.4, 37.3, 8.1, 3.9, 1.1),
    "log_mstar": (10.16, 9.89, 9.62, 9.38, 9.18, 8.74, 8.79, 8.50, 8.50),
    "alpha": (-1.54, -1.59, -1.64, -1.70, -1.76, -1.80, -1.92, -2.00, -2.10),
}
_POPESSO = (2.71, -0.186, 10.86, -0.0729)
_GALLAZZI = np.array([
    (8.87, -0.60, -1.11, -0.00), (9.07, -0.61, -1.07, -0.00), (9.27, -0.65, -1.10, -0.05), (9.47, -0.61, -1.03, -0.01),
    (9.68, -0.52, -0.97, 0.05), (9.87, -0.41, -0.90, 0.09), (10.07, -0.23, -0.80, 0.14), (10.27, -0.11, -0.65, 0.17),
    (10.47, -0.01, -0.41, 0.20), (10.68, 0.04, -0.24, 0.22), (10.87, 0.07, -0.14, 0.24), (11.07, 0.10, -0.09, 0.25),
    (11.27, 0.12, -0.06, 0.26), (11.47, 0.13, -0.04, 0.28), (11.68, 0.14, -0.03, 0.29), (11.87, 0.15, -0.03, 0.30),
]).T  # fmt: skip
"""log10 mass; median, 16% and 84% of log10 Z / Zsun."""
_MIN_SIGMA_Z = 0.3
_STEEPEST = 4.0
"""Of the massive end, in dex of number per dex of mass. A Schechter function has no galaxy there, and yet some are
seen: masses differ by 0.3 dex between methods (Bernardi et al. 2013, MNRAS 436, 697). In a survey to a limit of flux
the volume grows as M^1.5, so that such a tail adds few galaxies at any flux."""
_SLOPE = {"kriek_conroy": (0.0, 0.4), "salim": (0.0, 0.4), "charlot_fall": (-0.7, 0.3)}
"""Of the attenuation laws that have a slope: its offset, and its width. That of the power law is Charlot & Fall's."""
_H_ALPHA, _GAS_OVER_STARS, _R_V, _TAU_PER_MAG = 3.33, 0.44, 4.05, 1.086
"""Calzetti et al. 2000: k(H alpha), reddening of stars over that of gas, R_V; and magnitudes per unit of tau."""


def log_mass_function(log_mass: np.ndarray, redshift: float) -> np.ndarray:
    """ln of the number of galaxies per unit of ln M and comoving Mpc^3, at ascending log10 masses.

    Linear in redshift between the surveys. Faint ends go on as power laws, massive ends fall as M^-4 at most.

    >>> (log_mass_function(np.array([10.0, 11.0, 12.0]), 0.1) / np.log(10.0)).round(1).tolist()
    [-2.6, -3.0, -7.0]
    """
    slope = _STEEPEST * np.log(10.0) * np.asarray(log_mass)
    return np.maximum.accumulate(_log_published(log_mass, redshift) + slope) - slope


def _log_published(log_mass: np.ndarray, redshift: float) -> np.ndarray:
    nodes = [_BALDRY_Z, _LEJA_Z[0], _LEJA_Z[-1], *_TACCHELLA_Z]
    z = float(np.clip(redshift, nodes[0], nodes[-1]))
    if _LEJA_Z[0] <= z <= _LEJA_Z[-1]:
        return _leja(log_mass, z)
    i = min(int(np.searchsorted(nodes, z, side="right")) - 1, len(nodes) - 2)
    f = (z - nodes[i]) / (nodes[i + 1] - nodes[i])
    return (1.0 - f) * _surveyed(log_mass, nodes[i]) + f * _surveyed(log_mass, nodes[i + 1])


def _surveyed(log_mass, z) -> np.ndarray:
    if z == _BALDRY_Z:
        mstar, phi, alpha = _BALDRY
        return np.logaddexp(*(_schechter(log_mass, np.log10(p), mstar, a) for p, a in zip(phi, alpha, strict=True)))
    if z <= _LEJA_Z[-1]:
        return _leja(log_mass, z)
    phi, mstar, alpha = (np.interp(z, _TACCHELLA_Z, row) for row in _TACCHELLA.values())
    return _schechter(log_mass, np.log10(1e-5 * phi), mstar, alpha)


def _leja(log_mass, z) -> np.ndarray:
    at = {name: np.polyval(np.polyfit(_LEJA_Z, values, 2), z) for name, values in _LEJA.items()}
    return np.logaddexp(_schechter(log_mass, at["log_phi1"], at["log_mstar"], _LEJA_ALPHA[0]),
                        _schechter(log_mass, at["log_phi2"], at["log_mstar"], _LEJA_ALPHA[1]))  # fmt: skip


def _schechter(log_mass, log_phi, log_mstar, alpha) -> np.ndarray:
    return np.log(10.0) * log_phi + Schechter(family="schechter", log_mass=log_mstar, alpha=alpha).log_shape(log_mass)


def star_forming_sequence(log_mass: np.ndarray, t_age: float) -> np.ndarray:
    """log10 of the specific star-formation rate in 1 / yr, in a universe of that age.

    >>> round(float(star_forming_sequence(10.5, 12.4)), 2)
    -10.21
    """
    a = _POPESSO
    turn = np.logaddexp(0.0, np.log(10.0) * (a[2] + a[3] * t_age - log_mass)) / np.log(10.0)
    return a[0] + a[1] * t_age - turn - log_mass


def quenched_fraction(log_mass: np.ndarray, redshift: float) -> np.ndarray:
    """Of all galaxies of a mass.

    >>> quenched_fraction(np.array([9.0, 10.2, 11.0]), 0.0).round(2).tolist()
    [0.03, 0.5, 0.92]
    """
    return 1.0 / (1.0 + 10.0 ** (-1.3 * (log_mass - (10.2 + 0.5 * redshift))))


def age_fraction(log_mass: np.ndarray, t_age: float, cosmology: CosmologyTable) -> np.ndarray:
    """Mass-weighted age over the age of the universe of a galaxy whose history is the cosmic one up to a time that is
    earlier than its own by 0.2 dex at 10^9 Msun and later by 0.8 dex at 10^12 Msun, over that time (Wang et al. 2023).
    """
    z = np.expm1(np.linspace(0.0, np.log(16.0), 600))[::-1]
    time = cosmology.age(z)
    rate = 0.015 * (1.0 + z) ** 2.7 / (1.0 + ((1.0 + z) / 2.9) ** 5.6)
    step = np.diff(time)
    formed = np.append(0.0, np.cumsum(0.5 * step * (rate[1:] + rate[:-1])))
    moment = np.append(0.0, np.cumsum(0.5 * step * (rate[1:] * time[1:] + rate[:-1] * time[:-1])))
    shift = np.interp(log_mass, [9.0, 12.0], [-0.2, 0.8])
    end = np.clip(t_age * 10.0**shift, time[len(time) // 20], cosmology.age(0.15))
    return 1.0 - np.interp(end, time[1:], moment[1:] / formed[1:]) / end


def metallicity(log_mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and width of log10 Z, absolute; 0.3 dex wide at least, for other redshifts and other measures of Z.

    >>> [round(float(x), 2) for x in metallicity(11.0)]
    [-1.61, 0.3]
    """
    mean, low, high = (np.interp(log_mass, _GALLAZZI[0], row) for row in _GALLAZZI[1:])
    return mean + np.log10(Z_SUN), np.maximum(0.5 * (high - low), _MIN_SIGMA_Z)


def tau_forming(log_mass: np.ndarray) -> np.ndarray:
    """Mean diffuse optical depth of a galaxy that forms stars.

    >>> tau_forming(np.array([9.0, 10.0, 11.0])).round(2).tolist()
    [0.17, 0.45, 0.84]
    """
    x = np.clip(log_mass, 8.66, 11.96) - 10.0
    a_h_alpha = 0.91 + 0.77 * x + 0.11 * x**2 - 0.09 * x**3
    return a_h_alpha / _H_ALPHA * _GAS_OVER_STARS * _R_V / _TAU_PER_MAG


def clouds_width(tau: np.ndarray) -> np.ndarray:
    """Width of tau_bc around the diffuse optical depth tau: 0.3 of it, and 0.1, for a law that goes to no width where
    there is no dust would be sure of clouds that hardly matter there.
    """
    return 0.1 + 0.3 * tau


def slope(tau: np.ndarray, dust_law: str) -> tuple[np.ndarray, float]:
    """Mean and width of the slope of the attenuation where the diffuse optical depth is tau."""
    offset, sigma = _SLOPE[dust_law]
    return offset - 0.095 + 0.111 * tau - 0.0066 * tau**2, sigma

"""Light of the gas that young stars ionise: lines and continuum, added to an SSP grid.

L'(Z, t) = L(Z, t) + N(Z, t) for t <= MAX_AGE_GYR, where N is what Cloudy gives for the same stars at one ionisation
parameter U (Byler et al. 2017; Carnall et al. 2018, section 3.1.2), and no starlight is left below the Lyman limit: the
gas has taken it. Older than that hardly an ionising photon is left. Without it H alpha is missing, which with its
neighbours is 2% of the i flux at z = 0.1 of a galaxy that forms 10^-10.5 of its mass a year.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from popcat.errors import PopcatError

if TYPE_CHECKING:  # popcat.sps.grid reads embedded grids with this module
    from popcat.sps.grid import SSPGrid

MAX_AGE_GYR = 0.01
_LYMAN_LIMIT_AA = 911.8
_ROUND = 1.0 + 1e-6


@dataclass(frozen=True)
class Nebular:
    """Nebular emission of SSPs, per solar mass formed.

    log_u : log10 of the ionisation parameter. log_age_yr : (n_age,), ascending; younger than the first it is constant,
    between two linear in ln t. log_z_abs : (n_Z,). wave_aa : (n_wave,), vacuum. lum : (n_Z, n_age, n_wave) in
    Lsun / Angstrom / Msun.
    """

    log_u: float
    log_age_yr: np.ndarray
    log_z_abs: np.ndarray
    wave_aa: np.ndarray
    lum: np.ndarray


def ionises(age_gyr: np.ndarray) -> np.ndarray:
    """Whether stars of an age in Gyr, of any shape, have gas that shines.

    >>> ionises(np.array([0.001, 0.01, 0.011])).tolist()
    [True, True, False]
    """
    return age_gyr <= MAX_AGE_GYR * _ROUND


def with_nebular(grid: "SSPGrid", nebular: Nebular) -> "SSPGrid":
    """The grid with nebular emission, which its provenance tells by `nebular_log_u`.

    Raises PopcatError if the two are not on the same metallicities and wavelengths.
    """
    _check_axes(grid, nebular)
    young = np.flatnonzero(ionises(grid.age_gyr))
    at = np.interp(grid.log_age_yr[young], nebular.log_age_yr, np.arange(len(nebular.log_age_yr)))
    left = np.minimum(at.astype(int), len(nebular.log_age_yr) - 2)
    part = (at - left)[None, :, None]
    lum = np.array(grid.lum, dtype=float)
    lum[:, young] *= grid.wave_aa >= _LYMAN_LIMIT_AA
    lum[:, young] += (1.0 - part) * nebular.lum[:, left] + part * nebular.lum[:, left + 1]
    return replace(grid, lum=lum, provenance={**grid.provenance, "nebular_log_u": nebular.log_u})


def _check_axes(grid: "SSPGrid", nebular: Nebular) -> None:
    for name, tolerance in (("log_z_abs", {"atol": 1e-3}), ("wave_aa", {"rtol": 1e-6})):
        stars, gas = getattr(grid, name), getattr(nebular, name)
        if len(stars) != len(gas) or not np.allclose(stars, gas, **tolerance):
            raise PopcatError(f"nebular emission for another grid: expected its {name} to be that of the stars, "
                              f"{_span(stars)}, got {_span(gas)}")  # fmt: skip


def _span(axis: np.ndarray) -> str:
    return f"{len(axis)} values from {axis[0]:g} to {axis[-1]:g}"


def lines_on(wave_aa: np.ndarray, line_aa: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Light (..., n_wave) of lines of strength (..., n_line) at line_aa: each shared by the wavelengths beside it.

    Lines outside, and in the first and the last interval, are left out.

    >>> wave = np.array([0.0, 1.0, 2.0, 3.0])
    >>> lines_on(wave, np.array([1.25]), np.array([4.0])).tolist()
    [0.0, 3.0, 1.0, 0.0]
    """
    width, lum = np.gradient(wave_aa), np.zeros((*strength.shape[:-1], len(wave_aa)))
    for line in np.flatnonzero((line_aa > wave_aa[1]) & (line_aa < wave_aa[-2])):
        i = int(np.searchsorted(wave_aa, line_aa[line])) - 1
        right = (line_aa[line] - wave_aa[i]) / (wave_aa[i + 1] - wave_aa[i])
        lum[..., i] += strength[..., line] * (1.0 - right) / width[i]
        lum[..., i + 1] += strength[..., line] * right / width[i + 1]
    return lum

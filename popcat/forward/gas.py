"""Light of the gas that young stars ionise, at any ionisation parameter: lines and continuum of Cloudy.

N(w; Z, t, U) for stars of metallicity Z and age t, per solar mass formed, with gas as metal-rich as the stars (Byler et
al. 2017; Carnall et al. 2018), computed for the BC03 stars. Between the nodes it is linear in ln Z, in ln t (constant
younger than 1 Myr, none older than 10 Myr) and in log U: what the galaxy model with gas = "grid" holds at log U = -3
alone. Ionising light is shared: the fraction f_esc of the stars' light below the Lyman limit leaves the galaxy, the gas
takes the rest, and shines (1 - f_esc) N.

Lines are kept one by one, so that their luminosities can be told; the continuum is a sum of a few spectra.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from popcat.errors import PopcatError
from popcat.files import embedded_arrays
from popcat.forward.grid import LYMAN_LIMIT_AA, SSPGrid, ionises, linear_weights, lines_on

LINES_AA = {
    "ly_alpha": (1215.67,),
    "o2_3727": (3727.09, 3729.88),
    "h_beta": (4862.68,),
    "o3_4959": (4960.30,),
    "o3_5007": (5008.24,),
    "h_alpha": (6564.61,),
    "n2_6584": (6585.27,),
}
"""Vacuum wavelengths in Angstrom of lines by name; [O II] is a sum of two."""
CONTINUUM_AA = {
    "ly_alpha": ((1225.0, 1265.0),),
    "o2_3727": ((3685.0, 3715.0), (3740.0, 3770.0)),
    "h_beta": ((4795.0, 4835.0), (4890.0, 4930.0)),
    "o3_5007": ((4890.0, 4930.0), (5030.0, 5070.0)),
    "h_alpha": ((6480.0, 6530.0), (6610.0, 6660.0)),
    "n2_6584": ((6480.0, 6530.0), (6610.0, 6660.0)),
}
"""The lines that are derived for a galaxy, and where the continuum of their equivalent widths is measured; [O III] 4959
is a third of 5007."""
_BAND_WIDTH, _BAND_STEP = 0.1, 0.02


@dataclass(frozen=True)
class Gas:
    """Nebular emission at the nodes.

    log_z_abs : (n_Z,), log_age_yr : (n_age,), log_u : (n_U,), each ascending
    line_aa : (n_line,) vacuum wavelengths. lines : (n_Z, n_age, n_U, n_line) in Lsun / Msun
    wave_aa : (n_wave,). templates : (n, n_wave) in Lsun / Angstrom. coefficients : (n_Z, n_age, n_U, n) per Msun; the
    continuum is coefficients @ templates
    """

    log_z_abs: np.ndarray
    log_age_yr: np.ndarray
    log_u: np.ndarray
    line_aa: np.ndarray
    lines: np.ndarray
    wave_aa: np.ndarray
    templates: np.ndarray
    coefficients: np.ndarray


@cache
def load_gas() -> Gas:
    """The embedded emission, for the stars of the grid "bc03_miles".

    >>> load_gas().lines.shape
    (7, 11, 7, 124)
    """
    return Gas(**embedded_arrays("gas_bc03_miles"))


def check_stars(grid: SSPGrid, gas: Gas) -> None:
    """PopcatError unless the grid's stars are those that the emission was computed for, and have none yet."""
    if "nebular_log_u" in grid.provenance:
        raise PopcatError('gas = "cloudy" adds nebular emission to stars that have it already: expected an SSP grid '
                          'without, such as grid = "bc03_miles"')  # fmt: skip
    z, wanted = grid.log_z_abs, gas.log_z_abs
    if len(z) != len(wanted) or not np.allclose(z, wanted, atol=1e-3):
        raise PopcatError(
            f'gas = "cloudy" is there for the metallicities of BC03, {len(wanted)} from Z = {10.0 ** wanted[0]:g} to '
            f'{10.0 ** wanted[-1]:g}, got {len(z)} from {10.0 ** z[0]:g} to {10.0 ** z[-1]:g}: take gas = "grid"'
        )


def age_weights(gas: Gas, age_gyr) -> np.ndarray:
    """Weights of the emission's ages for stars of ages in Gyr, of any shape: (..., n_age); none beyond 10 Myr.

    >>> age_weights(load_gas(), [0.0005, 0.02]).sum(axis=1).tolist()
    [1.0, 0.0]
    """
    age = np.asarray(age_gyr, dtype=float)
    return linear_weights(gas.log_age_yr, np.log10(age) + 9.0) * ionises(age)[..., None]


def node_weights(gas: Gas, log_z: float, by_age: np.ndarray, log_u: float) -> np.ndarray:
    """Weights (n_Z, n_age, n_U) of stars of one metallicity, log10 of the absolute one, and of weights by age."""
    z, u = linear_weights(gas.log_z_abs, log_z), linear_weights(gas.log_u, log_u)
    return z[:, None, None] * by_age[:, None] * u


def gas_light(gas: Gas, weights: np.ndarray, wave_aa: np.ndarray) -> np.ndarray:
    """L_lambda (n_wave,) in Lsun / Angstrom at rest-frame wavelengths, of weights (n_Z, n_age, n_U) in Msun.

    Each line's light is shared by the wavelengths beside it (popcat.forward.grid.lines_on).
    """
    smooth = np.tensordot(weights, gas.coefficients, axes=3) @ gas.templates
    lines = np.tensordot(weights, gas.lines, axes=3)
    smooth = np.interp(wave_aa, gas.wave_aa, smooth, left=0.0, right=0.0)
    return smooth + lines_on(np.asarray(wave_aa, dtype=float), gas.line_aa, lines)


def light_of_nodes(gas: Gas, wave_aa: np.ndarray) -> np.ndarray:
    """`gas_light` of one solar mass at every node, (n_Z, n_age, n_U, n_wave)."""
    every = np.eye(gas.lines[..., 0].size).reshape(-1, *gas.lines.shape[:3])
    return np.stack([gas_light(gas, one, wave_aa) for one in every]).reshape(*gas.lines.shape[:3], -1)


def line_numbers(gas: Gas, name: str) -> list[int]:
    """Which of the emission's lines one of `LINES_AA` is made of."""
    return [int(np.argmin(np.abs(gas.line_aa - wave))) for wave in LINES_AA[name]]


def starlight(grid: SSPGrid, log_age_yr: np.ndarray, f_esc: float = 0.0) -> np.ndarray:
    """L_lambda (n_Z, n_age, n_wave) of stars of these ages, with f_esc of their light below the Lyman limit."""
    weights = linear_weights(grid.log_age_yr, log_age_yr)
    return np.einsum("ta,zaw->ztw", weights, grid.lum) * np.where(grid.wave_aa >= LYMAN_LIMIT_AA, 1.0, f_esc)


def band_matrix(wave_aa: np.ndarray) -> np.ndarray:
    """Mean over bands 10% wide, 2% apart, of light at these wavelengths: (n_wave, n_band), from the Lyman limit up."""
    low, high = np.log(max(wave_aa[0], LYMAN_LIMIT_AA)), np.log(wave_aa[-1])
    centres = np.arange(low + 0.5 * _BAND_WIDTH + 0.01, high - 0.5 * _BAND_WIDTH, _BAND_STEP)
    edge = (0.5 * _BAND_WIDTH + 0.01 - np.abs(np.log(wave_aa)[:, None] - centres)) / 0.02
    weight = np.clip(edge, 0.0, 1.0) * (wave_aa * np.gradient(wave_aa))[:, None]
    return weight / weight.sum(axis=0)


def factors(light: np.ndarray, stars: np.ndarray, wave_aa: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Light (n_Z, n_age, n_U, n_wave) as coefficients (n_Z, n_age, n_U, rank) times spectra (rank, n_wave).

    The coefficients are left singular vectors of the light in the bands of `band_matrix`, each galaxy and each band in
    units of the light there of gas and stars (n_Z, n_age, n_wave); the spectra are those that fit best with them, by
    least squares.
    """
    bands, flat = band_matrix(wave_aa), light.reshape(-1, len(wave_aa))
    total = (light + stars[:, :, None]).reshape(flat.shape) @ bands
    rows = 1.0 / np.median(total, axis=1, keepdims=True)
    columns = np.exp(-np.log(total * rows).mean(axis=0))
    left, size, _ = np.linalg.svd((flat @ bands) * rows * columns, full_matrices=False)
    weighted = left[:, :rank] * size[:rank]
    spectra = np.linalg.lstsq(weighted, flat * rows, rcond=None)[0]
    return (weighted / rows).reshape(*light.shape[:3], rank), spectra


def line_aa(name: str) -> float:
    """Wavelength in Angstrom at which dust sees a line: that of the middle of a doublet."""
    return float(np.mean(LINES_AA[name]))


def continuum_samples(name: str) -> np.ndarray:
    """Wavelengths in Angstrom whose mean L_lambda is the continuum beside a line."""
    return np.concatenate([np.linspace(low, high, 41) for low, high in CONTINUUM_AA[name]])


def line_columns(gas: Gas) -> np.ndarray:
    """Of gas at every node, luminosities of the derived lines in Lsun, then L_lambda of its continuum beside them:
    (n_Z, n_age, n_U, 2 n_line), in the order of CONTINUUM_AA.
    """
    lines = [gas.lines[..., line_numbers(gas, name)].sum(axis=-1) for name in CONTINUUM_AA]
    beside = [np.interp(continuum_samples(name), gas.wave_aa, template).mean()
              for name in CONTINUUM_AA for template in gas.templates]  # fmt: skip
    smooth = gas.coefficients @ np.array(beside).reshape(len(CONTINUUM_AA), -1).T
    return np.concatenate([np.stack(lines, axis=-1), smooth], axis=-1)

"""Thin an SSP grid: as few wavelengths and ages as broadband photometry needs."""

import numpy as np

from popcat.forward.grid import SSPGrid

# (from, to, step) in Angstrom. Dust steepens spectra towards the blue, so the steps are finest there; from the Lyman
# limit to Lyman alpha light has its sharpest edges. 440 A is where GALEX's FUV looks at z = 2.
BROADBAND_STEPS = (
    (440.0, 912.0, 2.0),
    (912.0, 1300.0, 1.0),
    (1300.0, 2800.0, 2.0),
    (2800.0, 4500.0, 3.0),
    (4500.0, 7400.0, 5.0),
    (7400.0, 10000.0, 10.0),
    (10000.0, 25000.0, 50.0),
    (25000.0, 60000.0, 200.0),
    (60000.0, 100000.0, 1000.0),
)
# Rounding errors up to 2^-16 in the light of one wavelength and age; bands average over hundreds.
_DIGITS = 16
# A debt is settled after one or two, but for light that is next to nothing.
_MOST_SWEEPS = 30


def broadband_wavelengths() -> np.ndarray:
    """Wavelengths that `thin_for_broadband` uses, in Angstrom."""
    parts = [np.arange(low, high, step) for low, high, step in BROADBAND_STEPS]
    return np.concatenate([*parts, [BROADBAND_STEPS[-1][1]]])


def resample(grid: SSPGrid, wave_aa: np.ndarray) -> SSPGrid:
    """The grid on other wavelengths: the best piecewise-linear spectrum between them, by least squares.

    L' minimises int (L' - L)^2 dw, so int L' a dw = int L a dw for every a(w) that is linear between the new
    wavelengths: photometry is wrong only where filter times dust is curved on the scale of a step, and then to second
    order. Beside lines narrower than a step the best fit may fall below zero: that is made up from both neighbours.
    """
    from scipy.linalg import solveh_banded

    fine = np.union1d(grid.wave_aa, wave_aa)
    fine = fine[(fine >= wave_aa[0]) & (fine <= wave_aa[-1])]
    hats = _hats(fine, wave_aa)
    on_fine = _hats(fine, grid.wave_aa)
    # Products of functions that are linear between the fine wavelengths, integrated exactly.
    weights = hats.T @ _mass_matrix(fine)
    normal = weights @ hats
    bands = np.stack([normal.diagonal(), np.append(normal.diagonal(1), 0.0)])
    moments = (weights @ on_fine) @ grid.lum.reshape(-1, len(grid.wave_aa)).T
    lum = solveh_banded(bands, moments, lower=True).T.reshape(*grid.lum.shape[:2], -1)
    lum = _without_negatives(lum, normal.sum(axis=0))
    return SSPGrid(grid.log_age_yr, grid.log_z_abs, wave_aa, lum, grid.mstar, grid.provenance)


def _without_negatives(lum: np.ndarray, width_aa: np.ndarray) -> np.ndarray:
    """Light with values below zero raised to it, half at the expense of each neighbour: integrals stay."""
    energy = lum * width_aa
    for _ in range(_MOST_SWEEPS):
        debt = np.minimum(energy, 0.0)
        if not debt.any():
            break
        energy -= debt
        energy[..., 1:] += 0.5 * debt[..., :-1]
        energy[..., :-1] += 0.5 * debt[..., 1:]
    return np.maximum(energy, 0.0) / width_aa


def _hats(fine: np.ndarray, nodes: np.ndarray):
    """Sparse (n_fine, n_node): the piecewise-linear hat of each node at the fine wavelengths."""
    from scipy.sparse import csc_array

    left = np.clip(np.searchsorted(nodes, fine, side="right") - 1, 0, len(nodes) - 2)
    fraction = (fine - nodes[left]) / (nodes[left + 1] - nodes[left])
    entries = np.concatenate([1.0 - fraction, fraction])
    row = np.tile(np.arange(len(fine)), 2)
    return csc_array((entries, (row, np.concatenate([left, left + 1]))), shape=(len(fine), len(nodes)))


def _mass_matrix(wave: np.ndarray):
    """Sparse (n, n): int h_i h_j dw of the hats of all wavelengths."""
    from scipy.sparse import diags_array

    step = np.diff(wave)
    middle = (np.append(step, 0.0) + np.append(0.0, step)) / 3.0
    return diags_array([step / 6.0, middle, step / 6.0], offsets=[-1, 0, 1]).tocsc()


def _hat_integrals(fine: np.ndarray, nodes: np.ndarray):
    """Sparse (n_fine, n_node): trapezoid weight of each fine wavelength times each node's hat there."""
    step = np.diff(fine)
    weight = 0.5 * (np.append(0.0, step) + np.append(step, 0.0))
    return _hats(fine, nodes).multiply(weight[:, None]).tocsc()


def round_mantissa(values: np.ndarray, bits: int) -> np.ndarray:
    """Values (of any shape) rounded to `bits` binary digits: relative errors up to 2^-bits, and files that compress.

    >>> float(round_mantissa(1 / 3, 4))
    0.34375
    """
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2.0**bits) / 2.0**bits, exponent)


def thin_ages(grid: SSPGrid, band_lum: np.ndarray, tolerance: float) -> np.ndarray:
    """Indices of the ages to keep, so that interpolation in ln t is good to `tolerance`.

    band_lum is (n_Z, n_age, n_column): light (or surviving mass) in any number of positive columns. Greedy: from
    each kept age, the farthest next one for which every age between is interpolated within the relative tolerance.
    """
    x = grid.log_age_yr
    keep = [0]
    while keep[-1] < len(x) - 1:
        start = keep[-1]
        stop = start + 1
        while stop + 1 < len(x) and _max_error(x, band_lum, start, stop + 1) < tolerance:
            stop += 1
        keep.append(stop)
    return np.array(keep)


def _max_error(x, lum, start, stop) -> float:
    inside = slice(start + 1, stop)
    fraction = ((x[inside] - x[start]) / (x[stop] - x[start]))[None, :, None]
    guess = lum[:, start, None] * (1.0 - fraction) + lum[:, stop, None] * fraction
    return float(np.max(np.abs(guess / lum[:, inside] - 1.0)))


def select_ages(grid: SSPGrid, keep: np.ndarray) -> SSPGrid:
    """The grid at some of its ages."""
    return SSPGrid(
        grid.log_age_yr[keep], grid.log_z_abs, grid.wave_aa, grid.lum[:, keep], grid.mstar[:, keep], grid.provenance
    )


def smooth_bands(grid: SSPGrid, *, low_aa: float = 1100.0, high_aa: float = 50000.0, step: float = 0.08) -> np.ndarray:
    """Light in overlapping triangular bands 2 x `step` wide in ln(wavelength): (n_Z, n_age, n_band).

    Narrower than any broadband filter, so a grid that keeps these keeps photometry at every redshift. Bands that the
    grid does not cover are left out.
    """
    low, high = max(low_aa, grid.wave_aa[0]), min(high_aa, grid.wave_aa[-1])
    nodes = np.exp(np.arange(np.log(low), np.log(high), step))
    fine = grid.wave_aa[(grid.wave_aa >= nodes[0]) & (grid.wave_aa <= nodes[-1])]
    inside = np.isin(grid.wave_aa, fine)
    flat = grid.lum[..., inside].reshape(-1, len(fine)) @ _hat_integrals(fine, nodes)
    return flat.reshape(*grid.lum.shape[:2], len(nodes))[..., 1:-1]


def thin_for_broadband(grid: SSPGrid, *, age_tolerance: float = 1e-3, age_max_gyr: float = 14.5) -> SSPGrid:
    """The grid that popcat embeds: `broadband_wavelengths`, ages to 14.5 Gyr and of those what `thin_ages` keeps.

    A grid that does not cover all of those wavelengths keeps the ones that it covers. Light is rounded to 16 binary
    digits, which halves the file.
    """
    wave = broadband_wavelengths()
    covered = wave[(wave >= grid.wave_aa[0]) & (wave <= grid.wave_aa[-1])]
    coarse = resample(select_ages(grid, np.flatnonzero(grid.age_gyr <= age_max_gyr * 1.001)), covered)
    columns = np.concatenate([smooth_bands(coarse), coarse.mstar[..., None]], axis=-1)
    thin = select_ages(coarse, thin_ages(coarse, columns, age_tolerance))
    note = {
        "thinned": f"{len(thin.log_age_yr)} of {len(grid.log_age_yr)} ages, "
        f"{len(thin.wave_aa)} of {len(grid.wave_aa)} wavelengths",
        "age_tolerance": age_tolerance,
    }
    lum = round_mantissa(thin.lum, _DIGITS)
    return SSPGrid(thin.log_age_yr, thin.log_z_abs, thin.wave_aa, lum, thin.mstar, {**grid.provenance, **note})

"""Thin an SSP grid: as few wavelengths and ages as broadband photometry needs."""

import numpy as np

from popcat.sps.grid import SSPGrid

# (from, to, step) in Angstrom: finer than any filter edge in the optical, native resolution in the infrared.
BROADBAND_STEPS = (
    (91.0, 912.0, 15.0),
    (912.0, 3000.0, 6.0),
    (3000.0, 7400.0, 5.0),
    (7400.0, 10000.0, 10.0),
    (10000.0, 25000.0, 50.0),
    (25000.0, 60000.0, 200.0),
    (60000.0, 100000.0, 1000.0),
)


def broadband_wavelengths() -> np.ndarray:
    """Wavelengths that `resample` uses by default, in Angstrom."""
    parts = [np.arange(low, high, step) for low, high, step in BROADBAND_STEPS]
    return np.concatenate([*parts, [BROADBAND_STEPS[-1][1]]])


def resample(grid: SSPGrid, wave_aa: np.ndarray) -> SSPGrid:
    """The grid on other wavelengths, each value the average under a hat function.

    L_i = int L(w) h_i(w) dw / int h_i(w) dw with h_i the piecewise-linear hat of node i, so that the integral of L
    times anything linear between nodes is kept.
    """
    fine = np.union1d(grid.wave_aa, wave_aa)
    fine = fine[(fine >= wave_aa[0]) & (fine <= wave_aa[-1])]
    hats = _hat_integrals(fine, wave_aa)
    hats /= hats.sum(axis=0)
    shape = (*grid.lum.shape[:2], len(wave_aa))
    lum = np.empty(shape)
    for i, plane in enumerate(grid.lum):
        on_fine = np.stack([np.interp(fine, grid.wave_aa, row) for row in plane])
        lum[i] = on_fine @ hats
    return SSPGrid(grid.log_age_yr, grid.log_z_abs, wave_aa, lum, grid.mstar, grid.provenance)


def _hat_integrals(fine: np.ndarray, nodes: np.ndarray):
    """Sparse (n_fine, n_node): trapezoid weight of each fine wavelength times each node's hat there."""
    from scipy.sparse import csc_array

    step = np.diff(fine)
    weight = 0.5 * (np.concatenate([[0.0], step]) + np.concatenate([step, [0.0]]))
    left = np.clip(np.searchsorted(nodes, fine, side="right") - 1, 0, len(nodes) - 2)
    fraction = (fine - nodes[left]) / (nodes[left + 1] - nodes[left])
    row = np.arange(len(fine))
    values = np.concatenate([weight * (1.0 - fraction), weight * fraction])
    entries = (values, (np.tile(row, 2), np.concatenate([left, left + 1])))
    return csc_array(entries, shape=(len(fine), len(nodes)))


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

    A grid that does not cover all of those wavelengths keeps the ones that it covers.
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
    return SSPGrid(thin.log_age_yr, thin.log_z_abs, thin.wave_aa, thin.lum, thin.mstar, {**grid.provenance, **note})

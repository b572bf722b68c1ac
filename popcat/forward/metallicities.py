"""The metallicities of an SSP grid as a galaxy model has them: more nodes between the grid's, and none beyond a range.

Light between nodes is linear in ln Z, in spectra, band tables and kernels: a grid with other nodes is all they see.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from popcat.errors import PopcatError
from popcat.forward.grid import SSPGrid, linear_weights

_NEAR_DEX = 1e-6


def with_metallicities(grid: SSPGrid, *, nodes: int = 1, z_range: "tuple[float, float] | None" = None) -> SSPGrid:
    """The grid with `nodes` metallicities a step of its own, and none outside z_range (absolute).

    New nodes between the grid's are a monotone cubic (Fritsch & Carlson 1980) in ln Z: of ln L where all the grid's
    metallicities shine at that age and wavelength, else L is linear in ln Z; and of the surviving mass. At an end of
    z_range inside the grid there is a node, on the straight line in ln Z; an end outside leaves the grid's own.

    Raises PopcatError if the range holds nothing of the grid's.

    >>> from popcat.forward.grid import load_grid
    >>> with_metallicities(load_grid("bc03_miles"), z_range=(4.5e-5, 0.045)).z_abs.round(4).tolist()
    [0.0001, 0.0004, 0.004, 0.008, 0.02, 0.045]
    """
    made = grid if nodes == 1 else _refined(grid, nodes)
    made = made if z_range is None else _within(made, *z_range)
    return made if made is grid else replace(made, made_of=f"{grid.content_hash()} {nodes} {z_range}")


def _refined(grid: SSPGrid, nodes: int) -> SSPGrid:
    from scipy.interpolate import PchipInterpolator

    log_z = grid.log_z_abs
    steps = [np.linspace(low, high, nodes, endpoint=False) for low, high in pairwise(log_z)]
    fine = np.concatenate([*steps, log_z[-1:]])
    shines = np.all(grid.lum > 0.0, axis=0)
    lum = np.tensordot(linear_weights(log_z, fine), grid.lum, axes=1)
    ln_lum = np.log(grid.lum[:, shines], dtype=float)
    lum[:, shines] = np.exp(PchipInterpolator(log_z, ln_lum, axis=0)(fine))
    lum[::nodes] = grid.lum
    return replace(grid, log_z_abs=fine, lum=lum, mstar=PchipInterpolator(log_z, grid.mstar, axis=0)(fine))


def _within(grid: SSPGrid, z_min: float, z_max: float) -> SSPGrid:
    low, high = max(np.log10(z_min), grid.log_z_abs[0]), min(np.log10(z_max), grid.log_z_abs[-1])
    if not low < high:
        raise PopcatError(f"metallicity_range: expected some of the SSP grid's, {grid.z_abs[0]:.2g} to "
                          f"{grid.z_abs[-1]:.2g}, got {z_min:g} to {z_max:g}")  # fmt: skip
    inside = grid.log_z_abs[(grid.log_z_abs > low + _NEAR_DEX) & (grid.log_z_abs < high - _NEAR_DEX)]
    log_z = np.array([low, *inside, high])
    weights = linear_weights(grid.log_z_abs, log_z)
    return replace(grid, log_z_abs=log_z, lum=np.tensordot(weights, grid.lum, axes=1), mstar=weights @ grid.mstar)

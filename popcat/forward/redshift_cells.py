"""The redshifts of band tables: uniform in ln(1 + z), and closer where a break crosses the edge of a filter.

Light is linear in ln(1 + z) between nodes. Where the break at Lyman alpha or at the Lyman limit, or the Lyman alpha
line, is about to leave a band, the flux falls by a large factor within one cell: such cells are halved, and halved
again, until the band's light in the middle is that of the straight line.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from popcat.forward.grid import LYMAN_LIMIT_AA
from popcat.forward.igm import LYMAN_ALPHA_AA
from popcat.forward.projection import BandColumns
from popcat.forward.quadrature import hat_weights

CELL_LN1PZ = 1.0e-3
"""Width of a redshift cell in ln(1 + z): linear interpolation is then good to 2e-4, but for breaks."""
REST_CELL_LN1PZ = 8e-3
"""The same for rest-frame tables, of which only the cut bins change with redshift: good to about 5e-5."""
BREAK_TOLERANCE = 8e-4
"""Relative error of a band's light in the middle of a cell from which on it is halved."""
MOST_HALVINGS = 3
SEEN = 1e-8
"""Less than this fraction of the light in the brightest band without dust does not count."""


def redshift_nodes(z_range, cell: float = CELL_LN1PZ) -> np.ndarray:
    """Nodes uniform in ln(1 + z), not wider apart than `cell`, that cover a redshift range."""
    low, high = np.log1p(z_range[0]), np.log1p(z_range[1])
    return np.linspace(low, high, max(int(np.ceil((high - low) / cell)), 1) + 1)


def halved(nodes: np.ndarray, seen: Callable[[float], np.ndarray]) -> np.ndarray:
    """Nodes, and those in the middle of cells where `seen` is off its straight line by more than BREAK_TOLERANCE.

    seen : of ln(1 + z), light (n,); NaN and zero do not count.

    >>> halved(np.array([0.0, 1.0, 2.0]), lambda x: np.array([abs(x - 0.5) + 1.0])).tolist()
    [0.0, 0.5, 1.0, 2.0]
    """
    cells, found = list(pairwise(nodes)), [nodes]
    light = {float(x): seen(float(x)) for x in nodes}
    for _ in range(MOST_HALVINGS):
        narrower = []
        for low, high in cells:
            middle = 0.5 * (low + high)
            light[middle] = seen(middle)
            with np.errstate(divide="ignore", invalid="ignore"):
                off = np.abs(0.5 * (light[low] + light[high]) / light[middle] - 1.0)
            if np.any((off > BREAK_TOLERANCE) & np.isfinite(off)):
                narrower += [(low, middle), (middle, high)]
        found.append(np.array([low for low, _ in narrower]))
        cells = narrower
    return np.unique(np.concatenate(found))


def near_breaks(columns: BandColumns, wave_rest: np.ndarray, spectra: np.ndarray, z_range):
    """For `halved`: light of spectra (n, n_wave) in the bands that Lyman alpha or the Lyman limit is in; NaN in the
    others, and where it is too little to count."""
    ends = [_of_bands(columns, wave_rest, spectra, z, range(len(columns.segments))) for z in z_range]
    least = SEEN * np.minimum(*(light.max(axis=1, keepdims=True) for light in ends))
    edges = [(segments[0].wave_aa[0], segments[-1].wave_aa[-1]) for segments in columns.segments]

    def seen(ln1pz: float) -> np.ndarray:
        z, out = np.expm1(ln1pz), np.full((len(spectra), len(edges)), np.nan)
        with_break = [band for band, (low, high) in enumerate(edges)
                      if LYMAN_LIMIT_AA * (1.0 + z) < high and LYMAN_ALPHA_AA * (1.0 + z) > low]  # fmt: skip
        if with_break:
            light = _of_bands(columns, wave_rest, spectra, z, with_break)
            out[:, with_break] = np.where(light > least, light, np.nan)
        return out.ravel()

    return seen


def _of_bands(columns: BandColumns, wave_rest, spectra, redshift: float, bands) -> np.ndarray:
    """Light of spectra in some bands, (n, n_band)."""
    out = np.zeros((len(spectra), len(bands)))
    for i, band in enumerate(bands):
        for s in columns.segments[band]:
            weights = hat_weights(wave_rest, s.wave_aa, columns.weight(band, s, redshift)[None], redshift)[:, 0]
            used = np.flatnonzero(weights)
            out[:, i] += spectra[:, used] @ weights[used]
    return out


def blocks_of(ln1pz: np.ndarray, cells: int) -> np.ndarray:
    """Block of every cell between nodes: as wide as so many of the widest cells, or four times as many narrower ones.

    >>> blocks_of(np.array([0.0, 1.0, 2.0, 2.5, 3.0, 4.0]), 2).tolist()
    [0, 0, 1, 1, 1]
    """
    wide, out, first = cells * np.diff(ln1pz).max() * (1.0 + 1e-9), np.zeros(len(ln1pz) - 1, int), 0
    for cell in range(1, len(out)):
        starts = ln1pz[cell + 1] - ln1pz[first] > wide or cell - first == 4 * cells
        first = cell if starts else first
        out[cell] = out[cell - 1] + starts
    return out

"""Light of rows at neighbouring redshifts as sums of a few components, as exact as wanted relative to a band's light.

In a block of redshift cells the light of a row in the columns of a band, at all of the block's redshifts, is a sum of
components that all rows share (a principal component analysis of rows in units of their own light):

    light[z, row, c] = sum_r coefficient[row, r] component[r, z, c]

Between redshifts both sides are linear alike. Rows are many (bins, ages and metallicities) and components few, so the
tables are far smaller than the light itself.
"""

import numpy as np

TOLERANCE = 3e-4
"""Of a band's light, what 99.9% of the rows are good to."""
CELLS = 8
"""Redshift cells of a block, where they are as wide as they are at most (popcat.forward.redshift_cells.blocks_of)."""
_TINY = 1e-300


def compress(light: np.ndarray, tolerance: float = TOLERANCE) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (n_row, R) and components (R, n_z, n_col) of one band's light (n_z, n_row, n_col).

    >>> z, row = np.linspace(0.0, 1.0, 5), np.arange(1.0, 40.0)
    >>> light = (row * (1.0 + z[:, None]) + row**2)[:, :, None] * np.array([1.0, 2.0])
    >>> coefficients, components = compress(light)
    >>> coefficients.shape[1], bool(np.allclose(np.einsum("nr,rzc->znc", coefficients, components), light, rtol=1e-3))
    (2, True)
    """
    n_z, n_row, n_col = light.shape
    total = np.abs(light).sum(axis=2)
    common = np.array([np.median(one[one > 0.0]) if np.any(one > 0.0) else 1.0 for one in total])
    own = (total / common[:, None]).mean(axis=0)
    units = common[:, None, None] * np.maximum(own, _TINY)[:, None]
    scaled = (light / units).transpose(1, 0, 2).reshape(n_row, -1)
    vectors = np.linalg.eigh(scaled.T @ scaled)[1][:, ::-1]
    coefficients = scaled @ vectors
    left = np.cumsum(coefficients[:, ::-1] ** 2, axis=1)[:, ::-1]
    lost = np.sqrt(n_col / n_z * np.maximum(left, 0.0))
    good = np.append(np.quantile(lost, 0.999, axis=0) < tolerance, True)
    rank = max(int(np.argmax(good)), 1)
    components = vectors[:, :rank].T.reshape(rank, n_z, n_col) * common[:, None]
    return coefficients[:, :rank] * own[:, None], components


class Blocks:
    """Collects light redshift by redshift, and compresses each block as it is complete.

    bands : slices of columns, one after the other. block : (n_cell,) block of every redshift cell. `add` the light
    (n_row, n_col) of each redshift in turn.
    """

    def __init__(self, bands: list[slice], block: np.ndarray):
        self.bands, self._cells = bands, np.bincount(block)
        self._light: list[np.ndarray] = []
        self._found: list[list[tuple[np.ndarray, np.ndarray]]] = []

    def add(self, light: np.ndarray) -> None:
        self._light.append(light)
        if len(self._light) == self._cells[len(self._found)] + 1:
            block = np.array(self._light, dtype=float)
            self._found.append([compress(block[:, :, band]) for band in self.bands])
            self._light = self._light[-1:]

    def tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """coefficient (n_block, n_row, K) float32, component (n_cell + n_block, n) float32 and start
        (n_block, n_band + 1). Component i + k is that of redshift i in block k: redshifts between two have two.

        In a block band b has the components start[b] to start[b + 1]. Each has, one after the other in `component`, as
        many numbers as its band has columns, filled up to a multiple of 8 with zeros. Blocks fill up with zeros too.
        """
        ranks = np.array([[own.shape[1] for own, _ in block] for block in self._found])
        start = np.concatenate([np.zeros((len(ranks), 1), int), np.cumsum(ranks, axis=1)], axis=1)
        width = np.array([filled(band.stop - band.start) for band in self.bands])
        n_row = len(self._found[0][0][0])
        coefficient = np.zeros((len(ranks), n_row, filled(start.max())), dtype=np.float32)
        component = np.zeros((self._cells.sum() + len(ranks), int((ranks @ width).max())), dtype=np.float32)
        first = np.cumsum(self._cells + 1) - self._cells - 1
        for i, block in enumerate(self._found):
            at = 0
            for b, (own, shape) in enumerate(block):
                rank, n_z, n_col = shape.shape
                coefficient[i, :, start[i, b] : start[i, b + 1]] = own
                room = np.zeros((n_z, rank, width[b]))
                room[:, :, :n_col] = shape.transpose(1, 0, 2)
                component[first[i] : first[i] + n_z, at : at + rank * width[b]] = room.reshape(n_z, -1)
                at += rank * width[b]
        return coefficient, component, start


def filled(n: int) -> int:
    """A number, filled up to a multiple of 8.

    >>> filled(5), filled(16)
    (8, 16)
    """
    return (n + 7) // 8 * 8

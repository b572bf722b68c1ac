"""Population histograms: the posterior mass of a batch of galaxies in bins of one or two quantities."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from popcat.errors import PopcatError

WEIGHTS = "weights"


@dataclass(frozen=True)
class Stack:
    """A population histogram: posterior mass in bins of one or two quantities.

    mass : (nx,) or (nx, ny), the expected number of galaxies in each bin
    x_edges, y_edges : edges of the bins; y_edges is None in one dimension
    n_galaxies : galaxies that were counted; mass.sum() is less where draws lie outside the bins
    """

    mass: np.ndarray
    x_edges: np.ndarray
    y_edges: np.ndarray | None
    n_galaxies: int


def histogram(batch, sources, weights, edges) -> tuple[np.ndarray, int]:
    """Posterior mass (bins of each axis) of a batch, and how many galaxies it came from."""
    table = pa.Table.from_batches([batch])
    keep = pc.is_valid(table[sources[0]])
    for name in [*sources[1:], *weights]:
        keep = pc.and_(keep, pc.is_valid(table[name]))
    table = table.filter(keep)
    lengths = _lengths(table, sources)
    values = [_flat(table[name], lengths) for name in sources]
    mass = masses(table[weights[0]], lengths) if weights else np.repeat(1.0 / np.maximum(lengths, 1), lengths)
    index = np.zeros(len(mass), dtype=np.int64)
    inside = np.ones(len(mass), dtype=bool)
    for value, edge in zip(values, edges, strict=True):
        place = _bin(value, edge)
        inside &= (place >= 0) & (place < len(edge) - 1)
        index = index * (len(edge) - 1) + place
    shape = [len(edge) - 1 for edge in edges]
    counts = np.bincount(index[inside], weights=mass[inside], minlength=int(np.prod(shape)))
    return counts.reshape(shape), int(np.count_nonzero(lengths))


def _bin(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Index of the bin that holds each value, as numpy.histogram counts; -1 or beyond the last outside."""
    steps = np.diff(edges)
    if np.allclose(steps, steps[0], rtol=1e-9):  # arithmetic instead of a search: ten times faster
        with np.errstate(invalid="ignore"):
            place = np.floor((values - edges[0]) / steps[0])
        place = np.where(np.isfinite(place), np.clip(place, -1, len(steps)), -1).astype(np.int64)
    else:
        place = np.searchsorted(edges, values, side="right") - 1
        place[np.isnan(values)] = -1
    return np.where(values == edges[-1], len(steps) - 1, place)


def _lengths(table: pa.Table, sources: list[str]) -> np.ndarray:
    """Number of draws of each galaxy, (n,); one where no source is a list."""
    lists = [table[name] for name in sources if pa.types.is_nested(table[name].type)]
    if not lists:
        return np.ones(len(table), dtype=np.int64)
    lengths = [pc.list_value_length(one).to_numpy() for one in lists]
    if any(not np.array_equal(lengths[0], other) for other in lengths[1:]):
        raise PopcatError(f"{', '.join(sources)}: expected as many draws of one as of the other in every galaxy")
    return lengths[0].astype(np.int64)


def _flat(column: pa.ChunkedArray, lengths: np.ndarray) -> np.ndarray:
    """Draws of all galaxies in a row; a column without draws is repeated."""
    if pa.types.is_nested(column.type):
        return pc.list_flatten(column).to_numpy().astype(np.float64)
    return np.repeat(column.to_numpy().astype(np.float64), lengths)


def masses(column: pa.ChunkedArray, lengths: np.ndarray) -> np.ndarray:
    """Weights of all draws in a row, those of a galaxy scaled to sum to one."""
    weights = pc.list_flatten(column).to_numpy().astype(np.float64)
    if len(weights) != lengths.sum():
        raise PopcatError(f'column "{WEIGHTS}": expected one weight a draw, got {len(weights)} for {lengths.sum()}')
    galaxy = np.repeat(np.arange(len(lengths)), lengths)
    total = np.bincount(galaxy, weights=weights, minlength=len(lengths))
    return weights / total[galaxy]

"""Where galaxies are on the sky."""

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from popcat.errors import PopcatError
from popcat.plots.style import DENSITY, Picture, styled

_WIDE_DEG = 90.0
"""Fields that span more right ascension are drawn in the Mollweide projection, which keeps areas."""
_CELLS = 48


@styled
def sky_map(ra: np.ndarray, dec: np.ndarray) -> Figure:
    """Number of galaxies per cell against right ascension and declination (n,) in degrees; NaN are left out.

    All the sky in the Mollweide projection, east to the left; a field of less than 90 degrees with its own axes.

    Raises PopcatError without any position.
    """
    known = np.isfinite(ra) & np.isfinite(dec)
    if not known.any():
        raise PopcatError("nothing to draw: no galaxy has a position; expected columns ra and dec in degrees")
    ra, dec = np.asarray(ra, dtype=float)[known] % 360.0, np.asarray(dec, dtype=float)[known]
    left_out = f", {len(known) - len(ra):,} without a position are left out" if len(ra) < len(known) else ""
    middle, width = _middle(ra)
    figure = Picture(figsize=(7.2, 4.3), layout="constrained")
    if width > _WIDE_DEG:
        ax, drawn = _whole_sky(figure, ra, dec)
    else:
        ax, drawn = _field(figure, middle + _offset(ra, middle), dec)
    ax.set_title(f"{len(ra):,} galaxies{left_out}")
    bar = figure.colorbar(drawn, ax=ax, pad=0.03, aspect=28, shrink=0.85, label="Galaxies per cell")
    bar.ax.tick_params(which="both", direction="out")
    return figure


def _whole_sky(figure: Figure, ra: np.ndarray, dec: np.ndarray):
    """Cells of equal area, in steps of right ascension and of the sine of declination."""
    ax = figure.add_subplot(projection="mollweide")
    x, y = np.linspace(-180.0, 180.0, 2 * _CELLS + 1), np.linspace(-1.0, 1.0, _CELLS + 1)
    counts, _, _ = np.histogram2d(-_offset(ra, 180.0), np.sin(np.radians(dec)), bins=[x, y])
    drawn = ax.pcolormesh(np.radians(x), np.arcsin(y), np.ma.masked_equal(counts, 0).T, cmap=DENSITY,
                          norm=LogNorm(1, max(counts.max(), 10.0)), rasterized=True)  # fmt: skip
    ax.set_xticks(np.radians(np.arange(-120, 121, 60)), [f"{180 - tick}°" for tick in range(-120, 121, 60)])
    ax.tick_params(axis="x", labelsize=8)
    ax.grid(alpha=0.4, lw=0.5)
    ax.set(xlabel="Right ascension", ylabel="Declination")
    return ax, drawn


def _field(figure: Figure, ra: np.ndarray, dec: np.ndarray):
    ax = figure.add_subplot()
    ends = [(float(values.min()), float(values.max())) for values in (ra, dec)]
    (x0, x1), (y0, y1) = ((low - 0.5, high + 0.5) if low == high else (low, high) for low, high in ends)
    drawn = ax.hexbin(ra, dec, gridsize=_CELLS, extent=(x0, x1, y0, y1), mincnt=1, cmap=DENSITY, linewidths=0.2,
                      norm=LogNorm(vmin=1))  # fmt: skip
    drawn.set_clim(1, max(float(drawn.get_array().max()), 10.0))
    # right ascension grows to the left, as seen from the ground
    ax.set(xlabel="Right ascension (deg)", ylabel="Declination (deg)", aspect=1.0 / np.cos(np.radians(np.mean(dec))))
    ax.invert_xaxis()
    ax.ticklabel_format(useOffset=False)
    return ax, drawn


def _middle(ra: np.ndarray) -> tuple[float, float]:
    """Middle and width, in degrees, of the smallest range of right ascension that holds all: beside the largest gap.

    >>> _middle(np.array([359.0, 1.0, 2.0]))
    (0.5, 3.0)
    """
    around = np.sort(ra)
    gaps = np.diff(around, append=around[0] + 360.0)
    largest = int(gaps.argmax())
    width = 360.0 - gaps[largest]
    return float((around[(largest + 1) % len(around)] + 0.5 * width) % 360.0), float(width)


def _offset(ra: np.ndarray, middle: float) -> np.ndarray:
    """Right ascension less the middle, from -180 to 180 degrees."""
    return (ra - middle + 180.0) % 360.0 - 180.0

"""Figures of zero points: residuals of each band against redshift, magnitude and colour."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from popcat.plots.style import BLUE, GREY, INK, ORANGE, Picture, extent_of, styled

_POINTS, _BINS, _FEWEST = 3000, 8, 8


@styled
def residual_panels(against: Sequence[tuple[str, np.ndarray]], before: np.ndarray, after: np.ndarray) -> Figure:
    """Residuals (n,) of one band in magnitudes against some quantities, (label, values (n,)).

    Points and the blue running median are with the zero points, the orange median is without.
    """
    figure = Picture(figsize=(9.6, 2.9), layout="constrained")
    axes = figure.subplots(1, len(against), sharey=True)
    shown = np.concatenate([after[np.isfinite(after)], before[np.isfinite(before)]])
    low, high = extent_of(shown) if len(shown) else (-0.5, 0.5)
    for ax, (label, values) in zip(axes, against, strict=True):
        some = np.flatnonzero(np.isfinite(values) & np.isfinite(after))[:_POINTS]
        ax.plot(values[some], after[some], ls="", marker=".", ms=2.0, color=GREY, alpha=0.5, rasterized=True)
        ax.axhline(0.0, color=INK, lw=0.9)
        for residuals, color, words in ((before, ORANGE, "without"), (after, BLUE, "with the zero points")):
            x, y = _running_median(values, residuals)
            ax.plot(x, y, color=color, lw=1.8, marker="o", ms=3, label=words)
        ax.set(xlabel=label, ylim=(low, high))
    axes[0].set_ylabel("Brighter by (mag)")
    axes[-1].legend()
    return figure


def _running_median(values, residuals) -> tuple[np.ndarray, np.ndarray]:
    """Medians in bins of equal numbers."""
    known = np.flatnonzero(np.isfinite(values) & np.isfinite(residuals))
    parts = [part for part in np.array_split(known[np.argsort(values[known])], _BINS) if len(part) >= _FEWEST]
    return (np.array([np.median(values[part]) for part in parts]),
            np.array([np.median(residuals[part]) for part in parts]))  # fmt: skip

"""Figures of many galaxies in which every galaxy counts with its whole posterior, beside the medians alone."""

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from popcat.plots.style import BLUE, DENSITY, GREY, INK, LABELS, ORANGE, Picture, styled

_COLUMNS = 3


@styled
def stacked_marginals(
    edges: Mapping[str, np.ndarray], mass: Mapping[str, np.ndarray], medians: Mapping[str, np.ndarray],
    prior: Mapping[str, np.ndarray] | None = None, weights: np.ndarray | None = None,
) -> Figure:  # fmt: skip
    """Densities of some quantities, a panel each: the stacked posteriors, filled, and the medians of the same galaxies.

    edges : (n_bin + 1,) of each quantity. mass : stacked posterior mass (n_bin,) in these bins. medians : (n,).
    prior : draws (m,) of the prior, grey below, which count by `weights` (m,).
    """
    rows = -(-len(edges) // _COLUMNS)
    figure = Picture(figsize=(10.4, 2.75 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for ax, (name, ends) in zip(panels, edges.items(), strict=False):
        if prior is not None and name in prior:
            ax.stairs(_density(prior[name], ends, weights), ends, fill=True, color=GREY, alpha=0.35, label="prior")
        ax.stairs(mass[name] / max(mass[name].sum(), 1e-300) / np.diff(ends), ends, fill=True, color=BLUE, alpha=0.45,
                  label="stacked posteriors")  # fmt: skip
        ax.stairs(_density(medians[name], ends), ends, color=ORANGE, lw=1.6, label="posterior medians")
        ax.set(xlabel=LABELS.get(name, name.capitalize()), xlim=(ends[0], ends[-1]), ylim=(0, None), yticks=[])
    for ax in panels[len(edges):]:
        ax.set_axis_off()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    figure.supylabel("Density", fontsize=11)
    return figure


@styled
def stacked_sequence(
    log_mstar: np.ndarray, log_sfr: np.ndarray, mass: np.ndarray, x: np.ndarray, y: np.ndarray
) -> Figure:
    """Star-formation rate against stellar mass: posterior medians (n,) of the galaxies, beside their stacked posteriors
    `mass` (n_x, n_y) in bins with edges x and y; with the line sSFR = 1e-11 / yr.
    """
    figure = Picture(figsize=(10.4, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    quiescent = r"sSFR $= 10^{-11}\,\mathrm{yr}^{-1}$"
    counts, _, _ = np.histogram2d(log_mstar, log_sfr, bins=[x, y])
    most, least = max(float(counts.max()), float(mass.max()), 10.0), min(0.02 * float(mass.max()), 0.5) or 0.5
    for ax, values, title in ((left, counts, "posterior medians"), (right, mass, "stacked posteriors")):
        shown = np.ma.masked_less(values, least).T
        drawn = ax.pcolormesh(x, y, shown, cmap=DENSITY, norm=LogNorm(vmin=least, vmax=most), rasterized=True)
        ax.plot(x[[0, -1]], x[[0, -1]] - 11.0, color=ORANGE, ls="--", lw=1.6, label=quiescent)
        ax.set(title=title, xlabel=LABELS["log_mstar"], xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    left.set_ylabel(LABELS["log_sfr_1gyr"])
    left.legend(loc="upper left")
    bar = figure.colorbar(drawn, ax=[left, right], pad=0.015, aspect=28, label="Galaxies per cell")
    bar.ax.tick_params(which="both", direction="out", color=INK)
    return figure


def _density(values: np.ndarray, edges: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Density (n_bin,) of all values, of which some may lie outside the bins."""
    inside, _ = np.histogram(values, edges, weights=weights)
    return inside / max(len(values) if weights is None else weights.sum(), 1e-300) / np.diff(edges)

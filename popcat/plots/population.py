"""Figures of many galaxies of a catalogue: masses, star formation, statuses, best fits."""

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from scipy import ndimage, stats

from popcat.galaxies import STATUS, chi2_limit
from popcat.plots.style import (
    BLUE,
    CONTOUR_POINTS,
    DENSITY,
    GREEN,
    GREY,
    INK,
    LABELS,
    NOTE,
    ORANGE,
    PURPLE,
    extent_of,
    finite,
    new_panel,
    styled,
)


@styled
def mass_redshift(frame) -> Figure:
    """Stellar mass against redshift: density, 68% and 95% contours, running median, typical error.

    `frame` has redshift_p50 and log_mstar_p16, _p50, _p84; rows without a posterior (NaN) are left out.
    """
    figure, ax = new_panel()
    x, low, y, high = finite(frame, "redshift_p50", "log_mstar_p16", "log_mstar_p50", "log_mstar_p84")
    _density(figure, ax, x, y)
    _running_median(ax, x, y)
    _typical_error(ax, None, (y - low, high - y))
    ax.set(xlabel="Redshift", ylabel=LABELS["log_mstar"])
    figure.legend(loc="outside upper center", ncols=3, columnspacing=1.2, handletextpad=0.5)
    return figure


def status_counts(frame) -> Figure:
    """Number of galaxies of each status, from the column `status`; see status_bars."""
    return status_bars(frame["status"].value_counts().to_dict())


@styled
def status_bars(counts: Mapping[str, int]) -> Figure:
    """Bars of {status: number of galaxies}, on a logarithmic axis so that rare failures show."""
    numbers = np.array([int(counts.get(name, 0)) for name in STATUS])
    figure, ax = new_panel()
    colors = [GREEN if name == "ok" else ORANGE for name in STATUS]
    ax.barh(STATUS, np.maximum(numbers, 0.7), left=0, color=colors, height=0.62)
    for row, number in enumerate(numbers):
        share = f"{number:,}  ({number / max(numbers.sum(), 1):.2%})"
        ax.annotate(share, (max(number, 0.7), row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)
    ax.set(xscale="log", xlim=(0.7, max(numbers.max(), 10) ** 1.45), xlabel="Galaxies")
    ax.invert_yaxis()
    ax.tick_params(axis="y", which="both", length=0)
    return figure


@styled
def chi2_histogram(frame, n_bands: int, limit: float | None = None) -> Figure:
    """Distribution of chi2_best, beside the chi-squared law of `n_bands` and the limit of the flag
    high_chi2, by default the law's.

    The best of many draws fits better than the truth does, so the histogram should lie left of the curve.
    """
    (chi2,) = finite(frame, "chi2_best")
    logs = np.log10(np.maximum(chi2, 1e-4))
    edges = np.linspace(np.percentile(logs, 0.5) - 0.3, max(logs.max(), 1.7) + 0.1, 46)
    figure, ax = new_panel()
    ax.hist(10**logs, bins=10**edges, color=BLUE, alpha=0.85, label=r"best draw of each galaxy")
    grid = 10 ** np.linspace(edges[0], edges[-1], 400)
    expected = stats.chi2.pdf(grid, n_bands) * grid * np.log(10) * len(chi2) * (edges[1] - edges[0])
    ax.plot(grid, expected, color=INK, lw=1.4, label=rf"$\chi^2$ law, {n_bands} bands")
    limit = chi2_limit(n_bands) if limit is None else limit
    ax.axvline(limit, color=ORANGE, ls="--", lw=1.6, label="high_chi2 (every band)")
    ax.set(xscale="log", xlabel=r"$\chi^2$ of the best draw", ylabel="Galaxies")
    ax.legend(loc="upper left")
    ax.margins(y=0.25)
    return figure


@styled
def two_histograms(values: Mapping[str, np.ndarray], name: str) -> Figure:
    """Densities of one quantity of two samples, by their titles: the first in blue, the second in grey."""
    figure, ax = new_panel()
    low, high = np.percentile(np.concatenate(list(values.values())), [0.5, 99.5])
    edges = np.linspace(low, high if high > low else low + 1.0, 41)
    for (title, sample), colour in zip(values.items(), (BLUE, GREY), strict=True):
        ax.stairs(histogram(sample, edges), edges, color=colour, lw=1.8, label=title)
    ax.set(xlabel=LABELS.get(name, name), ylabel="Density", xlim=(edges[0], edges[-1]))
    ax.set_ylim(bottom=0)
    ax.legend()
    return figure


def _density(figure, ax, x, y):
    """Hexagons coloured by the log of their counts; what lies outside the axes is counted in a note."""
    (x0, x1), (y0, y1) = extent = extent_of(x), extent_of(y)
    cells = int(np.clip(len(x) ** 0.4, 16, 60))
    hexes = ax.hexbin(x, y, gridsize=cells, extent=(x0, x1, y0, y1), mincnt=1, cmap=DENSITY, norm=LogNorm(vmin=1),
                      linewidths=0.2)
    hexes.set_clim(1, max(float(hexes.get_array().max()), 10.0))
    bar = figure.colorbar(hexes, ax=ax, pad=0.02, aspect=28, label="Galaxies per cell")
    bar.ax.tick_params(which="both", direction="out")
    ax.set(xlim=(x0, x1), ylim=(y0, y1))
    if len(x) >= CONTOUR_POINTS:
        _contours(ax, x, y, extent)
    outside = int(((x < x0) | (x > x1) | (y < y0) | (y > y1)).sum())
    if outside:
        ax.text(0.985, 0.02, f"{outside:,} of {len(x):,} outside the axes", transform=ax.transAxes, fontsize=8.5,
                color=NOTE, ha="right")


def _contours(ax, x, y, extent):
    counts, x_edges, y_edges = np.histogram2d(x, y, bins=48, range=extent)
    smooth = ndimage.gaussian_filter(counts, 1.6)
    ordered = np.sort(smooth, axis=None)[::-1]
    enclosed = np.cumsum(ordered) / ordered.sum()
    levels = sorted({float(ordered[np.searchsorted(enclosed, share)]) for share in (0.95, 0.68)})
    middle = [(edges[1:] + edges[:-1]) / 2 for edges in (x_edges, y_edges)]
    ax.contour(*middle, smooth.T, levels=levels, colors=INK, linewidths=[0.9, 1.5][-len(levels):])
    ax.plot([], [], color=INK, lw=1.5, label="68%, 95% of galaxies")


def _running_median(ax, x, y):
    """Medians and 16-84% in bins of equal numbers of galaxies."""
    bins = np.array_split(np.argsort(x, kind="stable"), max(1, min(10, len(x) // 20)))
    centre = [np.median(x[rows]) for rows in bins]
    low, middle, high = np.transpose([np.percentile(y[rows], [16, 50, 84]) for rows in bins])
    ax.errorbar(centre, middle, (middle - low, high - middle), fmt="o", color=ORANGE, ms=4.5, mec="white", mew=0.7,
                lw=1.3, zorder=5, label="median, 68%")


def _typical_error(ax, x_errors, y_errors):
    """A cross with the median distances from p50 to p16 and p84, in the lower right corner."""
    (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
    at = x0 + 0.87 * (x1 - x0), y0 + 0.27 * (y1 - y0)
    xerr, yerr = (None if pair is None else np.median(pair, axis=1)[:, None] for pair in (x_errors, y_errors))
    ax.errorbar(*at, yerr=yerr, xerr=xerr, fmt="none", ecolor=PURPLE, elinewidth=1.8, capsize=3, zorder=6,
                label="typical 68% error")


def histogram(values, edges):
    counts, _ = np.histogram(values, edges)
    return counts / max(len(values), 1) / np.diff(edges)

"""Figures of a fitted population: photometry against the data, marginals, main sequence, mass function."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure

from popcat.plots.style import BLUE, GREEN, GREY, INK, LABELS, ORANGE, PURPLE, extent_of, new_panel, styled

_SLICES = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.35), (0.35, 0.6))
_FEWEST = 30
_CORNER_ROWS = 20_000


@styled
def photometry_corner(observed: np.ndarray, synthetic: np.ndarray, names: Sequence[str]) -> Figure:
    """Corner plot of features (n, d) of observed galaxies, grey, and of synthetic ones, blue."""
    import corner

    parts = [np.asarray(part[:_CORNER_ROWS], dtype=float) for part in (observed, synthetic)]
    ranges = [extent_of(column) for column in parts[0].T]
    figure = Figure(figsize=(8.6, 8.6))
    for part, color in zip(parts, (GREY, BLUE), strict=True):
        corner.corner(part, fig=figure, range=ranges, bins=28, smooth=1.0, color=color, labels=list(names),
                      label_kwargs={"fontsize": 10}, levels=(0.68, 0.95), plot_density=False, plot_datapoints=False,
                      quiet=True, hist_kwargs={"density": True, "lw": 1.4})  # fmt: skip
    figure.text(0.985, 0.975, "blue: the population, grey: the data", ha="right", va="top", fontsize=11)
    return figure


@styled
def marginal(values: np.ndarray, member: np.ndarray, name: str, *, known: np.ndarray | None = None) -> Figure:
    """Density of one quantity: the ensemble, the range of its members, and known values where there are any."""
    figure, ax = new_panel()
    low, high = np.percentile(values if known is None else np.concatenate([values, known]), [0.2, 99.8])
    edges = np.linspace(low, high, 41)
    middle = 0.5 * (edges[1:] + edges[:-1])
    each = [_density(values[member == e], edges) for e in np.unique(member)]
    ax.fill_between(middle, np.min(each, axis=0), np.max(each, axis=0), color=BLUE, alpha=0.25, lw=0,
                    label="members")  # fmt: skip
    ax.plot(middle, _density(values, edges), color=BLUE, lw=1.8, label="population")
    if known is not None:
        ax.plot(middle, _density(known, edges), color=ORANGE, lw=1.4, drawstyle="steps-mid", label="in the catalogue")
    ax.set(xlabel=LABELS.get(name, name.capitalize()), ylabel="Density", xlim=(low, high))
    ax.set_ylim(bottom=0)
    ax.legend()
    return figure


@styled
def sequence_slices(redshift: np.ndarray, log_mstar: np.ndarray, log_sfr: np.ndarray) -> Figure:
    """Star-forming main sequence in slices of redshift: medians and 16-84% of galaxies with sSFR > 1e-11 / yr."""
    figure, ax = new_panel()
    edges = np.arange(8.0, 12.1, 0.25)
    forming = log_sfr - log_mstar > -11.0
    for (low, high), color in zip(_SLICES, (BLUE, GREEN, ORANGE, PURPLE), strict=True):
        inside = forming & (redshift >= low) & (redshift < high)
        rows = []
        for left, right in pairwise(edges):
            sfr = log_sfr[inside & (log_mstar >= left) & (log_mstar < right)]
            if len(sfr) >= _FEWEST:
                rows.append((0.5 * (left + right), *np.percentile(sfr, [16, 50, 84])))
        if rows:
            x, p16, p50, p84 = np.array(rows).T
            ax.fill_between(x, p16, p84, color=color, alpha=0.18, lw=0)
            ax.plot(x, p50, color=color, marker="o", ms=4, label=f"{low:g} < z < {high:g}")
    ax.set(xlabel=LABELS["log_mstar"], ylabel=LABELS["log_sfr_1gyr"])
    if ax.get_legend_handles_labels()[0]:
        ax.legend()
    return figure


@styled
def mass_function(log_mstar: np.ndarray, member: np.ndarray) -> Figure:
    """Share of galaxies per dex of stellar mass, with the range of the ensemble's members; no volume correction."""
    figure, ax = new_panel()
    edges = np.arange(7.0, 12.51, 0.2)
    middle = 0.5 * (edges[1:] + edges[:-1])
    each = np.array([_density(log_mstar[member == e], edges) for e in np.unique(member)])
    whole = _density(log_mstar, edges)
    shown = whole > 0
    ax.fill_between(middle[shown], np.maximum(each.min(0), 1e-6)[shown], each.max(0)[shown], color=BLUE, alpha=0.25,
                    lw=0, label="members")  # fmt: skip
    ax.plot(middle[shown], whole[shown], color=INK, lw=1.6, label="population")
    ax.set(yscale="log", xlabel=LABELS["log_mstar"], ylabel="Share of galaxies per dex")
    ax.legend()
    return figure


def _density(values, edges):
    counts, _ = np.histogram(values, edges)
    return counts / max(len(values), 1) / np.diff(edges)

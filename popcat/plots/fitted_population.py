"""Figures of a fitted population: photometry against the data, marginals, main sequence, mass function.

Under each the start of the fit, in grey; what differs in a fit from another start is shaded.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure

from popcat.plots.population import histogram
from popcat.plots.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    LABELS,
    NOTE,
    ORANGE,
    PURPLE,
    new_panel,
    overlaid_corner_plot,
    styled,
)

_SLICES = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.35), (0.35, 0.6))
_SEQUENCE_EDGES = np.arange(8.0, 12.1, 0.25)
_FEWEST = 30
_CORNER_ROWS = 20_000
_MORE_LABELS = {"log_ssfr": r"$\log_{10}\,(\mathrm{sSFR}\,/\,\mathrm{yr}^{-1})$"}


@styled
def photometry_corner(
    observed: np.ndarray, synthetic: np.ndarray, names: Sequence[str], start: np.ndarray | None = None
) -> Figure:
    """Corner plot of features (n, d) of observed galaxies, black, of synthetic ones, blue, and of a start's, grey."""
    data, drawn = (np.asarray(part[:_CORNER_ROWS], dtype=float) for part in (observed, synthetic))
    if start is None:
        return overlaid_corner_plot(data, drawn, names, note="blue: the population, grey: the data", bins=28)
    note = "blue: the population, black: the data,\ngrey: the start of the fit"
    return overlaid_corner_plot(data, drawn, names, note=note, bins=28, under=np.asarray(start[:_CORNER_ROWS], float))


@styled
def marginal(
    values: np.ndarray, member: np.ndarray, name: str, *, known: np.ndarray | None = None,
    start: np.ndarray | None = None, second: np.ndarray | None = None,
) -> Figure:  # fmt: skip
    """Density of one quantity: the ensemble, the range of its members, and known values where there are any.

    start : grey, under all. second : of a fit from another start; what differs from it is shaded.
    """
    figure, ax = new_panel()
    parts = [part for part in (values, known, start, second) if part is not None]
    low, high = np.percentile(np.concatenate(parts), [0.2, 99.8])
    edges = np.linspace(low, high if high > low else low + 1.0, 41)
    _panel(ax, edges, values, member, start, second)
    if known is not None:
        middle = 0.5 * (edges[1:] + edges[:-1])
        ax.plot(middle, histogram(known, edges), color=ORANGE, lw=1.4, drawstyle="steps-mid", label="in the catalogue")
    label = LABELS.get(name, _MORE_LABELS.get(name, name.capitalize()))
    ax.set(xlabel=label, ylabel="Density", xlim=(edges[0], edges[-1]))
    ax.set_ylim(0.0, 1.25 * ax.get_ylim()[1])  # room for the legend
    ax.legend()
    return figure


def _panel(ax, edges, values, member, start, second, floor: float = 0.0) -> None:
    """Densities of a start, of what differs between two fits, of the range of an ensemble, and of the ensemble."""
    middle = 0.5 * (edges[1:] + edges[:-1])

    def density(some):
        return np.maximum(histogram(some, edges), floor)

    whole, each = density(values), [density(values[member == e]) for e in np.unique(member)]
    if start is not None:
        ax.fill_between(middle, floor, density(start), color=GREY, alpha=0.3, lw=0, step="mid",
                        label="start of the fit")  # fmt: skip
    if second is not None:
        ax.fill_between(middle, whole, density(second), color=PURPLE, alpha=0.45, lw=0,
                        label="differs between starts: not measured")  # fmt: skip
    if len(each) > 1:
        ax.fill_between(middle, np.min(each, axis=0), np.max(each, axis=0), color=BLUE, alpha=0.25, lw=0,
                        label="range of the flows")  # fmt: skip
    ax.plot(middle, whole, color=BLUE, lw=1.8, label="population")


@styled
def sequence_slices(
    redshift: np.ndarray, log_mstar: np.ndarray, log_sfr: np.ndarray,
    start: Sequence[np.ndarray] | None = None, second: Sequence[np.ndarray] | None = None,
) -> Figure:  # fmt: skip
    """Star-forming main sequence in slices of redshift: medians and 16-84% of galaxies with sSFR > 1e-11 / yr.

    start, second : likewise redshift, mass and rate, of the start at all redshifts (grey), and medians of a fit from
    another start (dashed).
    """
    figure, ax = new_panel()
    if start is not None and len(rows := _sequence(start, -np.inf, np.inf)):
        ax.plot(rows[:, 0], rows[:, 2], color=GREY, lw=4.0, alpha=0.6, label="start of the fit, all redshifts")
    for (low, high), color in zip(_SLICES, (BLUE, GREEN, ORANGE, PURPLE), strict=True):
        rows = _sequence((redshift, log_mstar, log_sfr), low, high)
        if len(rows):
            x, p16, p50, p84 = rows.T
            ax.fill_between(x, p16, p84, color=color, alpha=0.18, lw=0)
            ax.plot(x, p50, color=color, marker="o", ms=4, label=f"{low:g} < z < {high:g}")
        if second is not None and len(rows := _sequence(second, low, high)):
            ax.plot(rows[:, 0], rows[:, 2], color=color, ls="--", lw=1.3)
    ax.set(xlabel=LABELS["log_mstar"], ylabel=LABELS["log_sfr_1gyr"])
    if second is not None:
        ax.plot([], [], color=INK, ls="--", lw=1.3, label="fit from another start")
    if any(line.get_marker() == "o" for line in ax.lines):
        ax.legend()
    else:
        note = f"no bin has {_FEWEST} star-forming galaxies"
        ax.text(0.5, 0.5, note, transform=ax.transAxes, ha="center", color=NOTE)
        ax.set(xlim=_SEQUENCE_EDGES[[0, -1]], yticks=[])
    return figure


def _sequence(sample: Sequence[np.ndarray], low: float, high: float) -> np.ndarray:
    """Mass and 16th, 50th, 84th percentile of star formation in bins of mass, (n, 4), of the star-forming galaxies of a
    sample (redshift, mass, rate) from one redshift to another.
    """
    redshift, log_mstar, log_sfr = sample
    forming = (log_sfr - log_mstar > -11.0) & (redshift >= low) & (redshift < high)
    rows = []
    for left, right in pairwise(_SEQUENCE_EDGES):
        sfr = log_sfr[forming & (log_mstar >= left) & (log_mstar < right)]
        if len(sfr) >= _FEWEST:
            rows.append((0.5 * (left + right), *np.percentile(sfr, [16, 50, 84])))
    return np.array(rows)


@styled
def mass_function(
    log_mstar: np.ndarray, member: np.ndarray, start: np.ndarray | None = None, second: np.ndarray | None = None
) -> Figure:
    """Share of galaxies per dex of stellar mass, as `marginal`; no volume correction."""
    figure, ax = new_panel()
    edges = np.arange(7.0, 12.51, 0.2)
    _panel(ax, edges, log_mstar, member, start, second, floor=1e-6)
    top = max(float(histogram(part, edges).max()) for part in (log_mstar, start, second) if part is not None)
    shown = np.flatnonzero(histogram(log_mstar, edges) > 0)
    ax.set(yscale="log", ylim=(1e-4 * top, 3.0 * top), xlabel=LABELS["log_mstar"], ylabel="Share of galaxies per dex")
    if len(shown):
        ax.set_xlim(edges[shown[0]], edges[shown[-1] + 1])
    ax.legend()
    return figure

"""Figures of a trained posterior: p-p curves, rank histograms, loss."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from popcat.plots.style import BLUE, GREY, INK, ORANGE, PALETTE, new_panel, styled


@styled
def pp_curves(ranks: Mapping[str, np.ndarray], ks: Mapping[str, float]) -> Figure:
    """Fraction of mocks whose truth ranks below r, against r, with the 95% band of Kolmogorov and Smirnov.

    ranks: of the truth among the draws, in [0, 1], (n_mock,) for each name; ks: the distance of each name.
    The right panel shows the difference from the diagonal, where small errors show.
    """
    figure = Figure(figsize=(9.6, 4.3), layout="constrained")
    ax, difference = figure.subplots(1, 2)
    for order, (name, values) in enumerate(ranks.items()):
        x, y = _ecdf(values)
        style = {"color": PALETTE[order % 8], "ls": ("-", "--", ":")[order // 8 % 3], "lw": 1.4}
        ax.plot(x, y, label=f"{name}  {ks[name]:.3f}" if name in ks else name, **style)
        difference.plot(x, y - x, **style)
    band = stats.kstwobign.isf(0.05) / np.sqrt(min(len(values) for values in ranks.values()))
    diagonal = np.array([0.0, 1.0])
    for panel, line in ((ax, diagonal), (difference, 0 * diagonal)):
        panel.fill_between(diagonal, line - band, line + band, color=GREY, alpha=0.25, lw=0, zorder=0)
        panel.plot(diagonal, line, color=INK, lw=0.8)
        panel.set(xlim=(0, 1), xlabel="Rank of the truth among the draws")
    ax.set(ylim=(0, 1), ylabel="Fraction of mocks below", aspect="equal")
    difference.set(box_aspect=1, ylabel="Fraction of mocks below, minus rank")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right center", title="KS distance", fontsize=8.5)
    return figure


@styled
def rank_histograms(ranks: Mapping[str, np.ndarray], n_bins: int = 20) -> Figure:
    """Histograms of the truth's ranks, one panel a quantity, flat if calibrated; 99% band of the binomial law.

    A hump means posteriors too wide, a bowl too narrow, a slope biased (simulation-based calibration).
    """
    columns = min(4, len(ranks))
    rows = -(-len(ranks) // columns)
    figure = Figure(figsize=(2.4 * columns, 1.75 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for panel, (name, values) in zip(panels, ranks.items(), strict=False):
        low, high = stats.binom.ppf([0.005, 0.995], len(values), 1 / n_bins)
        panel.axhspan(low, high, color=GREY, alpha=0.3, lw=0)
        panel.axhline(len(values) / n_bins, color=INK, lw=0.8)
        panel.hist(values, bins=np.linspace(0, 1, n_bins + 1), histtype="step", color=BLUE, lw=1.5)
        panel.set_title(name, fontsize=10)
        panel.set(xlim=(0, 1), ylim=(0, None), xticks=[0, 0.5, 1])
    for panel in panels[len(ranks):]:
        panel.set_axis_off()
    for panel in panels[max(0, len(ranks) - columns):len(ranks)]:
        panel.tick_params(labelbottom=True)
    figure.supxlabel("Rank of the truth among the draws", fontsize=11)
    figure.supylabel("Mocks", fontsize=11)
    return figure


@styled
def loss_curve(history: Sequence[Mapping[str, float]]) -> Figure:
    """Training and validation loss of each epoch, from dicts with epoch, train and validation."""
    epoch, train, validation = (np.array([row[key] for row in history]) for key in ("epoch", "train", "validation"))
    best = int(np.nanargmin(validation))
    figure, ax = new_panel()
    ax.plot(epoch, train, color=GREY, lw=1.5, label="training")
    ax.plot(epoch, validation, color=BLUE, lw=1.8, label="validation")
    ax.plot(epoch[best], validation[best], "o", color=ORANGE, ms=7, label=f"best: epoch {epoch[best]}")
    ax.set(xlabel="Epoch", ylabel=r"Loss: $-\langle\log q(\theta\,|\,x)\rangle$")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="upper right")
    return figure


def _ecdf(ranks):
    """Corners of the empirical distribution's steps, from (0, 0) to (1, 1)."""
    ordered = np.sort(ranks)
    below = np.arange(len(ordered) + 1) / len(ordered)
    return np.concatenate([[0], np.repeat(ordered, 2), [1]]), np.repeat(below, 2)

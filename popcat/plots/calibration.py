"""Figures of a trained posterior: p-p curves and rank histograms of its calibration, and the loss of its training."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from popcat.plots.style import BLUE, GREY, INK, ORANGE, PALETTE, Picture, new_panel, styled

RANK_BINS = 20
"""Bins of a rank histogram."""
NAMED_CURVES = 5
"""p-p curves that have a colour and a name: those farthest from the diagonal. The others are grey."""


@styled
def pp_curves(ranks: Mapping[str, np.ndarray], ks: Mapping[str, float], limit: float) -> Figure:
    """Fraction of mocks whose truth ranks below r, minus r, against r, with a band as wide as the limit of the KS
    distance: zero everywhere if calibrated.

    ranks: of the truth among the draws, in [0, 1], (n_mock,) for each name; ks: the distance of each name. The curves
    with the largest distances have colours and names, the others are grey.
    """
    figure = Picture(figsize=(10.4, 4.2), layout="constrained")
    ax = figure.subplots()
    worst = worst_columns(ranks, ks)
    ax.axhspan(-limit, limit, color=GREY, alpha=0.2, lw=0, label=f"limit of KS: {limit:.3f}")
    ax.axhline(0.0, color=INK, lw=0.8)
    others = [name for name in ranks if name not in worst]
    for number, name in enumerate(others):
        x, y = _ecdf(ranks[name])
        label = f"{len(others)} other columns" if number == 0 else None
        ax.plot(x, y - x, color=GREY, lw=0.7, alpha=0.8, label=label)
    for name, color, style in zip(worst, PALETTE, ("-", "--", "-.", ":", "-"), strict=False):
        x, y = _ecdf(ranks[name])
        label = f"{name}  {ks[name]:.3f}" if name in ks else name
        ax.plot(x, y - x, color=color, ls=style, lw=1.8, label=label)
    ax.set(xlim=(0, 1), xlabel="Rank of the truth among the draws", ylabel="Fraction of mocks below, minus rank")
    reach = 1.25 * max(limit, *np.abs(ax.get_ylim()))
    ax.set_ylim(-reach, reach)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right center", title="KS distance", fontsize=9)
    return figure


def worst_columns(ranks: Mapping[str, np.ndarray], ks: Mapping[str, float], most: int = NAMED_CURVES) -> list[str]:
    """Names of the columns with the largest KS distances, largest first.

    >>> worst_columns({"a": [], "b": [], "c": []}, {"a": 0.01, "b": 0.03, "c": 0.02}, most=2)
    ['b', 'c']
    """
    return sorted(ranks, key=lambda name: -ks.get(name, 0.0))[:most]


@styled
def rank_histograms(ranks: Mapping[str, np.ndarray], n_bins: int = RANK_BINS) -> Figure:
    """Histograms of the truth's ranks, one panel a quantity, flat if calibrated; 99% band of the binomial law.

    A hump means posteriors too wide, a bowl too narrow, a slope biased (simulation-based calibration).
    """
    columns = min(4, len(ranks))
    rows = -(-len(ranks) // columns)
    figure = Picture(figsize=(2.4 * columns, 1.75 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for panel, (name, values) in zip(panels, ranks.items(), strict=False):
        low, high = rank_band(len(values), n_bins)
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


def rank_band(n_mocks: int, n_bins: int) -> tuple[float, float]:
    """Between which counts 99% of the bars of a calibrated column are: the binomial law."""
    low, high = stats.binom.ppf([0.005, 0.995], n_mocks, 1 / n_bins)
    return float(low), float(high)


def _ecdf(ranks):
    """Corners of the empirical distribution's steps, from (0, 0) to (1, 1)."""
    ordered = np.sort(ranks)
    below = np.arange(len(ordered) + 1) / len(ordered)
    return np.concatenate([[0], np.repeat(ordered, 2), [1]]), np.repeat(below, 2)

"""What the figures share: colours, labels, the local style, saving."""

import base64
import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from popcat.errors import PopcatError

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
INK, GREY, NOTE = "#1b2430", "#8a94a0", "#5b6673"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, "#E69F00", "#56B4E9", "#7F6A00", "#000000")
"""Okabe and Ito's colours, told apart by colour-blind readers too (their yellow is darkened to show on white)."""

STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 10, "mathtext.fontset": "dejavusans",
    "axes.labelsize": 11, "axes.titlesize": 11, "axes.linewidth": 0.9, "axes.axisbelow": False,
    "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK,
    "xtick.labelsize": 9.5, "ytick.labelsize": 9.5, "xtick.direction": "in", "ytick.direction": "in",
    "xtick.top": True, "ytick.right": True, "legend.fontsize": 9, "legend.frameon": False, "savefig.dpi": 170,
}

LABELS = {
    "log_mstar": r"$\log_{10}\,(M_\star\,/\,M_\odot)$",
    "log_sfr_1gyr": r"$\log_{10}\,(\mathrm{SFR}_{1\,\mathrm{Gyr}}\,/\,M_\odot\,\mathrm{yr}^{-1})$",
    "log_z_mw": r"$\log_{10}\,Z_\mathrm{MW}$",
    "age_mw_gyr": r"$t_\mathrm{age,\,MW}$ (Gyr)",
    "tau_ism": r"$\tau_\mathrm{ISM}$",
}
CORNER = tuple(LABELS)
DENSITY = LinearSegmentedColormap.from_list("popcat", ["#dbe9f4", "#7fb2d6", BLUE, "#08283f"])
CONTOUR_POINTS = 100


class Picture(Figure):
    """A figure that a notebook shows by its own repr, whether or not pyplot was imported."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        save_figure(self, buffer)
        return buffer.getvalue()


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    @functools.wraps(draw)
    def inner(*args, **kwargs):
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return inner


def figure_to_data_uri(fig: Figure) -> str:
    """The figure as a PNG of 128 colours in a data URI, for an HTML page that needs no other file."""
    buffer = io.BytesIO()
    save_figure(fig, buffer, small=True, dpi=140)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def save_figure(
    fig: Figure, path: "str | Path | io.BytesIO", *, small: bool = False, dpi: float = 100
) -> None:
    """Write a figure to a file, whose suffix names the format (png, pdf, svg); PNG into a buffer.

    `small`: a PNG of 128 colours and so many dots per inch, `dpi`, in a quarter of the bytes or less.
    """
    with matplotlib.rc_context(STYLE):
        if not small:
            fig.savefig(path)
            return
        from PIL import Image

        buffer = io.BytesIO()
        fig.savefig(buffer, dpi=dpi)
        # Of all colours, not only the frequent ones: a thin line keeps its own.
        image = Image.open(buffer).convert("RGB").quantize(
            128, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
        image.save(path, "png", optimize=True)


def overlaid_corner_plot(
    reference: np.ndarray, sample: np.ndarray, labels: Sequence[str], *, note: str, bins: int = 20,
    under: np.ndarray | None = None,
) -> Figure:  # fmt: skip
    """Corner plot of two samples (n, d): the reference grey, the other blue over it; `note` says which is which.

    With a third sample `under` both, that one is grey and the reference black.
    """
    import corner

    joint = np.concatenate([reference, sample])
    layers = [(reference, GREY), (sample, BLUE)] if under is None else [(under, GREY), (reference, INK), (sample, BLUE)]
    ranges = [extent_of(column, pad=0.08) for column in joint.T]
    figure = Picture(figsize=(7.6, 7.6))
    for part, color in layers:
        contours = len(part) >= CONTOUR_POINTS and bool((np.ptp(part, axis=0) > 0).all())
        corner.corner(part, fig=figure, range=ranges, bins=bins, smooth=1.0, color=color, labels=list(labels),
                      label_kwargs={"fontsize": 10}, labelpad=0.12, levels=(0.68, 0.95), plot_density=False,
                      plot_datapoints=not contours, plot_contours=contours, quiet=True,
                      hist_kwargs={"density": True, "lw": 1.4}, data_kwargs={"ms": 3.0, "alpha": 0.5})  # fmt: skip
    tidy_corner(figure)
    figure.text(0.985, 0.985, note, ha="right", va="top", fontsize=11, linespacing=1.5)
    return figure


def tidy_corner(figure: Figure) -> None:
    """Few ticks, and margins that hold the labels of a corner plot."""
    for ax in figure.axes:
        ax.tick_params(labelsize=8)
        for axis in (ax.xaxis, ax.yaxis):
            if len(axis.get_ticklocs()):
                axis.set_major_locator(MaxNLocator(4, prune="both"))
    figure.subplots_adjust(left=0.115, bottom=0.115, right=0.985, top=0.96, wspace=0.06, hspace=0.06)


def new_panel():
    figure = Picture(figsize=(5.6, 4.3), layout="constrained")
    return figure, figure.subplots()


def finite(frame, *names):
    columns = np.array([np.asarray(frame[name], dtype=float) for name in names])
    columns = columns[:, np.isfinite(columns).all(axis=0)]
    if columns.shape[1] == 0:
        raise PopcatError(f"nothing to draw: no row has finite {', '.join(names)}")
    return columns


def extent_of(values, *, pad=0.12):
    low, high = np.percentile(values, [0.5, 99.5])
    margin = pad * (high - low) if high > low else 0.5
    return float(low - margin), float(high + margin)

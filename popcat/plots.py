"""Figures of a posterior catalogue and of a model's calibration.

Every function takes arrays or frames and returns a matplotlib Figure; none touches pyplot or global settings.
"""

import base64
import functools
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter
from scipy import ndimage, stats

from popcat.errors import PopcatError
from popcat.schema import STATUS

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
INK, GREY, NOTE = "#1b2430", "#8a94a0", "#5b6673"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, "#E69F00", "#56B4E9", "#7F6A00", "#000000")
"""Okabe and Ito's colours, told apart by colour-blind readers too (their yellow is darkened to show on white)."""

STYLE = {
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
# The unit of the star-formation rate does not fit beside a small panel.
_CORNER_LABELS = tuple((LABELS | {"log_sfr_1gyr": r"$\log_{10}\,\mathrm{SFR}_{1\,\mathrm{Gyr}}$"}).values())
_CORNER_TITLES = (r"$\log M_\star$", r"$\log\,$SFR", r"$\log Z$", r"$t_\mathrm{age}$", r"$\tau_\mathrm{ISM}$")
_DENSITY = LinearSegmentedColormap.from_list("popcat", ["#dbe9f4", "#7fb2d6", BLUE, "#08283f"])
_CONTOUR_POINTS = 100


def _styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    @functools.wraps(draw)
    def styled(*args, **kwargs):
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


@_styled
def mass_redshift(frame) -> Figure:
    """Stellar mass against redshift: density, 68% and 95% contours, running median, typical error.

    `frame` has redshift and log_mstar_p16, _p50, _p84; rows without a posterior (NaN) are left out.
    """
    figure, ax = _panel()
    x, low, y, high = _finite(frame, "redshift", "log_mstar_p16", "log_mstar_p50", "log_mstar_p84")
    _density(figure, ax, x, y)
    _running_median(ax, x, y)
    _typical_error(ax, None, (y - low, high - y))
    ax.set(xlabel="Redshift", ylabel=LABELS["log_mstar"])
    figure.legend(loc="outside upper center", ncols=3, columnspacing=1.2, handletextpad=0.5)
    return figure


@_styled
def sfr_mass(frame) -> Figure:
    """Star-formation rate over the last Gyr against stellar mass, with the line sSFR = 1e-11 / yr."""
    names = [f"{name}_p{q}" for name in ("log_mstar", "log_sfr_1gyr") for q in (16, 50, 84)]
    x_low, x, x_high, y_low, y, y_high = _finite(frame, *names)
    figure, ax = _panel()
    _density(figure, ax, x, y)
    ends = np.array(ax.get_xlim())
    ax.plot(ends, ends - 11.0, color=ORANGE, ls="--", lw=1.6, label=r"sSFR $= 10^{-11}\,\mathrm{yr}^{-1}$")
    _typical_error(ax, (x - x_low, x_high - x), (y - y_low, y_high - y))
    ax.set(xlim=ends, xlabel=LABELS["log_mstar"], ylabel=LABELS["log_sfr_1gyr"])
    figure.legend(loc="outside upper center", ncols=3, columnspacing=1.2, handletextpad=0.5)
    return figure


def status_counts(frame) -> Figure:
    """Number of galaxies of each status, from the column `status`; see status_bars."""
    return status_bars(frame["status"].value_counts().to_dict())


@_styled
def status_bars(counts: Mapping[str, int]) -> Figure:
    """Bars of {status: number of galaxies}, on a logarithmic axis so that rare failures show."""
    numbers = np.array([int(counts.get(name, 0)) for name in STATUS])
    figure, ax = _panel()
    colors = [GREEN if name == "ok" else ORANGE for name in STATUS]
    ax.barh(STATUS, np.maximum(numbers, 0.7), left=0, color=colors, height=0.62)
    for row, number in enumerate(numbers):
        share = f"{number:,}  ({number / max(numbers.sum(), 1):.2%})"
        ax.annotate(share, (max(number, 0.7), row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)
    ax.set(xscale="log", xlim=(0.7, max(numbers.max(), 10) ** 1.45), xlabel="Galaxies")
    ax.invert_yaxis()
    ax.tick_params(axis="y", which="both", length=0)
    return figure


@_styled
def chi2_histogram(frame, n_bands: int) -> Figure:
    """Distribution of chi2_best, beside the chi-squared law of `n_bands` and its 1e-4 tail (the flag high_chi2).

    The best of many draws fits better than the truth does, so the histogram should lie left of the curve.
    """
    (chi2,) = _finite(frame, "chi2_best")
    logs = np.log10(np.maximum(chi2, 1e-4))
    edges = np.linspace(np.percentile(logs, 0.5) - 0.3, max(logs.max(), 1.7) + 0.1, 46)
    figure, ax = _panel()
    ax.hist(10**logs, bins=10**edges, color=BLUE, alpha=0.85, label=r"best draw of each galaxy")
    grid = 10 ** np.linspace(edges[0], edges[-1], 400)
    expected = stats.chi2.pdf(grid, n_bands) * grid * np.log(10) * len(chi2) * (edges[1] - edges[0])
    ax.plot(grid, expected, color=INK, lw=1.4, label=rf"$\chi^2$ law, {n_bands} bands")
    ax.axvline(stats.chi2.isf(1e-4, n_bands), color=ORANGE, ls="--", lw=1.6, label=r"$10^{-4}$ tail: high_chi2")
    ax.set(xscale="log", xlabel=r"$\chi^2$ of the best draw", ylabel="Galaxies")
    ax.legend(loc="upper left")
    ax.margins(y=0.25)
    return figure


@_styled
def galaxy_corner(draws: Mapping[str, np.ndarray], *, title: str) -> Figure:
    """Corner plot of the draws (n,) of mass, star-formation rate, metallicity, age and dust of one galaxy.

    Raises PopcatError with fewer than 10 finite draws.
    """
    import corner

    sample = np.column_stack([np.asarray(draws[name], dtype=float) for name in CORNER])
    sample = sample[np.isfinite(sample).all(axis=1)]
    if len(sample) < 10:
        raise PopcatError(f"a corner plot needs at least 10 finite draws, got {len(sample)}: keep more draws")
    ranges = [_extent(column, pad=0.08) for column in sample.T]
    contours = len(sample) >= _CONTOUR_POINTS and bool((np.ptp(sample, axis=0) > 0).all())
    bins = int(np.clip(len(sample) ** 0.5, 12, 30))
    figure = Figure(figsize=(7.2, 7.2))
    corner.corner(sample, fig=figure, range=ranges, bins=bins, smooth=1.0, color=BLUE, labels=_CORNER_LABELS,
                  titles=_CORNER_TITLES, show_titles=True, title_fmt=".2f", title_kwargs={"fontsize": 9, "pad": 5},
                  label_kwargs={"fontsize": 10}, labelpad=0.12, levels=(0.68, 0.95), plot_density=False,
                  plot_contours=contours, fill_contours=contours, quiet=True,
                  hist_kwargs={"histtype": "stepfilled", "alpha": 0.55, "lw": 1.2},
                  data_kwargs={"ms": 1.6 if contours else 3.0, "alpha": 0.25 if contours else 0.6})
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            if len(axis.get_ticklocs()):
                axis.set_major_locator(MaxNLocator(4, prune="both"))
    figure.subplots_adjust(left=0.115, bottom=0.115, right=0.985, top=0.96, wspace=0.06, hspace=0.06)
    figure.text(0.985, 0.975, title, ha="right", va="top", fontsize=11, linespacing=1.5)
    return figure


@_styled
def galaxy_sed(survey_curves, flux, flux_err, model_flux, *, title: str, spectrum=None) -> Figure:
    """Observed fluxes, the model's draws and filter curves against wavelength, with residuals below.

    survey_curves: (name, wave_aa, response) of each band; flux, flux_err (n_band,) and model_flux (n_draw, n_band)
    in nMgy; spectrum: (wave_aa, p16, p50, p84) with f_nu in nMgy. The flux axis is logarithmic if every flux is
    above zero by its error, else asinh: linear near zero, so that a negative flux keeps its place.
    """
    flux, flux_err, model = (np.asarray(values, dtype=float) for values in (flux, flux_err, model_flux))
    wave = np.array([np.average(aa, weights=response * np.gradient(aa)) for _, aa, response in survey_curves])
    figure = Figure(figsize=(7.2, 5.6), layout="constrained")
    ax, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.7, 1))
    _wave_axis(ax, survey_curves)
    _flux_axis(ax, flux, flux_err, model)
    _filters(ax, survey_curves)
    if spectrum is not None:
        _spectrum(ax, spectrum)
    width = 0.022 * wave if ax.get_xscale() == "log" else np.full(len(wave), 0.018 * np.ptp(ax.get_xlim()))
    _boxes(ax, wave, width, model, label="model: 68%, 95% of draws")
    ax.errorbar(wave, flux, flux_err, fmt="o", color=INK, ms=5, capsize=2.5, lw=1.3, zorder=6, label="observed")
    below.axhspan(-1, 1, color=GREY, alpha=0.2, lw=0)
    below.axhline(0, color=INK, lw=0.8)
    _boxes(below, wave, width, (flux - model) / flux_err)
    below.set(xlabel=r"Observed wavelength ($\mathrm{\AA}$)", ylabel=r"(obs $-$ model)$\,/\,\sigma$")
    reach = np.nanmax(np.abs(below.get_ylim()))
    below.set_ylim(-max(reach, 3.2), max(reach, 3.2))
    softened = ", asinh scale" if ax.get_yscale() == "asinh" else ""
    ax.set(ylabel=rf"$f_\nu$ (nMgy{softened})", title=title)
    figure.align_ylabels()
    ax.legend(loc="upper left", ncols=3, columnspacing=1.2)
    return figure


@_styled
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


@_styled
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


@_styled
def loss_curve(history: Sequence[Mapping[str, float]]) -> Figure:
    """Training and validation loss of each epoch, from dicts with epoch, train and validation."""
    epoch, train, validation = (np.array([row[key] for row in history]) for key in ("epoch", "train", "validation"))
    best = int(np.nanargmin(validation))
    figure, ax = _panel()
    ax.plot(epoch, train, color=GREY, lw=1.5, label="training")
    ax.plot(epoch, validation, color=BLUE, lw=1.8, label="validation")
    ax.plot(epoch[best], validation[best], "o", color=ORANGE, ms=7, label=f"kept: epoch {epoch[best]}")
    ax.set(xlabel="Epoch", ylabel=r"Loss: $-\langle\log q(\theta\,|\,x)\rangle$")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="upper right")
    return figure


def figure_to_data_uri(fig: Figure) -> str:
    """The figure as a PNG in a data URI, for an HTML page that needs no other file."""
    buffer = io.BytesIO()
    save_figure(fig, buffer)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def save_figure(fig: Figure, path: "str | Path | io.BytesIO") -> None:
    """Write a figure to a file, whose suffix names the format (png, pdf, svg); PNG into a buffer."""
    with matplotlib.rc_context(STYLE):
        fig.savefig(path)


def _panel():
    figure = Figure(figsize=(5.6, 4.3), layout="constrained")
    return figure, figure.subplots()


def _finite(frame, *names):
    columns = np.array([np.asarray(frame[name], dtype=float) for name in names])
    columns = columns[:, np.isfinite(columns).all(axis=0)]
    if columns.shape[1] == 0:
        raise PopcatError(f"nothing to draw: no row has finite {', '.join(names)}")
    return columns


def _extent(values, *, pad=0.12):
    low, high = np.percentile(values, [0.5, 99.5])
    margin = pad * (high - low) if high > low else 0.5
    return float(low - margin), float(high + margin)


def _density(figure, ax, x, y):
    """Hexagons coloured by the log of their counts; what lies outside the axes is counted in a note."""
    (x0, x1), (y0, y1) = extent = _extent(x), _extent(y)
    cells = int(np.clip(len(x) ** 0.4, 16, 60))
    hexes = ax.hexbin(x, y, gridsize=cells, extent=(x0, x1, y0, y1), mincnt=1, cmap=_DENSITY, norm=LogNorm(vmin=1),
                      linewidths=0.2)
    hexes.set_clim(1, max(float(hexes.get_array().max()), 10.0))
    bar = figure.colorbar(hexes, ax=ax, pad=0.02, aspect=28, label="Galaxies per cell")
    bar.ax.tick_params(which="both", direction="out")
    ax.set(xlim=(x0, x1), ylim=(y0, y1))
    if len(x) >= _CONTOUR_POINTS:
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


def _wave_axis(ax, curves):
    covered = np.concatenate([aa[response > 0.01 * np.max(response)] for _, aa, response in curves])
    low, high = 0.95 * covered.min(), 1.04 * covered.max()
    ax.set(xlim=(low, high), xscale="log" if high > 6 * low else "linear")
    if ax.get_xscale() == "log":
        ax.xaxis.set_major_formatter(ScalarFormatter())


def _flux_axis(ax, flux, flux_err, model):
    seen = np.isfinite(flux) & np.isfinite(flux_err)
    values = np.concatenate([(flux - flux_err)[seen], (flux + flux_err)[seen],
                             *np.percentile(model, [2.5, 97.5], axis=0)])
    softening = 0.0 if (values > 0).all() else 3 * float(np.median(flux_err[seen]))
    if softening:
        ax.set_yscale("asinh", linear_width=softening)
    else:
        ax.set_yscale("log")
    transform = ax.yaxis.get_transform()
    low, high = np.sort(transform.transform(values))[[0, -1]]
    span = max(high - low, 0.1)
    limits = transform.inverted().transform(np.array([low - 0.42 * span, high + 0.3 * span]))
    ticks = _flux_ticks(*limits, softening)
    ax.set_yticks(ticks, [f"{tick:g}".replace("-", "−") for tick in ticks])
    ax.set_yticks([], minor=True)
    ax.set_ylim(*limits)


def _flux_ticks(low, high, softening):
    """At most nine ticks at 1, 2, 5 (or 1, or 1 every other decade) x 10^k, of both signs and zero if softened."""
    decades = 10.0 ** np.arange(-6, 9)
    for steps in (np.outer(decades, [1, 2, 5]).ravel(), np.outer(decades, [1, 3]).ravel(), decades, decades[::2]):
        # Below the softening the axis is linear, and decades would pile up on zero.
        steps = steps[steps >= softening]
        ticks = np.concatenate([-steps[::-1], [0.0], steps]) if softening else steps
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        if len(ticks) <= 9:
            break
    return ticks


def _filters(ax, curves):
    for order, (name, aa, response) in enumerate(curves):
        color = PALETTE[order % 8]
        height = 0.17 * np.asarray(response) / np.max(response)
        ax.fill_between(aa, 0, height, transform=ax.get_xaxis_transform(), color=color, alpha=0.22, lw=0)
        middle = np.average(aa, weights=response * np.gradient(aa))
        ax.text(middle, 0.035, name, transform=ax.get_xaxis_transform(), color=color, ha="center", fontweight="bold")


def _spectrum(ax, spectrum):
    aa, low, middle, high = spectrum
    ax.fill_between(aa, low, high, color=BLUE, alpha=0.22, lw=0)
    ax.plot(aa, middle, color=BLUE, lw=0.8, alpha=0.8, label="spectrum: median, 68%")


def _boxes(ax, x, width, draws, *, label=None):
    low2, low, middle, high, high2 = np.percentile(draws, [2.5, 16, 50, 84, 97.5], axis=0)
    ax.vlines(x, low2, high2, color=ORANGE, lw=1.4, zorder=3)
    ax.bar(x, high - low, width, bottom=low, color=ORANGE, alpha=0.45, ec=ORANGE, lw=1.1, zorder=4, label=label)
    ax.hlines(middle, x - width / 2, x + width / 2, color=ORANGE, lw=2.0, zorder=4)


def _ecdf(ranks):
    """Corners of the empirical distribution's steps, from (0, 0) to (1, 1)."""
    ordered = np.sort(ranks)
    below = np.arange(len(ordered) + 1) / len(ordered)
    return np.concatenate([[0], np.repeat(ordered, 2), [1]]), np.repeat(below, 2)

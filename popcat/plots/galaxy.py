"""Figures of one galaxy: corner plot and spectral energy distribution."""

from collections.abc import Collection, Mapping

import numpy as np
from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from popcat.errors import PopcatError
from popcat.plots.style import (
    BLUE,
    CONTOUR_POINTS,
    CORNER,
    GREY,
    INK,
    LABELS,
    NOTE,
    ORANGE,
    PALETTE,
    Picture,
    extent_of,
    overlaid_corner_plot,
    styled,
    tidy_corner,
)

# The unit of the star-formation rate does not fit beside a small panel.
_CORNER_LABELS = tuple((LABELS | {"log_sfr_1gyr": r"$\log_{10}\,\mathrm{SFR}_{1\,\mathrm{Gyr}}$"}).values())
_PRIOR_BINS = 24
_CORNER_TITLES = (r"$\log M_\star$", r"$\log\,$SFR", r"$\log Z$", r"$t_\mathrm{age}$", r"$\tau_\mathrm{ISM}$")


@styled
def galaxy_corner(
    draws: Mapping[str, np.ndarray], *, title: str, prior: Mapping[str, np.ndarray] | None = None,
    stays_prior: Collection[str] = (),
) -> Figure:  # fmt: skip
    """Corner plot of the draws (n,) of mass, star-formation rate, metallicity, age and dust of one galaxy.

    prior : draws (m,) of the prior, grey below the posterior. stays_prior : quantities whose titles say that they do.

    Raises PopcatError with fewer than 10 finite draws.
    """
    import corner

    sample = _corner_sample(draws)
    if len(sample) < 10:
        raise PopcatError(f"a corner plot needs at least 10 finite draws, got {len(sample)}: keep more draws")
    ranges = [extent_of(column, pad=0.08) for column in sample.T]
    contours = len(sample) >= CONTOUR_POINTS and bool((np.ptp(sample, axis=0) > 0).all())
    bins = int(np.clip(len(sample) ** 0.5, 12, 30))
    figure = Picture(figsize=(7.2, 7.2))
    corner.corner(sample, fig=figure, range=ranges, bins=bins, smooth=1.0, color=BLUE, labels=_CORNER_LABELS,
                  titles=_CORNER_TITLES, show_titles=True, title_fmt=".2f", title_kwargs={"fontsize": 9, "pad": 5},
                  label_kwargs={"fontsize": 10}, labelpad=0.12, levels=(0.68, 0.95), plot_density=False,
                  plot_contours=contours, fill_contours=contours, quiet=True,
                  hist_kwargs={"histtype": "stepfilled", "alpha": 0.55, "lw": 1.2},
                  data_kwargs={"ms": 1.6 if contours else 3.0, "alpha": 0.25 if contours else 0.6})
    for i, name in enumerate(CORNER):
        if name in stays_prior:
            ax = figure.axes[i * (len(CORNER) + 1)]
            ax.set_title(f"{ax.get_title()}\nprior-dominated", fontsize=9, pad=5, color=NOTE)
    tidy_corner(figure)
    if prior is not None:
        _prior_below(figure, _corner_sample(prior), len(sample), bins)
        title += "\ngrey: the prior"
    figure.text(0.985, 0.975, title, ha="right", va="top", fontsize=11, linespacing=1.5)
    return figure


def _prior_below(figure: Figure, prior: np.ndarray, n: int, bins: int) -> None:
    """Draws (m, 5) of the prior below a corner plot of n draws: as many as these, and contours of 68% and 95%."""
    from scipy.ndimage import gaussian_filter

    axes = np.reshape(np.array(figure.axes, dtype=object), (len(CORNER), len(CORNER)))
    varied = np.ptp(prior, axis=0) > 0.0
    for i in np.flatnonzero(varied):
        ax, (low, high) = axes[i, i], axes[i, i].get_xlim()
        ax.hist(prior[:, i], bins=np.linspace(low, high, bins + 1), weights=np.full(len(prior), n / len(prior)),
                histtype="stepfilled", color=GREY, alpha=0.45, lw=0, zorder=0)
        for j in np.flatnonzero(varied[:i]):
            panel = axes[i, j]
            limits = (*panel.get_xlim(), *panel.get_ylim())
            ranges = [extent_of(prior[:, k], pad=0.25) for k in (j, i)]
            mass, *edges = np.histogram2d(prior[:, j], prior[:, i], bins=_PRIOR_BINS, range=ranges)
            mass = gaussian_filter(mass, 1.5, mode="constant")
            sorted_mass = np.sort(mass.ravel())
            levels = np.interp([0.05, 0.32], np.cumsum(sorted_mass) / sorted_mass.sum(), sorted_mass)
            if levels[0] < levels[1]:
                x, y = (0.5 * (edge[1:] + edge[:-1]) for edge in edges)
                panel.contour(x, y, mass.T, levels, colors=GREY, linewidths=1.0, zorder=0)
                panel.axis(limits)


@styled
def overlaid_corner(draws: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray], *, title: str) -> Figure:
    """Corner plot of two samples of one galaxy's posterior, each a dict of (n,): the draws over the reference."""
    below, above = (_corner_sample(part) for part in (reference, draws))
    note = f"{title}\nblue: the catalogue, grey: the independent sampler"
    return overlaid_corner_plot(below, above, _CORNER_LABELS, note=note)


def _corner_sample(draws: Mapping[str, np.ndarray]) -> np.ndarray:
    """The finite draws (n, 5) of the quantities of a corner plot."""
    sample = np.column_stack([np.asarray(draws[name], dtype=float) for name in CORNER])
    return sample[np.isfinite(sample).all(axis=1)]


@styled
def galaxy_sed(survey_curves, flux, flux_err, model_flux, *, title: str, spectrum=None) -> Figure:
    """Observed fluxes, the model's draws and filter curves against wavelength, with residuals below.

    survey_curves: (name, wave_aa, response) of each band; flux, flux_err (n_band,) and model_flux (n_draw, n_band)
    in nMgy; spectrum: (wave_aa, p16, p50, p84) with f_nu in nMgy. The flux axis is logarithmic if every flux is
    above zero by its error, else asinh: linear near zero, so that a negative flux keeps its place.
    """
    flux, flux_err, model = (np.asarray(values, dtype=float) for values in (flux, flux_err, model_flux))
    wave = np.array([np.average(aa, weights=response * np.gradient(aa)) for _, aa, response in survey_curves])
    figure = Picture(figsize=(7.2, 5.6), layout="constrained")
    ax, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.7, 1))
    _wave_axis(ax, survey_curves)
    _flux_axis(ax, flux, flux_err, model)
    _filters(ax, survey_curves, wave)
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


def spectrum_band(wave_aa: np.ndarray, spectra: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What `galaxy_sed` takes as `spectrum`: wavelengths (n_wave,), and p16, p50, p84 of spectra (n, n_wave)."""
    low, middle, high = np.percentile(spectra, [16, 50, 84], axis=0)
    return wave_aa, low, middle, high


@styled
def galaxy_sfh(
    lookback_gyr: np.ndarray, sfr: np.ndarray, *, title: str, prior: np.ndarray | None = None
) -> Figure:
    """Star-formation rate against lookback time: median and 68% of draws (n, n_bin) in Msun / yr, in bins between edges
    (n_bin + 1,); NaN, before the Big Bang of a draw, counts for nothing. prior : rates (m, n_bin) of draws of the
    prior, whose 68% is grey below.

    Raises PopcatError if no bin is after the Big Bang.
    """
    seen = np.isfinite(sfr).any(axis=0)
    if not seen.any():
        raise PopcatError("star formation: expected bins of lookback time after the Big Bang, got none: begin at 0 Gyr")
    low, middle, high = sfh_band(sfr[:, seen])
    edges = np.append(lookback_gyr[:-1][seen], lookback_gyr[1:][seen][-1])
    figure = Picture(figsize=(7.2, 4.2), layout="constrained")
    ax = figure.subplots()
    if prior is not None:
        below, _, above = sfh_band(prior[:, seen])
        ax.stairs(above, edges, baseline=below, fill=True, color=GREY, alpha=0.3, label="68% of the prior at this mass")
    ax.stairs(high, edges, baseline=low, fill=True, color=BLUE, alpha=0.25, label="68% of draws")
    ax.stairs(middle, edges, baseline=None, color=BLUE, lw=1.6, label="median")
    positive = high[high > 0.0]
    if len(positive):
        ax.set_yscale("log")
        least = 0.5 * np.min(low[low > 0.0], initial=positive.min())
        ax.set_ylim(max(least, 1e-4 * positive.max()), 2.0 * positive.max())
    ax.set(xlim=(edges[0], edges[-1]), xlabel="Lookback time before the observed epoch (Gyr)",
           ylabel=r"SFR ($M_\odot\,\mathrm{yr}^{-1}$)", title=title)
    ax.legend(loc="best")
    return figure


def sfh_band(sfr: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Percentiles 16, 50 and 84, (n_bin,) each, of rates (n, n_bin); NaN where every rate is."""
    found = np.full((3, sfr.shape[1]), np.nan)
    seen = np.isfinite(sfr).any(axis=0)
    found[:, seen] = np.nanpercentile(sfr[:, seen], [16, 50, 84], axis=0)
    low, middle, high = found
    return low, middle, high


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


def _filters(ax, curves, wave):
    """Each band's curve, and its name at `wave` where that has room beside those of shorter wavelengths."""
    width = ax.figure.get_figwidth() * ax.get_position().width * 72.0
    at = width * ax.transAxes.inverted().transform(ax.transData.transform([(one, 1.0) for one in wave]))[:, 0]
    named, end = set(), -np.inf
    for order in np.argsort(wave):
        half = 0.3 * rcParams["font.size"] * len(curves[order][0]) + 2.0
        if at[order] - half >= end:
            named.add(order)
            end = at[order] + half
    for order, (name, aa, response) in enumerate(curves):
        color = PALETTE[order % 8]
        height = 0.17 * np.asarray(response) / np.max(response)
        ax.fill_between(aa, 0, height, transform=ax.get_xaxis_transform(), color=color, alpha=0.22, lw=0)
        if order in named:
            ax.text(wave[order], 0.035, name, transform=ax.get_xaxis_transform(), color=color, ha="center",
                    fontweight="bold")  # fmt: skip


def _spectrum(ax, spectrum):
    aa, low, middle, high = spectrum
    ax.fill_between(aa, low, high, color=BLUE, alpha=0.22, lw=0)
    ax.plot(aa, middle, color=BLUE, lw=0.8, alpha=0.8, label="spectrum: median, 68%")


def _boxes(ax, x, width, draws, *, label=None):
    low2, low, middle, high, high2 = np.percentile(draws, [2.5, 16, 50, 84, 97.5], axis=0)
    ax.vlines(x, low2, high2, color=ORANGE, lw=1.4, zorder=3)
    ax.bar(x, high - low, width, bottom=low, color=ORANGE, alpha=0.45, ec=ORANGE, lw=1.1, zorder=4, label=label)
    ax.hlines(middle, x - width / 2, x + width / 2, color=ORANGE, lw=2.0, zorder=4)

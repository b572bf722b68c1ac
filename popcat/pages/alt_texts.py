"""What figures show, in words with numbers, for readers who do not see them."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from popcat.plots.calibration import RANK_BINS, rank_band
from popcat.plots.style import CORNER

_QUANTILES = (16, 50, 84)


def of_values(values: np.ndarray) -> str:
    """Median and the range of 68% of some values.

    >>> of_values(np.arange(101.0))
    'median 50, 68% from 16 to 84'
    """
    low, middle, high = np.nanpercentile(values, _QUANTILES)
    return f"median {middle:.3g}, 68% from {low:.3g} to {high:.3g}"


def of_mass_redshift(frame: pd.DataFrame) -> str:
    """Of `plots.mass_redshift`."""
    z, mass = frame["redshift_p50"].to_numpy(dtype=float), frame["log_mstar_p50"].to_numpy(dtype=float)
    near, far = np.percentile(z, [20, 80])
    low, high = (np.median(mass[part]) for part in (z <= near, z >= far))
    return (f"Stellar mass against redshift of {len(z):,} galaxies. The median log mass is {low:.1f} in the nearest "
            f"fifth, below redshift {near:.3g}, and {high:.1f} in the farthest fifth, beyond {far:.3g}. "
            f"All masses: {of_values(mass)}.")  # fmt: skip


def of_sequence(log_mstar: np.ndarray, log_sfr: np.ndarray, mass: np.ndarray, x: np.ndarray, y: np.ndarray) -> str:
    """Of `plots.stacked_sequence`, with its arguments."""
    centre_x, centre_y = (0.5 * (edges[1:] + edges[:-1]) for edges in (x, y))
    stacked = float((mass * (centre_y - centre_x[:, None] < -11.0)).sum() / max(mass.sum(), 1e-300))
    medians = float(np.mean(log_sfr - log_mstar < -11.0))
    return (f"Two panels of star-formation rate against stellar mass. Below the line of quiescence are {medians:.0%} "
            f"of the {len(log_mstar):,} medians, left, and {stacked:.0%} of the stacked posteriors, right.")


def of_marginals(medians: Mapping[str, np.ndarray], middles: Mapping[str, np.ndarray],
                 mass: Mapping[str, np.ndarray]) -> str:  # fmt: skip
    """Of `plots.stacked_marginals`; middles : of the bins."""
    parts = []
    for name, values in medians.items():
        at = np.cumsum(mass[name]) / max(mass[name].sum(), 1e-300)
        low, high = (middles[name][int(np.searchsorted(at, share).clip(0, len(at) - 1))] for share in (0.16, 0.84))
        parts.append(f"{name}: medians {of_values(values)}; stacked posteriors 68% from {low:.3g} to {high:.3g}")
    return f"Distributions of {len(parts)} quantities. {'. '.join(parts)}."


def of_sky(ra: np.ndarray, dec: np.ndarray) -> str:
    """Of `plots.sky_map`."""
    known = np.isfinite(ra) & np.isfinite(dec)
    ra, dec = ra[known], dec[known]
    return (f"Positions of {len(ra):,} galaxies on the sky: right ascension {ra.min():.1f} to {ra.max():.1f} degrees, "
            f"declination {dec.min():.1f} to {dec.max():.1f} degrees.")  # fmt: skip


def of_chi2(chi2: np.ndarray, limit: float) -> str:
    """Of `plots.chi2_histogram`."""
    chi2 = chi2[np.isfinite(chi2)]
    return f"Histogram of the best chi squared: {of_values(chi2)}. {np.mean(chi2 > limit):.1%} are beyond {limit:.3g}."


def of_status(counts: Mapping[str, int]) -> str:
    """Of `plots.status_bars`."""
    return f"Galaxies of each status: {', '.join(f'{number:,} {name}' for name, number in counts.items())}."


def of_pp(ks: Mapping[str, float], limit: float) -> str:
    """Of `plots.pp_curves`."""
    worst = max(ks, key=ks.__getitem__)
    beyond = [name for name, distance in ks.items() if distance > limit]
    left = f"{len(beyond)} leave the band of {limit:.3f}: {', '.join(beyond)}" if beyond else f"all within {limit:.3f}"
    return f"p-p curves of {len(ks)} columns. The farthest from the diagonal is {worst}, by {ks[worst]:.3f}; {left}."


def of_ranks(ranks: Mapping[str, np.ndarray], bins: int = RANK_BINS) -> str:
    """Of `plots.rank_histograms`."""
    outside = {}
    for name, values in ranks.items():
        low, high = rank_band(len(values), bins)
        counts, _ = np.histogram(values, bins, (0.0, 1.0))
        outside[name] = int(((counts < low) | (counts > high)).sum())
    worst = max(outside, key=outside.__getitem__)
    return (f"Histograms of the ranks of {len(ranks)} columns in {bins} bins each. {sum(outside.values())} of "
            f"{bins * len(ranks)} bars are outside the 99% band of counting noise, {outside[worst]} of them of "
            f"{worst}.")  # fmt: skip


def of_sed(bands: Sequence[str], flux: Iterable, flux_err: Iterable, model: np.ndarray) -> str:
    """Of `plots.galaxy_sed`; model : fluxes (n_draw, n_band)."""
    flux, err = (np.array(list(values), dtype=float) for values in (flux, flux_err))
    seen = np.isfinite(flux) & np.isfinite(err)
    listed = ", ".join(f"{bands[b]} {flux[b]:.3g} ± {err[b]:.2g}" for b in np.flatnonzero(seen).tolist())
    pulls = np.where(seen, (flux - np.median(model, axis=0)) / np.where(seen, err, 1.0), 0.0)
    worst = int(np.abs(pulls).argmax())
    return (f"Fluxes in nMgy: {listed}. The median of the model is farthest from the data in {bands[worst]}, "
            f"by {abs(pulls[worst]):.1f} sigma.")  # fmt: skip


def of_corner(draws: Mapping[str, np.ndarray], stays: Sequence[str] = ()) -> str:
    """Of `plots.galaxy_corner`."""
    parts = (f"{name} {of_values(draws[name])}{' (prior-dominated)' if name in stays else ''}" for name in CORNER)
    return f"Corner plot of {len(draws[CORNER[0]])} draws: {'; '.join(parts)}."


def of_corners(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> str:
    """Of `plots.overlaid_corner`."""
    parts = (f"{name} {of_values(ours[name])}, the sampler {of_values(theirs[name])}" for name in CORNER)
    return f"Two corner plots over each other: {'; '.join(parts)}."


def of_sfh(edges_gyr: np.ndarray, median: np.ndarray) -> str:
    """Of `plots.galaxy_sfh`: median rates (n_bin,) between edges of lookback time."""
    seen = np.flatnonzero(np.isfinite(median))
    most = seen[int(median[seen].argmax())]
    return (f"Star-formation rate against lookback time, median: {median[0]:.2g} Msun per year in the last "
            f"{edges_gyr[1]:.2g} Gyr, most between {edges_gyr[most]:.2g} and {edges_gyr[most + 1]:.2g} Gyr ago, "
            f"{median[most]:.2g}.")  # fmt: skip


def of_two(values: Mapping[str, np.ndarray], words: str) -> str:
    """Of `plots.two_histograms`."""
    parts = (f"{title} {of_values(sample)}" for title, sample in values.items())
    return f"Histograms of {words}: {'; '.join(parts)}."

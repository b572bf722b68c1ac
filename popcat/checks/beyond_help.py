"""Bands that no zero point mends, by the residuals that are left after the fit (popcat.checks.zero_points).

- An offset above MAX_OFFSET is no calibration: another unit, another system of magnitudes, another column.
- Residuals in two groups: rows in two units, or of two fields.
- Residuals that run with magnitude: fluxes of another aperture, or a sky that was not subtracted.
- Residuals that run with redshift: a filter curve that is not the band's.
"""

import numpy as np

from popcat.checks.zero_points import MIN_GALAXIES, Fit, location
from popcat.units import POGSON

MAX_OFFSET = 0.3
"""Magnitudes."""
MAX_RUN, RUN_ERRORS, N_BINS = 0.2, 5.0, 5
"""Largest difference of the mean residual, in magnitudes and in its errors, between bins of equal numbers."""
_MIN_APART, _MIN_ERRORS, _MIN_GROUP, _MIN_CLEAR = 0.3, 4.0, 0.05, 4.0
"""Two groups: magnitudes and median errors between them, share of the smaller one, and Ashman's D, above 2 where groups
are separate."""


def beyond_help(fit: Fit, redshift: np.ndarray) -> list[str | None]:
    """Of each band why a zero point does not mend it, in words; None where it may. redshift : (n,) of the galaxies."""
    return [_why(fit, b, redshift) for b in range(len(fit.offset_mag))]


def _why(fit: Fit, b: int, redshift: np.ndarray) -> str | None:
    rows = np.flatnonzero(np.isfinite(fit.after.t[:, b]))
    if len(rows) < MIN_GALAXIES:
        return None
    apart = two_groups(fit.after.excess_mag[rows, b])
    if apart is not None and apart > _MIN_ERRORS * POGSON / float(np.median(fit.after.sensitivity[rows, b])):
        return f"two groups of galaxies, {apart:.1f} mag apart: two units, or two fields"
    if abs(fit.offset_mag[b]) > MAX_OFFSET:
        return f"off by more than {MAX_OFFSET:g} mag: unit, system of magnitudes, or column"
    t, sensitivity = fit.after.t[rows, b], fit.after.sensitivity[rows, b]
    against = {"magnitude: aperture, or sky": fit.after.mag[rows, b], "redshift: filter curve": redshift[rows]}
    for what, values in against.items():
        size, error = run(values, t, sensitivity)
        if size > MAX_RUN and size > RUN_ERRORS * error:
            return f"residuals run by {size:.2f} mag with {what}"
    return None


def run(values: np.ndarray, t: np.ndarray, sensitivity: np.ndarray) -> tuple[float, float]:
    """Largest difference of the mean residual between bins of `values`, in magnitudes, and its error; 0 of too few."""
    known = np.flatnonzero(np.isfinite(values))
    if len(known) < N_BINS * MIN_GALAXIES // 2:
        return 0.0, 0.0
    order = known[np.argsort(values[known], kind="stable")]
    found = [location(t[part], sensitivity[part])[:2] for part in np.array_split(order, N_BINS)]
    means = POGSON * np.array([mean for mean, _ in found])
    errors = POGSON * np.array([np.sqrt(np.sum(influence**2)) for _, influence in found])
    low, high = np.argmin(means), np.argmax(means)
    return float(means[high] - means[low]), float(np.hypot(errors[high], errors[low]))


def two_groups(values: np.ndarray) -> float | None:
    """How far apart the two groups of some values are; None where there is one.

    >>> x = np.linspace(-0.1, 0.1, 100)
    >>> two_groups(x), round(two_groups(np.concatenate([x, x + 1.0])), 1)
    (None, 1.0)
    """
    values = np.sort(values)
    n = len(values)
    least = max(int(_MIN_GROUP * n), 3)
    below, total = np.cumsum(values), values.sum()
    cut = np.arange(least, n - least)
    gap = (total - below[cut - 1]) / (n - cut) - below[cut - 1] / cut
    at = int(cut[np.argmax(cut * (n - cut) * gap**2)])
    groups = values[:at], values[at:]
    middle = [np.median(group) for group in groups]
    spread = [1.4826 * np.median(np.abs(group - one)) for group, one in zip(groups, middle, strict=True)]
    apart = float(middle[1] - middle[0])
    clear = apart * np.sqrt(2.0) / max(float(np.hypot(*spread)), 1e-9)
    return apart if apart > _MIN_APART and clear > _MIN_CLEAR else None

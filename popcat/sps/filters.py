"""Filter curves: sets of segments, stretches of positive response that is linear between the tabulated points.

A gap between tabulated points that is far wider than the sampling is a gap (response zero), never a line drawn across
it. Out of band, tables hold the noise of the measurement. The rule that trims it: the stretch above a thousandth of the
peak that holds the peak is the band; another such stretch is kept if it reaches a hundredth of the peak (telluric bands
in 2MASS J) or carries 5e-4 of the light (leaks: that of SDSS u has 1.5e-3, noise in VISTA's curves 1e-4); all else is
zero. A band's settings decide about leaks (`wave_range_aa`), and may turn the rule off (`trim = 0`).
"""

from dataclasses import dataclass

import numpy as np

from popcat.errors import PopcatError
from popcat.settings import TRIM, Band, Survey
from popcat.sps.filter_sources import read_filter

# A step more than this many times the median step is a gap in the table.
_GAP_FACTOR = 20.0
# Stretches of response closer than this fraction of the widest one's width are one segment.
_NEAR = 0.25
# What makes a stretch outside the band more than noise: height in peaks, or part of the light.
_HIGH, _LEAK = 1e-2, 5e-4


@dataclass(frozen=True)
class FilterCurve:
    """Relative photon response of one band: observed wavelength in Angstrom (ascending) and response >= 0."""

    name: str
    wave_aa: np.ndarray
    response: np.ndarray

    @property
    def effective_wavelength_aa(self) -> float:
        """Photon-weighted mean wavelength: int T w dw / int T dw."""
        area = np.trapezoid(self.response, self.wave_aa)
        return float(np.trapezoid(self.response * self.wave_aa, self.wave_aa) / area)

    def segments(self) -> list[tuple[float, float]]:
        """Ranges of wavelength with positive response: wide gaps are left out, narrow ones lie within."""
        positive = self.response > 0
        ranges = self.wave_aa[_stretches(positive[1:] | positive[:-1])]
        near = _NEAR * np.max(ranges[:, 1] - ranges[:, 0])
        apart = np.flatnonzero(ranges[1:, 0] - ranges[:-1, 1] > near)
        first, last = np.append(0, apart + 1), np.append(apart, len(ranges) - 1)
        return [(float(ranges[a, 0]), float(ranges[b, 1])) for a, b in zip(first, last, strict=True)]

    def ab_norm(self) -> float:
        """int T / w dw: the AB normalisation of the photon-counting integral."""
        wave = np.linspace(self.wave_aa[0], self.wave_aa[-1], 20 * len(self.wave_aa) + 1)
        wave = np.union1d(wave, self.wave_aa)
        return float(np.trapezoid(self(wave) / wave, wave))

    def __call__(self, wave_aa: np.ndarray) -> np.ndarray:
        return np.interp(wave_aa, self.wave_aa, self.response, left=0.0, right=0.0)


def make_curve(name: str, wave_aa, response, *, wave_range_aa=None, trim: float = TRIM) -> FilterCurve:
    """A curve from arrays: checked, gaps set to zero, cut to `wave_range_aa`, out-of-band noise trimmed.

    `trim` is the fraction of the peak below which response outside the band is noise; 0 keeps all.

    Raises PopcatError for arrays that describe no filter.
    """
    wave, response = np.asarray(wave_aa, dtype=float), np.asarray(response, dtype=float)
    if wave.ndim != 1 or wave.shape != response.shape or len(wave) < 3:
        raise PopcatError(f'filter "{name}": expected two columns of at least 3 rows (Angstrom, response), '
                          f"got {wave.shape} and {response.shape}")
    if not (np.all(np.isfinite(wave)) and np.all(np.isfinite(response)) and np.all(np.diff(wave) > 0)):
        raise PopcatError(f'filter "{name}": wavelengths must ascend and all values be finite')
    wave, response = _open_gaps(wave, np.clip(response, 0.0, None))
    if wave_range_aa is not None:
        wave, response = _cut(name, wave, response, *wave_range_aa)
    if not np.any(response > 0):
        where = f" within {wave_range_aa} A" if wave_range_aa else ""
        raise PopcatError(f'filter "{name}": no positive response{where}')
    response = _trimmed(wave, response, trim)
    positive = np.flatnonzero(response > 0)
    keep = slice(max(positive[0] - 1, 0), positive[-1] + 2)
    return FilterCurve(name, wave[keep], response[keep])


def _open_gaps(wave, response):
    """Zero response inside steps that are far wider than the sampling."""
    step = np.diff(wave)
    wide = np.flatnonzero((step > _GAP_FACTOR * np.median(step)) & (response[1:] + response[:-1] > 0))
    inside = np.concatenate([wave[wide] + 1e-3, wave[wide + 1] - 1e-3])
    merged = np.concatenate([wave, inside])
    order = np.argsort(merged)
    return merged[order], np.concatenate([response, np.zeros(len(inside))])[order]


def _trimmed(wave, response, trim):
    """The response without the noise out of band, by the rule above."""
    peak = np.argmax(response)
    stretches = _stretches(response >= trim * response[peak])
    light = np.array([np.trapezoid(response[a:b], wave[a:b]) for a, b in stretches])
    high = np.array([response[a:b].max() for a, b in stretches]) >= _HIGH * response[peak]
    kept = high | (light >= _LEAK * light.sum())
    inside = np.zeros(len(wave), dtype=bool)
    for a, b in stretches[kept]:
        inside[a:b] = True
    return np.where(inside, response, 0.0)


def _stretches(mask) -> np.ndarray:
    """First row and the one after the last of each stretch of True: (n, 2)."""
    return np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int))).reshape(-1, 2)


def _cut(name, wave, response, low, high):
    """The curve within [low, high], dropping to zero at the cuts; a range wider than the curve cuts nothing."""
    low, high = max(low, wave[0]), min(high, wave[-1])
    if low >= high:
        raise PopcatError(f'filter "{name}": wave_range_aa must be (low, high) and meet the curve\'s '
                          f"{wave[0]:g} to {wave[-1]:g} A")
    inside = (wave > low) & (wave < high)
    at_edges = np.interp([low, high], wave, response)
    new_wave = np.concatenate([[low - 1e-3, low], wave[inside], [high, high + 1e-3]])
    return new_wave, np.concatenate([[0.0, at_edges[0]], response[inside], [at_edges[1], 0.0]])


def load_curve(band: Band) -> FilterCurve:
    """The filter curve of a survey's band.

    Raises PopcatError if the filter is neither a readable file nor a name that speclite or sedpy knows.

    >>> from popcat.settings import load_survey
    >>> round(load_curve(load_survey("sdss").bands[2]).effective_wavelength_aa, -2)
    6200.0
    """
    return make_curve(band.name, *read_filter(band.filter), wave_range_aa=band.wave_range_aa, trim=band.trim)


def load_curves(survey: Survey) -> list[FilterCurve]:
    """The filter curves of a survey, in the order of its bands."""
    return [load_curve(band) for band in survey.bands]

"""Filter curves: from speclite, from two-column files, or from arrays.

A curve is a set of segments: stretches of positive response, linear between the tabulated points. A gap between
tabulated points that is far wider than the sampling is a gap (response zero), never a line drawn across it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from popcat.errors import PopcatError
from popcat.settings import Band, Survey

# A step more than this many times the median step is a gap in the table.
_GAP_FACTOR = 20.0


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
        """Ranges of wavelength with positive response, gaps left out."""
        positive = self.response > 0
        inside = positive[1:] | positive[:-1]
        edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))
        return [(float(self.wave_aa[a]), float(self.wave_aa[b])) for a, b in edges.reshape(-1, 2)]

    def ab_norm(self) -> float:
        """int T / w dw: the AB normalisation of the photon-counting integral."""
        wave = np.linspace(self.wave_aa[0], self.wave_aa[-1], 20 * len(self.wave_aa) + 1)
        wave = np.union1d(wave, self.wave_aa)
        return float(np.trapezoid(self(wave) / wave, wave))

    def __call__(self, wave_aa: np.ndarray) -> np.ndarray:
        return np.interp(wave_aa, self.wave_aa, self.response, left=0.0, right=0.0)


def make_curve(name: str, wave_aa, response, wave_range_aa=None) -> FilterCurve:
    """A curve from arrays: checked, gaps set to zero, cut to `wave_range_aa`, unresponsive ends trimmed.

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
    positive = np.flatnonzero(response > 0)
    if len(positive) == 0:
        where = f" within {wave_range_aa} A" if wave_range_aa else ""
        raise PopcatError(f'filter "{name}": no positive response{where}')
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

    Raises PopcatError if the filter is neither a speclite name nor a readable file.

    >>> from popcat.settings import load_survey
    >>> round(load_curve(load_survey("sdss").bands[2]).effective_wavelength_aa, -2)
    6200.0
    """
    path = Path(band.filter)
    wave, response = _from_file(path) if path.is_file() else _from_speclite(band.filter)
    return make_curve(band.name, wave, response, band.wave_range_aa)


def load_curves(survey: Survey) -> list[FilterCurve]:
    """The filter curves of a survey, in the order of its bands."""
    return [load_curve(band) for band in survey.bands]


def _from_file(path: Path):
    try:
        table = np.loadtxt(path, comments="#", ndmin=2)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise PopcatError(f"filter file {path}: expected two columns (Angstrom, response): {error}") from error
    if table.shape[1] < 2:
        raise PopcatError(f"filter file {path}: expected two columns (Angstrom, response), got {table.shape[1]}")
    return table[:, 0], table[:, 1]


def _from_speclite(name: str):
    import speclite.filters

    try:
        curve = speclite.filters.load_filter(name)
    except ValueError as error:
        raise PopcatError(
            f'unknown filter "{name}": expected a speclite name such as "sdss2010-r", "twomass-J", "decamDR1-g" '
            "(see speclite.filters.filter_group_names) or the path of a two-column text file"
        ) from error
    return curve.wavelength, curve.response

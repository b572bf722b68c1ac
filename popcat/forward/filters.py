"""Filter curves: sets of segments, stretches of positive response that is linear between the tabulated points.

A gap between tabulated points that is far wider than the sampling is a gap (response zero), never a line drawn across
it. Out of band, tables hold the noise of the measurement. The rule that trims it: the stretch above a thousandth of the
peak that holds the peak is the band; another such stretch is kept if it reaches a hundredth of the peak (telluric bands
in 2MASS J) or carries 5e-4 of the light (leaks: that of SDSS u has 1.5e-3, noise in VISTA's curves 1e-4); all else is
zero. A band's settings decide about leaks (`wave_range_aa`), and may turn the rule off (`trim = 0`).

Where filter curves come from: files, and the collections of the packages speclite and sedpy.

Files are two columns of text (Angstrom, response to photons), as sedpy and the SVO Filter Profile Service write them,
or tables with named columns and units: the VOTables of the SVO, the ECSV of speclite.
"""

import difflib
import warnings
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np

from popcat.errors import PopcatError
from popcat.files import kept_array, package_folder
from popcat.paths import local
from popcat.survey import TRIM, Filter, Survey

FilterLike = TypeVar("FilterLike", bound=Filter)
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

    @property
    def pivot_wavelength_aa(self) -> float:
        """sqrt(int T w dw / int T / w dw): there f_nu = f_lambda w^2 / c, whatever the spectrum."""
        light = np.trapezoid(self.response * self.wave_aa, self.wave_aa)
        return float(np.sqrt(light / np.trapezoid(self.response / self.wave_aa, self.wave_aa)))

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


def load_curve(band: Filter) -> FilterCurve:
    """The filter curve of a survey's band.

    Raises PopcatError if the filter is neither a readable file nor a name that speclite or sedpy knows.

    >>> from popcat.survey import load_survey
    >>> round(load_curve(load_survey("sdss").bands[2]).effective_wavelength_aa, -2)
    6200.0
    """
    wave, response = read_filter(band.filter) if band.curve is None else band.curve
    return make_curve(band.name, wave, response, wave_range_aa=band.wave_range_aa, trim=band.trim)


def load_curves(survey: Survey) -> list[FilterCurve]:
    """The filter curves of a survey, in the order of its bands."""
    return [load_curve(band) for band in survey.bands]


def with_curves(survey: Survey) -> Survey:
    """The same survey with the filter curves that are files kept in it: where it goes, they need not.

    >>> from popcat.survey import load_survey
    >>> with_curves(load_survey("sdss")) == load_survey("sdss")
    True
    """
    return survey.model_copy(update={
        "bands": tuple(map(_with_curve, survey.bands)),
        "absolute_magnitudes": tuple(map(_with_curve, survey.absolute_magnitudes)),
    })  # fmt: skip


def _with_curve(band: FilterLike) -> FilterLike:
    if band.curve is not None or not local(band.filter).is_file():
        return band
    wave, response = read_filter(band.filter)
    return band.model_copy(update={"curve": (tuple(map(float, wave)), tuple(map(float, response)))})


SAME_CURVE = 0.02
"""Two curves are one filter where this fraction of their light, or less, is at other wavelengths."""


def same_filter(one: Filter, other: Filter) -> bool:
    """Whether two bands have one filter, by what their curves let through, whatever the names of their files.

    Where a curve cannot be loaded, the names of the files decide.

    >>> from popcat.survey import load_survey
    >>> u, g = load_survey("sdss").bands[:2]
    >>> same_filter(u, u.model_copy(update={"wave_range_aa": None})), same_filter(u, g)
    (True, False)
    """
    if all(getattr(one, name) == getattr(other, name) for name in ("filter", "wave_range_aa", "trim", "curve")):
        return True
    try:
        a, b = load_curve(one), load_curve(other)
    except PopcatError:
        return Path(one.filter).name == Path(other.filter).name
    wave = np.union1d(a.wave_aa, b.wave_aa)
    difference = np.subtract(*(curve(wave) / np.trapezoid(curve(wave), wave) for curve in (a, b)))
    return float(np.trapezoid(np.abs(difference), wave)) / 2 <= SAME_CURVE


_TABLES = (".xml", ".vot", ".votable", ".ecsv")


def read_filter(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Wavelength in Angstrom and response to photons, as tabulated: of a file, or of a speclite or sedpy name.

    Raises PopcatError if there is no such filter, with the closest names of both collections, or the file holds none.

    >>> wave, response = read_filter("sdss2010-r")
    >>> float(wave[response.argmax()])
    6380.0
    """
    path = local(name)
    if path.is_file():
        return _from_table(path) if path.suffix.lower() in _TABLES else _from_text(path)
    if name in speclite_filters():
        wave, response = kept_array(f"speclite {version('speclite')} {name}", lambda: _from_speclite(name))
        return wave, response
    if name in sedpy_filters():
        return _from_text(_sedpy_folder() / f"{name}.par")
    raise PopcatError(
        f'unknown filter "{name}": expected a file or a name; {_closest("speclite", name, speclite_filters())}; '
        f"{_closest('sedpy', name, sedpy_filters())}"
    )


@cache
def speclite_filters() -> tuple[str, ...]:
    """Names of the filters that speclite carries, such as "sdss2010-r"."""
    folder = _package_folder("speclite") / "data" / "filters"
    return tuple(sorted(path.stem for path in folder.glob("*.ecsv")))


@cache
def sedpy_filters() -> tuple[str, ...]:
    """Names of the filters that sedpy carries, such as "vista_vircam_Ks"."""
    return tuple(sorted(path.stem for path in _sedpy_folder().glob("*.par")))


def _sedpy_folder() -> Path:
    """sedpy's code is not imported: it reads its reference spectra when it is."""
    return _package_folder("sedpy") / "data" / "filters"


def _package_folder(package: str) -> Path:
    missing = f"the package {package}, which holds filter curves, is not installed: reinstall popcat"
    return package_folder(package, missing)


def _closest(collection: str, name: str, names: tuple[str, ...]) -> str:
    lower = {choice.lower(): choice for choice in names}
    close = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
    shown = ", ".join(f'"{lower[choice]}"' for choice in close) or f'none like it, but "{names[0]}" and others'
    return f"{collection} ({len(names)} filters) has {shown}"


def _from_text(path: Path):
    try:
        table = np.loadtxt(path, comments="#", ndmin=2)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise PopcatError(f"filter file {path}: expected two columns (Angstrom, response): {error}") from error
    if table.shape[1] < 2:
        raise PopcatError(f"filter file {path}: expected two columns (Angstrom, response), got {table.shape[1]}")
    return table[:, 0], table[:, 1]


def _from_speclite(name: str) -> np.ndarray:
    """Wavelength and response, (2, n), as speclite gives them: without what its files hold beyond the curve's ends."""
    import speclite.filters

    curve = speclite.filters.load_filter(name)
    return np.stack([curve.wavelength, curve.response])


def _from_table(path: Path):
    """The first two columns, wavelengths by their unit; a response to energy is brought to one to photons."""
    from astropy import units

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the SVO's files stretch the standard
            table, parameters = _read_table(path)
        unit = table.columns[0].unit or units.AA
        wave_aa = units.Quantity(np.asarray(table.columns[0], dtype=float), unit).to_value(units.AA)
        response = np.asarray(table.columns[1], dtype=float)
    except (OSError, ValueError, IndexError, TypeError) as error:
        raise PopcatError(f"filter file {path}: expected a table of wavelength and response: {error}") from error
    counts_energy = parameters.get("DetectorType") == "0"
    return wave_aa, response / wave_aa if counts_energy else response


def _read_table(path: Path):
    """The table of a file, and the parameters by name that a VOTable has."""
    from astropy.io import votable
    from astropy.table import Table

    if path.suffix.lower() == ".ecsv":
        return Table.read(path, format="ascii.ecsv"), {}
    found = votable.parse_single_table(path, verify="ignore")
    return found.to_table(), {parameter.name: str(parameter.value).strip() for parameter in found.params}

"""Star-formation and metallicity histories as mixtures of tabulated bases, in lookback time.

SFH(t) = sum_i beta_i s_i(t), cut at the age of the universe and scaled to unit formed mass;
Z(t) = sum_k gamma_k z_k(t). Both are linear between the tabulated times (PROVABGS; Hahn et al. 2022).

Time bins of the composite population, and what they average of an SSP grid.

Bins follow the published PROVABGS code: edges 0 and 10^(6.05 + 0.1 k) yr of lookback time (0.1 is a setting), the last
bin cut at the age of the universe. In each bin stars have the bin's mass, the metallicity at its midpoint, and the
light either of the SSP averaged over the bin ("average") or of the SSP at its midpoint ("midpoint", as published).
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from popcat.errors import PopcatError
from popcat.files import package_folder
from popcat.galaxy_model import OF_BASES, GalaxyModel
from popcat.paths import local

_FILE = "NMF_2basis_{kind}_components_nowgt_lin_Nc{n}.txt"
_TIMES = "sfh_t_int.txt"
# The released code takes its four star-formation bases in this order; any other number keeps that of its file.
_PUBLISHED_ORDER = [2, 0, 1, 3]
_T_MAX_GYR = 14.5
_FRACTIONAL = "bases_fractional.csv"
_MOST_BASES = 16


@dataclass(frozen=True)
class Bases:
    """Bases of star-formation and metallicity histories.

    Attributes
    ----------
    lookback_gyr : (n_t,) ascending from 0
    sfh : (n_sfh, n_t) star-formation rate, arbitrary common unit, >= 0
    zh : (n_zh, n_t) metallicity history
    """

    name: str
    lookback_gyr: np.ndarray
    sfh: np.ndarray
    zh: np.ndarray

    def cumulative_sfh(self, lookback_gyr) -> np.ndarray:
        """int_0^t s_i dt, exactly: (n_sfh, ...) for lookback times of any shape, 0 <= t <= the last tabulated one."""
        t = np.asarray(lookback_gyr, dtype=float)
        nodes = self.lookback_gyr
        step = np.diff(nodes)
        formed = np.cumsum(0.5 * step * (self.sfh[:, 1:] + self.sfh[:, :-1]), axis=1)
        total = np.concatenate([np.zeros((len(self.sfh), 1)), formed], axis=1)
        left = np.clip(np.searchsorted(nodes, t, side="right") - 1, 0, len(nodes) - 2)
        x = t - nodes[left]
        slope = np.diff(self.sfh, axis=1)[:, left] / step[left]
        return total[:, left] + self.sfh[:, left] * x + 0.5 * slope * x**2

    def metallicity(self, gamma, lookback_gyr) -> np.ndarray:
        """sum_k gamma_k z_k(t) for gamma (n_zh,): the absolute metallicity of stars formed then, not yet clipped."""
        t = np.asarray(lookback_gyr, dtype=float)
        return sum(g * np.interp(t, self.lookback_gyr, z) for g, z in zip(gamma, self.zh, strict=True))


def first_line(bases: Bases) -> np.ndarray:
    """Value and slope of the star-formation bases at t = 0: (2, n_sfh)."""
    step = bases.lookback_gyr[1] - bases.lookback_gyr[0]
    return np.stack([bases.sfh[:, 0], (bases.sfh[:, 1] - bases.sfh[:, 0]) / step])


def straight_bins(bases: Bases, edges_gyr: np.ndarray) -> int:
    """How many of the first time bins lie where all bases are the straight lines that they are at t = 0.

    None is older than 1 Gyr. In a universe that is younger than these bins they are not merged.
    """
    width, middle = np.diff(edges_gyr), 0.5 * (edges_gyr[1:] + edges_gyr[:-1])
    value, slope = first_line(bases)
    straight = width * (value[:, None] + slope[:, None] * middle)
    formed = np.diff(bases.cumulative_sfh(edges_gyr), axis=1)
    same = np.all(np.abs(straight - formed) <= 1e-5 * formed.max(axis=0), axis=0)
    same &= (middle <= bases.lookback_gyr[1]) & (edges_gyr[1:] <= 1.0)
    return int(np.argmin(np.append(same, False)))


@lru_cache(maxsize=8)
def load_bases(name: str = "popcat", *, fractional: bool = False) -> Bases:
    """Bases by name: "popcat" (embedded), "provabgs" (an installed provabgs package), a folder of files named as the
    published ones, or a CSV file of popcat's own layout.

    The folder holds sfh_t_int.txt, NMF_2basis_SFH_components_nowgt_lin_Nc{n}.txt of n rows and its like with Z for
    SFH, each for one number n. The CSV file has the columns lookback_gyr, sfh1 to sfh{n}, zh1 to zh{m}, and may begin
    with lines of comment (#). With `fractional`, times are fractions of the age of the universe, from 0 to 1; "popcat"
    are bases of that kind then, and only CSV files hold others.

    Raises PopcatError if they cannot be found or read.

    >>> load_bases("popcat").sfh.shape[0]
    4
    """
    if name == "popcat":
        return _from_csv(name, files("popcat") / "data" / (_FRACTIONAL if fractional else "bases.csv"), fractional)
    path = local(name)
    if fractional and not path.is_file():
        raise PopcatError(f'bases "{name}": history "fractional" needs a CSV file whose lookback_gyr is a fraction of '
                          'the age of the universe, or "popcat": set bases')
    if name == "provabgs":
        return _published(name, _provabgs_folder())
    return _from_csv(name, path, fractional) if path.is_file() else _published(name, path)


def model_bases(settings: GalaxyModel) -> Bases:
    """The bases that the model settings name; with constant metallicity, one basis of it that is 1 at all times.

    Those of a history that is not made of them are of metallicity alone.
    """
    bases = load_bases(settings.bases, fractional=settings.history == "fractional")
    if settings.history not in OF_BASES:
        bases = replace(bases, sfh=np.zeros((len(settings.history_parameters), len(bases.lookback_gyr))))
    for kind, found, wanted in (("sfh", len(bases.sfh), len(settings.history_parameters)),
                                ("metallicity", len(bases.zh), settings.n_metallicity_bases)):  # fmt: skip
        if found != wanted:
            raise PopcatError(f'bases "{settings.bases}" hold {found} {kind} bases, but the galaxy model says '
                              f"{wanted}: set n_{kind}_bases = {found}")
    if settings.metallicity == "constant":
        return replace(bases, zh=np.ones((1, len(bases.lookback_gyr))))
    return bases


def _from_csv(name: str, path, fractional: bool = False) -> Bases:
    try:
        rows = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
        header = [column.strip() for column in rows[0].split(",")]
        table = np.array([[float(x) for x in row.split(",")] for row in rows[1:]]).T
    except (OSError, ValueError, IndexError) as error:
        raise PopcatError(f"bases {path}: expected a CSV file of numbers below a line of names: {error}") from error
    n_sfh, n_zh = (sum(column.startswith(kind) for column in header) for kind in ("sfh", "zh"))
    expected = ["lookback_gyr", *(f"sfh{k + 1}" for k in range(n_sfh)), *(f"zh{k + 1}" for k in range(n_zh))]
    if header != expected or min(n_sfh, n_zh) < 1 or table.shape[:1] != (len(header),):
        raise PopcatError(f"bases {path}: expected the columns lookback_gyr, sfh1 ... and zh1 ..., in this order, got "
                          f"{', '.join(header)}")
    end = 1.0 if fractional else _T_MAX_GYR
    return _extended(f"{path}", name, table[0], table[1 : 1 + n_sfh], table[1 + n_sfh :], end)


def _published(name: str, folder: Path) -> Bases:
    """The files as the published code uses them: reversed in time, four SFH rows in the order 2, 0, 1, 3."""
    paths = [_only_one(name, folder, "SFH", 4), _only_one(name, folder, "Z", 2), folder / _TIMES]
    if not paths[2].is_file():
        raise PopcatError(f'bases "{name}": {folder} lacks {_TIMES}')
    try:
        sfh, zh, time = (np.loadtxt(path, ndmin=2) for path in paths)
    except ValueError as error:
        raise PopcatError(f"bases in {folder}: not the published tables: {error}") from error
    time = time.ravel()
    for path, table in zip(paths[:2], (sfh, zh), strict=True):
        n = int(path.stem.rpartition("_Nc")[2])
        if table.shape != (n, len(time)):
            raise PopcatError(f"bases {path}: expected {n} rows as long as the {len(time)} times of {_TIMES}, "
                              f"got {table.shape}")
    order = _PUBLISHED_ORDER if len(sfh) == 4 else range(len(sfh))
    return _extended(f"in {folder}", name, time[::-1], sfh[list(order), ::-1], zh[:, ::-1])


def _only_one(name: str, folder: Path, kind: str, published: int) -> Path:
    """The file of one kind of bases in a folder: the published number where it is there, else the only one."""
    pattern = re.compile(_FILE.format(kind=kind, n="[0-9]+"))
    found = sorted(path for path in folder.glob("*.txt") if pattern.fullmatch(path.name))
    preferred = [path for path in found if path.name == _FILE.format(kind=kind, n=published)]
    if len(preferred or found) == 1:
        return (preferred or found)[0]
    has = f"has {', '.join(path.name for path in found)}" if found else f"lacks {_FILE.format(kind=kind, n=published)}"
    raise PopcatError(f'bases "{name}": expected "popcat", "provabgs", a CSV file, or a folder with {_TIMES} and one '
                      f"{_FILE.format(kind='SFH', n='{n}')} and one with Z for SFH; {folder} {has}")


def _provabgs_folder() -> Path:
    missing = 'bases "provabgs" needs the provabgs package: install it, or name a folder with its files'
    return package_folder("provabgs", missing) / "dat"


def _extended(where, name, time, sfh, zh, end=_T_MAX_GYR) -> Bases:
    """Extrapolated linearly to t = 0 and the end of time, 14.5 Gyr, star formation no further than to zero."""
    _check(where, time, sfh, zh, end)

    def ends(row):
        low = row[0] - (row[1] - row[0]) / (time[1] - time[0]) * time[0]
        high = row[-1] + (row[-1] - row[-2]) / (time[-1] - time[-2]) * (end - time[-1])
        inner = row if time[0] > 0 else row[1:]
        return np.concatenate([[low], inner if time[-1] < end else inner[:-1], [high]])

    nodes = ends(time)
    nodes[[0, -1]] = 0.0, end
    return Bases(name, nodes, np.maximum([ends(r) for r in sfh], 0.0), np.array([ends(r) for r in zh]))


def _check(where, time, sfh, zh, end) -> None:
    """PopcatError for tables that are no bases."""
    unit, reaches = (" Gyr", time[-1] < end) if end == _T_MAX_GYR else (" of the age of the universe", time[-1] <= end)
    if not (len(time) > 1 and np.all(np.diff(time) > 0) and time[0] >= 0 and reaches):
        raise PopcatError(f"bases {where}: expected lookback times that ascend (in files named as the published ones, "
                          f"descend) between 0 and {end:g}{unit}, got {time[0]:g} to {time[-1]:g}")
    if max(len(sfh), len(zh)) > _MOST_BASES:
        raise PopcatError(f"bases {where}: expected at most {_MOST_BASES} of a kind, got {len(sfh)} and {len(zh)}")
    if not (np.all(np.isfinite(zh)) and np.all(sfh >= 0.0) and np.all(sfh.max(axis=1) > 0.0)):
        raise PopcatError(f"bases {where}: expected star-formation rates that are nowhere negative and somewhere "
                          "positive, and finite metallicities")


BINNINGS = ("average", "midpoint")
_FIRST_LOG_YR, _DEX = 6.05, 4
_END_GYR = 14.5


@dataclass(frozen=True)
class TimeBins:
    """Time bins for one galaxy model.

    Attributes
    ----------
    edges_gyr : (n_bin + 1,) lookback time, from 0 to beyond the age of the universe
    n_young : the first n_young bins are behind the birth clouds
    binning : "average" or "midpoint"
    """

    edges_gyr: np.ndarray
    n_young: int
    binning: str

    @property
    def mid_gyr(self) -> np.ndarray:
        return 0.5 * (self.edges_gyr[1:] + self.edges_gyr[:-1])


def time_bins(
    binning: str, birth_cloud_age_gyr: float, bins_per_dex: int = 10, breaks_gyr: tuple[float, ...] = ()
) -> TimeBins:
    """The bins of a model. With "average", birth_cloud_age_gyr becomes an edge; with "midpoint", a bin is young if
    its midpoint is. `breaks_gyr`, of the history, are edges too.

    >>> bins = time_bins("average", 0.1)
    >>> len(bins.mid_gyr), float(bins.edges_gyr[bins.n_young])
    (43, 0.1)
    """
    log_yr = _FIRST_LOG_YR + 1.0 / bins_per_dex * np.arange(_DEX * bins_per_dex + 1)
    edges = np.concatenate([[0.0], 10.0 ** (log_yr - 9.0), [_END_GYR]])
    if binning == "average" and birth_cloud_age_gyr > 0.0:
        edges = np.union1d(edges, [birth_cloud_age_gyr])
    edges = _with_edges(edges, breaks_gyr)
    age = edges[:-1] if binning == "average" else 0.5 * (edges[1:] + edges[:-1])
    return TimeBins(edges, int(np.sum(age < birth_cloud_age_gyr)), binning)


def _with_edges(edges, wanted) -> np.ndarray:
    """Edges and those wanted that are none of them, to rounding: a bin of no width has no light."""
    new = [one for one in wanted if not np.any(np.isclose(edges, one, rtol=1e-6, atol=0.0))]
    return np.union1d(edges, new) if new else edges


def row_weights(bins: TimeBins, age_gyr: np.ndarray, low, high) -> np.ndarray:
    """Weights w with L(bin) = sum_a w_a L(t_a) for bins [low, high]: shape (n, n_age), rows sum to one.

    L is linear in ln t between grid ages and constant younger than the first.
    """
    low, high = np.broadcast_arrays(np.asarray(low, dtype=float), np.asarray(high, dtype=float))
    if bins.binning == "midpoint":
        return point_weights(age_gyr, 0.5 * (low + high))
    width = high - low
    thin = np.abs(width) < 1e-9
    integral = _integral_weights(age_gyr, high) - _integral_weights(age_gyr, low)
    return np.where(thin[:, None], point_weights(age_gyr, low), integral / np.where(thin, 1.0, width)[:, None])


def point_weights(age_gyr: np.ndarray, t_gyr) -> np.ndarray:
    """Weights of linear interpolation in ln t: shape (n, n_age); constant outside the grid."""
    t = np.clip(np.atleast_1d(np.asarray(t_gyr, dtype=float)), age_gyr[0], age_gyr[-1])
    left = np.clip(np.searchsorted(age_gyr, t, side="right") - 1, 0, len(age_gyr) - 2)
    fraction = np.log(t / age_gyr[left]) / np.log(age_gyr[left + 1] / age_gyr[left])
    weights = np.zeros((len(t), len(age_gyr)))
    row = np.arange(len(t))
    weights[row, left] = 1.0 - fraction
    weights[row, left + 1] += fraction
    return weights


def _integral_weights(age_gyr: np.ndarray, t_gyr) -> np.ndarray:
    """Weights of int_0^t L dt: each segment of L = a + b ln t integrated in closed form."""
    t = np.atleast_1d(np.asarray(t_gyr, dtype=float))
    a, b = age_gyr[:-1], age_gyr[1:]
    upper = np.clip(t[:, None], a, b)
    span = upper - a
    # int_a^u ln(t / a) dt / ln(b / a)
    rising = (upper * np.log(upper / a) - span) / np.log(b / a)
    weights = np.zeros((len(t), len(age_gyr)))
    weights[:, :-1] += span - rising
    weights[:, 1:] += rising
    weights[:, 0] += np.minimum(t, age_gyr[0])
    weights[:, -1] += np.maximum(t - age_gyr[-1], 0.0)
    return weights

"""Star-formation and metallicity histories as mixtures of tabulated bases, in lookback time.

SFH(t) = sum_i beta_i s_i(t), cut at the age of the universe and scaled to unit formed mass;
Z(t) = sum_k gamma_k z_k(t). Both are linear between the tabulated times (PROVABGS; Hahn et al. 2022).
"""

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from popcat.errors import PopcatError

_PUBLISHED = (
    "NMF_2basis_SFH_components_nowgt_lin_Nc4.txt",
    "NMF_2basis_Z_components_nowgt_lin_Nc2.txt",
    "sfh_t_int.txt",
)
_PUBLISHED_ORDER = [2, 0, 1, 3]
_T_MAX_GYR = 14.5
N_SFH, N_ZH = 4, 2
"""Numbers of bases: the kernels are written for exactly these, as theta is."""


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

    None is older than 1 Gyr: the age of the universe cuts no such bin.
    """
    width, middle = np.diff(edges_gyr), 0.5 * (edges_gyr[1:] + edges_gyr[:-1])
    value, slope = first_line(bases)
    straight = width * (value[:, None] + slope[:, None] * middle)
    formed = np.diff(bases.cumulative_sfh(edges_gyr), axis=1)
    same = np.all(np.abs(straight - formed) <= 1e-5 * formed.max(axis=0), axis=0)
    same &= (middle <= bases.lookback_gyr[1]) & (edges_gyr[1:] <= 1.0)
    return int(np.argmin(np.append(same, False)))


@lru_cache(maxsize=8)
def load_bases(name: str = "popcat") -> Bases:
    """Bases by name: "popcat" (embedded), "provabgs" (an installed provabgs package), or a folder of published files.

    Raises PopcatError if they cannot be found or read.

    >>> load_bases("popcat").sfh.shape[0]
    4
    """
    if name == "popcat":
        return _embedded()
    return _published(name, _provabgs_folder() if name == "provabgs" else Path(name))


def _embedded() -> Bases:
    with (files("popcat") / "data" / "bases.csv").open(encoding="utf-8") as file:
        rows = [line for line in file if not line.startswith("#")]
    table = np.array([[float(x) for x in row.split(",")] for row in rows[1:]]).T
    return _extended("popcat", table[0], table[1:5], table[5:7])


def _published(name: str, folder: Path) -> Bases:
    """The files as the published code uses them: reversed in time, SFH rows in the order 2, 0, 1, 3."""
    missing = [file for file in _PUBLISHED if not (folder / file).is_file()]
    if missing:
        raise PopcatError(f'bases "{name}": expected "popcat", "provabgs" or a folder with {", ".join(_PUBLISHED)}; '
                          f"{folder} lacks {', '.join(missing)}")
    try:
        sfh, zh, time = (np.loadtxt(folder / file) for file in _PUBLISHED)
    except ValueError as error:
        raise PopcatError(f"bases in {folder}: not the published tables: {error}") from error
    n_time = time.size
    if sfh.shape != (N_SFH, n_time) or zh.shape != (N_ZH, n_time):
        raise PopcatError(f"bases in {folder}: expected {N_SFH} star-formation and {N_ZH} metallicity rows as "
                          f"long as the times, got {sfh.shape}, {zh.shape} and {time.shape}")
    if not np.all(np.diff(time) < 0) or time[-1] < 0 or time[0] >= _T_MAX_GYR:
        raise PopcatError(f"bases in {folder}: expected times descending between {_T_MAX_GYR:g} and 0 Gyr in "
                          f"{_PUBLISHED[2]}, got {time[0]:g} to {time[-1]:g}")
    return _extended(name, time[::-1], sfh[_PUBLISHED_ORDER, ::-1], zh[:, ::-1])


def _provabgs_folder() -> Path:
    spec = importlib.util.find_spec("provabgs")
    if spec is None or spec.origin is None:
        raise PopcatError('bases "provabgs" needs the provabgs package: install it, or name a folder with its files')
    return Path(spec.origin).parent / "dat"


def _extended(name, time, sfh, zh) -> Bases:
    """Extrapolated linearly to t = 0 and 14.5 Gyr, star formation no further than to zero."""
    def ends(row):
        low = row[0] - (row[1] - row[0]) / (time[1] - time[0]) * time[0]
        high = row[-1] + (row[-1] - row[-2]) / (time[-1] - time[-2]) * (_T_MAX_GYR - time[-1])
        inner = row if time[0] > 0 else row[1:]
        return np.concatenate([[low], inner, [high]])

    nodes = np.concatenate([[0.0], time if time[0] > 0 else time[1:], [_T_MAX_GYR]])
    return Bases(name, nodes, np.maximum([ends(r) for r in sfh], 0.0), np.array([ends(r) for r in zh]))

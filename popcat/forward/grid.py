"""Grids of simple stellar populations (SSPs): the one container that every engine fills and all physics reads.

Light of the gas that young stars ionise: lines and continuum, added to an SSP grid.

L'(Z, t) = L(Z, t) + N(Z, t) for t <= MAX_AGE_GYR, where N is what Cloudy gives for the same stars at one ionisation
parameter U (Byler et al. 2017; Carnall et al. 2018, section 3.1.2), and no starlight is left below the Lyman limit: the
gas has taken it. Older than that hardly an ionising photon is left. Without it H alpha is missing, which with its
neighbours is 2% of the i flux at z = 0.1 of a galaxy that forms 10^-10.5 of its mass a year.
"""

import hashlib
import json
import zipfile
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path

import numpy as np

from popcat.display import Displayed, listed
from popcat.errors import PopcatError, did_you_mean
from popcat.paths import local

_ARRAYS = ("log_age_yr", "log_z_abs", "wave_aa", "lum", "mstar")


@dataclass(frozen=True, repr=False)
class SSPGrid(Displayed):
    """Spectra and surviving mass of SSPs, per solar mass formed.

    Attributes
    ----------
    log_age_yr : (n_age,) log10 of the age in years, ascending
    log_z_abs : (n_Z,) log10 of the absolute metallicity, ascending
    wave_aa : (n_wave,) vacuum wavelength in Angstrom, ascending
    lum : (n_Z, n_age, n_wave) luminosity in Lsun / Angstrom / Msun formed
    mstar : (n_Z, n_age) surviving mass per Msun formed
    provenance : what made it: engine, source, IMF, whether mstar holds remnants, ...
    made_of : names the grid in place of its numbers, where these were computed from another's: machines differ in the
        last digits

    Between grid points L is linear in ln Z and in ln t; younger than the first age it is constant.
    """

    log_age_yr: np.ndarray
    log_z_abs: np.ndarray
    wave_aa: np.ndarray
    lum: np.ndarray
    mstar: np.ndarray
    provenance: dict = field(default_factory=dict)
    made_of: str = ""

    def __post_init__(self):
        n_z, n_age, n_wave = len(self.log_z_abs), len(self.log_age_yr), len(self.wave_aa)
        if self.lum.shape != (n_z, n_age, n_wave) or self.mstar.shape != (n_z, n_age):
            raise PopcatError(
                f"SSP grid: expected lum {(n_z, n_age, n_wave)} and mstar {(n_z, n_age)} (metallicity, age, "
                f"wavelength), got {self.lum.shape} and {self.mstar.shape}"
            )
        for name in ("log_age_yr", "log_z_abs", "wave_aa"):
            if not np.all(np.diff(getattr(self, name)) > 0):
                raise PopcatError(f"SSP grid: {name} must ascend strictly")

    def _facts(self) -> dict[str, object]:
        return {**_axes(self.z_abs, self.age_gyr, self.wave_aa, len(self.wave_aa)),
                "engine": self.provenance.get("engine", "unknown")}  # fmt: skip

    @property
    def age_gyr(self) -> np.ndarray:
        return 10.0 ** (self.log_age_yr - 9.0)

    @property
    def z_abs(self) -> np.ndarray:
        return 10.0**self.log_z_abs

    def content_hash(self) -> str:
        """SHA-256 of the numbers, or of `made_of`: names the grid in caches and artifacts."""
        digest = hashlib.sha256(self.made_of.encode())
        if self.made_of:
            return digest.hexdigest()
        for name in _ARRAYS:
            array = np.ascontiguousarray(getattr(self, name))
            digest.update(f"{name}{array.dtype.str}{array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()


def save_grid(grid: SSPGrid, path: Path) -> None:
    """Write a grid as one .npz file: float32 spectra, float64 axes, provenance as JSON."""
    arrays = {name: getattr(grid, name) for name in _ARRAYS}
    arrays["lum"] = grid.lum.astype(np.float32)
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays, provenance=np.array(json.dumps(grid.provenance)))


def embedded_grids() -> list[str]:
    """Names of the grids that popcat carries."""
    names = (item.name for item in (files("popcat") / "data").iterdir())
    return sorted(n.removeprefix("ssp_").removesuffix(".npz") for n in names if n.startswith("ssp_"))


def load_grid(name: "str | Path") -> SSPGrid:
    """A grid by the name of an embedded one or by the path of a file that `popcat ssp build` wrote.

    Raises PopcatError if there is no such grid or the file holds none.

    >>> load_grid("bc03_miles").lum.shape[0]
    7
    """
    is_embedded = str(name) in embedded_grids()
    path = Path(str(files("popcat") / "data" / f"ssp_{name}.npz")) if is_embedded else local(name)
    if not path.is_file():
        raise PopcatError(
            f'no SSP grid "{name}": expected a file written by `popcat ssp build` or an embedded name; '
            f"{did_you_mean(str(name), embedded_grids())}"
        )
    return _read(path)


@dataclass(frozen=True, repr=False)
class SSPDescription(Displayed):
    """What an SSP grid holds: its axes (absolute metallicity, age in Gyr, Angstrom), what made it, its hash."""

    grid: str
    z_abs: tuple[float, ...]
    age_gyr: tuple[float, ...]
    n_wave: int
    wave_aa: tuple[float, float]
    provenance: dict
    hash: str

    def _title(self) -> str:
        return f"SSP grid {self.grid}"

    def _facts(self) -> dict[str, object]:
        return {**_axes(self.z_abs, self.age_gyr, self.wave_aa, self.n_wave), **self.provenance, "hash": self.hash}


def _axes(z_abs, age_gyr, wave_aa, n_wave: int) -> dict[str, object]:
    """The three axes of a grid in words."""
    return {
        "metallicity": f"{listed([f'{z:.2g}' for z in z_abs], 12)} (absolute)",
        "age": f"{len(age_gyr)}, {age_gyr[0]:.2g} to {age_gyr[-1]:.3g} Gyr",
        "wavelength": f"{n_wave}, {wave_aa[0]:.3g} to {wave_aa[-1]:.3g} A",
    }


def describe_ssp(grid: "str | Path" = "bc03_miles") -> SSPDescription:
    """What an SSP grid holds: the name of an embedded one, or a file that `build_ssp` wrote.

    Raises PopcatError if there is no such grid.

    >>> describe_ssp("bc03_miles").provenance["imf"]
    'Kroupa'
    """
    found = load_grid(grid)
    return SSPDescription(
        str(grid), tuple(found.z_abs.tolist()), tuple(found.age_gyr.tolist()), len(found.wave_aa),
        (float(found.wave_aa[0]), float(found.wave_aa[-1])), found.provenance, found.content_hash(),
    )  # fmt: skip


def _read(path: Path) -> SSPGrid:
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            if "base" in file:
                return _with_emission(file)
            arrays = {name: file[name] for name in _ARRAYS}
            provenance = json.loads(str(file["provenance"]))
    except (OSError, EOFError, TypeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise PopcatError(f"{path} is not an SSP grid written by `popcat ssp build`: {error}") from error
    return SSPGrid(**arrays, provenance=provenance)


def _with_emission(file) -> SSPGrid:
    """An embedded grid whose file holds another's name and the nebular emission to be added to it."""
    names = ("log_age_yr", "log_z_abs", "wave_aa", "lum")
    return with_nebular(load_grid(str(file["base"])), Nebular(float(file["log_u"]), *(file[name] for name in names)))


MAX_AGE_GYR = 0.01
LYMAN_LIMIT_AA = 911.8
_ROUND = 1.0 + 1e-6


@dataclass(frozen=True)
class Nebular:
    """Nebular emission of SSPs, per solar mass formed.

    log_u : log10 of the ionisation parameter. log_age_yr : (n_age,), ascending; younger than the first it is constant,
    between two linear in ln t. log_z_abs : (n_Z,). wave_aa : (n_wave,), vacuum. lum : (n_Z, n_age, n_wave) in
    Lsun / Angstrom / Msun.
    """

    log_u: float
    log_age_yr: np.ndarray
    log_z_abs: np.ndarray
    wave_aa: np.ndarray
    lum: np.ndarray


def ionises(age_gyr: np.ndarray) -> np.ndarray:
    """Whether stars of an age in Gyr, of any shape, have gas that shines.

    >>> ionises(np.array([0.001, 0.01, 0.011])).tolist()
    [True, True, False]
    """
    return age_gyr <= MAX_AGE_GYR * _ROUND


def with_nebular(grid: SSPGrid, nebular: Nebular) -> SSPGrid:
    """The grid with nebular emission, which its provenance tells by `nebular_log_u`.

    Raises PopcatError if the two are not on the same metallicities and wavelengths.
    """
    _check_axes(grid, nebular)
    young = np.flatnonzero(ionises(grid.age_gyr))
    at = np.interp(grid.log_age_yr[young], nebular.log_age_yr, np.arange(len(nebular.log_age_yr)))
    left = np.minimum(at.astype(int), len(nebular.log_age_yr) - 2)
    part = (at - left)[None, :, None]
    lum = np.array(grid.lum, dtype=float)
    lum[:, young] *= grid.wave_aa >= LYMAN_LIMIT_AA
    lum[:, young] += (1.0 - part) * nebular.lum[:, left] + part * nebular.lum[:, left + 1]
    return replace(grid, lum=lum, provenance={**grid.provenance, "nebular_log_u": nebular.log_u})


def _check_axes(grid: SSPGrid, nebular: Nebular) -> None:
    for name, rtol, atol in (("log_z_abs", 1e-5, 1e-3), ("wave_aa", 1e-6, 1e-8)):
        stars, gas = getattr(grid, name), getattr(nebular, name)
        if len(stars) != len(gas) or not np.allclose(stars, gas, rtol=rtol, atol=atol):
            raise PopcatError(f"nebular emission for another grid: expected its {name} to be that of the stars, "
                              f"{_span(stars)}, got {_span(gas)}")  # fmt: skip


def _span(axis: np.ndarray) -> str:
    return f"{len(axis)} values from {axis[0]:g} to {axis[-1]:g}"


def lines_on(wave_aa: np.ndarray, line_aa: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Light (..., n_wave) of lines of strength (..., n_line) at line_aa: each shared by the wavelengths beside it.

    Lines outside, and in the first and the last interval, are left out.

    >>> wave = np.array([0.0, 1.0, 2.0, 3.0])
    >>> lines_on(wave, np.array([1.25]), np.array([4.0])).tolist()
    [0.0, 3.0, 1.0, 0.0]
    """
    width, lum = np.gradient(wave_aa), np.zeros((*strength.shape[:-1], len(wave_aa)))
    for line in np.flatnonzero((line_aa > wave_aa[1]) & (line_aa < wave_aa[-2])):
        i = int(np.searchsorted(wave_aa, line_aa[line])) - 1
        right = (line_aa[line] - wave_aa[i]) / (wave_aa[i + 1] - wave_aa[i])
        lum[..., i] += strength[..., line] * (1.0 - right) / width[i]
        lum[..., i + 1] += strength[..., line] * right / width[i + 1]
    return lum


def linear_weights(nodes: np.ndarray, at) -> np.ndarray:
    """Weight of each node (n,) in linear interpolation at points of any shape, clipped to the nodes: (..., n).

    >>> linear_weights(np.array([0.0, 1.0, 3.0]), [1.5, 9.0]).tolist()
    [[0.0, 0.75, 0.25], [0.0, 0.0, 1.0]]
    """
    x = np.interp(at, nodes, np.arange(len(nodes)))
    return np.maximum(1.0 - np.abs(np.asarray(x)[..., None] - np.arange(len(nodes))), 0.0)

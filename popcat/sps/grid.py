"""Grids of simple stellar populations (SSPs): the one container that every engine fills and all physics reads."""

import hashlib
import json
import zipfile
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import numpy as np

from popcat.errors import PopcatError, did_you_mean
from popcat.sps.nebular import Nebular, with_nebular

_ARRAYS = ("log_age_yr", "log_z_abs", "wave_aa", "lum", "mstar")


@dataclass(frozen=True)
class SSPGrid:
    """Spectra and surviving mass of SSPs, per solar mass formed.

    Attributes
    ----------
    log_age_yr : (n_age,) log10 of the age in years, ascending
    log_z_abs : (n_Z,) log10 of the absolute metallicity, ascending
    wave_aa : (n_wave,) vacuum wavelength in Angstrom, ascending
    lum : (n_Z, n_age, n_wave) luminosity in Lsun / Angstrom / Msun formed
    mstar : (n_Z, n_age) surviving mass per Msun formed
    provenance : what made it: engine, source, IMF, whether mstar holds remnants, ...

    Between grid points L is linear in ln Z and in ln t; younger than the first age it is constant.
    """

    log_age_yr: np.ndarray
    log_z_abs: np.ndarray
    wave_aa: np.ndarray
    lum: np.ndarray
    mstar: np.ndarray
    provenance: dict = field(default_factory=dict)

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

    @property
    def age_gyr(self) -> np.ndarray:
        return 10.0 ** (self.log_age_yr - 9.0)

    @property
    def z_abs(self) -> np.ndarray:
        return 10.0**self.log_z_abs

    def content_hash(self) -> str:
        """SHA-256 of the numbers: names the grid in caches and artifacts."""
        digest = hashlib.sha256()
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
    path = Path(str(files("popcat") / "data" / f"ssp_{name}.npz")) if is_embedded else Path(name)
    if not path.is_file():
        raise PopcatError(
            f'no SSP grid "{name}": expected a file written by `popcat ssp build` or an embedded name; '
            f"{did_you_mean(str(name), embedded_grids())}"
        )
    return _read(path)


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

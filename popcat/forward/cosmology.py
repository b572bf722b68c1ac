"""Distances and ages from astropy, tabulated once so that kernels can look them up.

The table is kept in the cache folder: astropy takes seconds to import and to integrate 8,000 times.
"""

import hashlib
import importlib.metadata
import io
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from popcat.errors import PopcatError, did_you_mean
from popcat.files import cache_folder, write_bytes_atomic

_N_NODES = 4097


@dataclass(frozen=True)
class CosmologyTable:
    """Age and luminosity distance at nodes uniform in ln(1 + z), from z = 0.

    age_gyr, dist_mpc : (n,). Between nodes, age and d_L / ln(1 + z) are linear: good to 1e-6 down to z = 0.
    """

    name: str
    ln1pz_max: float
    age_gyr: np.ndarray
    dist_mpc: np.ndarray

    @property
    def dist_ratio_mpc(self) -> np.ndarray:
        """d_L / ln(1 + z) at the nodes: smooth where d_L itself goes to zero; its limit is c / H0."""
        ratio = np.zeros(len(self.dist_mpc))
        ratio[1:] = self.dist_mpc[1:] / np.linspace(0.0, self.ln1pz_max, len(ratio))[1:]
        ratio[0] = 3.0 * (ratio[1] - ratio[2]) + ratio[3]
        return ratio

    def age(self, redshift) -> np.ndarray:
        """Age of the universe at a redshift, in Gyr."""
        return self._lookup(redshift, self.age_gyr)

    def luminosity_distance(self, redshift) -> np.ndarray:
        """Luminosity distance in Mpc."""
        return np.log1p(np.asarray(redshift, dtype=float)) * self._lookup(redshift, self.dist_ratio_mpc)

    def distance_modulus(self, redshift) -> np.ndarray:
        """5 log10(d_L / 10 pc)."""
        return 5.0 * np.log10(self.luminosity_distance(redshift)) + 25.0

    def _lookup(self, redshift, column):
        x = np.log1p(np.asarray(redshift, dtype=float))
        if np.any((x < 0.0) | (x > self.ln1pz_max * (1.0 + 1e-12))):
            raise PopcatError(f"expected redshifts from 0 to {np.expm1(self.ln1pz_max):g}, got {np.min(redshift):g} "
                              f"to {np.max(redshift):g}")
        return np.interp(x, np.linspace(0.0, self.ln1pz_max, len(column)), column)


@lru_cache(maxsize=8)
def cosmology_table(name: str = "Planck13", z_max: float = 2.0) -> CosmologyTable:
    """The table of a named astropy cosmology; PopcatError if astropy has none of that name.

    >>> round(float(cosmology_table().age(0.0)), 1)
    13.8
    """
    ln1pz_max = float(np.log1p(z_max))
    path = _path(name, z_max)
    table = _read(path)
    if table is None:
        table = _compute(name, np.expm1(np.linspace(0.0, ln1pz_max, _N_NODES)))
        _keep(table, path)
    return CosmologyTable(name, ln1pz_max, *table)


def _compute(name: str, z: np.ndarray) -> np.ndarray:
    """Age in Gyr and luminosity distance in Mpc at redshifts from 0, (2, n)."""
    import astropy.cosmology

    if name not in astropy.cosmology.available:
        raise PopcatError(f'unknown cosmology "{name}": {did_you_mean(name, astropy.cosmology.available)}')
    cosmo = getattr(astropy.cosmology, name)
    return np.stack([cosmo.age(z).value, np.append(0.0, cosmo.luminosity_distance(z[1:]).value)])


def _path(name: str, z_max: float) -> Path:
    """A file for each table; astropy may change a cosmology from one version to the next."""
    key = f"{name}, {z_max!r}, {_N_NODES}, astropy {importlib.metadata.version('astropy')}"
    return cache_folder() / f"cosmology-{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"


def _read(path: Path) -> np.ndarray | None:
    """A table that was kept; None where there is none, or a damaged one."""
    with suppress(OSError, ValueError, EOFError):
        table = np.load(path, allow_pickle=False)
        if table.shape == (2, _N_NODES) and np.isfinite(table).all():
            return table
    return None


def _keep(table: np.ndarray, path: Path) -> None:
    """A folder that cannot be written costs seconds, not the run: band tables, which cost minutes, say so."""
    content = io.BytesIO()
    np.save(content, table)
    with suppress(PopcatError, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(path, content.getvalue())

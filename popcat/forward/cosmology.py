"""Distances and ages from astropy, tabulated once so that kernels can look them up.

The table is kept in the cache folder: astropy takes seconds to import and to integrate 33,000 times.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version

import numpy as np

from popcat.errors import PopcatError, did_you_mean
from popcat.files import kept_array

_STEP_LN1PZ = float(np.log1p(2.0)) / 4096
_N_NODES = 4 * 4096 + 1
"""Steps of the table: to z = 80. A power of two keeps positions in it, and so all below z = 2, to the last bit."""
_N_NEAR = 4097
"""Nodes to z = 2: where the table ended once, of which trained posteriors hold a hash."""


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

    def arrays_to(self, z_max: float) -> tuple[np.ndarray, np.ndarray]:
        """Ages and distances that a survey to z_max depends on: up to z = 2, or else all of them."""
        n = _N_NEAR if np.log1p(z_max) <= (_N_NEAR - 1) * _STEP_LN1PZ * (1.0 + 1e-12) else len(self.age_gyr)
        return self.age_gyr[:n], self.dist_mpc[:n]

    def _lookup(self, redshift, column):
        x = np.log1p(np.asarray(redshift, dtype=float))
        if np.any((x < 0.0) | (x > self.ln1pz_max * (1.0 + 1e-12))):
            raise PopcatError(f"expected redshifts from 0 to {np.expm1(self.ln1pz_max):g}, got {np.min(redshift):g} "
                              f"to {np.max(redshift):g}")
        return np.interp(x, np.linspace(0.0, self.ln1pz_max, len(column)), column)


@lru_cache(maxsize=8)
def cosmology_table(name: str = "Planck13") -> CosmologyTable:
    """The table of a named astropy cosmology; PopcatError if astropy has none of that name.

    >>> round(float(cosmology_table().age(0.0)), 1)
    13.8
    """
    ln1pz = _STEP_LN1PZ * np.arange(_N_NODES)
    z = np.expm1(ln1pz)
    key = f"cosmology {name}, {z[-1]!r}, {_N_NODES}, astropy {version('astropy')}"  # a version may change its values
    return CosmologyTable(name, float(ln1pz[-1]), *kept_array(key, lambda: _compute(name, z)))


def _compute(name: str, z: np.ndarray) -> np.ndarray:
    """Age in Gyr and luminosity distance in Mpc at redshifts from 0, (2, n)."""
    import astropy.cosmology

    if name not in astropy.cosmology.available:
        raise PopcatError(f'unknown cosmology "{name}": {did_you_mean(name, astropy.cosmology.available)}')
    cosmo = getattr(astropy.cosmology, name)
    return np.stack([cosmo.age(z).value, np.append(0.0, cosmo.luminosity_distance(z[1:]).value)])

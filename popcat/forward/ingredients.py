"""The galaxy model's fixed parts, read once: SSP grid, bases, time bins, cosmology as a table; and the curves of dust.

Distances and ages come from astropy, tabulated once so that kernels can look them up.

Dust attenuation: birth clouds and the diffuse medium (Kriek & Conroy 2013 as FSPS has it, dust_type=4). Light is
multiplied by exp(-tau(w)). The diffuse curve of FSPS steps by 0.006 at 6300 A, where the two branches of Calzetti et
al. (2000) meet: 2% in light at tau = 3. Here it is written as a smooth curve plus that step, `calzetti_step`, which is
nonzero between 6300 A and the wavelength where the branches cross: quadrature over a band can treat each by itself.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from popcat.errors import PopcatError, did_you_mean
from popcat.forward.grid import SSPGrid, load_grid
from popcat.forward.histories import Bases, TimeBins, model_bases, time_bins
from popcat.galaxy_model import GalaxyModel

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
    import astropy.cosmology

    if name not in astropy.cosmology.available:
        raise PopcatError(f'unknown cosmology "{name}": {did_you_mean(name, astropy.cosmology.available)}')
    cosmo = getattr(astropy.cosmology, name)
    ln1pz = np.linspace(0.0, np.log1p(z_max), _N_NODES)
    z = np.expm1(ln1pz)
    dist = np.zeros(_N_NODES)
    dist[1:] = cosmo.luminosity_distance(z[1:]).value
    return CosmologyTable(name, float(ln1pz[-1]), cosmo.age(z).value, dist)


@dataclass(frozen=True)
class Ingredients:
    """What the physics needs besides theta and redshift."""

    grid: SSPGrid
    bases: Bases
    bins: TimeBins
    cosmology: CosmologyTable
    birth_cloud_age_gyr: float

    @property
    def n_theta(self) -> int:
        """Number of parameters: theta's columns."""
        return len(self.bases.sfh) + len(self.bases.zh) + 6


def load_ingredients(settings: GalaxyModel) -> Ingredients:
    """Load every part that the settings name; PopcatError says which is missing or does not fit."""
    bases, cosmology = model_bases(settings), cosmology_table(settings.cosmology)
    youngest = float(cosmology.age_gyr[-1])
    if not np.all(bases.cumulative_sfh(youngest) > 0.0):
        raise PopcatError(f'bases "{bases.name}": expected some star formation in each within the last {youngest:.1f} '
                          "Gyr: a history is cut at the age of the universe and scaled to the mass that it formed")
    return Ingredients(
        grid=load_grid(settings.grid),
        bases=bases,
        bins=time_bins(settings.binning, settings.birth_cloud_age_gyr),
        cosmology=cosmology,
        birth_cloud_age_gyr=settings.birth_cloud_age_gyr,
    )


STEP_LOW_AA = 6300.0
BUMP_CENTRE_AA = 2175.0
BUMP_WIDTH_AA = 350.0
R_V = 4.05
NORM = 0.44 * R_V


def _branch_short(x):
    return 1.17 * (-2.156 + 1.509 * x - 0.198 * x**2 + 0.011 * x**3) + 1.78


def _branch_long(x):
    return 1.17 * (-1.857 + 1.04 * x) + 1.78


def _crossing_aa() -> float:
    """Wavelength above 6300 A at which the two branches cross."""
    roots = np.roots([0.011, -0.198, 1.509 - 1.04, -2.156 + 1.857])
    waves = 1e4 / roots[np.isreal(roots)].real
    return float(waves[waves > STEP_LOW_AA].min())


STEP_HIGH_AA = _crossing_aa()
"""The branches cross here: 7226.55 A."""


def calzetti(wave_aa):
    """Calzetti et al. (2000) curve of FSPS, in units of the optical depth near 5500 A, floored at zero."""
    x = 1e4 / np.asarray(wave_aa, dtype=float)
    k = np.where(x >= 1e4 / STEP_LOW_AA, _branch_short(x), _branch_long(x))
    return np.maximum(k / NORM, 0.0)


def calzetti_smooth(wave_aa):
    """`calzetti` without its step: the short-wave branch goes on to where it meets the other."""
    x = 1e4 / np.asarray(wave_aa, dtype=float)
    k = np.where(x >= 1e4 / STEP_HIGH_AA, _branch_short(x), _branch_long(x))
    return np.maximum(k / NORM, 0.0)


def calzetti_step(wave_aa):
    """`calzetti` - `calzetti_smooth`."""
    return calzetti(wave_aa) - calzetti_smooth(wave_aa)


def bump(wave_aa):
    """Drude profile of the 2175 A bump for unit strength, divided by R_V = 4.05."""
    w = np.asarray(wave_aa, dtype=float)
    width = (BUMP_WIDTH_AA * w) ** 2
    return width / ((w**2 - BUMP_CENTRE_AA**2) ** 2 + width) / R_V


def bump_strength(n_dust):
    """E_b = 0.85 - 1.9 n (Kriek & Conroy 2013, eq. 3)."""
    return 0.85 - 1.9 * np.asarray(n_dust, dtype=float)


def diffuse_curve(wave_aa, n_dust):
    """tau(w) / tau_ism of the diffuse dust: (k(w) + E_b D(w)) (w / 5500 A)^n.

    >>> round(float(diffuse_curve(5500.0, 0.0)), 4)
    0.9995
    """
    tilt = (np.asarray(wave_aa, dtype=float) / 5500.0) ** n_dust
    return (calzetti(wave_aa) + bump_strength(n_dust) * bump(wave_aa)) * tilt


def birth_cloud_curve(wave_aa):
    """tau(w) / tau_bc of the birth clouds: (w / 5500 A)^-1."""
    return 5500.0 / np.asarray(wave_aa, dtype=float)

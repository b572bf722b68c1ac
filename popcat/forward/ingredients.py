"""The galaxy model's fixed parts, read once: SSP grid, bases, time bins, cosmology."""

from dataclasses import dataclass, field

import numpy as np

from popcat.errors import PopcatError
from popcat.forward.components import Components
from popcat.forward.cosmology import CosmologyTable, cosmology_table
from popcat.forward.gas import check_stars, load_gas
from popcat.forward.grid import SSPGrid, load_grid
from popcat.forward.histories import Bases, TimeBins, model_bases, straight_bins, time_bins
from popcat.forward.igm import jumps_aa, mean_transmission, transmission
from popcat.forward.metallicities import with_metallicities
from popcat.forward.remnants import added_remnants
from popcat.forward.sfh import Fractional, History, Lookback, make_history
from popcat.galaxy_model import GalaxyModel


@dataclass(frozen=True)
class Ingredients:
    """What the physics needs besides theta and redshift."""

    grid: SSPGrid
    bases: Bases
    bins: TimeBins
    cosmology: CosmologyTable
    birth_cloud_age_gyr: float
    components: Components = field(default_factory=Components)
    igm: str = "inoue_2014"
    moving: History | None = None
    """The star-formation history where it is no mixture of `bases` in lookback time."""
    remnants: "np.ndarray | float" = 0.0
    """(n_Z, n_age) mass of remnants per Msun formed that the grid's surviving mass lacks."""

    @property
    def mstar(self) -> np.ndarray:
        """Surviving mass (n_Z, n_age) of the grid's SSPs per Msun formed, with what `remnants` adds."""
        return self.grid.mstar + self.remnants

    @property
    def history(self) -> History:
        """The star-formation history."""
        return Lookback(self.bases) if self.moving is None else self.moving

    @property
    def n_sfh(self) -> int:
        """Number of theta's columns of the star-formation history, which follow the mass."""
        return len(self.bases.sfh)

    @property
    def n_straight(self) -> int:
        """The first time bins in which all histories are straight lines, at every redshift."""
        return 0 if self.moving is not None else straight_bins(self.bases, self.bins.edges_gyr)

    def metallicity(self, gamma: np.ndarray, lookback_gyr: np.ndarray, t_age: float) -> np.ndarray:
        """Absolute metallicity of stars formed at lookback times of any shape, not yet clipped; gamma is (n_zh,)."""
        unit = t_age if isinstance(self.moving, Fractional) else 1.0
        return self.bases.metallicity(gamma, lookback_gyr / unit)

    @property
    def n_history(self) -> int:
        """Number of theta's columns before those of the components: mass, history, burst, metallicity."""
        return self.n_sfh + len(self.bases.zh) + 3

    @property
    def n_theta(self) -> int:
        """Number of parameters: theta's columns."""
        return self.n_history + len(self.components.names)

    def transmission(self, wave_obs_aa: np.ndarray, redshift: float) -> np.ndarray:
        """Fraction of a galaxy's light that reaches us through the intergalactic medium, (n_wave,)."""
        return np.ones(np.shape(wave_obs_aa)) if self.igm == "none" else transmission(wave_obs_aa, redshift)

    def mean_transmission(self, wave_obs_aa: np.ndarray, redshift: float) -> np.ndarray:
        """Its mean over bins of one width around wavelengths (n_wave,)."""
        return np.ones(np.shape(wave_obs_aa)) if self.igm == "none" else mean_transmission(wave_obs_aa, redshift)

    def jumps_aa(self, redshift: float) -> np.ndarray:
        """Observed wavelengths at which `transmission` jumps."""
        return np.empty(0) if self.igm == "none" else jumps_aa(redshift)

    def require_stars(self, z_max: float) -> None:
        """PopcatError if no basis has formed stars by the redshift z_max: no history could be scaled to its mass.

        A basis that alone has none there takes no part.
        """
        if self.moving is not None:  # which form stars in a universe of any age
            return
        youngest = float(self.cosmology.age(z_max))
        if not np.any(self.bases.cumulative_sfh(youngest) > 0.0):
            raise PopcatError(f'bases "{self.bases.name}": expected some star formation within the last '
                              f"{youngest:.2g} Gyr, the age of the universe at redshift {z_max:g}: a history is cut "
                              "there and scaled to the mass that it formed")


def load_ingredients(settings: GalaxyModel) -> Ingredients:
    """Load every part that the settings name; PopcatError says which is missing or does not fit."""
    grid, components = load_grid(settings.grid), Components.of(settings)
    if components.gas == "cloudy":
        check_stars(grid, load_gas())
    grid = with_metallicities(grid, nodes=settings.metallicity_nodes, z_range=settings.metallicity_range)
    bases = model_bases(settings)
    history = make_history(settings, bases)
    clouds = settings.binning, settings.birth_cloud_age_gyr
    return Ingredients(
        grid=grid,
        bases=bases,
        bins=time_bins(*clouds, settings.bins_per_dex, history.breaks_gyr),
        cosmology=cosmology_table(settings.cosmology),
        birth_cloud_age_gyr=settings.birth_cloud_age_gyr,
        components=components,
        igm=settings.igm,
        moving=None if isinstance(history, Lookback) else history,
        remnants=added_remnants(grid, settings.remnants),
    )

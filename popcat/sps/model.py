"""The galaxy model's fixed parts, read once: SSP grid, bases, time bins, cosmology."""

from dataclasses import dataclass

from popcat.settings import Model
from popcat.sps.ages import TimeBins, time_bins
from popcat.sps.cosmology import CosmologyTable, cosmology_table
from popcat.sps.grid import SSPGrid, load_grid
from popcat.sps.histories import Bases, load_bases


@dataclass(frozen=True)
class GalaxyModel:
    """What the physics needs besides theta and redshift."""

    grid: SSPGrid
    bases: Bases
    bins: TimeBins
    cosmology: CosmologyTable
    birth_cloud_age_gyr: float


def build_model(settings: Model) -> GalaxyModel:
    """Load every part that the settings name; PopcatError says which is missing."""
    return GalaxyModel(
        grid=load_grid(settings.grid),
        bases=load_bases(settings.bases),
        bins=time_bins(settings.binning, settings.birth_cloud_age_gyr),
        cosmology=cosmology_table(settings.cosmology),
        birth_cloud_age_gyr=settings.birth_cloud_age_gyr,
    )

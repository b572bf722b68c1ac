"""The galaxy model's settings. Its prior is made of them in popcat.prior."""

from typing import Literal

import pydantic

from popcat.display import Displayed
from popcat.distributions import AnyFamily
from popcat.settings import Settings, ascending


class GalaxyModel(Displayed, Settings):
    """The galaxy model: stellar populations, bases, discretisation, dust, cosmology, prior ranges."""

    grid: str = "bc03_miles"
    """Name of an embedded SSP grid, "bc03_miles" or with nebular emission "bc03_miles_nebular", or the path of one that
    `popcat ssp build` wrote."""
    bases: str = "popcat"
    """"popcat" (embedded), "provabgs" (from an installed provabgs), a CSV file of any number of bases, or a folder of
    files named as the published ones."""
    n_sfh_bases: int = pydantic.Field(default=4, ge=1)
    """Number of star-formation-history bases that `bases` holds."""
    n_metallicity_bases: int = pydantic.Field(default=2, ge=1)
    """Number of metallicity-history bases that `bases` holds."""
    metallicity: Literal["evolving", "constant"] = "evolving"
    """A mixture of the metallicity bases, or one metallicity for all stars of a galaxy (the parameter log_z, as in
    PopSED): then the metallicity bases play no part."""
    binning: Literal["average", "midpoint"] = "average"
    """SSP averaged over each time bin, or at its midpoint as in the published PROVABGS code."""
    bins_per_dex: int = pydantic.Field(default=10, ge=5, le=100)
    """Time bins a factor of ten in lookback time, from 1 Myr on: 10 as in PROVABGS; more for bases with steep histories
    (benchmarks/time_bins.py says what that gains), at so much more table and time."""
    birth_cloud_age_gyr: float = pydantic.Field(default=0.1, ge=0.0)
    """Stars younger than this are behind tau_bc: 0.1 in the SEDflow paper, 0.01 in its released code."""
    cosmology: str = "Planck13"
    """Name of an astropy.cosmology realisation."""
    beta: Literal["flat", "provabgs_warped"] = "flat"
    """Prior of the SFH weights: the flat Dirichlet, or the warped one of the released SEDflow code."""
    log_mstar_formed: tuple[float, float] = (7.0, 12.5)
    """Range of log10 of the mass formed."""
    priors: dict[str, AnyFamily] = pydantic.Field(default_factory=dict)
    """Priors (popcat.distributions) by parameter, "beta" for all SFH weights, and "redshift". What is not named is
    uniform in its range, and the weights are as `beta` says."""

    @pydantic.model_validator(mode="after")
    def _consistent(self):
        ascending("log_mstar_formed", *self.log_mstar_formed)
        return self

    @pydantic.model_serializer(mode="wrap")
    def _without_later(self, handler):
        """As models were written before these could be set: they have the same hashes."""
        later = {name for name in ("priors", "bins_per_dex") if getattr(self, name) == type(self)._default(name)}
        return {key: one for key, one in handler(self).items() if key not in later}

    @classmethod
    def _default(cls, name: str):
        return cls.model_fields[name].get_default(call_default_factory=True)

    def _facts(self) -> dict[str, object]:
        found = {name: getattr(self, name) for name in type(self).model_fields if name != "priors"}
        return found | {f"prior of {name}": one.family for name, one in self.priors.items()}

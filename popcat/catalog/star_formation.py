"""Star formation in the past of the galaxies of a posterior catalogue, from the draws of their parameters.

Nothing of it is stored: catalogues of before have it too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from popcat.catalog.manifest import CatalogManifest
from popcat.columns import REDSHIFT, parameter_fields
from popcat.display import Displayed


@dataclass(frozen=True, repr=False)
class StarFormationDraws(Displayed):
    """Star formation in the past, one row a draw of a galaxy.

    Attributes
    ----------
    galaxies : (n,) rows with object_id, draw, redshift, t50_gyr and t90_gyr (age of the universe when 50% and 90% of
        the mass had formed), z_form (redshift at which 50% had)
    lookback_gyr : (n_bin + 1,) edges of bins of lookback time before the observed epoch
    sfr : (n, n_bin) mean star-formation rate in Msun / yr, the burst included; NaN before the Big Bang
    """

    galaxies: pd.DataFrame
    lookback_gyr: np.ndarray
    sfr: np.ndarray

    def _title(self) -> str:
        return f"Star formation of {self.galaxies['object_id'].nunique()} galaxies"

    def _facts(self) -> dict[str, object]:
        return {"draws": len(self.sfr), "bins": len(self.lookback_gyr) - 1,
                "lookback time": f"{self.lookback_gyr[0]:g} to {self.lookback_gyr[-1]:g} Gyr"}  # fmt: skip

    def to_pandas(self) -> pd.DataFrame:
        """A row for each bin of each draw: object_id, draw, lookback_low_gyr, lookback_high_gyr, sfr."""
        n = len(self.lookback_gyr) - 1
        frame = self.galaxies[["object_id", "draw"]]
        frame = frame.loc[frame.index.repeat(n)].reset_index(drop=True)
        low, high = (np.tile(edges, len(self.sfr)) for edges in (self.lookback_gyr[:-1], self.lookback_gyr[1:]))
        return frame.assign(lookback_low_gyr=low, lookback_high_gyr=high, sfr=self.sfr.ravel())


def star_formation_draws(
    path: str, made: CatalogManifest, draws: Callable[[list[str]], pd.DataFrame], lookback_gyr: Sequence[float] | None
) -> StarFormationDraws:
    """As `Catalog.sfh` has it, of the catalogue at a path; `draws` gives a frame of the quantities of these names."""
    from popcat.forward.ingredients import load_ingredients
    from popcat.forward.properties import forward_hashes, require_same
    from popcat.forward.star_formation import star_formation

    model = made.galaxy_model
    if isinstance(then := made.settings.get("forward"), dict):
        then = {part: then[part] for part in ("bases", "cosmology") if part in then}
        require_same(then, forward_hashes(made.survey, model), model, path)
    names = list(parameter_fields(model))
    frame = draws([*names, *REDSHIFT])
    theta, redshift = (frame[key].to_numpy(dtype=float) for key in (names, "redshift"))
    found = star_formation(theta, redshift, load_ingredients(model), lookback_gyr)
    times = {name: getattr(found, name) for name in ("t50_gyr", "t90_gyr", "z_form")}
    return StarFormationDraws(frame.drop(columns=names).assign(**times), found.lookback_gyr, found.sfr)

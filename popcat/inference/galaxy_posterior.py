"""What `popcat.fit_galaxy` gives: draws of one galaxy, as numbers, tables and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from popcat.columns import PERCENTILES, quantity_fields
from popcat.display import Displayed
from popcat.galaxy_model import GalaxyModel
from popcat.survey import Survey

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from popcat.catalog.galaxy_figures import Drawing

_MAIN = ("redshift", "log_mstar", "log_sfr_100myr", "log_ssfr", "age_mw_gyr", "log_z_mw", "a_v")


@dataclass(frozen=True, repr=False)
class GalaxyPosterior(Displayed):
    """The posterior of one galaxy: draws of every parameter and derived property, and how far to believe them.

    Attributes
    ----------
    draws : (n_draws,) of each quantity, by the names that catalogues have (popcat.schema)
    flux, flux_err : of each band, in nMgy, as fitted; NaN: not observed
    redshift, redshift_err : as given; NaN: none, and so inferred; NaN: exact
    status : "ok", or what is wrong, in a few words
    certified : whether the draws are those of the exact posterior, with 100 effective ones or more
    ess : effective number of independent draws behind them
    log_evidence : ln p(photometry, measured redshift), to compare galaxy models by: of the same galaxy, and where the
        redshift is not given of the same range of redshifts
    chi2_best : smallest chi2 of all that was tried. n_bands : that it is over
    flags : names of popcat's flags (column `flags` of a catalogue) that are set
    survey, galaxy_model, prior : what was fitted
    """

    draws: Mapping[str, np.ndarray]
    flux: Mapping[str, float]
    flux_err: Mapping[str, float]
    redshift: float
    redshift_err: float
    status: str
    certified: bool
    ess: float
    log_evidence: float
    chi2_best: float
    n_bands: int
    flags: tuple[str, ...]
    survey: Survey
    galaxy_model: GalaxyModel
    prior: str

    def _title(self) -> str:
        return f"Posterior of one galaxy: {len(self.draws['redshift']):,} draws under the {self.prior} prior"

    def _facts(self) -> dict[str, object]:
        fields = quantity_fields(self.survey, self.galaxy_model)
        facts: dict[str, object] = {
            name: f"{_in_words(self.draws[name])} {unit if unit != '1' else ''}".rstrip()
            for name, (unit, _) in ((name, fields[name]) for name in _MAIN)
        }
        facts["chi2_best"] = f"{self.chi2_best:.2f} over {self.n_bands} bands"
        facts["log_evidence"], facts["ess"] = f"{self.log_evidence:.2f}", f"{self.ess:.0f}"
        facts["status"] = self.status
        return facts

    def table(self) -> pd.DataFrame:
        """A row for each quantity: its 16th, 50th and 84th percentile, unit and meaning."""
        fields = quantity_fields(self.survey, self.galaxy_model)
        names = list(fields)
        found = pd.DataFrame({f"p{q}": [float(np.percentile(self.draws[name], q)) for name in names]
                              for q in PERCENTILES}, index=pd.Index(names, name="quantity"))  # fmt: skip
        return found.assign(unit=[fields[name][0] for name in names], meaning=[fields[name][1] for name in names])

    def to_pandas(self) -> pd.DataFrame:
        """A row for each draw, a column for each quantity."""
        return pd.DataFrame(dict(self.draws))

    def corner(self) -> "Figure":
        """Corner plot of mass, star-formation rate, metallicity, age and dust."""
        return self._drawing.corner(self.draws, f"{self._redshift_in_words()}\n{len(self.draws['redshift'])} draws")

    def sed(self) -> "Figure":
        """Observed fluxes with errors, band fluxes and spectra of the draws, filter curves, residuals."""
        flux, err = (list(one.values()) for one in (self.flux, self.flux_err))
        return self._drawing.sed(self.draws, flux, err, self._redshift_in_words())

    def sfh(self, lookback_gyr: Sequence[float] | None = None) -> "Figure":
        """Star-formation rate against lookback time, median and 68% of the draws, in bins between these edges in Gyr;
        by default those of `Catalog.sfh`.

        Raises PopcatError for edges that do not ascend within 0 and 14.5 Gyr.
        """
        return self._drawing.sfh(self.draws, self._redshift_in_words(), lookback_gyr=lookback_gyr)

    @property
    def _drawing(self) -> "Drawing":
        from popcat.catalog.galaxy_figures import drawing_of

        return drawing_of(self.survey, self.galaxy_model)

    def _redshift_in_words(self) -> str:
        z = self.draws["redshift"]
        return f"z = {z[0]:.4f}" if np.ptp(z) == 0.0 else f"z = {_in_words(z)}"


def _in_words(values: np.ndarray) -> str:
    low, middle, high = np.percentile(values, PERCENTILES)
    digits = 4 if np.ptp(values) == 0.0 or high - low < 0.02 else 2
    if np.ptp(values) == 0.0:
        return f"{middle:.{digits}f}"
    return f"{middle:.{digits}f} -{middle - low:.{digits}f} +{high - middle:.{digits}f}"

"""What `popcat.fit_galaxy` gives: draws of one galaxy, as numbers, tables and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from popcat.columns import PERCENTILES, parameter_fields, quantity_fields
from popcat.display import Displayed
from popcat.forward.filters import load_curves
from popcat.forward.ingredients import load_ingredients
from popcat.forward.photometry import Photometry
from popcat.forward.properties import forward_for
from popcat.forward.spectrum import observed_spectra
from popcat.forward.star_formation import star_formation
from popcat.galaxy_model import GalaxyModel
from popcat.survey import Survey

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAIN = ("redshift", "log_mstar", "log_sfr_100myr", "log_ssfr", "age_mw_gyr", "log_z_mw", "a_v")
_SPECTRUM_DRAWS, _SPECTRUM_POINTS = 64, 600


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
        from popcat.plots import galaxy_corner

        return galaxy_corner(self.draws, title=f"{self._redshift_in_words()}\n{len(self.draws['redshift'])} draws")

    def sed(self) -> "Figure":
        """Observed fluxes with errors, band fluxes and spectra of the draws, filter curves, residuals."""
        from popcat.plots import galaxy_sed, spectrum_band

        theta, redshift = self._theta, self.draws["redshift"].astype(float)
        curves = load_curves(self.survey)
        wave = np.geomspace(0.9 * min(one.wave_aa[0] for one in curves), 1.1 * max(one.wave_aa[-1] for one in curves),
                            _SPECTRUM_POINTS)  # fmt: skip
        some = np.unique(np.linspace(0, len(theta) - 1, _SPECTRUM_DRAWS).astype(int))
        photometry = self._photometry
        spectra = observed_spectra(theta[some], redshift[some], photometry.ingredients, wave)
        flux, err = (np.array(list(one.values())) for one in (self.flux, self.flux_err))
        return galaxy_sed([(one.name, one.wave_aa, one.response) for one in curves], flux, err,
                          photometry.flux(theta, redshift), title=self._redshift_in_words(),
                          spectrum=spectrum_band(wave, spectra))  # fmt: skip

    def sfh(self, lookback_gyr: Sequence[float] | None = None) -> "Figure":
        """Star-formation rate against lookback time, median and 68% of the draws, in bins between these edges in Gyr;
        by default those of `Catalog.sfh`.

        Raises PopcatError for edges that do not ascend within 0 and 14.5 Gyr.
        """
        from popcat.plots import galaxy_sfh

        redshift = self.draws["redshift"].astype(float)
        found = star_formation(self._theta, redshift, load_ingredients(self.galaxy_model), lookback_gyr)
        return galaxy_sfh(found.lookback_gyr, found.sfr, title=self._redshift_in_words())

    @property
    def _theta(self) -> np.ndarray:
        return np.column_stack([self.draws[name] for name in parameter_fields(self.galaxy_model)]).astype(float)

    @property
    def _photometry(self) -> Photometry:
        return forward_for(self.survey, self.galaxy_model).photometry

    def _redshift_in_words(self) -> str:
        z = self.draws["redshift"]
        return f"z = {z[0]:.4f}" if np.ptp(z) == 0.0 else f"z = {_in_words(z)}"


def _in_words(values: np.ndarray) -> str:
    low, middle, high = np.percentile(values, PERCENTILES)
    digits = 4 if np.ptp(values) == 0.0 or high - low < 0.02 else 2
    if np.ptp(values) == 0.0:
        return f"{middle:.{digits}f}"
    return f"{middle:.{digits}f} -{middle - low:.{digits}f} +{high - middle:.{digits}f}"

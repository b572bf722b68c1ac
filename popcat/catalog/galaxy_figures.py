"""Figures of one galaxy, from its draws: the one place that knows what each picture of a galaxy is made of.

`Catalog.plot_sed` and its like, `popcat.fit_galaxy` and the report draw through it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from popcat.catalog.draws import SUFFIX
from popcat.catalog.learned import PriorDraws, stays_prior
from popcat.catalog.prior_draws import gains_of_rows, spans_of_rows
from popcat.columns import parameter_fields
from popcat.errors import PopcatError
from popcat.galaxy_model import GalaxyModel
from popcat.plots import galaxy_corner, galaxy_sed, galaxy_sfh, spectrum_band
from popcat.survey import Survey

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPECTRUM_DRAWS = 64
"""Draws whose spectra the 68% band is of: enough to see it."""
_SPECTRUM_POINTS = 600
_MASS = "log_mstar_formed"
Draws: TypeAlias = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Drawing:
    """What it takes to draw galaxies of one survey and galaxy model.

    Attributes
    ----------
    curves : (name, wave_aa, response) of each band of the survey, in its order
    forward : theta (n, d), redshift (n,) -> flux (n, n_band) in nMgy
    spectrum : theta (n, d), redshift (n,) -> wave_aa (n_wave,) observed, f_nu (n, n_wave) in nMgy; None: not drawn
    history : theta (n, d), redshift (n,), edges in Gyr or None -> lookback_gyr (n_bin + 1,), rates (n, n_bin) in
        Msun / yr; None: not drawn
    prior : draws of the prior that a catalogue keeps; None without them
    """

    survey: Survey
    galaxy_model: GalaxyModel
    curves: Sequence[tuple]
    forward: Callable
    spectrum: Callable | None = None
    history: Callable | None = None
    prior: PriorDraws | None = None

    @property
    def parameters(self) -> Mapping[str, tuple[str, str]]:
        """Unit and meaning of each parameter of the galaxy model."""
        return parameter_fields(self.galaxy_model)

    def theta(self, draws: Draws) -> np.ndarray:
        """Parameters (n, d) of draws (n,)."""
        return np.column_stack([np.asarray(draws[name], dtype=float) for name in self.parameters])

    def sed(self, draws: Draws, flux: Sequence[float], flux_err: Sequence[float], title: str) -> "Figure":
        """Observed fluxes in nMgy, model fluxes of the draws and their spectra, filter curves, residuals."""
        theta, redshift = self.theta(draws), np.asarray(draws["redshift"], dtype=float)
        some = np.unique(np.linspace(0, len(theta) - 1, SPECTRUM_DRAWS).astype(int))
        spectrum = None if self.spectrum is None else spectrum_band(*self.spectrum(theta[some], redshift[some]))
        flux, flux_err = np.asarray(flux, dtype=float), np.asarray(flux_err, dtype=float)
        return galaxy_sed(self.curves, flux, flux_err, self.forward(theta, redshift), title=title, spectrum=spectrum)

    def corner(self, draws: Draws, title: str, *, span: Sequence[int] | None = None,
               stays: Collection[str] = ()) -> "Figure":  # fmt: skip
        """Corner plot of the draws; in grey the draws of the prior of a span (`prior_of_row`)."""
        return galaxy_corner(draws, title=title, prior=self._prior_draws(span), stays_prior=stays)

    def sfh(self, draws: Draws, title: str, *, span: Sequence[int] | None = None,
            lookback_gyr: Sequence[float] | None = None) -> "Figure":  # fmt: skip
        """Star-formation rate of the draws against lookback time; in grey the prior of a span, with the galaxy's mass.

        Raises PopcatError for edges that do not ascend within 0 and 14.5 Gyr.
        """
        edges, sfr = self.rates(draws, lookback_gyr)
        return galaxy_sfh(edges, sfr, title=title, prior=self.prior_rates(draws, span, lookback_gyr))

    def rates(self, draws: Draws, lookback_gyr: Sequence[float] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Edges (n_bin + 1,) in Gyr and star-formation rates (n, n_bin) in Msun / yr of draws (n,).

        Raises PopcatError if histories are not drawn.
        """
        if self.history is None:
            raise PopcatError("no star-formation histories are drawn of this catalogue")
        return self.history(self.theta(draws), np.asarray(draws["redshift"], dtype=float), lookback_gyr)

    def prior_rates(self, draws: Draws, span: Sequence[int] | None,
                    lookback_gyr: Sequence[float] | None = None) -> np.ndarray | None:  # fmt: skip
        """Rates (m, n_bin) of the prior's draws of a span, each at the median mass of a galaxy's draws (n,).

        The mass is what photometry measures best: at the prior's own masses the shape of its histories would not show.
        """
        prior = self._prior_draws(span)
        if prior is None:
            return None
        mass = np.full(len(prior[_MASS]), np.median(draws[_MASS]))
        # The bins are those of the galaxy, at its own redshift.
        redshift = np.full(len(mass), np.median(draws["redshift"]))
        return self.rates({**prior, _MASS: mass, "redshift": redshift}, lookback_gyr)[1]

    def _prior_draws(self, span: Sequence[int] | None) -> Draws | None:
        if self.prior is None or span is None:
            return None
        return {name: values[slice(*span)] for name, values in self.prior.values.items()}


def drawing_of(survey: Survey, galaxy_model: GalaxyModel, prior: PriorDraws | None = None) -> Drawing:
    """What it takes to draw galaxies, with the galaxy model's own photometry, spectra and histories."""
    from popcat.forward.filters import load_curves
    from popcat.forward.ingredients import load_ingredients
    from popcat.forward.properties import forward_for
    from popcat.forward.spectrum import observed_spectra
    from popcat.forward.star_formation import star_formation

    curves, ingredients = load_curves(survey), cache(partial(load_ingredients, galaxy_model))
    ends = 0.9 * min(one.wave_aa[0] for one in curves), 1.1 * max(one.wave_aa[-1] for one in curves)
    wave_aa = np.geomspace(*ends, _SPECTRUM_POINTS)

    def forward(theta, redshift):  # its tables take minutes on a new machine: not for a figure without fluxes
        return forward_for(survey, galaxy_model).photometry.flux(theta, redshift)

    def spectrum(theta, redshift):
        return wave_aa, observed_spectra(theta, redshift, ingredients(), wave_aa)

    def history(theta, redshift, lookback_gyr=None):
        found = star_formation(theta, redshift, ingredients(), lookback_gyr)
        return found.lookback_gyr, found.sfr

    shown = [(one.name, one.wave_aa, one.response) for one in curves]
    return Drawing(survey, galaxy_model, shown, forward, spectrum, history, prior)


def draws_of_row(row: Mapping, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The draws (k,) of some quantities in a row of a catalogue.

    Raises PopcatError if the galaxy has no posterior.
    """
    if row["status"] != "ok":
        raise PopcatError(f'galaxy {row["object_id"]} has no posterior to show: its status is "{row["status"]}"; '
                          'choose one with status "ok"')  # fmt: skip
    return {name: np.asarray(row[f"{name}{SUFFIX}"], dtype=float) for name in names}


def prior_of_row(prior: PriorDraws | None, row: dict, names: Sequence[str]) -> tuple[list[int] | None, list[str]]:
    """First and last draw of the prior that a galaxy is compared with, and which of these quantities stay the prior's.

    None and nothing for a catalogue that keeps no prior.
    """
    if prior is None:
        return None, []
    return spans_of_rows(prior, [row])[0].tolist(), stays_prior(gains_of_rows(prior, [row], names))

"""What a posterior catalogue shows of itself: its galaxies one by one, and all of them."""

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Protocol

import pyarrow.dataset as ds

from popcat.display import Displayed
from popcat.errors import PopcatError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from popcat.catalog.selection import Ids
    from popcat.galaxy_model import GalaxyModel
    from popcat.survey import Survey


class _Catalog(Protocol):
    """What the figures ask of a catalogue."""

    path: str

    @property
    def survey(self) -> "Survey": ...
    @property
    def galaxy_model(self) -> "GalaxyModel": ...
    def galaxies(self, ids: "Ids", columns: Sequence[str] | None = None) -> list[dict]: ...
    def to_pandas(self, columns: Sequence[str] | None = None,
                  where: str | ds.Expression | None = None) -> "pd.DataFrame": ...  # fmt: skip


class CatalogFigures(Displayed):
    """The figures of a catalogue. Each is a matplotlib Figure, which a notebook shows and `savefig` writes."""

    def plot_sed(self: _Catalog, galaxy: int | str) -> "Figure":
        """Spectral energy distribution of one galaxy: observed fluxes in nMgy with errors, model fluxes and spectra of
        the draws, filter curves, residuals in units of the error.

        Raises PopcatError if the galaxy is not in the catalogue or has no posterior, and as `require_manifest` does.

        >>> from popcat import open_catalog
        >>> catalog = open_catalog("posteriors")
        >>> best = catalog.to_pandas(["object_id"], where="status == 'ok'")["object_id"][0]
        >>> [panel.get_ylabel() for panel in catalog.plot_sed(best).axes][0]
        '$f_\\\\nu$ (nMgy)'
        """
        from popcat.catalog.galaxy_figures import drawing_of, draws_of_row

        drawing, bands = drawing_of(self.survey, self.galaxy_model), self.survey.band_names
        fluxes = [f"{kind}_{band}" for kind in ("flux", "flux_err") for band in bands]
        names = [*drawing.parameters, "redshift"]
        row = _row(self, galaxy, names, fluxes)
        flux, flux_err = ([row[f"{kind}_{band}"] for band in bands] for kind in ("flux", "flux_err"))
        return drawing.sed(draws_of_row(row, names), flux, flux_err, _title(row))

    def plot_corner(self: _Catalog, galaxy: int | str) -> "Figure":
        """Corner plot of one galaxy's draws of mass, star-formation rate, metallicity, age and dust. Grey: the prior,
        where the catalogue keeps draws of it.

        Raises PopcatError as `plot_sed` does, and for fewer than 10 draws.
        """
        from popcat.catalog.galaxy_figures import drawing_of, draws_of_row, prior_of_row
        from popcat.catalog.prior_draws import read_prior
        from popcat.plots.style import CORNER

        drawing = drawing_of(self.survey, self.galaxy_model, read_prior(self.path))
        row = _row(self, galaxy, [*CORNER, "redshift"], ["redshift", "redshift_err"])
        draws = draws_of_row(row, [*CORNER, "redshift"])
        span, stays = prior_of_row(drawing.prior, row, CORNER)
        return drawing.corner(draws, f"{_title(row)}\n{len(draws['redshift'])} draws", span=span, stays=stays)

    def plot_sfh(self: _Catalog, galaxy: int | str, lookback_gyr: Sequence[float] | None = None) -> "Figure":
        """Star-formation rate of one galaxy in Msun / yr against lookback time in Gyr: median and 68% of the draws, in
        bins between these edges; by default those of `Catalog.sfh`. Grey: the prior at the galaxy's mass, where the
        catalogue keeps draws of it.

        Raises PopcatError as `plot_sed` does, and for edges that do not ascend within 0 and 14.5 Gyr.
        """
        from popcat.catalog.galaxy_figures import drawing_of, draws_of_row, prior_of_row
        from popcat.catalog.prior_draws import read_prior

        drawing = drawing_of(self.survey, self.galaxy_model, read_prior(self.path))
        names = [*drawing.parameters, "redshift"]
        row = _row(self, galaxy, names, ["redshift", "redshift_err"])
        span, _ = prior_of_row(drawing.prior, row, [])
        return drawing.sfh(draws_of_row(row, names), _title(row), span=span, lookback_gyr=lookback_gyr)

    def plot_mass_redshift(self: _Catalog, where: str | ds.Expression | None = None) -> "Figure":
        """Surviving stellar mass against redshift, posterior medians of the galaxies that `where` chooses: density,
        contours, running median, typical error.

        Raises PopcatError if no chosen galaxy has a posterior, and as `to_pandas` does.

        >>> from popcat import open_catalog
        >>> figure = open_catalog("posteriors").plot_mass_redshift("redshift_p50 < 0.3")
        >>> figure.axes[0].get_xlabel()
        'Redshift'
        """
        from popcat.plots import mass_redshift

        return mass_redshift(self.to_pandas(["redshift_p50", *(f"log_mstar_p{q}" for q in (16, 50, 84))], where))

    def plot_sky(self: _Catalog, where: str | ds.Expression | None = None) -> "Figure":
        """Sky map of the galaxies that `where` chooses: galaxies per cell of right ascension and declination.

        Raises PopcatError if no chosen galaxy has a position, and as `to_pandas` does.

        >>> from popcat import open_catalog
        >>> open_catalog("posteriors").plot_sky().axes[0].get_title()
        '40 galaxies'
        """
        from popcat.plots import sky_map

        frame = self.to_pandas(["ra", "dec"], where)
        return sky_map(frame["ra"].to_numpy(dtype=float), frame["dec"].to_numpy(dtype=float))


def _row(catalog: _Catalog, galaxy: int | str, quantities: Sequence[str], more: Sequence[str]) -> dict:
    """The row of one galaxy with the draws of some quantities."""
    if not isinstance(galaxy, (Integral, str)):
        raise PopcatError(f"expected the identifier of one galaxy, such as object_id, got {type(galaxy).__name__}")
    columns = ["status", "redshift_p50", *(f"{name}_draws" for name in quantities), *more]
    return catalog.galaxies(galaxy, list(dict.fromkeys(columns)))[0]


def _title(row: dict) -> str:
    return f"object_id {row['object_id']},  z = {row['redshift_p50']:.4f}"

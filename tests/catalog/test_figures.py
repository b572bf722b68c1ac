"""The figures of a catalogue: they draw the numbers that its columns have, of the galaxy that was asked for."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import popcat
from popcat.catalog.prior_draws import read_prior
from popcat.errors import PopcatError
from popcat.inference.galaxy_posterior import GalaxyPosterior


@pytest.fixture(scope="module")
def catalog(galaxies, tmp_path_factory):
    output = tmp_path_factory.mktemp("figures") / "posteriors"
    frame = pd.read_parquet(galaxies)
    frame.loc[40, [name for name in frame if name.startswith("modelflux_")]] = np.nan  # no posterior
    popcat.infer(frame, "sdss", output=output, draws=12, client="synchronous")
    return popcat.open_catalog(output)


@pytest.fixture(scope="module")
def item(catalog):
    return catalog.to_pandas(["object_id"], "status == 'ok'")["object_id"].to_numpy()[5]


def test_the_sed_has_the_fluxes_of_the_galaxy(catalog, item):
    figure = catalog.plot_sed(item)
    (row,) = catalog.galaxies(item, [f"flux_{band}" for band in "ugriz"])
    np.testing.assert_allclose(figure.axes[0].containers[-1].lines[0].get_ydata(), [row[f"flux_{b}"] for b in "ugriz"])
    assert f"object_id {item}" in figure.axes[0].get_title()


def test_the_corner_plot_has_the_draws_and_the_prior_in_grey(catalog, item):
    figure = catalog.plot_corner(item)
    assert read_prior(catalog.path) is not None and figure.texts[0].get_text().endswith("12 draws\ngrey: the prior")
    median = float(figure.axes[0].get_title().split("=")[1].split("}")[0].strip(" ${"))
    assert median == pytest.approx(catalog.galaxies(item, ["log_mstar_p50"])[0]["log_mstar_p50"], abs=0.006)


def test_the_history_is_that_of_sfh_over_the_prior_of_the_same_mass(catalog, item):
    edges = [0.0, 0.1, 1.0, 3.0]
    ax = catalog.plot_sfh(item, edges).axes[0]
    prior, band, middle = (patch.get_data() for patch in ax.patches)
    rates = catalog.sfh(item, edges).sfr
    np.testing.assert_allclose(middle.values, np.median(rates, axis=0), rtol=1e-6)
    np.testing.assert_allclose(band.values, np.percentile(rates, 84, axis=0), rtol=1e-6)
    assert np.median(np.abs(np.log10(prior.values / band.values))) < 1.0


def test_a_galaxy_of_fit_galaxy_is_drawn_by_the_same_code(catalog, item):
    (row,) = catalog.galaxies(item)
    draws = {name: np.asarray(row[f"{name}_draws"], dtype=float) for name in catalog.quantities}
    fluxes = ({band: row[f"{kind}_{band}"] for band in "ugriz"} for kind in ("flux", "flux_err"))
    other = GalaxyPosterior(draws, *fluxes, row["redshift"], np.nan, "ok", False, 12.0, 0.0, 1.0, 5, (), catalog.survey,
                            catalog.galaxy_model, "physical")  # fmt: skip
    for ours, theirs in ((catalog.plot_sed(item), other.sed()), (catalog.plot_sfh(item), other.sfh())):
        lines, same = (part.axes[0].patches[-1].get_path().vertices for part in (ours, theirs))
        np.testing.assert_allclose(lines, same)


def test_masses_and_positions_are_those_of_the_chosen_rows(catalog):
    where = "status == 'ok' and redshift_p50 < 0.15"
    n = len(catalog.to_pandas(["object_id"], where))
    assert 0 < n < len(catalog)
    assert catalog.plot_sky(where).axes[0].get_title() == f"{n} galaxies"
    assert catalog.plot_mass_redshift(where).axes[0].get_xlim()[1] < 0.2
    assert isinstance(catalog.plot_sky(), Figure)


def test_what_cannot_be_drawn_is_said(catalog, galaxies, item):
    lost = catalog.to_pandas(["object_id"], "status != 'ok'")["object_id"]
    assert len(lost)
    with pytest.raises(PopcatError, match=r'has no posterior to show: its status is "\w+"'):
        catalog.plot_sed(lost[0])
    with pytest.raises(PopcatError, match="no galaxy with object_id -7 "):
        catalog.plot_corner(-7)
    with pytest.raises(PopcatError, match="expected the identifier of one galaxy"):
        catalog.plot_sed([item, item])
    with pytest.raises(PopcatError, match="nothing to draw"):
        catalog.plot_mass_redshift("redshift_p50 < 0")
    with pytest.raises(PopcatError, match="holds Parquet files without a manifest"):
        popcat.open_catalog(galaxies).plot_sed(1)

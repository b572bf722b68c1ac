"""`fit_galaxy`: one galaxy, whatever its filters, as a catalogue of one would have it; numbers that do not fit together
are one line."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import popcat
from popcat.display import Displayed
from popcat.inference.galaxy_posterior import GalaxyPosterior

FLUX = {"u": 25.3, "g": 98.4, "r": 196.0, "i": 267.0, "z": 330.0}
ERR = {"u": 3.0, "g": 5.0, "r": 10.0, "i": 13.0, "z": 20.0}
NAMES = [f"sdss2010-{band}" for band in FLUX]
FLAT = {"prior": "flat", "n_draws": 300}


def fit(flux=FLUX, err=ERR, filters="sdss", redshift=0.1, redshift_err=None, **options):
    return popcat.fit_galaxy(flux, err, filters, redshift, redshift_err, **FLAT | options)


@pytest.fixture(scope="module")
def found() -> GalaxyPosterior:
    return fit()


def test_it_is_what_a_catalogue_certified_with_a_trained_posterior_has():
    """The embedded posterior of sdss under the same prior: quantiles and evidence, each to sampling noise."""
    from popcat.checks.certify import Effort, certify
    from popcat.galaxies import Observation

    trained = popcat.load_posterior("sdss").under("flat")
    flux, err = (np.array([list(one.values())]) for one in (FLUX, ERR))
    data = Observation(flux, err, np.array([0.1]), np.array([np.nan]), np.array([0]))
    certified = certify(trained, data, 2000, 0, effort=Effort(target_ess=2000.0, budget_ms=10_000.0))
    found = fit(n_draws=2000)
    theirs = trained.derive(certified.theta, certified.redshift)
    assert found.certified and found.log_evidence == pytest.approx(certified.log_evidence[0], abs=0.2)
    for name in ("log_mstar", "log_ssfr", "age_mw_gyr", "a_v", "tau_ism", "beta2", "abs_mag_r"):
        a, b = (np.percentile(one, (16, 50, 84)) for one in (found.draws[name], theirs[name][0]))
        assert np.abs(a - b).max() < 0.3 * 0.5 * (b[2] - b[0]), name


def test_a_mapping_a_sequence_and_any_unit_are_the_same_galaxy(found):
    uJy = {name: value * 3.631 for name, value in FLUX.items()}
    by_filter = dict(zip(NAMES, (value * 3.631 for value in ERR.values()), strict=True))
    # the survey file of sdss leaves the red leak of u out, and its curve alone differs
    again = fit(list(uJy.values()), {name: by_filter[f"sdss2010-{name}"] for name in FLUX}, unit="uJy")
    for name, values in found.draws.items():
        np.testing.assert_allclose(again.draws[name], values, rtol=2e-3, atol=2e-3)
    assert again.flux["r"] == pytest.approx(196.0) and again.flux_err["r"] == pytest.approx(10.0)
    named = popcat.fit_galaxy(FLUX, by_filter, NAMES, 0.1, **FLAT, unit="nMgy")
    assert list(named.flux) == list(FLUX) and named.flux_err["r"] == pytest.approx(36.31)


def test_draws_are_a_function_of_the_seed(found):
    assert np.array_equal(fit().draws["log_mstar"], found.draws["log_mstar"])
    other = fit(seed=1)
    assert not np.array_equal(other.draws["log_mstar"], found.draws["log_mstar"])
    assert abs(other.log_evidence - found.log_evidence) < 0.2


def test_it_is_plain_data_that_can_be_kept(found):
    kept = pickle.loads(pickle.dumps(found))
    assert repr(kept) == repr(found) and kept.sed().axes[0].get_title() == found.sed().axes[0].get_title()


def test_bands_that_are_missing_and_negative_and_a_redshift_that_is_not_known():
    galaxy = fit({**FLUX, "u": -0.5, "i": np.nan}, {**ERR, "u": 30.0}, redshift=None)
    assert galaxy.n_bands == 4 and np.isnan(galaxy.redshift) and {"missing_band", "negative_flux"} < set(galaxy.flags)
    z = galaxy.draws["redshift"]
    assert galaxy.certified and np.ptp(z) > 0.05 and z.min() >= 0.001 and z.max() <= 0.6
    left_out = fit({name: FLUX[name] for name in "ugrz"}, {name: ERR[name] for name in "ugrz"}, redshift=0.1)
    assert left_out.n_bands == 4 and np.isnan(left_out.flux["i"])
    measured = fit(redshift=0.3, redshift_err=0.01)
    assert abs(measured.draws["redshift"].mean() - 0.3) < 0.05 and measured.redshift_err == 0.01


def test_it_shows_itself_in_a_few_lines_and_as_tables_and_figures(found):
    from matplotlib.figure import Figure

    assert isinstance(found, Displayed) and found._repr_html_().startswith("<table>")
    assert "log_mstar" in repr(found) and "log10(Msun)" in repr(found) and "over 5 bands" in repr(found)
    table, frame = found.table(), found.to_pandas()
    assert list(table.columns) == ["p16", "p50", "p84", "unit", "meaning"] and list(table.index) == list(frame.columns)
    assert isinstance(frame, pd.DataFrame) and len(frame) == 300
    assert table.loc["log_mstar", "p50"] == pytest.approx(np.percentile(frame["log_mstar"], 50), abs=1e-5)
    names = set(popcat.schema("sdss").names)
    assert {f"{name}_draws" for name in found.draws} == {name for name in names if name.endswith("_draws")}
    figures = found.corner(), found.sed(), found.sfh(), found.sfh([0.0, 0.1, 1.0, 5.0])
    assert all(isinstance(figure, Figure) for figure in figures)
    ax, _ = figures[1].axes[:2]
    assert any(np.array_equal(line.get_ydata(), list(found.flux.values())) for line in ax.lines)
    assert len(figures[3].axes[0].patches[0].get_data().edges) == 4


def test_the_star_formation_figure_has_the_numbers_of_the_draws(found):
    from popcat.forward.ingredients import load_ingredients
    from popcat.forward.star_formation import star_formation

    theta = found.to_pandas()[list(popcat.load_posterior("sdss").prior.names)].to_numpy(dtype=float)
    edges = [0.0, 0.1, 1.0, 5.0]
    expected = star_formation(theta, found.draws["redshift"].astype(float), load_ingredients(found.galaxy_model), edges)
    band, middle = (patch.get_data() for patch in found.sfh(edges).axes[0].patches[:2])
    low, median, high = np.percentile(expected.sfr, (16, 50, 84), axis=0)
    np.testing.assert_allclose(band.values, high)
    np.testing.assert_allclose(band.baseline, low)
    np.testing.assert_allclose(middle.values, median)


def test_photometry_that_no_model_fits_is_said():
    odd = fit({**FLUX, "r": 1960.0})
    assert not odd.certified and odd.status != "ok" and "high_chi2" in odd.flags


FIVE = list(FLUX.values())
WRONG = {
    "as many": (dict(flux=FIVE[:4]), r"flux: expected 5 numbers, one for each filter \(u, g, r, i, z\), got shape"),
    "text": (dict(flux=["a"] * 5), "flux: expected numbers"),
    "text by band": (dict(flux={"r": "bright"}), "flux in r: expected a number"),
    "a redshift": (dict(redshift="far"), "redshift: expected a number, or None, got 'far'"),
    "no list": (dict(flux=[], err=[], filters=5), "filters: expected one or more, each once, got none"),
    "a band": (dict(flux={"y": 1.0}), 'flux: no filter "y"'),
    "a survey": (dict(filters="sdsss"), 'filters "sdsss": expected a list of filters, or a survey.*mean "sdss"'),
    "a filter": (dict(flux=[1.0], err=[1.0], filters=["sdss2010-q"]), 'unknown filter "sdss2010-q"'),
    "twice": (dict(flux=[1.0, 1.0], err=[1.0, 1.0], filters=["sdss2010-r"] * 2), "each once, got sdss2010-r, sdss"),
    "none": (dict(flux=[], err=[], filters=[]), "filters: expected one or more"),
    "unit": (dict(unit="Jansky"), 'unit "Jansky": expected one of nMgy, nJy'),
    "error": (dict(err={**ERR, "g": 0.0}), "flux_err: expected a positive error for each flux, got others in g"),
    "no flux": (dict(flux=[np.nan] * 5), "flux: expected one observed band or more"),
    "redshift": (dict(redshift=0.9), "redshift 0.9: expected one in the range 0.001 to 0.6"),
    "alone": (dict(redshift=None, redshift_err=0.1), "redshift_err: got 0.1 without a redshift"),
    "negative": (dict(redshift_err=-0.1), "redshift_err: expected a positive number"),
    "range": (dict(redshift_range=(0.5, 0.2)), "redshift_range: expected 0 < low < high"),
    "prior": (dict(prior="fhysical"), 'no prior "fhysical".*did you mean "physical"'),
    "draws": (dict(n_draws=0), "n_draws: expected 10 to 8192, got 0"),
    "light": (dict(flux=[1.0], err=[1.0], filters=["wise2010-W4"]), "W4"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_fitted_is_one_line(case):
    options, words = WRONG[case]
    with pytest.raises(popcat.PopcatError, match=words) as caught:
        fit(**options)
    assert "\n" not in str(caught.value)


def test_short_names_of_filters_differ(tmp_path):
    from popcat.inference.one_galaxy import _band_names

    assert _band_names(("sdss2010-u", "twomass-J")) == ["u", "J"]
    assert _band_names(("sdss2010-r", "decam2014-r")) == ["sdss2010r", "decam2014r"]
    assert _band_names((str(Path("a") / "x.dat"), str(Path("b") / "x.dat"))) == ["xa", "xb"]

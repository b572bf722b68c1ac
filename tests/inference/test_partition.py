"""Each stage is a function of its rows alone: no partition changes a value, and no row is lost, moved or invented."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from pandas.testing import assert_frame_equal

from popcat import rng
from popcat.columns import (
    PARAMETERS,
    PERCENTILES,
    certificate_fields,
    library_meta,
    library_schema,
    photometry_columns,
    photometry_meta,
    posterior_meta,
    posterior_schema,
    quantity_fields,
)
from popcat.flows.architecture import Architecture, build_flow
from popcat.flows.piecewise import PiecewiseDensity, PiecewiseShape
from popcat.forward.noise import BandNoise, Noise, add_noise
from popcat.forward.properties import Properties, forward_for
from popcat.galaxies import FLAGS, observation
from popcat.galaxy_model import GalaxyModel
from popcat.inference.partition import Request, infer_partition, infer_table
from popcat.io.photometry import flags_of
from popcat.io.reading import without_redshift
from popcat.posterior.features import fit_features
from popcat.posterior.posterior import Posterior, save_posterior
from popcat.posterior.simulated import draw_inside, draw_mocks, draw_prior, simulate_partition
from popcat.posterior.support import fit_support
from popcat.survey import load_survey
from popcat.units import nmgy_to_ab_mag

SURVEY, MODEL = load_survey("sdss"), GalaxyModel()
QUANTITIES = quantity_fields(SURVEY, MODEL)
DRAWS, SEED = 60, 9
# object_id, status and flags of the galaxies of `frame`, in its order
EXPECTED = [
    ("good", "ok", set()),
    ("no g", "ok", {"missing_band"}),
    ("zero error", "ok", {"bad_error"}),
    ("negative u", "ok", {"negative_flux"}),
    ("no redshift", "ok", {"missing_redshift", "at_edge"}),
    ("too far", "redshift_out_of_range", {"redshift_out_of_range"}),
    ("nothing", "no_photometry", {"missing_band", "missing_redshift", "no_photometry"}),
    ("too precise", "ok", {"high_chi2"}),
    ("faint", "ok", {"outside_training"}),
    ("good again", "ok", set()),
]
GALAXIES = [name for name, _, _ in EXPECTED]


@pytest.fixture(scope="module")
def noise():
    """A quarter of the flux, whatever the flux."""
    band = BandNoise(ln_flux=(-20.0, 20.0), ln_err=(-20.0 + np.log(0.25), 20.0 + np.log(0.25)), scatter=(0.1, 0.1))
    return Noise(survey="sdss", n_galaxies=1, bands=dict.fromkeys(SURVEY.band_names, band))


@pytest.fixture(scope="module")
def posterior(noise):
    """An untrained flow: a wide, wrong and valid posterior."""
    library = simulate_partition(0, 500, SURVEY, MODEL, noise, 1)
    bands = [library[[f"{kind}_{b}" for b in SURVEY.band_names]].to_numpy(float) for kind in ("flux", "flux_err")]
    redshift = library["redshift"].to_numpy()
    features = fit_features(*bands, redshift, MODEL.cosmology)
    of_redshift = fit_features(*bands, None, MODEL.cosmology)
    architecture = Architecture(features=10, context=features.n_features, n_blocks=1, hidden=16, n_layers=1)
    torch.manual_seed(0)
    flow = build_flow(architecture).eval()
    density = PiecewiseDensity(PiecewiseShape(context=of_redshift.n_features, n_bins=20, hidden=8, n_layers=1)).eval()
    support = fit_support(*bands, redshift, features.softening)
    return Posterior(SURVEY, MODEL, noise, features, (flow,), architecture, of_redshift, density, support, {})


@pytest.fixture(scope="module")
def frame():
    """Ten galaxies like one of r = 18 at redshift 0.1, each with what its name says."""
    rows = pd.DataFrame({"object_id": 10**15 + np.arange(10)[::-1] * 7, "ra": 10.0, "dec": -5.0, "redshift": 0.1},
                        index=GALAXIES)
    flux = {"u": 8.0, "g": 30.0, "r": 63.0, "i": 90.0, "z": 115.0}
    for band, value in flux.items():
        rows[f"flux_{band}"], rows[f"flux_err_{band}"] = value, 0.3 * value
    rows.loc["no g", "flux_g"] = np.nan
    rows.loc["zero error", "flux_err_i"] = 0.0
    rows.loc["nothing", [f"flux_{band}" for band in flux]] = np.nan
    rows.loc["negative u", "flux_u"] = -1.0
    rows.loc[["no redshift", "nothing"], "redshift"] = np.nan
    rows.loc["too far", "redshift"] = 0.9
    rows.loc["too precise", [f"flux_err_{band}" for band in flux]] = 1e-3
    rows.loc["faint", [f"flux{kind}_{band}" for band in flux for kind in ("", "_err")]] *= 0.01
    kinds = photometry_columns(SURVEY)
    rows = rows.assign(redshift_err=np.nan, flags=0)[list(kinds)].astype(kinds)
    return rows.assign(flags=flags_of(rows, SURVEY))


@pytest.fixture(scope="module")
def table(frame, posterior):
    return infer_table(frame, posterior, DRAWS, SEED)


def row(table, galaxy):
    return table.slice(GALAXIES.index(galaxy), 1)


def draws_of(table, quantity):
    """(n, DRAWS) of the galaxies with a posterior."""
    return np.array(table[f"{quantity}_draws"].drop_null().to_pylist(), dtype=np.float32)


# simulate


@pytest.mark.parametrize("edges", [(0, 13, 60), (0, 1, 2, 59, 60)])
def test_simulations_do_not_depend_on_the_partitions(noise, edges):
    whole = simulate_partition(0, 60, SURVEY, MODEL, noise, 3)
    parts = [simulate_partition(a, b, SURVEY, MODEL, noise, 3) for a, b in pairwise(edges)]
    assert_frame_equal(pd.concat(parts, ignore_index=True), whole, check_exact=True)


def test_a_simulated_frame_has_the_types_of_the_schema(noise):
    frame = simulate_partition(5, 8, SURVEY, MODEL, noise, 3)
    assert frame["object_id"].tolist() == [5, 6, 7]
    pd.testing.assert_series_equal(frame.dtypes, library_meta(SURVEY).dtypes)
    assert_frame_equal(simulate_partition(5, 5, SURVEY, MODEL, noise, 3), library_meta(SURVEY))
    assert pa.Table.from_pandas(frame, schema=library_schema(SURVEY), preserve_index=False).num_rows == 3


def test_a_simulated_galaxy_has_the_flux_of_its_theta_and_the_noise_of_its_number(noise):
    object_id = np.arange(40, 50)
    frame = simulate_partition(40, 50, SURVEY, MODEL, noise, 3)
    theta, redshift = draw_inside(object_id, SURVEY, MODEL, noise, 3)
    flux = forward_for(SURVEY, MODEL).photometry.flux(theta, redshift)
    noisy, err = add_noise(flux, noise, rng.normal(3, rng.STREAM_NOISE, object_id, 10))
    np.testing.assert_array_equal(frame[list(PARAMETERS)].to_numpy(), theta.astype(np.float32))
    np.testing.assert_array_equal(frame["redshift"].to_numpy(), redshift)
    for kind, expected in {"flux_model": flux, "flux": noisy, "flux_err": err}.items():
        got = frame[[f"{kind}_{band}" for band in SURVEY.band_names]].to_numpy()
        np.testing.assert_array_equal(got, expected.astype(np.float32))


def test_simulated_redshifts_fill_the_range_of_the_survey_and_theta_the_prior():
    theta, redshift = draw_prior(np.arange(20_000), SURVEY, MODEL, 0)
    low, high = SURVEY.redshift_range
    assert low < redshift.min() < low + 1e-3 and high - 1e-3 < redshift.max() < high
    assert abs(np.corrcoef(redshift, theta[:, 0])[0, 1]) < 0.03
    np.testing.assert_allclose(theta[:, 1:5].mean(axis=0), 0.25, atol=0.01)


def test_another_seed_gives_other_galaxies(noise):
    a, b = (simulate_partition(0, 20, SURVEY, MODEL, noise, seed) for seed in (0, 1))
    assert not np.isin(a["redshift"], b["redshift"]).any()


def test_the_forward_model_of_a_survey_is_built_once():
    assert forward_for(SURVEY, MODEL) is forward_for(load_survey("sdss"), GalaxyModel())


def test_mocks_are_the_first_that_pass_the_selection(posterior):
    few, many = (draw_mocks(posterior, n, 3) for n in (7, 30))
    assert len(few) == 7 and len(many) == 30
    assert_frame_equal(many[:7], few)
    mag = nmgy_to_ab_mag(many["flux_r"].to_numpy())
    assert mag.min() >= SURVEY.selection.bright_mag and mag.max() <= SURVEY.selection.faint_mag


# infer


def test_rows_keep_their_order_photometry_and_positions(frame, table):
    assert table.num_rows == len(frame)
    kept = ["object_id", "ra", "dec", "redshift", "redshift_err"]
    kept += [f"{kind}_{band}" for band in SURVEY.band_names for kind in ("flux", "flux_err")]
    for name in kept:
        np.testing.assert_array_equal(table[name].to_numpy(), frame[name].to_numpy())
        assert table[name].null_count == 0


@pytest.mark.parametrize(("galaxy", "status", "flags"), EXPECTED)
def test_status_and_flags_say_what_is_wrong(table, galaxy, status, flags):
    found = row(table, galaxy)
    assert found["status"][0].as_py() == status
    assert {name for name, bit in FLAGS.items() if found["flags"][0].as_py() & bit} == flags


def test_the_flags_of_the_input_are_not_changed(frame, table):
    assert not (frame["flags"] & FLAGS["high_chi2"]).any()


def test_there_are_nulls_exactly_where_there_is_no_posterior(table):
    missing = table["status"].to_numpy() != "ok"
    names = [f"{q}_{suffix}" for q in QUANTITIES for suffix in ("p16", "p50", "p84", "draws")]
    names += ["chi2_best", "tail_noise", "tail_colours"]
    for name in names:
        assert np.array_equal(table[name].is_null().to_numpy(), missing)
    # a band can be judged from two others on
    assert np.array_equal(table["tail_band"].is_null().to_numpy(), missing | (table["n_bands"].to_numpy() < 3))
    proof = {field.name for field in certificate_fields()}
    proof |= {"worst_band", "tail_band", "tail_peers"}
    others = [name for name in table.column_names if name not in (*names, *proof)]
    assert all(table[name].null_count == 0 for name in others)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_quantiles_are_those_of_the_draws(table, quantity):
    values = draws_of(table, quantity)
    assert values.shape == (8, DRAWS)
    assert np.isfinite(values).all()
    for q in PERCENTILES:
        got = table[f"{quantity}_p{q}"].drop_null().to_numpy()
        np.testing.assert_allclose(got, np.percentile(values, q, axis=1), rtol=1e-6)


def test_draws_are_inside_the_prior_and_properties_are_theirs(table, posterior):
    theta = np.stack([draws_of(table, name) for name in PARAMETERS], axis=-1).reshape(-1, 12).astype(float)
    redshift = draws_of(table, "redshift").ravel().astype(float)
    assert posterior.prior.contains(theta, tolerance=1e-5).all()
    expected = Properties(SURVEY, forward_for(SURVEY, MODEL).photometry.ingredients)(theta, redshift)
    for name, values in expected.items():
        np.testing.assert_allclose(draws_of(table, name).ravel(), values, rtol=0, atol=2e-4)


@pytest.mark.parametrize("galaxy", ["good", "no g", "negative u", "no redshift", "too precise", "faint"])
def test_chi2_best_is_the_smallest_of_the_draws(frame, table, posterior, galaxy):
    one = frame.loc[galaxy]
    flux = np.array([one[f"flux_{band}"] for band in SURVEY.band_names], dtype=float)
    err = np.array([one[f"flux_err_{band}"] for band in SURVEY.band_names], dtype=float)
    draws = posterior.sample(observation(frame.loc[[galaxy]], SURVEY), DRAWS, SEED)
    chi2 = [np.nansum((model - flux) ** 2 / err**2) for model in
            forward_for(SURVEY, MODEL).photometry.flux(draws.theta[0], draws.redshift[0])]
    assert row(table, galaxy)["chi2_best"][0].as_py() == pytest.approx(min(chi2), rel=1e-3)


def test_bands_are_counted(table):
    counts = dict(zip(GALAXIES, table["n_bands"].to_pylist(), strict=True))
    assert counts["good"] == 5 and counts["no g"] == counts["zero error"] == 4 and counts["nothing"] == 0


def test_a_hidden_redshift_is_inferred_as_a_missing_one_is(frame, posterior):
    hidden = without_redshift(frame.loc[["good", "too far"]])
    table = infer_table(hidden, posterior, DRAWS, SEED)
    assert table["status"].to_pylist() == ["ok", "ok"]
    missing = frame.loc[["good"]].assign(redshift=np.nan)
    expected = infer_table(missing.assign(flags=flags_of(missing, SURVEY)), posterior, DRAWS, SEED)
    np.testing.assert_allclose(*(t["redshift_draws"][0].as_py() for t in (table, expected)), rtol=1e-5)
    assert len(np.unique(table["redshift_draws"][0].as_py())) == DRAWS


def test_a_redshift_with_an_error_is_drawn_about_it(frame, posterior):
    measured = frame.loc[["good"]].assign(redshift_err=0.001)
    draws = np.array(infer_table(measured, posterior, DRAWS, SEED)["redshift_draws"][0].as_py())
    assert 0.0005 < draws.std() < 0.0015 and abs(draws.mean() - 0.1) < 0.001


def test_only_galaxies_that_fail_a_test_have_a_worst_band(table):
    failed = {name for name, worst in zip(GALAXIES, table["worst_band"].to_pylist(), strict=True) if worst is not None}
    suspicious = FLAGS["high_chi2"] | FLAGS["unusual_noise"] | FLAGS["unusual_colours"]
    assert failed == {name for name in GALAXIES if row(table, name)["flags"][0].as_py() & suspicious}


def test_the_table_has_the_posterior_schema_with_its_units(table):
    assert table.schema.equals(posterior_schema(SURVEY), check_metadata=True)


def test_posteriors_do_not_depend_on_the_partitions(frame, table, posterior):
    parts = [infer_table(part, posterior, DRAWS, SEED) for part in (frame[:1], frame[1:4], frame[4:])]
    again = pa.concat_tables(parts)
    assert again["flags"].equals(table["flags"]) and again["status"].equals(table["status"])
    for quantity in QUANTITIES:
        spread = draws_of(table, quantity).std()
        np.testing.assert_allclose(draws_of(again, quantity), draws_of(table, quantity), rtol=0, atol=1e-3 * spread)


def test_posteriors_do_not_depend_on_the_order_of_the_rows(frame, table, posterior):
    again = infer_table(frame[::-1], posterior, DRAWS, SEED)
    assert again["object_id"].to_pylist() == table["object_id"].to_pylist()[::-1]
    got, expected = draws_of(again, "log_mstar")[::-1], draws_of(table, "log_mstar")
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("batch_draws", [1, 2 * DRAWS])
def test_batches_do_not_change_the_posteriors(frame, table, posterior, monkeypatch, batch_draws):
    monkeypatch.setattr("popcat.posterior.posterior._BATCH_DRAWS", batch_draws)
    again = infer_table(frame, posterior, DRAWS, SEED)
    np.testing.assert_allclose(draws_of(again, "log_mstar"), draws_of(table, "log_mstar"), rtol=0, atol=1e-3)
    assert again["flags"].equals(table["flags"])


def test_an_empty_frame_gives_an_empty_table(posterior):
    table = infer_table(photometry_meta(SURVEY), posterior, DRAWS, SEED)
    assert table.num_rows == 0
    assert table.schema.equals(posterior_schema(SURVEY), check_metadata=True)


def test_a_frame_without_any_posterior_keeps_its_rows(frame, posterior):
    bad = frame.loc[["nothing", "too far"]]
    table = infer_table(bad, posterior, DRAWS, SEED)
    assert table["status"].to_pylist() == ["no_photometry", "redshift_out_of_range"]
    assert table["log_mstar_draws"].null_count == 2


def test_the_frame_of_a_partition_is_its_table(frame, table, posterior, tmp_path):
    name = save_posterior(posterior, tmp_path / "model")
    got = infer_partition(frame, Request(str(tmp_path / "model"), name, SURVEY, DRAWS, SEED))
    pd.testing.assert_series_equal(got.dtypes, posterior_meta(SURVEY).dtypes)
    assert got["object_id"].tolist() == frame["object_id"].tolist()
    np.testing.assert_array_equal(got["log_mstar_p50"].to_numpy(), table["log_mstar_p50"].to_numpy())


def test_an_error_of_almost_nothing_is_an_infinite_chi2_and_not_a_warning(frame, posterior):
    tiny = frame.loc[["good"]].assign(**{f"flux_err_{band}": np.float32(1e-25) for band in SURVEY.band_names})
    table = infer_table(tiny, posterior, DRAWS, SEED)
    assert table["chi2_best"].to_pylist() == [np.inf]
    assert table["flags"][0].as_py() & FLAGS["high_chi2"]

"""The embedded data: what the README of popcat/data promises of the bases and of the galaxies."""

from importlib.resources import as_file, files

import numpy as np
import pyarrow.parquet as pq
import pytest

from popcat.data.derive import bases as derive_bases
from popcat.data.derive import bases_fractional
from popcat.data.derive import galaxies as derive_galaxies
from popcat.survey import load_survey

DATA = files("popcat") / "data"
SFH = ("sfh1", "sfh2", "sfh3", "sfh4")
ZH = ("zh1", "zh2")


def test_fractional_bases_are_what_their_script_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["bases_fractional.py", "-o", str(tmp_path / "b.csv")])
    bases_fractional.main()
    assert (tmp_path / "b.csv").read_bytes() == (DATA / "bases_fractional.csv").read_bytes()


@pytest.fixture(scope="module")
def bases():
    """Column name -> values of bases.csv."""
    lines = [line for line in (DATA / "bases.csv").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    values = np.array([[float(x) for x in line.split(",")] for line in lines[1:]])
    return dict(zip(lines[0].split(","), values.T, strict=True))


@pytest.fixture(scope="module")
def galaxies():
    with as_file(DATA / "galaxies_sdss.parquet") as path:
        return pq.read_table(path)


def test_bases_have_fifty_uniform_lookback_times(bases):
    assert list(bases) == ["lookback_gyr", *SFH, *ZH]
    np.testing.assert_allclose(bases["lookback_gyr"], np.linspace(0, 13.8, 50), rtol=5e-6)


def test_the_first_interval_is_one_straight_line_to_0_28_gyr(bases):
    assert bases["lookback_gyr"][0] == 0
    assert bases["lookback_gyr"][1] > 0.28


def test_bases_csv_says_what_it_is_and_how_it_was_made():
    header = [line for line in (DATA / "bases.csv").read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    for word in ("derive/bases.py", "1/Gyr", "diffstarpop", "scikit-learn"):
        assert any(word in line for line in header), word


@pytest.mark.parametrize("name", SFH)
def test_a_star_formation_basis_is_non_negative_and_of_unit_mass(bases, name):
    assert bases[name].min() >= 0
    assert np.trapezoid(bases[name], bases["lookback_gyr"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ZH)
def test_a_metallicity_basis_is_non_negative_and_peaks_at_three(bases, name):
    assert bases[name].min() >= 0
    assert bases[name].max() == pytest.approx(3, abs=1e-4)


def test_star_formation_bases_come_youngest_first(bases):
    ages = [np.average(bases["lookback_gyr"], weights=bases[name]) for name in SFH]
    assert np.all(np.diff(ages) > 1)


def test_some_basis_forms_stars_today(bases):
    assert sum(bases[name][0] for name in SFH) > 0.05


def test_the_bases_cover_all_lookback_times_to_13_4_gyr(bases):
    total = sum(bases[name] for name in SFH)
    assert total[bases["lookback_gyr"] < 13.4].min() > 1e-3


def test_no_basis_rises_at_the_big_bang(bases):
    for name in SFH:
        last = bases[name][bases["lookback_gyr"] > 13.4]
        assert last.max() < 0.01 * bases[name].max(), name
        assert last[-1] == 0, name


def test_every_basis_has_mass_left_at_the_highest_sdss_redshift(bases):
    """At z = 0.6 the universe is 7.9 Gyr old: a basis that is empty there could not be renormalised."""
    young = bases["lookback_gyr"] < 7.9
    for name in SFH:
        assert np.trapezoid(bases[name][young], bases["lookback_gyr"][young]) > 0.01, name


def test_one_metallicity_basis_rises_to_today_and_the_other_is_enriched_early(bases):
    assert np.argmax(bases["zh1"]) == 0
    assert np.all(np.diff(bases["zh1"][bases["lookback_gyr"] < 11]) < 0)
    assert bases["zh2"][bases["lookback_gyr"] < 10].min() > 0.8


def synthetic_histories():
    """A family that is exactly of rank 2, on the table's lookback times, and its two parts."""
    time = derive_bases.LOOKBACK_GYR
    parts = np.array([np.clip(1 - time / 6, 0, None), np.clip(1 - np.abs(time - 10) / 3, 0, None)])
    return np.random.default_rng(0).dirichlet([0.3, 0.3], 200) @ derive_bases.unit_mass(parts), parts


def test_the_factorisation_recovers_a_family_of_two_parts():
    pytest.importorskip("sklearn")
    histories, parts = synthetic_histories()
    found = derive_bases.unit_mass(derive_bases.factorise(histories, 2))
    assert derive_bases.sfh_residual(histories, found).max() < 1e-2
    np.testing.assert_allclose(found, derive_bases.unit_mass(parts), atol=1e-2)


def test_the_factorisation_is_deterministic():
    pytest.importorskip("sklearn")
    histories, _ = synthetic_histories()
    weights = {"row_weights": np.linspace(1, 2, 200), "node_weights": 1 / (derive_bases.LOOKBACK_GYR + 0.5)}
    first, second = (derive_bases.factorise(histories, 2, **weights) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_smoothing_keeps_a_constant_rate_and_nothing_before_the_big_bang():
    smoothed = derive_bases.smooth(np.ones_like(derive_bases.FINE_GYR), 10.0)
    alive = derive_bases.LOOKBACK_GYR < 10
    np.testing.assert_allclose(smoothed[alive], 1)
    assert np.all(smoothed[~alive] == 0)


def test_the_regulator_never_loses_metals_at_a_constant_rate():
    z = derive_bases.metallicity(np.ones((1, len(derive_bases.FINE_GYR))))[0]
    assert np.all(np.diff(z) < 0)
    assert z.min() > 0


def test_there_are_ten_thousand_galaxies_with_unique_ids(galaxies):
    ids = galaxies["object_id"].to_numpy()
    np.testing.assert_array_equal(ids, np.arange(10_000))
    assert ids.dtype == np.int64


def test_every_column_that_the_sdss_survey_names_is_there(galaxies):
    survey = load_survey("sdss")
    columns = [getattr(band, kind) for band in survey.bands for kind in ("flux", "flux_err", "extinction")]
    assert set(columns) | {"object_id", "ra", "dec", "redshift"} <= set(galaxies.column_names)


def test_every_column_states_its_unit_and_meaning(galaxies):
    for field in galaxies.schema:
        assert field.metadata[b"unit"], field.name
        assert field.metadata[b"description"], field.name
    assert galaxies.schema.field("modelflux_r").metadata[b"unit"] == b"nMgy"
    assert b"pandas" not in (galaxies.schema.metadata or {})


def test_r_magnitudes_and_redshifts_are_those_of_sdss_galaxies(galaxies):
    r_mag = 22.5 - 2.5 * np.log10(galaxies["modelflux_r"].to_numpy())
    redshift = galaxies["redshift"].to_numpy()
    assert np.median(r_mag) == pytest.approx(16.8, abs=0.05)
    assert np.median(redshift) == pytest.approx(0.10, abs=0.005)
    assert (redshift > 0.01).all() and (redshift < 0.6).all()


def test_twelve_u_fluxes_are_negative_and_kept(galaxies):
    not_positive = [int((galaxies[f"modelflux_{band}"].to_numpy() <= 0).sum()) for band in "ugriz"]
    assert not_positive == [12, 0, 0, 0, 0]


def test_every_sdss_error_is_positive(galaxies):
    for band in "ugriz":
        assert (galaxies[f"modelflux_err_{band}"].to_numpy() > 0).all(), band


def test_what_2mass_and_galex_did_not_measure_is_nan_in_value_and_error(galaxies):
    measured = {"twomass_j_vega_mag": 9_999, "twomass_h_vega_mag": 9_285, "twomass_ks_vega_mag": 9_998,
                "galex_nuv_flux": 774, "galex_fuv_flux": 530}  # fmt: skip
    for name, number in measured.items():
        value, error = galaxies[name].to_numpy(), galaxies[f"{name}_err"].to_numpy()
        assert np.isfinite(value).sum() == number, name
        np.testing.assert_array_equal(np.isnan(value), np.isnan(error))
        assert (error[np.isfinite(error)] > 0).all(), name


def test_galex_counts_and_zero_point_give_sensible_colours(galaxies):
    nuv, u_flux = galaxies["galex_nuv_flux"].to_numpy(), galaxies["modelflux_u"].to_numpy()
    seen = np.isfinite(nuv) & (u_flux > 0)
    colour = 20.08 - 2.5 * np.log10(nuv[seen]) - (22.5 - 2.5 * np.log10(u_flux[seen]))
    assert 1 < np.median(colour) < 2


def test_row_groups_hold_2500_rows_in_zstd():
    with as_file(DATA / "galaxies_sdss.parquet") as path:
        metadata = pq.ParquetFile(path).metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [2_500] * 4
    assert metadata.row_group(0).column(0).compression == "ZSTD"


def test_a_source_value_becomes_nan_only_where_nothing_was_measured():
    band = np.array([[1.0] * 5, [-1.0] * 5], dtype=np.float32)
    raw = {"MODELFLUX": band, "MODELFLUX_IVAR": np.array([[4.0] * 5, [0.0] * 5]), "EXTINCTION": band}
    columns = derive_galaxies.sdss_columns(raw)
    np.testing.assert_array_equal(columns["modelflux_u"][0], [1, -1])
    np.testing.assert_array_equal(columns["modelflux_err_u"][0], np.float32([0.5, np.nan]))


def test_all_embedded_data_stay_below_25_megabytes():
    with as_file(DATA) as folder:
        total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert total < 25e6


def test_three_tenths_of_the_prior_form_stars_today_above_z_0019(bases):
    from popcat.galaxy_model import GalaxyModel
    from popcat.prior import make_prior
    from popcat.rng import STREAM_PRIOR, uniform

    theta = make_prior(GalaxyModel()).from_unit(uniform(0, STREAM_PRIOR, np.arange(50_000), 11))
    z_today = 10.0 ** theta[:, 7] * bases["zh1"][0] + 10.0 ** theta[:, 8] * bases["zh2"][0]
    assert np.mean(z_today > 0.019) == pytest.approx(0.30, abs=0.01)

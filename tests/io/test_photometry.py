"""A photometry frame holds what the survey file says about its columns: closed forms, flags, invariances."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from popcat.columns import photometry_columns, photometry_meta
from popcat.errors import PopcatError
from popcat.galaxies import FLAGS, STATUS, has_posterior, status_of
from popcat.io.photometry import catalog_columns, to_photometry
from popcat.io.reading import read_partition
from popcat.io.sources import plan_chunks, read_chunk
from popcat.survey import load_survey


def close(got, expected):
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=3e-7)


def flags_in(frame, row=0):
    return {name for name, bit in FLAGS.items() if frame["flags"].iloc[row] & bit}


def test_columns_order_dtypes_and_index_are_the_schema(raw, survey):
    frame = to_photometry(raw.sample(frac=1.0, random_state=1), survey)
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == photometry_columns(survey)
    assert list(frame) == list(photometry_columns(survey))
    assert isinstance(frame.index, pd.RangeIndex)


def test_an_empty_frame_gives_the_empty_meta(raw, survey):
    assert_frame_equal(to_photometry(raw[:0], survey), photometry_meta(survey), check_index_type=False)


def test_a_band_with_nothing_to_correct_is_unchanged(raw, survey):
    frame = to_photometry(raw, survey)
    close(frame["flux_g"], raw["f_g"])
    close(frame["flux_err_g"], raw["e_g"])
    assert (frame["flags"] == 0).all()


def test_extinction_offset_inverse_variance_and_floor_follow_the_formula(raw, survey):
    frame = to_photometry(raw, survey)
    scale = 10 ** (0.4 * (raw["a_r"] - 0.1))
    close(frame["flux_r"], raw["f_r"] * scale)
    close(frame["flux_err_r"], np.sqrt(scale**2 / raw["iv_r"] + (0.05 * raw["f_r"] * scale) ** 2))


@pytest.mark.parametrize(("unit", "in_nmgy"), [
    ("nMgy", 1.0), ("nJy", 1 / 3631), ("uJy", 1 / 3.631), ("mJy", 1000 / 3.631), ("Jy", 1e6 / 3.631)])
def test_linear_units_scale_flux_and_error(raw, survey, unit, in_nmgy):
    frame = to_photometry(raw, survey.model_copy(update={"unit": unit}))
    close(frame["flux_g"], raw["f_g"] * in_nmgy)
    close(frame["flux_err_g"], raw["e_g"] * in_nmgy)
    close(frame["flux_r"], raw["f_r"] * in_nmgy * 10 ** (0.4 * (raw["a_r"] - 0.1)))


def test_magnitudes_give_the_photometry_of_their_fluxes(raw, survey):
    log_err = 2.5 / np.log(10)
    as_mag = raw.assign(
        f_g=22.5 - 2.5 * np.log10(raw["f_g"]), e_g=log_err * raw["e_g"] / raw["f_g"],
        f_r=22.5 - 2.5 * np.log10(raw["f_r"]), iv_r=raw["iv_r"] * (raw["f_r"] / log_err) ** 2)
    got = to_photometry(as_mag, survey.model_copy(update={"unit": "ab_mag"}))
    assert_frame_equal(got, to_photometry(raw, survey), rtol=1e-6)


def test_a_band_may_have_a_unit_of_its_own(raw, survey):
    expected = to_photometry(raw, survey)
    log_err = 2.5 / np.log(10)
    as_mag = raw.assign(f_g=22.5 - 2.5 * np.log10(raw["f_g"]), e_g=log_err * raw["e_g"] / raw["f_g"])
    bands = (survey.bands[0].model_copy(update={"unit": "ab_mag"}), survey.bands[1])
    assert_frame_equal(to_photometry(as_mag, survey.model_copy(update={"bands": bands})), expected, rtol=1e-6)


def test_count_rates_have_a_zero_point_of_22_5_plus_the_offset(raw, survey):
    counts = survey.bands[0].model_copy(update={"unit": "count/s", "ab_offset_mag": 20.08 - 22.5})
    frame = to_photometry(raw, survey.model_copy(update={"bands": (counts, survey.bands[1])}))
    close(frame["flux_g"], raw["f_g"] * 10 ** (0.4 * (22.5 - 20.08)))
    close(frame["flux_err_g"], raw["e_g"] * 10 ** (0.4 * (22.5 - 20.08)))


def test_the_extinction_may_be_a_reddening_times_a_factor(raw, survey):
    bands = (survey.bands[0], survey.bands[1].model_copy(update={"extinction_factor": 2.5}))
    reddening = raw.assign(a_r=raw["a_r"] / 2.5)
    got = to_photometry(reddening, survey.model_copy(update={"bands": bands}))
    assert_frame_equal(got, to_photometry(raw, survey), rtol=1e-6)


@pytest.mark.parametrize("mark", [99.0, -99.0, -9999.0, 999.0])
def test_marks_for_missing_magnitudes_are_missing(raw, survey, mark):
    frame = to_photometry(raw.assign(f_g=mark, f_r=20.0), survey.model_copy(update={"unit": "ab_mag"}))
    assert frame["flux_g"].isna().all()
    assert flags_in(frame) == {"missing_band"}


def test_the_ab_offset_is_added_to_the_magnitude(raw, survey):
    with_offset, without = (to_photometry(raw, survey.model_copy(update={"bands": (
        survey.bands[0].model_copy(update={"ab_offset_mag": offset}), survey.bands[1])})) for offset in (0.3, 0.0))
    close(with_offset["flux_g"] / without["flux_g"], np.full(len(raw), 10.0 ** (-0.4 * 0.3)))


@pytest.mark.parametrize("cuts", [[1], [7, 8], [3, 6, 9, 12, 15, 18], range(1, 20)])
def test_partitions_do_not_change_a_value(raw, survey, cuts):
    raw = raw.copy()
    raw.loc[4, "f_g"], raw.loc[9, "iv_r"] = np.nan, 0.0
    edges = [0, *cuts, len(raw)]
    pieces = [to_photometry(raw[low:high], survey) for low, high in pairwise(edges)]
    assert_frame_equal(pd.concat(pieces, ignore_index=True), to_photometry(raw, survey), check_exact=True)


@pytest.mark.parametrize("name", ["cat.csv", "cat.fits", "cat.fits.gz"])
def test_every_format_gives_the_same_photometry_as_parquet(raw, survey, write, name):
    raw = raw.copy()
    raw.loc[2, ["f_g", "z"]] = np.nan
    frames = []
    for path in (write(raw, "cat.parquet"), write(raw, name)):
        chunks = plan_chunks(path, rows_per_partition=7)
        frames.append([to_photometry(read_chunk(chunk, catalog_columns(survey)), survey) for chunk in chunks])
    for parquet, other in zip(*frames, strict=True):
        assert_frame_equal(parquet, other, check_exact=True)


BLEMISHES = {
    "NaN flux": ({"f_g": np.nan}, {"missing_band"}),
    "infinite flux": ({"f_g": np.inf}, {"missing_band"}),
    "NaN error": ({"e_g": np.nan}, {"missing_band"}),
    "NaN inverse variance": ({"iv_r": np.nan}, {"missing_band"}),
    "NaN extinction": ({"a_r": np.nan}, {"missing_band"}),
    "error zero": ({"e_g": 0.0}, {"bad_error"}),
    "negative error": ({"e_g": -1.0}, {"bad_error"}),
    "infinite error": ({"e_g": np.inf}, {"bad_error"}),
    "inverse variance zero": ({"iv_r": 0.0}, {"bad_error"}),
    "negative inverse variance": ({"iv_r": -3.0}, {"bad_error"}),
    "infinite inverse variance": ({"iv_r": np.inf}, {"bad_error"}),
    "no redshift": ({"z": np.nan}, {"missing_redshift"}),
    "redshift below the range": ({"z": 0.0099, "z_err": 0.0}, {"redshift_out_of_range"}),
    "redshift below the range, within its error": ({"z": 0.0, "z_err": 0.01}, set()),
    "redshift beyond five errors": ({"z": 0.6, "z_err": 0.019}, {"redshift_out_of_range"}),
    "no band at all": ({"f_g": np.nan, "f_r": np.nan}, {"missing_band", "no_photometry"}),
    "a bad error and a missing band": ({"f_g": np.nan, "iv_r": 0.0}, {"missing_band", "bad_error", "no_photometry"}),
    "redshift above the range": ({"z": 0.51}, {"redshift_out_of_range"}),
    "redshift at the edge": ({"z": 0.5}, set()),
    "redshift infinite": ({"z": np.inf}, {"missing_redshift"}),
    "no redshift error": ({"z_err": np.nan}, set()),
    "no position": ({"ra": np.nan, "dec": np.nan}, set()),
    "too bright": ({"f_r": 1e4}, {"outside_training"}),
    "too faint": ({"f_r": 1.0}, {"outside_training"}),
    "selection band not positive": ({"f_r": 0.0}, {"outside_training"}),
    "selection band negative": ({"f_r": -1.0}, {"outside_training", "negative_flux"}),
    "negative flux in another band": ({"f_g": -0.5}, {"negative_flux"}),
    "an extinction of -1": ({"a_r": -1.0}, {"missing_band"}),
    "an extinction of noise": ({"a_r": -0.01}, set()),
    "an extinction of 99": ({"a_r": 99.0}, {"missing_band"}),
    "a redshift of -99 +- 99": ({"z": -99.0, "z_err": 99.0}, {"missing_redshift"}),
    "a redshift of -9.99 +- 9.99": ({"z": -9.99, "z_err": 9.99}, {"missing_redshift"}),
    "a redshift of -1 +- 0.001": ({"z": -1.0}, {"missing_redshift"}),
    "a redshift error beyond the range": ({"z": 0.3, "z_err": 99.0}, {"missing_redshift"}),
    "a redshift error as wide as the range": ({"z": 0.3, "z_err": 0.49}, {"missing_redshift"}),
    "a redshift error that says little": ({"z": 0.3, "z_err": 0.48}, set()),
    "an infinite redshift error": ({"z": 0.3, "z_err": np.inf}, {"missing_redshift"}),
    "a wide redshift error far outside": ({"z": 50.0, "z_err": 2.0}, {"redshift_out_of_range"}),
    "the code of a failed redshift fit": ({"z": 0.2, "z_err": -4.0}, {"missing_redshift"}),
    "two at once": ({"f_g": np.nan, "z": 3.0}, {"missing_band", "redshift_out_of_range"}),
}


@pytest.mark.parametrize("case", BLEMISHES)
def test_a_blemish_sets_its_flags_and_no_others_and_drops_no_row(raw, survey, case):
    values, expected = BLEMISHES[case]
    blemished = {name: raw[name].where(raw.index != 3, value) for name, value in values.items()}
    frame = to_photometry(raw.assign(**blemished), survey)
    assert flags_in(frame, 3) == expected
    assert len(frame) == len(raw)
    assert (frame["flags"].drop(3) == 0).all()


def test_nan_flux_keeps_its_error_and_a_negative_flux_its_value(raw, survey):
    frame = to_photometry(raw.assign(f_g=np.where(raw.index == 0, np.nan, -0.25)), survey)
    assert np.isnan(frame["flux_g"][0]) and frame["flux_err_g"][0] == np.float32(raw["e_g"][0])
    assert (frame["flux_g"][1:] == -0.25).all()


def test_the_error_floor_does_not_hide_a_bad_error(raw, survey):
    frame = to_photometry(raw.assign(iv_r=0.0), survey)
    assert (frame["flux_err_r"] == 0).all()


def test_masked_arrow_values_are_nan(raw, survey):
    masked = raw.convert_dtypes(dtype_backend="pyarrow")
    masked.loc[1, "f_g"] = pd.NA
    frame = to_photometry(masked, survey)
    assert flags_in(frame, 1) == {"missing_band"}
    assert frame["object_id"].tolist() == raw["id"].tolist()


def test_columns_that_a_survey_does_not_name_are_nan(raw, survey):
    columns = survey.columns.model_copy(update={"ra": None, "dec": "", "redshift_err": None})
    bare = survey.model_copy(update={"columns": columns})
    frame = to_photometry(raw.drop(columns=["ra", "dec", "z_err"]), bare)
    assert frame[["ra", "dec", "redshift_err"]].isna().all(axis=None)
    assert (frame["flags"] == 0).all()


def test_raw_rows_are_left_as_they_were(raw, survey):
    before = raw.copy()
    to_photometry(raw, survey)
    assert_frame_equal(raw, before)


def test_a_missing_column_is_named(raw, survey):
    with pytest.raises(PopcatError, match=r"lacks 1 column.*iv_r"):
        to_photometry(raw.drop(columns="iv_r"), survey)


def test_fractional_identifiers_are_refused(raw, survey):
    with pytest.raises(PopcatError, match=r'column "id": expected integers.*float64'):
        to_photometry(raw.assign(id=raw["id"] / 2), survey)


def test_status_is_the_first_reason_for_every_set_of_flags():
    flags = np.arange(2 * max(FLAGS.values()))
    status = status_of(flags)
    for bits, got in zip(flags, status, strict=True):
        assert got == next((reason for reason in STATUS[1:] if bits & FLAGS[reason]), "ok")
    assert (has_posterior(flags) == (status == "ok")).all()
    assert status_of(np.array([], dtype=np.int32)).shape == (0,)


def test_the_embedded_survey_converts_a_galaxy_by_its_file():
    sdss = load_survey("sdss")
    raw = pd.DataFrame({name: [0.1] for name in catalog_columns(sdss)} | {"object_id": [1]})
    raw["modelflux_r"], raw["modelflux_err_r"] = 100.0, 1.0
    frame = to_photometry(raw, sdss)
    close(frame["flux_r"], [100 * 10 ** (0.4 * (0.1 - 0.010))])
    close(frame["flux_err_r"], [np.hypot(1.0, 2.0) * 10 ** (0.4 * (0.1 - 0.010))])


def test_positions_are_in_the_usual_range_and_marks_are_none(raw, survey):
    raw.loc[:5, "ra"] = [-10.0, 370.0, 360.0, -999.0, 10.0, 359.5]
    raw.loc[:5, "dec"] = [0.0, 0.0, 0.0, 0.0, 99.0, -90.0]
    frame = to_photometry(raw, survey)
    assert frame["ra"][:6].fillna(-1).tolist() == [350.0, 10.0, 0.0, -1, -1, 359.5]
    assert frame["dec"][:6].isna().tolist() == [False, False, False, True, True, False]
    assert (frame["ra"][6:] == raw["ra"][6:]).all() and (frame["dec"][6:] == raw["dec"][6:]).all()


def test_a_redshift_that_is_not_used_is_not_in_the_frame(raw, survey):
    frame = to_photometry(raw.assign(z_err=raw["z_err"].where(raw.index != 2, -1.0)), survey)
    assert np.isnan(frame.loc[2, ["redshift", "redshift_err"]].to_numpy(dtype=float)).all()
    assert frame["redshift"].drop(2).tolist() == raw["z"].drop(2).tolist()


MARKED = {
    "a_r": {"missing_band"}, "e_g": {"missing_band"}, "iv_r": {"missing_band"}, "f_g": {"missing_band"},
    "z": {"missing_redshift"}, "z_err": set(), "ra": set(),
}  # fmt: skip


@pytest.mark.parametrize("mark", [-1.0, -99.99, 777.0])
@pytest.mark.parametrize("name", MARKED)
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_marks_hold_in_every_column_that_the_survey_names(raw, survey, mark, name, kind):
    marked = raw.assign(**{name: raw[name].where(raw.index != 3, mark).astype(kind)})
    frame = to_photometry(marked, survey.model_copy(update={"missing_values": (mark,)}))
    assert flags_in(frame, 3) == MARKED[name]
    nan = raw.assign(**{name: raw[name].where(raw.index != 3, np.nan).astype(kind)})
    assert_frame_equal(frame, to_photometry(nan, survey))


def test_marks_hold_in_what_an_expression_reads(raw, survey, write):
    expressed = survey.model_copy(update={
        "missing_values": (-99.0,),
        "bands": (survey.bands[0].model_copy(update={"flux": "2 * f_g"}),
                  survey.bands[1].model_copy(update={"extinction": "2.5 * a_r", "flux": "f_r + id * 0"}))})  # fmt: skip
    path = write(raw.assign(f_g=raw["f_g"].where(raw.index != 3, -99.0), a_r=raw["a_r"].where(raw.index != 5, -99.0)))
    frame = read_partition(plan_chunks(path)[0], expressed)
    assert [row for row in range(len(raw)) if flags_in(frame, row) == {"missing_band"}] == [3, 5]
    assert (frame["flags"].drop([3, 5]) == 0).all()


def test_a_negative_mark_is_no_identifier_and_zero_is_one(raw, survey):
    marks = survey.model_copy(update={"missing_values": (-9999.0, 0.0)})
    ids = raw["id"].where(raw.index != 3, 0)
    assert to_photometry(raw.assign(id=ids), marks)["object_id"].tolist() == ids.tolist()
    with pytest.raises(PopcatError, match=r'column "id": 1 rows have the identifier -9999.*missing_values'):
        to_photometry(raw.assign(id=ids.where(raw.index != 7, -9999)), marks)


def test_a_warned_redshift_is_not_used_and_a_catalogue_without_warnings_keeps_all(raw, survey):
    columns = survey.columns.model_copy(update={"redshift_warning": "zwarn"})
    warning = survey.model_copy(update={"columns": columns})
    warned = raw.assign(zwarn=pd.array([0] * 18 + [4, None], dtype="Int64"))
    frame = to_photometry(warned, warning)
    assert [row for row in range(20) if flags_in(frame, row)] == [18, 19]
    assert flags_in(frame, 18) == flags_in(frame, 19) == {"missing_redshift"}
    assert_frame_equal(to_photometry(raw, warning), to_photometry(raw, survey))


def test_non_detections_are_a_flux_of_zero_with_their_limit_where_the_survey_says_so(raw, survey):
    in_mag = survey.model_copy(update={
        "unit": "ab_mag", "bands": (survey.bands[0], survey.bands[1].model_copy(update={"unit": "nMgy"}))})  # fmt: skip
    mags = raw.assign(f_g=20.0, e_g=0.1)
    mags.loc[3, ["f_g", "e_g"]] = 99.0, 25.0
    mags.loc[4, ["f_g", "e_g"]] = 99.0, -1.0
    assert {row: flags_in(to_photometry(mags, in_mag), row) for row in (2, 3)} == {2: set(), 3: {"missing_band"}}
    limited = in_mag.model_copy(update={"limit_mark": 99.0, "limit_sigma": 5.0, "missing_values": (99.0,)})
    frame = to_photometry(mags, limited)
    assert frame["flux_g"][3] == 0.0
    close(frame["flux_err_g"][3], 10 ** (0.4 * (22.5 - 25.0)) / 5.0)
    assert flags_in(frame, 3) == set()
    assert flags_in(frame, 4) == {"missing_band"}
    close(frame["flux_g"][2], 10 ** (0.4 * 2.5))


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_positions_and_redshifts_are_none(raw, survey, value):
    raw = raw.assign(ra=raw["ra"].mask(raw.index == 1, value), dec=raw["dec"].mask(raw.index == 2, value),
                     z=raw["z"].mask(raw.index == 3, value))  # fmt: skip
    frame = to_photometry(raw, survey)
    assert np.flatnonzero(frame["ra"].isna()).tolist() == np.flatnonzero(frame["dec"].isna()).tolist() == [1, 2]
    assert np.flatnonzero(frame["redshift"].isna()).tolist() == [3]
    assert frame["flags"][3] & FLAGS["missing_redshift"] and not frame["flags"][3] & FLAGS["redshift_out_of_range"]

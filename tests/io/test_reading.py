"""The door refuses what does not fit a survey, and says what to mend."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from popcat.errors import PopcatError
from popcat.io.checking import check_catalog
from popcat.io.sources import plan_chunks
from popcat.io.stated_units import same_unit

FORMATS = ["cat.parquet", "cat.csv", "cat.fits", "cat.fits.gz"]


def knock(path, survey, rows=6):
    check_catalog(path, survey, plan_chunks(path, rows_per_partition=rows))


@pytest.mark.parametrize("name", FORMATS)
def test_a_good_catalogue_passes(raw, write, survey, name):
    assert knock(write(raw, name), survey) is None


@pytest.mark.parametrize("name", FORMATS)
def test_missing_columns_are_listed_with_near_names(raw, write, survey, name):
    path = write(raw.rename(columns={"f_r": "F_R", "e_g": "e_g_err"}), name)
    with pytest.raises(PopcatError, match=r"lacks 2 column.*e_g \(.*e_g_err.*\); f_r \(.*F_R"):
        knock(path, survey)


def test_a_column_missing_in_the_last_file_of_a_folder_is_found(raw, write, survey, tmp_path):
    write(raw[:10], "folder/a.parquet")
    write(raw[10:].drop(columns="z"), "folder/b.parquet")
    with pytest.raises(PopcatError, match=r"b\.parquet lacks 1 column.*: z \("):
        knock(tmp_path / "folder", survey)


def test_a_survey_without_positions_needs_no_positions(raw, write, survey):
    columns = survey.columns.model_copy(update={"ra": "", "dec": None})
    knock(write(raw.drop(columns=["ra", "dec"])), survey.model_copy(update={"columns": columns}))


@pytest.mark.parametrize("name", FORMATS)
def test_a_column_of_text_is_refused(raw, write, survey, name):
    with pytest.raises(PopcatError, match=r"expected one number a row.*a_r"):
        knock(write(raw.assign(a_r="low"), name), survey)


def test_a_vector_column_is_refused_with_its_shape(raw, write, survey):
    from astropy.table import Table

    table = Table.from_pandas(raw)
    table["f_r"] = np.ones((len(raw), 5))
    path = write(raw, "cat.fits")
    table.write(path, overwrite=True)
    with pytest.raises(PopcatError, match=r"f_r .float array of 5."):
        knock(path, survey)


def test_text_far_down_a_csv_column_is_found(raw, write, survey):
    many = pd.concat([raw] * 150, ignore_index=True)
    many = many.assign(id=many.index, a_r=many["a_r"].astype(object).where(many.index != 2900, "broken"))
    path = write(many, "cat.csv")
    with pytest.raises(PopcatError, match=r'column "a_r": expected numbers.*broken'):
        knock(path, survey)


@pytest.mark.parametrize("name", FORMATS)
def test_identifiers_that_are_neither_integers_nor_text_are_refused(raw, write, survey, name):
    with pytest.raises(PopcatError, match=r'column "id" must hold integers or text.*got float'):
        knock(write(raw.assign(id=raw["id"] + 0.5), name), survey)


def test_a_missing_identifier_is_refused(raw, write, survey):
    ids = raw["id"].astype("Int64")
    ids[3] = pd.NA
    with pytest.raises(PopcatError, match=r'cat\.parquet: row 4, counted from 1, has no identifier in column "id"'):
        knock(write(raw.assign(id=ids)), survey)


def test_an_identifier_beyond_int64_is_refused(raw, write, survey):
    with pytest.raises(PopcatError, match="too large for int64"):
        knock(write(raw.assign(id=raw["id"].astype("uint64") + np.uint64(2**63))), survey)


@pytest.mark.parametrize("name", FORMATS)
def test_duplicates_in_different_chunks_are_counted_and_shown(raw, write, survey, name):
    ids = raw["id"].tolist()
    ids[19], ids[18] = ids[0], ids[1]
    with pytest.raises(PopcatError, match=f"must be unique, but 2 rows repeat.*{ids[1]}, {ids[0]}"):
        knock(write(raw.assign(id=ids), name), survey)


def test_duplicates_across_files_are_found(raw, write, survey, tmp_path):
    write(raw, "folder/a.parquet")
    write(raw[:1], "folder/b.parquet")
    with pytest.raises(PopcatError, match="1 rows repeat"):
        knock(tmp_path / "folder", survey)


def _with_unit(raw, path, unit):
    table = pa.Table.from_pandas(raw, preserve_index=False)
    index = table.schema.get_field_index("f_g")
    pq.write_table(table.cast(table.schema.set(index, table.schema.field(index).with_metadata({"unit": unit}))), path)


def _with_tunit(raw, path, unit):
    from astropy.io import fits
    from astropy.table import Table

    hdu = fits.BinTableHDU(Table.from_pandas(raw))
    hdu.columns["f_g"].unit = unit
    hdu.writeto(path)


@pytest.mark.parametrize(("name", "label"), [("a.parquet", _with_unit), ("a.fits", _with_tunit)])
def test_the_unit_of_a_file_must_be_the_units_of_the_survey(raw, survey, tmp_path, name, label):
    label(raw, tmp_path / name, "uJy")
    with pytest.raises(PopcatError, match=r'"f_g" is in "uJy".*unit = "nMgy"'):
        knock(tmp_path / name, survey)


@pytest.mark.parametrize(("name", "label"), [("a.parquet", _with_unit), ("a.fits", _with_tunit)])
def test_another_spelling_of_the_unit_passes(raw, survey, tmp_path, name, label):
    label(raw, tmp_path / name, "nanomaggy")
    assert knock(tmp_path / name, survey) is None


@pytest.mark.parametrize(("text", "unit", "same"), [
    ("nMgy", "nMgy", True), ("nanomaggies", "nMgy", True), (" NMGY ", "nMgy", True), ("3.631e-06 Jy", "nMgy", True),
    ("nJy", "nJy", True), ("microJy", "uJy", True), ("mJy", "mJy", True), ("Jy", "Jy", True),
    ("1e-29 erg/s/cm2/Hz", "uJy", True),
    ("1e-9 maggy", "nMgy", True), ("maggy", "nMgy", False), ("mag", "ab_mag", True),
    ("mag(AB)", "ab_mag", True), ("", "nMgy", True), ("counts of Bob", "nMgy", True),
    ("nJy", "nMgy", False), ("mag", "nMgy", False), ("nMgy", "ab_mag", False), ("erg/s/cm2/AA", "nMgy", False),
    ("Jy", "mJy", False), ("electron/s", "uJy", False),
])
def test_units_are_compared_by_meaning(text, unit, same):
    assert same_unit(text, unit) is same


@pytest.mark.parametrize(("unit", "factor"), [("Jy", 1.0), ("nMgy", 1e9), ("ab_mag", 1.0)])
def test_a_magnitude_that_no_survey_has_is_refused_as_a_wrong_unit(raw, write, survey, unit, factor):
    path = write(raw.assign(f_r=raw["f_r"] * factor))
    with pytest.raises(PopcatError, match=f'median r magnitude.*expected 5 to 35.*in "{unit}"'):
        knock(path, survey.model_copy(update={"unit": unit}))


@pytest.mark.parametrize("values", [np.nan, -5.0])
def test_a_band_without_any_magnitude_is_not_taken_for_a_wrong_unit(raw, write, survey, values):
    assert knock(write(raw.assign(f_r=values)), survey) is None

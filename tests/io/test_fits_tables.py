"""FITS tables as others write them: nulls, unsigned integers, ASCII tables, several HDUs, compressed files."""

import bz2
import gzip

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table

from popcat.errors import PopcatError
from popcat.io.checking import check_catalog
from popcat.io.photometry import catalog_columns, object_ids
from popcat.io.reading import read_catalog, read_partition
from popcat.io.sources import plan_chunks, read_chunk, read_fields


def with_cards(path, cards):
    """The last HDU's header with other cards, and its data as they are: astropy changes both together."""
    content = path.read_bytes()
    with fits.open(path) as hdus:
        header, start, data = hdus[-1].header.copy(), hdus[-1].fileinfo()["hdrLoc"], hdus[-1].fileinfo()["datLoc"]
    header.update(cards)
    path.write_bytes(content[:start] + header.tostring().encode() + content[data:])
    return path


def frame_of(path, names, **options):
    chunks = plan_chunks(path, **options)
    return pd.concat([read_chunk(chunk, names) for chunk in chunks], ignore_index=True)


def test_unusual_names_of_columns_are_read_without_a_word(tmp_path):
    """astropy warns of each; warnings are errors here."""
    Table({"mag:g": [1.0, 2.0], "flux (r)": [3.0, 4.0]}).write(tmp_path / "a.fits")
    assert frame_of(tmp_path / "a.fits", ["mag:g", "flux (r)"])["mag:g"].tolist() == [1.0, 2.0]
    assert list(read_fields(tmp_path / "a.fits")) == ["mag:g", "flux (r)"]


LIES = {
    "rows too short": {"NAXIS1": 7}, "rows too long": {"NAXIS1": 40}, "fewer columns": {"TFIELDS": 1},
    "more columns": {"TFIELDS": 999}, "no columns": {"TFIELDS": -1}, "columns of nothing": {"TFORM1": "0K"},
    "columns of a terabyte": {"TFORM1": "1000000000000K"}, "an unknown format": {"TFORM1": "Z"},
    "more rows": {"NAXIS2": 10**12}, "rows by half": {"NAXIS2": 1.5}, "rows in words": {"NAXIS2": "many"},
    "another axis": {"NAXIS": 3}, "a heap beyond the file": {"PCOUNT": 10**15},
}  # fmt: skip


@pytest.mark.parametrize("case", LIES)
def test_a_header_that_contradicts_itself_is_refused_in_words(tmp_path, case):
    """Values would be read from where others are: rows of 7 bytes gave 0, 1, 0, 0, 0."""
    Table({"id": np.arange(5), "x": np.arange(5.0)}).write(tmp_path / "a.fits")
    path = with_cards(tmp_path / "a.fits", LIES[case])
    with pytest.raises(PopcatError, match=r"a\.fits"):
        frame_of(path, ["x"])


NULLS = {
    "plain": {},
    "scaled": {"TSCAL1": 0.5, "TZERO1": 10.0},
    "shifted": {"TZERO1": 100.0},
    "unsigned": {"TZERO1": 2**31},
}


@pytest.mark.parametrize("rows", [2, 100])
@pytest.mark.parametrize("case", NULLS)
def test_nulls_of_integers_are_missing_whatever_the_scale(tmp_path, case, rows):
    stored = np.array([0, -99, 7, -99], dtype=np.int32)
    Table({"n": stored}).write(tmp_path / "a.fits")
    path = with_cards(tmp_path / "a.fits", {"TNULL1": -99, **NULLS[case]})
    scale, zero = NULLS[case].get("TSCAL1", 1), NULLS[case].get("TZERO1", 0)
    values = frame_of(path, ["n"], rows_per_partition=rows)["n"]
    assert values.isna().tolist() == [False, True, False, True]
    assert values[[0, 2]].tolist() == [zero, 7 * scale + zero]


def test_the_null_redshift_of_a_scaled_column_is_no_redshift(raw, survey, tmp_path):
    """Without its null it would be the zero point of the column."""
    stored = np.where(np.arange(len(raw)) == 3, 0, 1000 + np.arange(len(raw))).astype(np.int32)
    Table.from_pandas(raw.assign(z=stored)).write(tmp_path / "a.fits")
    path = with_cards(tmp_path / "a.fits", {"TSCAL4": 1e-4, "TZERO4": 0.05, "TNULL4": 0})
    (chunk,) = plan_chunks(path)
    redshift = read_partition(chunk, survey)["redshift"]
    assert np.flatnonzero(redshift.isna()).tolist() == [3]
    assert redshift[4] == pytest.approx(0.1504)


@pytest.mark.parametrize("kind, largest", [("u2", 2**16 - 1), ("u4", 2**32 - 1), ("u8", 2**63 - 1)])
def test_unsigned_identifiers_keep_every_digit(tmp_path, kind, largest):
    ids = np.array([0, 1, largest - 1, largest], dtype=kind)
    Table({"id": ids}).write(tmp_path / "a.fits")
    values = frame_of(tmp_path / "a.fits", ["id"], rows_per_partition=3)["id"]
    assert object_ids(values).tolist() == ids.tolist()
    assert read_fields(tmp_path / "a.fits")["id"].kind == "integer"


def test_an_identifier_beyond_64_bits_with_sign_is_refused(tmp_path):
    Table({"id": np.array([1, 2**63 + 5], dtype="u8")}).write(tmp_path / "a.fits")
    with pytest.raises(PopcatError, match=f"identifier {2**63 + 5} is too large for int64"):
        object_ids(frame_of(tmp_path / "a.fits", ["id"])["id"])


def test_the_highest_bit_of_unsigned_flags_can_be_asked_for(tmp_path):
    Table({"flags": np.array([1, 2**63 + 1], dtype="u8")}).write(tmp_path / "a.fits")
    assert frame_of(tmp_path / "a.fits", ["flags & 1 == 1"])["flags & 1 == 1"].tolist() == [True, True]


def test_an_ascii_table_is_read_and_its_blanks_and_nulls_are_missing(tmp_path):
    columns = [fits.Column("id", "I20", array=np.array([10**18 + 1, 2, 3]), ascii=True),
               fits.Column("z", "D25.17", array=[0.1, 0.2, 0.3], ascii=True)]  # fmt: skip
    path = tmp_path / "a.fits"
    fits.TableHDU.from_columns(columns).writeto(path)
    path.write_bytes(path.read_bytes().replace(b" 2.00000000000000011D-01", b" " * 24))
    frame = frame_of(path, ["id", "z"], rows_per_partition=2)
    assert frame["id"].tolist() == [10**18 + 1, 2, 3]
    assert frame["z"].isna().tolist() == [False, True, False]
    assert read_fields(path)["id"].kind == "integer"


@pytest.fixture
def several(raw, tmp_path):
    """An image, a header as a table (LDAC), the catalogue, and a table of other columns."""
    head = fits.BinTableHDU(Table({"Field Header Card": ["SIMPLE"]}), name="LDAC_IMHEAD")
    objects = fits.BinTableHDU(Table.from_pandas(raw), name="LDAC_OBJECTS")
    other = fits.BinTableHDU(Table({"id": raw["id"].to_numpy(), "note": raw["z"].to_numpy()}), name="NOTES")
    path = tmp_path / "several.fits"
    fits.HDUList([fits.PrimaryHDU(np.zeros((2, 2))), head, objects, other]).writeto(path)
    return path


@pytest.mark.parametrize("name", ["", "[2]", "[LDAC_OBJECTS]", "[ldac_objects]"])
def test_the_table_with_the_surveys_columns_is_found_or_named(several, survey, raw, name):
    source = f"{several}{name}"
    chunks = plan_chunks(source, rows_per_partition=8, columns=catalog_columns(survey))
    check_catalog(source, survey, chunks)
    ids = pd.concat([read_chunk(chunk, ["id"]) for chunk in chunks])["id"]
    assert ids.tolist() == raw["id"].tolist()


def test_without_columns_the_first_table_of_more_than_one_row_is_taken(several):
    assert list(read_fields(several))[:3] == ["id", "ra", "dec"]
    assert list(read_fields(plan_chunks(f"{several}[NOTES]")[0])) == ["id", "note"]


def test_a_table_that_is_not_there_is_refused_with_those_that_are(several):
    with pytest.raises(PopcatError, match=r'has no table "LDAC_OBJECT"; did you mean "LDAC_OBJECTS"'):
        plan_chunks(f"{several}[LDAC_OBJECT]")


def test_only_fits_files_have_tables_by_number(raw, write):
    path = write(raw, "cat[2].csv")
    assert len(plan_chunks(path)) == 1
    with pytest.raises(PopcatError, match=r"no catalogue matches .*cat\.csv\[2\]"):
        plan_chunks(path.parent / "cat.csv[2]")


@pytest.mark.parametrize("name", ["a.cat", "a.fits.fz", "a.fits.bz2", "a.fits.gz", "a.fits"])
def test_a_fits_file_is_read_whatever_it_is_called_and_however_compressed(raw, tmp_path, name):
    """Also one whose name hides that it is compressed."""
    Table.from_pandas(raw).write(tmp_path / "plain.fits")
    content = (tmp_path / "plain.fits").read_bytes()
    pack = {"a.fits.bz2": bz2.compress, "a.fits.gz": gzip.compress, "a.fits": gzip.compress}.get(name, bytes)
    content = pack(content)
    (tmp_path / name).write_bytes(content)
    pd.testing.assert_frame_equal(frame_of(tmp_path / name, list(raw), rows_per_partition=7), raw)


def test_a_table_compressed_in_tiles_is_refused_with_what_mends_it(tmp_path):
    table = fits.BinTableHDU(Table({"id": [1, 2]}))
    table.header["ZTABLE"] = True
    table.writeto(tmp_path / "a.fits.fz")
    with pytest.raises(PopcatError, match=r"compressed in tiles \(ZTABLE\).*funpack a\.fits\.fz"):
        plan_chunks(tmp_path / "a.fits.fz")


def test_a_column_that_is_there_twice_is_refused_if_the_survey_needs_it(raw, survey, tmp_path):
    Table.from_pandas(raw.assign(one=raw["z"], two=raw["z"])).write(tmp_path / "a.fits")
    path = with_cards(tmp_path / "a.fits", {"TTYPE11": "other", "TTYPE12": "other"})
    check_catalog(path, survey, plan_chunks(path, columns=catalog_columns(survey)))
    path = with_cards(path, {"TTYPE11": "z"})
    with pytest.raises(PopcatError, match=r"more than one column of the name z: .*rename"):
        plan_chunks(path, columns=catalog_columns(survey))


@pytest.mark.parametrize("kept", [3000, 4000, 6000, -1])
@pytest.mark.parametrize("suffix", ["fits", "fits.gz", "fits.bz2"])
def test_a_file_that_ends_within_its_table_is_called_truncated(raw, survey, tmp_path, kept, suffix):
    """Of a small file astropy sees the first HDU alone, and says nothing of the table."""
    Table.from_pandas(raw).write(tmp_path / "whole.fits")
    content = (tmp_path / "whole.fits").read_bytes()
    packed = {"fits": bytes, "fits.gz": gzip.compress, "fits.bz2": bz2.compress}[suffix]
    cut = packed(content[:kept]) if kept > 0 else packed(content)[: len(packed(content)) // 2]
    (tmp_path / f"a.{suffix}").write_bytes(cut)
    with pytest.raises(PopcatError, match=rf"a\.{suffix}.* truncated"):
        read_catalog(tmp_path / f"a.{suffix}", survey)

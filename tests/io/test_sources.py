"""Chunks of a catalogue file: they cover it once, in order, whatever the format."""

import os
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from popcat.catalog.parts import OutputFolder
from popcat.errors import PopcatError
from popcat.io.sources import plan_chunks, read_chunk, read_fields, whole_files

FORMATS = ["cat.parquet", "cat.csv", "cat.fits", "cat.fits.gz"]


@pytest.mark.parametrize("rows", [1, 3, 5, 20, 2500])
@pytest.mark.parametrize("name", FORMATS)
def test_chunks_cover_every_row_once_in_order(raw, write, name, rows):
    chunks = plan_chunks(write(raw, name), rows_per_partition=rows)
    frames = [read_chunk(chunk, list(raw)) for chunk in chunks]
    assert [chunk.index for chunk in chunks] == list(range(len(chunks))) == list(range(-(-len(raw) // rows)))
    assert all(len(frame) <= rows for frame in frames)
    pd.testing.assert_frame_equal(pd.concat(frames, ignore_index=True), raw, check_exact=True)


@pytest.mark.parametrize("name", FORMATS)
def test_only_the_columns_asked_for_come_in_their_order_and_native(raw, write, name):
    frame = read_chunk(plan_chunks(write(raw, name))[0], ["f_r", "id"])
    assert list(frame) == ["f_r", "id"]
    assert all(dtype.isnative for dtype in frame.dtypes)


@pytest.mark.parametrize("name", FORMATS)
def test_chunks_are_small_pickles(raw, write, name):
    chunk = plan_chunks(write(raw, name), rows_per_partition=3)[2]
    assert len(pickle.dumps(chunk)) < 1000
    assert pickle.loads(pickle.dumps(chunk)) == chunk


def test_a_folder_is_read_in_the_order_of_its_names_without_hidden_files(raw, write, tmp_path):
    write(raw[12:].reset_index(drop=True), "folder/b.parquet")
    write(raw[:12], "folder/a.parquet")
    for hidden in ("folder/_metadata.parquet", "folder/.part.parquet", "folder/_popcat/c.parquet"):
        write(raw, hidden)
    chunks = plan_chunks(tmp_path / "folder", rows_per_partition=5)
    assert [chunk.stop - chunk.start for chunk in chunks] == [5, 5, 2, 5, 3]
    ids = pd.concat([read_chunk(chunk, ["id"]) for chunk in chunks], ignore_index=True)["id"]
    assert ids.tolist() == raw["id"].tolist()


def test_one_chunk_a_file_holds_the_same_rows(raw, write):
    chunks = whole_files(plan_chunks(write(raw), rows_per_partition=3))
    assert len(chunks) == 1
    assert read_chunk(chunks[0], ["id"])["id"].tolist() == raw["id"].tolist()


def test_a_chunk_inside_a_huge_row_group_is_read_from_its_middle(tmp_path):
    n = 150_000
    pq.write_table(pa.table({"id": np.arange(n)}), tmp_path / "a.parquet", row_group_size=n)
    chunk = plan_chunks(tmp_path / "a.parquet", rows_per_partition=50_000)[1]
    assert read_chunk(chunk, ["id"])["id"].tolist() == list(range(50_000, 100_000))


def test_a_pandas_index_stored_in_parquet_stays_a_column(raw, tmp_path):
    raw.set_index("id").to_parquet(tmp_path / "a.parquet")
    frame = read_chunk(plan_chunks(tmp_path / "a.parquet")[0], ["id", "z"])
    assert frame["id"].tolist() == raw["id"].tolist()
    assert frame.index.tolist() == list(range(len(raw)))


CSV = {
    "trailing commas": "id,z\n1,0.1,\n2,0.2,\n3,0.3,\n",
    "blank lines": "\nid,z\n1,0.1\n\n2,0.2\n   \n3,0.3\n\n",
    "carriage returns": "id,z\r\n1,0.1\r\n2,0.2\r\n3,0.3\r\n",
    "no last newline": "id,z\n1,0.1\n2,0.2\n3,0.3",
    "spaces": "id, z\n1, 0.1\n2, 0.2\n3, 0.3\n",
    "a byte-order mark": "\ufeffid,z\n1,0.1\n2,0.2\n3,0.3\n",
    "quoted line breaks": 'id,note,z\n1,"a\nb",0.1\n2,"c\n\nd",0.2\n3,e,0.3\n',
}


@pytest.mark.parametrize("case", CSV)
def test_csv_is_cut_between_rows(tmp_path, case):
    path = tmp_path / "a.csv"
    path.write_bytes(CSV[case].encode())
    chunks = plan_chunks(path, rows_per_partition=2)
    ids, z = (pd.concat([read_chunk(chunk, [name]) for chunk in chunks])[name] for name in ("id", "z"))
    assert [(chunk.start, chunk.stop) for chunk in chunks] == [(0, 2), (2, 3)]
    assert ids.tolist() == [1, 2, 3]
    assert z.tolist() == [0.1, 0.2, 0.3]


def test_fits_nulls_of_integer_columns_and_scaled_columns_have_their_values(tmp_path):
    from astropy.io import fits

    columns = [fits.Column("id", "K", array=[1, 2, 3]), fits.Column("n", "J", null=-99, array=[5, -99, 6]),
               fits.Column("u", "J", bzero=2**31, array=np.array([2**31 + 5, 1, 2], dtype="u4"))]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "a.fits")
    frame = read_chunk(plan_chunks(tmp_path / "a.fits", rows_per_partition=2)[0], ["id", "n", "u"])
    assert frame["n"].tolist()[0] == 5 and pd.isna(frame["n"][1])
    assert frame["u"].tolist() == [2**31 + 5, 1]


def test_a_chunk_of_a_fits_file_larger_than_memory_costs_only_its_rows(tmp_path):
    """A sparse file of 40 GB: rows of zeros that take no disk."""
    import tracemalloc

    from astropy.io import fits

    columns = [fits.Column("id", "K"), fits.Column("wide", "990E"), fits.Column("z", "D")]
    fits.BinTableHDU.from_columns(columns, nrows=1).writeto(tmp_path / "big.fits")
    rows, width = 10**7, 8 + 990 * 4 + 8
    with fits.open(tmp_path / "big.fits", mode="update") as hdus:
        start = hdus[1].fileinfo()["datLoc"]
    content = bytearray((tmp_path / "big.fits").read_bytes())
    card = content.index(b"NAXIS2  =")
    content[card:card + 30] = b"NAXIS2  = %20d" % rows
    (tmp_path / "big.fits").write_bytes(content)
    os.truncate(tmp_path / "big.fits", -(-(start + rows * width) // 2880) * 2880)
    chunks = plan_chunks(tmp_path / "big.fits", rows_per_partition=2500)
    tracemalloc.start()
    frame = read_chunk(chunks[-1], ["id", "z", "wide[989]"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(chunks) == 4000 and len(frame) == 2500 and (frame == 0).all(axis=None)
    assert peak < 60e6


def test_a_hats_catalogue_is_read_by_its_pixels_and_nothing_beside_them(raw, write, tmp_path):
    pixels = {"Norder=1/Dir=0/Npix=9": raw[:8], "Norder=1/Dir=0/Npix=10": raw[8:15], "Norder=2/Dir=0/Npix=3": raw[15:]}
    for name, part in pixels.items():
        write(part.reset_index(drop=True), f"hats/dataset/{name}.parquet")
    write(raw, "hats/dataset/data_thumbnail.parquet")
    write(raw, "hats/dataset/_metadata.parquet")
    (tmp_path / "hats" / "hats.properties").write_text("dataproduct_type=object\n")
    chunks = plan_chunks(tmp_path / "hats")
    frame = pd.concat([read_chunk(chunk, list(raw)) for chunk in chunks], ignore_index=True)
    pd.testing.assert_frame_equal(frame, raw)


def test_a_hats_catalogue_without_pixels_is_refused(tmp_path):
    (tmp_path / "hats" / "dataset").mkdir(parents=True)
    (tmp_path / "hats" / "hats.properties").touch()
    with pytest.raises(PopcatError, match="says that it is a HATS catalogue, but holds no"):
        plan_chunks(tmp_path / "hats")


@pytest.mark.parametrize("content", ["<VOTABLE", "no xml", '<?xml version="1.0"?><VOTABLE version="1.4"></VOTABLE>'])
def test_a_file_that_is_no_votable_is_refused_by_name(tmp_path, content):
    (tmp_path / "a.vot").write_text(content)
    with pytest.raises(PopcatError, match=r"a\.vot"):
        plan_chunks(tmp_path / "a.vot")


def test_an_ecsv_file_states_its_units_and_its_delimiter(tmp_path):
    from astropy.table import Table

    table = Table({"id": [1, 2, 3], "f r": [1.0, 2.5, 3.0]}, units={"f r": "nJy"})
    for delimiter in (" ", ","):
        table.write(tmp_path / "a.ecsv", delimiter=delimiter, overwrite=True)
        chunks = plan_chunks(tmp_path / "a.ecsv", rows_per_partition=2)
        assert [read_chunk(chunk, ["f r"])["f r"].tolist() for chunk in chunks] == [[1.0, 2.5], [3.0]]
        assert read_fields(tmp_path / "a.ecsv")["f r"].unit == "nJy"


def test_a_line_of_casjobs_before_the_header_is_skipped_and_a_header_that_begins_with_a_hash_is_not(tmp_path):
    (tmp_path / "a.csv").write_text("#Table1\nid,z\n1,0.5\n")
    (tmp_path / "b.csv").write_text("#id,z\n1,0.5\n")
    assert read_chunk(plan_chunks(tmp_path / "a.csv")[0], ["id"])["id"].tolist() == [1]
    assert list(read_fields(tmp_path / "b.csv")) == ["#id", "z"]


def test_integers_with_nulls_keep_all_their_digits(tmp_path):
    flags = [2**62 + 1, None, 3]
    pq.write_table(pa.table({"id": [1, 2, 3], "flags": pa.array(flags, pa.int64())}), tmp_path / "a.parquet")
    frame = read_chunk(plan_chunks(tmp_path / "a.parquet")[0], ["flags", "flags & 1 == 1"])
    assert frame["flags"][0] == 2**62 + 1 and pd.isna(frame["flags"][1])
    assert frame["flags & 1 == 1"].tolist() == [True, False, True]


def test_a_column_whose_name_reads_like_an_expression_is_that_column(tmp_path):
    pd.DataFrame({"mag-g": [1.0], "mag": [5.0], "g": [2.0]}).to_csv(tmp_path / "a.csv", index=False)
    frame = read_chunk(plan_chunks(tmp_path / "a.csv")[0], ["mag-g", "mag - g"])
    assert frame.iloc[0].tolist() == [1.0, 3.0]


def test_the_first_table_of_a_fits_file_is_taken(raw, tmp_path):
    from astropy.io import fits
    from astropy.table import Table

    image, table = fits.ImageHDU(np.zeros((2, 2))), fits.BinTableHDU(Table.from_pandas(raw))
    fits.HDUList([fits.PrimaryHDU(), image, table]).writeto(tmp_path / "a.fit")
    assert len(plan_chunks(tmp_path / "a.fit", rows_per_partition=7)) == 3


def test_a_missing_catalogue_is_refused(tmp_path):
    with pytest.raises(PopcatError, match=r"no catalogue .*a\.parquet"):
        plan_chunks(tmp_path / "a.parquet")


def test_a_folder_without_parquet_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(PopcatError, match="holds no Parquet, CSV, FITS or VOTable file"):
        plan_chunks(tmp_path)


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path):
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(PopcatError, match=r"unknown format.*\.parquet.*\.csv.*\.fits"):
        plan_chunks(tmp_path / "a.xlsx")


@pytest.mark.parametrize("name", ["a.parquet", "a.fits", "a.fits.gz"])
@pytest.mark.parametrize("content", [b"", b"not a table at all" * 300])
def test_a_corrupt_file_is_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PopcatError, match=f"cannot read .*{name}"):
        plan_chunks(tmp_path / name)


@pytest.mark.parametrize("name", ["cat.parquet", "cat.fits", "cat.fits.gz"])
def test_a_truncated_file_is_refused(raw, write, name):
    path = write(pd.concat([raw] * 50), name)
    path.write_bytes(path.read_bytes()[:-len(path.read_bytes()) // 2])
    with pytest.raises(PopcatError, match=r"cannot read|truncated"):
        plan_chunks(path)


@pytest.mark.parametrize("text", ["", "id,z\n"])
def test_a_catalogue_without_rows_is_refused(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(PopcatError, match="has no rows"):
        plan_chunks(tmp_path / "a.csv")


def test_a_fits_file_without_a_table_is_refused(tmp_path):
    from astropy.io import fits

    fits.PrimaryHDU(np.zeros((2, 2))).writeto(tmp_path / "a.fits")
    with pytest.raises(PopcatError, match=r"has no table.*PrimaryHDU"):
        plan_chunks(tmp_path / "a.fits")


def test_partitions_of_no_rows_are_refused(raw, write):
    with pytest.raises(PopcatError, match="at least 1, got 0"):
        plan_chunks(write(raw), rows_per_partition=0)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_shrinks_after_the_plan_is_noticed(raw, write, name):
    chunk = plan_chunks(write(raw, name))[0]
    write(raw[:11], name)
    with pytest.raises(PopcatError, match=r"cannot read|changed after the run was planned"):
        read_chunk(chunk, ["id"])


@pytest.mark.parametrize("name", FORMATS)
def test_a_column_that_is_not_there_is_refused(raw, write, name):
    with pytest.raises(PopcatError, match=r"cannot read .*nonesuch"):
        read_chunk(plan_chunks(write(raw, name))[0], ["id", "nonesuch"])


def test_an_unfinished_output_is_no_input(tmp_path):
    folder = OutputFolder.open(tmp_path / "out", {}, 2, kind="demo")
    folder.write_part(0, pa.table({"id": [1]}))
    with pytest.raises(PopcatError, match="1 of 2 parts are done"):
        plan_chunks(tmp_path / "out")

"""Chunks of a catalogue file: they cover it once, in order, whatever the format."""

import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from popcat.catalog.partitions import OutputFolder
from popcat.catalog.sources import plan_chunks, read_chunk, whole_files
from popcat.errors import PopcatError

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
    assert frame["n"].tolist()[0] == 5 and np.isnan(frame["n"][1])
    assert frame["u"].tolist() == [2**31 + 5, 1]


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
    with pytest.raises(PopcatError, match="holds no Parquet file"):
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
    with pytest.raises(PopcatError, match=r"has no binary table.*PrimaryHDU"):
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

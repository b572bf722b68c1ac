"""Which files a source names: folders of any format, columns in names of folders, what is left out, parts of many."""

import pickle

import numpy as np
import pandas as pd
import pytest

from popcat.errors import CatalogWarning, PopcatError
from popcat.io.checking import check_catalog
from popcat.io.reading import read_catalog, read_partition, read_pieces
from popcat.io.sources import parts_of_chunks, plan_chunks, read_chunk, read_fields, remarks_on


def ids_of(chunks):
    return pd.concat([read_chunk(chunk, ["id"]) for chunk in chunks])["id"].tolist()


@pytest.mark.parametrize("suffix", [".csv", ".fits", ".parquet"])
def test_a_folder_of_files_of_any_format_is_a_catalogue(raw, write, tmp_path, suffix):
    for number in range(3):
        write(raw[number::3].reset_index(drop=True), f"sky/part-{number}{suffix}")
    (tmp_path / "sky" / "README.txt").write_text("what these files are")
    assert sorted(ids_of(plan_chunks(tmp_path / "sky"))) == sorted(raw["id"])
    assert sorted(ids_of(plan_chunks(str(tmp_path / "sky" / f"*{suffix}")))) == sorted(raw["id"])


def test_the_parts_that_dask_writes_as_csv_are_a_catalogue(raw, tmp_path):
    (tmp_path / "cat.csv").mkdir()
    for number in range(2):
        raw[number::2].to_csv(tmp_path / "cat.csv" / f"{number}.part", index=False)
    assert sorted(ids_of(plan_chunks(tmp_path / "cat.csv"))) == sorted(raw["id"])


def test_what_lies_beside_parquet_in_a_folder_is_left_out_and_said(raw, write, tmp_path):
    write(raw, "sky/a.parquet")
    write(raw, "sky/b.csv")
    chunks = plan_chunks(tmp_path / "sky")
    assert ids_of(chunks) == raw["id"].tolist()
    (line,) = remarks_on(tmp_path / "sky", chunks)
    assert "b.csv left out" in line


def test_an_empty_file_of_a_folder_is_refused_by_name(raw, write, tmp_path):
    """It may be what is left of a transfer that broke off: to leave it out would lose galaxies."""
    write(raw, "sky/a.parquet")
    (tmp_path / "sky" / "b.parquet").touch()
    with pytest.raises(PopcatError, match=r"cannot read .*b\.parquet: it has no rows, not even one byte"):
        plan_chunks(tmp_path / "sky")


def test_a_folder_of_several_formats_without_parquet_is_refused(raw, write, tmp_path):
    write(raw, "sky/a.fits")
    write(raw, "sky/b.csv")
    with pytest.raises(PopcatError, match=r"files of several formats \(1 FITS, 1 CSV\): name those that are meant"):
        plan_chunks(tmp_path / "sky")


def test_columns_in_the_names_of_folders_are_columns(raw, write, tmp_path):
    for tile in range(3):
        write(raw[tile::3].reset_index(drop=True), f"sky/tile={tile}/field=A%20B/x.parquet")
    chunks = plan_chunks(tmp_path / "sky")
    assert [read_fields(chunk)["tile"].kind for chunk in chunks] == ["integer"] * 3
    frame = pd.concat([read_chunk(chunk, ["tile", "id", "tile == 1", "field"]) for chunk in chunks])
    assert frame["tile"].tolist() == np.repeat([0, 1, 2], [7, 7, 6]).tolist()
    assert (frame["tile == 1"] == (frame["tile"] == 1)).all() and set(frame["field"]) == {"A B"}
    assert read_chunk(chunks[2], ["tile"])["tile"].tolist() == [2] * 6


def test_a_column_of_the_file_is_taken_before_one_of_a_folder(raw, write, tmp_path):
    write(raw.assign(tile=5), "sky/tile=1/x.parquet")
    assert set(read_chunk(plan_chunks(tmp_path / "sky")[0], ["tile"])["tile"]) == {5}


def test_an_index_that_pandas_has_named_is_a_column(raw, tmp_path):
    frame = raw.drop(columns="id").set_index(pd.RangeIndex(1000, 1000 + 7 * len(raw), 7, name="id"))
    frame.to_parquet(tmp_path / "a.parquet")
    chunks = plan_chunks(tmp_path / "a.parquet", rows_per_partition=6)
    assert ids_of(chunks) == list(range(1000, 1000 + 7 * len(raw), 7))
    assert read_fields(tmp_path / "a.parquet")["id"].kind == "integer"
    assert list(read_chunk(chunks[1], ["z", "id"])) == ["z", "id"]


def test_a_tilde_is_the_home_folder(raw, write, monkeypatch):
    path = write(raw)
    monkeypatch.setenv("HOME", str(path.parent))
    assert ids_of(plan_chunks("~/cat.parquet")) == ids_of(plan_chunks("~/*.parquet")) == raw["id"].tolist()


@pytest.mark.parametrize("source", ["gs://bucket/cat.parquet", "https://host/cat.fits"])
def test_an_address_is_refused_in_one_line(source):
    with pytest.raises(PopcatError, match=r"popcat knows no URLs of (gs|https)://; expected s3://BUCKET/NAME"):
        plan_chunks(source)


def test_an_overflow_of_the_query_is_said(tmp_path):
    table = ('<?xml version="1.0"?><VOTABLE version="1.4"><RESOURCE type="results">{}<TABLE><FIELD name="id" '
             'datatype="long"/><DATA><TABLEDATA><TR><TD>1</TD></TR></TABLEDATA></DATA></TABLE>{}</RESOURCE></VOTABLE>')
    ok, overflow = (f'<INFO name="QUERY_STATUS" value="{value}"/>' for value in ("OK", "OVERFLOW"))
    for text, expected in ((table.format(ok, overflow), 1), (table.format(overflow, ""), 1), (table.format(ok, ""), 0)):
        (tmp_path / "a.vot").write_text(text)
        found = remarks_on(tmp_path / "a.vot", plan_chunks(tmp_path / "a.vot"))
        assert len(found) == expected and all("QUERY_STATUS OVERFLOW" in line for line in found)


def test_a_lazy_frame_warns_of_what_is_left_out(raw, write, tmp_path, survey):
    write(raw, "sky/a.parquet")
    write(raw, "sky/b.csv")
    with pytest.warns(CatalogWarning, match=r"b\.csv left out"):
        read_catalog(tmp_path / "sky", survey)


@pytest.mark.parametrize("form", ["binary", "binary2", "tabledata"])
def test_votables_without_a_number_of_rows_are_read(raw, tmp_path, form):
    from astropy.io.votable import from_table, writeto
    from astropy.table import Table

    writeto(from_table(Table.from_pandas(raw)), str(tmp_path / "a.vot"), tabledata_format=form)
    text = (tmp_path / "a.vot").read_text()
    assert "nrows" not in text
    chunks = plan_chunks(tmp_path / "a.vot", rows_per_partition=6)
    assert len(chunks) == 4 and ids_of(chunks) == raw["id"].tolist()


@pytest.fixture
def many(raw, write, tmp_path):
    """Ten files of two rows each, and one of nine."""
    for number in range(10):
        write(raw[2 * number : 2 * number + 2].reset_index(drop=True), f"sky/{number}.parquet")
    write(raw[:9].assign(id=np.arange(9)), "sky/x.parquet")
    return tmp_path / "sky"


def test_small_files_join_into_parts_in_the_order_of_the_rows(many, raw, survey):
    chunks = plan_chunks(many, rows_per_partition=5)
    parts = parts_of_chunks(chunks, 5)
    sizes = [sum(chunk.stop - chunk.start for chunk in part) for part in parts]
    assert sizes == [4, 4, 4, 4, 4, 5, 4]
    frame = pd.concat([read_partition(part, survey) for part in parts], ignore_index=True)
    assert frame["object_id"].tolist() == [*raw["id"], *range(9)]
    pieces = [(0, 1, 3), (2, 0, 1), (5, 2, 5)]
    rows = [1, 2, 8, 22, 23, 24]
    pd.testing.assert_frame_equal(read_pieces(parts, pieces, survey), frame.iloc[rows].reset_index(drop=True))
    assert pickle.loads(pickle.dumps(parts)) == parts


def test_files_of_other_types_join_without_a_loss_of_digits(raw, survey, write, tmp_path):
    kinds = {"a": np.int64, "b": np.uint64, "c": "Int64"}
    ids = {name: raw["id"][:3] + 10**18 + 10 * k for k, name in enumerate(kinds)}
    for name, kind in kinds.items():
        write(raw[:3].assign(id=ids[name].astype(kind), f_r=raw["f_r"][:3].astype("f4")), f"sky/{name}.parquet")
    (part,) = parts_of_chunks(plan_chunks(tmp_path / "sky"), 100)
    frame = read_partition(part, survey)
    assert frame["object_id"].tolist() == [value for name in kinds for value in ids[name]]


def test_a_file_by_itself_has_a_part_for_each_chunk(raw, write):
    chunks = plan_chunks(write(raw), rows_per_partition=6)
    assert parts_of_chunks(chunks, 6) == [(chunk,) for chunk in chunks]


def test_a_lazy_frame_of_many_files_has_few_partitions(many, survey):
    check_catalog(many, survey, plan_chunks(many))
    frame = read_catalog(many, survey, rows_per_partition=100)
    assert frame.npartitions == 1 and len(frame) == 29
    listed = read_catalog([str(file) for file in sorted(many.iterdir())], survey, rows_per_partition=100)
    pd.testing.assert_frame_equal(frame.compute(), listed.compute())


TABLES = {
    "b.txt": "id z\n1 0.1\n2 0.2\n", "b.dat": "# id z\n1 0.1\n2 0.2\n", "b.cat": "id,z\n1,0.1\n",
    "b.tbl": "|id |z  |\n 1 0.1\n",
    "b.mrt": "Byte-by-byte Description of file: a\n", "b.xml": '<?xml version="1.0"?><VOTABLE/>',
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_text_table_in_a_folder_is_left_out_and_said(raw, write, tmp_path, name, suffix):
    write(raw, f"sky/a{suffix}")
    (tmp_path / "sky" / name).write_text(TABLES[name])
    (line,) = remarks_on(tmp_path / "sky", plan_chunks(tmp_path / "sky"))
    assert f"{name} left out" in line and "name them too" in line


NOTES = {"README.txt": "What these files are.\nSeen in 2024, 20 galaxies.\n", "log.txt": "", "a.xml": "<html/>"}


@pytest.mark.parametrize("name", NOTES)
def test_notes_in_a_folder_are_no_tables(raw, write, tmp_path, name):
    write(raw, "sky/a.csv")
    (tmp_path / "sky" / name).write_text(NOTES[name])
    assert remarks_on(tmp_path / "sky", plan_chunks(tmp_path / "sky")) == []


@pytest.mark.parametrize("name", ["b.parquet", "b.txt"])
def test_a_link_to_nothing_in_a_folder_is_refused(raw, write, tmp_path, name):
    write(raw, "sky/a.parquet")
    (tmp_path / "sky" / name).symlink_to(tmp_path / "gone")
    with pytest.raises(PopcatError, match=rf"{name}: expected a file, got a link to .*gone, which is not there"):
        plan_chunks(tmp_path / "sky")


def test_a_linked_folder_is_said(raw, write, tmp_path):
    write(raw, "sky/a.parquet")
    write(raw, "more/b.parquet")
    (tmp_path / "sky" / "more").symlink_to(tmp_path / "more")
    chunks = plan_chunks(tmp_path / "sky")
    (line,) = remarks_on(tmp_path / "sky", chunks)
    assert len(chunks) == 1 and "more left out, because links to folders are not followed" in line


@pytest.mark.parametrize("source, got", [
    (None, "got NoneType"), (3, "got int"), ([{"id": 1}], "got a list of dict"), ({"id": [1]}, "got dict"),
    (pd.DataFrame({"id": [1]}), "got DataFrame"), ([None], "got a list of NoneType")])  # fmt: skip
def test_what_is_no_path_is_refused_with_what_is_taken(survey, source, got):
    with pytest.raises(PopcatError, match=f"source: expected a path, a glob or a list of paths, {got}"):
        read_catalog(source, survey)

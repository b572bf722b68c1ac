"""Text tables as people write them: separators, decimal commas, encodings, quotes, headers in comments, IPAC, CDS."""

import gzip
import re

import pandas as pd
import pytest

from popcat.errors import CatalogWarning, PopcatError
from popcat.io.checking import check_catalog
from popcat.io.reading import read_catalog
from popcat.io.sources import plan_chunks, read_chunk, read_fields

HEADER = "id,f_r,note"
ROWS = ["1237648700000000001,1.5,Möller", "1237648700000001002,-2.5,b", "1237648700000002003,3.25,c"]
TABLE = "\n".join([HEADER, *ROWS]) + "\n"
IDS, FLUXES = [1237648700000000001, 1237648700000001002, 1237648700000002003], [1.5, -2.5, 3.25]

WRITTEN = {
    "semicolon.csv": TABLE.replace(",", ";").encode(),
    "tab.csv": TABLE.replace(",", "\t").encode(),
    "tab.tsv": TABLE.replace(",", "\t").encode(),
    "pipe.csv": TABLE.replace(",", "|").encode(),
    "spaces.txt": TABLE.replace(",", "   ").encode(),
    "indented.dat": "\n".join("  " + line for line in TABLE.replace(",", " ").splitlines()).encode(),
    "decimal_comma.csv": TABLE.replace(",", ";").replace(".", ",").encode(),
    "utf16.csv": TABLE.encode("utf-16"),
    "latin1.csv": TABLE.encode("latin-1"),
    "byte_order_mark.csv": TABLE.encode("utf-8-sig"),
    "carriage_returns.csv": TABLE.replace("\n", "\r").encode(),
    "zipped.csv.gz": gzip.compress(TABLE.encode()),
    "topcat.txt": ("# made by someone\n# " + TABLE.replace(",", " ")).encode(),
    "sextractor.cat": ("#   1 id    Identifier\n#   2 f_r   Flux, total   [nanomaggy]\n#   3 note\n"
                       + "\n".join(ROWS).replace(",", "  ")).encode(),
    "part.part": TABLE.encode(),
}  # fmt: skip


def frame_of(path, names, rows=2):
    return pd.concat([read_chunk(chunk, names) for chunk in plan_chunks(path, rows_per_partition=rows)])


@pytest.mark.parametrize("name", WRITTEN)
def test_a_text_table_is_read_however_it_is_written(tmp_path, name):
    (tmp_path / name).write_bytes(WRITTEN[name])
    frame = frame_of(tmp_path / name, ["id", "f_r"])
    assert frame["id"].tolist() == IDS
    assert frame["f_r"].tolist() == FLUXES
    fields = read_fields(tmp_path / name)
    assert list(fields) == ["id", "f_r", "note"] and [fields[one].kind for one in ("id", "f_r")] == ["integer", "float"]


def test_the_header_of_sextractor_states_units_and_vectors(tmp_path):
    text = "#   1 NUMBER\n#   2 FLUX_APER    Flux vector    [count]\n#   5 FLAGS\n1 1.0 2.0 3.0 0\n2 4.0 5.0 6.0 0\n"
    (tmp_path / "a.cat").write_text(text)
    fields = read_fields(tmp_path / "a.cat")
    assert list(fields) == ["NUMBER", "FLUX_APER", "FLUX_APER_1", "FLUX_APER_2", "FLAGS"]
    assert fields["FLUX_APER"].unit == "count"
    assert frame_of(tmp_path / "a.cat", ["FLUX_APER_2"])["FLUX_APER_2"].tolist() == [3.0, 6.0]


QUOTES = {
    "one": "id,z,note\n1,0.1,ok\n2,0.2,3.5\" aperture\n3,0.3,ok\n",
    "two, rows apart": "id,z,note\n1,0.1,7\" x\n2,0.2,ok\n3,0.3,3.5\" y\n",
    "proper ones too": 'id,z,note\n1,0.1,"a ""b"", c"\n2,0.2,3" x\n3,0.3,"d\ne"\n',
}


@pytest.mark.parametrize("case", QUOTES)
def test_a_quote_inside_a_value_is_part_of_it(tmp_path, case):
    (tmp_path / "a.csv").write_text(QUOTES[case])
    assert frame_of(tmp_path / "a.csv", ["id", "z"])["id"].tolist() == [1, 2, 3]


def test_a_quote_that_opens_a_value_and_never_closes_is_refused_with_its_line(tmp_path):
    (tmp_path / "a.csv").write_text('id,z,note\n1,0.1,ok\n2,0.2,"x\n3,0.3,ok\n')
    with pytest.raises(PopcatError, match=r"a\.csv: a quote .* opens in line 3 .*never closed"):
        plan_chunks(tmp_path / "a.csv")


def test_a_row_of_more_values_than_columns_is_refused_with_its_line(tmp_path):
    """A comma in a name shifts every value behind it."""
    (tmp_path / "a.csv").write_text("id,name,z\n1,a,0.1\n2,Miller, J.,0.2\n3,c,0.3,,\n")
    with pytest.raises(PopcatError, match=r"a\.csv: line 3 after the comments has 4 values, expected 3"):
        frame_of(tmp_path / "a.csv", ["id"])


def test_a_row_of_more_values_between_blanks_is_refused_not_cut(tmp_path):
    (tmp_path / "a.txt").write_text("id z\n1 0.1 0.3\n2 0.2 0.3\n")
    with pytest.raises(PopcatError, match=r"a\.txt, rows 1 to 2: they have more values than the header has names"):
        frame_of(tmp_path / "a.txt", ["id", "z"])


def test_a_file_that_ends_within_a_line_is_read_and_said(raw, survey, tmp_path):
    raw.to_csv(tmp_path / "a.csv", index=False)
    content = (tmp_path / "a.csv").read_bytes()
    (tmp_path / "a.csv").write_bytes(content[:-5])  # the last number loses digits: nothing else shows it
    with pytest.warns(CatalogWarning, match=r"a\.csv ends within a line"):
        read_catalog(tmp_path / "a.csv", survey)


DAMAGED_TEXT = {
    "a.ecsv": b"# %ECSV 1.0\n# ---\n# datatype:\n# - {name: id, datat\nid\n1\n",
    "b.ecsv": b"# %ECSV 1.0\n# ---\n# datatype: [id, z]\nid z\n1 0.1\n",
    "c.csv": b"id,z\r1,0.1\r\n2,\r\r0.2\n\r",
    "d.csv.gz": gzip.compress(b"id,\rz\n1,2\r\n")[:-3],
}


@pytest.mark.parametrize("name", DAMAGED_TEXT)
def test_a_damaged_text_table_is_an_error_in_words(raw, survey, tmp_path, name):
    (tmp_path / name).write_bytes(DAMAGED_TEXT[name])
    with pytest.raises(PopcatError, match=re.escape(name)):
        read_catalog(tmp_path / name, survey)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_an_encoding_that_nothing_says_is_named_as_the_cause(raw, survey, tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes(raw.to_csv(index=False).encode(encoding))
    with pytest.raises(PopcatError, match=r"a\.csv: it holds bytes of value 0.*Save it as UTF-8"):
        read_catalog(tmp_path / "a.csv", survey)


FAILED_QUERY = """<?xml version="1.0"?>
<VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE type="results">
<INFO name="QUERY_STATUS" value="ERROR">Field "redshft"
not found</INFO></RESOURCE></VOTABLE>
"""


def test_the_error_of_a_server_is_quoted(tmp_path, survey):
    (tmp_path / "a.vot").write_text(FAILED_QUERY)
    said = r"a\.vot holds no answer but the server's error: Field \"redshft\" not found"
    with pytest.raises(PopcatError, match=said):
        read_catalog(tmp_path / "a.vot", survey)


def test_integers_with_blanks_keep_all_their_digits(tmp_path):
    (tmp_path / "a.csv").write_text("id,flags,z\n1,9007199254740993,0.5\n2,,\n3,4,\n")
    frame = frame_of(tmp_path / "a.csv", ["flags", "z"], rows=10)
    assert frame["flags"][0] == 9007199254740993 and pd.isna(frame["flags"][1])
    assert frame["z"].isna().tolist() == [False, True, True]


def test_a_blank_identifier_is_refused_with_its_row(raw, survey, tmp_path):
    raw["id"] = raw["id"].astype("Int64").mask(raw.index == 8)
    raw.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(PopcatError, match=r"a\.csv: row 9, counted from 1, has no identifier"):
        check_catalog(tmp_path / "a.csv", survey, plan_chunks(tmp_path / "a.csv", rows_per_partition=5))


IPAC = """\\fixlen = T
|        id|      f_r|
|      long|   double|
|          |      Jy |
|      null|     null|
 123456789     1.5000
 123456790       null
"""
CDS = """Title: A table
================================================================================
Byte-by-byte Description of file: table.dat
--------------------------------------------------------------------------------
   Bytes Format Units  Label  Explanations
--------------------------------------------------------------------------------
   1-  9 I9     ---    id     Identifier
  11- 16 F6.4   Jy     f_r    ?=- Flux
--------------------------------------------------------------------------------
123456789 1.5000
123456790    -
"""


@pytest.mark.parametrize("name, text", [("a.tbl", IPAC), ("a.txt", CDS), ("a.mrt", CDS)])
def test_tables_of_irsa_and_the_cds_are_read_with_units_and_nulls(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    frame = frame_of(tmp_path / name, ["id", "f_r"], rows=1)
    assert frame["id"].tolist() == [123456789, 123456790]
    assert frame["f_r"].isna().tolist() == [False, True]
    assert read_fields(tmp_path / name)["f_r"].unit == "Jy"


def test_a_text_table_too_large_to_be_read_whole_is_refused_with_what_mends_it(tmp_path, monkeypatch):
    monkeypatch.setattr("popcat.io.ascii_files.MAX_BYTES", 100)
    (tmp_path / "a.tbl").write_text(IPAC)
    with pytest.raises(PopcatError, match="convert it to Parquet or FITS first"):
        plan_chunks(tmp_path / "a.tbl")

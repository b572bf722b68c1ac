"""Lines of a text table that are no rows, marks for nothing, and texts among numbers: refused by row, or read."""

import numpy as np
import pandas as pd
import pytest

from popcat.errors import PopcatError
from popcat.io.checking import check_catalog
from popcat.io.reading import read_catalog
from popcat.io.sources import plan_chunks, read_chunk, read_fields


def lines_of(raw):
    return raw.to_csv(index=False).splitlines()


def with_cell(lines, row, column, text):
    """Lines with another text in a row, counted from 1."""
    cells = lines[row].split(",")
    cells[lines[0].split(",").index(column)] = text
    return [*lines[:row], ",".join(cells), *lines[row + 1 :]]


def read(path, lines, survey, rows=2500):
    path.write_text("\n".join(lines) + "\n")
    return read_catalog(path, survey, rows_per_partition=rows).compute()


NO_ROWS = {
    "a comment": (lambda lines: [*lines[:7], "# a comment", *lines[7:]], 'line 8 .* has 1 value, expected 10.*"# a c'),
    "a count": (lambda lines: [*lines, "(60 rows affected)"], r"line 22 .* has 1 value, expected 10"),
    "dashes": (lambda lines: [lines[0], ",".join(["-----"] * 10), *lines[1:]], r'row 1, .* "-----".*9 other columns'),
    "the header again": (lambda lines: [*lines, *lines], r"row 21, .*the header is there again"),
    "a mark": (lambda lines: with_cell(lines, 9, "id", "--"), r"row 9, counted from 1, has no identifier"),
    "an identifier": (lambda lines: with_cell(lines, 9, "id", "x9"), r'row 9, .*column "id": .* "x9"'),
    "a cut row": (lambda lines: [*lines[:9], lines[9][:40], *lines[10:]], r"line 10 .* has \d values, expected 10"),
}


@pytest.mark.parametrize("case", NO_ROWS)
def test_a_line_that_is_no_row_is_refused_by_its_number(raw, survey, tmp_path, case):
    spoil, words = NO_ROWS[case]
    with pytest.raises(PopcatError, match=words):
        read(tmp_path / "a.csv", spoil(lines_of(raw)), survey)


def test_a_text_among_integer_identifiers_is_refused_however_late_it_comes(raw, survey, tmp_path):
    many = pd.concat([raw] * 200, ignore_index=True)
    many["id"] = np.arange(len(many)) + 10**15
    lines = with_cell(lines_of(many), 3801, "id", "x")
    with pytest.raises(PopcatError, match=r'a\.csv: row 3,801, counted from 1, column "id": expected numbers.*"x"'):
        read(tmp_path / "a.csv", lines, survey, rows=500)
    with pytest.raises(PopcatError, match=r'row 3,801, counted from 1, column "f_r": expected numbers.*"bad"'):
        read(tmp_path / "a.csv", with_cell(lines_of(many), 3801, "f_r", "bad"), survey, rows=500)


def test_identifiers_of_which_many_are_text_are_text(raw, survey, tmp_path):
    raw["id"] = [str(number) if number % 2 else f"J{number}" for number in range(len(raw))]
    assert read(tmp_path / "a.csv", lines_of(raw), survey)["object_name"].tolist() == raw["id"].tolist()


@pytest.mark.parametrize("mark", ["--", "-", r"\N", "?", "na", "NULL", "...", "masked"])
@pytest.mark.parametrize("rows", [3, 2500])
def test_a_mark_for_nothing_among_numbers_is_a_missing_value(raw, survey, tmp_path, mark, rows):
    expected = read(tmp_path / "a.csv", with_cell(lines_of(raw), 9, "f_g", ""), survey)
    got = read(tmp_path / "b.csv", with_cell(lines_of(raw), 9, "f_g", mark), survey, rows)
    pd.testing.assert_frame_equal(got.reset_index(drop=True), expected.reset_index(drop=True))
    assert got["flux_g"].isna().sum() == 1


def test_integers_beside_a_mark_keep_all_their_digits(tmp_path):
    (tmp_path / "a.csv").write_text("id,flags\n1,9007199254740993\n2,--\n3,4\n")
    flags = read_chunk(plan_chunks(tmp_path / "a.csv")[0], ["flags"])["flags"]
    assert flags[0] == 9007199254740993 and pd.isna(flags[1])
    assert read_fields(tmp_path / "a.csv")["flags"].kind == "integer"


def test_exponents_of_fortran_are_numbers(tmp_path):
    (tmp_path / "a.csv").write_text("id,f\n1,1.5D+03\n2,-2d-1\n3,4.\n")
    assert read_chunk(plan_chunks(tmp_path / "a.csv")[0], ["f"])["f"].tolist() == [1500.0, -0.2, 4.0]


ODD = {'"1,234.5"': "leave out the commas between thousands", "<3.2": "a limit is no value", "bad": "correct the value"}


@pytest.mark.parametrize("text", ODD)
def test_a_text_among_numbers_is_named_with_its_row(raw, survey, tmp_path, text):
    with pytest.raises(PopcatError, match=f'row 9, .*column "f_g": .*{ODD[text]}'):
        read(tmp_path / "a.csv", with_cell(lines_of(raw), 9, "f_g", text), survey)


def test_a_text_in_a_column_that_no_one_reads_or_compares_as_text_is_no_fault(raw, survey, tmp_path):
    raw = raw.assign(note="1", kind="2")
    lines = with_cell(with_cell(lines_of(raw), 9, "note", "x"), 9, "kind", "A")
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    survey = survey.model_copy(update={"quality": ('kind != "A"',)})
    check_catalog(tmp_path / "a.csv", survey, plan_chunks(tmp_path / "a.csv"))
    assert (read_catalog(tmp_path / "a.csv", survey).compute()["flags"] > 0).sum() == 1


SHORT = {"a.csv": "id,z,note\n1,0.1\n2,0.2\n",
         "a.txt": "id z note\n1 0.1\n2 0.2\n", "b.csv": 'id,"z",note\n1,"0.1"\n2,0.2'}  # fmt: skip


@pytest.mark.parametrize("name", SHORT)
def test_rows_that_are_all_equally_short_end_with_blanks(tmp_path, name):
    (tmp_path / name).write_text(SHORT[name])
    frame = read_chunk(plan_chunks(tmp_path / name)[0], ["id", "z", "note"])
    assert frame["z"].tolist() == [0.1, 0.2] and frame["note"].isna().all()


LOPSIDED = {"a.csv": "id,z,note\n1,0.1,\n2,0.2\n", "b.csv": "id,z,note\n1,0.1\n2,0.2,\n",
            "c.txt": "id z n\n1 2 3\n2 2\n", "d.csv": 'id,"z",n\n1,"0,1",x\n"2",0.2\n',
            "e.csv": "id,z,note\n1,0.1\n2\n"}  # fmt: skip


@pytest.mark.parametrize("name", LOPSIDED)
def test_a_row_of_fewer_values_than_others_is_refused_with_its_line(tmp_path, name):
    (tmp_path / name).write_text(LOPSIDED[name])
    with pytest.raises(PopcatError, match=rf"{name}: line [23] after the comments has \d values?, expected 3"):
        plan_chunks(tmp_path / name)

"""A catalogue that changes between two runs, or during one, is another: no folder mixes the two."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest

import popcat.io.content as content
from popcat.errors import PopcatError
from popcat.inference.infer import infer
from popcat.io.content import SourceFiles, source_files
from popcat.io.sources import plan_chunks
from popcat.survey import load_survey

FORMATS = ["cat.parquet", "cat.csv", "cat.fits"]
N = 3000


@pytest.fixture
def long(raw):
    """Rows of a file of some hundred kB."""
    return pd.concat([raw] * (N // len(raw)), ignore_index=True).assign(id=np.arange(N))


def digest(path, survey, known=None):
    return source_files(plan_chunks(path), survey, known).digest


def altered(frame, rows=slice(1200, 1800), name="f_r"):
    """Other numbers in the middle, of the same length in every format."""
    frame = frame.copy()
    frame.loc[frame.index[rows], name] = frame[name].to_numpy()[rows][::-1]
    return frame


@pytest.mark.parametrize("name", FORMATS)
def test_rows_in_the_middle_that_change_in_place_are_seen(long, survey, write, name):
    path = write(long, name)
    before, size = source_files(plan_chunks(path), survey), path.stat().st_size
    write(altered(long), name)
    if name != "cat.parquet":
        assert path.stat().st_size == size
    after = source_files(plan_chunks(path), survey, before)
    assert after.digest != before.digest
    assert after.changed(before) == [str(path)]


@pytest.mark.parametrize("name", FORMATS)
def test_a_copy_and_a_touched_file_are_the_same_catalogue(long, survey, write, tmp_path, name):
    path = write(long, name)
    before = digest(path, survey)
    copy = shutil.copy(path, tmp_path / f"copy_{name}")
    os.utime(path, ns=(1, 1))
    assert digest(path, survey) == digest(copy, survey) == before


def test_columns_that_the_survey_does_not_read_do_not_count_in_parquet(long, survey, write):
    path = write(long.assign(note=1.0))
    before = digest(path, survey)
    write(long.assign(note=2.0))
    assert digest(path, survey) == before


def test_a_file_that_is_as_recorded_is_not_hashed_again(long, survey, write, monkeypatch):
    path = write(long)
    before = source_files(plan_chunks(path), survey)
    again = SourceFiles.model_validate_json(before.model_dump_json())
    monkeypatch.setattr(content, "_sha256_of_columns", lambda *_: pytest.fail("hashed"))
    assert digest(path, survey, again) == before.digest


def embedded(path, rows=200):
    """Some of the embedded galaxies as CSV."""
    from importlib.resources import files

    frame = pd.read_parquet(files("popcat") / "data" / "galaxies_sdss.parquet").head(rows)
    frame.to_csv(path, index=False)
    return frame


def in_place(path, frame, row):
    """The same file with a digit of one row changed; its size stays."""
    size = path.stat().st_size
    lines = path.read_text().splitlines(keepends=True)
    at = lines[row].rindex(".") + 1
    lines[row] = lines[row][:at] + str((int(lines[row][at]) + 1) % 10) + lines[row][at + 1 :]
    path.write_text("".join(lines))
    assert path.stat().st_size == size


OPTIONS = {"draws": 5, "rows_per_partition": 50, "client": "synchronous"}


def test_a_rerun_on_a_file_that_changed_is_refused_by_name(tiny_model, tmp_path):
    path = tmp_path / "a.csv"
    frame = embedded(path)
    infer(path, tiny_model, output=tmp_path / "out", **OPTIONS)
    (tmp_path / "out" / "part-000001.parquet").unlink()
    in_place(path, frame, 120)
    with pytest.raises(PopcatError, match=r"a\.csv changed after .*out was begun.*name another folder"):
        infer(path, tiny_model, output=tmp_path / "out", **OPTIONS)


def test_a_rerun_on_a_copy_goes_on(tiny_model, tmp_path):
    path = tmp_path / "a.csv"
    embedded(path)
    infer(path, tiny_model, output=tmp_path / "out", **OPTIONS)
    (tmp_path / "out" / "part-000001.parquet").unlink()
    path.rename(tmp_path / "b.csv")
    assert len(infer(tmp_path / "b.csv", tiny_model, output=tmp_path / "out", **OPTIONS)) == 200


def test_a_file_that_changes_while_it_is_read_is_refused_by_name(tiny_model, tmp_path, monkeypatch):
    import popcat.inference.infer as module

    path = tmp_path / "a.csv"
    frame = embedded(path)
    write_parts = module.write_parts

    def written_and_changed(*arguments, **options):
        write_parts(*arguments, **options)
        in_place(path, frame, 120)

    monkeypatch.setattr(module, "write_parts", written_and_changed)
    with pytest.raises(PopcatError, match=r"a\.csv changed while it was read.*run again"):
        infer(path, tiny_model, output=tmp_path / "out", **OPTIONS)
    assert not (tmp_path / "out" / "_popcat" / "manifest.json").exists()


def test_no_part_is_made_of_a_file_that_changed_after_the_plan(tiny_model, tmp_path, monkeypatch):
    """The first parts are of the old file: none of the new one joins them, and the same command says why."""
    import popcat.inference.infer as module

    path = tmp_path / "a.csv"
    frame = embedded(path)
    write = module.write_posterior_part

    def written_and_changed(folder, index, part, request):
        rows = write(folder, index, part, request)
        if index == 1:
            in_place(path, frame, 30)
        return rows

    monkeypatch.setattr(module, "write_posterior_part", written_and_changed)
    with pytest.raises(PopcatError, match=r"2 of 4 partitions failed.*a\.csv changed after the run was planned"):
        infer(path, tiny_model, output=tmp_path / "out", **OPTIONS)
    assert sorted(part.stem for part in (tmp_path / "out").glob("part-*")) == ["part-000000", "part-000001"]
    monkeypatch.undo()
    with pytest.raises(PopcatError, match=r"a\.csv changed after .*out was begun"):
        infer(path, tiny_model, output=tmp_path / "out", **OPTIONS)


def test_a_file_whose_time_of_change_was_set_back_is_found_by_reading_it_all(tiny_model, tmp_path):
    path = tmp_path / "a.csv"
    frame, out = embedded(path), tmp_path / "out"
    infer(path, tiny_model, output=out, **OPTIONS)
    before = path.stat()
    in_place(path, frame, 120)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(PopcatError, match=r"a\.csv changed after .*out was begun"):
        infer(path, tiny_model, output=out, check=True, **OPTIONS)


def test_the_record_holds_the_columns_that_the_survey_reads(tmp_path):
    path = tmp_path / "a.csv"
    embedded(path)
    found = source_files(plan_chunks(path), load_survey("sdss"))
    assert "modelflux_r" in found.columns and "redshift" in found.columns

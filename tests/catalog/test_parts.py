"""An output folder is finished by rerunning, never holds two runs, and reads plainly."""

import errno
import hashlib
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from popcat import files
from popcat.catalog.manifest import read_manifest
from popcat.catalog.parts import OutputFolder, write_parts
from popcat.catalog.queries import open_catalog
from popcat.columns import posterior_schema, to_pandas
from popcat.errors import DiskFullError, OutputError, OutputGoneError, PopcatError
from popcat.files import write_json_atomic, write_parquet_atomic
from popcat.run.client import SYNCHRONOUS
from popcat.run.runner import How
from popcat.survey import load_survey
from popcat.timing import recording, stage

RUN = {"seed": 1, "model": {"grid": "bc03", "beta": "flat"}}
PARTS = 3


def part(index, rows=4):
    """A part of a catalogue with each kind of column, decided by its index."""
    rng = np.random.default_rng(index)
    fields = [pa.field("object_id", pa.int64()), pa.field("status", pa.string()), pa.field("flags", pa.int32()),
              pa.field("log_mstar_p50", pa.float32(), metadata={"unit": "log10(Msun)"}),
              pa.field("log_mstar_draws", pa.list_(pa.float32()), metadata={"unit": "log10(Msun)"})]
    draws = list(rng.normal(10, 1, (rows, 8)).astype("f4"))
    draws[0] = None
    columns = [np.arange(rows) + 100 * index, ["ok"] * rows, [0] * rows, rng.normal(size=rows).astype("f4"), draws]
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, fields, strict=True)],
                    pa.schema(fields, metadata={b"pandas": b"{}", b"note": b"kept"}))


@pytest.fixture
def start(tmp_path):
    """Open the folder of a run; keywords change the run."""
    def opened(fingerprint=RUN, n_parts=PARTS, kind="posterior"):
        return OutputFolder.open(tmp_path / "out", fingerprint, n_parts, kind=kind)
    return opened


@pytest.fixture
def finished(start):
    folder = start()
    for index in folder.pending():
        folder.write_part(index, part(index), {"ess": np.float32(2.5)})
    folder.finish()
    return folder


def ids(path):
    return pd.read_parquet(path)["object_id"].tolist()


WRITERS = [lambda path: write_parquet_atomic(path, part(1)), lambda path: write_json_atomic(path, {"a": 2})]
ALL_IDS = [100 * index + row for index in range(PARTS) for row in range(4)]


def test_a_new_folder_has_every_part_pending(start):
    assert start().pending() == [0, 1, 2]


def test_a_written_part_is_done_for_whoever_opens_the_run_again(start):
    start().write_part(1, part(1))
    again = start(fingerprint=dict(reversed(RUN.items())))
    assert again.is_done(1)
    assert again.pending() == [0, 2]


def test_a_worker_with_a_pickled_folder_writes_parts_of_the_run(start):
    folder = start()
    pickle.loads(pickle.dumps(folder)).write_part(2, part(2))
    assert folder.is_done(2)
    assert len(pickle.dumps(folder)) < 1000


def test_a_folder_given_by_a_relative_path_is_found_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = OutputFolder.open("out", RUN, 1, kind="posterior")
    monkeypatch.chdir("/")
    folder.write_part(0, part(0))
    assert ids(tmp_path / "out") == [0, 1, 2, 3]


def test_a_sidecar_describes_its_part(start):
    folder = start()
    sidecar = folder.write_part(0, part(0), {"n_bad": np.int64(3)})
    data = folder.part_path(0).read_bytes()
    assert (sidecar["rows"], sidecar["bytes"], sidecar["sha256"]) == (4, len(data), hashlib.sha256(data).hexdigest())
    assert sidecar["extra"] == {"n_bad": 3}


def test_the_manifest_sums_up_the_parts(finished):
    manifest = read_manifest(finished.path)
    assert [item.file for item in manifest.parts] == [f"part-{index:06d}.parquet" for index in range(PARTS)]
    assert manifest.rows == 12
    assert manifest.bytes == sum(finished.part_path(index).stat().st_size for index in range(PARTS))
    assert (manifest.kind, manifest.fingerprint) == ("posterior", RUN)


@pytest.mark.parametrize("crash", ["no sidecar", "truncated part", "missing part", "damaged sidecar", "other sidecar"])
def test_a_part_that_a_crash_left_half_done_is_done_again(start, finished, crash):
    data, sidecar = finished.part_path(1), finished.part_path(1).parent / "_popcat" / "000001.json"
    if crash == "no sidecar":
        sidecar.unlink()
    elif crash == "truncated part":
        data.write_bytes(data.read_bytes()[:-10])
    elif crash == "missing part":
        data.unlink()
    elif crash == "damaged sidecar":
        sidecar.write_text(sidecar.read_text()[:20])
    else:
        sidecar.write_text(sidecar.read_text().replace(finished.fingerprint_sha256, "0" * 64))
    again = start()
    assert again.pending() == [1]
    again.write_part(1, part(1))
    again.finish()
    assert ids(finished.path) == ALL_IDS


def flip(path, at=-20):
    """Change one byte and leave the time of change as it was, as a failing disk does."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_part_that_was_written_to_is_done_again(start, finished):
    data = bytearray(finished.part_path(1).read_bytes())
    data[-20] ^= 0xFF
    finished.part_path(1).write_bytes(data)
    assert start().pending() == [1]


def test_a_part_that_rotted_is_found_by_the_full_check_and_not_forgotten(start, finished):
    flip(finished.part_path(1), at=30)  # of a page; footers are always looked at
    assert start().pending() == []
    assert start().resume(check=True) == [1]
    assert start().pending() == [1]  # a run that is killed now must not take it for whole
    with pytest.raises(PopcatError, match="2 of 3 parts"):
        read_manifest(finished.path)


def test_a_copy_with_new_times_is_still_done(start, finished):
    for index in range(PARTS):
        os.utime(finished.part_path(index))
    assert start().resume() == []
    assert read_manifest(finished.path).rows == 12


def test_a_run_of_more_parts_than_names_is_refused(start):
    with pytest.raises(PopcatError, match="at most 1000000"):
        start(n_parts=1_000_001)


def test_a_full_disk_is_an_error_of_its_own_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.pq, "write_table", full)
    with pytest.raises(DiskFullError, match="disk is full"):
        write_parquet_atomic(tmp_path / "a.parquet", part(0))
    assert os.listdir(tmp_path) == []


def test_the_manifest_sums_up_the_seconds_of_the_stages(start):
    folder = start()
    for index in folder.pending():
        with recording("worker"):
            with stage("sample"):
                table = part(index)
            folder.write_part(index, table)
    assert set(folder.finish().stages) == {"sample", "write"}


def test_what_dead_writers_leave_is_not_read_and_goes_away(start, finished):
    folder = finished.part_path(0).parent
    leftovers = [folder / ".part-000001.deadbeef.tmp", folder / "_popcat" / ".000001.deadbeef.tmp"]
    for leftover in leftovers:
        leftover.write_bytes(b"half a file")
    assert ids(folder) == ALL_IDS
    start().finish()
    assert not any(leftover.exists() for leftover in leftovers)
    assert read_manifest(folder).rows == 12


def test_a_rerun_gives_the_same_bytes(start, finished):
    before = [item.sha256 for item in read_manifest(finished.path).parts]
    for index in range(PARTS):
        finished.write_part(index, part(index))
    assert [item.sha256 for item in start().finish().parts] == before


def test_an_unfinished_run_cannot_be_finished(start):
    folder = start()
    folder.write_part(0, part(0))
    with pytest.raises(PopcatError, match="1 of 3 parts are done; run the same command again"):
        folder.finish()


@pytest.mark.parametrize(("change", "named"), [
    ({"fingerprint": {**RUN, "seed": 2}}, r"seed \(1 there, 2 now\)"),
    ({"fingerprint": {"seed": 1, "model": {"grid": "fsps", "beta": "flat"}}},
     r"in model\.grid \('bc03' there, 'fsps' now\):"),
    ({"fingerprint": {**RUN, "survey": None}}, r"in survey \("),
    ({"n_parts": 4}, r"n_parts \(3 there, 4 now\)"),
    ({"kind": "library"}, r"posterior; this run writes library"),
])
def test_the_folder_of_another_run_is_refused_with_what_differs(start, finished, change, named):
    with pytest.raises(PopcatError, match=f"another run.*{named}.*another folder, or remove"):
        start(**change)
    assert ids(finished.path) == ALL_IDS


def test_a_folder_with_other_things_is_refused(tmp_path, start):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    with pytest.raises(PopcatError, match="not a popcat output"):
        start()
    assert os.listdir(tmp_path / "out") == ["thesis.tex"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path, start):
    (tmp_path / "out").write_text("x")
    with pytest.raises(PopcatError, match="is a file"):
        start()


def test_a_start_that_was_killed_at_once_can_be_repeated(tmp_path, start):
    (tmp_path / "out" / "_popcat").mkdir(parents=True)
    (tmp_path / "out" / "_popcat" / ".run.deadbeef.tmp").write_text("{")
    assert start().pending() == [0, 1, 2]


def test_a_damaged_run_file_is_refused(start):
    folder = start()
    (folder.part_path(0).parent / "_popcat" / "run.json").write_text("{")
    with pytest.raises(PopcatError, match=r"run\.json is damaged"):
        start()


@pytest.mark.parametrize("reader", [read_manifest, open_catalog])
def test_only_a_complete_output_is_a_catalogue(tmp_path, start, reader):
    with pytest.raises(PopcatError, match=r"not a popcat output|no catalogue"):
        reader(tmp_path)
    folder = start()
    folder.write_part(2, part(2))
    with pytest.raises(PopcatError, match="1 of 3 parts are done"):
        reader(folder.path)


def test_a_part_lost_after_the_end_is_noticed(finished):
    finished.part_path(2).unlink()
    with pytest.raises(PopcatError, match="2 of 3 parts are done"):
        open_catalog(finished.path)


def test_an_output_opens_with_its_units_and_in_the_order_of_its_parts(finished):
    catalog = open_catalog(finished.path)
    assert len(catalog) == 12
    assert catalog.to_table(["object_id"])["object_id"].to_pylist() == ALL_IDS
    assert catalog.dataset.schema.field("log_mstar_draws").metadata[b"unit"] == b"log10(Msun)"


def test_plain_pandas_and_pyarrow_read_the_folder_with_its_draws(finished):
    frame, table = pd.read_parquet(finished.path), ds.dataset(finished.path).to_table()
    expected = pa.concat_tables([part(index) for index in range(PARTS)])
    assert frame["object_id"].tolist() == table["object_id"].to_pylist() == ALL_IDS
    assert table["log_mstar_draws"].to_pylist() == expected["log_mstar_draws"].to_pylist()
    assert frame["log_mstar_draws"][0] is None
    np.testing.assert_array_equal(frame["log_mstar_draws"][5], expected["log_mstar_draws"][5].as_py())
    assert frame["log_mstar_draws"][5].dtype == np.float32


def test_the_layout_of_a_part_is_the_published_one(tmp_path):
    write_parquet_atomic(tmp_path / "a.parquet", part(0, rows=5001))
    file = pq.ParquetFile(tmp_path / "a.parquet", page_checksum_verification=True)
    group = file.metadata.row_group(0)
    columns = {group.column(index).path_in_schema: group.column(index) for index in range(group.num_columns)}
    assert [file.metadata.row_group(index).num_rows for index in range(3)] == [2500, 2500, 1]
    for name in ("log_mstar_p50", "log_mstar_draws.list.element"):
        assert "BYTE_STREAM_SPLIT" in columns[name].encodings
        assert not columns[name].has_dictionary_page
    assert columns["status"].has_dictionary_page
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert b"pandas" not in file.schema_arrow.metadata and file.schema_arrow.metadata[b"note"] == b"kept"
    assert file.read().num_rows == 5001


def test_page_checksums_catch_a_flipped_byte(tmp_path):
    path = tmp_path / "a.parquet"
    write_parquet_atomic(path, part(0, rows=2000))
    data = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(0).column(4)
    data[column.data_page_offset + column.total_compressed_size - 5] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(OSError, match="CRC"):
        pq.ParquetFile(path, page_checksum_verification=True).read()


def test_a_frame_with_arrow_dtypes_is_read_by_plain_pandas(tmp_path):
    frame = to_pandas(part(0).replace_schema_metadata())
    write_parquet_atomic(tmp_path / "a.parquet", pa.Table.from_pandas(frame, preserve_index=False))
    assert pd.read_parquet(tmp_path / "a.parquet")["log_mstar_draws"][1].shape == (8,)


def test_the_posterior_schema_survives_a_round_trip(tmp_path):
    schema = posterior_schema(load_survey("sdss"))
    write_parquet_atomic(tmp_path / "a.parquet", schema.empty_table())
    back = pq.read_schema(tmp_path / "a.parquet")
    assert back.equals(schema)
    assert [field.metadata for field in back] == [field.metadata for field in schema]


@pytest.mark.parametrize("write", WRITERS)
def test_a_writer_killed_before_the_rename_leaves_the_old_file(tmp_path, monkeypatch, write):
    def killed(*_):
        raise KeyboardInterrupt

    path = tmp_path / "a.out"
    path.write_text("old")
    monkeypatch.setattr(files.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.out"]


@pytest.mark.parametrize("write", WRITERS)
def test_a_disk_that_refuses_is_named(tmp_path, write):
    (tmp_path / "a file").write_text("x")
    with pytest.raises(PopcatError, match=r"cannot write .*a file"):
        write(tmp_path / "a file" / "a.out")


def test_what_json_cannot_say_is_refused(tmp_path):
    with pytest.raises(TypeError, match="set cannot be written"):
        write_json_atomic(tmp_path / "a.json", {"x": {1}})
    assert os.listdir(tmp_path) == []


def test_a_folder_that_vanished_is_not_begun_anew_by_its_next_part(start):
    folder = start()
    folder.write_part(0, part(0))
    shutil.rmtree(folder.path)
    with pytest.raises(OutputGoneError, match=r"the output folder .* is gone, or is not seen from"):
        folder.write_part(1, part(1))
    assert not Path(folder.path).exists()


def vanishing(folder, index):
    if index == 2:
        shutil.rmtree(folder.path)
    folder.write_part(index, part(index))


@pytest.mark.parametrize("parallel", [False, True])
def test_a_folder_that_vanishes_during_a_run_stops_it_in_one_line(tmp_path, cluster, parallel):
    folder = OutputFolder.open(tmp_path / "out", {"n": 1}, 9, kind="demo")
    how = How(cluster({})) if parallel else How(SYNCHRONOUS)
    jobs = {index: (folder, index) for index in range(9)}
    with pytest.raises(OutputGoneError, match=r"is gone.*the run has stopped.*give the same command again"):
        write_parts(folder, vanishing, jobs, [4] * 9, "writing", how)
    assert not (tmp_path / "out").exists()


def vanishing_late(folder, index):
    folder.write_part(index, part(index))
    if index == PARTS - 1:
        shutil.rmtree(folder.path)


def test_a_folder_that_vanishes_after_its_last_part_is_said_too(tmp_path):
    folder = OutputFolder.open(tmp_path / "out", {"n": 1}, PARTS, kind="demo")
    jobs = {index: (folder, index) for index in range(PARTS)}
    with pytest.raises(OutputGoneError, match="is gone"):
        write_parts(folder, vanishing_late, jobs, [4] * PARTS, "writing", How(SYNCHRONOUS))


def test_what_is_said_of_failed_parts_counts_those_that_are_written(tmp_path):
    def writing(folder, index, good):
        if index not in good:
            raise PopcatError("mend it")
        folder.write_part(index, part(index))

    folder = OutputFolder.open(tmp_path / "out", {"n": 1}, PARTS, kind="demo")
    for good, said in [
        ((), r"^3 of 3 partitions failed \(0, 1, 2\); none of 3 is written, and the same command tries the rest again"),
        ((0,), r"^2 of 3 partitions failed \(1, 2\); 1 of 3 is written, and"),
        ((1,), r"^1 of 2 partitions failed \(2\); 2 of 3 are written, and"),
    ]:
        jobs = {index: (folder, index, good) for index in folder.resume()}
        with pytest.raises(PopcatError, match=said):
            write_parts(folder, writing, jobs, [4] * PARTS, "writing", How(SYNCHRONOUS))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_folder_that_turned_read_only_is_an_error_that_stops_runs(start, monkeypatch, number):
    folder = start()

    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "replace", refused)
    with pytest.raises(OutputError, match=r"cannot write .*part-000000"):
        folder.write_part(0, part(0))

"""From files to files: what is damaged is done again, what cannot work stops cleanly, the end is always the same."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from popcat.catalog.manifest import read_manifest
from popcat.catalog.verification import verify
from popcat.errors import DiskFullError, PopcatError
from popcat.inference.infer import infer
from popcat.inference.partition import write_posterior_part
from popcat.run.client import SYNCHRONOUS

LOCAL = {"client": SYNCHRONOUS}


@pytest.fixture
def run(galaxies, tiny_model):
    """Infer the 150 galaxies in parts of 40 into a folder: its manifest."""

    def inferred(output, source=galaxies, **options):
        given = {"posterior": tiny_model, "draws": 4, "rows_per_partition": 40, **LOCAL, **options}
        return infer(source, output=output, **given).require_manifest().model_dump()

    return inferred


def digests(folder):
    return [part.sha256 for part in read_manifest(folder).parts]


def summary_of(folder):
    return json.loads((folder / "_popcat" / "summary.json").read_text())


def leftovers(folder):
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


def rot(path, position=64):
    """Flip a byte, of a page of the first column, and keep the time of change."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("damage", ["flipped", "truncated", "replaced"])
def test_a_part_that_was_spoiled_is_done_again(run, tmp_path, damage):
    out = tmp_path / "out"
    run(out)
    before, part = digests(out), out / "part-000001.parquet"
    data = bytearray(part.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 0xFF
    elif damage == "truncated":
        data = data[:-1]
    else:
        data = (out / "part-000000.parquet").read_bytes()
    part.write_bytes(data)
    run(out)
    assert digests(out) == before
    assert summary_of(out)["parts"] == {"total": 4, "kept": 3, "failed": 0}
    assert verify(out).ok


def test_a_part_that_rotted_unseen_is_done_again_by_a_full_check(run, tmp_path):
    out = tmp_path / "out"
    run(out)
    before = digests(out)
    rot(out / "part-000002.parquet")
    run(out)
    assert not verify(out).ok
    run(out, check=True)
    assert verify(out).ok
    assert digests(out) == before


def test_a_footer_that_rotted_is_seen_by_every_rerun(run, tmp_path):
    out = tmp_path / "out"
    run(out)
    before = digests(out)
    rot(out / "part-000002.parquet", position=-100)
    run(out)
    assert verify(out).ok and digests(out) == before


@pytest.mark.parametrize("parallel", [False, True])
def test_a_full_disk_stops_the_run_and_a_rerun_finishes(run, tmp_path, monkeypatch, cluster, parallel):
    real = write_posterior_part
    out, tried = tmp_path / "out", tmp_path / "tried"

    def full(folder, index, *rest):
        with open(tried, "a") as file:
            file.write("x")
        if len(tried.read_text()) > 2:
            raise DiskFullError(f"cannot write {folder.part_path(index)}: the disk is full")
        real(folder, index, *rest)

    monkeypatch.setattr("popcat.inference.infer.write_posterior_part", full)
    where = {"client": cluster({}).scheduler.address} if parallel else LOCAL
    with pytest.raises(DiskFullError, match=r"disk is full.*stopped.*make room and give the same command again"):
        run(out, rows_per_partition=15, **where)
    assert len(tried.read_text()) < 6  # of ten
    assert leftovers(out) == []
    monkeypatch.undo()
    run(out, rows_per_partition=15)
    run(tmp_path / "undisturbed", rows_per_partition=15)
    assert digests(out) == digests(tmp_path / "undisturbed")


def test_a_summary_and_a_manifest_say_where_the_time_went(run, tmp_path):
    manifest = run(tmp_path / "out", log=tmp_path / "log.jsonl")
    summary = summary_of(tmp_path / "out")
    assert set(manifest["stages"]) == set(summary["stages"]) == {"read", "sample", "derive", "write"}
    assert min(manifest["stages"].values()) > 0
    assert sum(summary["stages"].values()) <= summary["seconds"]
    assert summary["galaxies"] == 150
    events = [json.loads(line)["event"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert events == ["run_started", *["part_done"] * 4, "run_ended"]


def test_seconds_of_kept_parts_stay_in_the_manifest(run, tmp_path):
    first = run(tmp_path / "out")["stages"]
    (tmp_path / "out" / "part-000000.parquet").unlink()
    second = run(tmp_path / "out")["stages"]
    assert set(second) == set(first)
    assert second["sample"] > 0


def test_a_cluster_given_by_its_scheduler_file_writes_dasks_report(run, tmp_path, cluster):
    client = cluster({}, {})
    file, page = tmp_path / "scheduler.json", tmp_path / "report.html"
    file.write_text(json.dumps({"address": client.scheduler.address, "type": "Scheduler", "id": "x", "workers": {}}))
    manifest = run(tmp_path / "out", client=str(file), performance_report=page)
    assert manifest["rows"] == 150
    assert "Bokeh" in page.read_text()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"client": "absent.json"}, "no scheduler file"),
        ({"performance_report": "absent/report.html"}, "there is no folder"),
    ],
)
def test_what_cannot_work_is_said_before_the_folder_is_begun(run, tmp_path, option, message):
    with pytest.raises(PopcatError, match=message):
        run(tmp_path / "out", **option)
    assert not (tmp_path / "out").exists()


def test_a_scheduler_file_of_something_else_is_one_clear_error(run, tmp_path):
    for content in ("", "[]", "{}", '{"address": 5}', "\x80"):
        (tmp_path / "s.json").write_text(content)
        with pytest.raises(PopcatError, match="no Dask scheduler answers"):
            run(tmp_path / "out", client=str(tmp_path / "s.json"))


def test_empty_files_and_a_partition_of_bad_rows_alone_lose_no_row(run, galaxies, tmp_path):
    table, source = pq.read_table(galaxies), tmp_path / "catalog"
    source.mkdir()
    bad = table.slice(40, 40)
    at = bad.schema.get_field_index("redshift")
    bad = bad.set_column(at, bad.schema.field(at), pa.array(np.full(40, 9.0), bad.schema.field(at).type))
    for name, rows in (("a", table.slice(0, 40)), ("b", table.slice(0, 0)), ("c", bad), ("d", table.slice(80))):
        pq.write_table(rows, source / f"{name}.parquet")
    manifest = run(tmp_path / "out", source=source)
    assert manifest["rows"] == 150
    assert verify(tmp_path / "out").ok
    second = pq.read_table(tmp_path / "out" / "part-000001.parquet")
    assert set(second["status"].to_pylist()) == {"redshift_out_of_range"}
    assert second["log_mstar_draws"].null_count == 40


def test_identifiers_that_repeat_across_partitions_are_refused_at_the_door(run, galaxies, tmp_path):
    table = pq.read_table(galaxies)
    ids = table["object_id"].to_numpy().copy()
    ids[149] = ids[0]
    at = table.schema.get_field_index("object_id")
    pq.write_table(table.set_column(at, "object_id", pa.array(ids)), tmp_path / "c.parquet")
    with pytest.raises(PopcatError, match="must be unique"):
        run(tmp_path / "out", source=tmp_path / "c.parquet")
    assert not (tmp_path / "out").exists()


def test_the_partition_size_is_chosen_from_the_catalogue_alone(run, tmp_path):
    manifest = run(tmp_path / "out", rows_per_partition=None)
    assert manifest["fingerprint"]["rows_per_partition"] == 500
    (tmp_path / "out" / "part-000000.parquet").unlink()
    again = run(tmp_path / "out", rows_per_partition=None, client=None, workers=1)
    assert [part["sha256"] for part in again["parts"]] == [part["sha256"] for part in manifest["parts"]]


def test_scalar_columns_do_not_depend_on_the_partitions_and_draws_only_in_the_last_bits(run, tmp_path):
    tables = []
    for rows in (150, 40, 7):
        run(tmp_path / str(rows), rows_per_partition=rows)
        parts = sorted((tmp_path / str(rows)).glob("*.parquet"))
        tables.append(pa.concat_tables([pq.read_table(part) for part in parts]))
    for other in tables[1:]:
        for name in ("object_id", "status", "flags", "redshift", "flux_r", "flux_err_r"):
            assert other[name].equals(tables[0][name])
        for name in [name for name in other.column_names if name.endswith("_draws")]:
            a, b = (np.stack(table[name].to_numpy()) for table in (tables[0], other))
            np.testing.assert_allclose(a, b, atol=2e-3, rtol=2e-3)

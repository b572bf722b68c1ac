"""A folder is verified byte by byte, every problem is named with what mends it, and nothing in it is trusted."""

import hashlib
import json
import os
import shlex
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catalogues import record

from popcat.catalog import verification
from popcat.catalog.manifest import read_manifest
from popcat.catalog.parts import OutputFolder
from popcat.catalog.queries import open_catalog
from popcat.catalog.verification import verify
from popcat.errors import PopcatError

PARTS, ROWS = 4, 50
ARGUMENTS = {"source": "my galaxies.parquet", "posterior": "sdss", "draws": 3, "seed": 0, "rows_per_partition": ROWS}


def part(index, ids=None):
    rng = np.random.default_rng(index)
    ids = np.arange(ROWS) + 1000 * index if ids is None else ids
    unit = {"unit": "log10(Msun)"}
    fields = [pa.field("object_id", pa.int64()), pa.field("log_mstar_p50", pa.float32(), metadata=unit)]
    return pa.table([pa.array(ids, pa.int64()), rng.normal(size=len(ids)).astype("f4")], pa.schema(fields))


def write(path, tables, arguments=ARGUMENTS, **settings):
    run = {"n": sum(len(table) for table in tables)} | settings
    folder = OutputFolder.open(path, run, len(tables), kind="posteriors", arguments=arguments)
    for index, table in enumerate(tables):
        folder.write_part(index, table)
    folder.finish(record())
    return path


@pytest.fixture
def finished(tmp_path):
    return write(tmp_path / "out", [part(index) for index in range(PARTS)])


def wrong(path, **options):
    """{where: what} of every problem."""
    return {problem.where: problem.what for problem in verify(path, **options).problems}


def name_of(index):
    return f"part-{index:06d}.parquet"


def rewrite(path, index, table):
    """Replace a part and make its sidecar agree with it."""
    pq.write_table(table, path / name_of(index))
    data = (path / name_of(index)).read_bytes()
    edit(path / "_popcat" / f"{index:06d}.json", rows=len(table), bytes=len(data),
         sha256=hashlib.sha256(data).hexdigest())  # fmt: skip


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_sound_folder_has_no_problems_and_its_totals(finished):
    found = verify(finished)
    assert found.ok
    manifest = read_manifest(finished)
    assert (found.parts, found.rows, found.bytes) == (PARTS, PARTS * ROWS, manifest.bytes)


def test_one_flipped_byte_anywhere_in_a_part_is_found(finished):
    data = (finished / name_of(2)).read_bytes()
    for at in np.random.default_rng(0).integers(0, len(data), 25):
        spoiled = bytearray(data)
        spoiled[at] ^= 0x10
        (finished / name_of(2)).write_bytes(spoiled)
        assert "checksum" in wrong(finished)[name_of(2)]


@pytest.mark.parametrize(
    ("damage", "where", "what"),
    [
        (lambda p: (p / name_of(1)).unlink(), name_of(1), "is missing"),
        (lambda p: (p / name_of(1)).write_bytes((p / name_of(1)).read_bytes()[:-7]), name_of(1), "bytes, expected"),
        (lambda p: (p / "_popcat" / "000001.json").unlink(), name_of(1), "has no sidecar"),
        (lambda p: (p / "_popcat" / "000001.json").write_text("{"), name_of(1), "damaged"),
        (lambda p: shutil.copy(p / name_of(0), p / name_of(1)), name_of(1), "bytes, expected"),
        (lambda p: shutil.copy(p / "_popcat" / "000000.json", p / "_popcat" / "000001.json"), name_of(1), "another"),
        (lambda p: (p / "_popcat" / "manifest.json").unlink(), "_popcat/manifest.json", "did not finish"),
        (lambda p: edit(p / "_popcat" / "manifest.json", rows=7), "_popcat/manifest.json", "says 7 rows"),
        (lambda p: edit(p / "_popcat" / "manifest.json", bytes=7), "_popcat/manifest.json", "says 7 bytes"),
        (lambda p: edit(p / "_popcat" / "run.json", fingerprint={"n": 1}), "_popcat/run.json", "fingerprint"),
        (lambda p: shutil.copy(p / name_of(0), p / "part-000009.parquet"), "part-000009.parquet", "no part"),
    ],
)
def test_what_is_wrong_is_named(finished, damage, where, what):
    damage(finished)
    assert what in wrong(finished)[where]


def test_a_part_with_other_columns_or_units_is_named(finished):
    table = part(3)
    rewrite(finished, 3, table.cast(pa.schema([table.schema.field(0), pa.field("log_mstar_p50", pa.float32())])))
    assert "log_mstar_p50" in wrong(finished)[name_of(3)]
    rewrite(finished, 3, table.append_column("extra", [[1] * ROWS]))
    assert "extra" in wrong(finished)[name_of(3)]


@pytest.mark.parametrize("ids_at_once", [10_000, 64, 7])
def test_identifiers_that_repeat_are_found_however_little_memory_there_is(tmp_path, ids_at_once):
    ids = np.arange(ROWS) + 2000
    ids[[3, 40]] = [5, -(2**63)]  # 5 is in part 0; the other is only unusual
    path = write(tmp_path / "out", [part(0), part(1), part(2, ids), part(3, [3001, 3001, 3002])])
    what = wrong(path, ids_at_once=ids_at_once)["object_id"]
    assert what.startswith("2 identifiers are there more than once: ")
    assert {int(number) for number in what.partition(": ")[2].split(", ")} == {5, 3001}


def test_identifiers_that_are_null_or_no_integers_are_found(tmp_path):
    path = write(tmp_path / "null", [part(0), part(1, [1001, None])])
    assert "1 nulls" in wrong(path)["object_id"]
    path = write(tmp_path / "text", [pa.table({"object_id": ["a"]})])
    assert "int64" in wrong(path)[name_of(0)]


def test_fewer_rows_than_the_input_had_are_found(tmp_path):
    folder = OutputFolder.open(tmp_path, {"n": 51}, 1, kind="posteriors")
    folder.write_part(0, part(0))
    folder.finish()
    assert "the input has 51" in wrong(tmp_path)["_popcat/manifest.json"]


def test_the_remedy_is_the_command_that_wrote_it(finished):
    (finished / name_of(1)).unlink()
    (problem,) = verify(finished).problems
    assert problem.remedy == (
        "popcat infer 'my galaxies.parquet' --posterior sdss --draws 3 --seed 0 --rows-per-partition 50 "
        f"-o {finished} --check"
    )


def options_of(remedy):
    """The command of a remedy, and its options."""
    _, command, *words = shlex.split(remedy)
    return command, {word for word in words if word.startswith("-")}


@pytest.mark.parametrize(("arguments", "settings", "options"), [
    (ARGUMENTS, {}, {"--posterior", "--draws", "--seed", "--rows-per-partition", "-o", "--check"}),
    ({**ARGUMENTS, "hide_redshift": True}, {"effort": {"budget_ms": 2000.0, "target_ess": 200.0}},
     {"--posterior", "--draws", "--seed", "--rows-per-partition", "-o", "--check", "--hide-redshift", "--certify",
      "--budget-ms", "--target-ess"}),
    (ARGUMENTS, {"effort": {"budget_ms": 2000.0, "target_ess": 200.0, "refit": True}},
     {"--posterior", "--draws", "--seed", "--rows-per-partition", "-o", "--check", "--certify", "--budget-ms",
      "--target-ess", "--refit"}),
    ({"posteriors": "flat", "prior": "dust.toml", "seed": 3}, {}, {"--prior", "--seed", "-o"}),
    ({**ARGUMENTS, "model": "sdss"} | {"posterior": "sdss"}, {"effort": "x"},
     {"--posterior", "--draws", "--seed", "--rows-per-partition", "-o", "--check"}),
])  # fmt: skip
def test_the_remedy_names_options_that_its_command_has(tmp_path, arguments, settings, options):
    import click
    import typer

    from popcat.cli import app

    path = write(tmp_path / "out", [part(0)], arguments, **settings)
    (path / name_of(0)).unlink()
    command, named = options_of(verify(path).problems[0].remedy)
    assert named == options
    known = typer.main.get_command(app).get_command(click.Context(click.Command("popcat")), command).params
    assert named <= {spelling for param in known for spelling in param.opts}


def test_the_remedy_of_before_calls_the_posterior_by_its_name_of_today(tmp_path):
    arguments = {"model" if key == "posterior" else key: value for key, value in ARGUMENTS.items()}
    path = write(tmp_path / "out", [part(0)], arguments)
    (path / name_of(0)).unlink()
    assert "infer 'my galaxies.parquet' --posterior sdss --draws 3" in verify(path).problems[0].remedy


@pytest.mark.parametrize("hostile", [{"source": "x; rm -rf ~"}, {"source": "a\x1b[2Jb"}, {"draws": "$(id)"}])
def test_the_remedy_runs_nothing_that_a_folder_says(finished, hostile):
    edit(finished / "_popcat" / "run.json", arguments={**ARGUMENTS, **hostile})
    (finished / name_of(1)).unlink()
    (problem,) = verify(finished).problems
    (value,) = hostile.values()
    assert f"'{value}'" in problem.remedy or problem.remedy.startswith("give the command")
    assert problem.remedy.isprintable()


def test_a_folder_of_something_else_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(PopcatError, match="not a popcat output"):
            verify(path)


HOSTILE_JSON = [
    b"", b"\xff\xfe", b"[]", b"null", b"[" * 100_000, b'{"n_parts": 1e999}', b'{"kind": NaN}', b"\x80\x04K\x01.",
]  # fmt: skip
HOSTILE_VALUES = [
    {"n_parts": 10**30}, {"n_parts": -1}, {"n_parts": "3"}, {"kind": 5}, {"fingerprint": []},
    {"fingerprint_sha256": "../../x"}, {"arguments": {"source": ["a"]}},
]  # fmt: skip


@pytest.mark.parametrize("reader", [verify, read_manifest, open_catalog])
@pytest.mark.parametrize("content", HOSTILE_JSON)
def test_a_hostile_run_file_is_one_clear_error(finished, reader, content):
    (finished / "_popcat" / "run.json").write_bytes(content)
    with pytest.raises(PopcatError, match="damaged"):
        reader(finished)


@pytest.mark.parametrize("change", HOSTILE_VALUES)
def test_values_that_no_run_has_are_refused(finished, change):
    edit(finished / "_popcat" / "run.json", **change)
    with pytest.raises(PopcatError, match="damaged"):
        verify(finished)


@pytest.mark.parametrize("file", ["../../../etc/passwd", "/etc/passwd", "part-000000.parquet/../x", "part-0.parquet"])
def test_no_file_outside_the_folder_is_ever_named(finished, file):
    manifest = json.loads((finished / "_popcat" / "manifest.json").read_text())
    manifest["parts"][0]["file"] = file
    (finished / "_popcat" / "manifest.json").write_text(json.dumps(manifest))
    assert "damaged" in wrong(finished)["_popcat/manifest.json"]
    with pytest.raises(PopcatError, match="not complete"):
        open_catalog(finished)


@pytest.mark.parametrize("content", HOSTILE_JSON)
def test_hostile_sidecars_and_manifests_are_problems_not_crashes(finished, content):
    (finished / "_popcat" / "000001.json").write_bytes(content)
    (finished / "_popcat" / "manifest.json").write_bytes(content)
    assert {name_of(1), "_popcat/manifest.json"} <= set(wrong(finished))


def test_a_pipe_in_the_place_of_a_file_does_not_hang(finished):
    for file in (finished / name_of(1), finished / "_popcat" / "000002.json"):
        file.unlink()
        os.mkfifo(file)
    assert {name_of(1), name_of(2)} <= set(wrong(finished))


def test_hostile_parquet_with_a_sidecar_to_match_is_a_problem_not_a_crash(finished):
    good = (finished / name_of(1)).read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(60):
        data = bytearray(good)
        for at in rng.integers(0, len(data), 4):
            data[at] = rng.integers(256)
        (finished / name_of(1)).write_bytes(data)
        sidecar = finished / "_popcat" / "000001.json"
        edit(sidecar, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        assert not verify(finished).ok  # at the least, the manifest has another checksum


def test_names_of_files_are_printed_without_control_characters(finished):
    (finished / "part-\x1b[31m.parquet").touch()
    assert all(problem.where.isprintable() for problem in verify(finished).problems)


def test_parts_of_one_schema_share_it_in_memory(tmp_path, monkeypatch):
    """A schema takes 85 kB: of 50,000 parts it would be gigabytes."""
    folder = OutputFolder.open(tmp_path / "out", {"n": 3}, 3, kind="demo")
    for index in range(3):
        folder.write_part(index, pa.table({"object_id": [index]}))
    folder.finish()
    seen = []
    monkeypatch.setattr(verification, "_schemas", lambda folder, sound, again: seen.extend(sound) or [])
    assert verify(tmp_path / "out").ok
    assert len(seen) == 3 and len({id(part.schema) for part in seen}) == 1

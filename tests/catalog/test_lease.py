"""Two runs into one folder: one writes, the other is told; none removes what the other is writing."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from popcat.catalog import lease
from popcat.catalog.lease import Lease, alone
from popcat.catalog.manifest import META, read_run
from popcat.catalog.parts import OutputFolder
from popcat.errors import PopcatError
from popcat.files import create_json, write_json_atomic
from popcat.inference.infer import infer

TABLE = pa.table({"object_id": [1, 2]})


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "SILENT_S", 1.0)
    monkeypatch.setattr(lease, "_LOOK_S", 0.05)
    monkeypatch.setattr(lease, "_SETTLED_S", 0.05)
    return tmp_path / "writer.json"


def test_a_second_run_is_refused_while_the_first_lives_and_not_after(path):
    said = pytest.raises(PopcatError, match=r"another run writes to out \(process \d+ on .*wait")
    with alone(path, "out"), said, alone(path, "out"):
        raise AssertionError
    with alone(path, "out"):
        assert path.exists()
    assert not path.exists()


def test_the_lease_of_a_process_that_has_ended_is_replaced_at_once(path):
    script = f"from popcat.catalog.lease import alone\nwith alone({str(path)!r}, 'out'): import os; os._exit(9)"
    subprocess.run([sys.executable, "-c", script], check=False)
    assert path.exists()
    with alone(path, "out") as own:
        assert own.pid == psutil.Process().pid
    assert not path.exists()


def test_another_process_that_has_the_number_of_a_dead_one_is_not_taken_for_it(path):
    write_json_atomic(path, Lease.own().model_copy(update={"began": 1.0}).model_dump())
    with alone(path, "out"):
        pass


ELSEWHERE = {"place": "another-machine pid:[1]", "pid": 1}


def test_a_lease_of_another_machine_is_replaced_after_silence(path):
    write_json_atomic(path, Lease.own().model_copy(update=ELSEWHERE).model_dump())
    with pytest.warns(UserWarning, match="written by process 1 on another-machine: waiting up to"), alone(path, "out"):
        pass


def test_a_lease_of_another_machine_that_is_renewed_is_respected(path):
    import os

    write_json_atomic(path, Lease.own().model_copy(update=ELSEWHERE).model_dump())
    ended = threading.Event()

    def renew():
        while not ended.wait(0.1):
            os.utime(path)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        said = pytest.raises(PopcatError, match="another run writes to out")
        with pytest.warns(UserWarning), said, alone(path, "out"):
            raise AssertionError
    finally:
        ended.set()
        thread.join()


def test_a_run_that_was_taken_over_does_not_end_well(path):
    """As after minutes in which the process was stopped."""
    with pytest.raises(PopcatError, match="another run took out over"), alone(path, "out"):
        write_json_atomic(path, Lease.own().model_copy(update=ELSEWHERE).model_dump())
    assert path.exists(), "it is the other's"


def test_a_lease_is_renewed(path, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_S", 0.05)
    with alone(path, "out"):
        before = path.stat().st_mtime_ns
        for _ in range(100):
            if path.stat().st_mtime_ns != before:
                return
            threading.Event().wait(0.05)
    raise AssertionError("it was not")


def test_of_many_files_made_at_once_one_is_there(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda i: create_json(tmp_path / "run.json", {"i": i}), range(64)))
    assert sum(made) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_of_runs_that_begin_at_once_with_other_settings_one_is_admitted(tmp_path):
    """91 of 200 such pairs were both admitted."""
    for attempt in range(40):
        out, barrier = tmp_path / str(attempt), threading.Barrier(2)

        def begin(seed, out=out, barrier=barrier):
            barrier.wait()
            try:
                return OutputFolder.open(out, {"seed": seed}, 2, kind="demo")
            except PopcatError as error:
                return error

        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(begin, (1, 2)))
        (folder,) = [one for one in found if isinstance(one, OutputFolder)]
        assert read_run(out).fingerprint_sha256 == folder.fingerprint_sha256


def test_the_same_run_twice_at_once_is_refused(tmp_path, galaxies, tiny_model):
    made = {"output": tmp_path / "out", "draws": 4, "rows_per_partition": 75, "client": "synchronous"}
    infer(galaxies, tiny_model, **made)
    assert not list((tmp_path / "out" / META).glob("writer*"))
    with ExitStack() as stack:
        stack.enter_context(alone(tmp_path / "out" / META / "writer.json", "out"))
        with pytest.raises(PopcatError, match="another run writes to"):
            infer(galaxies, tiny_model, **made)


def test_temporary_files_of_another_run_are_left_alone(tmp_path):
    folder = OutputFolder.open(tmp_path / "out", {"seed": 1}, 1, kind="demo")
    dead = tmp_path / "out" / ".part-000000.0123456789ab.tmp"
    dead.write_bytes(b"of a run before")
    with folder.alone() as own:
        late = tmp_path / "out" / ".part-000000.fedcba987654.tmp"
        late.write_bytes(b"of a worker that still writes")
        mine = tmp_path / "out" / META / f".000000.{own.writer}abc.tmp"
        mine.write_bytes(b"of an own worker that was killed")
        own.write_part(0, TABLE)
        own.finish()
    assert late.exists() and not dead.exists() and not mine.exists()


def test_a_training_an_export_and_a_population_fit_write_alone(tmp_path, tiny_model, galaxies):
    from popcat.catalog.export import export
    from popcat.flows.settings import Training
    from popcat.population.fit import fit_population
    from popcat.posterior.library import simulate
    from popcat.posterior.training import train

    simulate("sdss", 3000, output=tmp_path / "library", client="synchronous")
    posteriors = tmp_path / "posteriors"
    infer(galaxies, tiny_model, output=posteriors, draws=4, client="synchronous")
    photometry = Path(str(files("popcat"))) / "data" / "galaxies_sdss.parquet"
    small = Training(n_blocks=1, hidden=16, n_layers=1, batch=256, max_epochs=1, redshift_hidden=16, redshift_epochs=1)
    doors = {
        "train": lambda out: train(tmp_path / "library", out, settings=small, client="synchronous"),
        "export": lambda out: export(posteriors, out, to="delta"),
        "population": lambda out: fit_population(photometry, out, client="synchronous"),
    }
    for name, door in doors.items():
        out = tmp_path / name
        with alone(out / lease.LEASE, out), pytest.raises(PopcatError, match="another run writes to"):
            door(out)
        assert not [item for item in out.iterdir() if item.name != lease.LEASE]

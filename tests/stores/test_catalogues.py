"""Posterior catalogues in a store: the same as on the disk, whatever happens on the way."""

import pickle
import threading
import time

import pytest

from popcat import infer, open_catalog, report, reweight, verify
from popcat.catalog import lease, parts
from popcat.catalog.manifest import META
from popcat.catalog.parts import OutputFolder
from popcat.errors import PopcatError
from popcat.files import read_json, write_json_atomic
from popcat.inference import partition
from popcat.paths import path_of
from popcat.stores import StoreError

HOW = {"draws": 12, "rows_per_partition": 10, "client": "synchronous"}


@pytest.fixture(scope="module")
def on_disk(forty, tmp_path_factory):
    return infer(forty, output=tmp_path_factory.mktemp("made") / "posteriors", **HOW)


def digest(catalog):
    return [part.sha256 for part in catalog.require_manifest().parts]


@pytest.fixture
def output(bucket):
    return f"{bucket}/run/posteriors"


@pytest.fixture
def made(forty, output):
    return infer(forty, output=output, **HOW)


def test_a_catalogue_in_a_store_is_the_one_on_the_disk(made, on_disk, output):
    assert digest(made) == digest(on_disk)
    assert made.path == output and made.files == [f"{output}/part-{i:06d}.parquet" for i in range(4)]
    assert verify(output).ok
    opened = open_catalog(output)
    where = "status == 'ok' and log_mstar_p50 > 9"
    assert opened.to_pandas(where=where).equals(on_disk.to_pandas(where=where))
    ids = on_disk.to_pandas(["object_id"])["object_id"].tolist()[7:23:5]
    assert opened.draws(ids).equals(on_disk.draws(ids))
    assert opened.learned(ids).equals(on_disk.learned(ids))
    assert (opened.stack("redshift").mass == on_disk.stack("redshift").mass).all()
    assert len(open_catalog(opened.files[1])) == 10
    assert opened.thinned(2)[0].to_pandas(["object_id"]).equals(on_disk.thinned(2)[0].to_pandas(["object_id"]))


def test_a_page_is_written_of_a_catalogue_in_a_store(made, output, tmp_path):
    assert report(output, tmp_path / "report.html", title="In a store").stat().st_size > 100_000


def test_a_run_that_is_cut_off_goes_on_with_what_is_missing(forty, output, on_disk, monkeypatch):
    real, written = partition.write_posterior_part, []

    def write(folder, index, *rest):
        if index == 2:
            raise RuntimeError("cut off")
        written.append(index)
        return real(folder, index, *rest)

    monkeypatch.setattr("popcat.inference.infer.write_posterior_part", write)
    with pytest.raises(PopcatError, match=r"1 of 4 partitions failed.*3 of 4 are written"):
        infer(forty, output=output, **HOW)
    with pytest.raises(PopcatError, match=r"is not complete: 3 of 4 parts are done"):
        open_catalog(output)
    monkeypatch.setattr("popcat.inference.infer.write_posterior_part", real)
    assert digest(infer(forty, output=output, **HOW)) == digest(on_disk)
    assert verify(output).ok and sorted(written) == [0, 1, 3]


def test_a_run_that_is_done_writes_no_part_again(made, forty, output, monkeypatch):
    monkeypatch.setattr("popcat.inference.infer.write_posterior_part", None)
    assert len(infer(forty, output=output, **HOW)) == 40


def test_a_damaged_part_is_found_and_written_again(made, forty, output, on_disk):
    part = path_of(made.files[1])
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.put(bytes(content))
    found = verify(output)
    assert [problem.where for problem in found.problems] == [part.name]
    assert "checksum" in found.problems[0].what and output in found.problems[0].remedy
    assert digest(infer(forty, output=output, **HOW)) == digest(on_disk)  # its ETag is another, and so it is read
    assert verify(output).ok


def test_a_missing_part_and_a_stranger_are_found(made, output):
    path_of(made.files[3]).unlink()
    path_of(f"{output}/notes.txt").put(b"1")
    assert {problem.where for problem in verify(output).problems} >= {"part-000003.parquet", "notes.txt"}
    with pytest.raises(PopcatError, match="is not complete: 3 of 4"):
        open_catalog(output)


def test_another_run_and_other_objects_are_not_written_over(made, forty, output, bucket):
    with pytest.raises(PopcatError, match="holds another run, which differs in seed"):
        infer(forty, output=output, **HOW, seed=3)
    with pytest.raises(PopcatError, match="is not a popcat output and not empty"):
        infer(forty, output=f"{bucket}/run", **HOW)


def test_a_catalogue_in_a_store_is_reweighted_into_a_store(made, on_disk, bucket, tmp_path):
    there = reweight(made.path, "flat", output=f"{bucket}/flat", client="synchronous")
    here = reweight(on_disk.path, "flat", output=tmp_path / "flat", client="synchronous")
    assert digest(there) == digest(here) and verify(there.path).ok


class Racing:
    """Two runs that begin at once: each goes on when the other is as far."""

    def __init__(self, work):
        self.ends, self.errors, barrier = [], [], threading.Barrier(2)

        def go(number):
            barrier.wait()
            try:
                self.ends.append(work(number))
            except PopcatError as error:
                self.errors.append(str(error))

        threads = [threading.Thread(target=go, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def test_of_two_runs_into_one_prefix_one_writes_and_one_is_told(bucket):
    def work(number):
        folder = OutputFolder.open(f"{bucket}/both", {"seed": 1}, 1, kind="demo")
        with folder.alone():
            time.sleep(1.0)
            return number

    race = Racing(work)
    assert len(race.ends) == 1 == len(race.errors)
    assert "another run writes to" in race.errors[0] or "at the same moment" in race.errors[0]


def test_of_two_other_runs_one_begins_and_one_is_told(bucket):
    race = Racing(lambda number: OutputFolder.open(f"{bucket}/both", {"seed": number}, 1, kind="demo"))
    assert len(race.ends) == 1 and "holds another run, which differs in seed" in race.errors[0]


def test_of_two_that_end_at_once_one_is_told(bucket, monkeypatch):
    import pyarrow as pa

    folder = OutputFolder.open(f"{bucket}/both", {"seed": 1}, 1, kind="demo")
    folder.write_part(0, pa.table({"object_id": [1]}))
    real = parts.OutputFolder._manifest

    def slow(self):
        write_json_atomic(path_of(self.path) / META / "manifest.json", {"by": "another run"})
        return real(self)

    monkeypatch.setattr(parts.OutputFolder, "_manifest", slow)
    with pytest.raises(PopcatError, match="another run ended in"):
        folder.finish()


@pytest.fixture
def quick(monkeypatch):
    """Leases of a second."""
    for name, value in {"BEAT_S": 0.1, "SILENT_S": 1.0, "_LOOK_S": 0.1}.items():
        monkeypatch.setattr(lease, name, value)


@pytest.mark.filterwarnings("ignore:.*waiting up to")
def test_a_lease_of_another_machine_is_taken_when_it_is_silent(bucket, quick):
    path = path_of(f"{bucket}/writer.json")
    there = lease.Lease.own().model_copy(update={"place": "elsewhere"})
    write_json_atomic(path, there.model_dump())
    with lease.alone(path, "the output") as own:
        assert read_json(path)["id"] == own.id != there.id
    assert read_json(path)["ended"]
    with lease.alone(path, "the output") as again:  # at once, after one that has ended
        assert again.id != own.id


@pytest.mark.filterwarnings("ignore:.*waiting up to")
def test_a_lease_that_is_renewed_elsewhere_is_respected(bucket, quick):
    path = path_of(f"{bucket}/writer.json")
    there = lease.Lease.own().model_copy(update={"place": "elsewhere"})
    held = lease._Held(path, there, lease._take_in_store(path, there, "the output"))
    beat = threading.Thread(target=held.renew, daemon=True)
    beat.start()
    with pytest.raises(PopcatError, match="another run writes to the output"), lease.alone(path, "the output"):
        pass
    held.ended.set()
    beat.join()


def test_a_run_whose_lease_was_taken_is_told_at_its_end(bucket, quick):
    path = path_of(f"{bucket}/writer.json")
    with pytest.raises(PopcatError, match="another run took the output over"), lease.alone(path, "the output"):
        write_json_atomic(path, lease.Lease.own().model_copy(update={"id": "other"}).model_dump())


@pytest.mark.parametrize("url, said", [
    ("s3://no-such-bucket/x", "cannot reach s3://no-such-bucket/x: NoSuchBucket"),
    ("gs://bucket/x", "gs://bucket/x: popcat knows no URLs of gs://"),
    ("s3://", "popcat knows no URL without a bucket"),
    ("s3://bucket/../x", "expected a URL without .."),
])  # fmt: skip
def test_an_output_that_cannot_be_is_refused_in_one_line(forty, environment, url, said):
    with pytest.raises(PopcatError) as raised:
        infer(forty, output=url, **HOW)
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_a_lease_that_cannot_be_read_is_not_taken_over(bucket, quick, monkeypatch):
    path = path_of(f"{bucket}/writer.json")
    write_json_atomic(path, lease.Lease.own().model_dump())

    def fails(*_):
        raise StoreError("SlowDown")

    monkeypatch.setattr(type(path), "read_bytes", fails)
    with pytest.raises(StoreError, match="SlowDown"), lease.alone(path, "the output"):
        pass


def test_a_beat_whose_answer_never_came_is_the_run_s_own(bucket, quick, monkeypatch):
    path = path_of(f"{bucket}/writer.json")
    own = lease.Lease.own()
    held = lease._Held(path, own, lease._take_in_store(path, own, "the output"))
    real = lease.swap_json

    def lost(*arguments):
        real(*arguments)
        raise StoreError("timeout")

    monkeypatch.setattr(lease, "swap_json", lost)
    with pytest.raises(StoreError):
        held.write()
    monkeypatch.setattr(lease, "swap_json", real)
    held.write()
    assert held.version is not None and read_json(path)["beat"] == 2


def test_names_of_every_kind_and_a_pickled_catalogue(forty, bucket):
    output = f"{bucket}/tile=12/a b+c%20d-é"
    made = infer(forty, output=output, **HOW)
    assert pickle.loads(pickle.dumps(made)).to_pandas(["object_id"]).equals(made.to_pandas(["object_id"]))
    assert verify(output).ok and open_catalog(output).path == output


def test_a_run_that_begins_asks_for_no_part_that_is_not_listed(proxy, output):
    folder = OutputFolder.open(output, {"n": 300}, 300, kind="demo")
    proxy.seen.clear()
    assert len(folder.resume()) == 300
    assert len(proxy.seen) <= 4

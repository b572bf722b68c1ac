"""A plan says what a run then takes, from one part of it."""

import pytest

from popcat.catalog.manifest import read_manifest
from popcat.errors import PopcatError
from popcat.inference.infer import infer
from popcat.inference.plan import Measured, plan
from popcat.run.client import SYNCHRONOUS

LOCAL = {"client": SYNCHRONOUS}


@pytest.fixture
def planned(galaxies, tiny_model):
    def made(**options):
        return plan(galaxies, posterior=tiny_model, **{"draws": 20, "rows_per_partition": 60, **LOCAL, **options})

    return made


def test_the_parts_and_the_size_are_those_of_the_run(planned, galaxies, tiny_model, tmp_path):
    found = planned()
    infer(galaxies, tiny_model, output=tmp_path / "out", draws=20, rows_per_partition=60, **LOCAL)
    manifest = read_manifest(tmp_path / "out")
    assert (found.galaxies, found.parts) == (150, 3)
    assert found.output_mb == pytest.approx(manifest.bytes / 1e6, rel=0.2)


def test_memory_is_at_least_that_of_a_worker_and_the_limit_above_it(planned):
    found = planned()
    assert 100 < found.measured.start_rss_mb <= found.worker_peak_mb + 1 < found.worker_limit_mb


def test_more_workers_take_less_time_until_there_are_as_many_as_parts(planned):
    at = {workers: planned(workers=workers) for workers in (1, 3, 100)}
    work = {n: one.seconds - one.measured.start_s for n, one in at.items()}
    assert work[1] > 0
    assert {one.parts for one in at.values()} == {3}


def test_time_is_that_of_the_waves_of_parts(planned, monkeypatch):
    measured = Measured(rows=60, bytes=600, stages={"read": 1.0, "sample": 4.0, "derive": 1.0}, start_s=5.0,
                        start_rss_mb=500.0, added_mb_per_row=1.0)  # fmt: skip
    monkeypatch.setattr("popcat.inference.plan._measure", lambda *_: measured)
    assert planned().seconds == pytest.approx(5 + 150 * 0.1)
    assert planned(workers=2).seconds == pytest.approx(5 + 120 * 0.1)
    assert planned(workers=3).seconds == planned(workers=9).seconds == pytest.approx(5 + 60 * 0.1)
    on_gpu = planned(workers=3, gpus=1)
    assert (on_gpu.seconds, on_gpu.sampling_counted) == (pytest.approx(5 + 60 / 30), False)
    assert planned().worker_peak_mb == 560


@pytest.mark.parametrize("option", [{"draws": 0}, {"workers": 0}, {"gpus": -1}])
def test_what_no_run_has_is_refused(planned, option):
    with pytest.raises(PopcatError, match="at least 1 draw"):
        planned(**option)

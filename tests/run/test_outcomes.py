"""What a run gives: outcomes by job, failures named, progress in its own words, an interrupt in one line."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from popcat.errors import DiskFullError, OutputError, PopcatError
from popcat.run.client import SYNCHRONOUS
from popcat.run.runner import How, run, values_of

HERE = How(SYNCHRONOUS)


def halve(n):
    if n % 2:
        raise PopcatError(f"{n} is odd")
    return n // 2


def interrupted(n):
    if n == 2:
        raise KeyboardInterrupt
    return n


def full(n):
    if n == 1:
        raise DiskFullError("cannot write it: the disk is full")
    return n


@pytest.mark.parametrize("parallel", [False, True])
def test_outcomes_are_by_job_in_order_whatever_the_cluster(cluster, parallel, tmp_path):
    how = How(cluster({}, {}) if parallel else "synchronous", log=tmp_path / "log.jsonl")
    outcomes = run(halve, {i: (i,) for i in (3, 2, 0)}, verb="halving", how=how)
    assert [(i, outcome.value) for i, outcome in outcomes.items()] == [(0, 0), (2, 1), (3, None)]
    assert str(outcomes[3].error) == "3 is odd" and outcomes[0].error is None
    told = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    done = {one["part"]: one for one in told if one["event"] == "part_done"}
    assert set(done) == {0, 2} and all(one["worker"] and one["seconds"] == {} for one in done.values())
    assert not outcomes[0].made  # told, and not kept: there may be many


def test_values_are_those_of_all_jobs_and_a_failed_one_is_named():
    assert values_of(run(halve, {0: (4,), 1: (2,)}, verb="halving", how=HERE), "half") == [2, 1]
    with pytest.raises(PopcatError, match=r"^1 of 2 entries failed \(1\)\. Entry 1: PopcatError: 3 is odd$"):
        values_of(run(halve, {0: (4,), 1: (3,)}, verb="halving", how=HERE), "entry")


def test_where_all_jobs_fail_alike_their_error_is_the_error():
    with pytest.raises(PopcatError, match=r"^3 is odd$"):
        values_of(run(halve, {0: (3,), 1: (3,)}, verb="halving", how=HERE), "half")


@pytest.mark.parametrize("parallel", [False, True])
def test_a_full_disk_stops_every_kind_of_work(cluster, parallel):
    how = How(cluster({})) if parallel else HERE
    with pytest.raises(DiskFullError, match=r"disk is full; the run has stopped.*make room"):
        run(full, {i: (i,) for i in range(9)}, verb="filling", how=how)


def test_progress_has_a_unit_a_total_and_a_log_of_its_own_words(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("popcat.run.runner._LINE_EVERY_S", 0.0)
    how = How(SYNCHRONOUS, progress=True, log=tmp_path / "log.jsonl")
    jobs = {0: (4,), 2: (3,)}
    run(halve, jobs, verb="training", how=how, sizes=[1, 1, 1], unit="members", noun="member")
    assert "training 2 of 3 members" in capsys.readouterr().err
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [one["event"] for one in events] == ["run_started", "member_done", "member_failed", "run_ended"]
    assert (events[0]["members"], events[1]["member"], events[2]["member"]) == (3, 0, 2)


def test_an_interrupt_keeps_what_is_done_and_says_so_in_one_line(tmp_path):
    with pytest.raises(KeyboardInterrupt, match=r"^counting stopped after 2 of 4 members; what is written is kept"):
        run(interrupted, {i: (i,) for i in range(4)}, verb="counting", how=How(SYNCHRONOUS, log=tmp_path / "log"),
            noun="member", summary=tmp_path / "summary.json")  # fmt: skip
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["galaxies"] == 2
    assert "counting stopped after 2 of 4" in (tmp_path / "log").read_text().splitlines()[-1]


SLOW = """
import os, signal, time
from popcat.cli import app, main
from popcat.run.runner import How, run

@app.command()
def slowly():
    run(time.sleep, {i: (0.2 if i == 0 else 60,) for i in range(4)}, verb="sleeping", how=How(workers=1, progress=True,
        log=os.environ["LOG"]))

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts with "&" ignores it
    main()
"""


def test_the_command_line_ends_an_interrupted_run_with_one_line_and_status_130(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    log = tmp_path / "log.jsonl"
    process = subprocess.Popen(
        [sys.executable, tmp_path / "slow.py", "slowly"], stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"LOG": str(log)},
    )  # fmt: skip
    while process.poll() is None and not (log.exists() and "part_done" in log.read_text()):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: workers get it too
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert said.splitlines()[-1].startswith("Interrupted: sleeping stopped after 1 of 4 parts; what is written is kept")
    assert "Traceback" not in said


def locked(n):
    raise OutputError("cannot write it: [Errno 30] Read-only file system")


@pytest.mark.parametrize("parallel", [False, True])
def test_a_folder_that_turns_read_only_stops_the_run_in_one_line(cluster, parallel):
    how = How(cluster({})) if parallel else HERE
    with pytest.raises(OutputError, match=r"Read-only file system; the run has stopped.*kept.*folder writable"):
        run(locked, {i: (i,) for i in range(9)}, verb="filling", how=how)


def test_a_summary_makes_no_folder_anew(tmp_path):
    run(halve, {0: (2,)}, verb="halving", how=HERE, summary=tmp_path / "gone" / "summary.json")
    assert list(tmp_path.iterdir()) == []

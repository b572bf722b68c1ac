"""A run tells what it does: a log of JSON lines, a summary, a bar."""

import json

import pytest

from popcat.errors import PopcatError
from popcat.run import runner
from popcat.run.runner import Reporter
from popcat.run.told import Told, listening, tell

MADE = {"worker": "a", "gpu": True, "peak_rss_mb": 700.0, "seconds": {"sample": 2.0, "write": 0.5}}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def told(tmp_path):
    """A run of three parts, one kept, one written, one failed: its reporter and its log."""
    log = tmp_path / "log.jsonl"
    with Reporter("inferring", [10, 20, 30], [1, 2], show=False, log=log) as reporter:
        reporter.note("part_retried", part=2, error="mood")
        reporter.done(1, MADE)
        reporter.failed(2, ValueError("poison"))
    return reporter, log


def test_each_event_is_one_json_line_with_its_time(told):
    events = lines(told[1])
    assert [one["event"] for one in events] == ["run_started", "part_retried", "part_done", "part_failed", "run_ended"]
    assert all(one["time"].endswith("+00:00") for one in events)
    assert events[2] | MADE == events[2]
    assert events[3]["error"] == "ValueError: poison"


def test_the_summary_counts_what_was_done_now(told):
    summary = told[0].summary()
    assert summary["galaxies"] == 20
    assert summary["parts"] == {"total": 3, "kept": 1, "failed": 1}
    assert summary["stages"] == {"sample": 2.0, "write": 0.5}
    assert summary["workers"] == {"a": {"parts": 1, "gpu": True, "peak_rss_mb": 700.0}}
    assert summary["failures"] == [{"part": 2, "error": "ValueError: poison"}]
    assert summary["retries"] == 1
    assert json.loads(json.dumps(summary)) == summary


def test_a_log_goes_on_where_the_last_run_ended(told):
    with Reporter("inferring", [10], [0], show=False, log=told[1]):
        pass
    assert [one["event"] for one in lines(told[1])].count("run_started") == 2


def test_a_run_that_breaks_off_is_logged_with_its_reason(tmp_path):
    with pytest.raises(PopcatError), Reporter("x", [1], [0], show=False, log=tmp_path / "log"):
        raise PopcatError("the disk is full")
    assert lines(tmp_path / "log")[-1]["error"] == "the disk is full"


def test_a_log_that_cannot_be_written_is_said_at_once(tmp_path):
    with pytest.raises(PopcatError, match="cannot write the log"):
        Reporter("x", [1], [0], show=False, log=tmp_path / "absent" / "log")


def test_the_bar_shows_rate_and_failures(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    with Reporter("inferring", [10, 20, 30], [1, 2], show=True, log=None) as reporter:
        reporter.say("dashboard: [here]")
        reporter.done(1, MADE)
        reporter.failed(2, ValueError("poison"))
    said = capsys.readouterr().err
    for word in ("dashboard: [here]", "inferring", "30/60", "galaxies/s", "1 failed"):
        assert word in said


def test_where_stderr_is_no_terminal_there_is_a_line_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr("popcat.run.runner._LINE_EVERY_S", 0.0)
    with Reporter("inferring", [10, 20], [0, 1], show=True, log=None) as reporter:
        reporter.done(0, MADE)
    assert "inferring 10 of 30 galaxies" in capsys.readouterr().err


def test_jobs_under_way_say_how_far_they_are(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("popcat.run.runner._LINE_EVERY_S", 0.0)
    tell(tmp_path, 0, Told(99, "what an earlier run has left"))
    log = tmp_path / "log"

    def task(index, amount):
        tell(tmp_path, index, Told(amount // 2, f"flow {index}: step 1 of 2", left_s=300.0, facts={"score": 0.1}))

    with Reporter("fitting", [10, 40], [0, 1], show=True, log=log, unit="draws", noun="flow") as reporter:
        with listening(tmp_path, reporter.heard):
            task(0, 10)
        reporter.done(0, MADE)
        with listening(tmp_path, reporter.heard):
            task(0, 10)  # its last word, read after its end
            task(1, 40)
    said = capsys.readouterr().err
    assert "fitting 5 of 50 draws" in said and "fitting 30 of 50 draws" in said
    assert "5 min left, flow 1: step 1 of 2" in said.replace("\n", " ")
    heard = [one for one in lines(log) if one["event"] == "flow_at"]
    assert [(one["flow"], one["done"]) for one in heard] == [(0, 5), (0, 5), (1, 20)]
    assert heard[0]["facts"] == {"score": 0.1}


def test_a_task_tells_from_wherever_it_runs(cluster, tmp_path):
    runner.run(tell, {3: (tmp_path, 3, Told(1, "half of it"))}, verb="telling", how=runner.How(cluster({})),
               sizes=[1] * 4, told=tmp_path, noun="flow", summary=tmp_path / "summary.json")  # fmt: skip
    assert json.loads((tmp_path / "told-3.json").read_text())["words"] == "half of it"


def test_what_cannot_be_told_stops_nothing(tmp_path):
    tell(tmp_path / "gone", 0, Told(1, "nobody hears it"))
    heard = []
    with listening(tmp_path, lambda index, told: heard.append(told.words)):
        (tmp_path / "told-0.json").write_text("no JSON")
        (tmp_path / "told-1.json").write_text('{"other": 1}')
        tell(tmp_path, 2, Told(1, "as it should be"))
    assert heard == ["as it should be"]

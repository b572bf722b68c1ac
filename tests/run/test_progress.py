"""A run tells what it does: a log of JSON lines, a summary, a bar."""

import json

import pytest

from popcat.errors import PopcatError
from popcat.run.runner import Reporter

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

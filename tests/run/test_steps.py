"""Steps under one bar: the runs inside share it."""

import io
import json

from rich.console import Console

from popcat.run import shown
from popcat.run.runner import How, run
from popcat.run.steps import Steps


def test_runs_inside_a_step_share_its_bar_and_tell_how_far_they_are(monkeypatch):
    text = io.StringIO()
    made = shown.new_bar

    def bar():
        one = made()
        one.live.console = Console(file=text, force_terminal=False, width=120)
        return one

    monkeypatch.setattr("popcat.run.steps.new_bar", bar)
    fractions = []
    with Steps({"first": 10.0, "second": 30.0}, show=True) as steps:
        monkeypatch.setattr(steps, "at", lambda fraction: fractions.append(fraction))
        with steps.step("first", "making two things"):
            run(pow, {0: (2, 3), 1: (2, 2)}, verb="computing", how=How("synchronous", progress=steps.progress))
        assert steps.left_s == 30.0
        assert len(steps.bar.tasks) == 1
        assert steps.bar.tasks[0].completed == 10 and steps.bar.tasks[0].total == 40
        steps.expect({"second": 90.0})
        assert steps.left_s == 90.0
    assert fractions == [0.5, 1.0]
    assert text.getvalue() == "step 1 of 2: making two things; about 40 s left in all\n"


def test_nothing_is_shown_unless_asked_for(capsys):
    with Steps({"only": 1.0}, show=False) as steps, steps.step("only", "working"):
        assert steps.progress is False
        steps.say("nothing")
    assert capsys.readouterr() == ("", "")


def test_a_step_that_knows_its_time_left_corrects_what_was_expected(tmp_path):
    with Steps({"first": 10.0, "second": 30.0}, show=False, log=tmp_path / "log") as steps:
        with steps.step("first", "working"):
            steps.at(0.1, left_s=100.0)
            assert 130.0 <= steps.left_s < 130.1
        assert steps.left_s == 30.0
    events = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(one["event"], one["step"]) for one in events] == [("step_started", "first"), ("step_ended", "first")]

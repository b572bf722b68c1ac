"""A few seeds of benchmarks/chaos.py: random faults at random moments of whatever writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHAOS = Path(__file__).parents[2] / "benchmarks" / "chaos.py"


@pytest.mark.slow
def test_what_is_disturbed_is_finished_with_the_same_bytes_or_refused_in_words(tmp_path):
    only = ["infer", "infer on workers", "simulate", "reweight", "export"]
    command = [sys.executable, CHAOS, "--seeds", "8", "--json", tmp_path / "chaos.json", "--only", *only]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    found = json.loads((tmp_path / "chaos.json").read_text())
    assert found["tried"] == 8 == found["recovered"] + found["refused"]
    assert (found["rows_lost"], found["digest_differs"]) == (0, 0)

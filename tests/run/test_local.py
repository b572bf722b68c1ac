"""Local workers that cannot start: one line that says what to do, and no process that starts others."""

import os
import subprocess
import sys
import textwrap

import pytest

BODY = """
from popcat.run.runner import How, run
{call}
"""
CALL = 'outcomes = run(pow, {0: (2, 3), 1: (2, 4)}, verb="computing", how=How(workers=1))\nprint(len(outcomes), "done")'
GUARDED = "if __name__ == '__main__':\n" + textwrap.indent(CALL, "    ")


def script(path, text, **environment):
    path.write_text(BODY.format(call=text))
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=300,
                          env={**os.environ, **environment}, check=False)  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_a_script_that_its_own_workers_would_run_again_is_refused_before_one_starts(tmp_path):
    status, out, err = script(tmp_path / "plain.py", CALL)
    assert status == 1 and "done" not in out
    last = err.strip().splitlines()[-1]
    assert "line 3 of plain.py starts processes" in last and 'under `if __name__ == "__main__":`' in last
    assert err.count("popcat.errors.PopcatError") == 1 and "bootstrapping" not in err


IN_FUNCTION = f"def main():\n{textwrap.indent(CALL, '    ')}\nif '__main__' == __name__: main()"


@pytest.mark.parametrize("text", [GUARDED, IN_FUNCTION])
def test_a_script_with_a_guard_runs(tmp_path, text):
    status, out, err = script(tmp_path / "guarded.py", text)
    assert (status, out) == (0, "2 done\n"), err


def test_a_scratch_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file" / "scratch")
    status, _, err = script(tmp_path / "guarded.py", GUARDED, DASK_TEMPORARY_DIRECTORY=folder)
    last = err.strip().splitlines()[-1]
    assert status == 1 and "no local workers can be started" in last
    assert folder in last and "DASK_TEMPORARY_DIRECTORY" in last

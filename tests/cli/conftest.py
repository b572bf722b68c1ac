"""The command line, run in this process."""

import sys

import pytest

from popcat.cli import main


@pytest.fixture
def popcat(monkeypatch, capsys):
    """Run `popcat` in this process: exit status, what it printed, what it said on stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["popcat", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return end.value.code or 0, out, err

    return run

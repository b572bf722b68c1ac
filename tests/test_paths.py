"""URLs as paths: what is not read or written there is refused in one line, and nothing lands in a folder "s3:"."""

import os
import sys
from pathlib import Path

import pytest

from popcat.cli import main
from popcat.errors import PopcatError
from popcat.paths import local

URL = "s3://bucket/there"
COMMANDS = [
    "demo -o URL",
    "infer GALAXIES --log URL -o out",
    "infer GALAXIES --performance-report URL -o out",
    "export URL -o out",
    "export POSTERIORS -o URL",
    "ssp build --source URL -o out.npz",
    "ssp build -o URL",
    "ssp build --engine fsps --sps-home URL -o out.npz",
    "ssp describe URL",
    "simulate -n 10 --log URL -o out",
    "train --library out -o URL",
    "calibrate --posterior sdss -n 20 --draws 20 -o URL",
    "fit GALAXIES -o URL",
    "population fit GALAXIES -o URL",
    "population sample URL -o out.parquet",
    "population report URL -o out.html",
    "population compare URL out",
]


@pytest.fixture(scope="module")
def posteriors(galaxies, tmp_path_factory):
    """A posterior catalogue of 150 galaxies."""
    from popcat import infer

    folder = tmp_path_factory.mktemp("made") / "posteriors"
    infer(galaxies, output=folder, draws=4, client="synchronous")
    return folder


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, posteriors, galaxies):
    """Run a command in an empty folder: its exit status, and what it said."""
    monkeypatch.chdir(tmp_path)

    def run(line):
        named = {"URL": URL, "GALAXIES": str(galaxies), "POSTERIORS": str(posteriors)}
        monkeypatch.setattr("sys.argv", ["popcat", *(named.get(word, word) for word in line.split())])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capsys.readouterr().err

    return run


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_refuses_a_url_in_one_line_and_writes_nothing(run, line, tmp_path):
    status, said = run(line)
    assert status == 2, said
    assert said.count("\n") == 1 and URL in said and "got a URL" in said
    assert not any(path.name.startswith("s3") for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("line", [
    "infer GALAXIES -o OTHER", "infer OTHER -o out", "infer GALAXIES --posterior OTHER -o out",
    "infer GALAXIES --survey OTHER -o out", "plan OTHER", "survey draft OTHER -o out.toml",
    "noise fit GALAXIES -o OTHER", "reweight OTHER --prior flat -o out", "reweight POSTERIORS --prior flat -o OTHER",
    "verify OTHER", "crosscheck OTHER -o out", "compare OTHER POSTERIORS", "report OTHER -o out.html",
    "report POSTERIORS -o OTHER", "report POSTERIORS --beside OTHER -o out.html",
    "export POSTERIORS --to fits -o OTHER", "simulate -n 10 -o OTHER",
    "simulate -n 10 --noise OTHER -o out", "train --library OTHER -o out", "population fit OTHER -o out",
])  # fmt: skip
def test_a_url_of_a_scheme_that_popcat_does_not_know_is_refused_in_one_line(run, line, tmp_path):
    status, said = run(line.replace("OTHER", "gs://bucket/there"))
    assert status == 2 and said.count("\n") == 1
    assert "gs://bucket/there: popcat knows no URLs of gs://; expected s3://BUCKET/NAME or a local path" in said
    assert not any(path.name.startswith("gs") for path in tmp_path.rglob("*"))


def test_without_the_extra_a_url_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    status, said = run("verify s3://bucket/there")
    assert (status, said) == (2, "Error: s3://bucket/there: URLs need obstore: pip install 'popcat[stores]'\n")


def test_without_credentials_a_url_says_which_variables_to_set(run, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    status, said = run("verify s3://bucket/there")
    assert status == 2 and said.count("\n") == 1
    assert "s3://bucket/there" in said and "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in said


@pytest.mark.parametrize("path", ["s3://b/x", "gs://b/x", "https://host/x", "file:///x", Path("s3://b/x")])
def test_what_has_a_scheme_is_no_path_on_a_disk(path):
    with pytest.raises(PopcatError, match=r"://.*expected a path on a disk"):
        local(path)


@pytest.mark.parametrize("path", ["x", "./a:b/c", "C:/x", "/x/s3://y", Path("x")])
def test_what_has_none_is_one(path):
    assert local(path) == Path(path)

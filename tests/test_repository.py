"""Laws of the repository as a whole: what may be committed, and what `import popcat` may cost."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import popcat

ROOT = Path(__file__).parents[1]
MB = 1_000_000
HEAVY = ("torch", "dask", "distributed", "fsps", "matplotlib", "numba", "nflows", "speclite")
# Homes and scratch folders of one machine; indexes that only one machine needs.
MACHINE = re.compile(r"(?<![\w.~-])/(?:home|root|work|Users|tmp)/\w|(?<![\w.~-])/opt/(?:pypi|wheels)")
REGISTRY = re.compile(r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|--(?:extra-)?index-url|--find-links", re.I)


@pytest.fixture(scope="module")
def committed():
    """Files that are, or would be, committed."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.fixture(scope="module")
def texts(committed):
    """Text of each committed file that is text, except this one, which spells out what is forbidden."""
    contents = {path: path.read_bytes() for path in committed if path != Path(__file__)}
    return {path: raw.decode(errors="replace") for path, raw in contents.items() if b"\0" not in raw}


def offending_lines(texts, pattern):
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


def test_no_file_is_over_20_mb(committed):
    assert [path.name for path in committed if path.stat().st_size > 20 * MB] == []


def test_the_repository_is_under_60_mb(committed):
    assert sum(path.stat().st_size for path in committed) < 60 * MB


def test_embedded_data_are_under_25_mb(committed):
    data = ROOT / "popcat" / "data"
    assert sum(path.stat().st_size for path in committed if data in path.parents) < 25 * MB


def test_no_file_names_a_folder_of_one_machine(texts):
    assert offending_lines(texts, MACHINE) == []


def test_no_file_names_a_package_registry(texts):
    assert offending_lines(texts, REGISTRY) == []


@pytest.mark.parametrize(
    "line, is_machine_path",
    [
        ("cache = '/home/alice/cache'", True),
        ("see /tmp/x", True),
        ("docs/home/index.md", False),
        ("https://example.org/home/page", False),
        ("~/home/notes", False),
    ],
)
def test_machine_paths_are_told_from_others(line, is_machine_path):
    assert bool(MACHINE.search(line)) is is_machine_path


def test_importing_popcat_loads_nothing_heavy():
    code = f"import sys, popcat; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_the_installed_version_is_that_of_the_source():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "popcat.__version__"}
    assert metadata.version("popcat") == popcat.__version__


def test_citation_and_changelog_name_the_version():
    assert f"\nversion: {popcat.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## [{popcat.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_requirement_of_base_test_and_bench_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {requirement_name(line) for line in [*project["dependencies"], *extras["test"], *extras["bench"]]}
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*", line) for line in pins)
    assert wanted - {line.split("==")[0] for line in pins} == set()


def requirement_name(requirement):
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower().replace("_", "-")

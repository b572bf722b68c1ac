"""The wheel: holds all of the package, says what it needs, and runs alone, without the repository around it."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import popcat

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = ("3.11", "3.12", "3.13")
TRY = """
import popcat, pandas, sys
from importlib.resources import files
assert sys.prefix in popcat.__file__, popcat.__file__
galaxies = pandas.read_parquet(files("popcat") / "data" / "galaxies_sdss.parquet")[:50]
found = popcat.infer(galaxies, output="posteriors", draws=5, client="synchronous")
print(len(found), (found.to_pandas(["status"])["status"] == "ok").mean())
"""
"""What a wheel is tried with: embedded galaxies through the embedded posterior."""


def run(*command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def package_files():
    return [file for file in (ROOT / "popcat").rglob("*")
            if file.is_file() and "__pycache__" not in file.parts and not re.match(r"\.nb.", file.suffix)]  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the wheel and the source distribution, made from what belongs to them alone, without a network."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    beside = [ROOT / name for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")]
    for file in (*package_files(), *beside):
        target = source / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    code = "import sys, setuptools.build_meta as b; to = sys.argv[1]; b.build_sdist(to); b.build_wheel(to)"
    run(sys.executable, "-W", "error::setuptools.warnings.SetuptoolsDeprecationWarning", "-c", code, folder, cwd=source)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    return next(built.glob("*.whl"))


def test_wheel_and_source_hold_every_file_of_the_package_and_no_test(built, wheel):
    expected = {str(file.relative_to(ROOT)) for file in package_files()}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == expected and "popcat/py.typed" in held
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    assert expected | {"pyproject.toml", "README.md", "LICENSE"} <= names
    assert not any(name.startswith("tests/") for name in names)


def test_its_metadata_are_those_of_the_project(wheel):
    with zipfile.ZipFile(wheel) as archive:
        folder = f"popcat-{popcat.__version__}.dist-info"
        said = Parser().parsestr(archive.read(f"{folder}/METADATA").decode())
        assert "popcat = popcat.cli:main" in archive.read(f"{folder}/entry_points.txt").decode()
        licences = {name for name in archive.namelist() if name.startswith(f"{folder}/licenses/")}
    assert said["Version"] == popcat.__version__ and said["Requires-Python"] == PROJECT["requires-python"]
    assert set(said.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])
    assert {f"Programming Language :: Python :: {one}" for one in PYTHONS} <= set(said.get_all("Classifier"))
    assert len(licences) == 1 + len(list((ROOT / "popcat" / "data" / "LICENSES").iterdir()))


def test_it_runs_in_an_environment_of_its_own(wheel, tmp_path):
    """popcat is the wheel's there; the packages that it needs are those of this environment, so no network is used.

    The doctor reads every embedded file. Kernels, which take a minute to compile in a new place, are for the slow test.
    """
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "packages_of_the_tests.pth").write_text(sysconfig.get_path("purelib"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    said = run(tmp_path / "venv" / "bin" / "popcat", "doctor", cwd=tmp_path, env=environment)
    assert str(tmp_path / "venv" / "bin" / "python") in said and "FAIL" not in said
    code = "import popcat; print(popcat.load_posterior('sdss').survey.name, popcat.__file__)"
    assert run(python, "-c", code, cwd=tmp_path, env=environment) == f"sdss {site / 'popcat' / '__init__.py'}\n"


@pytest.mark.slow
@pytest.mark.parametrize("version", PYTHONS)
def test_pip_installs_it_with_all_it_needs(wheel, tmp_path, version):
    """From a package index, several GB where torch comes with CUDA."""
    found = shutil.which(f"python{version}") or next(
        iter(sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))), None)  # fmt: skip
    if found is None:
        pytest.skip(f"there is no python{version} on this machine")
    run(found, "-m", "venv", tmp_path / "venv")
    binaries = tmp_path / "venv" / "bin"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run(binaries / "python", "-m", "pip", "install", "--quiet", wheel, env=environment)
    assert "No broken requirements" in run(binaries / "python", "-m", "pip", "check")
    assert run(binaries / "python", "-c", TRY, cwd=tmp_path, env=environment).split()[0] == "50"
    run(binaries / "popcat", "doctor", cwd=tmp_path, env=environment)

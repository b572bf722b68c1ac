"""Every script in examples/ runs and prints what it promises."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import popcat

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name, *arguments):
    command = [sys.executable, EXAMPLES / name, *arguments]
    path = os.pathsep.join([str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def posteriors(galaxies, tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples") / "posteriors"
    popcat.infer(galaxies, output=folder, draws=10, client="synchronous")
    return folder


def test_a_survey_of_ones_own(tmp_path):
    out = run("own_survey.py", tmp_path)
    assert len(re.findall(r"^[ugriz]: 500 observed in uJy", out, re.M)) == 5
    assert "10 galaxies fail the quality cut" in out
    posteriors, mass = re.search(r"(\d+) posteriors, median log_mstar ([\d.]+)", out).groups()
    assert int(posteriors) > 490 and 10 < float(mass) < 11.2


def test_one_galaxy(tmp_path):
    out = run("one_galaxy.py", tmp_path)
    assert re.search(r"status +ok", out) and 10.3 < float(re.search(r"^log_mstar +\S+ +(\S+)", out, re.M)[1]) < 11.0
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "galaxy_corner.png", "galaxy_sed.png", "galaxy_sfh.png"]  # fmt: skip


def test_a_cluster(galaxies, tmp_path):
    out = run("cluster.py", galaxies, tmp_path / "out")
    assert "150 galaxies in 3 parts" in out and "log_mstar_p50" in out


def test_a_lake(posteriors, tmp_path):
    for package in ("cdshealpix", "deltalake", "duckdb"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is of the extra `lake`: make test-lake")
    out = run("lake.py", posteriors, tmp_path)
    assert "hats: 150 galaxies added, 150 in all" in out and "delta: 150 galaxies added" in out
    assert re.search(r"^[\d.]+ galaxies are quiescent", out, re.M)
    assert "hats: 0 galaxies added, 150 in all" in run("lake.py", posteriors, tmp_path)


def test_a_population(tmp_path):
    import pyarrow.parquet as pq

    whole = Path(popcat.__file__).parent / "data" / "galaxies_sdss.parquet"
    pq.write_table(pq.read_table(whole).slice(0, 1000), tmp_path / "some.parquet")
    out = run("population.py", tmp_path / "some.parquet", tmp_path / "out")
    redshift, mass = re.search(r"median redshift ([\d.]+), median log_mstar ([\d.]+)", out).groups()
    assert 0.03 < float(redshift) < 0.25 and 9.5 < float(mass) < 11.5


def test_photometric_redshifts(galaxies, tmp_path):
    out = run("photo_z.py", galaxies, tmp_path / "out")
    assert float(re.search(r"sigma_NMAD ([\d.]+)", out)[1]) < 0.1

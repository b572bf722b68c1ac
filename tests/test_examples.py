"""Every script in examples/ runs and prints what it promises."""

import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

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


@pytest.mark.slow  # trains
def test_a_survey_of_ones_own(tmp_path):
    out = run("own_survey.py", tmp_path)
    assert len(re.findall(r"^[ugriz]: 500 observed in uJy", out, re.M)) == 5
    assert "10 galaxies fail the quality cut" in out
    posteriors, mass = re.search(r"(\d+) posteriors, median log_mstar ([\d.]+)", out).groups()
    assert int(posteriors) > 490 and 10 < float(mass) < 11.2


@pytest.mark.slow  # the same calls are in tests/test_fit_galaxy.py
def test_one_galaxy(tmp_path):
    out = run("one_galaxy.py", tmp_path)
    assert re.search(r"status +ok", out) and 10.3 < float(re.search(r"^log_mstar +\S+ +(\S+)", out, re.M)[1]) < 11.0
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "galaxy_corner.png", "galaxy_sed.png", "galaxy_sfh.png"]  # fmt: skip


@pytest.mark.slow  # starts schedulers and workers, as other tests do
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


@pytest.mark.slow  # tests/population tests all that it does
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


PACKAGES = {"jobqueue": ("dask_jobqueue", "SLURMCluster"), "gateway": ("dask_gateway", "GatewayCluster"),
            "coiled": ("coiled", "Cluster")}  # fmt: skip


@pytest.fixture
def clusters():
    """examples/clusters.py as a module."""
    spec = importlib.util.spec_from_file_location("clusters", EXAMPLES / "clusters.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", PACKAGES)
def test_other_clusters_give_infer_a_client_that_is_running(clusters, kind, monkeypatch, capsys):
    """A local cluster stands in for theirs: none of them can be started here."""
    from distributed import LocalCluster

    package, name = PACKAGES[kind]
    asked, used = [], []

    class StandIn(LocalCluster):
        def __init__(self, **options):
            asked.append(options)
            super().__init__(n_workers=0, dashboard_address="127.0.0.1:0", processes=False)

        def scale(self, n=0, jobs=0):
            asked.append(n or jobs)

    def infer(catalog, posterior, *, output, client):
        used.append((catalog, output, client.status))
        return Result()

    class Result(list):
        files = ("part",)

    monkeypatch.setitem(sys.modules, package, SimpleNamespace(**{name: StandIn}))
    monkeypatch.setattr(popcat, "infer", infer)
    clusters.main(kind, "s3://bucket/galaxies.parquet", "s3://bucket/out")
    assert used == [("s3://bucket/galaxies.parquet", "s3://bucket/out", "running")]
    assert any(isinstance(one, int) and one > 1 for one in [*asked, asked[0].get("n_workers")])


@pytest.mark.parametrize("kind", PACKAGES)
def test_the_packages_of_other_clusters_take_what_they_are_given(clusters, kind, monkeypatch):
    package, name = PACKAGES[kind]
    module = pytest.importorskip(package, reason="is of the extra `cluster`, or installed by who uses it")
    given = {}

    class Named(getattr(module, name)):
        def __init__(self, **options):
            given.update(options)

        def scale(self, *_, **options):
            given.update(options)

    known = {parameter for one in [getattr(module, name), *getattr(module, name).__mro__] if "__init__" in vars(one)
             for parameter in inspect.signature(one.__init__).parameters}  # fmt: skip
    if kind == "jobqueue":
        known |= {*inspect.signature(module.slurm.SLURMJob.__init__).parameters, "jobs",
                  *inspect.signature(module.core.Job.__init__).parameters}  # fmt: skip
    monkeypatch.setattr(module, name, Named)
    getattr(clusters, kind)()
    assert set(given) <= known and callable(getattr(Named, "get_client", None))

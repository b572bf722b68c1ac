"""The estimator of examples/rail_estimator.py in RAIL itself; skipped where pz-rail-base (extra `rail`) is missing."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import popcat
from popcat.catalog.photoz import density

pytest.importorskip("rail.estimation", reason="pz-rail-base is of the extra `rail`")
pytestmark = pytest.mark.filterwarnings("default")  # what RAIL and its dependencies deprecate is theirs

GRID = np.linspace(0.0, 0.6, 121)


@pytest.fixture(scope="module")
def example():
    path = Path(__file__).parents[1] / "examples" / "rail_estimator.py"
    spec = importlib.util.spec_from_file_location("rail_estimator", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)  # where RAIL looks for the file of a stage
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def frame(galaxies):
    frame = pd.read_parquet(galaxies).head(60)
    frame.loc[7, [f"modelflux_{band}" for band in "ugriz"]] = np.nan  # nothing observed: no posterior
    return frame


def estimate(example, frame, tmp_path, **options):
    stage = example.PopcatEstimator.make_stage(
        name="popcat", posterior="sdss", zmin=0.0, zmax=0.6, nzbins=121, hdf5_groupname="", draws=50,
        output=str(tmp_path / "photoz.hdf5"), **options,
    )  # fmt: skip
    return stage.estimate(frame).read()


def test_its_densities_are_those_of_infer_whatever_the_chunks(example, frame, tmp_path):
    found = estimate(example, frame, tmp_path, chunk_size=25)
    expected = popcat.infer(frame, "sdss", draws=50, hide_redshift=True, client="synchronous")
    has_posterior = expected["redshift_draws"].notna().to_numpy()
    assert found.npdf == 60 and found.ancil["has_posterior"].tolist() == has_posterior.tolist()
    assert not has_posterior[7] and has_posterior.sum() > 50
    draws = np.stack(expected["redshift_draws"][has_posterior].to_numpy())
    np.testing.assert_allclose(found.pdf(GRID)[has_posterior], density(draws, GRID), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.pdf(GRID)[7], 1 / 0.6)
    assert found.ancil["object_id"].tolist() == frame["object_id"].tolist()
    truth = frame["redshift"].to_numpy()
    assert np.median(np.abs(found.ancil["zmode"] - truth)[has_posterior]) < 0.04


def test_galaxies_without_identifiers_are_numbered(example, frame, tmp_path):
    found = estimate(example, frame.head(10).drop(columns="object_id"), tmp_path, chunk_size=5)
    assert found.ancil["object_id"].tolist() == list(range(10))

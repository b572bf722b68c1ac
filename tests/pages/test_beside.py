"""The part of the report that compares two catalogues of the same galaxies."""

import shutil

import numpy as np
import pytest

from popcat import infer, open_catalog, report
from popcat.errors import PopcatError
from popcat.pages.beside import beside_section


@pytest.fixture(scope="module")
def pair(galaxies, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    for seed in (0, 1):
        infer(galaxies, "sdss", output=folder / f"seed{seed}", draws=20, seed=seed, client="synchronous")
    return folder


def test_two_catalogues_of_the_same_galaxies_are_compared(pair):
    found = beside_section(open_catalog(pair / "seed0"), pair / "seed1")
    assert found["title"] == "Seed0 and seed1"
    assert found["text"].startswith("The same 1") and "two catalogues: seed0 and seed1." in found["text"]
    header, *rows = found["rows"]
    assert header[1:3] == ("seed0", "seed1")
    frames = [open_catalog(pair / f"seed{seed}").to_pandas(where="status == 'ok'") for seed in (0, 1)]
    assert rows[0][1:3] == tuple(f"{frame['log_mstar_p50'].median():.2f}" for frame in frames)
    assert float(rows[0][3]) < 1.0
    assert rows[-1][1] == f"{np.mean(frames[0]['log_ssfr_p50'] < -11.0):.0%}"
    assert all(uri.startswith("data:image/png") for uri, *_ in found["figures"])


def test_the_report_shows_them(pair, tmp_path):
    page = report(pair / "seed0", tmp_path / "page.html", beside=pair / "seed1").read_text(encoding="utf-8")
    assert "Seed0 and seed1" in page and "typical difference, in 68% errors" in page


def test_catalogues_of_the_same_name_go_by_their_whole_paths(pair, tmp_path):
    other = shutil.copytree(pair / "seed1", tmp_path / "seed0")
    found = beside_section(open_catalog(pair / "seed0"), other)
    assert found["rows"][0][1:3] == (str(pair / "seed0"), str(other))


def test_catalogues_without_a_common_galaxy_are_refused(pair, galaxies, tmp_path):
    import pandas as pd

    other = pd.read_parquet(galaxies).iloc[:5].assign(object_id=10**15 + np.arange(5))
    infer(other, "sdss", output=tmp_path / "other", draws=5, client="synchronous")
    with pytest.raises(PopcatError, match="posteriors of no galaxy in common"):
        beside_section(open_catalog(pair / "seed0"), tmp_path / "other")

"""Galaxies that no model fits are counted, with the bands that disagree and what sets them apart."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from popcat import infer
from popcat.catalog.queries import open_catalog
from popcat.errors import CatalogWarning
from popcat.galaxies import FLAGS
from popcat.inference.misfits import misfits
from popcat.survey import load_survey

SURVEY = load_survey("sdss")


def simulated(n=4000, seed=0):
    """Galaxies as a posterior catalogue has them, all of which fit."""
    random = np.random.default_rng(seed)
    r = random.uniform(15.0, 17.8, n)
    mags = {"u": r + random.normal(2.3, 0.5, n), "g": r + random.normal(0.7, 0.2, n), "r": r,
            "i": r - random.normal(0.35, 0.1, n), "z": r - random.normal(0.6, 0.15, n)}  # fmt: skip
    columns = {f"flux_{band}": 10.0 ** (0.4 * (22.5 - mag)) for band, mag in mags.items()}
    return pd.DataFrame({**columns, "status": "ok", "flags": 0, "worst_band": None,
                         "redshift_p50": random.uniform(0.02, 0.2, n)})  # fmt: skip


def said(frame):
    return misfits(pa.Table.from_pandas(frame.astype({"worst_band": "string"}), preserve_index=False), SURVEY)


def test_galaxies_that_fit_are_no_word_worth():
    frame = simulated()
    frame.loc[:18, "flags"] = FLAGS["high_chi2"]
    assert said(frame) == []
    frame = simulated(500_000)
    frame.loc[:400, "flags"] = FLAGS["high_chi2"]
    assert said(frame) == []


def test_the_bands_and_what_is_common_are_named():
    frame = simulated()
    blue = (frame["flux_u"] / frame["flux_r"]).rank(pct=True) > 0.93
    frame.loc[blue, "flags"] = FLAGS["high_chi2"]
    frame.loc[blue, "worst_band"] = np.where(np.arange(blue.sum()) % 4, "u", "g")
    first, second = said(frame)
    assert first.startswith("7.0% of the galaxies do not fit the model (high_chi2, unusual_colours, band_off)")
    assert first.endswith("the band that disagrees: u 75%, g 25%")
    assert second.startswith("what sets them apart: bluer (u - r 1.") and "farther" not in second


def test_what_is_everywhere_has_nothing_in_common():
    frame = simulated()
    frame.loc[::5, "flags"] = FLAGS["unusual_colours"]
    assert said(frame)[1] == "they do not differ from the others in brightness, colour or redshift"


def test_faint_and_negative_fluxes_have_no_magnitude():
    frame = simulated()
    frame.loc[frame["flux_r"] < frame["flux_r"].quantile(0.1), "flags"] = FLAGS["band_off"]
    frame.loc[::7, "flux_u"] = -1.0
    assert "fainter (r 17." in said(frame)[1]


@pytest.fixture
def galaxies_file(galaxies, tmp_path):
    """Real galaxies, u of half of them a hundred times too bright."""
    frame = pd.read_parquet(galaxies)
    frame.loc[::2, "modelflux_u"] = 100.0 * frame["modelflux_u"].abs()[::2]
    frame.to_parquet(tmp_path / "spoilt.parquet")
    return tmp_path / "spoilt.parquet"


def test_a_run_says_it_and_keeps_it(galaxies_file, tiny_model, tmp_path):
    with pytest.warns(CatalogWarning, match="DOES NOT FIT"):
        catalog = infer(galaxies_file, tiny_model, output=tmp_path / "out", draws=20, client="synchronous")
    lines = catalog.require_manifest().misfits
    assert len(lines) == 2 and "do not fit the model" in lines[0] and "disagrees: u " in lines[0]
    assert open_catalog(tmp_path / "out").require_manifest().misfits == lines

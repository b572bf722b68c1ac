"""Star formation of a catalogue's draws."""

import numpy as np
import pytest

import popcat
from popcat.errors import PopcatError


@pytest.fixture(scope="module")
def catalog(galaxies, tmp_path_factory):
    output = tmp_path_factory.mktemp("star formation") / "posteriors"
    popcat.infer(galaxies, "sdss", output=output, draws=6, client="synchronous")
    return popcat.open_catalog(output)


def test_rates_agree_with_the_stored_property(catalog):
    ids = catalog.to_pandas(["object_id"], "status == 'ok'")["object_id"][:8].to_numpy()
    found, stored = catalog.sfh(ids, [0.0, 0.1, 1.0, 3.0]), catalog.draws(ids, ["log_sfr_100myr", "age_mw_gyr"])
    assert found.sfr.shape == (48, 3) and found.galaxies[["object_id", "draw"]].equals(stored[["object_id", "draw"]])
    floor = stored["log_sfr_100myr"].min()
    rate = np.log10(np.maximum(found.sfr[:, 0], 10.0**floor))
    np.testing.assert_allclose(rate, stored["log_sfr_100myr"], atol=1e-4)
    assert np.all(found.galaxies["t50_gyr"] < found.galaxies["t90_gyr"])
    assert np.all(found.galaxies["z_form"] > found.galaxies["redshift"])
    assert "48" in repr(found)


def test_a_long_frame_has_a_row_for_each_bin_of_each_draw(catalog):
    ids = catalog.to_pandas(["object_id"], "status == 'ok'")["object_id"][:2].to_numpy()
    found = catalog.sfh(ids)
    frame = found.to_pandas()
    assert list(frame) == ["object_id", "draw", "lookback_low_gyr", "lookback_high_gyr", "sfr"]
    assert len(frame) == found.sfr.size and frame["object_id"].unique().tolist() == ids.tolist()


def test_bases_that_have_changed_are_refused(catalog, monkeypatch):
    known = catalog.manifest.fingerprint["forward"]
    monkeypatch.setitem(known, "bases", "0" * 64)
    with pytest.raises(PopcatError, match="bases popcat changed"):
        catalog.sfh([1])


def test_a_file_without_a_manifest_has_no_galaxy_model(galaxies):
    with pytest.raises(PopcatError, match="holds Parquet files without a manifest"):
        popcat.open_catalog(galaxies).sfh([1])

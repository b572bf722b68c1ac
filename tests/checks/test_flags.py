"""The tests that a galaxy must pass, and the columns of its proof."""

from dataclasses import replace

import numpy as np
import pytest

from popcat.checks.flags import _chi2_limit, judge
from popcat.checks.peers import find_peers, fit_peers
from popcat.galaxies import FLAGS, UNCERTIFIED, observation
from popcat.inference.partition import certificate_columns
from popcat.posterior.posterior import load_posterior

N = 1500


def test_chi2_is_high_beyond_the_tail_of_pure_noise():
    from scipy.stats import chi2

    np.testing.assert_allclose(chi2.sf(_chi2_limit(np.array([1, 3, 5])), [1, 3, 5]), 1e-4)


@pytest.fixture(scope="module")
def posterior():
    return load_posterior("sdss")


@pytest.fixture(scope="module")
def real(posterior):
    """Real galaxies, as observed."""
    from importlib.resources import files

    import pandas as pd

    from popcat.io.photometry import to_photometry

    raw = pd.read_parquet(files("popcat") / "data" / "galaxies_sdss.parquet").head(N)
    return observation(to_photometry(raw, posterior.survey), posterior.survey)


def judged(data, posterior, *, peers=None):
    return judge(data, posterior, lambda *_: None, np.zeros(len(data)), 0, peers)


def spoilt(data, band, magnitudes):
    """The first 200 galaxies with one band off; relative errors stay."""
    factor = np.ones(data.flux.shape[1])
    factor[band] = 10 ** (-0.4 * magnitudes)
    some = data[:200]
    return replace(some, flux=some.flux * factor, flux_err=some.flux_err * factor)


def share_off(found):
    return np.mean(found.flags & FLAGS["band_off"] != 0)


@pytest.mark.parametrize("band", [1, 2, 3, 4])
@pytest.mark.parametrize("magnitudes", [0.5, -0.5])
def test_half_a_magnitude_in_griz_is_flagged_and_the_band_named(real, posterior, band, magnitudes):
    found = judged(spoilt(real, band, magnitudes), posterior)
    is_off = found.flags & FLAGS["band_off"] != 0
    assert is_off.mean() > 0.8
    assert np.mean(found.worst[is_off] == band) > 0.9


@pytest.mark.parametrize("magnitudes", [1.0, -1.0])
def test_the_catalogue_itself_tells_when_u_is_off(real, posterior, magnitudes):
    peers = fit_peers(real.flux, real.flux_err, real.redshift, real.redshift_err, posterior.features.softening)
    wrong = spoilt(real, 0, magnitudes)
    assert share_off(judged(wrong, posterior, peers=peers)) > 0.8
    assert share_off(judged(real, posterior, peers=peers)) < 0.05


def test_a_band_that_is_off_forbids_a_certificate():
    assert "band_off" in UNCERTIFIED


def test_without_a_proof_the_columns_say_what_made_the_draws():
    columns = certificate_columns(None, np.zeros(3, dtype=int), np.array([0, 2]))
    assert columns["route"].to_pylist() == ["flow", None, "flow"]
    assert not columns["certified"].any() and columns["ess"].null_count == 3


@pytest.mark.parametrize("hide", [False, True])
def test_a_catalogue_has_peers_with_redshifts_unless_they_are_hidden(posterior, hide):
    from importlib.resources import files

    from popcat.checks.peers import N_FIT

    source = files("popcat") / "data" / "galaxies_sdss.parquet"
    peers = find_peers(source, posterior, hide_redshift=hide)
    assert peers.n_galaxies == N_FIT
    assert (peers.centre[-1] > 0.0) == (not hide)


def test_a_catalogue_of_few_galaxies_has_none(posterior, tmp_path):
    from importlib.resources import files

    import pandas as pd

    few = pd.read_parquet(files("popcat") / "data" / "galaxies_sdss.parquet").head(50)
    few.to_parquet(tmp_path / "few.parquet")
    assert find_peers(tmp_path / "few.parquet", posterior) is None

"""The tests that a galaxy must pass, and the columns that say how its draws were made."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from popcat.checks.flags import (
    BLOCK_ROWS,
    N_BLOCKS,
    N_FIT,
    check_galaxies,
    describe_own_galaxies,
    fit_own_galaxies,
    is_at_edge,
    rows_to_fit,
)
from popcat.galaxies import FLAGS, UNCERTIFIED, chi2_limit, observation
from popcat.galaxy_model import GalaxyModel
from popcat.inference.partition import certificate_columns
from popcat.io.reading import without_redshift
from popcat.posterior.posterior import load_posterior
from popcat.prior import make_prior

N = 1500


def test_chi2_is_high_beyond_the_tail_of_pure_noise():
    from scipy.stats import chi2

    np.testing.assert_allclose(chi2.sf(chi2_limit(np.array([1, 3, 5])), [1, 3, 5]), 1e-4)


@pytest.fixture(scope="module")
def posterior():
    return load_posterior("sdss")


@pytest.fixture(scope="module")
def real(posterior):
    """Real galaxies, as observed."""
    from importlib.resources import files

    from popcat.io.photometry import to_photometry

    raw = pd.read_parquet(files("popcat") / "data" / "galaxies_sdss.parquet").head(N)
    return observation(to_photometry(raw, posterior.survey), posterior.survey)


def checked(data, posterior, *, own=None):
    return check_galaxies(posterior, data, np.zeros(len(data), dtype=bool), 0, own)


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
    found = checked(spoilt(real, band, magnitudes), posterior)
    is_off = found.flags & FLAGS["band_off"] != 0
    assert is_off.mean() > 0.8
    assert np.mean(found.worst[is_off] == band) > 0.9


@pytest.mark.parametrize("magnitudes", [1.0, -1.0])
def test_the_catalogue_itself_tells_when_u_is_off(real, posterior, magnitudes):
    own = fit_own_galaxies(real, posterior.features.softening)
    wrong = spoilt(real, 0, magnitudes)
    assert share_off(checked(wrong, posterior, own=own)) > 0.8
    assert share_off(checked(real, posterior, own=own)) < 0.05


def test_a_band_that_is_off_forbids_a_certificate():
    assert "band_off" in UNCERTIFIED


def test_without_a_correction_the_columns_say_what_made_the_draws():
    columns = certificate_columns(None, np.zeros(3, dtype=int), np.array([0, 2]))
    assert columns["route"].to_pylist() == ["flow", None, "flow"]
    assert not columns["certified"].any() and columns["ess"].null_count == 3


@pytest.fixture(scope="module")
def frame(posterior):
    from importlib.resources import files

    from popcat.io.photometry import to_photometry

    raw = pd.read_parquet(files("popcat") / "data" / "galaxies_sdss.parquet")
    return to_photometry(raw, posterior.survey)


@pytest.mark.parametrize("hide", [False, True])
def test_the_own_galaxies_have_redshifts_unless_they_are_hidden(posterior, frame, hide):
    own = describe_own_galaxies(without_redshift(frame) if hide else frame, posterior)
    assert own.n_galaxies == N_FIT
    assert (own.centre[-1] > 0.0) == (not hide)


def test_galaxies_without_a_posterior_or_of_bad_quality_describe_nothing(posterior, frame):
    flags = np.where(np.arange(len(frame)) % 2, FLAGS["quality_cut"], FLAGS["no_photometry"])
    assert describe_own_galaxies(frame.assign(flags=flags.astype("int32")), posterior) is None


def test_few_galaxies_describe_nothing(posterior, frame):
    assert describe_own_galaxies(frame.head(50), posterior) is None


@pytest.mark.parametrize("n", [1, 8000, 8001, 10**9])
def test_the_rows_that_are_looked_at_are_spread_over_the_catalogue_and_bounded(n):
    spans = rows_to_fit(n)
    assert spans[0][0] == 0 and spans[-1][1] == n
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert sum(stop - start for start, stop in spans) == min(n, N_BLOCKS * BLOCK_ROWS)


def spread(low, high, n=200):
    """Draws of one galaxy, uniform over a range."""
    return np.linspace(low, high, n)[None]


MIDDLE = {"redshift": spread(0.2, 0.4), "log_mstar_formed": spread(10.0, 10.5), "tau_ism": spread(0.0, 1.0)}


@pytest.mark.parametrize(("changed", "is_free", "expected"), [
    ({}, True, False),
    ({"redshift": spread(0.55, 0.6)}, True, True),
    ({"redshift": spread(0.55, 0.6)}, False, False),  # given: it is what it is
    ({"redshift": spread(0.001, 0.6)}, True, False),  # says nothing, and leans nowhere
    ({"redshift": spread(0.001, 0.01)}, True, False),  # below redshift zero there are no galaxies
    ({"log_mstar_formed": spread(12.4, 12.5)}, False, True),
    ({"log_mstar_formed": spread(7.0, 7.1)}, False, True),
    ({"tau_ism": spread(2.9, 3.0)}, False, True),
    ({"tau_ism": spread(0.0, 0.01)}, False, False),  # no dust is no edge
])  # fmt: skip
def test_draws_that_pile_up_where_a_range_ends_are_at_an_edge(changed, is_free, expected):
    prior = make_prior(GalaxyModel())
    found = is_at_edge(MIDDLE | changed, np.array([is_free]), prior, (0.001, 0.6))
    assert found.tolist() == [expected]


def test_a_range_that_begins_far_from_zero_has_a_lower_edge():
    prior, draws = make_prior(GalaxyModel()), MIDDLE | {"redshift": spread(0.2, 0.22)}
    assert is_at_edge(draws, np.array([True]), prior, (0.2, 0.6)).all()

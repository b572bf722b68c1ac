"""The fast path is held to the full-resolution reference, in the middle of the prior and in its corners."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from popcat.errors import PopcatError
from popcat.forward.photometry import Photometry
from popcat.forward.spectrum import reference_fluxes
from popcat.galaxy_model import GalaxyModel
from popcat.prior import make_prior

TOLERANCE = 1e-3
# Of the brightest band, 25 magnitudes. Some draws put a band behind 40 optical depths (n_dust near -2): what is left
# of it comes through the last few Angstrom of the filter, and its error reaches 2e-3 once in some thousand draws.
FAINTEST = 1e-10
PUBLISHED_BASES = Path(__file__).parents[3] / "shared" / "provabgs_bases"


def largest_error(photometry, theta, redshift, curves):
    """Largest relative flux error of the fast path over all galaxies and bands with light."""
    expected = reference_fluxes(theta, redshift, photometry.ingredients, curves)
    error = np.abs(photometry.flux(theta, redshift) / expected - 1.0)
    seen = expected > FAINTEST * expected.max(axis=1, keepdims=True)
    assert np.mean(seen) > 0.95
    return np.max(error[seen])


def test_prior_draws_agree_with_the_reference(photometry, curves, draw):
    assert largest_error(photometry, *draw(300), curves) < TOLERANCE


@pytest.mark.parametrize("redshift", [0.001, 0.2, 0.6])
@pytest.mark.parametrize("f_burst", [0.0, 0.5, 1.0])
def test_bursts_agree_on_both_sides_of_the_age_of_the_universe(photometry, curves, galaxy, redshift, f_burst):
    t_age = float(photometry.ingredients.cosmology.age(redshift))
    times = [0.01, 0.0999, 0.1001, t_age * (1 - 1e-6), t_age * (1 + 1e-6), 13.27]
    theta = np.stack([galaxy({5: f_burst, 6: t}) for t in times])
    assert largest_error(photometry, theta, np.full(len(theta), redshift), curves) < TOLERANCE


@pytest.mark.parametrize("redshift", [0.001, 0.3, 0.6])
def test_the_corners_of_the_dust_agree(photometry, curves, galaxy, redshift):
    corners = itertools.product([0.0, 3.0], [0.0, 3.0], [-2.0, -1.0, 0.0, 1.0], [0.05, 1.0])
    theta = np.stack([galaxy({9: bc, 10: ism, 11: n, 6: t}) for bc, ism, n, t in corners])
    assert largest_error(photometry, theta, np.full(len(theta), redshift), curves) < TOLERANCE


@pytest.mark.parametrize("redshift", [0.001, 0.6])
def test_the_corners_of_the_histories_agree(photometry, curves, galaxy, redshift):
    prior = make_prior(GalaxyModel())
    low, high = prior.bounds("log_gamma1")
    corners = itertools.product(np.eye(4), (low, high), (low, high), (7.0, 12.5))
    theta = [galaxy({1: b[0], 2: b[1], 3: b[2], 4: b[3], 7: g1, 8: g2, 0: mass}) for b, g1, g2, mass in corners]
    assert largest_error(photometry, np.stack(theta), np.full(len(theta), redshift), curves) < TOLERANCE


def test_both_ends_of_the_redshift_range_are_inside(photometry, draw, survey):
    theta, _ = draw(2)
    assert np.all(photometry.flux(theta, np.array(survey.redshift_range)) > 0)


@pytest.mark.parametrize("settings", [{"binning": "midpoint"}, {"birth_cloud_age_gyr": 0.01},
                                      {"binning": "midpoint", "birth_cloud_age_gyr": 0.01},
                                      {"birth_cloud_age_gyr": 0.0}, {"cosmology": "WMAP9"}], ids=str)  # fmt: skip
def test_every_variant_of_the_model_agrees(survey, curves, draw, settings):
    narrow = survey.model_copy(update={"redshift_range": (0.3, 0.34)})
    variant = Photometry(narrow, GalaxyModel(**settings))
    assert largest_error(variant, *draw(40, z_range=narrow.redshift_range), curves) < TOLERANCE


def test_the_published_bases_agree(survey, curves, draw):
    if not PUBLISHED_BASES.is_dir():
        pytest.skip("the published PROVABGS bases are not ours to ship: they are in no ../shared/provabgs_bases")
    narrow = survey.model_copy(update={"redshift_range": (0.3, 0.34)})
    variant = Photometry(narrow, GalaxyModel(bases=str(PUBLISHED_BASES)))
    assert largest_error(variant, *draw(40, z_range=narrow.redshift_range), curves) < TOLERANCE


def test_variants_of_the_model_differ_in_u(survey, draw):
    """Birth clouds of 10 and 100 Myr: 9% in u in the median."""
    narrow = survey.model_copy(update={"redshift_range": (0.3, 0.34)})
    theta, redshift = draw(400, z_range=narrow.redshift_range)
    long, short = (Photometry(narrow, GalaxyModel(birth_cloud_age_gyr=age)).flux(theta, redshift) for age in (0.1,
                                                                                                              0.01))
    assert np.all(short >= long * (1 - 1e-3))
    assert np.median(short[:, 0] / long[:, 0]) > 1.02


def test_one_galaxy_is_a_row_of_many(photometry, draw):
    theta, redshift = draw(20)
    one = photometry.flux(theta[7:8], redshift[7:8])
    np.testing.assert_array_equal(one[0], photometry.flux(theta, redshift)[7])


@pytest.mark.parametrize("binning", ["average", "midpoint"])
def test_merging_the_young_bins_changes_next_to_nothing(survey, draw, binning):
    narrow = survey.model_copy(update={"redshift_range": (0.3, 0.34)})
    merged, apart = (Photometry(narrow, GalaxyModel(binning=binning)) for _ in range(2))
    apart.histories = apart.histories._replace(n_merged=0)
    assert merged.histories.n_merged > 20
    theta, redshift = draw(2000, z_range=narrow.redshift_range)
    theta[1000:, 7:9] = np.random.default_rng(2).uniform(-4.0, -1.5, (1000, 2))
    np.testing.assert_allclose(merged.flux(theta, redshift), apart.flux(theta, redshift), rtol=5e-5)


def test_no_galaxy_has_no_flux(photometry):
    assert photometry.flux(np.empty((0, 12)), np.empty(0)).shape == (0, 5)


def test_the_order_of_galaxies_changes_nothing(photometry, draw):
    theta, redshift = draw(200)
    order = np.random.default_rng(3).permutation(200)
    expected = photometry.flux(theta, redshift)[order]
    np.testing.assert_array_equal(photometry.flux(theta[order], redshift[order]), expected)


def test_the_inputs_are_left_as_they_were(photometry, draw):
    theta, redshift = draw(10)
    before = theta.copy(), redshift.copy()
    photometry.flux(theta, redshift)
    np.testing.assert_array_equal(theta, before[0])
    np.testing.assert_array_equal(redshift, before[1])


def test_flux_is_linear_in_mass(photometry, draw):
    theta, redshift = draw(100)
    heavier = theta.copy()
    heavier[:, 0] += 1.0
    np.testing.assert_allclose(photometry.flux(heavier, redshift), 10.0 * photometry.flux(theta, redshift), rtol=1e-13)


def test_an_impossible_burst_changes_no_light(photometry, galaxy):
    redshift = np.full(2, 0.5)
    with_burst = photometry.flux(np.stack([galaxy({5: f, 6: 13.0}) for f in (0.0, 0.9)]), redshift)
    np.testing.assert_array_equal(with_burst[0], with_burst[1])


def test_more_dust_means_less_light(photometry, galaxy):
    theta = np.stack([galaxy({9: tau, 10: tau}) for tau in (0.0, 0.5, 1.0, 3.0)])
    assert np.all(np.diff(photometry.flux(theta, np.full(4, 0.1)), axis=0) < 0)


@pytest.mark.parametrize(("theta", "redshift"), [((3, 11), 3), ((12,), 1), ((3, 12), 2), ((3, 12), (3, 1))])
def test_wrong_shapes_are_refused(photometry, theta, redshift):
    with pytest.raises(PopcatError, match=r"expected theta \(n, 12\)"):
        photometry.flux(np.ones(theta), np.full(redshift, 0.1))


@pytest.mark.parametrize("redshift", [0.0, 0.0009, 0.61, -0.1, np.nan, np.inf])
def test_a_redshift_outside_the_range_is_refused(photometry, galaxy, redshift):
    with pytest.raises(PopcatError, match=r"outside the survey's range 0\.001 to 0\.6"):
        photometry.flux(galaxy()[None], np.array([redshift]))

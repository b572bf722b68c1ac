"""Galaxy models of other numbers of bases and of one metallicity, under every discretisation: the same laws."""

import itertools

import numpy as np
import pytest

from popcat.errors import PopcatError
from popcat.forward.histories import load_bases
from popcat.forward.ingredients import load_ingredients
from popcat.forward.photometry import Photometry
from popcat.forward.properties import Properties
from popcat.forward.spectrum import population, reference_fluxes, spectrum
from popcat.forward.table_arrays import in_double
from popcat.galaxy_model import GalaxyModel
from popcat.prior import make_prior

Z_RANGE = (0.3, 0.34)
TOLERANCE = 5e-4
KINDS = {"constant": {"metallicity": "constant"}, "2 and 3 bases": {}}
# compiling the gradient for another number of bases takes half a minute
SLOW_KINDS = ["constant", pytest.param("2 and 3 bases", marks=pytest.mark.slow)]
DISCRETISATIONS = [
    {"binning": binning, "birth_cloud_age_gyr": age}
    for binning, age in itertools.product(["average", "midpoint"], [0.1, 0.01])
] + [{"bins_per_dex": 25}]


@pytest.fixture(scope="module")
def two_and_three(tmp_path_factory):
    """A CSV file of two star-formation and three metallicity bases."""
    popcat = load_bases("popcat")
    sfh, zh = popcat.sfh[:2] + 0.3 * popcat.sfh[2:], [*popcat.zh, np.ones(len(popcat.lookback_gyr))]
    path = tmp_path_factory.mktemp("bases") / "two_and_three.csv"
    table = np.column_stack([popcat.lookback_gyr, *sfh, *zh])[:-1]
    np.savetxt(path, table, delimiter=",", header="lookback_gyr,sfh1,sfh2,zh1,zh2,zh3", comments="")
    return str(path)


@pytest.fixture(params=KINDS)
def kind(request, two_and_three):
    """Settings of the galaxy model that make a variant."""
    return KINDS[request.param] or {"bases": two_and_three, "n_sfh_bases": 2, "n_metallicity_bases": 3}


@pytest.fixture
def narrow(survey):
    return survey.model_copy(update={"redshift_range": Z_RANGE})


def draws(settings, n, seed=1):
    """theta (n, d) from the variant's own prior, its first rows in corners of the histories, and redshift (n,)."""
    prior, rng = make_prior(settings), np.random.default_rng(seed)
    u = rng.random((n, prior.n_unconstrained))
    corners = list(itertools.product([0.0, 1.0], [0.0, 1.0]))
    n_sfh = len(prior.weights.names)
    for row, (weight, metals) in zip(u, corners, strict=False):
        row[1:n_sfh], row[n_sfh + 2 : -3] = weight, metals
    return prior.from_unit(u), rng.uniform(*Z_RANGE, n)


@pytest.mark.parametrize("discretisation", DISCRETISATIONS, ids=str)
def test_every_variant_agrees_with_the_reference(narrow, curves, kind, discretisation):
    settings = GalaxyModel(**kind, **discretisation)
    photometry = Photometry(narrow, settings)
    theta, redshift = draws(settings, 30)
    expected = reference_fluxes(theta, redshift, photometry.ingredients, curves)
    seen = expected > 1e-10 * expected.max(axis=1, keepdims=True)
    error = np.abs(photometry.flux(theta, redshift) / expected - 1.0)
    assert np.max(error[seen]) < TOLERANCE


@pytest.mark.parametrize("kind", SLOW_KINDS, indirect=True)
def test_the_gradient_of_every_variant_agrees_with_finite_differences(narrow, kind):
    settings = GalaxyModel(**kind)
    photometry = Photometry(narrow, settings)
    photometry.kernel_tables = in_double(photometry.kernel_tables)
    theta, redshift = draws(settings, 200)
    theta, v = theta[4:], np.random.default_rng(2).normal(size=(196, len(narrow.bands)))
    redshift = np.clip(redshift[4:], Z_RANGE[0] + 1e-6, Z_RANGE[1] - 1e-6)
    flux, grad, _ = photometry.flux_vjp(theta, redshift, v)
    size = np.sum(np.abs(v * flux), axis=1)
    for column in range(theta.shape[1]):
        step = np.zeros(theta.shape[1])
        step[column] = 1e-7
        here, up, down = (np.sum(v * photometry.flux(theta + s * step, redshift), axis=1) for s in (0, 1, -1))
        left, right, exact = (here - down) / 1e-7, (up - here) / 1e-7, grad[:, column]
        scale = size + np.abs(exact)
        smooth = np.abs(left - right) < 1e-5 * scale
        assert np.mean(smooth) > 0.97
        assert np.max((np.abs(0.5 * (left + right) - exact) / scale)[smooth]) < 1e-6


def test_properties_of_every_variant_agree_with_its_population(narrow, kind):
    settings = GalaxyModel(**kind)
    model = load_ingredients(settings)
    theta, redshift = draws(settings, 40)
    out = Properties(narrow, model)(theta, redshift)
    stars = [population(row, z, model) for row, z in zip(theta, redshift, strict=True)]
    np.testing.assert_allclose(10.0 ** out["log_z_mw"], [s.mass @ 10.0**s.log_z for s in stars], rtol=1e-6)
    np.testing.assert_allclose(out["age_mw_gyr"], [s.mass @ s.age_gyr for s in stars], rtol=1e-6)


def test_a_constant_metallicity_is_the_mass_weighted_one_within_the_grid(narrow):
    settings = GalaxyModel(metallicity="constant")
    model = load_ingredients(settings)
    theta, redshift = draws(settings, 100)
    out = Properties(narrow, model)(theta, redshift)["log_z_mw"]
    np.testing.assert_allclose(out, np.clip(theta[:, 7], *model.grid.log_z_abs[[0, -1]]), rtol=1e-9)


def test_spectrum_takes_the_parameters_of_the_variant_by_name():
    settings = GalaxyModel(metallicity="constant")
    theta, _ = draws(settings, 1)
    names = make_prior(settings).names
    by_name = spectrum(dict(zip(names, theta[0], strict=True)), 0.3, settings=settings)
    np.testing.assert_array_equal(by_name.f_nu_nmgy, spectrum(theta[0], 0.3, settings=settings).f_nu_nmgy)
    with pytest.raises(PopcatError, match=r"log_z, .*missing or unknown: log_gamma1, log_z"):
        spectrum(dict(zip([*names[:7], "log_gamma1", *names[8:]], theta[0], strict=True)), 0.3, settings=settings)


def test_theta_of_another_variant_is_refused(narrow):
    with pytest.raises(PopcatError, match=r"expected theta \(n, 11\)"):
        Photometry(narrow, GalaxyModel(metallicity="constant")).flux(np.ones((3, 12)), np.full(3, 0.32))

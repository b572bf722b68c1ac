"""The mass is drawn from its own law: draws and evidences against numerical integration, whatever data and prior."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

from popcat.distributions import Law, Normal, Schechter, Table, Uniform
from popcat.flows.settings import Training
from popcat.forward.photometry import Photometry
from popcat.galaxies import Observation, chi2_of
from popcat.galaxy_model import GalaxyModel
from popcat.posterior.draws import draw_mass
from popcat.posterior.library import LibraryArrays
from popcat.posterior.simulated import draw_prior
from popcat.posterior.training import train_posterior

SMALL = Training(hidden=16, n_blocks=1, n_layers=1, batch=256, max_epochs=1, redshift_epochs=1, redshift_hidden=16)
LAWS = {
    "uniform": Law(Uniform(), 7.0, 12.5),
    "normal": Law(Normal(family="normal", mean=9.5, sigma=0.7), 7.0, 12.5),
    "schechter": Law(Schechter(family="schechter", log_mass=10.7, alpha=-1.2), 7.0, 12.5),
    "table": Law(Table(family="table", x=(8.0, 10.0, 12.0), density=(0.0, 1.0, 0.0)), 7.0, 12.5),
}
# of the mass 10^10: fluxes in units of their errors, of a galaxy with the colours of the model and of one without
FLUXES = {
    "bright": (400.0, 900.0, 1000.0), "usual": (20.0, 35.0, 60.0), "faint": (1.0, 2.5, 1.5), "none": (0.3, -0.4, 0.2),
    "negative": (-2.0, -3.0, -1.0), "beyond the heaviest": (160.0, 350.0, 400.0), "other colours": (90.0, 10.0, 60.0),
}  # fmt: skip
MODEL = np.array([0.4, 0.9, 1.0])


def drawn(flux, law, uniform, err=1.0, model=MODEL):
    flux = np.atleast_2d(flux)
    data = Observation(flux, np.full(flux.shape, err), *np.full((3, len(flux)), np.nan))
    fluxes = np.tile(model, (*uniform.shape, 1))
    return *draw_mass(fluxes, 10.0, data, law, uniform), fluxes


def exact(flux, law, err=1.0):
    """ln L averaged over the prior of the mass, and its posterior's CDF at log M, by scipy."""
    flux = np.asarray(flux)

    def log_l(log_mass):
        away = (flux - MODEL * 10.0 ** (log_mass - 10.0)) / err
        return -0.5 * np.sum(away**2) - len(flux) * (np.log(err) + 0.5 * np.log(2 * np.pi))

    ends = np.geomspace(1e-9, 1e-3, 4000)  # where the posterior may pile up
    fine = np.sort(np.concatenate([np.linspace(law.low, law.high, 40_001), law.low + ends, law.high - ends]))
    with np.errstate(divide="ignore"):
        values = np.array([log_l(x) for x in fine]) + law.log_density(fine)
    top, peak = values.max(), fine[values.argmax()]

    def density(x):
        return np.exp(log_l(x) + float(law.log_density(np.array(x))) - top)

    inside = fine[values > top - 40.0]
    edges = np.unique(np.clip([inside[0], peak - 0.01, peak, peak + 0.01, inside[-1]], inside[0], inside[-1]))

    def below(x):
        cuts = [*edges[edges < x], x]
        return sum(quad(density, a, b, limit=400)[0] for a, b in pairwise(cuts))

    total = below(edges[-1])
    return top + np.log(total), lambda x: below(x) / total


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("flux", FLUXES)
def test_masses_and_evidence_are_those_of_numerical_integration(flux, law):
    numbers = np.array([[0.02, 0.16, 0.5, 0.84, 0.98]])
    log_mass, log_l, chi2, fluxes = drawn(FLUXES[flux], LAWS[law], numbers)
    expected, cdf = exact(FLUXES[flux], LAWS[law])
    np.testing.assert_allclose(log_l, expected, atol=0.01)
    np.testing.assert_allclose([cdf(x) for x in log_mass[0]], numbers[0], atol=0.006)
    assert np.all((log_mass >= LAWS[law].low) & (log_mass <= LAWS[law].high))
    np.testing.assert_allclose(fluxes[0], MODEL * 10.0 ** (log_mass[0, :, None] - 10.0), rtol=1e-9)
    np.testing.assert_allclose(chi2[0], np.sum((fluxes[0] - FLUXES[flux]) ** 2, axis=1), rtol=1e-6)


@pytest.mark.parametrize("flux", FLUXES)
def test_a_larger_number_is_a_larger_mass(flux):
    numbers = np.linspace(1e-9, 1.0 - 1e-9, 2001)[None]
    log_mass = drawn(FLUXES[flux], LAWS["uniform"], numbers)[0][0]
    assert np.all(np.diff(log_mass) >= 0.0) and np.diff(log_mass).max() < 0.7


def test_a_band_that_is_not_observed_is_not_looked_at():
    numbers = np.full((1, 3), 0.3)
    flux = np.array([[20.0, np.nan, 60.0]])
    found = drawn(flux, LAWS["uniform"], numbers, model=np.array([0.4, 77.0, 1.0]))
    expected = drawn(flux[:, [0, 2]], LAWS["uniform"], numbers, model=np.array([0.4, 1.0]))
    for ours, theirs in zip(found[:3], expected[:3], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_without_light_in_any_band_the_mass_is_that_of_the_prior():
    numbers = np.linspace(0.05, 0.95, 7)[None]
    for law in LAWS.values():
        log_mass, log_l, _, _ = drawn(FLUXES["usual"], law, numbers, model=np.zeros(3))
        np.testing.assert_allclose(log_mass[0], law.from_unit(numbers[0]), atol=0.03)
        expected = -0.5 * np.sum(np.square(FLUXES["usual"])) - 1.5 * np.log(2 * np.pi)
        np.testing.assert_allclose(log_l, expected, atol=0.01)


def test_an_absurdly_small_error_is_no_fit_and_no_number_that_is_none():
    log_mass, log_l, chi2, _ = drawn(FLUXES["usual"], LAWS["uniform"], np.full((1, 2), 0.5), err=1e-200)
    assert np.isfinite(log_mass).all() and np.all(log_l == -np.inf) and np.all(chi2 == np.inf)


@pytest.mark.parametrize(
    ("priors", "is_drawn"),
    [({}, True), ({"log_mstar_formed": {"family": "schechter", "log_mass": 10.7, "alpha": -1.2}}, True),
     ({"log_mstar_formed": {"family": "fixed", "value": 10.5}}, False),
     ({"log_gamma2": {"family": "tied", "to": "log_mstar_formed", "factor": 0.3, "offset": -5.0}}, False)],
)  # fmt: skip
def test_the_mass_is_drawn_where_it_is_free_and_nothing_else_depends_on_it(survey, noise, priors, is_drawn):
    model = GalaxyModel(log_mstar_formed=(9.5, 12.5), priors=priors)
    theta, redshift = draw_prior(np.arange(8000), survey, model, 0)
    flux = Photometry(survey, model).flux(theta, redshift)
    library = LibraryArrays.from_theta(theta, redshift, flux, model)
    posterior = train_posterior(library, survey, model, noise, SMALL, provenance={})[0]
    assert posterior.draws_mass == is_drawn
    assert posterior.n_coordinates == posterior.prior.n_unconstrained - is_drawn
    data = Observation(flux[:3], 0.3 * np.abs(flux[:3]) + 0.5, redshift[:3], np.full(3, np.nan), np.arange(3))
    draws = posterior.sample(data, 200, 1)
    assert posterior.prior.contains(draws.theta.reshape(-1, theta.shape[1])).all()
    refluxed = posterior.forward.flux(draws.theta.reshape(-1, theta.shape[1]), draws.redshift.ravel())
    np.testing.assert_allclose(draws.chi2, chi2_of(refluxed.reshape(3, 200, -1), data), rtol=1e-6)

"""The physical prior: normalised, of the published marginals, smooth, and there for every galaxy model."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from popcat.galaxy_model import GalaxyModel
from popcat.physical import laws
from popcat.physical.density import FLOOR, pack, unpack
from popcat.physical.induced import summarise
from popcat.physical.prior import JointPrior

REDSHIFTS = (0.05, 1.2)


@pytest.fixture(scope="module")
def continuity():
    """A history whose own prior has galaxies on the sequence and below it at any redshift."""
    return JointPrior(GalaxyModel(history="continuity"), REDSHIFTS, n_draws=40_000)


def own_draws(prior, n, seed, redshift=None):
    random = np.random.default_rng(seed)
    theta = prior.prior.from_unit(random.uniform(size=(n, prior.prior.n_unconstrained)))
    return theta, random.uniform(*prior.redshift_range, n) if redshift is None else np.full(n, redshift)


def weighted_at(prior, log_mass, redshift, n=40_000):
    """Summaries and weights of draws whose surviving mass is this one."""
    theta, z = own_draws(prior, n, 5, redshift)
    found = summarise(prior.stars, prior.cosmology, theta, z)
    theta[:, 0] = log_mass - found.log_survived
    return theta, found, np.exp(prior.log_ratio(theta, z))


def quantile(x, weight, level):
    order = np.argsort(x)
    below = np.cumsum(weight[order])
    return x[order][np.searchsorted(below / below[-1], level)]


def test_it_is_normalised(continuity):
    theta, z = own_draws(continuity, 400_000, 3)
    weight = np.exp(continuity.without_dust().log_ratio(theta, z))
    assert weight.mean() == pytest.approx(1.0, abs=4.0 * weight.std() / len(weight) ** 0.5 + 0.01)
    assert weight.std() / len(weight) ** 0.5 < 0.02


@pytest.mark.parametrize("name", ["tau_ism", "tau_bc", "n_dust"])
def test_each_factor_of_dust_is_normalised(continuity, name):
    """The mean of R over one parameter of dust does not depend on it: over a grid, and over its ends."""
    theta, z = own_draws(continuity, 20, 4)
    law, column = continuity.prior.laws[name], continuity.prior.names.index(name)
    k = ("tau_ism", "tau_bc", "n_dust").index(name) + 4
    alone = continuity._with(k)
    alone.factors = alone.factors._replace(norm=np.ones_like(alone.factors.norm))
    grid = np.linspace(law.low, law.high, 1001)
    rows = np.repeat(theta, len(grid), axis=0)
    rows[:, column] = np.tile(grid, len(theta))
    ratio = np.exp(alone.log_ratio(rows, np.repeat(z, len(grid)))).reshape(len(theta), -1)
    np.testing.assert_allclose(np.trapezoid(ratio, grid, axis=1) / (law.high - law.low), 1.0, atol=0.02)


@pytest.mark.parametrize("redshift", [0.1, 1.0])
@pytest.mark.parametrize("log_mass", [9.5, 10.0, 10.5, 11.0])
def test_draws_have_the_published_star_formation(continuity, log_mass, redshift):
    _, found, weight = weighted_at(continuity.without_dust(), log_mass, redshift)
    sequence = laws.star_forming_sequence(log_mass, float(continuity.cosmology.age(redshift)))
    quenched = found.s < sequence - 1.0
    share = weight[quenched].sum() / weight.sum()
    assert share == pytest.approx(laws.quenched_fraction(log_mass, redshift), abs=0.05)
    forming = ~quenched
    assert quantile(found.s[forming], weight[forming], 0.5) == pytest.approx(sequence, abs=0.1)
    if 0.2 < share < 0.8:  # two kinds, with a valley between
        valley, peak, quiet = (weight[np.abs(found.s - at) < 0.1].sum()
                               for at in (sequence - 0.9, sequence, sequence - 1.4))  # fmt: skip
        assert valley < 0.6 * min(peak, quiet)


@pytest.mark.parametrize("log_mass", [9.0, 10.0, 11.0])
def test_draws_have_the_published_metallicities(continuity, log_mass):
    _, found, weight = weighted_at(continuity.without_dust(), log_mass, 0.1)
    mean, sigma = laws.metallicity(log_mass)
    low, middle, high = (quantile(found.z, weight, level) for level in (0.16, 0.5, 0.84))
    assert middle == pytest.approx(mean, abs=0.1)
    assert 0.5 * (high - low) == pytest.approx(sigma, abs=0.1)


def test_massive_galaxies_are_older(continuity):
    of_mass = [weighted_at(continuity.without_dust(), log_mass, 1.0) for log_mass in (8.5, 10.0, 11.0)]
    ages = [np.average(found.a, weights=weight) for _, found, weight in of_mass]
    assert ages[0] < ages[1] < ages[2]


def test_its_own_draws_have_its_masses_and_its_dust(continuity):
    draws = continuity.sample(8000, np.random.default_rng(6))
    assert draws.effective > 2000.0
    assert continuity.prior.contains(draws.theta).all()
    found = summarise(continuity.stars, continuity.cosmology, draws.theta, draws.redshift)
    mass = draws.theta[:, 0] + found.log_survived
    column = dict(zip(continuity.prior.names, draws.theta.T, strict=True))
    heavy = mass > 9.8
    rate = laws.star_forming_sequence(mass, np.asarray(continuity.cosmology.age(draws.redshift)))
    forming = heavy & (found.s > rate - 0.8)
    wanted = laws.tau_forming(mass[forming]).mean()
    assert column["tau_ism"][forming].mean() == pytest.approx(wanted, abs=0.12)
    quiet = heavy & (found.s < rate - 1.3)
    assert np.median(column["tau_ism"][quiet]) < 0.2
    assert np.median((column["tau_bc"] - column["tau_ism"])[forming]) == pytest.approx(0.0, abs=0.1)
    dusty = column["tau_ism"] > 0.2
    slope = laws.slope(column["tau_ism"][dusty], "kriek_conroy")[0]
    assert np.median(column["n_dust"][dusty] - slope) == pytest.approx(0.0, abs=0.1)
    shape = np.exp(laws.log_mass_function(np.array([8.5, 9.5]), 0.6))
    counts = [np.sum(np.abs(mass - m) < 0.25) for m in (8.5, 9.5)]
    assert counts[0] / counts[1] == pytest.approx(shape[0] / shape[1], rel=0.2)


def test_masses_on_a_grid_are_those_one_by_one_and_smooth(continuity):
    theta, z = own_draws(continuity, 50, 7)
    grid = np.linspace(8.0, 12.0, 81)
    found = continuity.log_ratio_of_masses(theta, z, grid)
    one = theta.copy()
    one[:, 0] = grid[17]
    np.testing.assert_allclose(found[:, 17], continuity.log_ratio(one, z), rtol=1e-12, atol=1e-12)
    assert np.abs(np.diff(found, axis=1)).max() < 1.0  # 0.05 dex
    assert np.abs(np.diff(found, 2, axis=1)).max() < 0.5


def test_tables_are_the_same_when_they_are_kept(continuity):
    again = unpack(pack(continuity.factors))
    for one, other in zip(again, continuity.factors, strict=True):
        assert type(one) is type(other)
        np.testing.assert_array_equal(one, other)


def test_no_galaxy_is_lost(continuity):
    theta, z = own_draws(continuity, 100_000, 8)
    of_mass = continuity._with(0).log_ratio(theta, z)
    assert (continuity.log_ratio(theta, z) - of_mass).min() > 6.0 * np.log(FLOOR) - 1.0
    # no mass within the range of the model's own prior has less than a steep power law gives it
    assert of_mass.min() > -4.0 * np.log(10.0) * (12.5 - 10.0)


def test_a_massive_end_is_a_power_law():
    mass = np.linspace(8.0, 12.5, 91)
    for redshift in (0.05, 0.5, 2.0, 5.0):
        found = laws.log_mass_function(mass, redshift) / np.log(10.0)
        slope = np.diff(found) / np.diff(mass)
        assert slope.min() > -4.0 - 1e-9
        assert slope[-1] == pytest.approx(-4.0)
        published = laws._log_published(mass, redshift) / np.log(10.0)
        common = published > published.max() - 2.0
        np.testing.assert_allclose(found[common], published[common], atol=0.3)


def test_draws_above_a_least_mass_are_those_of_all_that_are_above_it(continuity):
    """The least mass rises with redshift, as in a survey to a limit of flux."""
    def least(theta, redshift):
        return 9.0 + 1.5 * redshift

    above = continuity.sample(4000, np.random.default_rng(1), candidates=60, least=least,
                              redshifts=continuity.redshifts_above(least))  # fmt: skip
    plain = continuity.sample(4000, np.random.default_rng(1), candidates=60, least=least)
    assert above.effective > plain.effective
    draws = continuity.sample(20_000, np.random.default_rng(2), candidates=60)
    wanted = draws.theta[:, 0] > least(draws.theta, draws.redshift)
    assert (above.theta[:, 0] >= least(above.theta, above.redshift)).all()
    assert wanted.sum() > 500
    for one, other in ((above.redshift, draws.redshift[wanted]),
                       *((above.theta[:, k], draws.theta[wanted, k]) for k in (0, 1, 5, -2))):  # fmt: skip
        assert ks_2samp(one, other).statistic < 1.6 * (1.0 / 2000 + 1.0 / wanted.sum()) ** 0.5


@pytest.mark.parametrize("settings", [
    {}, {"history": "fractional"}, {"history": "dirichlet"}, {"history": "continuity_bursty"},
    {"history": "delayed_tau"}, {"history": "lognormal"}, {"history": "double_power_law"},
    {"metallicity": "constant", "dust_law": "calzetti"}, {"dust_law": "salim"},
    {"dust_law": "charlot_fall", "gas": "cloudy", "dust_emission": "draine_li_2007", "agn": "temple_2021"},
    {"priors": {"tau_bc": {"family": "tied", "to": "tau_ism"}, "n_dust": {"family": "fixed", "value": -0.7}}},
    {"priors": {"tau_ism": {"family": "tied", "to": "tau_bc", "factor": 0.5}}},
    {"priors": {"log_mstar_formed": {"family": "fixed", "value": 10.0}}},
    {"priors": {"tau_ism": {"family": "exponential", "scale": 0.5},
                "log_mstar_formed": {"family": "schechter", "log_mass": 11.0, "alpha": -1.1}}},
], ids=str)  # fmt: skip
def test_every_galaxy_model_has_one(settings):
    prior = JointPrior(GalaxyModel.model_validate(settings), (0.05, 0.4), n_draws=5000)
    theta, z = own_draws(prior, 20_000, 9)
    ratio = prior.log_ratio(theta, z)
    assert np.isfinite(ratio).all()
    draws = prior.sample(200, np.random.default_rng(10))
    assert prior.prior.contains(draws.theta).all()
    assert np.isfinite(prior.log_ratio(draws.theta, draws.redshift)).all()

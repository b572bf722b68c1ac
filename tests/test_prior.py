"""A parameter's prior may have any family: the map from the unit cube draws it, and torch draws the same."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats

from popcat.distributions import Law
from popcat.errors import PopcatError
from popcat.galaxy_model import GalaxyModel
from popcat.population.synthesis import Space
from popcat.prior import make_prior

N = 20_000
LAWS = {
    "uniform": ({"family": "uniform", "low": 0.5, "high": 1.5}, stats.uniform(0.5, 1.0)),
    "log_uniform": ({"family": "log_uniform", "low": 0.01}, stats.loguniform(0.01, 3.0)),
    "normal": ({"family": "normal", "mean": 0.3, "sigma": 1.0}, stats.truncnorm(-0.3, 2.7, 0.3, 1.0)),
    "exponential": ({"family": "exponential", "scale": 0.4}, stats.truncexpon(7.5, 0.0, 0.4)),
    "beta": ({"family": "beta", "a": 2.0, "b": 5.0, "high": 2.0}, stats.beta(2.0, 5.0, 0.0, 2.0)),
    "a triangle": ({"family": "table", "x": [0.0, 1.0, 2.0], "density": [0.0, 1.0, 0.0]}, stats.triang(0.5, 0.0, 2.0)),
    "a narrow normal far out": ({"family": "normal", "mean": 2.9, "sigma": 0.01}, stats.truncnorm(-290, 10, 2.9, 0.01)),
}


def model(**priors):
    return GalaxyModel(priors=priors)


def draws(prior, n=N, seed=0):
    return prior.from_unit(np.random.default_rng(seed).uniform(size=(n, prior.n_unconstrained)))


def column(prior, name):
    return prior.names.index(name)


@pytest.mark.parametrize("case", LAWS)
def test_draws_follow_the_family(case):
    given, expected = LAWS[case]
    prior = make_prior(model(tau_ism=given))
    found = draws(prior)[:, column(prior, "tau_ism")]
    assert stats.kstest(found, expected.cdf).pvalue > 1e-3
    np.testing.assert_allclose(prior.laws["tau_ism"].log_density(found), expected.logpdf(found), atol=2e-6)


def test_students_t_is_cut_off_at_the_range():
    prior = make_prior(model(n_dust={"family": "student_t", "df": 2, "mean": -0.5, "scale": 0.3}))
    found, law = draws(prior)[:, column(prior, "n_dust")], stats.t(2, -0.5, 0.3)
    low, high = law.cdf([-2.0, 1.0])
    assert stats.kstest(found, lambda x: (law.cdf(x) - low) / (high - low)).pvalue > 1e-3


def test_a_schechter_prior_has_the_numbers_of_a_mass_function():
    prior = make_prior(model(log_mstar_formed={"family": "schechter", "log_mass": 10.8, "alpha": -1.3, "low": 9.0}))
    mass, grid = draws(prior)[:, 0], np.linspace(9.0, 12.5, 4001)
    number = 10.0 ** (-0.3 * (grid - 10.8)) * np.exp(-(10.0 ** (grid - 10.8)))
    below = np.cumsum(number) / number.sum()
    assert stats.kstest(mass, lambda x: np.interp(x, grid, below)).pvalue > 1e-3
    assert mass.min() >= 9.0


@pytest.mark.parametrize("concentration", [(2.0, 0.5, 1.0, 4.0), (1.0, 1.0, 1.0, 1.0), (0.2, 0.2, 0.2, 0.2)])
def test_weights_may_have_any_dirichlet(concentration):
    prior = make_prior(model(beta={"family": "dirichlet", "concentration": concentration}))
    weights, alpha = draws(prior)[:, 1:5], np.array(concentration)
    np.testing.assert_allclose(weights.sum(1), 1.0, rtol=1e-12)
    for k in range(4):
        assert stats.kstest(weights[:, k], stats.beta(alpha[k], alpha.sum() - alpha[k]).cdf).pvalue > 1e-3
    inside = np.clip(weights[:100], 1e-6, None)
    inside /= inside.sum(1, keepdims=True)
    np.testing.assert_allclose(prior.weights.log_density(inside),
                               [stats.dirichlet(alpha).logpdf(row) for row in inside], rtol=1e-6)  # fmt: skip


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_continuity_has_students_t_of_log_ratios(scale):
    prior = make_prior(model(beta={"family": "continuity", "scale": scale}))
    weights = draws(prior)[:, 1:5]
    np.testing.assert_allclose(weights.sum(1), 1.0, rtol=1e-12)
    ratios, law = np.log10(weights[:, :-1] / weights[:, 1:]), stats.t(2, 0.0, scale)
    low, high = law.cdf([-10.0, 10.0])
    for each in ratios.T:
        assert stats.kstest(each, lambda x: (law.cdf(x) - low) / (high - low)).pvalue > 1e-3
    w = np.random.default_rng(1).normal(size=(500, prior.n_unconstrained))
    np.testing.assert_allclose(prior.to_unconstrained(prior.from_unconstrained(w)), w, atol=1e-6)
    space = Space(prior, (0.001, 0.6))
    x = torch.tensor(np.column_stack([w, np.zeros(500)]))
    np.testing.assert_allclose(space.parameters(x)[0].numpy(), prior.from_unconstrained(w), atol=1e-9)


def test_the_density_of_continuity_integrates_to_one():
    """Two weights: a line; three: by Monte Carlo over the simplex, of density 2."""
    two = make_prior(GalaxyModel(n_sfh_bases=2, priors={"beta": {"family": "continuity"}}))
    first = np.linspace(1e-7, 1.0 - 1e-7, 2_000_001)
    density = np.exp(two.weights.log_density(np.column_stack([first, 1.0 - first])))
    assert np.trapezoid(density, first) == pytest.approx(1.0, abs=0.02)
    three = make_prior(GalaxyModel(n_sfh_bases=3, priors={"beta": {"family": "continuity", "df": 20.0}}))
    flat = np.random.default_rng(1).dirichlet(np.ones(3), size=400_000)
    assert np.exp(three.weights.log_density(flat)).mean() / 2.0 == pytest.approx(1.0, abs=0.02)


MIXED = model(
    tau_ism={"family": "exponential", "scale": 0.5}, tau_bc={"family": "tied", "to": "tau_ism", "factor": 2.0},
    f_burst={"family": "fixed", "value": 0.0}, n_dust={"family": "normal", "mean": -0.5, "sigma": 0.4},
    beta={"family": "dirichlet", "concentration": [2.0, 1.0, 1.0, 0.5]},
    redshift={"family": "table", "x": [0.0, 0.1, 0.6], "density": [0.0, 1.0, 0.0]},
)  # fmt: skip


def test_what_is_fixed_or_tied_has_a_column_and_no_coordinate():
    prior = make_prior(MIXED)
    theta = draws(prior)
    assert prior.n_unconstrained == make_prior(GalaxyModel()).n_unconstrained - 2
    assert theta.shape[1] == len(prior.names) == 12
    assert (theta[:, column(prior, "f_burst")] == 0.0).all()
    np.testing.assert_array_equal(theta[:, column(prior, "tau_bc")], 2.0 * theta[:, column(prior, "tau_ism")])
    assert prior.contains(theta).all()
    assert prior.bounds("tau_bc") == (0.0, 6.0)


def test_the_map_goes_there_and_back():
    prior = make_prior(MIXED)
    w = np.random.default_rng(1).normal(size=(2000, prior.n_unconstrained))
    np.testing.assert_allclose(prior.to_unconstrained(prior.from_unconstrained(w)), w, atol=1e-8)


def test_torch_draws_the_same_and_its_gradient_is_the_slope():
    space = Space(make_prior(MIXED), (0.001, 0.6))
    x = torch.randn(500, space.n_dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theta, redshift = space.parameters(x)
    np.testing.assert_allclose(theta.numpy(), space.prior.from_unconstrained(x[:, :-1].numpy()), atol=1e-9)
    law = space.prior.redshift_law((0.001, 0.6))
    np.testing.assert_allclose(redshift.numpy(), law.from_unit(stats.norm.cdf(x[:, -1].numpy())), atol=1e-9)
    np.testing.assert_allclose(space.unconstrained(*space.arrays(x)), x.numpy(), atol=1e-4)
    inside = x[(x.abs() < 3).all(1)][:50].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda y: space.parameters(y)[0], (inside,), eps=1e-7, atol=1e-3)


def test_the_redshifts_prior_is_that_of_the_law():
    law = make_prior(MIXED).redshift_law((0.001, 0.6))
    z = law.from_unit(np.random.default_rng(3).uniform(size=N))
    assert stats.kstest(z, stats.triang(1 / 6, 0.0, 0.6).cdf).pvalue > 1e-3


def test_galaxies_in_equal_volumes():
    from astropy.cosmology import Planck13

    law = make_prior(model(redshift={"family": "volume"})).redshift_law((0.5, 2.0))
    z = law.from_unit(np.random.default_rng(3).uniform(size=N))
    low, high = Planck13.comoving_volume([0.5, 2.0]).value
    grid = np.linspace(0.5, 2.0, 301)
    below = (Planck13.comoving_volume(grid).value - low) / (high - low)
    assert stats.kstest(z, lambda x: np.interp(x, grid, below)).pvalue > 1e-3


def test_redshifts_outside_the_survey_are_refused():
    with pytest.raises(PopcatError, match="between 1 and 2"):
        make_prior(MIXED).redshift_law((1.0, 2.0))


def test_settings_without_priors_are_written_as_before():
    assert "priors" not in GalaxyModel().model_dump_json()
    assert GalaxyModel.model_validate_json(MIXED.model_dump_json()) == MIXED


REFUSED = {
    "an unknown parameter": ({"tau_isn": {"family": "fixed", "value": 1}}, 'did you mean "tau_ism"'),
    "a tie to nothing": ({"tau_bc": {"family": "tied", "to": "tau"}}, "no parameter that is free or fixed"),
    "a chain of ties": ({"tau_bc": {"family": "tied", "to": "tau_ism"},
                         "tau_ism": {"family": "tied", "to": "tau_bc"}}, "no parameter that is free or fixed"),
    "a logarithm of zero": ({"tau_ism": {"family": "log_uniform"}}, "needs low > 0"),
    "a mean beyond": ({"tau_ism": {"family": "normal", "mean": 99, "sigma": 0.1}}, "lies outside 0 to 3"),
    "weights that are uniform": ({"beta": {"family": "uniform"}}, "4 concentrations"),
    "a dust that is dirichlet": ({"tau_ism": {"family": "dirichlet", "concentration": [1, 1]}}, "SFH weights"),
    "one redshift": ({"redshift": {"family": "fixed", "value": 0.1}}, "galaxy by galaxy"),
    "a volume of dust": ({"tau_ism": {"family": "volume"}}, "for the redshift"),
    "an end below": ({"tau_ism": {"family": "uniform", "low": 4.0}}, "low < high"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_prior_that_cannot_be_is_refused_in_one_line(case):
    priors, message = REFUSED[case]
    with pytest.raises(PopcatError, match=message) as caught:
        make_prior(model(**priors))
    assert "\n" not in str(caught.value)


def test_names_and_columns_are_had_without_scipys_statistics():
    """They take half a second to import, which every command would pay."""
    code = "import sys, popcat.columns; print('scipy.stats' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_equal_laws_are_equal():
    family = MIXED.priors["tau_ism"]
    assert Law(family, 0.0, 3.0) == Law(family, 0.0, 3.0) != Law(family, 0.0, 2.0)
    assert make_prior(MIXED) == make_prior(MIXED) != make_prior(GalaxyModel())

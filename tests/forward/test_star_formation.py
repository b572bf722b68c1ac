"""Star formation in the past, held to the histories galaxy by galaxy."""

import numpy as np
import pytest

from popcat.errors import PopcatError
from popcat.forward.ingredients import load_ingredients
from popcat.forward.star_formation import star_formation
from popcat.galaxy_model import GalaxyModel
from popcat.prior import make_prior

EDGES = np.array([0.0, 0.05, 0.1, 0.5, 1.0, 3.0, 8.0, 14.0])
KINDS = ["lookback", "fractional", "continuity", "lognormal"]


@pytest.fixture(scope="module")
def drawn():
    """history -> ingredients, theta (40, d), redshift (40,) and the star formation in EDGES."""
    known = {}

    def function(history):
        if history not in known:
            model, rng = GalaxyModel(history=history), np.random.default_rng(6)
            prior, ingredients = make_prior(model), load_ingredients(model)
            theta, redshift = prior.from_unit(rng.random((40, prior.n_unconstrained))), rng.uniform(0.01, 0.6, 40)
            known[history] = ingredients, theta, redshift, star_formation(theta, redshift, ingredients, EDGES)
        return known[history]

    return function


def masses(ingredients, row, redshift, edges):
    """Mass in bins within the age of the universe, by the reference."""
    t_age, n = float(ingredients.cosmology.age(redshift)), ingredients.n_sfh
    (f_burst, t_burst), parameters = row[1 + n : 3 + n], row[1 : 1 + n]
    f_burst = f_burst if t_burst <= t_age else 0.0
    inside = np.append(edges[edges < t_age], t_age)
    mass = ingredients.history.masses(parameters, inside, t_age)
    mass = (1.0 - f_burst) * mass / mass.sum() + f_burst * np.histogram(t_burst, inside)[0]
    return 10.0 ** row[0] * mass, inside


@pytest.mark.parametrize("history", KINDS)
def test_rates_are_those_of_the_history(drawn, history):
    ingredients, theta, redshift, found = drawn(history)
    for row, z, sfr in zip(theta, redshift, found.sfr, strict=True):
        mass, inside = masses(ingredients, row, z, EDGES)
        np.testing.assert_allclose(sfr[: len(mass)], mass / np.diff(inside) / 1e9, rtol=1e-9, atol=1e-12 * mass.sum())
        assert np.isnan(sfr[len(mass) :]).all()


@pytest.mark.parametrize("history", KINDS)
def test_half_of_the_mass_has_formed_by_t50(drawn, history):
    ingredients, theta, redshift, found = drawn(history)
    for i, (row, z) in enumerate(zip(theta, redshift, strict=True)):
        t_age, n = float(ingredients.cosmology.age(z)), ingredients.n_sfh
        for time, fraction in ((found.t50_gyr[i], 0.5), (found.t90_gyr[i], 0.9)):
            back = t_age - time
            if row[1 + n] > 0.05 and abs(back - row[2 + n]) < 0.05:
                continue  # in the burst, which is one of the bins that times are found in
            mass, _ = masses(ingredients, row, z, np.array([0.0, back]))
            assert mass[-1] / mass.sum() == pytest.approx(fraction, abs=2e-3)


def test_the_formation_redshift_is_that_of_t50(drawn):
    ingredients, _, redshift, found = drawn("continuity")
    np.testing.assert_allclose(ingredients.cosmology.age(found.z_form), found.t50_gyr, rtol=1e-6)
    assert np.all(found.z_form > redshift)


def test_bins_may_begin_later_and_be_few(drawn):
    ingredients, theta, redshift, found = drawn("continuity")
    few = star_formation(theta, redshift, ingredients, EDGES[2:5])
    np.testing.assert_allclose(few.sfr, found.sfr[:, 2:4], rtol=1e-9)


@pytest.mark.parametrize("edges", [[1.0], [0.0, 0.0, 1.0], [-1.0, 2.0], [0.0, 15.0], [[0.0, 1.0]]])
def test_other_edges_are_refused(drawn, edges):
    ingredients, theta, redshift, _ = drawn("continuity")
    with pytest.raises(PopcatError, match="expected edges that ascend from 0 or more to at most"):
        star_formation(theta, redshift, ingredients, edges)

"""Remnants are the relation of Renzini & Ciotti over the initial mass function, above the grid's own turn-off."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

from popcat.columns import property_fields
from popcat.errors import PopcatError
from popcat.forward.engines import surviving_mass
from popcat.forward.grid import load_grid, save_grid
from popcat.forward.ingredients import load_ingredients
from popcat.forward.properties import Properties
from popcat.forward.remnants import added_remnants, remnants_of
from popcat.galaxy_model import GalaxyModel

RELATION = "renzini_ciotti_1993"
BREAKS = (0.1, 0.5, 1.0, 8.5, 40.0, 100.0)


def power_law(low, high, slope, norm=1.0, power=0):
    """norm int m^(power - slope) dm."""
    e = power - slope + 1.0
    return norm * (high**e - low**e) / e


def kroupa(low, high, power):
    """int m^power phi dm of Kroupa's function, not normalised."""
    below = power_law(low, min(high, 0.5), 1.3, 1.0, power) if low < 0.5 else 0.0
    return below + (power_law(max(low, 0.5), high, 2.3, 0.5, power) if high > 0.5 else 0.0)


def salpeter(low, high, power):
    return power_law(low, high, 2.35, 1.0, power)


def chabrier(low, high, power):
    """By adaptive quadrature; normalised at 1 Msun."""
    at_1 = np.exp(-0.5 * (np.log10(0.079) / 0.69) ** 2)

    def phi(m):
        bell = np.exp(-0.5 * (np.log10(m / 0.079) / 0.69) ** 2)
        return m**power * (bell if m < 1.0 else at_1 * m**-1.3) / m

    ends = [low, *(b for b in BREAKS if low < b < high), high]
    return sum(quad(phi, a, b, epsabs=0.0, epsrel=1e-10)[0] for a, b in pairwise(ends))


IMFS = {"Kroupa": kroupa, "chabrier": chabrier, "Salpeter": salpeter}


@pytest.mark.parametrize("imf", IMFS)
@pytest.mark.parametrize("turn_off", [0.8, 1.0, 2.0, 8.0, 8.6, 20.0, 39.0, 60.0, 100.0])
def test_remnants_above_a_turn_off_are_the_closed_form(imf, turn_off):
    of = IMFS[imf]
    dwarfs, stars = (min(turn_off, 8.5), 8.5), (np.clip(turn_off, 8.5, 40.0), 40.0)
    left = 0.077 * of(*dwarfs, 1) + 0.48 * of(*dwarfs, 0) + 1.4 * of(*stars, 0)
    left += 0.5 * of(max(turn_off, 40.0), 100.0, 1)
    whole = of(0.1, 100.0, 1)
    assert remnants_of(np.array(of(0.1, turn_off, 1) / whole), imf) == pytest.approx(left / whole, abs=2e-6)


@pytest.fixture(scope="module")
def grid():
    return load_grid("bc03_miles")


def test_nothing_is_left_before_stars_die_and_more_the_later(grid):
    added = added_remnants(grid, RELATION)
    assert np.all(added[:, grid.age_gyr < 2.5e-3] < 0.0135)
    assert np.all(added[:, 0] < 5e-4) and np.all(added[grid.mstar == 1.0] == 0.0)
    assert np.all(np.diff(added, axis=1)[np.diff(grid.mstar, axis=1) <= 0.0] >= 0.0)
    assert np.all(grid.mstar + added <= 1.0)


def test_with_remnants_the_grid_keeps_what_fsps_keeps(grid):
    """The fit to FSPS that DSPS publishes holds for all metallicities, and is good to 0.02 itself."""
    usual, old, known = slice(0, 6), grid.age_gyr > 1.0, surviving_mass(grid.log_age_yr)
    kept = (grid.mstar + added_remnants(grid, RELATION))[usual]
    assert np.abs(kept - known).max() < 0.035
    assert np.abs(np.log10(kept / known)).max() < 0.025
    assert np.log10(grid.mstar[usual] / known)[:, old].max() < -0.045


def test_remnants_change_the_mass_and_nothing_else(survey, draw):
    theta, redshift = draw(50)
    with_, without = (Properties(survey, load_ingredients(GalaxyModel(remnants=one)))(theta, redshift)
                      for one in (RELATION, "none"))  # fmt: skip
    gained = with_["log_mstar"] - without["log_mstar"]
    assert np.all((gained > 0.01) & (gained < 0.15))
    np.testing.assert_allclose(without["log_ssfr"] - with_["log_ssfr"], gained, atol=1e-12)
    for name in set(with_) - {"log_mstar", "log_ssfr"}:
        np.testing.assert_array_equal(with_[name], without[name])


@pytest.mark.parametrize(("held", "imf"), [(True, "Kroupa"), (True, "as in the file")])
def test_a_grid_that_holds_remnants_gets_none(grid, held, imf):
    told = replace(grid, provenance=grid.provenance | {"mstar_has_remnants": held, "imf": imf})
    assert not added_remnants(told, RELATION).any()


@pytest.mark.parametrize("made", [{"mstar_has_remnants": False, "imf": "top-heavy"}, {"mstar_has_remnants": False},
                                  {"mstar_has_remnants": None, "imf": "Kroupa"}, {}])  # fmt: skip
def test_a_grid_that_does_not_say_enough_is_refused_in_one_line(grid, made, tmp_path):
    save_grid(replace(grid, provenance=made), tmp_path / "g.npz")
    with pytest.raises(PopcatError, match=r'expected .*, got .*: set remnants = "none"') as refused:
        load_ingredients(GalaxyModel(grid=str(tmp_path / "g.npz")))
    assert "\n" not in str(refused.value)
    assert load_ingredients(GalaxyModel(grid=str(tmp_path / "g.npz"), remnants="none")).mstar.shape == grid.mstar.shape


def test_the_column_says_what_it_holds(survey):
    said = {one: property_fields(survey, GalaxyModel(remnants=one))["log_mstar"][1] for one in (RELATION, "none")}
    assert "and remnants" in said[RELATION] and "if the SSP grid counts them" in said["none"]

"""Other metallicities of a grid: its own stay, those between follow the rule, and nothing lies beyond a range."""

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from popcat.errors import PopcatError
from popcat.forward.grid import load_grid, save_grid
from popcat.forward.ingredients import load_ingredients
from popcat.forward.metallicities import with_metallicities
from popcat.forward.photometry import Photometry
from popcat.forward.properties import Properties
from popcat.forward.spectrum import reference_fluxes, rest_spectrum
from popcat.galaxy_model import GalaxyModel


@pytest.fixture(scope="module")
def grid():
    return load_grid("bc03_miles")


def test_without_settings_the_grid_is_itself(grid):
    assert with_metallicities(grid) is grid
    assert load_ingredients(GalaxyModel()).grid.content_hash() == grid.content_hash()


@pytest.mark.parametrize("nodes", [2, 4])
def test_more_nodes_keep_the_grids_own_and_put_a_monotone_cubic_between(grid, nodes):
    made = with_metallicities(grid, nodes=nodes)
    assert len(made.log_z_abs) == 6 * nodes + 1
    np.testing.assert_array_equal(made.log_z_abs[::nodes], grid.log_z_abs)
    np.testing.assert_array_equal(made.lum[::nodes], grid.lum)
    np.testing.assert_allclose(made.mstar[::nodes], grid.mstar, rtol=1e-12)
    at = slice(None), 60, 1500
    known = np.exp(PchipInterpolator(grid.log_z_abs, np.log(grid.lum[at], dtype=float))(made.log_z_abs))
    np.testing.assert_allclose(made.lum[at], known, rtol=1e-12)
    # to rounding no new node is outside the two of the grid beside it
    low, high = (np.repeat(of(grid.lum[:-1], grid.lum[1:]), nodes, axis=0) for of in (np.minimum, np.maximum))
    assert np.all((made.lum[:-1] >= low * (1 - 1e-6)) & (made.lum[:-1] <= high * (1 + 1e-6)))


def test_where_a_metallicity_is_dark_light_is_linear(small_grid):
    lum = small_grid.lum.copy()
    lum[1, 4, :50] = 0.0
    made = with_metallicities(type(small_grid)(small_grid.log_age_yr, small_grid.log_z_abs, small_grid.wave_aa, lum,
                                               small_grid.mstar), nodes=2)  # fmt: skip
    np.testing.assert_allclose(made.lum[1, 4, :50], 0.5 * lum[0, 4, :50])
    np.testing.assert_allclose(made.lum[3, 4, :50], 0.5 * lum[2, 4, :50])


def test_a_range_puts_a_node_on_the_straight_line_at_its_end(grid):
    made = with_metallicities(grid, z_range=(4.5e-5, 0.03))
    np.testing.assert_allclose(made.z_abs, [*grid.z_abs[:5], 0.03])
    f = np.log(0.03 / 0.02) / np.log(0.05 / 0.02)
    np.testing.assert_allclose(made.lum[5], (1 - f) * grid.lum[4] + f * grid.lum[5], rtol=1e-9)
    np.testing.assert_allclose(made.mstar[5], (1 - f) * grid.mstar[4] + f * grid.mstar[5], rtol=1e-9)
    np.testing.assert_allclose(with_metallicities(grid, z_range=(0.02, 0.05)).z_abs, [0.02, 0.05])


def test_inside_a_range_nothing_changes_and_beyond_it_stars_have_its_end(galaxy):
    whole, cut = (load_ingredients(GalaxyModel(metallicity="constant", metallicity_range=one))
                  for one in (None, (1e-3, 0.03)))  # fmt: skip
    for log_z, seen in ((-2.0, -2.0), (-1.3, np.log10(0.03)), (-3.7, -3.0)):
        theta = [np.delete(galaxy({7: z}), 8) for z in (log_z, seen)]
        np.testing.assert_allclose(rest_spectrum(theta[0], 0.1, cut), rest_spectrum(theta[1], 0.1, whole), rtol=1e-9)


def test_a_range_outside_the_grid_is_refused_in_one_line(grid):
    with pytest.raises(PopcatError, match=r"^metallicity_range: expected .*, got 0.2 to 0.3$"):
        with_metallicities(grid, z_range=(0.2, 0.3))


@pytest.mark.parametrize("wrong", [(0.0, 0.1), (0.1, 0.01)])
def test_a_range_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="metallicity_range must be"):
        GalaxyModel(metallicity_range=wrong)


@pytest.mark.parametrize("settings", [{"metallicity_nodes": 2}, {"metallicity_range": (1e-3, 0.03)}])
def test_gas_of_its_own_metallicities_is_refused(settings):
    with pytest.raises(ValueError, match='take gas = "grid"'):
        GalaxyModel(gas="cloudy", **settings)


def test_such_grids_are_named_by_what_they_are_made_of(grid, tmp_path):
    made = [with_metallicities(grid, **one) for one in ({"nodes": 2}, {"nodes": 3}, {"z_range": (1e-3, 0.03)},
                                                        {"z_range": (1e-3, 0.04)})]  # fmt: skip
    assert len({one.content_hash() for one in (grid, *made)}) == 5
    save_grid(made[2], tmp_path / "g.npz")
    assert load_grid(tmp_path / "g.npz").content_hash() != made[2].content_hash()


@pytest.mark.parametrize("settings", [{"metallicity_nodes": 3}, {"metallicity_range": (1e-3, 0.03)}])
def test_photometry_and_properties_follow(survey, curves, draw, settings):
    theta, redshift = draw(60, z_range=(0.1, 0.12))
    made = Photometry(survey.model_copy(update={"redshift_range": (0.1, 0.12)}), GalaxyModel(**settings))
    known = reference_fluxes(theta, redshift, made.ingredients, curves)
    seen = known > 1e-10 * known.max(axis=1, keepdims=True)
    np.testing.assert_allclose(made.flux(theta, redshift)[seen], known[seen], rtol=1e-3)
    metals = 10.0 ** Properties(survey, made.ingredients)(theta, redshift)["log_z_mw"]
    assert metals.min() >= made.ingredients.grid.z_abs[0] * (1 - 1e-9)
    assert metals.max() <= made.ingredients.grid.z_abs[-1] * (1 + 1e-9)

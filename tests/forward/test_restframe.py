"""Rest-frame light is held to the full-resolution reference, in corners too; and what magnitudes mean."""

import itertools

import numpy as np
import pytest

from popcat.errors import PopcatError
from popcat.forward import tables
from popcat.forward.filters import load_curve
from popcat.forward.ingredients import load_ingredients
from popcat.forward.properties import V_BAND, Properties, RestFrame, rest_frame_curves
from popcat.forward.spectrum import reference_rest_fluxes
from popcat.galaxy_model import GalaxyModel
from popcat.prior import make_prior
from popcat.survey import Filter, load_survey

TOLERANCE = 5e-4


@pytest.fixture(scope="module")
def rest(survey, model):
    return RestFrame(survey, model)


def largest_error(rest, theta, redshift, curves):
    """Largest relative error of the light in any filter, V without dust first."""
    found, clear = rest.measure(theta, redshift), theta.copy()
    light = np.column_stack([found.clear_v, found.seen_v, found.bands])
    clear[:, -3:-1] = 0.0
    expected = np.column_stack([
        reference_rest_fluxes(clear, redshift, rest.ingredients, curves[:1]),
        reference_rest_fluxes(theta, redshift, rest.ingredients, curves),
    ]) / 10.0 ** theta[:, :1]  # fmt: skip
    return np.max(np.abs(light / expected - 1.0))


@pytest.fixture(scope="module")
def held(survey):
    """largest_error for the filters of the survey."""
    return lambda rest, theta, redshift: largest_error(rest, theta, redshift, rest_frame_curves(survey))


def test_prior_draws_agree_with_the_reference(rest, held, draw):
    assert held(rest, *draw(200)) < TOLERANCE


@pytest.mark.parametrize("redshift", [0.001, 0.2, 0.6])
def test_bursts_agree_on_both_sides_of_the_age_of_the_universe(rest, held, model, galaxy, redshift):
    t_age = float(model.cosmology.age(redshift))
    times = [0.01, 0.0999, 0.1001, t_age * (1 - 1e-6), t_age * (1 + 1e-6), 13.27]
    theta = np.stack([galaxy({5: f, 6: t}) for f, t in itertools.product([0.0, 0.5, 1.0], times)])
    assert held(rest, theta, np.full(len(theta), redshift)) < TOLERANCE


@pytest.mark.parametrize("redshift", [0.001, 0.6])
def test_the_corners_of_dust_and_metallicity_agree(rest, held, galaxy, redshift):
    prior = make_prior(GalaxyModel())
    metals = itertools.product(prior.bounds("log_gamma1"), repeat=2)
    dust = [(0.0, 0.0, 0.0), (3.0, 3.0, -2.0), (0.0, 3.0, -2.0), (3.0, 3.0, 1.0)]
    corners = itertools.product(metals, dust)
    theta = [galaxy({7: g1, 8: g2, 9: bc, 10: ism, 11: n}) for (g1, g2), (bc, ism, n) in corners]
    assert held(rest, np.stack(theta), np.full(len(theta), redshift)) < TOLERANCE


@pytest.mark.parametrize("settings", [{"binning": "midpoint", "birth_cloud_age_gyr": 0.01},
                                      {"metallicity": "constant"}], ids=str)  # fmt: skip
def test_variants_of_the_model_agree(survey, held, settings):
    settings = GalaxyModel(**settings)
    prior, rng = make_prior(settings), np.random.default_rng(7)
    theta = prior.from_unit(rng.random((50, prior.n_unconstrained)))
    assert held(RestFrame(survey, load_ingredients(settings)), theta, rng.uniform(0.001, 0.6, 50)) < TOLERANCE


def test_the_cut_of_old_stars_is_smooth_between_nodes(rest, held, draw):
    """Old galaxies at redshifts in the middle of the tables' cells, where the interpolation is at its worst."""
    nodes = rest.tables.ln1pz
    theta, _ = draw(40)
    theta[:, 1:5], theta[:, 5] = [0.0, 0.0, 0.0, 1.0], 0.0
    redshift = np.expm1(0.5 * (nodes[1:] + nodes[:-1]))[:40]
    assert held(rest, theta[: len(redshift)], redshift) < TOLERANCE


def test_without_dust_there_is_no_attenuation(rest, galaxy):
    found = rest.measure(galaxy({9: 0.0, 10: 0.0})[None], np.array([0.1]))
    assert found.a_v[0] == pytest.approx(0.0, abs=1e-12)


def test_a_v_of_old_stars_is_near_that_of_the_screen(rest, galaxy):
    """Stars older than the birth clouds see tau_ism alone: 1.086 tau near 5500 A."""
    found = rest.measure(galaxy({5: 1.0, 6: 5.0, 9: 3.0, 10: 0.7, 11: 0.0})[None], np.array([0.1]))
    assert found.a_v[0] == pytest.approx(1.086 * 0.7, rel=0.03)


def test_birth_clouds_add_to_a_v(rest, galaxy):
    theta = np.stack([galaxy({9: tau}) for tau in (0.0, 1.0, 3.0)])
    assert np.all(np.diff(rest.measure(theta, np.full(3, 0.1)).a_v) > 0)


def test_ten_times_the_mass_is_brighter_by_2_5_mag(rest, draw):
    theta, redshift = draw(20)
    heavier = theta.copy()
    heavier[:, 0] += 1.0
    light, same = rest.measure(theta, redshift), rest.measure(heavier, redshift)
    faint, bright = light.magnitudes(theta[:, 0]), same.magnitudes(heavier[:, 0])
    np.testing.assert_allclose(faint - bright, 2.5, rtol=1e-9)
    np.testing.assert_array_equal(light.a_v, same.a_v)


def test_a_galaxy_nearby_has_its_observed_magnitude_less_the_distance_modulus(photometry, rest, galaxy):
    """At z = 0.001 nothing is redshifted to speak of: a percent of a magnitude."""
    theta, redshift = galaxy()[None], np.array([0.001])
    observed = 22.5 - 2.5 * np.log10(photometry.flux(theta, redshift)[0, :3])
    modulus = photometry.ingredients.cosmology.distance_modulus(0.001)
    found = rest.measure(theta, redshift).magnitudes(theta[:, 0])
    np.testing.assert_allclose(found[0], observed - modulus, atol=0.01)


def test_stars_are_those_of_the_epoch_and_not_of_today(rest, galaxy):
    """A burst of 10 Gyr shines today, and had not happened when the universe was 8 Gyr old."""
    theta = np.stack([galaxy({5: f, 6: 10.0}) for f in (0.0, 0.9)])
    today, then = (rest.measure(theta, np.full(2, z)).magnitudes(theta[:, 0]) for z in (0.001, 0.6))
    assert np.all(today[1] > today[0] + 0.5)
    np.testing.assert_array_equal(then[0], then[1])


def test_properties_have_a_column_a_filter(model, draw):
    survey = load_survey("lsst").model_copy(
        update={"absolute_magnitudes": (Filter(name="J", filter="twomass-J"), V_BAND)}
    )
    theta, redshift = draw(5)
    out = Properties(survey, model)(theta, redshift)
    assert list(out)[-3:] == ["a_v", "abs_mag_J", "abs_mag_V"]
    assert all(np.all(np.isfinite(values)) for values in out.values())


def test_v_has_the_effective_wavelength_of_v():
    assert 5400 < load_curve(V_BAND).effective_wavelength_aa < 5600


def test_rest_frame_tables_are_apart_from_observed_ones(survey, model, monkeypatch, tmp_path):
    monkeypatch.setenv("POPCAT_CACHE", str(tmp_path))
    narrow = survey.model_copy(update={"redshift_range": (0.1, 0.102)})
    curves = rest_frame_curves(narrow)[:1]
    tables.load_rest_tables(narrow, model, curves)
    assert len(list(tmp_path.glob("tables-*"))) == 1
    monkeypatch.setattr(tables, "build_tables", None)
    tables.load_rest_tables(narrow, model, curves)
    with pytest.raises(TypeError):
        tables._load(narrow, model, curves)


def test_a_filter_beyond_the_grid_is_refused_by_name(survey, model):
    far = Filter(name="W4", filter="wise2010-W4")
    with pytest.raises(PopcatError, match='band "W4" at redshift 0 needs'):
        RestFrame(survey.model_copy(update={"absolute_magnitudes": (far,)}), model)


def test_a_redshift_outside_the_range_is_refused(rest, galaxy):
    with pytest.raises(PopcatError, match=r"outside the survey's range 0\.001 to 0\.6"):
        rest.measure(galaxy()[None], np.array([0.7]))

"""Gas, dust and nucleus in a galaxy's spectrum: energy, limits, linearity, and the embedded nebular grid."""

from dataclasses import replace

import numpy as np
import pytest

import popcat
from popcat.distributions import Uniform
from popcat.errors import PopcatError
from popcat.forward.agn import agn_spectrum
from popcat.forward.components import Components, attenuated, luminosities, values
from popcat.forward.dust import LAWS
from popcat.forward.dust_emission import dust_spectrum
from popcat.forward.grid import LYMAN_LIMIT_AA
from popcat.forward.ingredients import load_ingredients
from popcat.forward.spectrum import (
    clear_light,
    observed_spectra,
    observed_spectrum,
    reference_fluxes,
    rest_spectrum,
    spectrum,
)
from popcat.galaxy_model import GalaxyModel
from popcat.prior import make_prior

EVERYTHING = Components("cloudy", "salim", "draine_li_2007", "temple_2021")
LAST = {"tau_bc": 0.7, "tau_ism": 0.5, "n_dust": -0.3, "bump_dust": 2.0, "log_u": -2.4, "f_esc": 0.1, "q_pah": 2.9,
        "u_min": 1.7, "gamma_dust": 0.02, "log_f_agn": -0.7, "ebv_agn": 0.1}  # fmt: skip
FINE = np.unique(np.concatenate([np.geomspace(LYMAN_LIMIT_AA, 1e5, 200_001), np.geomspace(1e5, 1e7, 20_001)]))


@pytest.fixture(scope="module")
def make(model, galaxy):
    """(components, changes of theta's last columns) -> ingredients and theta of a galaxy that forms stars."""

    def function(components, **changes):
        last = [(LAST | changes)[name] for name in components.names]
        return replace(model, components=components), np.concatenate([galaxy()[: model.n_history], last])

    return function


def test_every_component_has_its_columns(make):
    ingredients, theta = make(EVERYTHING)
    assert EVERYTHING.names == tuple(LAST)
    assert ingredients.n_theta == len(theta) == 20
    value = values(EVERYTHING, theta[ingredients.n_history :])
    assert (value.tau_bc, value.tau_ism, value.shape) == (0.7, 0.5, (-0.3, 2.0))
    assert (value.gas, value.dust, value.agn) == ((-2.4, 0.1), (2.9, 1.7, 0.02), (-0.7, 0.1))
    assert values(Components(dust_law="calzetti"), np.array([1.0, 2.0])) == (1.0, 2.0, (), None, None, None)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("gas", ["grid", "cloudy"])
def test_dust_emits_what_it_absorbs(make, law, gas):
    """To 1e-3, the light of a galaxy from the Lyman limit to 1 mm is that before dust."""
    components = Components(gas, law, "draine_li_2007")
    ingredients, theta = make(components)
    clear = clear_light(theta, 0.1, ingredients).at(FINE)
    whole = np.trapezoid((clear.old + clear.young)[FINE <= 1e5], FINE[FINE <= 1e5])
    stars, last = replace(ingredients, components=replace(components, dust_emission="none")), theta[:-3]
    seen = np.trapezoid(rest_spectrum(last, 0.1, stars, FINE)[FINE <= 1e5], FINE[FINE <= 1e5]) / 10.0 ** theta[0]
    emitted = rest_spectrum(theta, 0.1, ingredients, FINE) - rest_spectrum(last, 0.1, stars, FINE)
    emitted = np.trapezoid(emitted, FINE) / 10.0 ** theta[0]
    assert whole - seen > 0.2 * whole
    assert emitted == pytest.approx(whole - seen, rel=1e-3)


def test_the_nucleus_has_its_share_of_the_light_before_dust(make):
    ingredients, theta = make(EVERYTHING)
    clear = clear_light(theta, 0.1, ingredients)
    without = replace(ingredients, components=replace(EVERYTHING, agn="none"))
    added = rest_spectrum(theta, 0.1, ingredients, FINE) - rest_spectrum(theta[:-2], 0.1, without, FINE)
    whole = 10.0 ** theta[0] * np.trapezoid((clear.old + clear.young)[clear.wave_aa >= LYMAN_LIMIT_AA],
                                            clear.wave_aa[clear.wave_aa >= LYMAN_LIMIT_AA])  # fmt: skip
    np.testing.assert_allclose(added, 10.0**-0.7 * whole * agn_spectrum(FINE, 0.1), rtol=1e-6, atol=1e-9 * added.max())


def test_the_far_infrared_is_that_of_dust(make):
    ingredients, theta = make(replace(EVERYTHING, agn="none"))
    value = values(ingredients.components, theta[ingredients.n_history :])
    absorbed = 10.0 ** theta[0] * luminosities(clear_light(theta, 0.1, ingredients), "salim", value)[1]
    cold = np.geomspace(6e5, 9e6, 50)
    found = rest_spectrum(theta, 0.1, ingredients, cold) / absorbed
    np.testing.assert_allclose(found, dust_spectrum(cold, 2.9, 1.7, 0.02), rtol=0.02)


def test_all_light_is_linear_in_mass(make):
    ingredients, theta = make(EVERYTHING)
    heavier = theta.copy()
    heavier[0] += 1.0
    light, ten = (rest_spectrum(row, 0.1, ingredients, FINE[::50]) for row in (theta, heavier))
    np.testing.assert_allclose(ten, 10.0 * light, rtol=1e-12)


def test_gas_at_log_u_of_minus_3_is_the_nebular_grid(make, draw, curves):
    """In ugriz to 3e-4, for prior draws, of which the continuum's few spectra make the most."""
    ingredients, _ = make(Components(gas="cloudy"))
    theta, redshift = draw(12, seed=4)
    expected = reference_fluxes(theta, redshift, load_ingredients(GalaxyModel(grid="bc03_miles_nebular")), curves)
    with_gas = np.column_stack([theta, np.full(12, -3.0), np.zeros(12)])
    np.testing.assert_allclose(reference_fluxes(with_gas, redshift, ingredients, curves), expected, rtol=3e-4)


def test_what_escapes_does_not_shine(make):
    """At f_esc = 1 the galaxy is its stars; at 0 only those older than 10 Myr are seen below the Lyman limit."""
    ingredients, theta = make(Components(gas="cloudy"), f_esc=1.0)
    stars, plain = make(Components())
    wave = stars.grid.wave_aa
    np.testing.assert_allclose(rest_spectrum(theta, 0.1, ingredients), rest_spectrum(plain, 0.1, stars), rtol=1e-12)
    dark, half, bright = (
        rest_spectrum(make(Components(gas="cloudy"), f_esc=f)[1], 0.1, ingredients) for f in (0.0, 0.5, 1.0)
    )
    np.testing.assert_allclose(half, 0.5 * (dark + bright), rtol=1e-9)
    below = wave < LYMAN_LIMIT_AA
    assert np.trapezoid(dark[below], wave[below]) < 0.3 * np.trapezoid(bright[below], wave[below])
    h_alpha = np.abs(wave - 6564.6) < 6.0
    assert np.all(dark[h_alpha] > bright[h_alpha])


def test_without_dust_nothing_is_absorbed(make):
    ingredients, theta = make(Components(dust_law="smc"), tau_bc=0.0, tau_ism=0.0)
    clear, value = clear_light(theta, 0.1, ingredients), values(Components(dust_law="smc"), np.zeros(2))
    assert luminosities(clear, "smc", value)[1] == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_array_equal(attenuated(clear, "smc", value), clear.old + clear.young)


@pytest.mark.parametrize("components", [Components(dust_law="calzetti"), EVERYTHING], ids=["dust law", "everything"])
def test_spectra_of_many_are_those_of_each(make, components):
    ingredients, theta = make(components)
    wave, redshift = np.linspace(3000.0, 9000.0, 40), np.array([0.1, 0.3])
    many = observed_spectra(np.array([theta, theta]), redshift, ingredients, wave)
    each = [observed_spectrum(theta, z, ingredients, wave)[1] for z in redshift]
    np.testing.assert_allclose(many, each, rtol=1e-9)


FULL = GalaxyModel(gas="cloudy", dust_law="salim", dust_emission="draine_li_2007", agn="temple_2021")


def test_the_settings_name_the_components():
    ingredients, prior = load_ingredients(FULL), make_prior(FULL)
    assert ingredients.components == EVERYTHING
    assert prior.names[-11:] == FULL.component_parameters == EVERYTHING.names
    assert load_ingredients(GalaxyModel()).components == Components()


def test_their_priors_are_sound_and_nothing_escapes_unless_asked_for():
    prior = make_prior(FULL)
    assert prior.fixed == {"f_esc": 0.0}
    draws = prior.from_unit(np.random.default_rng(3).random((500, prior.n_unconstrained)))
    low, high = np.array([prior.bounds(name) for name in prior.names]).T
    assert np.all((draws >= low - 1e-12) & (draws <= high + 1e-12))
    assert prior.bounds("n_dust") == (-1.6, 0.4)
    free = make_prior(FULL.model_copy(update={"priors": {"f_esc": Uniform()}}))
    assert free.bounds("f_esc") == (0.0, 1.0)


def test_a_spectrum_by_name_has_them():
    names = make_prior(FULL).names
    galaxy = dict.fromkeys(names, 0.25) | {"log_mstar_formed": 10.5, "log_gamma1": -2.0, "log_gamma2": -2.0, **LAST}
    wave = np.array([5000.0, 2.4e5, 1.6e6])
    bright, plain = (spectrum(one, 0.1, settings=settings, wave_aa=wave).f_nu_nmgy for one, settings in (
        (galaxy, FULL), ({name: galaxy[name] for name in make_prior(GalaxyModel()).names}, GalaxyModel())))  # fmt: skip
    assert bright[0] / plain[0] < 3.0
    assert np.all(bright[1:] > 50.0 * plain[1:])


REFUSED = {
    "redshifts": (GalaxyModel(priors={"redshift": {"family": "table", "x": [1.0, 2.0], "density": [1.0, 1.0]}}),
                  "priors.redshift: expected some of it between"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_that_cannot_be_simulated_leaves_no_folder(case, tmp_path):
    galaxy_model, message = REFUSED[case]
    with pytest.raises(PopcatError, match=message):
        popcat.simulate("sdss", 10, output=tmp_path / "library", galaxy_model=galaxy_model, client="synchronous")
    assert not any(tmp_path.iterdir())


def test_gas_of_a_bent_history_is_refused_in_one_line(tmp_path):
    """Star formation that bends within the last 10 Myr, while gas shines."""
    path, made = tmp_path / "bent.csv", tmp_path / "library"
    path.write_text("lookback_gyr,sfh1,zh1\n0.0,1.0,1.0\n0.004,9.0,1.0\n13.0,1.0,1.0\n")
    settings = GalaxyModel(gas="cloudy", bases=str(path), n_sfh_bases=1, n_metallicity_bases=1)
    with pytest.raises(PopcatError, match='gas = "cloudy": expected bases of star formation that are straight lines'):
        popcat.simulate("sdss", 10, output=made, galaxy_model=settings, client="synchronous")
    assert not made.exists()


def test_gas_beside_a_nebular_grid_is_refused():
    with pytest.raises(PopcatError, match="adds nebular emission to stars that have it already"):
        load_ingredients(GalaxyModel(grid="bc03_miles_nebular", gas="cloudy"))

"""Nebular emission: light that is kept where it is moved, stars that are left alone, and case B."""

from dataclasses import replace

import numpy as np
import pytest

from popcat.errors import PopcatError
from popcat.forward.grid import Nebular, lines_on, load_grid, with_nebular
from popcat.forward.ingredients import load_ingredients
from popcat.forward.photometry import Photometry
from popcat.forward.spectrum import reference_fluxes
from popcat.galaxy_model import GalaxyModel
from popcat.units import LSUN_ERG_S

H_ERG_S, C_AA_S = 6.62607015e-27, 2.99792458e18
YOUNG_GYR = 0.01
# Shares of the ionising photons of constant star formation that are longward of 440 A, where the embedded stars begin,
# by Z: from all wavelengths of the source (read_bc03).
LONGWARD_OF_440 = {0.0001: 0.779, 0.0004: 0.805, 0.004: 0.837, 0.008: 0.867, 0.02: 0.886, 0.05: 0.927}


@pytest.fixture(scope="module")
def stars():
    return load_grid("bc03_miles")


@pytest.fixture(scope="module")
def shining():
    return load_grid("bc03_miles_nebular")


@pytest.fixture(scope="module")
def photometry(survey):
    """The fast path with nebular emission, where [O III] and H alpha are inside g and i."""
    near = survey.model_copy(update={"redshift_range": (0.001, 0.1)})
    return Photometry(near, GalaxyModel(grid="bc03_miles_nebular"))


@pytest.fixture
def wave():
    """Wavelengths in three steps: 1, 2 and 5 Angstrom."""
    return np.concatenate([np.arange(100.0, 200.0), np.arange(200.0, 300.0, 2.0), np.arange(300.0, 401.0, 5.0)])


@pytest.fixture
def gas(small_grid):
    """Emission for the small grid at 1 and 10 Myr: twice as much at 1 Myr, more with each metallicity."""
    shape = (3, 2, len(small_grid.wave_aa))
    lum = np.broadcast_to(np.arange(1.0, 4.0)[:, None, None] * np.array([2.0, 1.0])[:, None], shape)
    return Nebular(-3.0, np.array([6.0, 7.0]), small_grid.log_z_abs, small_grid.wave_aa, lum)


@pytest.mark.parametrize("at", [150.0, 150.3, 199.9, 200.0, 201.0, 299.0, 300.0, 304.9, 377.7])
def test_a_line_keeps_its_light_and_its_wavelength(wave, at):
    lum = lines_on(wave, np.array([at]), np.array([7.0]))
    assert np.trapezoid(lum, wave) == pytest.approx(7.0, rel=1e-12)
    assert np.sum(lum * np.gradient(wave) * wave) / 7.0 == pytest.approx(at, rel=1e-12)
    assert np.count_nonzero(lum) <= 2


def test_lines_add_up_in_every_metallicity_and_age(wave):
    strength = np.random.default_rng(1).random((2, 3, 4))
    lum = lines_on(wave, np.array([120.5, 121.0, 250.1, 333.3]), strength)
    assert lum.shape == (2, 3, len(wave))
    np.testing.assert_allclose(np.trapezoid(lum, wave), strength.sum(axis=-1))


def test_lines_outside_are_left_out(wave):
    assert not lines_on(wave, np.array([50.0, 99.9, 100.5, 399.0, 400.5, 9000.0]), np.ones(6)).any()


def test_stars_older_than_ten_million_years_are_left_alone(small_grid, gas):
    old = small_grid.age_gyr > YOUNG_GYR
    np.testing.assert_array_equal(with_nebular(small_grid, gas).lum[:, old], small_grid.lum[:, old])
    assert 0 < old.sum() < len(old)


def test_emission_is_linear_in_ln_t_and_constant_before_its_first_age(small_grid, gas):
    ages = replace(small_grid, log_age_yr=np.array([5.0, 6.0, 6.5, 7.0, 7.1, 8.0, 9.0, 9.5, 10.0]))
    added = with_nebular(ages, gas).lum - ages.lum
    expected = np.arange(1.0, 4.0)[:, None] * np.array([2.0, 2.0, 1.5, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(added, np.broadcast_to(expected[..., None], added.shape), atol=1e-9)


def test_no_starlight_is_left_below_the_lyman_limit_while_the_gas_shines(small_grid, gas):
    wave = np.geomspace(500.0, 30000.0, 400)
    stars, dark = replace(small_grid, wave_aa=wave), replace(gas, wave_aa=wave, lum=np.zeros(gas.lum.shape))
    lum, young, ionising = with_nebular(stars, dark).lum, stars.age_gyr <= YOUNG_GYR, wave < 911.8
    assert not lum[:, young][..., ionising].any()
    np.testing.assert_array_equal(lum[..., ~ionising], stars.lum[..., ~ionising])
    np.testing.assert_array_equal(lum[:, ~young], stars.lum[:, ~young])


def test_the_grid_says_so_and_is_another_one(small_grid, gas):
    made = with_nebular(small_grid, gas)
    assert made.provenance == small_grid.provenance | {"nebular_log_u": -3.0}
    assert made.content_hash() != small_grid.content_hash()
    assert "nebular_log_u" not in small_grid.provenance


@pytest.mark.parametrize("axis", ["log_z_abs", "wave_aa"])
def test_emission_of_other_stars_is_refused(small_grid, gas, axis):
    values = getattr(gas, axis)
    with pytest.raises(PopcatError, match=rf"expected its {axis} to be that of the stars, {len(values)} values from"):
        with_nebular(small_grid, replace(gas, **{axis: values + 0.01 * np.abs(values)}))
    with pytest.raises(PopcatError, match=rf"{axis} .* got {len(values) - 1} values"):
        with_nebular(small_grid, replace(gas, **{axis: values[:-1]}))


def test_the_embedded_grid_is_the_embedded_stars_and_gas(stars, shining):
    for name in ("log_age_yr", "log_z_abs", "wave_aa", "mstar"):
        np.testing.assert_array_equal(getattr(shining, name), getattr(stars, name))
    assert shining.provenance == {**stars.provenance, "nebular_log_u": -3.0}
    young, ionising = stars.age_gyr <= YOUNG_GYR * (1 + 1e-6), stars.wave_aa < 911.8
    np.testing.assert_array_equal(shining.lum[:, ~young], stars.lum[:, ~young])
    assert np.all(np.isfinite(shining.lum))
    assert np.all(shining.lum[:, young][..., ~ionising] >= stars.lum[:, young][..., ~ionising])
    # Cloudy's own diffuse light leaks out below the limit: of the stars' a third of a percent at most.
    left, before = (np.trapezoid(g.lum[:, young][..., ionising], g.wave_aa[ionising]) for g in (shining, stars))
    assert np.max(left.sum(axis=1) / before.sum(axis=1)) < 5e-3


def line_luminosity(stars, shining, around_aa):
    """Luminosity in erg/s of the light above the continuum at these wavelengths: (n_Z, n_age), per Msun formed."""
    gas, wave = shining.lum - stars.lum, stars.wave_aa
    first, last = np.searchsorted(wave, around_aa)
    continuum = 0.5 * (gas[..., first, None] + gas[..., last, None])
    return np.trapezoid(gas[..., first : last + 1] - continuum, wave[first : last + 1]) * LSUN_ERG_S


def constant_star_formation(per_mass, grid):
    """Integral over the first 10 Myr of something per Msun formed: (n_Z,) for 1 Msun/yr."""
    t_yr = np.append(0.0, np.geomspace(1e4, 1e9 * YOUNG_GYR, 2001))
    at = np.log10(np.maximum(t_yr, 1e4))
    return np.trapezoid([np.interp(at, grid.log_age_yr, row) for row in per_mass], t_yr)


H_ALPHA_AA, H_BETA_AA = (6555.0, 6575.0), (4845.0, 4880.0)
"""Between [N II] 6549.9 and 6585.3 as the grid has them; and all of H beta, in vacuum."""


def test_h_alpha_is_that_of_case_b(stars, shining):
    """L(H alpha) = 1.37e-12 erg x Q_H (Kennicutt 1998, ARA&A 36, 189), from the photons of the stars alone.

    With all wavelengths of the source the ratio is 1.00 to 1.06: Cloudy's gas has a temperature, helium and collisions,
    case B has none. BC03's stars at Z = 0.1 are too cool to ionise: 1/700 of the photons of those at Z = 0.05.
    """
    wave = stars.wave_aa
    ionising = wave < 911.8
    photons = stars.lum * wave / (H_ERG_S * C_AA_S) * LSUN_ERG_S
    q_h = constant_star_formation(np.trapezoid(photons[..., ionising], wave[ionising]), stars)
    ratio = constant_star_formation(line_luminosity(stars, shining, H_ALPHA_AA), stars) / (1.37e-12 * q_h)
    np.testing.assert_allclose(stars.z_abs[:6], list(LONGWARD_OF_440), rtol=1e-3)
    np.testing.assert_allclose(ratio[:6] * list(LONGWARD_OF_440.values()), 1.0, atol=0.08)
    assert q_h[6] < q_h[5] / 500


def test_the_balmer_decrement_is_that_of_case_b(stars, shining):
    """2.75 at 20,000 K to 3.04 at 5,000 K (Osterbrock & Ferland 2006, table 4.4)."""
    alpha, beta = (constant_star_formation(line_luminosity(stars, shining, w), stars) for w in (H_ALPHA_AA, H_BETA_AA))
    assert np.all((alpha[:6] / beta[:6] > 2.75) & (alpha[:6] / beta[:6] < 3.04))


def test_the_oxygen_doublet_has_the_ratio_of_atomic_physics(stars, shining):
    """[O III] 5007 is 2.98 times 4959 (Storey & Zeippen 2000); Cloudy's own transition rates make it 2.89."""
    strong, weak = (line_luminosity(stars, shining, at)[1:5, 0] for at in ((4985.0, 5035.0), (4940.0, 4985.0)))
    np.testing.assert_allclose(strong / weak, 2.98, rtol=0.04)


def test_the_fast_path_with_emission_agrees_with_the_reference(photometry, curves, draw):
    theta, redshift = draw(150, z_range=photometry.survey.redshift_range)
    expected = reference_fluxes(theta, redshift, photometry.ingredients, curves)
    error = np.abs(photometry.flux(theta, redshift) / expected - 1.0)
    assert np.max(error[expected > 1e-10 * expected.max(axis=1, keepdims=True)]) < 1e-3


def test_i_is_two_percent_brighter_at_z_01_where_stars_form_and_no_brighter_where_none_do(photometry, draw,
                                                                                            curves):
    """Where the rate today is 10^-10.5 of the mass formed per year; H alpha is at 7220 A, inside i."""
    theta, _ = draw(4000)
    theta[:, 5] = 0.0
    rate = photometry.ingredients.bases.sfh[0, 0] * theta[:, 1] * 1e-9
    forming, old = np.abs(np.log10(rate) + 10.5) < 0.1, theta[0].copy()
    old[5:7] = 1.0, 8.0
    theta = theta[forming]
    redshift = np.full(len(theta), 0.0999)
    brighter = photometry.flux(theta, redshift) / Photometry(photometry.survey, GalaxyModel()).flux(theta,
                                                                                                    redshift) - 1.0
    assert np.median(brighter[:, 3]) == pytest.approx(0.023, abs=0.004)
    with_gas, without = (reference_fluxes(old[None], redshift[:1], load_ingredients(GalaxyModel(grid=grid)), curves)
                         for grid in ("bc03_miles_nebular", "bc03_miles"))  # fmt: skip
    np.testing.assert_allclose(with_gas, without, rtol=1e-6)

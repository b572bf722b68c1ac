"""The reference against physics done by other means."""

from dataclasses import replace

import astropy.cosmology
import astropy.units as u
import numpy as np
import pytest

from popcat.columns import PARAMETERS
from popcat.errors import PopcatError
from popcat.forward.filters import make_curve
from popcat.forward.histories import point_weights
from popcat.forward.spectrum import (
    band_flux,
    broaden,
    observed_spectrum,
    population,
    reference_fluxes,
    rest_spectrum,
    spectrum,
)


@pytest.mark.parametrize("redshift", [0.001, 0.1, 0.6])
def test_a_flux_density_is_what_astropy_makes_of_luminosity_and_distance(model, galaxy, redshift):
    """f_lambda = L / (4 pi d_L^2 (1 + z)): inverse-square law, and the stretch of the wavelength; no medium between."""
    model = replace(model, igm="none")
    lum = rest_spectrum(galaxy(), redshift, model) * u.L_sun / u.AA
    wave, flux = observed_spectrum(galaxy(), redshift, model)
    distance = astropy.cosmology.Planck13.luminosity_distance(redshift)
    f_lambda = lum / (4 * np.pi * distance**2 * (1 + redshift))
    expected = f_lambda.to(u.nJy, u.spectral_density(wave * u.AA)).value / 3631.0
    np.testing.assert_allclose(flux, expected, rtol=1e-6)
    np.testing.assert_allclose(wave, model.grid.wave_aa * (1 + redshift))


def test_light_is_conserved_on_its_way(model, galaxy):
    """The observed bolometric flux times 4 pi d_L^2 is the luminosity, where no medium takes any of it."""
    model = replace(model, igm="none")
    redshift, wave_rest = 0.3, model.grid.wave_aa
    lum = np.trapezoid(rest_spectrum(galaxy(), redshift, model), wave_rest) * u.L_sun
    wave, flux = observed_spectrum(galaxy(), redshift, model)
    f_lambda = (flux * 3631.0 * u.nJy).to(u.erg / u.s / u.cm**2 / u.AA, u.spectral_density(wave * u.AA))
    sphere = 4 * np.pi * astropy.cosmology.Planck13.luminosity_distance(redshift) ** 2
    received = np.trapezoid(f_lambda, wave * u.AA) * sphere
    assert received.to_value(u.L_sun) == pytest.approx(lum.to_value(u.L_sun), rel=1e-6)


@pytest.mark.parametrize("column", [9, 10], ids=["tau_bc", "tau_ism"])
@pytest.mark.parametrize("n_dust", [-2.0, 0.0, 1.0])
def test_dust_takes_bolometric_light_away(model, galaxy, column, n_dust):
    wave = model.grid.wave_aa
    lum = [np.trapezoid(rest_spectrum(galaxy({9: 0.0, 10: 0.0, column: tau, 11: n_dust}), 0.1, model), wave)
           for tau in (0.0, 0.3, 1.0, 3.0)]  # fmt: skip
    assert np.all(np.diff(lum) < 0)


def test_a_pure_burst_without_dust_is_one_ssp(model, galaxy):
    grid = model.grid
    theta = galaxy({0: 0.0, 5: 1.0, 6: 2.0, 9: 0.0, 10: 0.0})
    z_abs = np.clip(model.bases.metallicity(10.0 ** theta[7:9], 2.0), grid.z_abs[0], grid.z_abs[-1])
    at_age = np.tensordot(point_weights(grid.age_gyr, 2.0)[0], grid.lum, axes=(0, 1))
    left = np.searchsorted(grid.z_abs, z_abs, side="right") - 1
    fraction = np.log(z_abs / grid.z_abs[left]) / np.log(grid.z_abs[left + 1] / grid.z_abs[left])
    expected = (1 - fraction) * at_age[left] + fraction * at_age[left + 1]
    np.testing.assert_allclose(rest_spectrum(theta, 0.1, model), expected, rtol=1e-10)


def test_the_mass_fractions_of_a_population_sum_to_one(model, draw):
    theta, redshift = draw(50)
    for row, z in zip(theta, redshift, strict=True):
        stars = population(row, z, model)
        assert stars.mass.sum() == pytest.approx(1.0, abs=1e-12)
        assert np.all(stars.mass >= 0)


def test_no_star_is_older_than_the_universe(model, draw):
    theta, redshift = draw(50)
    for row, z in zip(theta, redshift, strict=True):
        stars = population(row, z, model)
        assert np.all(stars.age_gyr[stars.mass > 0] <= model.cosmology.age(z))


def test_a_flat_spectrum_of_one_nanomaggy_gives_one_nanomaggy_in_every_band(curves):
    for curve in curves:
        wave = np.linspace(curve.wave_aa[0], curve.wave_aa[-1], 20001)
        assert band_flux(wave, np.ones_like(wave), curve) == pytest.approx(1.0, rel=1e-6)


def test_a_narrow_band_reads_the_spectrum_at_its_wavelength(model, galaxy):
    curve = make_curve("narrow", [6999.0, 7000.0, 7001.0], [0.0, 1.0, 0.0])
    _, flux = observed_spectrum(galaxy(), 0.1, model, np.array([7000.0]))
    assert reference_fluxes(galaxy()[None], [0.1], model, [curve])[0, 0] == pytest.approx(flux[0], rel=1e-3)


def test_the_public_spectrum_is_the_reference_by_name_or_by_order(model, galaxy):
    row = galaxy()
    wave, f_nu = observed_spectrum(row, 0.1, model)
    by_name = spectrum(dict(zip(PARAMETERS, row, strict=True)), 0.1)
    np.testing.assert_array_equal(by_name.wave_aa, wave)
    np.testing.assert_array_equal(by_name.f_nu_nmgy, f_nu)
    np.testing.assert_array_equal(spectrum(row, 0.1).f_nu_nmgy, f_nu)


def test_f_lambda_and_f_nu_are_one_flux_density(galaxy):
    found = spectrum(galaxy(), 0.1)
    expected = (found.f_nu_nmgy * 3.631e-29 * u.Unit("erg / (s cm2 Hz)")).to(
        "erg / (s cm2 AA)", u.spectral_density(found.wave_aa * u.AA)
    )
    np.testing.assert_allclose(found.f_lambda, expected.value, rtol=1e-8)


def test_velocity_dispersion_gives_a_line_its_width_and_keeps_its_light():
    wave = np.exp(np.arange(np.log(4000.0), np.log(6000.0), 5e-5))
    line = np.exp(-0.5 * ((wave - 5000.0) / 0.3) ** 2)
    wide = broaden(wave, line, 150.0)
    mean = np.trapezoid(wide * wave, wave) / np.trapezoid(wide, wave)
    width = np.sqrt(np.trapezoid(wide * (wave - mean) ** 2, wave) / np.trapezoid(wide, wave))
    assert np.hypot(0.3, 5000.0 * 150.0 / 299792.458) == pytest.approx(width, rel=0.01)
    assert np.trapezoid(wide, wave) == pytest.approx(np.trapezoid(line, wave), rel=1e-3)


def test_a_dispersion_that_the_grid_cannot_show_changes_nothing(galaxy):
    np.testing.assert_allclose(spectrum(galaxy(), 0.1, sigma_v_km_s=0.01).f_nu_nmgy, spectrum(galaxy(), 0.1).f_nu_nmgy)


@pytest.mark.parametrize(
    ("theta", "redshift", "options", "words"),
    [
        ({"tau_ism": 1.0}, 0.1, {}, "missing or unknown: beta1"),
        ([1.0, 2.0], 0.1, {}, "expected 12 finite parameters"),
        (None, -0.1, {}, "redshift must be positive"),
        (None, 0.1, {"sigma_v_km_s": -1.0}, "must not be negative"),
        (None, 99.0, {}, "redshifts from 0 to 80"),
    ],
)
def test_a_spectrum_that_cannot_be_says_why(galaxy, theta, redshift, options, words):
    with pytest.raises(PopcatError, match=words):
        spectrum(galaxy() if theta is None else theta, redshift, **options)

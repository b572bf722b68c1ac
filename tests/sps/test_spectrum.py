"""The reference against physics done by other means."""

import astropy.cosmology
import astropy.units as u
import numpy as np
import pytest

from popcat.sps.ages import point_weights
from popcat.sps.filters import make_curve
from popcat.sps.spectrum import band_flux, observed_spectrum, population, reference_fluxes, rest_spectrum


@pytest.mark.parametrize("redshift", [0.001, 0.1, 0.6])
def test_a_flux_density_is_what_astropy_makes_of_luminosity_and_distance(model, galaxy, redshift):
    """f_lambda = L / (4 pi d_L^2 (1 + z)): inverse-square law, and the stretch of the wavelength."""
    lum = rest_spectrum(galaxy(), redshift, model) * u.L_sun / u.AA
    wave, flux = observed_spectrum(galaxy(), redshift, model)
    distance = astropy.cosmology.Planck13.luminosity_distance(redshift)
    f_lambda = lum / (4 * np.pi * distance**2 * (1 + redshift))
    expected = f_lambda.to(u.nJy, u.spectral_density(wave * u.AA)).value / 3631.0
    np.testing.assert_allclose(flux, expected, rtol=1e-6)
    np.testing.assert_allclose(wave, model.grid.wave_aa * (1 + redshift))


def test_light_is_conserved_on_its_way(model, galaxy):
    """The observed bolometric flux times 4 pi d_L^2 is the luminosity."""
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

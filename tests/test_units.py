"""Conversions between magnitudes and nanomaggies hold closed forms and invert each other."""

import numpy as np
import pytest

from popcat.units import (
    AB_FNU,
    C_AA_S,
    C_KM_S,
    NMGY_FNU,
    NMGY_PER_UNIT,
    ab_mag_err_to_nmgy,
    ab_mag_to_nmgy,
    asinh_mag_err_to_nmgy,
    asinh_mag_to_nmgy,
    nmgy_to_ab_mag,
)


def test_constants_agree_with_astropy():
    from astropy import units as u
    from astropy.constants import L_sun, c, pc

    from popcat.units import LSUN_ERG_S, PC_CM

    assert c.to_value("AA/s") == pytest.approx(C_AA_S, rel=1e-12)
    assert c.to_value("km/s") == pytest.approx(C_KM_S, rel=1e-12)
    assert L_sun.to_value("erg/s") == pytest.approx(LSUN_ERG_S, rel=1e-12)
    assert pc.to_value("cm") == pytest.approx(PC_CM, rel=1e-12)
    assert (0 * u.ABmag).to_value("erg/(s cm2 Hz)") == pytest.approx(AB_FNU, rel=3e-5)


@pytest.mark.parametrize("unit", NMGY_PER_UNIT)
def test_a_flux_unit_agrees_with_astropy(unit):
    from astropy import units as u

    in_jansky = 1e-9 * 3631 if unit == "nMgy" else u.Unit(unit).to("Jy")
    assert NMGY_PER_UNIT[unit] == pytest.approx(in_jansky / 3.631e-6, rel=1e-12)


def test_a_nanomaggy_is_ab_magnitude_22_5():
    assert nmgy_to_ab_mag(1.0) == 22.5
    assert -2.5 * np.log10(NMGY_FNU / AB_FNU) == pytest.approx(22.5)


def test_magnitudes_and_fluxes_are_inverse():
    mag = np.linspace(5, 35, 61)
    np.testing.assert_allclose(nmgy_to_ab_mag(ab_mag_to_nmgy(mag)), mag, rtol=1e-14)


@pytest.mark.parametrize("flux", [0.0, -1.0, np.nan])
def test_a_flux_that_is_not_positive_has_no_magnitude(flux):
    assert np.isnan(nmgy_to_ab_mag(flux))


def test_the_flux_error_is_the_derivative_of_the_flux():
    mag, step = 18.3, 1e-6
    slope = (ab_mag_to_nmgy(mag - step) - ab_mag_to_nmgy(mag + step)) / (2 * step)
    assert ab_mag_err_to_nmgy(mag, 0.07) == pytest.approx(slope * 0.07, rel=1e-8)


@pytest.mark.parametrize("softening", [0.9e-10, 7.4e-10])
def test_asinh_magnitudes_invert_their_definition_and_carry_negative_fluxes(softening):
    """m = -2.5/ln10 [asinh(f / 2b) + ln b], Lupton, Gunn & Szalay (1999)."""
    flux = np.array([-2.0, -0.01, 0.0, 0.3, 5.0, 4000.0])
    mag = -2.5 / np.log(10) * (np.arcsinh(flux / 1e9 / (2 * softening)) + np.log(softening))
    np.testing.assert_allclose(asinh_mag_to_nmgy(mag, softening), flux, rtol=1e-9, atol=1e-9)


def test_the_error_of_an_asinh_magnitude_is_its_slope():
    mag, step = np.array([16.0, 22.0, 25.0, 26.0]), 1e-5
    ends = [asinh_mag_to_nmgy(mag + sign * step, 1.2e-10) for sign in (1, -1)]
    np.testing.assert_allclose(asinh_mag_err_to_nmgy(mag, 2 * step, 1.2e-10), ends[1] - ends[0], rtol=1e-6)

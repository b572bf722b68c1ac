"""Attenuation curves against the formulae of FSPS, written out by hand."""

import numpy as np
import pytest

from popcat.forward import dust

WAVE = np.linspace(1000.0, 25000.0, 24001)


@pytest.mark.parametrize("wave", [1200.0, 2175.0, 4000.0, 5500.0, 6299.0, 6300.0])
def test_calzetti_up_to_6300_is_the_cubic_of_fsps(wave):
    x = 1e4 / wave
    expected = (1.17 * (-2.156 + 1.509 * x - 0.198 * x**2 + 0.011 * x**3) + 1.78) / (0.44 * 4.05)
    assert dust.calzetti(wave) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("wave", [6301.0, 7000.0, 10000.0, 20000.0])
def test_calzetti_above_6300_is_the_line_of_fsps(wave):
    expected = (1.17 * (-1.857 + 1.04 * 1e4 / wave) + 1.78) / (0.44 * 4.05)
    assert dust.calzetti(wave) == pytest.approx(expected, rel=1e-12)


def test_calzetti_is_never_negative():
    assert np.all(dust.calzetti(np.geomspace(100.0, 1e6, 5000)) >= 0)
    assert dust.calzetti(32000.0) == 0


def test_calzetti_is_about_one_at_5500():
    assert dust.calzetti(5500.0) == pytest.approx(1.0, abs=0.02)


def test_the_step_lives_between_6300_and_where_the_branches_cross():
    assert pytest.approx(7226.55, abs=0.01) == dust.STEP_HIGH_AA
    step = dust.calzetti_step(WAVE)
    inside = (WAVE > 6300.0) & (WAVE < dust.STEP_HIGH_AA)
    np.testing.assert_array_equal(step[~inside], 0.0)
    assert np.all(step[inside] != 0)
    assert abs(dust.calzetti_step(6300.001)) == pytest.approx(0.006, abs=5e-4)


def test_smooth_plus_step_is_the_curve_and_the_smooth_curve_is_continuous():
    np.testing.assert_allclose(dust.calzetti_smooth(WAVE) + dust.calzetti_step(WAVE), dust.calzetti(WAVE), rtol=1e-14)
    for edge in (6300.0, dust.STEP_HIGH_AA):
        assert dust.calzetti_smooth(edge - 1e-6) == pytest.approx(dust.calzetti_smooth(edge + 1e-6), abs=1e-8)
    assert np.max(np.abs(np.diff(dust.calzetti_smooth(WAVE)))) < 0.01


def test_the_bump_peaks_at_2175_with_one_over_r_v():
    fine = np.linspace(1500.0, 3000.0, 150001)
    assert fine[np.argmax(dust.bump(fine))] == pytest.approx(2175.0, abs=0.02)
    assert dust.bump(2175.0) == pytest.approx(1 / 4.05)


@pytest.mark.parametrize(("n", "strength"), [(-2.0, 4.65), (0.0, 0.85), (1.0, -1.05)])
def test_the_bump_weakens_as_the_curve_flattens(n, strength):
    assert dust.bump_strength(n) == pytest.approx(strength)


@pytest.mark.parametrize("n", [-2.0, 0.0, 1.0])
@pytest.mark.parametrize("wave", [2175.0, 4500.0, 9000.0])
def test_the_diffuse_curve_is_tilted_about_5500(wave, n):
    drude = (350 * wave) ** 2 / ((wave**2 - 2175**2) ** 2 + (350 * wave) ** 2)
    expected = (dust.calzetti(wave) + (0.85 - 1.9 * n) * drude / 4.05) * (wave / 5500) ** n
    assert dust.diffuse_curve(wave, n) == pytest.approx(expected, rel=1e-12)


def test_birth_clouds_fall_as_one_over_wavelength():
    np.testing.assert_allclose(dust.power_law_curve(np.array([2750.0, 5500.0, 11000.0]), -1.0), [2.0, 1.0, 0.5])

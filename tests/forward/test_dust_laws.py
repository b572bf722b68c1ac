"""The attenuation laws beside the default: against published numbers, closed forms, and other codes."""

import numpy as np
import pytest

from popcat.forward import dust
from popcat.galaxy_model import LAW_PARAMETERS

WAVE = np.geomspace(912.0, 1e5, 4001)

# Average extinction of the SMC bar, A(w) / A(V) against 1 / w in micron: Gordon et al. (2003, ApJ 594, 279), table 4.
GORDON_X = [0.80, 1.235, 1.538, 1.818, 2.273, 2.703, 3.375, 3.875, 4.375, 4.875, 5.375, 6.375, 6.875, 7.375, 7.875]
GORDON_SMC = [0.250, 0.567, 0.801, 1.0, 1.374, 1.672, 2.0, 2.428, 2.947, 3.293, 3.637, 4.472, 5.0, 5.575, 6.074]


@pytest.mark.parametrize("law", LAW_PARAMETERS)
def test_every_law_is_one_at_5500_falls_to_the_red_and_is_smooth(law):
    shape = {"kriek_conroy": (-0.4,), "salim": (-0.4, 1.0), "charlot_fall": (-0.7,)}.get(law, ())
    assert len(shape) == len(LAW_PARAMETERS[law])
    curve = dust.LAWS[law].curve(WAVE, *shape)
    assert curve.shape == WAVE.shape
    assert dust.LAWS[law].curve(5500.0, *shape) == pytest.approx(1.0, abs=3e-3)
    assert np.all(curve >= 0.0)
    assert curve[0] > 3.0 > 1.0 > curve[WAVE > 15000.0].max()
    if law != "kriek_conroy":  # whose step at 6300 A is 0.006
        slope = np.diff(curve) / np.diff(np.log(WAVE))
        seen = (WAVE[2:] > 1200.0) & (WAVE[2:] < 30000.0)  # Calzetti's reaches zero at 3.1 micron
        assert np.max(np.abs(np.diff(slope)[seen])) < 0.14


@pytest.mark.parametrize("wave", [1300.0, 2500.0, 5000.0, 7500.0, 15000.0])
def test_calzetti_is_the_published_curve(wave):
    """k(w) of Calzetti et al. (2000, ApJ 533, 682), eq. 4, over R_V = 4.05."""
    x = 1e4 / wave
    short, long = -2.156 + 1.509 * x - 0.198 * x**2 + 0.011 * x**3, -1.857 + 1.040 * x
    expected = (2.659 * (short if wave < 6300 else long) + 4.05) / 4.05
    assert dust.calzetti_curve(wave) == pytest.approx(expected, rel=1e-9)


def test_calzetti_between_6300_and_the_crossing_is_off_by_the_step_alone():
    wave = np.linspace(6300.0, dust.STEP_HIGH_AA, 200)
    assert np.max(np.abs(dust.calzetti_curve(wave) - dust.calzetti(wave))) < 7e-3


def test_smc_is_that_of_gordon_within_six_percent():
    found = dust.smc_curve(1e4 / np.array(GORDON_X))
    np.testing.assert_allclose(found, GORDON_SMC, rtol=0.065)


def test_smc_is_the_formula_of_pei():
    """Written out for 2000 A; his A_V / A_B = R_V / (R_V + 1), R_V = 2.93, is met at 5500 A to four percent."""
    w = 0.2
    terms = [(185, 0.042, 90, 2), (27, 0.08, 5.5, 4), (0.005, 0.22, -1.95, 2), (0.01, 9.7, -1.95, 2),
             (0.012, 18, -1.8, 2), (0.03, 25, 0, 2)]  # fmt: skip
    a_b = sum(a / ((w / c) ** n + (c / w) ** n + b) for a, c, b, n in terms)
    a_v = dust._pei(5500.0)
    assert dust.smc_curve(2000.0) == pytest.approx(a_b / a_v)
    assert a_v == pytest.approx(dust.SMC_R_V / (dust.SMC_R_V + 1.0), rel=0.04)


@pytest.mark.parametrize(("delta", "b"), [(0.0, 0.0), (-0.5, 2.0), (0.3, 3.5)])
def test_salim_is_a_tilted_calzetti_with_a_bump(delta, b):
    """k = k_Cal R_V(delta) / 4.05 (w / 5500)^delta + D, over R_V(delta); D a Drude profile of 350 A at 2175 A."""
    w = np.array([1500.0, 2175.0, 4000.0, 9000.0])
    r_v = 4.05 / (5.05 * 0.8**delta - 4.05)
    drude = b * w**2 * 350.0**2 / ((w**2 - 2175.0**2) ** 2 + w**2 * 350.0**2)
    expected = (4.05 * dust.calzetti_curve(w) * r_v / 4.05 * (w / 5500.0) ** delta + drude) / r_v
    np.testing.assert_allclose(dust.salim_curve(w, delta, b), expected, rtol=1e-12)


def test_e_b_minus_v_of_salim_is_one_over_r_v():
    for delta in (-1.0, -0.3, 0.2):
        reddening = dust.salim_curve(4400.0, delta, 0.0) - dust.salim_curve(5500.0, delta, 0.0)
        assert reddening == pytest.approx(1.0 / dust.salim_r_v(delta), abs=0.005)


def test_power_laws_are_those_of_charlot_and_fall():
    np.testing.assert_allclose(dust.power_law_curve([2750.0, 11000.0], -0.7), [2.0**0.7, 0.5**0.7])
    np.testing.assert_allclose(dust.power_law_curve([2750.0, 11000.0], -1.3), [2.0**1.3, 0.5**1.3])
    np.testing.assert_allclose(dust.power_law_curve(WAVE, -1.0), 5500.0 / WAVE)

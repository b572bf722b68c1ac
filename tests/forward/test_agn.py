"""The nucleus: slopes and breaks, the units, the reddening, and another code's copy of the disc."""

import numpy as np
import pytest

from popcat.forward.agn import agn_spectrum
from popcat.forward.dust import smc_curve

# f_nu of the disc of Temple et al. (2021) as Prospector and Ceridwen carry it, temple21.txt, at these wavelengths.
DISC = {1000.0: 0.519181, 1400.0: 0.700642, 2798.0: 0.892175, 4000.0: 0.982099, 5100.0: 0.850331, 6000.0: 0.772206}
WAVE = np.geomspace(912.0, 1e7, 200_001)


def test_the_disc_is_that_of_other_codes():
    """Where the hot dust adds less than a thousandth."""
    wave, f_nu = np.array(list(DISC)), np.array(list(DISC.values()))
    found = agn_spectrum(wave) * wave**2
    np.testing.assert_allclose(found / found[1], f_nu / f_nu[1], rtol=1e-3)


def test_the_luminosity_of_the_disc_from_a_tenth_to_one_micron_is_one():
    wave = np.linspace(1000.0, 10000.0, 200_001)
    light = agn_spectrum(wave)
    disc = np.where(wave < 5100.0, light, np.interp(5100.0, wave, light) * (wave / 5100.0) ** -2.593)
    assert np.trapezoid(disc, wave) == pytest.approx(1.0, rel=1e-4)
    assert np.trapezoid(light - disc, wave) == pytest.approx(0.001, abs=5e-4)


def test_the_hot_dust_is_a_black_body_at_four_times_the_disc_at_2_micron():
    f_nu = agn_spectrum(WAVE) * WAVE**2
    disc = np.interp(5500.0, WAVE, f_nu) * (WAVE / 5500.0) ** -0.593
    dust = f_nu - disc
    assert np.interp(2e4, WAVE, dust) / np.interp(5500.0, WAVE, f_nu) == pytest.approx(3.961, rel=1e-3)
    # Wien's law for f_nu: h nu = 2.8214 k T
    assert WAVE[np.argmax(np.where(WAVE > 1e4, dust, 0.0))] == pytest.approx(1.438777e8 / (2.82144 * 1243.6), rel=1e-3)


@pytest.mark.parametrize("ebv", [0.05, 0.5])
def test_reddening_is_that_of_the_small_magellanic_cloud(ebv):
    wave = np.array([1500.0, 4400.0, 5500.0, 20000.0])
    magnitudes = -2.5 * np.log10(agn_spectrum(wave, ebv) / agn_spectrum(wave))
    np.testing.assert_allclose(magnitudes, 2.93 * ebv * smc_curve(wave))
    assert magnitudes[1] - magnitudes[2] == pytest.approx(ebv, rel=0.05)


def test_no_light_is_left_below_the_lyman_limit_and_none_is_negative():
    assert not agn_spectrum(np.linspace(100.0, 911.0, 50)).any()
    light = agn_spectrum(WAVE, 0.1)
    assert np.all(np.isfinite(light)) and np.all(light > 0.0)
    assert np.max(np.abs(np.diff(np.log(light)) / np.diff(np.log(WAVE)))) < 6.0

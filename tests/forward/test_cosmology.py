"""The cosmology table against astropy itself."""

import astropy.cosmology
import numpy as np
import pytest

from popcat.errors import PopcatError
from popcat.forward.cosmology import cosmology_table

Z = np.geomspace(1e-5, 20.0, 400)


@pytest.mark.parametrize("name", ["Planck13", "Planck18", "WMAP9"])
def test_distances_and_ages_are_those_of_astropy(name):
    table, truth = cosmology_table(name), getattr(astropy.cosmology, name)
    np.testing.assert_allclose(table.luminosity_distance(Z), truth.luminosity_distance(Z).value, rtol=1e-6)
    np.testing.assert_allclose(table.age(Z), truth.age(Z).value, rtol=1e-6)
    np.testing.assert_allclose(table.distance_modulus(Z), truth.distmod(Z).value, atol=1e-5)


def test_the_hubble_law_holds_nearby():
    truth = astropy.cosmology.Planck13
    assert cosmology_table().dist_ratio_mpc[0] == pytest.approx(truth.hubble_distance.value, rel=1e-6)
    assert cosmology_table().luminosity_distance(0.0) == 0
    assert cosmology_table().age(0.0) == pytest.approx(truth.age(0).value)


def test_scalars_and_arrays_give_the_same():
    table = cosmology_table()
    np.testing.assert_array_equal(table.age(Z[:3]), [table.age(z) for z in Z[:3]])


def test_an_unknown_cosmology_is_refused_with_a_hint():
    with pytest.raises(PopcatError, match='did you mean "Planck13"'):
        cosmology_table("Planck_13")


@pytest.mark.parametrize("redshift", [-0.01, 81.0, [0.1, 100.0]])
def test_redshifts_beyond_the_table_are_refused(redshift):
    with pytest.raises(PopcatError, match="expected redshifts from 0 to 80, got"):
        cosmology_table().luminosity_distance(redshift)


def test_what_a_survey_depends_on_is_the_table_to_z_2_unless_it_goes_beyond():
    """Hashes of trained posteriors hold these."""
    table = cosmology_table()
    ages, distances = table.arrays_to(2.0)
    assert len(ages) == len(distances) == 4097
    np.testing.assert_allclose(ages[-1], astropy.cosmology.Planck13.age(2.0).value, rtol=1e-12)
    assert len(table.arrays_to(2.01)[0]) == len(table.age_gyr)


def test_a_missing_redshift_has_no_distance():
    assert np.isnan(cosmology_table().luminosity_distance(np.array([0.1, np.nan]))[1])

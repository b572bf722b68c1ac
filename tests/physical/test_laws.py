"""Published laws: values that their sources give, and that they agree with each other where they should."""

import numpy as np
import pytest

from popcat.forward.cosmology import cosmology_table
from popcat.physical import laws

MASS = np.linspace(7.0, 12.0, 101)


@pytest.mark.parametrize("redshift", [0.02, 0.05, 0.1, 0.2, 1.6, 3.0, 3.5, 4.0, 4.5, 7.0, 12.0, 15.0])
def test_the_mass_function_falls_with_mass_and_is_continuous_in_redshift(redshift):
    here = laws.log_mass_function(MASS, redshift)
    assert np.all(np.diff(here) < 0.35)  # a double Schechter function may rise a little before its knee
    assert here[0] - here[-1] > 5.0
    usual = MASS < 10.0  # more massive ones, which there are none of at high redshift, come quickly
    np.testing.assert_allclose(laws.log_mass_function(MASS[usual], redshift + 1e-6), here[usual], atol=1e-4)


def test_the_mass_functions_of_two_surveys_agree_where_they_meet():
    near, far = laws.log_mass_function(MASS, 0.05), laws.log_mass_function(MASS, 0.2)
    shape = (near - far)[(MASS > 8.0) & (MASS < 11.3)]
    assert np.ptp(shape) < 1.0
    here = laws.log_mass_function(np.array([10.79]), 0.2)  # both of its Schechter functions at their knee
    np.testing.assert_allclose(here, np.log((10**-2.44 + 10**-2.89) / np.e), rtol=1e-10)


@pytest.mark.parametrize("redshift", [0.1, 0.5, 1.0, 2.0, 3.0])
def test_the_sequence_is_that_of_speagle_et_al_at_10_to_the_10_5(redshift):
    t = float(cosmology_table().age(redshift))
    speagle = (0.84 - 0.026 * t) * 10.5 - (6.51 - 0.11 * t)
    assert laws.star_forming_sequence(10.5, t) + 10.5 == pytest.approx(speagle, abs=0.1)


def test_dwarfs_on_the_sequence_have_one_specific_rate():
    rate = laws.star_forming_sequence(np.array([7.0, 8.0, 9.0]), 5.0)
    assert np.ptp(rate) < 0.05


def test_massive_galaxies_are_older_and_later_ones_too():
    cosmology = cosmology_table()
    of_mass = laws.age_fraction(np.array([8.5, 9.5, 10.5, 11.5]), float(cosmology.age(1.0)), cosmology)
    assert np.all(np.diff(of_mass) > 0.0)
    assert np.all((of_mass > 0.2) & (of_mass < 0.7))
    now = laws.age_fraction(np.array([9.0]), float(cosmology.age(0.0)), cosmology)
    assert now > laws.age_fraction(np.array([9.0]), float(cosmology.age(2.0)), cosmology)


def test_slopes_get_flatter_with_more_dust():
    for dust_law in ("kriek_conroy", "salim", "charlot_fall"):
        mean, sigma = laws.slope(np.array([0.1, 1.0, 2.0]), dust_law)
        assert np.all(np.diff(mean) > 0.0)
        assert 0.2 < sigma < 0.5

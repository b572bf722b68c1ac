"""Limits of the best chi2: looked up by bands, draws and knowledge of the redshift; the law where there are none."""

import numpy as np
import pydantic
import pytest

from popcat.catalog.chi2_limits import Chi2Limits, limits_of
from popcat.galaxies import chi2_limit

LIMITS = Chi2Limits(mocks=4000, tail=1e-3, draws=[16, 64, 256], known=[[9.0, 7.0, 6.0], [13.0, 11.0, 10.0]],
                    unknown=[[8.0, 6.0, 5.0], [12.0, 10.0, 9.0]])  # fmt: skip


def test_a_limit_is_that_of_as_many_bands_and_draws():
    n_bands, known = np.array([3, 4, 4, 3, 4]), np.array([1, 1, 0, 0, 1], dtype=bool)
    draws = np.array([16, 64, 256, 128, 128])
    np.testing.assert_allclose(LIMITS.of(n_bands, known, draws), [9.0, 11.0, 9.0, 5.5, 10.5])
    np.testing.assert_allclose(limits_of(LIMITS, n_bands, known, 64), [7.0, 11.0, 10.0, 6.0, 11.0])


def test_more_draws_than_were_measured_have_the_limit_of_the_most_and_fewer_that_of_the_fewest():
    assert LIMITS.of(np.array([4, 4]), np.array([True, True]), np.array([1, 10**5])).tolist() == [13.0, 10.0]


def test_the_law_serves_where_nothing_was_measured():
    n_bands, known = np.array([1, 2, 5]), np.array([True, False, True])
    np.testing.assert_array_equal(limits_of(None, n_bands, known, 100), chi2_limit(n_bands))
    np.testing.assert_array_equal(LIMITS.of(n_bands, known, np.full(3, 64)), chi2_limit(n_bands))


def test_in_short_they_are_those_of_every_band_and_the_most_draws():
    said = "every band and 256 draws: 10.0 with the redshift known, 9.0 without (4,000 mocks each)"
    assert LIMITS.in_short == f"flag high_chi2, {said}"


def test_limits_are_what_was_written():
    assert Chi2Limits.model_validate_json(LIMITS.model_dump_json()) == LIMITS


@pytest.mark.parametrize("wrong", [{"draws": [64, 16, 256]}, {"draws": [16, 64]}, {"known": [[9.0, 7.0, 6.0]]},
                                   {"known": [[9.0, 7.0, np.nan], [1.0, 1.0, 1.0]]}, {"tail": 0.0}])  # fmt: skip
def test_what_is_no_table_of_limits_is_refused(wrong):
    with pytest.raises(pydantic.ValidationError):
        Chi2Limits(**(LIMITS.model_dump() | wrong))

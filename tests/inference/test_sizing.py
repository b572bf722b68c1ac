"""A part is a good size whatever the draws, and never depends on the cluster."""

import pytest

from popcat.columns import posterior_schema
from popcat.inference.partition import MIN_PARTS, PART_BYTES, bytes_per_row, rows_per_part
from popcat.survey import load_survey

SCHEMA = posterior_schema(load_survey("sdss"))


@pytest.mark.parametrize("draws", [1, 100, 1000, 100_000])
def test_a_part_of_a_large_catalogue_fills_the_size_it_may_have(draws):
    rows = rows_per_part(SCHEMA, draws, 10**9)
    assert rows * bytes_per_row(SCHEMA, draws) <= PART_BYTES or rows == 1
    assert (rows + 1) * bytes_per_row(SCHEMA, draws) > PART_BYTES


def test_a_small_catalogue_has_work_for_every_core():
    assert -(-10_000 // rows_per_part(SCHEMA, 100, 10_000)) >= MIN_PARTS


def test_a_tiny_catalogue_is_not_cut_into_crumbs():
    assert rows_per_part(SCHEMA, 100, 150) >= 150


def test_more_draws_never_mean_more_rows():
    rows = [rows_per_part(SCHEMA, draws, 10**6) for draws in (1, 10, 100, 1000, 10_000)]
    assert rows == sorted(rows, reverse=True)
    assert len(set(rows)) > 2

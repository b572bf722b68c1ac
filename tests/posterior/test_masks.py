"""Training hides every subset of bands, and never all of them."""

import numpy as np
import pytest

from popcat.posterior.features import instruments, random_masks
from popcat.survey import load_survey


def test_bands_of_one_filter_set_are_one_instrument():
    survey = load_survey("galex_sdss_2mass")
    assert dict(zip(survey.band_names, instruments(survey).tolist(), strict=True)) == {
        "FUV": 0, "NUV": 0, "u": 1, "g": 1, "r": 1, "i": 1, "z": 1, "J": 2, "H": 2, "Ks": 2}  # fmt: skip


@pytest.fixture
def masks():
    return random_masks(np.random.default_rng(0), 200_000, np.array([0, 0, 1, 1, 1]), 0.3)


def test_every_galaxy_keeps_a_band_and_every_subset_occurs(masks):
    assert masks.any(axis=1).all()
    assert len(np.unique(masks, axis=0)) == 2**5 - 1


def test_the_fraction_with_every_band_is_at_least_the_one_asked_for(masks):
    assert 0.3 < masks.all(axis=1).mean() < 0.45


def test_an_instrument_is_often_missing_as_a_whole(masks):
    alone = masks[:, 2:].all(axis=1) & ~masks[:, :2].any(axis=1)
    assert alone.mean() > 0.03


def test_all_bands_are_kept_where_asked():
    assert random_masks(np.random.default_rng(0), 1000, np.zeros(5, int), 1.0).all()

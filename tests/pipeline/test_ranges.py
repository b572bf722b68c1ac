"""The selection and the redshift range that a catalogue asks for."""

import numpy as np
import pandas as pd
import pytest

from popcat.pipeline.ranges import choose_ranges
from popcat.survey import load_survey

FREE = frozenset({"redshift_range", "selection"})
N = 400


def survey_with(redshift_range=(0.001, 0.6), bright=8.0, faint=20.0, band="r"):
    survey = load_survey("sdss")
    cut = survey.selection.model_copy(update={"bright_mag": bright, "faint_mag": faint, "band": band})
    return survey.model_copy(update={"selection": cut, "redshift_range": redshift_range})


def frame_of(mag=(15.1, 17.6), redshift=(0.05, 0.25), sn=30.0):
    """Galaxies of one colour, evenly spread over magnitudes and redshifts."""
    flux = 10.0 ** (0.4 * (22.5 - np.linspace(*mag, N)))
    columns = {"object_id": np.arange(N), "redshift": np.linspace(*redshift, N), "redshift_err": np.full(N, np.nan)}
    for band in "ugriz":
        columns |= {f"flux_{band}": flux.copy(), f"flux_err_{band}": flux / sn}
    return pd.DataFrame(columns)


def cut_of(found):
    cut = found.survey.selection
    return cut.band, cut.bright_mag, cut.faint_mag


def test_ranges_that_nobody_decided_on_hold_all_galaxies_and_little_more():
    found = choose_ranges(frame_of(), survey_with(), free=FREE)
    assert cut_of(found) == ("r", 15.0, 17.75)
    low, high = found.survey.redshift_range
    assert 0.02 <= low < 0.05 and 0.25 < high <= 0.3
    assert len(found.remarks) == 2


def test_ranges_of_a_survey_file_stay_where_they_fit():
    found = choose_ranges(frame_of(mag=(12.0, 19.5), redshift=(0.01, 0.5)), survey_with())
    assert found.survey == survey_with() and found.remarks == ()


@pytest.mark.parametrize(("frame", "expected"), [
    (frame_of(mag=(14.0, 22.1), redshift=(0.01, 0.5)), ("r", 8.0, 22.25)),
    (frame_of(mag=(16.1, 16.9), redshift=(0.01, 0.5)), ("r", 16.0, 17.0)),
])  # fmt: skip
def test_a_selection_is_widened_for_galaxies_outside_and_narrowed_far_inside(frame, expected):
    found = choose_ranges(frame, survey_with())
    assert cut_of(found) == expected
    assert len(found.remarks) == 1 and "selection: r" in found.remarks[0]


def test_a_redshift_range_is_widened_for_galaxies_outside_and_narrowed_far_inside():
    wide = choose_ranges(frame_of(mag=(12.0, 19.5), redshift=(0.1, 0.9)), survey_with())
    assert wide.survey.redshift_range[0] == 0.001 and 0.9 < wide.survey.redshift_range[1] <= 1.0
    narrow = choose_ranges(frame_of(mag=(12.0, 19.5), redshift=(0.1, 0.2)), survey_with())
    assert 0.05 < narrow.survey.redshift_range[0] < 0.1 and 0.2 < narrow.survey.redshift_range[1] <= 0.25


def test_a_range_is_not_narrowed_where_redshifts_are_to_be_inferred():
    frame = frame_of(mag=(12.0, 19.5), redshift=(0.1, 0.2))
    assert choose_ranges(frame, survey_with(), hide_redshift=True).survey.redshift_range == (0.001, 0.6)
    frame.loc[:9, "redshift"] = np.nan
    assert choose_ranges(frame, survey_with()).survey.redshift_range == (0.001, 0.6)


def test_redshifts_with_errors_have_room_for_them():
    frame = frame_of().assign(redshift_err=0.05)
    low, high = choose_ranges(frame, survey_with(), free=FREE).survey.redshift_range
    assert low == 0.001 and high >= 0.4


def test_another_band_is_taken_where_the_first_hardly_detects_any_galaxy():
    frame = frame_of()
    frame["flux_err_r"] = frame["flux_r"] * 2.0
    frame["flux_err_i"] = frame["flux_i"] / 50.0
    found = choose_ranges(frame, survey_with(), free=FREE)
    assert cut_of(found) == ("i", 15.0, 17.75)


def test_a_flux_near_zero_is_no_fainter_than_its_error():
    frame = frame_of()
    frame.loc[:1, "flux_r"] = 1e-6, -1.0
    frame["flux_err_r"] = 10.0 ** (0.4 * (22.5 - 18.9))
    assert choose_ranges(frame, survey_with(), free=FREE).survey.selection.faint_mag == 19.0

"""Star-formation and metallicity histories: exact integrals, and the published files as their code reads them."""

import numpy as np
import pytest

from popcat.errors import PopcatError
from popcat.sps import histories
from popcat.sps.ages import time_bins
from popcat.sps.histories import Bases, first_line, load_bases, straight_bins

SFH_FILE, ZH_FILE, TIME_FILE = histories._PUBLISHED


@pytest.fixture
def folder(tmp_path):
    """A folder of random tables under the published names: time descends, as published."""

    def write(n_sfh=4, n_zh=2, n_time=12):
        rng = np.random.default_rng(5)
        tables = {SFH_FILE: rng.random((n_sfh, n_time)), ZH_FILE: rng.random((n_zh, n_time)),
                  TIME_FILE: np.linspace(13.6, 0.07, n_time)}  # fmt: skip
        for name, table in tables.items():
            np.savetxt(tmp_path / name, table)
        return tmp_path, tables

    return write


@pytest.mark.parametrize("time", [0.0, 0.05, 0.2816, 1.0, 7.7, 13.8])
def test_the_cumulative_history_is_the_integral_of_the_history(time):
    bases = load_bases("popcat")
    t = np.union1d(np.linspace(0.0, time, 2001), bases.lookback_gyr[bases.lookback_gyr < time])
    expected = [np.trapezoid(np.interp(t, bases.lookback_gyr, row), t) for row in bases.sfh]
    np.testing.assert_allclose(bases.cumulative_sfh(time), expected, rtol=1e-10, atol=1e-14)


def test_the_cumulative_history_keeps_the_shape_of_its_times():
    bases = load_bases("popcat")
    assert bases.cumulative_sfh(np.zeros((3, 2))).shape == (4, 3, 2)
    assert np.all(np.diff(bases.cumulative_sfh(np.linspace(0, 14.5, 300))) >= 0)


def test_every_basis_forms_stars_within_any_age_of_the_universe(model):
    """So that a history cut at t_age(z) can be scaled to unit mass."""
    assert np.all(model.bases.cumulative_sfh(model.cosmology.age(2.0)) > 0)


def test_the_metallicity_is_the_weighted_sum_of_its_bases():
    bases = load_bases("popcat")
    t = np.array([0.1, 5.0, 13.0])
    first, second = (np.interp(t, bases.lookback_gyr, row) for row in bases.zh)
    np.testing.assert_allclose(bases.metallicity((0.01, 0.002), t), 0.01 * first + 0.002 * second)


def test_published_files_are_reversed_in_time_and_their_rows_reordered(folder):
    path, tables = folder()
    bases = load_bases(str(path))
    time = tables[TIME_FILE][::-1]
    for row, published in zip(bases.sfh, (2, 0, 1, 3), strict=True):
        np.testing.assert_allclose(np.interp(time, bases.lookback_gyr, row), tables[SFH_FILE][published, ::-1])
    for row, published in zip(bases.zh, tables[ZH_FILE], strict=True):
        np.testing.assert_allclose(np.interp(time, bases.lookback_gyr, row), published[::-1])


def test_published_tables_are_extrapolated_linearly_but_never_below_zero(folder):
    path, tables = folder()
    bases = load_bases(str(path))
    time, zh = tables[TIME_FILE][::-1], tables[ZH_FILE][:, ::-1]
    slope = (zh[:, 1] - zh[:, 0]) / (time[1] - time[0])
    assert bases.lookback_gyr[0] == 0
    assert bases.lookback_gyr[-1] == 14.5
    np.testing.assert_allclose(bases.zh[:, 0], zh[:, 0] - slope * time[0])
    assert bases.sfh.min() >= 0


def test_a_folder_without_the_files_is_refused_by_their_names(tmp_path):
    with pytest.raises(PopcatError, match=rf"lacks {SFH_FILE}, {ZH_FILE}, {TIME_FILE}"):
        load_bases(str(tmp_path / "none"))


@pytest.mark.parametrize(("n_sfh", "n_zh"), [(3, 2), (5, 2), (4, 1), (4, 3)])
def test_other_numbers_of_bases_are_refused(folder, n_sfh, n_zh):
    path, _ = folder(n_sfh, n_zh)
    with pytest.raises(PopcatError, match="expected 4 star-formation and 2 metallicity rows"):
        load_bases(str(path))


def test_rows_of_another_length_than_the_times_are_refused(folder):
    path, tables = folder()
    np.savetxt(path / TIME_FILE, tables[TIME_FILE][:-1])
    with pytest.raises(PopcatError, match="as long as the times"):
        load_bases(str(path))


def test_times_that_ascend_are_refused(folder):
    path, tables = folder()
    np.savetxt(path / TIME_FILE, tables[TIME_FILE][::-1])
    with pytest.raises(PopcatError, match="times descending"):
        load_bases(str(path))


def test_a_file_of_words_is_refused(folder):
    path, _ = folder()
    (path / SFH_FILE).write_text("no numbers here\n")
    with pytest.raises(PopcatError, match="not the published tables"):
        load_bases(str(path))


def test_provabgs_bases_need_the_package_or_a_folder(monkeypatch):
    monkeypatch.setattr(histories.importlib.util, "find_spec", lambda name: None)
    load_bases.cache_clear()
    with pytest.raises(PopcatError, match="needs the provabgs package"):
        load_bases("provabgs")


def test_bins_are_straight_up_to_the_first_bend_of_a_basis():
    edges = np.array([0.0, 0.1, 0.2, 0.3, 0.4])
    straight = Bases("bent", np.array([0.0, 0.25, 14.5]), np.array([[1.0, 2.0, 0.0]]), np.ones((2, 3)))
    assert straight_bins(straight, edges) == 2
    np.testing.assert_allclose(first_line(straight), [[1.0], [4.0]])


def test_no_bin_older_than_1_gyr_is_straight():
    bases = Bases("flat", np.array([0.0, 14.5]), np.ones((4, 2)), np.ones((2, 2)))
    assert straight_bins(bases, np.array([0.0, 0.5, 1.0, 1.5, 3.0])) == 2


def test_the_embedded_bases_are_straight_in_the_first_280_myr():
    edges = time_bins("average", 0.1).edges_gyr
    assert 0.2 < edges[straight_bins(load_bases(), edges)] < 0.3

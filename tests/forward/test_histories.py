"""Star-formation and metallicity histories: exact integrals, and the published files as their code reads them."""

import numpy as np
import pytest

from popcat.errors import PopcatError
from popcat.forward import histories
from popcat.forward.histories import Bases, first_line, load_bases, model_bases, straight_bins, time_bins
from popcat.forward.ingredients import load_ingredients
from popcat.galaxy_model import GalaxyModel

SFH_FILE = "NMF_2basis_SFH_components_nowgt_lin_Nc4.txt"
ZH_FILE = "NMF_2basis_Z_components_nowgt_lin_Nc2.txt"
TIME_FILE = "sfh_t_int.txt"


@pytest.fixture(autouse=True)
def nothing_remembered():
    """Folders of different tests may have the same name."""
    load_bases.cache_clear()


@pytest.fixture
def folder(tmp_path):
    """A folder of random tables under the published names: time descends, as published."""

    def write(n_sfh=4, n_zh=2, n_time=12):
        rng = np.random.default_rng(5)
        names = SFH_FILE.replace("Nc4", f"Nc{n_sfh}"), ZH_FILE.replace("Nc2", f"Nc{n_zh}")
        tables = {names[0]: rng.random((n_sfh, n_time)), names[1]: rng.random((n_zh, n_time)),
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
    with pytest.raises(PopcatError, match=f"lacks {SFH_FILE}"):
        load_bases(str(tmp_path / "none"))


@pytest.mark.parametrize("missing", [SFH_FILE, ZH_FILE, TIME_FILE])
def test_a_folder_without_one_of_the_files_is_refused_by_its_name(folder, missing):
    path, _ = folder()
    (path / missing).unlink()
    with pytest.raises(PopcatError, match=f"lacks {missing}"):
        load_bases(str(path))


@pytest.mark.parametrize(("n_sfh", "n_zh"), [(1, 1), (3, 2), (5, 3)])
def test_other_numbers_of_bases_keep_the_order_of_their_files(folder, n_sfh, n_zh):
    path, tables = folder(n_sfh, n_zh)
    bases = load_bases(str(path))
    sfh, zh, time = (table[..., ::-1] for table in tables.values())
    for mine, published in zip([*bases.sfh, *bases.zh], [*sfh, *zh], strict=True):
        np.testing.assert_allclose(np.interp(time, bases.lookback_gyr, mine), published)


def test_the_published_number_is_preferred_to_others(folder):
    folder(3, 2)
    path, _ = folder(4, 2)
    assert len(load_bases(str(path)).sfh) == 4


def test_two_numbers_of_which_none_is_published_are_refused_by_name(folder):
    folder(3, 2)
    path, _ = folder(5, 2)
    with pytest.raises(PopcatError, match=r"has NMF_2basis_SFH_\w+_Nc3.txt, NMF_2basis_SFH_\w+_Nc5.txt"):
        load_bases(str(path))


def test_rows_of_another_number_than_the_name_says_are_refused(folder):
    path, tables = folder()
    np.savetxt(path / SFH_FILE, tables[SFH_FILE][:3])
    with pytest.raises(PopcatError, match="expected 4 rows as long as the 12 times"):
        load_bases(str(path))


def test_rows_of_another_length_than_the_times_are_refused(folder):
    path, tables = folder()
    np.savetxt(path / TIME_FILE, tables[TIME_FILE][:-1])
    with pytest.raises(PopcatError, match="rows as long as the 11 times"):
        load_bases(str(path))


def test_times_that_ascend_are_refused(folder):
    path, tables = folder()
    np.savetxt(path / TIME_FILE, tables[TIME_FILE][::-1])
    with pytest.raises(PopcatError, match="in files named as the published ones, descend"):
        load_bases(str(path))


def test_a_file_of_words_is_refused(folder):
    path, _ = folder()
    (path / SFH_FILE).write_text("no numbers here\n")
    with pytest.raises(PopcatError, match="not the published tables"):
        load_bases(str(path))


def test_provabgs_bases_need_the_package_or_a_folder(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PopcatError, match="needs the provabgs package"):
        load_bases("provabgs")


def csv_file(path, header, rows):
    path.write_text("# made by a test\n" + "\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(path)


ROWS = [(0.0, 1.0, 3.0), (1.0, 2.0, 2.0), (13.8, 0.5, 1.0)]


def test_a_csv_file_holds_any_number_of_bases(tmp_path):
    rows = [(t, a, 2 * a, 3 * a, b) for t, a, b in ROWS]
    bases = load_bases(csv_file(tmp_path / "mine.csv", "lookback_gyr,sfh1,sfh2,sfh3,zh1", rows))
    assert (len(bases.sfh), len(bases.zh)) == (3, 1)
    np.testing.assert_allclose(bases.sfh[2], 3.0 * bases.sfh[0])
    np.testing.assert_allclose(np.interp([0.0, 1.0, 13.8], bases.lookback_gyr, bases.zh[0]), [3.0, 2.0, 1.0])


def test_the_embedded_bases_are_such_a_file():
    embedded = histories.files("popcat") / "data" / "bases.csv"
    np.testing.assert_array_equal(load_bases(str(embedded)).sfh, load_bases("popcat").sfh)


@pytest.mark.parametrize("header", ["t,sfh1,zh1", "lookback_gyr,zh1,sfh1", "lookback_gyr,sfh1,sfh2",
                                    "lookback_gyr,sfh2,zh1", "lookback_gyr,sfh1,zh1,zh2"])  # fmt: skip
def test_other_columns_are_refused(tmp_path, header):
    with pytest.raises(PopcatError, match=rf"expected the columns lookback_gyr, sfh1 .* got {header.split(',')[0]}"):
        load_bases(csv_file(tmp_path / "mine.csv", header, ROWS))


@pytest.mark.parametrize(("rows", "message"), [
    ([(0.0, "x", 1.0)], "expected a CSV file of numbers"),
    ([(0.0, 1.0), (1.0, 1.0, 1.0)], "expected a CSV file of numbers"),
    ([], "expected the columns"),
    (ROWS[::-1], "expected lookback times that ascend"),
    ([*ROWS, (15.0, 1.0, 1.0)], "between 0 and 14.5 Gyr"),
    ([*ROWS, (14.0, -1.0, 1.0)], "nowhere negative"),
    ([(t, 0.0, z) for t, _, z in ROWS], "somewhere positive"),
    ([*ROWS, (14.0, 1.0, "nan")], "finite metallicities"),
])  # fmt: skip
def test_a_table_that_is_no_bases_is_refused(tmp_path, rows, message):
    with pytest.raises(PopcatError, match=message):
        load_bases(csv_file(tmp_path / "mine.csv", "lookback_gyr,sfh1,zh1", rows))


def test_a_basis_without_stars_in_a_young_universe_is_refused_by_redshift(tmp_path):
    rows = [(0.0, 0.0, 1.0), (5.0, 0.0, 1.0), (13.8, 1.0, 1.0)]
    path = csv_file(tmp_path / "old.csv", "lookback_gyr,sfh1,zh1", rows)
    found = load_ingredients(GalaxyModel(bases=path, n_sfh_bases=1, n_metallicity_bases=1))
    found.require_stars(1.0)
    message = r"expected some star formation within the last 3\.\d Gyr, the age of the universe at redshift 2:"
    with pytest.raises(PopcatError, match=message):
        found.require_stars(2.0)


def test_constant_metallicity_is_one_basis_that_is_one():
    bases, constant = load_bases("popcat"), model_bases(GalaxyModel(metallicity="constant"))
    np.testing.assert_array_equal(constant.zh, np.ones((1, len(bases.lookback_gyr))))
    np.testing.assert_array_equal(constant.sfh, bases.sfh)


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

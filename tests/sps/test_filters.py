"""Filter curves: gaps are gaps, cuts are cuts, and the AB norm is the integral it says."""

import numpy as np
import pytest

from popcat.errors import PopcatError
from popcat.settings import Band
from popcat.sps.filters import load_curve, make_curve

HAT = np.linspace(5000.0, 6000.0, 101)


def band(name, wave_range=None):
    return Band(name="x", filter=str(name), wave_range_aa=wave_range, flux="f", flux_err="e")


def test_the_ab_norm_of_a_top_hat_is_the_logarithm_of_its_edges():
    assert make_curve("hat", HAT, np.ones(101)).ab_norm() == pytest.approx(np.log(6000 / 5000), rel=1e-6)


def test_the_ab_norm_of_a_slope_is_exact():
    assert make_curve("slope", HAT, HAT).ab_norm() == pytest.approx(1000.0, rel=1e-9)


def test_the_effective_wavelength_of_a_top_hat_is_its_centre():
    assert make_curve("hat", HAT, np.ones(101)).effective_wavelength_aa == pytest.approx(5500.0)


def test_response_is_linear_between_rows_and_zero_outside():
    curve = make_curve("triangle", [5000.0, 5500.0, 6000.0], [0.0, 1.0, 0.0])
    np.testing.assert_allclose(curve(np.array([4000.0, 5250.0, 5500.0, 5900.0, 7000.0])), [0, 0.5, 1, 0.2, 0])


def test_a_gap_in_the_table_has_no_response():
    wave = np.concatenate([HAT, HAT + 3000.0])
    curve = make_curve("leaky", wave, np.full(202, 0.3))
    np.testing.assert_array_equal(curve(np.array([6001.0, 7000.0, 7999.0])), 0.0)
    np.testing.assert_allclose(curve(np.array([5500.0, 6000.0, 8000.0, 8500.0])), 0.3)
    np.testing.assert_allclose(curve.segments(), [(5000, 6000), (8000, 9000)], atol=2e-3)


def test_the_red_leak_of_sdss_u_is_there_unless_it_is_cut():
    leaky, cut = load_curve(band("sdss2010-u")), load_curve(band("sdss2010-u", (2900.0, 4200.0)))
    assert leaky(np.array([7700.0]))[0] > 0
    assert leaky(np.array([5500.0]))[0] == 0
    assert len(leaky.segments()) == 2
    assert len(cut.segments()) == 1
    assert cut.wave_aa[-1] < 4201


def test_a_cut_keeps_the_curve_inside_and_nothing_outside():
    curve = make_curve("hat", HAT, np.ones(101), (5200.0, 5303.0))
    np.testing.assert_array_equal(curve(np.array([5201.0, 5250.0, 5302.0])), 1.0)
    np.testing.assert_array_equal(curve(np.array([5199.0, 5304.0])), 0.0)
    assert curve.ab_norm() == pytest.approx(np.log(5303 / 5200), rel=1e-4)


def test_a_cut_wider_than_the_curve_cuts_nothing():
    whole, cut = make_curve("hat", HAT, np.ones(101)), make_curve("hat", HAT, np.ones(101), (3000.0, 9000.0))
    assert cut.ab_norm() == pytest.approx(whole.ab_norm(), rel=1e-5)
    assert cut(np.array([4900.0, 6100.0])).sum() == 0


@pytest.mark.parametrize("wave_range", [(6000.0, 5000.0), (7000.0, 8000.0)])
def test_a_cut_that_leaves_nothing_is_refused(wave_range):
    with pytest.raises(PopcatError, match="hat"):
        make_curve("hat", HAT, np.ones(101), wave_range)


@pytest.mark.parametrize(
    ("wave", "response"),
    [
        (HAT, np.ones(100)),
        ([1.0, 2.0], [1.0, 1.0]),
        (HAT[::-1], np.ones(101)),
        (HAT, np.full(101, np.nan)),
        (HAT, np.zeros(101)),
        (np.ones((3, 2)), np.ones((3, 2))),
    ],
    ids=["lengths", "two rows", "descending", "nan", "opaque", "two-dimensional"],
)
def test_arrays_that_are_no_filter_are_refused(wave, response):
    with pytest.raises(PopcatError, match='filter "bad"'):
        make_curve("bad", wave, response)


def test_a_scaled_curve_is_the_same_filter(curves):
    for curve in curves:
        scaled = make_curve(curve.name, curve.wave_aa, 7.0 * curve.response)
        assert scaled.ab_norm() == pytest.approx(7.0 * curve.ab_norm())
        assert scaled.effective_wavelength_aa == pytest.approx(curve.effective_wavelength_aa)


@pytest.mark.parametrize("name", ["sdss2010-r", "decamDR1-g", "twomass-J"])
def test_a_speclite_curve_has_the_effective_wavelength_that_speclite_gives(name):
    """speclite's is the mean weighted by the photons of a flat f_lambda: int T w^2 dw / int T w dw."""
    import speclite.filters

    curve = load_curve(band(name))
    mean = np.trapezoid(curve.response * curve.wave_aa**2, curve.wave_aa)
    mean /= np.trapezoid(curve.response * curve.wave_aa, curve.wave_aa)
    assert mean == pytest.approx(speclite.filters.load_filter(name).effective_wavelength.value, rel=1e-4)


def test_a_two_column_file_is_a_filter(tmp_path):
    path = tmp_path / "hat.txt"
    path.write_text("# wavelength response\n" + "".join(f"{w} 0.5\n" for w in HAT))
    curve = load_curve(band(path))
    np.testing.assert_allclose(curve.wave_aa, HAT)
    np.testing.assert_allclose(curve.response, 0.5)


@pytest.mark.parametrize("text", ["5000\n6000\n7000\n", "a b\nc d\n", "1 2\n3\n"])
def test_a_file_that_is_no_table_is_refused(tmp_path, text):
    path = tmp_path / "bad.txt"
    path.write_text(text)
    with pytest.raises(PopcatError, match="expected two columns"):
        load_curve(band(path))


@pytest.mark.parametrize("name", ["sdss2010-q", "nonsense", "no/such/file.txt", "nosuch-r"])
def test_an_unknown_filter_is_refused_with_a_hint(name):
    with pytest.raises(PopcatError, match=r"unknown filter .*speclite name such as.*two-column text file"):
        load_curve(band(name))

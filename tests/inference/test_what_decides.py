"""Everything that the results of `simulate` and `infer` depend on is in what tells one run from another."""

import sys
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

import popcat.catalog.parts as parts
import popcat.forward.properties as properties
import popcat.posterior.posterior as posteriors
from popcat.catalog.chi2_limits import Chi2Limits
from popcat.checks.calibration import require_calibrated
from popcat.errors import PopcatError
from popcat.forward.filters import load_curve, read_filter, same_filter, with_curves
from popcat.forward.noise import default_noise
from popcat.galaxy_model import GalaxyModel
from popcat.inference.infer import infer
from popcat.posterior.library import open_library, simulate
from popcat.posterior.posterior import load_posterior
from popcat.survey import Survey, load_survey

ROWS = {"rows_per_partition": 20, "client": "synchronous"}


def with_file(tmp_path, scale=1.0):
    """The survey sdss with the curve of r from a file, whose red half is scaled."""
    wave, response = read_filter("sdss2010-r")
    response = np.where(wave > 6200.0, scale, 1.0) * response
    np.savetxt(tmp_path / "r.txt", np.column_stack([wave, response]))
    survey = load_survey("sdss")
    bands = [band.model_copy(update={"filter": str(tmp_path / "r.txt")}) if band.name == "r" else band
             for band in survey.bands]  # fmt: skip
    return survey.model_copy(update={"bands": tuple(bands)})


@pytest.fixture
def given(tmp_path):
    """What `simulate` takes, with files of its own where it may have some."""
    bases = tmp_path / "bases.csv"
    bases.write_bytes((files("popcat") / "data" / "bases.csv").read_bytes())
    survey = with_file(tmp_path)
    return {"survey": survey, "n": 40, "galaxy_model": GalaxyModel(bases=str(bases)), "seed": 3,
            "noise": default_noise(load_survey("sdss")), **ROWS}  # fmt: skip


def other_bases(given, monkeypatch, tmp_path):
    path = tmp_path / "bases.csv"
    lines = path.read_text().splitlines()
    head, *numbers = lines[-40].split(",")
    lines[-40] = ",".join([head, *(str(1.01 * float(one)) for one in numbers)])
    path.write_text("\n".join(lines) + "\n")
    properties.load_ingredients.__globals__["model_bases"].__globals__["load_bases"].cache_clear()


def other_grid(given, monkeypatch, tmp_path):
    load = properties.load_ingredients

    def loaded(model):
        found = load(model)
        lum = found.grid.lum.copy()
        lum[0, 0, 0] *= 1.01
        return replace(found, grid=replace(found.grid, lum=lum))

    monkeypatch.setattr(properties, "load_ingredients", loaded)


def other_distances(given, monkeypatch, tmp_path):
    load = properties.load_ingredients

    def loaded(model):
        found = load(model)
        return replace(found, cosmology=replace(found.cosmology, dist_mpc=1.0001 * found.cosmology.dist_mpc))

    monkeypatch.setattr(properties, "load_ingredients", loaded)


def other_noise(given, monkeypatch, tmp_path):
    bands = given["noise"].bands
    louder = bands["r"].model_copy(update={"scatter": tuple(2.0 * one for one in bands["r"].scatter)})
    given["noise"] = given["noise"].model_copy(update={"bands": bands | {"r": louder}})


def other_range(given, monkeypatch, tmp_path):
    given["survey"] = given["survey"].model_copy(update={"redshift_range": (0.01, 0.3)})


def other_version(given, monkeypatch, tmp_path):
    monkeypatch.setattr(parts, "RESULTS", parts.RESULTS + 1)


SIMULATED = {
    "filters": lambda given, monkeypatch, tmp_path: with_file(tmp_path, scale=0.9),
    "bases": other_bases,
    "grid": other_grid,
    "cosmology": other_distances,
    "noise": other_noise,
    "survey": other_range,
    "seed": lambda given, monkeypatch, tmp_path: given.update(seed=4),
    "n": lambda given, monkeypatch, tmp_path: given.update(n=41),
    "rows_per_partition": lambda given, monkeypatch, tmp_path: given.update(rows_per_partition=10),
    "galaxy_model": lambda given, monkeypatch, tmp_path: given.update(
        galaxy_model=given["galaxy_model"].model_copy(update={"log_mstar_formed": (8.0, 12.0)})),
    "results": other_version,
}  # fmt: skip


@pytest.mark.parametrize("what", SIMULATED)
def test_a_library_is_not_finished_where_something_else_would_be_computed(given, monkeypatch, tmp_path, what):
    simulate(**given, output=tmp_path / "out")
    (tmp_path / "out" / "part-000001.parquet").unlink()
    before = (tmp_path / "out" / "part-000000.parquet").read_bytes()
    SIMULATED[what](given, monkeypatch, tmp_path)
    with pytest.raises(PopcatError, match=rf"\b{what}[. ]"):
        simulate(**given, output=tmp_path / "out")
    assert (tmp_path / "out" / "part-000000.parquet").read_bytes() == before
    assert not (tmp_path / "out" / "part-000001.parquet").exists()


def test_what_has_not_changed_is_finished_with_the_same_bytes(given, tmp_path):
    simulate(**given, output=tmp_path / "out")
    before = (tmp_path / "out" / "part-000001.parquet").read_bytes()
    (tmp_path / "out" / "part-000001.parquet").unlink()
    simulate(**given, output=tmp_path / "out")
    assert (tmp_path / "out" / "part-000001.parquet").read_bytes() == before


def test_every_setting_of_a_library_is_changed_above():
    """What is added later needs a line there."""
    made = {"survey", "galaxy_model", "noise", "seed", "n", "rows_per_partition", "schema"}
    hashed = set(properties.forward_hashes(load_survey("sdss"), GalaxyModel()))
    assert made | hashed == {*SIMULATED, "schema"} - {"results"}


@pytest.fixture
def inferred(galaxies, tiny_model, tmp_path):
    made = {"source": galaxies, "posterior": tiny_model, "output": tmp_path / "out", "draws": 4, "seed": 1,
            "rows_per_partition": 75, "client": "synchronous"}  # fmt: skip
    infer(**made)
    (tmp_path / "out" / "part-000001.parquet").unlink()
    return made


def other_filters(made, monkeypatch):
    hashes = posteriors.forward_hashes
    monkeypatch.setattr(posteriors, "forward_hashes", lambda *of: hashes(*of) | {"filters": "0" * 64})
    posteriors._loaded.clear()


def other_offsets(made, monkeypatch):
    survey = load_survey("sdss")
    bands = (survey.bands[0].model_copy(update={"ab_offset_mag": 0.3}), *survey.bands[1:])
    made["survey"] = survey.model_copy(update={"bands": bands})


def other_limits(made, monkeypatch):
    row = [[9.0]] * 3
    limits = Chi2Limits(mocks=1000, tail=1e-3, draws=[1], known=row, unknown=row)
    standing = require_calibrated(made["posterior"])
    module = sys.modules[infer.__module__]  # popcat.inference.infer is the function, too
    monkeypatch.setattr(module, "require_calibrated", lambda *of, **options: replace(standing, chi2_limits=limits))


INFERRED = {
    "draws": lambda made, monkeypatch: made.update(draws=5),
    "seed": lambda made, monkeypatch: made.update(seed=2),
    "posterior": lambda made, monkeypatch: made.update(posterior="sdss"),
    "rows_per_partition": lambda made, monkeypatch: made.update(rows_per_partition=50),
    "hide_redshift": lambda made, monkeypatch: made.update(hide_redshift=True),
    "effort": lambda made, monkeypatch: made.update(certify=True),
    "odds": lambda made, monkeypatch: made.update(certify=True, star_odds=2.0),
    "chi2_limits": other_limits,
    "survey": other_offsets,
    "forward": other_filters,
    "results": lambda made, monkeypatch: other_version(made, monkeypatch, None),
}  # fmt: skip


@pytest.mark.parametrize("what", INFERRED)
def test_a_catalogue_is_not_finished_where_something_else_would_be_computed(inferred, monkeypatch, what):
    INFERRED[what](inferred, monkeypatch)
    with pytest.raises(PopcatError, match=rf"\b{what}[. ]"):
        infer(**inferred)
    assert not (inferred["output"] / "part-000001.parquet").exists()
    posteriors._loaded.clear()


@pytest.mark.parametrize(("what", "said"), [("grid", "SSP grid bc03_miles"), ("filters", "filter curves")])
def test_a_posterior_is_not_used_with_another_forward_model_than_it_was_trained_on(tiny_model, what, said):
    trained = load_posterior(tiny_model)
    made = replace(trained, provenance=trained.provenance | {what: "0" * 64})
    with pytest.raises(PopcatError, match=f"since it was trained, {said} changed"):
        _ = made.forward
    assert replace(trained, provenance=trained.provenance | trained.forward_hashes).forward is trained.forward


def test_curves_of_files_go_with_the_library(given, tmp_path):
    library = simulate(**given, output=tmp_path / "out")
    kept = {band.name: band for band in library.survey.bands}
    assert kept["r"].curve is not None and kept["g"].curve is None
    (tmp_path / "r.txt").unlink()
    again = open_library(tmp_path / "out")
    assert again.survey == library.survey
    np.testing.assert_array_equal(load_curve(kept["r"]).response,
                                  load_curve(load_survey("sdss").bands[2]).response)  # fmt: skip
    assert same_filter(kept["r"], load_survey("sdss").bands[2])
    with pytest.raises(PopcatError, match="unknown filter"):
        simulate(**given, output=tmp_path / "other")


def test_a_file_that_changed_is_another_filter_than_the_one_that_was_kept(tmp_path):
    before = with_curves(with_file(tmp_path)).bands[2]
    with_file(tmp_path, scale=0.3)
    now = before.model_copy(update={"curve": None})
    assert not same_filter(before, now)
    assert Survey.model_validate_json(with_file(tmp_path).model_dump_json()) == with_file(tmp_path)

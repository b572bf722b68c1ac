"""What a galaxy model lacks of a survey's light is refused in one line, the same at every door."""

import numpy as np
import pandas as pd
import pytest

from popcat.errors import PopcatError
from popcat.forward.coverage import lacking, red_end_aa, require_light, taken_by_medium
from popcat.forward.filters import load_curve, make_curve
from popcat.forward.igm import transmission
from popcat.forward.properties import forward_for, forward_hashes
from popcat.galaxy_model import GalaxyModel
from popcat.inference.survey_check import check_survey
from popcat.population.fit import fit_population
from popcat.posterior import library
from popcat.posterior.library import simulate
from popcat.posterior.training import train
from popcat.run.client import SYNCHRONOUS
from popcat.survey import embedded_surveys, load_survey

OPEN, DUSTY = GalaxyModel(igm="none"), GalaxyModel(dust_emission="draine_li_2007")


def changed(survey, name, z_range=None, **change):
    """A survey with one of its bands changed, and another range of redshift."""
    bands = tuple(band.model_copy(update=change) if band.name == name else band for band in survey.bands)
    return survey.model_copy(update={"bands": bands, "redshift_range": z_range or survey.redshift_range})


@pytest.fixture
def legacy():
    return load_survey("legacy")


def test_a_bands_red_end_leaves_five_percent_of_its_response_beyond():
    assert red_end_aa(make_curve("hat", np.linspace(3e4, 4e4, 11), np.ones(11))) == pytest.approx(3.95e4)
    triangle = make_curve("triangle", np.linspace(1e4, 2e4, 1001), np.linspace(1.0, 0.0, 1001), trim=0.0)
    assert red_end_aa(triangle) == pytest.approx(2e4 - 1e4 * np.sqrt(0.05), rel=1e-4)
    w1 = load_curve(load_survey("legacy").bands[3])
    assert np.trapezoid(w1(x := np.linspace(red_end_aa(w1), w1.wave_aa[-1], 20_001)), x) == pytest.approx(
        0.05 * np.trapezoid(w1(y := np.linspace(w1.wave_aa[0], w1.wave_aa[-1], 20_001)), y), rel=1e-2)  # fmt: skip


def test_the_medium_takes_the_mean_of_what_it_absorbs():
    curve = make_curve("hat", np.linspace(4000.0, 4500.0, 501), np.ones(501))
    mean = np.mean(transmission(np.linspace(4000.0, 4500.0, 20_001), 3.0))
    assert taken_by_medium(curve, 3.0) == pytest.approx(1.0 - mean, abs=2e-3)
    assert taken_by_medium(curve, 2.0) == 0.0


@pytest.mark.parametrize("name", embedded_surveys())
def test_the_default_galaxy_model_has_all_light_of_the_embedded_surveys_that_do_not_say_what_they_need(name):
    """Some need emission of dust and say so; with it nothing is lacking."""
    survey = load_survey(name)
    needs_dust = "needs a galaxy model with dust_emission" in survey.description
    assert needs_dust == (name in ("cosmos2020", "jwst_nircam"))
    lacks = list(lacking(survey, GalaxyModel()))
    assert all("dust_emission" in line for line in lacks) and bool(lacks) == needs_dust
    assert list(lacking(survey, DUSTY)) == []


@pytest.mark.parametrize(("band", "change", "z_range", "model", "refused"), [
    ("W1", {}, None, GalaxyModel(), None),
    ("W1", {"error_floor": 0.02}, None, GalaxyModel(), "W1"),
    ("W1", {"error_floor": 0.02}, None, DUSTY, None),
    ("W1", {"error_floor": 0.02}, (0.501, 1.0), GalaxyModel(), None),
    ("W1", {"error_floor": 0.02}, (0.49, 1.0), GalaxyModel(), "W1"),
    ("W2", {"filter": "wise2010-W3", "error_floor": 0.5}, None, GalaxyModel(), "W2"),
    ("W2", {"filter": "wise2010-W3", "error_floor": 0.5}, None, DUSTY, None),
])  # fmt: skip
def test_bands_that_see_dust_shine_need_its_emission(legacy, band, change, z_range, model, refused):
    found = list(lacking(changed(legacy, band, z_range, **change), model))
    assert len(found) == (refused is not None)
    if refused:
        assert found[0].startswith(f'band "{refused}" at redshift') and 'dust_emission = "draine_li_2007"' in found[0]
        assert ("error_floor" in found[0]) == (band == "W1")


@pytest.mark.parametrize(("z_max", "refused"), [(0.6, []), (0.615, []), (0.625, ["FUV"]), (1.5, ["FUV", "NUV"])])
def test_bands_below_lyman_alpha_need_the_medium_where_it_takes_a_twentieth(z_max, refused):
    survey = load_survey("galex_sdss_2mass").model_copy(update={"redshift_range": (0.001, z_max)})
    found = list(lacking(survey, OPEN))
    assert [line.split('"')[1] for line in found] == refused
    assert all('set igm = "inoue_2014"' in line and "\n" not in line for line in found)


@pytest.fixture
def blind(make_survey):
    """A survey of one band, and a galaxy model without the medium that takes a quarter of it."""
    survey = changed(make_survey(4000.0, 4500.0, redshift_range=(3.0, 3.02)), "hat", depth_5sigma_mag=25.0)
    faint = survey.selection.model_copy(update={"faint_mag": 25.0})  # at that redshift hardly any galaxy is brighter
    return survey.model_copy(update={"selection": faint}), OPEN


def test_every_door_refuses_alike_and_leaves_nothing(blind, tmp_path, monkeypatch):
    survey, model = blind
    with pytest.raises(PopcatError, match=r'band "hat" at redshift 3[.]02 loses 24% to the intergalactic') as found:
        require_light(survey, model)
    monkeypatch.setattr(library, "require_light", lambda *of: None)
    simulate(survey, 50, output=tmp_path / "before", galaxy_model=model, client=SYNCHRONOUS)
    monkeypatch.undo()
    catalog = tmp_path / "catalog.parquet"
    pd.DataFrame({"object_id": [1], "redshift": [3.01], "f": [1.0], "e": [0.1]}).to_parquet(catalog)
    doors = {
        "lazy": lambda out: simulate(survey, 50, galaxy_model=model),
        "library": lambda out: simulate(survey, 50, output=out, galaxy_model=model, client=SYNCHRONOUS),
        "posterior": lambda out: train(tmp_path / "before", out),
        "population": lambda out: fit_population(str(catalog), survey=survey, galaxy_model=model, output=out),
    }
    for name, enter in doors.items():
        with pytest.raises(PopcatError) as refusal:
            enter(tmp_path / name)
        assert str(refusal.value) == str(found.value), name
        assert not (tmp_path / name).exists(), name


def test_what_is_trained_already_may_be_used(blind):
    survey, model = blind
    forward = forward_for(survey, model)
    theta = np.array([[10.5, 0.25, 0.25, 0.25, 0.25, 0.1, 1.0, -2.0, -2.0, 0.5, 0.3, -0.5]])
    assert forward.flux(theta, np.array([3.01])).shape == (1, 1)


def test_survey_check_remarks_on_it(legacy, tmp_path):
    survey = changed(legacy, "W1", error_floor=0.02)
    columns = {name: [1.0] for band in survey.bands for name in (band.flux, band.flux_ivar)}
    catalog = tmp_path / "catalog.parquet"
    others = {"objid": [1], "ra": [1.0], "dec": [1.0], "redshift": [0.3], "ebv": [0.02]}
    pd.DataFrame(others | columns).to_parquet(catalog)
    (line,) = lacking(survey, GalaxyModel())
    assert line in check_survey(str(catalog), survey).remarks
    assert line not in check_survey(str(catalog), legacy).remarks


def test_a_grid_that_does_not_cover_a_band_is_said_before_a_folder_is_begun(make_survey, tmp_path):
    survey = changed(make_survey(400.0, 500.0), "hat", depth_5sigma_mag=25.0)
    with pytest.raises(PopcatError, match=r'band "hat" at redshift 0[.]06 needs 377 A'):
        forward_hashes(survey, GalaxyModel())
    with pytest.raises(PopcatError, match="needs 377 A"):
        simulate(survey, 50, output=tmp_path / "library", client=SYNCHRONOUS)
    assert not (tmp_path / "library").exists()

"""Calibration written to a folder: complete, repeatable, read back as it was."""

import dataclasses
import json

import numpy as np
import pytest

from popcat import calibrating, stages
from popcat.errors import PopcatError
from popcat.inference.posterior import load_posterior
from popcat.schema import PARAMETERS, property_fields


@pytest.fixture(scope="module")
def folder(tiny_model, tmp_path_factory):
    output = tmp_path_factory.mktemp("calibration")
    calibrating.calibrate(tiny_model, 60, output=output, draws=50)
    return output


def test_every_parameter_and_property_has_ranks_and_a_distance(folder, tiny_model):
    result = calibrating.read_calibration(folder)
    names = {*PARAMETERS, *property_fields(load_posterior(tiny_model).survey)}
    assert set(result["ks"]) == set(result["ranks"]) == names
    assert all(len(values) == 60 and values.min() > 0 and values.max() < 1 for values in result["ranks"].values())


def test_no_draw_leaves_the_prior(folder):
    assert json.loads((folder / "calibration.json").read_text())["outside_prior"] == 0


def test_the_same_seed_gives_the_same_calibration_and_another_seed_another(tiny_model, folder):
    first = json.loads((folder / "calibration.json").read_text())
    assert calibrating.calibrate(tiny_model, 60, draws=50)["ks"] == first["ks"]
    assert calibrating.calibrate(tiny_model, 60, draws=50, seed=2)["ks"] != first["ks"]


def test_mocks_pass_the_selection_and_are_none_of_the_training_galaxies(tiny_model):
    posterior = load_posterior(tiny_model)
    mocks = stages.draw_mocks(posterior, 50, seed=0)
    mag = 22.5 - 2.5 * np.log10(mocks["flux_r"])
    assert len(mocks) == 50
    assert mag.between(posterior.survey.selection.bright_mag, posterior.survey.selection.faint_mag).all()
    assert mocks["object_id"].min() >= 2**40


def test_a_selection_that_nothing_passes_ends_with_an_error(tiny_model, monkeypatch):
    posterior = load_posterior(tiny_model)
    narrow = posterior.survey.selection.model_copy(update={"bright_mag": 1.0, "faint_mag": 1.1})
    survey = posterior.survey.model_copy(update={"selection": narrow})
    monkeypatch.setattr(stages, "_MAX_MOCK_BATCHES", 2)
    blind = dataclasses.replace(posterior, survey=survey)
    with pytest.raises(PopcatError, match="only 0 of"):
        stages.draw_mocks(blind, 20, seed=0)


@pytest.mark.parametrize("numbers", [{"n": 5}, {"draws": 5}])
def test_too_few_mocks_or_draws_are_refused(tiny_model, numbers):
    with pytest.raises(PopcatError, match="at least 20"):
        calibrating.calibrate(tiny_model, **numbers)


def test_a_folder_without_a_calibration_is_refused(tmp_path):
    with pytest.raises(PopcatError, match="popcat calibrate"):
        calibrating.read_calibration(tmp_path)

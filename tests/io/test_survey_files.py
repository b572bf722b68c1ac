"""A survey written as a survey file is read as the same survey."""

import pytest

from popcat.forward.filters import with_curves
from popcat.galaxy_model import GalaxyModel
from popcat.io.survey_files import settings_text, survey_text
from popcat.settings import settings_of
from popcat.survey import embedded_surveys, load_survey


@pytest.mark.parametrize("name", embedded_surveys())
def test_every_embedded_survey_comes_back(tmp_path, name):
    survey = load_survey(name)
    path = tmp_path / "survey.toml"
    path.write_text(survey_text(survey, ["by a test"], {survey.band_names[0]: ["its first band"]}), encoding="utf-8")
    assert load_survey(path) == survey
    assert "# its first band\n[[bands]]" in path.read_text(encoding="utf-8")


MODELS = {
    "of defaults": {}, "without the medium": {"igm": "none"}, "of another history": {"history": "double_power_law"},
    "with priors": {"priors": {"tau_ism": {"family": "exponential", "scale": 0.5},
                               "log_mstar_formed": {"family": "uniform", "low": 8.0, "high": 12.0}}},
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_settings_come_back(tmp_path, name):
    model = GalaxyModel(**MODELS[name])
    (tmp_path / "model.toml").write_text(settings_text(model, ["a model"]), encoding="utf-8")
    assert settings_of(GalaxyModel, tmp_path / "model.toml", "galaxy-model") == model


def test_curves_stay_out(tmp_path):
    (tmp_path / "r.res").write_text("5500 0\n6000 1\n6500 1\n7000 0\n", encoding="utf-8")
    survey = load_survey("sdss")
    own = survey.bands[2].model_copy(update={"filter": str(tmp_path / "r.res")})
    survey = with_curves(survey.model_copy(update={"bands": (*survey.bands[:2], own)}))
    assert survey.bands[2].curve is not None and "curve =" not in survey_text(survey)

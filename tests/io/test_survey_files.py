"""A survey written as a survey file is read as the same survey."""

import pytest

from popcat.forward.filters import with_curves
from popcat.io.survey_files import survey_text
from popcat.survey import embedded_surveys, load_survey


@pytest.mark.parametrize("name", embedded_surveys())
def test_every_embedded_survey_comes_back(tmp_path, name):
    survey = load_survey(name)
    path = tmp_path / "survey.toml"
    path.write_text(survey_text(survey, ["by a test"], {survey.band_names[0]: ["its first band"]}), encoding="utf-8")
    assert load_survey(path) == survey
    assert "# its first band\n[[bands]]" in path.read_text(encoding="utf-8")


def test_curves_stay_out(tmp_path):
    (tmp_path / "r.res").write_text("5500 0\n6000 1\n6500 1\n7000 0\n", encoding="utf-8")
    survey = load_survey("sdss")
    own = survey.bands[2].model_copy(update={"filter": str(tmp_path / "r.res")})
    survey = with_curves(survey.model_copy(update={"bands": (*survey.bands[:2], own)}))
    assert survey.bands[2].curve is not None and "curve =" not in survey_text(survey)

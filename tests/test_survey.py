"""A settings file is read whole or refused in one line that names the file, the key and what is wrong."""

import copy

import pydantic
import pytest

from popcat.errors import PopcatError
from popcat.flows.settings import Training
from popcat.galaxy_model import GalaxyModel
from popcat.settings import parse_toml
from popcat.survey import FLUX_UNITS, Band, Filter, Survey, embedded_surveys, load_survey

GOOD = """
name = "mine"
redshift_range = [0.01, 0.5]
unit = "uJy"
[columns]
object_id = "id"
[selection]
band = "r"
bright_mag = 14.0
faint_mag = 21.0
[[bands]]
name = "g"
filter = "sdss2010-g"
flux = "f_g"
flux_err = "e_g"
[[bands]]
name = "r"
filter = "my_r.txt"
flux = "f_r"
flux_ivar = "iv_r"
"""

WRONG = {
    "unknown key": ('unit = "uJy"', 'unit = "uJy"\nuni = 1', ["uni: ", "not permitted"]),
    "unknown key of a band": ('flux = "f_r"', 'flux = "f_r"\nfluxx = "a"', ["bands.1.fluxx: ", "not permitted"]),
    "unit": ('"uJy"', '"jansky"', ["unit: ", *FLUX_UNITS, "got 'jansky'"]),
    "name": ('name = "mine"', 'name = "my survey"', ["name: ", "'my survey'"]),
    "no name": ('name = "mine"', "", ["name: ", "required"]),
    "type": ("[0.01, 0.5]", '"all"', ["redshift_range: ", "'all'"]),
    "both error columns": ('flux_err = "e_g"', 'flux_err = "e_g"\nflux_ivar = "iv_g"',
                           ["bands.0: ", '"g" needs exactly one of flux_err, flux_ivar']),
    "neither error column": ('flux_err = "e_g"', "", ["bands.0: ", '"g" needs exactly one of flux_err, flux_ivar']),
    "redshift order": ("[0.01, 0.5]", "[0.5, 0.01]", ["redshift_range must be 0 < low < high, got 0.5, 0.01"]),
    "redshift high": ("[0.01, 0.5]", "[0.01, 21.0]", ["redshift_range must end at 20 or below, got 21"]),
    "redshift zero": ("[0.01, 0.5]", "[0.0, 0.5]", ["0 < low < high, got 0.0, 0.5"]),
    "redshift nan": ("[0.01, 0.5]", "[nan, 0.5]", ["redshift_range.0: ", "finite number (got nan)"]),
    "duplicate bands": ('name = "g"', 'name = "r"', ["band names must differ", "got r, r"]),
    "bands of one name in SQL": ('name = "g"', 'name = "R"', ["not in case alone", "got R, r"]),
    "trim": ('flux = "f_r"', 'flux = "f_r"\ntrim = 0.9', ["bands.1.trim: ", "got 0.9"]),
    "selection band": ('band = "r"', 'band = "R"', ['selection.band "R": ', "choices: g, r"]),
    "error floor": ('flux = "f_r"', 'flux = "f_r"\nerror_floor = 1.5', ["bands.1.error_floor: ", "got 1.5"]),
    "not toml": ("[columns]", "[columns", ["not valid TOML", "line"]),
}  # fmt: skip


def write(tmp_path, text):
    path = tmp_path / "survey.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_survey_file_says_what_the_survey_is(tmp_path):
    survey = load_survey(write(tmp_path, GOOD))
    assert (survey.name, survey.unit, survey.redshift_range) == ("mine", "uJy", (0.01, 0.5))
    assert survey.band_names == ("g", "r")
    assert survey.bands[1].flux_ivar == "iv_r" and survey.bands[1].flux_err is None
    assert survey.columns.object_id == "id"


def test_a_survey_passes_through_unchanged_and_cannot_be_changed(tmp_path):
    survey = load_survey(write(tmp_path, GOOD))
    assert load_survey(survey) is survey
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        survey.name = "other"


def test_settings_survive_json(tmp_path):
    survey = load_survey(write(tmp_path, GOOD))
    assert Survey.model_validate_json(survey.model_dump_json()) == survey
    assert hash(copy.deepcopy(survey)) == hash(survey)


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_survey_file_is_refused_in_one_line(tmp_path, case):
    old, new, expected = WRONG[case]
    assert GOOD.count(old) == 1 or case == "name"
    with pytest.raises(PopcatError) as caught:
        load_survey(write(tmp_path, GOOD.replace(old, new)))
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in ["survey.toml", *expected] if part not in message] == []


def test_every_mistake_of_a_file_is_named_at_once(tmp_path):
    text = GOOD.replace('"uJy"', '"jansky"').replace("[0.01, 0.5]", '"all"')
    with pytest.raises(PopcatError, match=r"unit: .*; redshift_range: "):
        load_survey(write(tmp_path, text))


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "survey.toml"
    path.write_bytes(b"name = \xff\xfe")
    with pytest.raises(PopcatError, match=r"survey.toml is not valid TOML"):
        load_survey(path)


def test_an_unknown_survey_is_answered_with_a_near_one():
    with pytest.raises(PopcatError, match=r'no survey "sdsss": expected a TOML file .*did you mean "sdss"\?'):
        load_survey("sdsss")


def test_a_survey_path_that_is_a_folder_is_refused(tmp_path):
    with pytest.raises(PopcatError, match="expected a TOML file or an embedded name"):
        load_survey(tmp_path)


@pytest.mark.parametrize("name", embedded_surveys())
def test_an_embedded_survey_bears_its_name(name):
    assert load_survey(name).name == name


def test_every_survey_needs_a_band(tmp_path):
    survey = load_survey(write(tmp_path, GOOD)).model_dump()
    with pytest.raises(pydantic.ValidationError, match="bands"):
        Survey.model_validate(survey | {"bands": []})


@pytest.mark.parametrize("name", ["", "1st", "u band", "u-b", "u_1"])
def test_a_band_name_must_fit_in_a_column_name(name):
    with pytest.raises(pydantic.ValidationError, match="name"):
        Band(name=name, filter="f", flux="f", flux_err="e")


def test_names_of_absolute_magnitudes_differ(tmp_path):
    survey = load_survey("sdss").model_dump()
    twice = survey["absolute_magnitudes"][:1] * 2
    with pytest.raises(pydantic.ValidationError, match=r"names of absolute_magnitudes .* got u, u"):
        Survey.model_validate(survey | {"absolute_magnitudes": twice})
    assert Survey.model_validate(survey | {"absolute_magnitudes": []}).absolute_magnitudes == ()


def test_the_range_of_a_rest_frame_filter_ascends():
    with pytest.raises(pydantic.ValidationError, match="wave_range_aa must be low < high"):
        Filter(name="r", filter="sdss2010-r", wave_range_aa=(7000.0, 5000.0))


MODEL = {
    'metallicity = "solar"': "metallicity: .*'evolving' or 'constant'.*got 'solar'",
    'beta = "dirichlet"': "beta: .*'flat' or 'provabgs_warped'.*got 'dirichlet'",
    'binning = "mean"': "binning: .*got 'mean'",
    "birth_cloud_age_gyr = -0.1": "birth_cloud_age_gyr: .*got -0.1",
    "gird = 'a'": "gird: .*not permitted",
}
TRAINING = {
    "learning_rate = 0": "learning_rate: .*got 0",
    "hidden = 8": "hidden: .*got 8",
    "validation_fraction = 0.5": "validation_fraction: .*got 0.5",
    "n_blocks = 1.5": "n_blocks: .*got 1.5",
    "epochs = 3": "epochs: .*not permitted",
}
CASES = [(GalaxyModel, line, message) for line, message in MODEL.items()]
CASES += [(Training, line, message) for line, message in TRAINING.items()]


@pytest.mark.parametrize(("kind", "line", "message"), CASES)
def test_wrong_model_and_training_files_are_refused_in_one_line(tmp_path, kind, line, message):
    called = {GalaxyModel: "galaxy model", Training: "training"}[kind]
    with pytest.raises(PopcatError, match=rf"survey.toml is not a valid {called}: {message}") as caught:
        parse_toml(kind, write(tmp_path, line))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [GalaxyModel, Training])
def test_an_empty_file_gives_the_defaults(tmp_path, kind):
    assert parse_toml(kind, write(tmp_path, "")) == kind()


def test_the_published_recipe_is_a_preset():
    made = Training.preset("published", seed=7)
    assert (made.n_blocks, made.n_layers, made.hidden, made.batch) == (15, 2, 500, 50)
    assert (made.learning_rate, made.schedule, made.patience, made.seed) == (5e-4, "constant", 20, 7)
    assert Training.preset("default") == Training()


def test_an_unknown_preset_is_refused_with_a_hint():
    with pytest.raises(PopcatError, match='no training preset "publishd"; did you mean "published"'):
        Training.preset("publishd")

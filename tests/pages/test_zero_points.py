"""Zero points of real galaxies: the survey file, the page and the words of the command."""

import json
import re
from importlib.resources import files

import pytest
from typer.testing import CliRunner

import popcat
from popcat.checks import zero_points
from popcat.cli import app
from popcat.errors import PopcatError
from popcat.survey import load_survey

REAL = files("popcat") / "data" / "galaxies_sdss.parquet"
N = 220


@pytest.fixture(scope="module", autouse=True)
def few_draws():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zero_points, "N_DRAWS", 40)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("zero")


@pytest.fixture(scope="module")
def made(tiny_model, folder):
    return popcat.fit_zero_points(str(REAL), tiny_model, output=folder / "zero.toml", n=N, reference="i")


def test_the_survey_file_has_the_new_offsets_and_floors(made, folder):
    survey, before = load_survey(folder / "zero.toml"), load_survey("sdss")
    assert survey.bands == made.survey.bands and made.files == (str(folder / "zero.toml"), str(folder / "zero.html"))
    for new, old, one in zip(survey.bands, before.bands, made.bands, strict=True):
        assert new.ab_offset_mag == pytest.approx(old.ab_offset_mag + one.change_mag, abs=1e-4)
        assert new.error_floor == pytest.approx(max(old.error_floor, one.template_error), abs=1e-4)
    assert made.bands[3].change_mag == made.bands[3].error_mag == 0.0
    text = (folder / "zero.toml").read_text(encoding="utf-8")
    changed = re.findall(r"^# (\w): changed by [+-]0\.\d{3} \+- 0\.\d{3} mag; template error 0\.\d{3}$", text, re.M)
    assert changed == ["u", "g", "r", "z"] and "# i: the reference; template error" in text


def test_the_table_ends_with_a_total(made):
    lines = [line.split()[0] for line in str(made).splitlines()[1:8]]
    assert lines == ["band", *"ugriz", "total"]
    assert f"{made.galaxies:,} galaxies with a redshift" in str(made) and made.galaxies + made.held_out == N


def test_the_page_is_one_file_with_a_figure_of_each_band(made, folder):
    page = (folder / "zero.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 5 and "default-src 'none'" in page
    assert "<b>Limits.</b>" in page


def test_the_command_prints_json_for_scripts(tiny_model, tmp_path):
    found = CliRunner().invoke(app, ["survey", "zeropoints", str(REAL), "--posterior", str(tiny_model), "-n", str(N),
                                     "-o", str(tmp_path / "zero.toml"), "--json"])  # fmt: skip
    assert found.exit_code == 0, found.output
    assert [one["band"] for one in json.loads(found.stdout)["bands"]] == list("ugriz")
    assert "survey file and page: " in found.stderr


def test_what_is_wrong_is_said(tiny_model, galaxies):
    with pytest.raises(PopcatError, match='no band "K" in survey sdss'):
        popcat.fit_zero_points(galaxies, tiny_model, reference="K")
    with pytest.raises(PopcatError, match="expected 200 or more for zero points"):
        popcat.fit_zero_points(galaxies, tiny_model, n=100)

"""`popcat population`: what it prints, writes and refuses."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from popcat.cli import app
from popcat.errors import PopcatError
from popcat.pages.population import report_population
from popcat.population.sampling import compare_populations, main_sequence, read_samples
from popcat.population.settings import population_settings


def run(*arguments):
    return CliRunner().invoke(app, ["population", *map(str, arguments)])


def test_fit_says_how_each_flow_fared_and_how_far_the_data_are(
    fitted, catalogue, survey_file, quick, monkeypatch, tmp_path
):
    monkeypatch.setattr("popcat.population.trust.MOST", 1e9)
    settings = tmp_path / "fit.toml"
    lines = [f"{key} = {value!r}".replace("'", '"').replace("(", "[").replace(")", "]").replace("True", "true")
             for key, value in quick.model_dump(exclude_none=True).items()]  # fmt: skip
    settings.write_text("\n".join(lines))
    folder = shutil.copytree(fitted, tmp_path / "population")
    result = run("fit", catalogue, "--survey", survey_file, "--cut", "r<20", "--settings", settings, "-o", folder,
                 "--workers", 1)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "flow 1  score" in result.output
    assert "times what sampling noise alone would give" in result.output
    assert (folder / "report.html").is_file()


def test_fit_takes_a_galaxy_model_and_refuses_one_that_is_not_there(catalogue, survey_file, tmp_path):
    from popcat.population.fitted import load_population

    missing = run("fit", catalogue, "--survey", survey_file, "--galaxy-model", tmp_path / "none.toml", "-o",
                  tmp_path / "a")
    assert missing.exit_code != 0
    assert "no galaxy-model settings" in f"{missing.output}{missing.exception}"
    (tmp_path / "model.toml").write_text('grid = "bc03_miles_nebular"')
    (tmp_path / "fit.toml").write_text(
        "members = 1\nn_blocks = 1\nhidden = 16\nsteps = 2\nbatch = [100, 100]\nstart_steps = 0\ncheck_every = 2"
    )
    made = run("fit", catalogue, "--survey", survey_file, "--galaxy-model", tmp_path / "model.toml",
               "--settings", tmp_path / "fit.toml", "-o", tmp_path / "b", "--workers", 1)  # fmt: skip
    assert made.exit_code in (0, 3), made.output
    assert load_population(tmp_path / "b").description.galaxy_model.grid == "bc03_miles_nebular"


def test_sample_writes_galaxies(fitted, tmp_path):
    result = run("sample", fitted, "-n", 300, "-o", tmp_path / "s.parquet")
    assert result.exit_code == 0, result.output
    assert len(pd.read_parquet(tmp_path / "s.parquet")) == 300


def test_report_is_one_page_with_its_figures(fitted, tmp_path):
    page = report_population(fitted, tmp_path / "page.html").read_text()
    assert page.count("data:image/png;base64") == 10
    assert "times what sampling noise alone would give" in page
    assert "default-src 'none'" in page and "<script" not in page
    assert "Star-forming main sequence" in page
    assert "http" not in re.sub(r"data:image/png;base64,[\w+/=]+", "", page).replace("http-equiv", "")


def test_compare_prints_distances(fitted):
    result = run("compare", fitted, fitted)
    assert result.exit_code == 0, result.output
    assert "log_mstar" in result.output
    assert "redshift 0.0000" in result.output.replace("  ", " ").replace("  ", " ")


def test_a_shift_is_its_distance():
    first = pd.DataFrame({"redshift": [0.1, 0.2, 0.3], "log_mstar": [9.0, 10.0, 11.0]})
    found = compare_populations(first + 0.05, first).table.set_index("quantity")
    assert found.loc["redshift", "w1"] == pytest.approx(0.05)
    assert found.loc["log_mstar", "p50"] == pytest.approx(0.05)


def test_nothing_to_compare_is_said():
    with pytest.raises(PopcatError, match="nothing to compare"):
        compare_populations(pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1]}))


def test_the_main_sequence_is_of_star_forming_galaxies_alone():
    frame = pd.DataFrame({"log_mstar": [10.0] * 20, "log_sfr_1gyr": [0.0] * 10 + [-5.0] * 10})
    assert main_sequence(frame)[1] == 0.0


@pytest.mark.parametrize("path", ["nowhere", "folder"])
def test_no_samples_are_said(tmp_path, path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(PopcatError, match="no samples"):
        read_samples(tmp_path / path)


def test_a_file_that_is_no_table_is_said(tmp_path):
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(PopcatError, match="cannot be read"):
        read_samples(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("nowhere.parquet",), "nowhere"), (("x", "--preset", "best"), "no population preset"),
     (("x", "--settings", "no.toml"), "no population settings")],
)  # fmt: skip
def test_what_cannot_be_fitted_is_refused(arguments, message, tmp_path):
    result = run("fit", *arguments, "-o", tmp_path / "out")
    assert isinstance(result.exception, PopcatError)
    assert message in str(result.exception)


def test_unknown_settings_are_named():
    with pytest.raises(PopcatError, match="stepps"):
        population_settings(changes={"stepps": 1})


def test_a_file_changes_a_preset(tmp_path):
    (tmp_path / "fit.toml").write_text("members = 3")
    made = population_settings(tmp_path / "fit.toml", "published", {"seed": 4})
    assert (made.n_blocks, made.members, made.seed) == (20, 3, 4)


def test_a_blur_of_nothing_is_refused():
    with pytest.raises(PopcatError, match="blur"):
        population_settings(changes={"blur": (0.0, 0.1)})


def test_a_page_of_hardly_any_galaxies_is_refused(fitted, tmp_path):
    folder = shutil.copytree(fitted, tmp_path / "few")
    frame = pd.read_parquet(folder / "samples.parquet")
    frame[:30].to_parquet(folder / "samples.parquet")
    with pytest.raises(PopcatError, match=r"popcat population sample .*few"):
        report_population(folder, tmp_path / "page.html")


def test_a_quantity_without_values_is_left_out_of_the_comparison(fitted):
    frame = read_samples(fitted)
    found = compare_populations(frame, frame.assign(redshift=np.nan)).table
    assert "redshift" not in set(found["quantity"])
    assert (found["w1"] == 0.0).all()
    with pytest.raises(PopcatError, match="with values"):
        compare_populations(frame, frame[:0])


def test_the_published_preset_is_popseds():
    made = population_settings(preset="published")
    assert (made.n_blocks, made.hidden, made.loss, made.members) == (20, 100, "sinkhorn", 10)

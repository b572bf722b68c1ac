"""The commands: what works, and one clear line with exit status 2 for what cannot."""

import json
import os
import re
import shlex
import subprocess
import sys
from importlib.resources import files

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from popcat import __version__
from popcat.catalog.manifest import read_manifest
from popcat.cli import app

SYNCHRONOUS = ["--client", "synchronous"]


def refused(result, *words):
    """Exit status 2, one line, these words in it, and no traceback."""
    status, _, err = result
    assert status == 2
    assert err.count("\n") == 1
    assert err.startswith("Error: ")
    for word in words:
        assert word in err


def test_the_installed_command_prints_its_version():
    done = subprocess.run([sys.executable, "-m", "popcat", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == __version__


def leaves(command, path=()):
    """Every command that does something, by its words."""
    children = getattr(command, "commands", {})
    for name, child in children.items():
        yield from leaves(child, (*path, name))
    if not children:
        yield path, command


LEAVES = dict(leaves(get_command(app)))


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_explains_itself_in_a_sentence_and_by_an_example_that_parses(path):
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0 and "Usage" in result.output and "Example" in result.output
    command = LEAVES[path]
    assert re.fullmatch(r".{10,125}\.", command.help.split("\n\n")[0])
    examples = [shlex.split(line) for line in command.epilog.splitlines() if line.startswith("popcat ")]
    assert examples
    for example in examples:
        assert tuple(example[1:len(path) + 1]) == path
        command.make_context("popcat", example[len(path) + 1:])
    assert all(option.help for option in command.params if option.name != "help")


def test_a_mistyped_option_or_command_is_answered_with_the_near_one():
    assert "--draws" in CliRunner().invoke(app, ["infer", "x.parquet", "--drwas", "5"]).output
    assert "infer" in CliRunner().invoke(app, ["infr"]).output


def test_the_shell_completes_commands():
    shell = {"_POPCAT_COMPLETE": "complete_bash", "COMP_WORDS": "popcat re", "COMP_CWORD": "1"}
    code = "import sys; sys.argv = ['popcat']; from popcat.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **shell})
    assert set(done.stdout.split()) >= {"report", "reweight"}


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["schema", "--survey", "sdss"], {"survey", "kind", "columns"}),
        (["ssp", "describe"], {"grid", "z_abs", "age_gyr", "n_wave", "wave_aa", "provenance", "hash"}),
        (["doctor"], {"ok", "checks"}),
        (["survey", "check", "{galaxies}", "--survey", "sdss"], {"rows", "survey", "bands", "flags"}),
    ],
)
def test_json_is_one_object_on_stdout_and_the_words_are_on_stderr(popcat, galaxies, arguments, keys):
    status, out, err = popcat(*(argument.format(galaxies=galaxies) for argument in arguments), "--json")
    assert status == 0
    assert keys <= set(json.loads(out))
    assert err or arguments[0] == "schema"


def test_a_survey_goes_from_catalogue_to_report_with_the_commands_alone(popcat, galaxies, tmp_path):
    noise, library, model = tmp_path / "noise.json", tmp_path / "library", tmp_path / "model"
    posteriors, page = tmp_path / "posteriors", tmp_path / "report.html"
    training = tmp_path / "training.toml"
    training.write_text("n_blocks = 2\nhidden = 16\nn_layers = 1\nbatch = 256\nredshift_hidden = 16\n")
    assert popcat("noise", "fit", galaxies, "-o", noise)[0] == 0
    assert popcat("simulate", "-n", 6000, "--noise", noise, "-o", library, *SYNCHRONOUS)[0] == 0
    train = ["train", "--library", library, "--settings", training, "--epochs", 2, "--no-calibrate", "-o", model]
    assert popcat(*train)[0] == 0
    infer = ["infer", galaxies, "--posterior", model, "--draws", 20, "-o", posteriors, *SYNCHRONOUS]
    refused(popcat(*infer), "has no calibration", "popcat calibrate --posterior")
    assert not posteriors.exists()
    assert popcat("calibrate", "--posterior", model, "-n", 40, "--draws", 50)[0] == 0
    assert popcat(*infer, "--allow-uncalibrated")[0] == 0
    assert popcat("report", posteriors, "-o", page)[0] == 0
    assert read_manifest(posteriors).rows == 150
    weights = {"flow.safetensors", "redshift.safetensors", "support.safetensors"}
    assert {file.name for file in model.iterdir()} == {"posterior.json", "loss.png", "calibration", *weights}
    figures = {"ranks-exact.png", *(f"pp-{run}.png" for run in ("exact", "gaussian", "unknown", "two_bands_missing"))}
    assert {file.name for file in (model / "calibration").iterdir()} == {"calibration.json", "ranks.parquet", *figures}
    result = json.loads((model / "calibration" / "calibration.json").read_text())
    assert result["passed"] in (True, False) and {run["n"] for run in result["runs"].values()} == {40}
    assert {run["outside_prior"] for run in result["runs"].values()} == {0}
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_survey_without_a_catalogue_is_simulated_with_nominal_noise_that_says_so(popcat, tmp_path):
    text = (files("popcat") / "data" / "surveys" / "legacy.toml").read_text()
    survey = tmp_path / "nearby.toml"
    survey.write_text(text.replace('"legacy"', '"nearby"', 1).replace("[0.001, 1.0]", "[0.1, 0.11]"))
    status, _, err = popcat("simulate", "--survey", survey, "-n", 50, "-o", tmp_path / "library", *SYNCHRONOUS)
    assert status == 0
    assert "noise: nominal, from the depths of survey nearby; fit your catalogue's with `popcat noise fit`" in err
    assert read_manifest(tmp_path / "library").rows == 50


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["infer", "absent.parquet", "--posterior", "{model}"], ["absent.parquet", "expected"]),
        (["infer", "{galaxies}", "--posterior", "absent"], ['no posterior "absent"']),
        (["simulate", "--survey", "sdds", "-n", "10"], ['did you mean "sdss"']),
        (["simulate", "--noise", "absent.json", "-n", "10"], ["absent.json", "popcat noise fit"]),
        (["simulate", "--galaxy-model", "absent.toml", "-n", "10"], ["absent.toml"]),
        (["train", "--library", "absent"], ["absent"]),
        (["calibrate", "--posterior", "absent"], ['no posterior "absent"']),
        (["report", "absent"], ["absent"]),
        (["infer", "{galaxies}", "--posterior", "{model}", "--certify", "--budget-ms", "1", "--allow-uncalibrated"],
         ["1", "certify"]),
        (["reweight", "absent", "--prior", "prior.toml"], ["no catalogue absent"]),
        (["crosscheck", "absent"], ["no catalogue absent"]),
        (["compare", "absent", "absent"], ["no catalogue absent"]),
        (["ssp", "build", "--engine", "bc04"], ['did you mean "bc03"']),
        (["ssp", "build", "--source", "absent.fits"], ["absent.fits"]),
        (["ssp", "build", "-o", "absent/grid.npz"], ["no folder absent"]),
        (["ssp", "build", "--sps-home", "absent"], ["--source FILE instead of --sps-home absent"]),
        (["ssp", "build", "--engine", "fsps", "--source", "absent"], ["--sps-home DIR instead of --source absent"]),
        (["ssp", "build", "--engine", "fsps", "--sps-home", "absent"], ["absent is not a folder", "git clone"]),
        (["ssp", "build", "--engine", "fsps", "--nebular", "-3"], ["bc03 engine alone", "leave out --nebular"]),
        (["ssp", "build", "--engine", "fsps", "--nebular", "-3", "--workers", "2"], ["leave out --nebular"]),
        (["ssp", "build", "--engine", "dsps"], ["--source FILE"]),
        (["ssp", "build", "--engine", "dsps", "--source", "absent.h5"], ["no DSPS grid at absent.h5"]),
        (["ssp", "describe", "absent"], ['no SSP grid "absent"']),
    ],
)
def test_what_does_not_exist_is_one_line_with_the_remedy(
    popcat, galaxies, tiny_model, tmp_path, monkeypatch, arguments, words
):
    monkeypatch.chdir(tmp_path)
    named = [argument.format(galaxies=galaxies, model=tiny_model) for argument in arguments]
    refused(popcat(*named), *words)
    assert list(tmp_path.iterdir()) == []


def changed(galaxies, path, change):
    """The galaxies with one change to their table, in a file."""
    pq.write_table(change(pq.read_table(galaxies)), path)
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop_columns("modelflux_g"), ["modelflux_g"]),
        (lambda t: t.set_column(0, "object_id", pa.array([7] * len(t))), ["duplicate"]),
        (lambda t: t.set_column(0, "object_id", pa.array([i + 0.5 for i in range(len(t))])), ["object_id", "integer"]),
    ],
)
def test_a_catalogue_that_cannot_work_is_refused_before_anything_is_written(
    popcat, galaxies, tiny_model, tmp_path, change, words
):
    catalog = changed(galaxies, tmp_path / "catalog.parquet", change)
    refused(popcat("infer", catalog, "--posterior", tiny_model, "-o", tmp_path / "out", *SYNCHRONOUS), *words)
    assert not (tmp_path / "out").exists()


def test_a_wrong_unit_is_refused(popcat, galaxies, tiny_model, tmp_path):
    def in_micro_jansky(table):
        at = table.schema.get_field_index("modelflux_r")
        field = table.schema.field(at).with_metadata({"unit": "uJy"})
        return table.set_column(at, field, table.column(at))

    catalog = changed(galaxies, tmp_path / "catalog.parquet", in_micro_jansky)
    refused(popcat("infer", catalog, "--posterior", tiny_model, "-o", tmp_path / "out", *SYNCHRONOUS), "uJy", "nMgy")


def test_a_model_of_another_survey_is_refused_by_the_columns_it_needs(popcat, galaxies, tmp_path, tiny_model):
    def renamed(table):
        return table.rename_columns([name.replace("modelflux", "petroflux") for name in table.column_names])

    catalog = changed(galaxies, tmp_path / "catalog.parquet", renamed)
    refused(
        popcat("infer", catalog, "--posterior", tiny_model, "-o", tmp_path / "out", *SYNCHRONOUS), "sdss", "modelflux_u"
    )


def test_bad_rows_are_kept_flagged_and_explained(popcat, galaxies, tiny_model, tmp_path):
    def spoiled(table):
        frame = table.to_pandas()
        frame.loc[0, "modelflux_g"] = float("nan")
        frame.loc[1, "modelflux_err_r"] = -1.0
        frame.loc[2, "redshift"] = float("nan")
        frame.loc[3, "redshift"] = 3.0
        frame.loc[4, [f"modelflux_{band}" for band in "ugriz"]] = float("nan")
        return pa.Table.from_pandas(frame, preserve_index=False)

    catalog = changed(galaxies, tmp_path / "catalog.parquet", spoiled)
    out = tmp_path / "out"
    assert popcat("infer", catalog, "--posterior", tiny_model, "--draws", 5, "-o", out, *SYNCHRONOUS)[0] == 0
    frame = pq.read_table(out / "part-000000.parquet").to_pandas()
    expected = ["ok", "ok", "ok", "redshift_out_of_range", "no_photometry"]
    assert frame["status"].tolist() == expected + ["ok"] * 145
    assert frame["n_bands"].tolist() == [4, 4, 5, 0, 0] + [5] * 145
    for column in ("log_mstar_p50", "log_mstar_draws"):
        assert frame[column].isna().tolist() == [False] * 3 + [True] * 2 + [False] * 145
    assert (frame["flags"] != 0).tolist()[:5] == [True] * 5


def test_hidden_redshifts_are_inferred(popcat, galaxies, tiny_model, tmp_path):
    out = tmp_path / "out"
    infer = ["infer", galaxies, "--posterior", tiny_model, "--draws", 20, "--hide-redshift", "-o", out, *SYNCHRONOUS]
    assert popcat(*infer)[0] == 0
    frame = pq.read_table(out / "part-000000.parquet").to_pandas()
    assert frame["redshift"].isna().all() and (frame["status"] == "ok").all()
    assert (frame["redshift_p84"] > frame["redshift_p16"]).all()
    refused(popcat(*(a for a in infer if a != "--hide-redshift")), "hide_redshift")


def test_the_output_of_another_run_is_refused_not_mixed(popcat, galaxies, tiny_model, tmp_path):
    arguments = ["infer", galaxies, "--posterior", tiny_model, "-o", tmp_path / "out", *SYNCHRONOUS, "--draws"]
    assert popcat(*arguments, 5)[0] == 0
    refused(popcat(*arguments, 6), "draws")


def test_a_scheduler_that_does_not_answer_is_named_before_the_output_is_begun(popcat, galaxies, tiny_model, tmp_path):
    out = tmp_path / "out"
    refused(popcat("infer", galaxies, "--posterior", tiny_model, "-o", out, "--client", "nowhere"),
            "no Dask scheduler")
    assert not out.exists()


def test_an_unknown_filter_is_refused_when_the_noise_is_fitted(popcat, galaxies, tmp_path):
    text = (files("popcat") / "data" / "surveys" / "sdss.toml").read_text()
    survey = tmp_path / "survey.toml"
    survey.write_text(text.replace("sdss2010-g", "sdss2010-q"))
    refused(popcat("noise", "fit", galaxies, "--survey", survey, "-o", tmp_path / "noise.json"), 'filter "sdss2010-q"')
    assert not (tmp_path / "noise.json").exists()


def test_a_survey_file_is_drafted_from_a_header_and_checked(popcat, galaxies, tmp_path):
    survey = tmp_path / "survey.toml"
    status, _, err = popcat("survey", "draft", galaxies, "-o", survey)
    assert status == 0 and "CHECK" in err
    refused(popcat("survey", "draft", galaxies, "-o", survey), "is there already")
    status, out, _ = popcat("survey", "check", galaxies, "--survey", survey)
    assert status == 0 and "150 rows as survey my_survey" in out
    assert re.search(r"^ +u +nMgy +nMgy +150 +10 ", out, re.M), "ten of them have a negative u flux"
    found = json.loads(popcat("survey", "check", galaxies, "--survey", "sdss", "--json")[1])
    assert [band["observed"] for band in found["bands"]] == [150] * 5 and found["flags"]["negative_flux"] == 10


def test_a_check_that_finds_no_galaxy_to_infer_ends_with_3(popcat, galaxies, tmp_path):
    pd.read_parquet(galaxies).assign(redshift=5000.0).to_parquet(tmp_path / "a.parquet")
    status, out, err = popcat("survey", "check", tmp_path / "a.parquet", "--survey", "sdss")
    assert status == 3 and "150 rows" in out
    assert 'can have a posterior (redshift_out_of_range 150); column "redshift" has 5000 to 5000' in err


def test_a_warning_of_a_catalogue_is_one_line_on_stderr(popcat, galaxies, tiny_model, tmp_path):
    table = pq.read_table(galaxies)
    units = [field.with_metadata({"unit": "counts"} if field.name == "modelflux_r" else {}) for field in table.schema]
    pq.write_table(table.cast(pa.schema(units)), tmp_path / "counts.parquet")
    status, _, err = popcat("infer", tmp_path / "counts.parquet", "--posterior", tiny_model, "--draws", 5,
                            "-o", tmp_path / "out", *SYNCHRONOUS)  # fmt: skip
    said = [line for line in err.splitlines() if line.startswith("Warning: ")]
    assert status == 0 and len(said) == 1
    assert 'the unit "counts" of modelflux_r is not understood, taken as nMgy' in said[0]
    assert said[0] in popcat("survey", "check", tmp_path / "counts.parquet", "--survey", "sdss")[2].splitlines()


def test_the_columns_are_printed_as_a_table(popcat):
    status, out, _ = popcat("schema", "--survey", "sdss")
    assert status == 0
    assert out.splitlines()[0] == "| column | type | unit | UCD | description |"
    assert "| `log_mstar_draws` | list of float | log10(Msun) | phys.mass |" in out
    refused(popcat("schema", "--kind", "posteriors"), 'did you mean "posterior"')


def test_an_export_needs_a_known_format_and_a_finished_catalogue(popcat, tmp_path):
    refused(popcat("export", tmp_path, "--to", "votable"), "choices: hats, delta, iceberg, parquet, fits")
    refused(popcat("export", tmp_path, "-o", tmp_path / "out"), "no catalogue")


def test_a_survey_that_does_not_fit_a_catalogue_is_refused_with_what_to_mend(popcat, galaxies):
    refused(popcat("survey", "check", galaxies, "--survey", "gama"), "lacks", "CATAID", "Mend the names")


def test_a_folder_with_a_library_is_refused_by_infer(popcat, galaxies, tiny_model, tmp_path):
    assert popcat("simulate", "-n", 10, "-o", tmp_path / "out", *SYNCHRONOUS)[0] == 0
    refused(popcat("infer", galaxies, "--posterior", tiny_model, "-o", tmp_path / "out", *SYNCHRONOUS), "library")


def test_training_refuses_a_folder_that_holds_something(popcat, tmp_path):
    assert popcat("simulate", "-n", 10, "-o", tmp_path / "library", *SYNCHRONOUS)[0] == 0
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "precious").touch()
    refused(popcat("train", "--library", tmp_path / "library", "-o", tmp_path / "model"), "not empty")


def test_a_catalogue_is_verified_and_what_is_wrong_has_its_remedy(popcat, galaxies, tiny_model, tmp_path):
    out = tmp_path / "out"
    arguments = ["infer", galaxies, "--posterior", tiny_model, "--draws", 5, "-o", out, *SYNCHRONOUS]
    assert popcat(*arguments)[0] == 0
    status, said, _ = popcat("verify", out)
    assert (status, "nothing is wrong" in said) == (0, True)
    found = json.loads(popcat("verify", out, "--json")[1])
    assert (found["ok"], found["rows"], found["problems"]) == (True, 150, [])
    (out / "part-000000.parquet").write_bytes(b"PAR1")
    status, said, _ = popcat("verify", out)
    assert status == 1
    assert "part-000000.parquet" in said and "--check" in said
    status, said, _ = popcat("verify", out, "--json")
    assert status == 1 and json.loads(said)["problems"][0]["where"] == "part-000000.parquet"
    status, said, _ = popcat(*arguments, "--json")
    assert status == 0 and json.loads(said)["rows"] == 150 and json.loads(said)["arguments"]["draws"] == 5
    assert popcat("verify", out)[0] == 0
    refused(popcat("verify", tmp_path), "not a popcat output")


def test_the_ssp_grid_describes_itself(popcat):
    status, out, _ = popcat("ssp", "describe")
    assert status == 0
    assert "Kroupa" in out and "nebular" not in out
    status, out, _ = popcat("ssp", "describe", "bc03_miles_nebular")
    assert status == 0
    assert re.search(r"nebular_log_u +-3\.0", out)

"""`fit`: from a catalogue to a report; resumed after an interruption; the same from Python and the command line."""

import json
import sys

import numpy as np
import pandas as pd
import pytest

import popcat
from popcat.catalog.manifest import META
from popcat.cli import main
from popcat.errors import PopcatError
from popcat.flows.settings import Training
from popcat.galaxies import CERTIFIED_MEANS
from popcat.io.survey_files import settings_text
from popcat.pipeline import run as running
from popcat.pipeline.record import read_fit
from popcat.posterior.posterior import load_posterior

SETTINGS = Training(n_blocks=3, hidden=48, n_layers=1, batch=256, max_epochs=8, redshift_epochs=6, redshift_hidden=32,
                    redshift_bins=60)  # fmt: skip
OPTIONS = {"prior": "flat", "draws": 20, "seed": 3, "library_size": 8000}
PRODUCTS = ["survey.toml", "galaxy_model.toml", "noise.json", "training.toml", "library", "posterior", "posteriors",
            "report.html", "fit.json"]  # fmt: skip


@pytest.fixture(scope="module")
def fitted(catalogue, survey_file, tmp_path_factory):
    """The folder of a fit of the table in memory, and its result."""
    folder = tmp_path_factory.mktemp("python") / "out"
    return folder, popcat.fit(catalogue, survey_file, output=folder, settings=SETTINGS, client="synchronous", **OPTIONS)


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command line in this process: exit status and what it said on stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["popcat", "fit", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, capsys.readouterr().err

    return run


def test_a_fit_leaves_all_its_products_and_a_manifest_that_names_them(fitted, catalogue):
    folder, found = fitted
    assert [name for name in PRODUCTS if not (folder / name).exists()] == []
    record = read_fit(folder)
    assert list(record.steps) == ["noise", "simulate", "train", "calibrate", "infer", "report"]
    for step in record.steps.values():
        assert (folder / step.product).exists() and step.command.startswith("popcat ")
    assert record.chosen.library == 8000 and record.chosen.training == SETTINGS
    assert found.galaxies == len(catalogue) and found.without_posterior == 0
    assert record.result["certified"] == found.certified
    frame = popcat.open_catalog(folder / "posteriors").to_pandas(["certified", "route"])
    assert found.certified == frame["certified"].sum() and found.failed == (frame["route"] == "failed").sum()
    assert CERTIFIED_MEANS in found.certificate


def test_most_galaxies_are_certified_and_their_posteriors_hold_the_truth(fitted, mocks):
    folder, found = fitted
    assert found.certified + found.failed >= 0.9 * found.galaxies
    assert found.certified >= 0.8 * found.galaxies
    frame = popcat.open_catalog(folder / "posteriors").to_pandas(["object_name", "log_mstar_formed_draws", "certified"])
    truth = mocks["log_mstar_formed"].to_numpy()
    below = np.array([np.mean(draws < true) for draws, true in
                      zip(frame["log_mstar_formed_draws"], truth, strict=True)])[frame["certified"]]  # fmt: skip
    assert abs(np.median(below) - 0.5) < 0.2 and np.mean((below > 0.0) & (below < 1.0)) > 0.8


def test_identifiers_that_are_text_come_back(fitted, catalogue):
    frame = popcat.open_catalog(fitted[0] / "posteriors").to_pandas(["object_name"])
    assert frame["object_name"].tolist() == catalogue["name"].tolist()


def test_the_selection_is_that_of_the_catalogue_and_said(fitted):
    folder, _ = fitted
    survey = popcat.load_survey(folder / "survey.toml")
    assert (survey.selection.bright_mag, survey.selection.faint_mag) == (16.0, 18.0)
    assert survey.redshift_range == (0.001, 0.6)  # some redshifts are to be inferred
    assert any("selection: r 16 to 18 mag" in line for line in read_fit(folder).remarks)
    assert load_posterior(folder / "posterior").survey.selection == survey.selection


def test_the_posterior_serves_infer_afterwards(fitted, catalogue, survey_file):
    frame = popcat.infer(catalogue[:5], fitted[0] / "posterior", draws=10, allow_uncalibrated=True)
    assert frame["status"].tolist() == ["ok"] * 5


def test_the_same_call_again_makes_nothing_again(fitted, catalogue, survey_file):
    folder, first = fitted
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    again = popcat.fit(catalogue, survey_file, output=folder, settings=SETTINGS, client="synchronous", **OPTIONS)
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    written_anew = {path.name for path in after if after[path] != before.get(path)}
    assert written_anew <= {"fit.json", "training.toml", "catalogue.parquet", "summary.json", "manifest.json",
                            "sources.json"}  # fmt: skip
    assert (again.certified, again.commands) == (first.certified, first.commands)


@pytest.mark.parametrize(("changes", "words"), [
    ({"draws": 30}, "draws (20 there, 30 now)"), ({"hide_redshift": True}, "hide_redshift (False there, True now)"),
])  # fmt: skip
def test_another_fit_in_the_folder_is_refused(fitted, catalogue, survey_file, changes, words):
    with pytest.raises(PopcatError) as refused:
        popcat.fit(catalogue, survey_file, output=fitted[0], settings=SETTINGS, **(OPTIONS | changes))
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_another_table_in_the_folder_is_refused(fitted, catalogue, survey_file):
    folder, _ = fitted
    with pytest.raises(PopcatError, match="holds a fit of another table"):
        popcat.fit(catalogue[:50], survey_file, output=folder, settings=SETTINGS, **OPTIONS)
    assert not list(folder.glob(".new*"))


def test_what_was_interrupted_goes_on_from_the_command_line_and_ends_the_same(
    fitted, survey_file, tmp_path, command, monkeypatch
):
    first, result = fitted
    folder, settings = tmp_path / "out", tmp_path / "training.toml"
    settings.write_text(settings_text(SETTINGS))
    made = running.train

    def interrupted(*args, report, **options):
        def stop(epoch, history):
            report(epoch, history)
            if epoch == 2:
                raise KeyboardInterrupt

        return made(*args, report=stop, **options)

    words = [first / "catalogue.parquet", "--survey", survey_file, "-o", folder, "--settings", settings, "--client",
             "synchronous"]  # fmt: skip
    words += [word for name, value in OPTIONS.items() for word in (f"--{name.replace('_', '-')}", value)]
    monkeypatch.setattr(running, "train", interrupted)
    status, said = command(*words)
    assert status == 130 and "Interrupted" in said
    library = {path: path.stat().st_mtime_ns for path in (folder / "library").glob("*.parquet")}
    assert library and not (folder / "posteriors").exists()
    monkeypatch.setattr(running, "train", made)
    status, said = command(*words)
    assert status == 0 and "certified:" in said and "popcat infer" in said
    assert library == {path: path.stat().st_mtime_ns for path in (folder / "library").glob("*.parquet")}
    for file in ("flow.safetensors", "redshift.safetensors", "support.safetensors"):
        assert (folder / "posterior" / file).read_bytes() == (first / "posterior" / file).read_bytes()
    ours, theirs = (popcat.open_catalog(one / "posteriors").to_pandas() for one in (folder, first))
    pd.testing.assert_frame_equal(ours, theirs)
    own = json.loads((folder / "fit.json").read_text())
    assert own["result"]["certified"] == result.certified


def test_a_few_galaxies_have_proposals_of_their_own(catalogue, survey_file, tmp_path):
    rows = catalogue[:6]
    found = popcat.fit(rows, survey_file, output=tmp_path / "out", prior="flat", draws=20, proposals="fitted",
                       client="synchronous")  # fmt: skip
    assert found.galaxies == 6 and found.certified >= 4
    record = read_fit(tmp_path / "out")
    assert record.chosen.proposals == "fitted" and "calibrate" not in record.steps
    assert load_posterior(tmp_path / "out" / "posterior").flows == ()


def test_a_drafted_survey_file_with_guesses_stops_with_the_file(catalogue, tmp_path, command):
    path, folder = tmp_path / "galaxies.parquet", tmp_path / "out"
    catalogue.to_parquet(path)
    status, said = command(path, "-o", folder)
    assert status == 2 and said.count("\n") == 1
    assert said.startswith("Error:") and "lines are guesses, marked CHECK" in said and "--survey" in said
    assert {one.name for one in folder.iterdir()} == {"survey.toml"}
    again = command(path, "-o", folder)
    assert again == (status, said)


def test_a_draft_that_was_looked_at_is_taken_and_its_ranges_become_the_catalogue_s(catalogue, tmp_path, monkeypatch):
    path, folder = tmp_path / "galaxies.parquet", tmp_path / "out"
    catalogue.rename(columns={"name": "object_id", "z": "redshift"}).to_parquet(path)
    with pytest.raises(PopcatError, match="CHECK"):
        popcat.fit(path, output=folder)
    bands, lines = iter("ugriz"), []
    for line in (folder / "survey.toml").read_text().splitlines():
        name = line.split(" = ")[0]
        if name == "filter":
            lines.append(f'filter = "sdss2010-{next(bands)}"')
        elif "CHECK" in line and name not in ("redshift_range", "bright_mag", "faint_mag"):
            lines.append(line.split("#")[0])
        else:
            lines.append(line)
    (folder / "survey.toml").write_text("\n".join(lines))

    def stop(*args, **options):
        raise PopcatError("far enough")

    monkeypatch.setattr(running, "fit_noise", stop)
    for _ in range(2):  # the ranges that were chosen are kept
        with pytest.raises(PopcatError, match="far enough"):
            popcat.fit(path, output=folder)
    text = (folder / "survey.toml").read_text()
    assert "bright_mag = 16  # chosen by popcat fit" in text and "# Columns of the file:" in text
    assert popcat.load_survey(folder / "survey.toml").redshift_range[1] > 0.6  # farther galaxies are to be inferred


REFUSED = {
    "no file": (lambda folder, path: [folder / "nothing.fits"], "no catalogue"),
    "no columns of fluxes": (lambda folder, path: [bare(folder)], "no pair of columns looks like a flux"),
    "another survey's": (lambda folder, path: [path, "--survey", "gama"], "galaxies.parquet"),
    "no such survey": (lambda folder, path: [path, "--survey", "sdsss"], 'no survey "sdsss"'),
    "no time": (lambda folder, path: [path, "--minutes", "0"], "minutes must be above 0"),
    "no such prior": (lambda folder, path: [path, "--prior", "physicl"], 'did you mean "physical"'),
    "no such proposals": (lambda folder, path: [path, "--proposals", "any"], "expected auto, flow, fitted"),
    "fitted proposals for both priors": (
        lambda folder, path: [path, "--proposals", "fitted", "--prior", "both"], "leave out --prior both"
    ),
}  # fmt: skip


def bare(folder):
    pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}).to_csv(folder / "bare.csv", index=False)
    return folder / "bare.csv"


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_fitted_is_said_in_a_line_and_leaves_nothing(name, catalogue, tmp_path, command):
    path = tmp_path / "galaxies.parquet"
    catalogue.to_parquet(path)
    words, expected = REFUSED[name]
    status, said = command(*words(tmp_path, path), "-o", tmp_path / "out")
    assert status == 2 and said.startswith("Error: ") and said.count("\n") == 1
    assert expected in said
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_table_that_cannot_be_fitted_leaves_nothing(catalogue, survey_file, tmp_path):
    for table, words in ((catalogue.drop(columns="flux_g"), "flux_g"), ([catalogue], "list of paths")):
        with pytest.raises(PopcatError, match=words):
            popcat.fit(table, survey_file, output=tmp_path / "out")
        assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_folder_of_something_else_is_refused(catalogue, tmp_path, command):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    path = tmp_path / "galaxies.parquet"
    catalogue.to_parquet(path)
    status, said = command(path, "-o", tmp_path / "out")
    assert status == 2 and "holds thesis.tex and no fit" in said
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_the_manifest_of_the_posteriors_is_that_of_a_certified_catalogue(fitted):
    manifest = json.loads((fitted[0] / "posteriors" / META / "manifest.json").read_text())
    assert manifest["certify"] is not None and manifest["draws"] == 20

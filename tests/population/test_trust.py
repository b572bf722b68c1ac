"""What to trust of a population: the distance from the data, what a second start changes, the spread of the flows."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from popcat.cli import app
from popcat.errors import PopcatError
from popcat.forward.photometry import Photometry
from popcat.pages.population import report_population
from popcat.population import members, trust
from popcat.population.fit import fit_population
from popcat.population.fitted import load_population
from popcat.population.hierarchical import PosteriorDraws
from popcat.population.members import read_job
from popcat.population.second import first_start, second_job, second_settings, second_start, work_of
from popcat.population.settings import PopulationSettings
from popcat.population.telling import START, WASSERSTEIN, draws_of, draws_until
from popcat.population.trust import BY_START, MEASURED, PARTLY, UNTESTED, standing, statements
from popcat.run.client import SYNCHRONOUS


@pytest.fixture(scope="module")
def twice(fitted, catalogue, survey_file, quick, tmp_path_factory):
    """The population of `fitted` with a fit from the training prior beside it, and the log of that."""
    folder = shutil.copytree(fitted, tmp_path_factory.mktemp("twice") / "population")
    fit(catalogue, survey_file, folder, quick, log=folder / "log.jsonl")
    return folder


def fit(catalogue, survey_file, folder, quick, second=None, **more):
    return fit_population(catalogue, folder, survey=survey_file, cuts=["r<20"], client=SYNCHRONOUS, samples=2000,
                          settings=quick.model_copy(update={"second_start": second}), **more)  # fmt: skip


def test_a_second_fit_is_told_beside_a_population_that_it_does_not_change(twice, fitted):
    first, second = load_population(fitted), load_population(twice)
    assert second.name == first.name
    measured = second.description.measured
    assert (measured["start"], measured["second"]["start"]) == ("physical", "flat")
    assert measured["second"]["distance_over_floor"] > 0.5
    by_name = {row["name"]: row for row in measured["quantities"]}
    assert {"redshift", "log_mstar", "log_ssfr", "tau_ism"} <= set(by_name)
    assert all(row["between_fits"] > 0.0 and row["between_flows"] > 0.0 for row in by_name.values())
    assert by_name["log_mstar"]["between_starts"] > 0.3  # uniform in log mass, and a Schechter function
    assert first.description.measured["second"] is None


def test_galaxies_of_both_starts_are_kept_for_the_figures(twice):
    frame = pd.read_parquet(twice / "starts.parquet")
    assert set(frame["of"]) == {"start", "second start", "second fit"}
    assert (frame["flux_r"] > 10 ** (0.4 * (22.5 - 20.0)) * 0.999).all()
    ages = frame.groupby("of")["log_mstar"].median()
    assert ages.std() > 0.0


def test_a_rerun_reads_the_second_fit_and_another_second_start_is_another(
    twice, catalogue, survey_file, quick, monkeypatch, tmp_path
):
    folder = shutil.copytree(twice, tmp_path / "again")
    monkeypatch.setattr(members, "new_flow", lambda *_: pytest.fail("fitted anew"))
    again = fit(catalogue, survey_file, folder, quick)
    assert again.description.measured["quantities"] == load_population(twice).description.measured["quantities"]
    monkeypatch.setattr(members, "new_flow", lambda *_: 1 / 0)
    other = fit(catalogue, survey_file, folder, quick, second="wide")
    assert other.description.measured["second"] == {"start": "wide", "failure": "ZeroDivisionError: division by zero"}
    (failed,) = [one for one in statements(other.description) if "start" in one.title]
    assert failed.level == "warn" and "ZeroDivisionError" in failed.text
    assert len(other.flows) == 2


def test_a_second_fit_that_is_cut_off_ends_in_the_same_bits(twice, monkeypatch, tmp_path):
    from popcat.population.second import fit_second

    folder = shutil.copytree(twice, tmp_path / "cut")
    (flow,) = (folder / "_fit").glob("second-*.flow")
    whole = flow.read_bytes()
    for path in (folder / "_fit").glob("second-*"):
        if "library" not in path.name:
            path.unlink()
    scores, plain = [], members.WassersteinLoss.score

    def score(self):
        scores.append(1)
        if len(scores) == 3:  # the first after the start
            raise KeyboardInterrupt
        return plain(self)

    monkeypatch.setattr(members.WassersteinLoss, "score", score)
    with pytest.raises(KeyboardInterrupt):
        fit_second(str(folder), "flat", 2)
    monkeypatch.setattr(members.WassersteinLoss, "score", plain)
    assert fit_second(str(folder), "flat", 2)[1] == whole


def test_the_second_start_is_another_than_the_first(fitted):
    job = read_job(fitted)
    photometry = Photometry(job.survey, job.galaxy_model)

    def chosen(**settings):
        made = dataclasses.replace(job, settings=job.settings.model_copy(update=settings))
        return first_start(made), second_start(made, photometry)

    assert chosen(second_start=None) == ("physical", "flat")
    assert chosen(second_start=None, start_prior="flat") == ("flat", "physical")
    assert chosen(second_start="none") == ("physical", None)
    assert chosen(second_start=None, start_steps=0) == ("flat", None)
    with pytest.raises(PopcatError, match="expected another start than the first one"):
        chosen(second_start="physical")
    with pytest.raises(PopcatError, match="nowhere"):
        chosen(second_start="nowhere.toml")


def test_the_second_fit_takes_a_quarter_of_the_steps_and_less_work(fitted):
    job = read_job(fitted)
    second = second_job(job, "flat")
    assert (second.settings.steps, second.settings.start_steps) == (2, 6)
    assert second.digest != job.digest
    assert work_of(job, "flat") == [6 * 200 + 6 * 300, 6 * 200 + 6 * 300, 6 * 200 + 2 * 300]
    assert work_of(job, None) == [3000, 3000]
    whole = PopulationSettings()
    shorter = second_settings(dataclasses.replace(job, settings=whole), "flat")
    one, other = (draws_of([START, WASSERSTEIN], some) for some in (whole, shorter))
    assert other / one == pytest.approx(0.35, abs=0.01)  # as docs/decisions.md says
    growing = draws_until(WASSERSTEIN, job.settings.model_copy(update={"batch": (100, 400), "steps": 3}))
    assert growing.tolist() == [0, 100, 300, 700]
    assert draws_until(START, job.settings)[-1] == 1200


def test_posteriors_are_stacked_under_the_second_start(fitted):
    job = read_job(fitted)
    x = np.random.default_rng(0).standard_normal((3, 4, job.space.n_dim))
    draws = PosteriorDraws.under_prior(x, np.ones((3, 4)))
    posteriors = dataclasses.replace(job, route="hierarchical", galaxies=None, scaling=None, start=None, draws=draws)
    assert first_start(posteriors) == "wide"
    second = second_job(posteriors, "flat")
    assert torch.equal(second.draws.log_start, torch.zeros(3, 4))
    assert torch.equal(second.draws.x, draws.x)
    assert (second.settings.start_steps, second.settings.steps) == (3, 6)
    assert second_job(posteriors, "wide").draws.log_start.std() > 0.0


def test_each_flow_says_how_far_it_is(twice, catalogue, survey_file, quick, tmp_path):
    heard = [json.loads(line) for line in (twice / "log.jsonl").read_text().splitlines()]
    steps = [one["step"] for one in heard if one["event"] == "step_ended"]
    assert steps == ["catalogue", "start", "flows", "distance", "samples"]
    last = [one for one in heard if one["event"] == "flow_at"][-1]
    assert last["flow"] == 2 and last["done"] == 6 * 200 + 2 * 300
    assert last["words"].startswith("second start (flat), photometry: step 2 of 2, loss ")
    assert last["words"].endswith("times sampling noise") and last["facts"]["times_noise"] > 0.3
    assert last["left_s"] == 0.0
    assert [one["flow"] for one in heard if one["event"] == "flow_done"] == [0, 1, 2]


def described(fitted, **measured):
    made = load_population(fitted).description
    return made.model_copy(update={"measured": made.measured | measured})


def quantity(name, fits, starts=1.0, flows=0.02):
    return {"name": name, "p16": 0.0, "p50": 1.0, "p84": 2.0, "width": 1.0, "between_fits": fits,
            "between_starts": starts, "between_flows": flows}  # fmt: skip


def test_a_population_far_from_the_data_says_so_first(fitted):
    far = statements(described(fitted, distance_over_floor=14.0, distance_over_floor_err=0.5))
    assert far[0].level == "fail" and "do not use this population" in far[0].text
    assert "14.00 ± 0.50 times what sampling noise alone would give" in far[0].text
    near = statements(described(fitted, distance_over_floor=1.7))
    good = statements(described(fitted, distance_over_floor=1.2))
    assert [near[0].level, good[0].level] == ["warn", "pass"]


def test_what_differs_between_starts_is_named(fitted):
    rows = [quantity("redshift", 0.01), quantity("log_mstar", 0.2), quantity("log_ssfr", 0.5),
            quantity("tau_ism", 0.05, starts=0.02)]  # fmt: skip
    near, far = {"start": "flat", "distance_over_floor": 1.3}, {"start": "flat", "distance_over_floor": 3.0}
    assert [standing(row, {"second": near}) for row in rows] == [MEASURED, PARTLY, BY_START, UNTESTED]
    assert [standing(row, {"second": far}) for row in rows] == [UNTESTED, PARTLY, BY_START, UNTESTED]
    assert {standing(row, {"second": near, "distance_over_floor": 9.0}) for row in rows} == {UNTESTED}

    def said_of_the_start(**measured):
        made = described(fitted, start="physical", quantities=rows, **measured)
        return next(one for one in statements(made) if "start" in one.title)

    assert "Not tested. Two fits" in said_of_the_start(second=near, distance_over_floor=9.0).text
    unfinished = said_of_the_start(second=far, distance_over_floor=1.2)
    assert "second fit differs from the data by 3.0 times" in unfinished.text
    said = said_of_the_start(second=near, distance_over_floor=1.2)
    assert said.level == "warn"
    assert "started from the training prior instead of the physical prior" in said.text
    assert "30% of the width or more): log_ssfr. Partly: log_mstar. Measured" in said.text
    assert "because the two starts are alike: tau_ism." in said.text


def test_one_flow_has_no_spread_and_says_so(fitted):
    made = described(fitted, quantities=[quantity("redshift", None, None, None)])
    one = made.model_copy(update={"members": made.members[:1]})
    assert any("One flow has no spread" in text for text in map(str, statements(one)))
    two = described(fitted, quantities=[quantity("redshift", None, None, 0.12)])
    expected = "2 flows from different random numbers differ by at most 12%"
    assert any(expected in text for text in map(str, statements(two)))


def test_the_page_begins_with_what_to_trust(twice, fitted, monkeypatch, tmp_path):
    monkeypatch.setattr(trust, "MOST", 1e9)
    page = report_population(twice, tmp_path / "page.html").read_text()
    assert page.index("What to trust") < page.index("data:image/png;base64")
    assert "A second, shorter fit started from the training prior" in page
    assert "Grey: the start of the fit" in page and "Blue bands: the range of the flows" in page
    assert "one flow, 8 steps" in page and "r&lt;20" in page
    without = report_population(fitted, tmp_path / "without.html").read_text()
    assert "There is no fit from a second start" in without


def test_a_population_of_an_older_popcat_has_a_page_too(fitted, tmp_path):
    folder = shutil.copytree(fitted, tmp_path / "older")
    (folder / "starts.parquet").unlink()
    stored = json.loads((folder / "population.json").read_text())
    for name in ("start", "second", "quantities"):
        del stored["measured"][name]
    del stored["settings"]["second_start"]
    (folder / "population.json").write_text(json.dumps(stored))
    assert load_population(folder).name == load_population(fitted).name
    assert "There is no fit from a second start" in report_population(folder, tmp_path / "page.html").read_text()


def test_a_fit_that_is_not_like_the_data_ends_with_3(fitted, catalogue, survey_file, quick, monkeypatch, tmp_path):
    monkeypatch.setattr(trust, "MOST", 0.0)
    folder = shutil.copytree(fitted, tmp_path / "population")
    lines = [f"{key} = {json.dumps(value)}" for key, value in quick.model_dump(exclude_none=True).items()]
    (tmp_path / "fit.toml").write_text("\n".join(lines))
    found = CliRunner().invoke(app, [
        "population", "fit", str(catalogue), "--survey", str(survey_file), "--cut", "r<20", "--settings",
        str(tmp_path / "fit.toml"), "-o", str(folder), "--workers", "1", "--samples", "0", "--json",
    ])  # fmt: skip
    assert found.exit_code == 3, found.output
    said = json.loads(found.stdout)
    assert said["trust"][0]["level"] == "fail"
    assert said["measured"]["distance_over_floor"] > 0.0 and len(said["members"]) == 2
    assert said["trust"][0]["title"] in found.stderr

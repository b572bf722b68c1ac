"""A fit from a catalogue to a folder: members apart, failures left out, cut off and taken up again."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from popcat.errors import PopcatError
from popcat.population import ensemble, members
from popcat.population.cuts import parse_cuts
from popcat.population.fit import fit_population
from popcat.population.fitted import load_population
from popcat.population.jobs import job_of_photometry, job_of_posteriors
from popcat.population.members import fit_member, read_job
from popcat.run.client import SYNCHRONOUS


def fit(catalogue, survey_file, folder, settings, **more):
    options = {"survey": survey_file, "cuts": ["r<20"], "client": SYNCHRONOUS, "samples": 0}
    return fit_population(catalogue, folder, settings=settings, **(options | more))


def test_members_have_other_seeds_and_other_flows(fitted):
    population = load_population(fitted)
    assert [member.seed for member in population.description.members] == [0, 999]
    x = np.zeros((1, population.space.n_dim), dtype=np.float32)
    each = [population.__class__(population.description, (flow,) * 2, population.architecture).log_density(x)
            for flow in population.flows]  # fmt: skip
    assert each[0] != each[1]


def test_a_rerun_reads_what_is_done(fitted, catalogue, survey_file, quick, monkeypatch, tmp_path):
    folder = shutil.copytree(fitted, tmp_path / "again")
    monkeypatch.setattr(members, "new_flow", lambda *_: pytest.fail("fitted anew"))
    again = fit(catalogue, survey_file, folder, quick)
    x = np.zeros((1, again.space.n_dim), dtype=np.float32)
    np.testing.assert_array_equal(again.log_density(x), load_population(fitted).log_density(x))


def test_a_member_that_is_cut_off_ends_in_the_same_bits(fitted, catalogue, survey_file, quick, monkeypatch, tmp_path):
    folder = shutil.copytree(fitted, tmp_path / "cut")
    whole = (folder / "_fit" / "0.flow").read_bytes()
    for name in ("0.flow", "0.json", "0-start.safetensors", "0-wasserstein.safetensors"):
        (folder / "_fit" / name).unlink()
    scores, plain = [], members.WassersteinLoss.score

    def score(self):
        scores.append(1)
        if len(scores) == 3:  # the first of the Wasserstein stage
            raise KeyboardInterrupt
        return plain(self)

    monkeypatch.setattr(members.WassersteinLoss, "score", score)
    with pytest.raises(KeyboardInterrupt):
        fit_member(str(folder), 0)
    monkeypatch.setattr(members.WassersteinLoss, "score", plain)
    _, content = fit_member(str(folder), 0)
    assert content == whole


def test_a_member_that_fails_is_said_and_left_out(fitted, catalogue, survey_file, quick, monkeypatch, tmp_path):
    folder, plain, said = shutil.copytree(fitted, tmp_path / "failing"), fit_member, []

    def failing(output, number, device="cpu"):
        if number == 0:
            raise RuntimeError("the node is gone")
        return plain(output, number, device)

    monkeypatch.setattr("popcat.population.fit.fit_member", failing)
    population = fit(catalogue, survey_file, folder, quick, report=said.append)
    first, second = population.description.members
    assert "the node is gone" in first.failure
    assert first.weight == 0.0
    assert second.weight == 1.0
    assert len(population.flows) == 1
    assert any("FAILED" in text for text in said)
    assert load_population(folder).draw(10)[0].shape == (10, population.space.n_dim)


def test_when_all_fail_the_first_reason_is_given(catalogue, survey_file, quick, monkeypatch, tmp_path):
    def failing(*_):
        raise RuntimeError("the node is gone")

    monkeypatch.setattr("popcat.population.fit.fit_member", failing)
    with pytest.raises(PopcatError, match="none of 2 flows could be fitted: RuntimeError: the node is gone"):
        fit(catalogue, survey_file, tmp_path / "none", quick)


def test_other_settings_are_another_fit(fitted, catalogue, survey_file, quick, tmp_path):
    folder = shutil.copytree(fitted, tmp_path / "other")
    before = {path.name: path.read_bytes() for path in (folder / "_fit").iterdir()}
    with pytest.raises(PopcatError, match="other galaxies, cuts or settings"):
        fit(catalogue, survey_file, folder, quick.model_copy(update={"power": 2}))
    with pytest.raises(PopcatError, match="other galaxies, cuts or settings"):
        fit(catalogue, survey_file, folder, quick, cuts=["r<19"])
    assert {path.name: path.read_bytes() for path in (folder / "_fit").iterdir()} == before


def test_a_start_prior_that_was_edited_is_another_fit(catalogue, survey_file, quick, tmp_path):
    prior = tmp_path / "start.toml"
    prior.write_text('[tau_ism]\nfamily = "exponential"\nscale = 0.3\n')
    settings = quick.model_copy(update={"members": 1, "steps": 1, "start_prior": str(prior)})
    fit(catalogue, survey_file, tmp_path / "made", settings)
    prior.write_text('[tau_ism]\nfamily = "exponential"\nscale = 0.6\n')
    with pytest.raises(PopcatError, match="other galaxies, cuts or settings"):
        fit(catalogue, survey_file, tmp_path / "made", settings)


def test_a_file_is_no_folder_for_a_population(catalogue, survey_file, quick, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PopcatError, match="is a file"):
        fit(catalogue, survey_file, tmp_path / "file", quick)


def test_noise_of_another_survey_is_refused(catalogue, survey_file, quick, tmp_path):
    from popcat.forward.noise import default_noise
    from popcat.survey import load_survey

    with pytest.raises(PopcatError, match="fit the noise of this survey"):
        fit(catalogue, survey_file, tmp_path / "x", quick, noise=default_noise(load_survey("galex_sdss_2mass")))


def test_redshifts_outside_the_survey_are_unknown_and_said(catalogue, survey_file, quick, tmp_path):
    from popcat.galaxy_model import GalaxyModel
    from popcat.io.reading import read_catalog
    from popcat.survey import load_survey

    frame, said = read_catalog(catalogue, survey_file).compute(), []
    frame.loc[frame.index[:20], "redshift"] = -9.99
    settings = quick.model_copy(update={"redshifts": "distribution"})
    job = job_of_photometry(frame, load_survey(survey_file), GalaxyModel(), ["r<20"], settings, report=said.append)
    known = job.galaxies.redshift[np.isfinite(job.galaxies.redshift)]
    assert known.min() > 0
    assert len(known) < len(job.galaxies)
    assert any("20 redshifts outside 0.001 to 0.6" in text for text in said)
    assert any("1 lack a band" in text for text in said)
    by_distance = quick.model_copy(update={"redshifts": "distance"})
    job = job_of_photometry(frame, load_survey(survey_file), GalaxyModel(), ["r<20"], by_distance, report=said.append)
    assert f"{len(job.galaxies):,} of {len(frame):,} galaxies are fitted" in said[-1]
    with pytest.raises(PopcatError, match='leave out redshifts = "distance"'):
        job_of_photometry(frame.assign(redshift=np.nan), load_survey(survey_file), GalaxyModel(), [], by_distance)


def test_populations_that_differ_beyond_the_cuts_alone_are_equally_probable(fitted, monkeypatch):
    """One has half its galaxies beyond the cuts; the other is what is left of it, twice as dense."""
    job = read_job(fitted)
    job = dataclasses.replace(job, route="hierarchical", draws=np.zeros(100))
    evidence = torch.linspace(-3.0, 2.0, 10)
    monkeypatch.setattr(ensemble, "log_evidence", lambda flow, draws: evidence + np.log(flow))
    monkeypatch.setattr(ensemble, "seen_share", lambda flow, *_: torch.tensor(flow))
    weights = ensemble._weights(job, [], [0.5, 1.0])
    seen = weights * [0.5, 1.0]
    np.testing.assert_allclose(seen / seen.sum(), 0.5, atol=1e-6)


def test_too_few_galaxies_are_said(catalogue, survey_file, quick, tmp_path):
    with pytest.raises(PopcatError, match="cuts: r<12"):
        fit(catalogue, survey_file, tmp_path / "few", quick, cuts=["r<12"])


def test_known_redshifts_are_a_further_dimension_on_demand(catalogue, survey_file, quick):
    from popcat.galaxy_model import GalaxyModel
    from popcat.io.reading import read_catalog
    from popcat.survey import load_survey

    frame = read_catalog(catalogue, survey_file).compute()
    settings = quick.model_copy(update={"redshifts": "distance"})
    job = job_of_photometry(frame, load_survey(survey_file), GalaxyModel(), [], settings)
    assert job.scaling.names(job.survey.band_names)[-1] == "redshift"


def test_too_few_known_redshifts_are_said(catalogue, survey_file, quick, tmp_path):
    frame = pd.read_parquet(catalogue)
    frame.loc[100:, "redshift"] = np.nan
    frame.to_parquet(tmp_path / "some.parquet")
    settings = quick.model_copy(update={"redshifts": "distribution"})
    expected = r"\d+ galaxies that pass the cuts have a redshift in the survey's range; expected at least 200"
    with pytest.raises(PopcatError, match=expected):
        fit(tmp_path / "some.parquet", survey_file, tmp_path / "few", settings)


def test_redshifts_of_some_galaxies_are_data_on_demand(catalogue, survey_file, quick, tmp_path):
    frame = pd.read_parquet(catalogue)
    frame.loc[300:, "redshift"] = np.nan
    frame.to_parquet(tmp_path / "some.parquet")
    settings = quick.model_copy(update={"redshifts": "distribution", "members": 1})
    fit(tmp_path / "some.parquet", survey_file, tmp_path / "known", settings)
    known = read_job(tmp_path / "known").galaxies.redshift
    assert 200 < np.isfinite(known).sum() < len(known)


def test_posteriors_take_no_redshifts_beside_their_own(tmp_path, quick):
    with pytest.raises(PopcatError, match="posteriors have the known redshifts in them"):
        job_of_posteriors(tmp_path, [], quick.model_copy(update={"redshifts": "distance"}))


def test_error_floors_are_no_scatter_unless_asked_for(catalogue, survey_file, quick, tmp_path):
    text = survey_file.read_text().replace('flux = "flux_r"', 'error_floor = 0.3\nflux = "flux_r"')
    (tmp_path / "floors.toml").write_text(text)
    few = quick.model_copy(update={"members": 1, "steps": 1, "start_steps": 0})
    fit(catalogue, tmp_path / "floors.toml", tmp_path / "ignored", few)
    fit(catalogue, tmp_path / "floors.toml", tmp_path / "scatter", few.model_copy(update={"error_floors": "scatter"}))
    errors = {}
    for name in ("ignored", "scatter"):
        galaxies = read_job(tmp_path / name).galaxies
        errors[name] = (galaxies.err / galaxies.flux)[:, 2]
    assert errors["scatter"].min() > 0.29
    np.testing.assert_allclose(np.hypot(errors["ignored"], 0.3), errors["scatter"], rtol=1e-4)
    assert read_job(tmp_path / "ignored").survey.bands[2].error_floor == 0.3


def test_the_noise_is_the_catalogues_own_and_not_widened(fitted, catalogue):
    noise = read_job(fitted).noise
    assert noise.n_galaxies < 500
    assert not noise.is_nominal
    assert json.loads((fitted / "population.json").read_text())["noise"]["n_galaxies"] == noise.n_galaxies


def test_without_a_start_the_flow_begins_at_the_training_prior(catalogue, survey_file, quick, tmp_path):
    settings = quick.model_copy(update={"members": 1, "start_steps": 0})
    fit(catalogue, survey_file, tmp_path / "prior", settings)
    assert read_job(tmp_path / "prior").start is None


def test_a_population_fits_on_dask_workers_too(fitted, catalogue, survey_file, quick, tmp_path):
    folder = shutil.copytree(fitted, tmp_path / "dask")
    again = fit(catalogue, survey_file, folder, quick, client=None, workers=1)
    assert len(again.flows) == 2


def test_a_rerun_does_not_make_the_start_again(fitted, catalogue, survey_file, quick, monkeypatch, tmp_path):
    folder = shutil.copytree(fitted, tmp_path / "known")
    monkeypatch.setattr("popcat.population.members.unfold", lambda *_: pytest.fail("made again"))
    larger = fit(catalogue, survey_file, folder, quick.model_copy(update={"members": 3}))
    assert [member.number for member in larger.description.members] == [0, 1, 2]
    first, second = load_population(fitted).description.members, larger.description.members
    assert first[0].score == second[0].score


def test_members_are_measured_on_galaxies_of_their_own(fitted):
    job, population = read_job(fitted), load_population(fitted)
    first, second = (ensemble._synthetic(population.flows[0], job, job.synthesis(), 200, seed)[0] for seed in (0, 1))
    assert len(first) > 20
    assert not np.isin(first[:, 0], second[:, 0]).any()


def test_as_many_galaxies_are_measured_however_few_are_selected(fitted, monkeypatch):
    job, population, half = read_job(fitted), load_population(fitted), np.array([0.5, 0.5])
    synthesis = job.synthesis()
    synthesis.cuts = parse_cuts(["r<18"], job.survey.band_names)
    features, share = ensemble._sample(population.flows, half, job, synthesis, 400, 0)
    assert len(features) == 400
    assert 0.0 < share < 0.4
    monkeypatch.setattr(ensemble, "_MOST_TURNS", 2)
    synthesis.cuts = parse_cuts(["r<1"], job.survey.band_names)
    with pytest.raises(PopcatError, match="none of its galaxies"):
        ensemble._sample(population.flows, half, job, synthesis, 400, 0)

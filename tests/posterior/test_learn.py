"""A library becomes a posterior: what is observed passes the selection, and nothing else decides."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch

from popcat.catalog.parts import OutputFolder
from popcat.errors import PopcatError
from popcat.flows.settings import Training
from popcat.forward.noise import add_noise
from popcat.forward.properties import forward_for, forward_hashes
from popcat.posterior.library import LibraryArrays, memory_source, observe, open_library, write_library_part
from popcat.posterior.posterior import load_posterior
from popcat.posterior.simulated import draw_inside
from popcat.posterior.training import CHECKPOINTS, STEPS, train, train_posterior
from popcat.prior import make_prior
from popcat.survey import Selection
from popcat.units import nmgy_to_ab_mag

TRAINING = Training(hidden=16, n_blocks=2, n_layers=1, batch=64, learning_rate=1e-2, max_epochs=2, redshift_epochs=2,
                    redshift_hidden=16, seed=5)  # fmt: skip


def narrowed(survey, **changes):
    selection = Selection.model_validate(survey.selection.model_dump() | changes)
    return survey.model_copy(update={"selection": selection})


def test_a_library_is_in_unconstrained_space(library, model):
    theta = make_prior(model).from_unconstrained(library.unconstrained.astype(float))
    assert library.unconstrained.dtype == np.float32
    assert make_prior(model).contains(theta).all()
    np.testing.assert_allclose(library.unconstrained.std(axis=0), 1.0, atol=0.06)


def test_parameters_on_the_edge_of_the_prior_stay_within_six_sigma(library, model):
    prior = make_prior(model)
    theta = np.vstack([prior.from_unit(np.zeros((1, 11))), prior.from_unit(np.ones((1, 11)))]).astype(np.float32)
    edge = LibraryArrays.from_theta(theta, np.full(2, 0.1), np.ones((2, 5)), model)
    assert np.abs(edge.unconstrained).max() == 6.0


def test_rows_of_a_library_are_a_library(library):
    part = library[10:20]
    assert len(part) == 10
    assert np.array_equal(part.flux, library.flux[10:20])


def test_only_galaxies_that_pass_the_cut_on_the_observed_magnitude_are_seen(library, survey, noise):
    cut = narrowed(survey, bright_mag=17.0, faint_mag=19.5)
    flux, err, rows = observe(library, cut, noise, (0,))
    mag = nmgy_to_ab_mag(flux[:, 2])
    assert 0 < len(rows) < len(library) and len(flux) == len(err) == len(rows)
    assert mag.min() >= 17.0 and mag.max() <= 19.5
    true_mag = nmgy_to_ab_mag(library.flux[rows, 2])
    assert true_mag.max() > 19.5 or true_mag.min() < 17.0


def test_all_galaxies_that_pass_are_seen_with_their_own_noise(library, survey, noise):
    flux, err, rows = observe(library, survey, noise, (4, 2))
    normals = np.random.default_rng((4, 2)).standard_normal((len(library), 10))
    all_flux, all_err = add_noise(library.flux, noise, normals)
    with np.errstate(invalid="ignore"):
        mag = nmgy_to_ab_mag(all_flux[:, 2])
    expected = np.flatnonzero((mag >= survey.selection.bright_mag) & (mag <= survey.selection.faint_mag))
    assert np.array_equal(rows, expected)
    assert np.array_equal(flux, all_flux[expected]) and np.array_equal(err, all_err[expected])


def test_negative_fluxes_outside_the_selection_band_are_kept(library, survey, noise):
    flux, _, rows = observe(library, narrowed(survey, faint_mag=25.0), noise, (0,))
    assert (flux[:, 0] < 0).sum() > 10
    assert (flux[:, 2] > 0).all()
    assert len(np.unique(rows)) == len(rows)


def test_noise_is_drawn_anew_for_every_seed(library, survey, noise):
    first, again, other = (observe(library, survey, noise, seed) for seed in ((0, 1), (0, 1), (0, 2)))
    assert np.array_equal(first[0], again[0])
    common = np.intersect1d(first[2], other[2])
    assert len(common) > 100
    assert not np.isin(first[0], other[0]).any()


def test_a_library_on_disk_is_the_one_in_memory(survey, model, noise, tmp_path):
    """Its bands above all: the manifest is sorted JSON, and the bands of a survey are not in alphabetical order."""
    bands = {name: noise.bands[name].model_copy(update={"scatter": (0.1 * i, 0.1 * i)})
             for i, name in enumerate(survey.band_names, start=1)}
    uneven = noise.model_copy(update={"bands": bands})
    made = {"survey": survey, "galaxy_model": model, "noise": uneven}
    fingerprint = {key: value.model_dump(mode="json") for key, value in made.items()} | {"seed": 3, "grid": "a grid"}
    folder = OutputFolder.open(tmp_path / "library", fingerprint, 2, kind="library")
    for i in range(2):
        write_library_part(folder, i, 10 * i, 10 * i + 10, survey, model, uneven, 3)
    folder.finish()
    opened = open_library(tmp_path / "library")
    assert (opened.survey, opened.galaxy_model) == (survey, model)
    assert list(opened.noise.bands.items()) == list(bands.items())
    theta, redshift = draw_inside(np.arange(20), survey, model, uneven, 3)
    loaded = opened.load()
    again = make_prior(model).from_unconstrained(loaded.unconstrained.astype(float))
    np.testing.assert_allclose(again, theta, atol=1e-4)
    np.testing.assert_array_equal(loaded.redshift, redshift)
    flux = forward_for(survey, model).photometry.flux(theta, redshift)
    np.testing.assert_array_equal(loaded.flux, flux.astype(np.float32))


@pytest.fixture
def on_disk(survey, model, noise, tmp_path):
    """Eight parts of 500 galaxies."""
    made = {"survey": survey, "galaxy_model": model, "noise": noise}
    fingerprint = {key: value.model_dump(mode="json") for key, value in made.items()} | {"seed": 3}
    fingerprint |= forward_hashes(survey, model)
    folder = OutputFolder.open(tmp_path / "library", fingerprint, 8, kind="library")
    for i in range(8):
        write_library_part(folder, i, 500 * i, 500 * i + 500, survey, model, noise, 3)
    folder.finish()
    return tmp_path / "library"


def test_a_library_larger_than_memory_is_read_in_shards_that_hold_each_galaxy_once(on_disk, monkeypatch):
    from popcat.posterior import library as module

    monkeypatch.setattr(module, "SHARD_GALAXIES", 1000)
    opened = open_library(on_disk)
    streamed, whole = opened.source(0.1, max_in_memory=100), opened.source(0.1)
    shards = list(streamed.shards())
    assert [len(shard) for shard in shards] == [1000, 1000, 1000, 500]
    assert streamed.n == 3500 and len(streamed.held_out) == 500
    assert whole.n == 3600 and len(whole.held_out) == 400
    together = np.concatenate([shard.redshift for shard in [*shards, streamed.held_out]])
    assert np.array_equal(together, opened.load().redshift)
    assert [len(shard) for shard in streamed.shards()] == [len(shard) for shard in shards]


def test_a_library_of_one_part_too_large_for_memory_is_refused(on_disk):
    opened = open_library(on_disk)
    one = opened.manifest.parts[0].model_copy(update={"rows": 4000})
    single = dataclasses.replace(opened, manifest=opened.manifest.model_copy(update={"rows": 4000, "parts": [one]}))
    with pytest.raises(PopcatError, match="too large to be read one at a time"):
        single.source(0.1, max_in_memory=100)


def test_training_from_shards_works_and_leaves_no_checkpoints(on_disk, tmp_path, monkeypatch):
    from popcat.posterior import library as module

    monkeypatch.setattr(module, "MAX_IN_MEMORY", 100)
    monkeypatch.setattr(module.Library.source, "__kwdefaults__", {"max_in_memory": 100})
    monkeypatch.setattr(module, "SHARD_GALAXIES", 2000)
    monkeypatch.setattr("popcat.posterior.training._MIN_GALAXIES", 500)
    (history,) = train(on_disk, tmp_path / "model", settings=TRAINING).provenance["history"]
    assert history["validation"][-1] > -17 and len(history["train"]) == 2
    assert (tmp_path / "model" / "loss.png").is_file()
    assert not (tmp_path / "model" / CHECKPOINTS).exists()


def test_a_training_that_was_cut_off_goes_on_to_the_same_weights(on_disk, tmp_path):
    whole = train(on_disk, tmp_path / "whole", settings=TRAINING)

    def stop(epoch, history):
        raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            train(on_disk, tmp_path / "cut", settings=TRAINING, report=stop)
    again = train(on_disk, tmp_path / "cut", settings=TRAINING)
    for ours, theirs in zip(again.flows[0].parameters(), whole.flows[0].parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(again.redshift_density.parameters(), whole.redshift_density.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_an_ensemble_is_a_mixture_of_different_flows(on_disk, tmp_path, observed):
    two = TRAINING.model_copy(update={"members": 2})
    posterior = train(on_disk, tmp_path / "model", settings=two)
    assert len(posterior.flows) == len(posterior.provenance["history"]) == 2
    first, second = (next(flow.parameters()) for flow in posterior.flows)
    assert not torch.equal(first, second)
    draws = load_posterior(tmp_path / "model").sample(observed, 50, 1)
    members = [dataclasses.replace(posterior, flows=(flow,)).sample(observed, 50, 1).theta for flow in posterior.flows]
    of_first, of_second = (np.isclose(draws.theta, theta, atol=1e-3).all(axis=2) for theta in members)
    assert np.all(of_first | of_second) and 0.4 < of_first.mean() < 0.6


def test_a_device_that_is_not_there_is_refused_before_a_folder_is_begun(on_disk, tmp_path):
    with pytest.raises(PopcatError, match='no device "gpu"'):
        train(on_disk, tmp_path / "model", settings=TRAINING, device="gpu")
    assert not (tmp_path / "model").exists()


def test_members_trained_on_a_cluster_are_those_trained_here(on_disk, tmp_path, cluster):
    two = TRAINING.model_copy(update={"members": 2})
    here = train(on_disk, tmp_path / "here", settings=two)
    there = train(on_disk, tmp_path / "there", settings=two, client=cluster({}, {}), log=tmp_path / "log")
    for ours, theirs in zip(here.flows, there.flows, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    events = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [one["step"] for one in events if one["event"] == "step_ended"] == list(STEPS)
    told = [one for one in events if one["event"] == "member_at"]
    assert {one["member"] for one in told} <= {0, 1} and told[-1]["words"].startswith("flow ")
    assert told[-1]["facts"]["validation"] in [score for flow in there.provenance["history"]
                                               for score in flow["validation"]]  # fmt: skip


def test_a_training_shows_its_steps_and_the_time_that_is_left(on_disk, tmp_path, capsys):
    train(on_disk, tmp_path / "model", settings=TRAINING, progress=True)
    said = " ".join(capsys.readouterr().err.split())
    assert "step 1 of 3: training the redshift density; about" in said
    assert "step 2 of 3: training 1 flow; about" in said


def test_a_library_travels_as_its_folder_and_one_in_memory_not_at_all(on_disk):
    source = open_library(on_disk).source(0.1)
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.held_out.flux, source.held_out.flux)
    with pytest.raises(PopcatError, match="cannot be sent to workers"):
        pickle.dumps(memory_source(source.held_out, 0.1))


def test_a_catalogue_is_not_a_library(tmp_path):
    OutputFolder.open(tmp_path / "catalogue", {}, 0, kind="posterior").finish()
    with pytest.raises(PopcatError, match="holds posterior: expected a library, a folder that `popcat simulate` wrote"):
        open_library(tmp_path / "catalogue")


def test_training_records_what_it_did(trained, library):
    posterior, history = trained
    assert len(history.validation) == 2
    assert posterior.provenance["made_by"] == "a test"
    assert posterior.provenance["n_library"] == len(library)
    assert posterior.provenance["training"]["seed"] == 5
    assert posterior.provenance["validation_log_prob"] == [max(history.validation)]


def test_training_beats_the_prior(trained):
    """Under the prior the parameters are standard normal: log p = -11/2 (1 + ln 2 pi) = -15.6 nats."""
    assert trained[1].validation[-1] > -5.5 * (1 + np.log(2 * np.pi)) + 0.3


def test_training_twice_gives_the_same_weights(trained, library, survey, model, noise):
    settings = Training.model_validate(trained[0].provenance["training"])
    again, _ = train_posterior(library, survey, model, noise, settings, provenance={})
    for name, value in again.flows[0].state_dict().items():
        assert np.array_equal(value, trained[0].flows[0].state_dict()[name])


def test_too_few_galaxies_within_the_selection_are_refused(library, survey, model, noise):
    with pytest.raises(PopcatError, match=r"at least 1000 .*\(r 8.0 to 9.0 mag\), got [0-9] of 2850"):
        train_posterior(library, narrowed(survey, faint_mag=9.0), model, noise, Training(), provenance={})


def test_a_validation_set_without_galaxies_is_refused(library, survey, model, noise):
    settings = Training(validation_fraction=1e-5, redshift_epochs=1)
    with pytest.raises(PopcatError, match=r"none of 0 galaxies held out .* raise validation_fraction \(1e-05\)"):
        train_posterior(library, survey, model, noise, settings, provenance={})

"""A frozen posterior samples inside its prior, the same everywhere, and is refused if anything in it changed."""

import json
import shutil

import numpy as np
import pytest
import safetensors.torch

from popcat.errors import PopcatError
from popcat.inference import posterior as posterior_module
from popcat.inference.posterior import load_posterior, posterior_folder, save_posterior


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "deep" / "posterior"
    return folder, save_posterior(trained[0], folder)


@pytest.fixture
def copy(saved, tmp_path, monkeypatch):
    """A copy to damage, and no posterior in memory."""
    monkeypatch.setattr(posterior_module, "_loaded", type(posterior_module._loaded)())
    return shutil.copytree(saved[0], tmp_path / "copy")


def edit(folder, **changes):
    stored = json.loads((folder / "posterior.json").read_text())
    (folder / "posterior.json").write_text(json.dumps(stored | changes))


def refused(folder, message):
    with pytest.raises(PopcatError, match=message) as caught:
        load_posterior(folder)
    assert "\n" not in str(caught.value)


def test_draws_are_inside_the_prior_and_of_the_right_shape(trained, observed):
    posterior = trained[0]
    theta, log_q = posterior.sample(*observed, 50, 1)
    assert theta.shape == (40, 50, 12) and theta.dtype == np.float64
    assert log_q.shape == (40, 50) and np.isfinite(log_q).all()
    assert posterior.prior.contains(theta.reshape(-1, 12)).all()


def test_draws_stay_inside_the_prior_for_absurd_photometry(trained, observed):
    posterior, (flux, err, redshift, object_id) = trained[0], observed
    theta, _ = posterior.sample(-1e6 * flux, 1e-3 * err, redshift, object_id, 20, 1)
    assert posterior.prior.contains(theta.reshape(-1, 12)).all()


def test_a_galaxy_alone_has_the_draws_it_has_in_a_batch(trained, observed):
    posterior = trained[0]
    together = posterior.prior.to_unconstrained(posterior.sample(*observed, 30, 1)[0].reshape(-1, 12))
    for i in (0, 17, 39):
        alone, _ = posterior.sample(*(values[i : i + 1] for values in observed), 30, 1)
        w = posterior.prior.to_unconstrained(alone.reshape(-1, 12))
        np.testing.assert_allclose(w, together[30 * i : 30 * i + 30], rtol=0, atol=1e-4)


def test_more_draws_begin_with_the_fewer(trained, observed):
    few, many = (trained[0].sample(*observed, n, 1)[0] for n in (5, 25))
    np.testing.assert_allclose(many[:, :5], few, rtol=0, atol=1e-3)


def test_another_seed_or_another_identifier_gives_other_draws(trained, observed):
    flux, err, redshift, object_id = observed
    first = trained[0].sample(flux, err, redshift, object_id, 5, 1)[0]
    assert not np.isin(trained[0].sample(flux, err, redshift, object_id, 5, 2)[0], first).any()
    assert not np.isin(trained[0].sample(flux, err, redshift, object_id + 1, 5, 1)[0], first).any()


def test_log_q_is_the_density_of_the_flow(trained, observed):
    import torch

    posterior = trained[0]
    theta, log_q = posterior.sample(*observed, 10, 1)
    w = torch.from_numpy(posterior.prior.to_unconstrained(theta.reshape(-1, 12))).float()
    context = torch.from_numpy(posterior.features(*observed[:3])).repeat_interleave(10, dim=0)
    with torch.no_grad():
        expected = posterior.flow.log_prob(w, context).numpy()
    # theta has lost the digits of what lies further out
    common = (w.abs() < 5).all(1).numpy()
    assert common.mean() > 0.9
    np.testing.assert_allclose(log_q.ravel()[common], expected[common], atol=2e-3)


def test_no_galaxies_give_no_draws(trained, observed):
    theta, log_q = trained[0].sample(*(values[:0] for values in observed), 7, 1)
    assert theta.shape == (0, 7, 12) and log_q.shape == (0, 7)


def test_a_saved_posterior_gives_the_same_draws(trained, saved, observed):
    loaded = load_posterior(saved[0])
    assert np.array_equal(loaded.sample(*observed, 20, 3)[0], trained[0].sample(*observed, 20, 3)[0])
    assert (loaded.survey, loaded.model, loaded.noise) == (trained[0].survey, trained[0].model, trained[0].noise)
    assert loaded.provenance == trained[0].provenance


def test_the_name_is_the_hash_of_the_description(trained, saved, tmp_path):
    folder, name = saved
    assert load_posterior(folder).name == name
    assert len(name) == 64
    assert save_posterior(trained[0], tmp_path / "again") == name


def test_a_posterior_is_two_files_and_no_pickle(saved):
    assert sorted(path.name for path in saved[0].iterdir()) == ["flow.safetensors", "posterior.json"]
    json.loads((saved[0] / "posterior.json").read_text())
    safetensors.torch.load((saved[0] / "flow.safetensors").read_bytes())


def test_a_posterior_is_loaded_once(saved, copy):
    assert load_posterior(saved[0]) is load_posterior(str(copy))


def test_only_a_few_posteriors_stay_in_memory(copy):
    for i in range(6):
        edit(copy, provenance={"number": i})
        assert load_posterior(copy).provenance == {"number": i}
    assert len(posterior_module._loaded) == posterior_module._MAX_LOADED


def test_tampered_weights_are_refused_by_their_hash(copy):
    weights = bytearray((copy / "flow.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "flow.safetensors").write_bytes(weights)
    refused(copy, r"flow.safetensors is not the one it was saved with \(SHA-256 .* expected .*\): copy the folder")


def test_missing_weights_are_refused(copy):
    (copy / "flow.safetensors").unlink()
    refused(copy, r"has no flow.safetensors: copy the whole folder again")


@pytest.mark.parametrize("number", [0, 99, None])
def test_another_format_is_refused(copy, number):
    edit(copy, format=number)
    refused(copy, rf"has format {number}; this popcat reads \d+: train it again")


DAMAGE = {
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:100]), "posterior.json is damaged"),
    "a list": (lambda path: path.write_text("[]"), "posterior.json is damaged"),
    "not text": (lambda path: path.write_bytes(b"\xff\xfe"), "posterior.json is damaged"),
    "no features": (lambda path: edit(path.parent, features={}), "posterior.json is damaged"),
    "no survey": (lambda path: edit(path.parent, survey=None), "posterior.json is damaged: survey"),
    "unknown key": (lambda path: edit(path.parent, colour=1), "posterior.json is damaged: colour"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_description_is_refused_in_one_line(copy, case):
    damage, message = DAMAGE[case]
    damage(copy / "posterior.json")
    refused(copy, message)


def test_a_folder_without_a_posterior_says_what_writes_one(tmp_path):
    with pytest.raises(PopcatError, match=r'no model ".*": expected a folder that `popcat train` wrote'):
        posterior_folder(tmp_path)


def test_a_torn_folder_has_no_posterior(copy):
    (copy / "posterior.json").unlink()
    refused(copy, r"no model .*it holds posterior.json")

"""A frozen posterior samples inside its prior, the same everywhere, and is refused if anything in it changed."""

import json
import shutil
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
import safetensors.torch

from popcat.errors import PopcatError
from popcat.galaxies import chi2_of, observation
from popcat.io.reading import read_catalog
from popcat.posterior import posterior as posterior_module
from popcat.posterior.locations import posterior_folder
from popcat.posterior.posterior import load_posterior, save_posterior


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
    draws = posterior.sample(observed, 50, 1)
    assert draws.theta.shape == (40, 50, 12) and draws.theta.dtype == np.float64
    for values in (draws.redshift, draws.log_q, draws.log_prior):
        assert values.shape == (40, 50) and np.isfinite(values).all()
    assert posterior.prior.contains(draws.theta.reshape(-1, 12)).all()


def test_draws_stay_inside_the_prior_for_absurd_photometry(trained, observed):
    posterior = trained[0]
    absurd = replace(observed, flux=-1e6 * observed.flux, flux_err=1e-3 * observed.flux_err)
    theta = posterior.sample(absurd, 20, 1).theta
    assert posterior.prior.contains(theta.reshape(-1, 12)).all()


def test_a_galaxy_alone_has_the_draws_it_has_in_a_batch(trained, observed):
    posterior = trained[0]
    together = posterior.prior.to_unconstrained(posterior.sample(observed, 30, 1).theta.reshape(-1, 12))
    for i in (0, 17, 39):
        alone = posterior.sample(observed[i : i + 1], 30, 1).theta
        w = posterior.prior.to_unconstrained(alone.reshape(-1, 12))
        np.testing.assert_allclose(w, together[30 * i : 30 * i + 30], rtol=0, atol=1e-4)


def test_more_draws_begin_with_the_fewer(trained, observed):
    few, many = (trained[0].sample(observed, n, 1).theta for n in (5, 25))
    np.testing.assert_allclose(many[:, :5], few, rtol=0, atol=1e-3)


def test_another_seed_or_another_identifier_gives_other_draws(trained, observed):
    first = trained[0].sample(observed, 5, 1).theta
    other = replace(observed, object_id=observed.object_id + 1)
    assert not np.isin(trained[0].sample(observed, 5, 2).theta, first).any()
    assert not np.isin(trained[0].sample(other, 5, 1).theta, first).any()


def test_log_q_is_the_density_of_the_flow(trained, observed):
    import torch

    posterior = trained[0]
    draws = posterior.sample(observed, 10, 1)
    theta, log_q = draws.theta, draws.log_q
    w = torch.from_numpy(posterior.prior.to_unconstrained(theta.reshape(-1, 12))[:, 1:]).float()
    context = posterior.features(observed.flux, observed.flux_err, observed.redshift)
    context = torch.from_numpy(context).repeat_interleave(10, dim=0)
    with torch.no_grad():
        expected = posterior.flows[0].log_prob(w, context).numpy()
    # theta has lost the digits of what lies further out
    common = (w.abs() < 5).all(1).numpy()
    assert common.mean() > 0.9
    np.testing.assert_allclose(log_q.ravel()[common], expected[common], atol=2e-3)
    normal = -0.5 * (w.double() ** 2).sum(1).numpy() - 5 * np.log(2 * np.pi)
    np.testing.assert_allclose(draws.log_prior.ravel()[common], normal[common], atol=2e-3)


def test_no_galaxies_give_no_draws(trained, observed):
    draws = trained[0].sample(observed[:0], 7, 1)
    assert draws.theta.shape == (0, 7, 12) and draws.log_q.shape == draws.redshift.shape == (0, 7)


def test_a_saved_posterior_gives_the_same_draws(trained, saved, observed):
    loaded = load_posterior(saved[0])
    hidden = replace(observed, redshift=np.full(40, np.nan))
    for given in (observed, hidden):
        ours, theirs = trained[0].sample(given, 20, 3), loaded.sample(given, 20, 3)
        assert np.array_equal(ours.theta, theirs.theta) and np.array_equal(ours.redshift, theirs.redshift)
    tails = [p.support.tails(observed.flux, observed.flux_err, observed.redshift) for p in (loaded, trained[0])]
    np.testing.assert_array_equal(*tails)
    for name in ("survey", "galaxy_model", "noise"):
        assert getattr(loaded, name) == getattr(trained[0], name)
    assert loaded.provenance == trained[0].provenance


def test_the_name_is_the_hash_of_the_description(trained, saved, tmp_path):
    folder, name = saved
    assert load_posterior(folder).name == name
    assert len(name) == 64
    assert save_posterior(trained[0], tmp_path / "again") == name


def test_a_posterior_is_safetensors_and_json_and_no_pickle(saved):
    weights = ["flow.safetensors", "redshift.safetensors", "support.safetensors"]
    assert sorted(path.name for path in saved[0].iterdir()) == sorted([*weights, "posterior.json"])
    assert set(json.loads((saved[0] / "posterior.json").read_text())["files"]) == set(weights)
    for name in weights:
        safetensors.torch.load((saved[0] / name).read_bytes())


def test_a_posterior_is_loaded_once(saved, copy):
    assert load_posterior(saved[0]) is load_posterior(str(copy))


def test_only_a_few_posteriors_stay_in_memory(copy):
    for i in range(6):
        edit(copy, provenance={"number": i})
        assert load_posterior(copy).provenance == {"number": i}
    assert len(posterior_module._loaded) == posterior_module._MAX_LOADED


WEIGHTS = ["flow.safetensors", "redshift.safetensors", "support.safetensors"]


@pytest.mark.parametrize("name", WEIGHTS)
def test_tampered_weights_are_refused_by_their_hash(copy, name):
    weights = bytearray((copy / name).read_bytes())
    weights[-1] ^= 1
    (copy / name).write_bytes(weights)
    refused(copy, rf"{name} is not the one it was saved with \(SHA-256 .* expected .*\): copy the folder")


@pytest.mark.parametrize("name", WEIGHTS)
def test_missing_weights_are_refused(copy, name):
    (copy / name).unlink()
    refused(copy, rf"has no {name}: copy the whole folder again")


# bands that are missing, redshifts that are not known


def test_a_hidden_band_is_not_looked_at(trained, observed):
    hidden = replace(observed, flux=observed.flux.copy())
    hidden.flux[:, 0] = np.nan
    first = trained[0].sample(hidden, 5, 1)
    other = replace(hidden, flux_err=hidden.flux_err * np.where(np.arange(5) == 0, 7.0, 1.0))
    assert np.array_equal(first.theta, trained[0].sample(other, 5, 1).theta)
    shown = trained[0].sample(observed, 5, 1).theta
    # a coordinate that a small flow does not tie to the photometry may be the same, a draw may not
    assert not np.all(shown == first.theta, axis=2).any() and np.isin(shown, first.theta).mean() < 0.01


@pytest.mark.parametrize("err", [0.0, -1.0, np.inf, np.nan])
def test_a_band_with_a_bad_error_is_a_missing_band(trained, observed, err):
    missing, bad = observed.flux.copy(), observed.flux_err.copy()
    missing[:, 2], bad[:, 2] = np.nan, err
    expected = trained[0].sample(replace(observed, flux=missing), 3, 1).theta
    assert np.array_equal(trained[0].sample(replace(observed, flux_err=bad), 3, 1).theta, expected)


def test_a_given_redshift_is_kept_and_an_unknown_one_is_drawn_inside_the_range(trained, observed):
    low, high = trained[0].survey.redshift_range
    given = trained[0].sample(observed, 20, 1)
    assert np.array_equal(given.redshift, np.repeat(observed.redshift[:, None], 20, axis=1))
    drawn = trained[0].sample(replace(observed, redshift=np.full(40, np.nan)), 20, 1).redshift
    assert np.all((drawn >= low) & (drawn <= high)) and len(np.unique(drawn)) == drawn.size


def test_a_redshift_with_a_small_error_is_drawn_within_it_and_with_a_large_one_is_unknown(trained, observed):
    redshift = np.clip(observed.redshift, 0.05, 0.55)

    def drawn(sigma):
        data = replace(observed, redshift=redshift, redshift_err=np.full(40, sigma))
        return trained[0].sample(data, 400, 1).redshift

    offset = (drawn(1e-3) - redshift[:, None]) / 1e-3
    assert abs(offset.mean()) < 0.05 and abs(offset.std() - 1.0) < 0.05
    unknown = trained[0].sample(replace(observed, redshift=np.full(40, np.nan)), 400, 1).redshift
    np.testing.assert_allclose(drawn(50.0), unknown, atol=2e-3)


def test_log_q_of_a_drawn_redshift_has_both_factors(trained, observed):
    draws = trained[0].sample(replace(observed, redshift=np.full(40, np.nan)), 30, 1)
    low, high = trained[0].survey.redshift_range
    nodes = trained[0].redshift_nodes(observed.flux, observed.flux_err)
    u = (draws.redshift - low) / (high - low) * (nodes.shape[1] - 1)
    log_qz = np.array([np.log(np.interp(row, np.arange(nodes.shape[1]), np.exp(n)))
                       for row, n in zip(u, nodes.astype(float), strict=True)]) - np.log(high - low)  # fmt: skip
    rest = np.empty_like(log_qz)
    for k in range(30):
        exact = trained[0].sample(replace(observed, redshift=draws.redshift[:, k]), k + 1, 1)
        rest[:, k] = exact.log_q[:, k]
        np.testing.assert_allclose(exact.theta[:, k], draws.theta[:, k], atol=1e-3)
    np.testing.assert_allclose(draws.log_q, log_qz + rest, atol=1e-3)
    normal = trained[0].sample(replace(observed, redshift=draws.redshift[:, 0]), 1, 1).log_prior[:, 0]
    np.testing.assert_allclose(draws.log_prior[:, 0], normal - np.log(high - low), atol=1e-3)


def test_rows_of_every_kind_may_stand_together(trained, observed):
    z = np.array([*observed.redshift[:2], np.nan])
    mixed = replace(observed[:3], redshift=z, redshift_err=np.array([np.nan, 0.01, np.nan]))
    together = trained[0].sample(mixed, 10, 1)
    for i in range(3):
        alone = trained[0].sample(mixed[i : i + 1], 10, 1)
        np.testing.assert_allclose(alone.theta[0], together.theta[i], atol=1e-3)
        np.testing.assert_allclose(alone.redshift[0], together.redshift[i], atol=1e-6)


@pytest.mark.parametrize("number", [0, 99, None])
def test_another_format_is_refused(copy, number):
    edit(copy, format=number)
    refused(copy, rf"has format {number}; this popcat reads 2 to 5: train it again")


def test_quantities_are_what_the_forward_model_derives_of_the_draws(trained, observed, monkeypatch):
    posterior = trained[0]
    quantities, chi2 = posterior.quantities(observed, 8, 1)
    draws = posterior.sample(observed, 8, 1)
    derived = posterior.forward.derive(draws.theta.reshape(-1, 12), draws.redshift.ravel())
    for name, values in derived.items():
        np.testing.assert_allclose(quantities[name].ravel(), values, rtol=1e-5, atol=1e-5)
    flux = posterior.forward.flux(draws.theta.reshape(-1, 12), draws.redshift.ravel()).reshape(40, 8, 5)
    np.testing.assert_allclose(chi2, chi2_of(flux, observed).min(axis=1))
    monkeypatch.setattr(posterior_module, "_BATCH_DRAWS", 24)
    np.testing.assert_allclose(posterior.quantities(observed, 8, 1)[1], chi2, rtol=1e-3)


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
    with pytest.raises(PopcatError, match=r'no posterior ".*": expected a folder that `popcat train` wrote'):
        posterior_folder(tmp_path)


def test_a_torn_folder_has_no_posterior(copy):
    (copy / "posterior.json").unlink()
    refused(copy, r"no posterior .*it holds posterior.json")


def test_galaxies_far_from_all_training_have_draws_within_the_prior():
    """Real ones with hardly any light in u, or in all but z: the flow's transforms would overflow there."""
    frame = read_catalog(str(files("popcat") / "data" / "galaxies_sdss.parquet"), "sdss").compute()
    posterior = load_posterior("sdss")
    data = observation(frame.iloc[[722, 1576, 3696, 9144]], posterior.survey)
    for prior in posterior.priors:
        draws = posterior.under(prior).sample(data, 200, 0)
        assert np.isfinite(draws.theta).all() and posterior.prior.contains(draws.theta.reshape(800, -1)).all()

"""Certified draws are those of the exact posterior, whatever the flow; what cannot be believed is not certified."""

from dataclasses import replace

import numpy as np
import pytest

from popcat.checks import certify as module
from popcat.checks.certify import Effort, certify
from popcat.galaxies import chi2_of

N = 6
# The posterior of the tests is badly trained: with a generous error tempering ends fast.
WIDER = 4.0


@pytest.fixture
def galaxies(observed):
    return replace(observed[:N], flux_err=WIDER * observed.flux_err[:N])


def broad(data):
    """The same galaxies with errors of at least half of their fluxes."""
    return replace(data, flux_err=np.maximum(data.flux_err, 0.5 * np.abs(data.flux)))


@pytest.fixture
def effort():
    """A budget that ends before the most proposals, so that tempering is seen at work, too."""
    return Effort(target_ess=150.0, budget_ms=400.0)


def test_weights_are_likelihood_times_prior_over_the_density_of_the_flow(trained, galaxies):
    flux, err, forward = galaxies.flux.copy(), galaxies.flux_err, trained[0].forward.flux
    flux[0, 1] = np.nan
    draws = trained[0].sample(replace(galaxies, flux=flux), 5, 0)
    seen = ~np.isnan(flux)
    norm = np.sum((np.log(err) + 0.5 * np.log(2 * np.pi)) * seen, axis=1)[:, None]

    def chi2(theta):
        model_flux = np.array([forward(of_one, z) for of_one, z in zip(theta, draws.redshift, strict=True)])
        away = np.where(seen[:, None], (model_flux - np.nan_to_num(flux)[:, None]) / err[:, None], 0.0)
        return np.sum(away**2, axis=2)

    np.testing.assert_allclose(draws.chi2, chi2(draws.theta))
    # averaged over the mass, uniform in its logarithm
    low, high = trained[0].galaxy_model.log_mstar_formed
    theta, like = draws.theta.copy(), []
    for log_mass in np.linspace(low, high, 3001):
        theta[:, :, 0] = log_mass
        like.append(np.exp(-0.5 * chi2(theta)))
    log_like = np.log(np.trapezoid(like, dx=1.0 / 3000, axis=0)) - norm
    np.testing.assert_allclose(draws.log_likelihood, log_like, atol=0.01)
    np.testing.assert_allclose(draws.log_weight, draws.log_likelihood + draws.log_prior - draws.log_q)


def test_a_flow_that_holds_the_mass_has_the_likelihood_of_each_draw(galaxies, format_2):
    assert not format_2.draws_mass and format_2.n_coordinates == format_2.prior.n_unconstrained
    draws = format_2.sample(galaxies, 5, 0)
    flux = np.array([format_2.forward.flux(theta, z) for theta, z in zip(draws.theta, draws.redshift, strict=True)])
    np.testing.assert_allclose(draws.chi2, chi2_of(flux, galaxies))
    norm = np.sum(np.log(galaxies.flux_err) + 0.5 * np.log(2 * np.pi), axis=1)[:, None]
    np.testing.assert_allclose(draws.log_likelihood, -0.5 * draws.chi2 - norm)


@pytest.fixture(scope="module")
def brute(trained):
    """Mean, scatter, effective size and log evidence of each galaxy from 200,000 draws of the prior."""

    def posterior(data):
        theta = trained[0].prior.from_unit(np.random.default_rng(0).uniform(size=(200_000, 11)))
        model_flux = trained[0].forward.flux(theta, np.full(len(theta), data.redshift[0]))
        like = np.exp(-0.5 * chi2_of(model_flux[None], data)[0])
        weight = like / like.sum()
        mean = weight @ theta
        scatter = np.sqrt(weight @ (theta - mean) ** 2)
        norm = np.log(data.flux_err).sum() + 0.5 * data.flux.size * np.log(2 * np.pi)
        return mean, scatter, 1.0 / np.sum(weight**2), np.log(like.mean()) - norm

    return posterior


@pytest.mark.parametrize("only", ["any", "smc"])
def test_posteriors_and_evidences_are_those_of_brute_force(trained, galaxies, brute, only, monkeypatch):
    """By whatever route, and by tempering alone."""
    galaxies = broad(galaxies)
    if only == "smc":
        monkeypatch.setattr(module, "reliable_k", lambda n: -np.inf)  # no weights are believed
    found = certify(trained[0], galaxies, 512, 0, effort=Effort(budget_ms=600.0))
    assert np.isin(found.route, ("smc",) if only == "smc" else ("flow+is", "smc")).all()
    pulls, differences = [], []
    for i in range(N):
        mean, scatter, ess, log_evidence = brute(galaxies[i : i + 1])
        assert ess > 500
        error = scatter * np.sqrt(1.0 / min(found.ess[i], 512) + 1.0 / ess)
        pulls.append((found.theta[i].mean(axis=0) - mean) / error)
        differences.append(found.log_evidence[i] - log_evidence)
        np.testing.assert_allclose(found.theta[i].std(axis=0), scatter, rtol=0.35)
    assert np.abs(pulls).max() < 4.5 and np.sqrt(np.mean(np.square(pulls))) < 1.6
    assert np.abs(differences).max() < 0.8 and abs(np.mean(differences)) < 0.3


def test_every_draw_is_inside_the_prior_and_has_the_redshift(trained, galaxies, effort):
    found = certify(trained[0], galaxies, 30, 0, effort=effort)
    assert found.theta.shape == (N, 30, 12)
    assert trained[0].prior.contains(found.theta.reshape(-1, 12)).all()
    assert (found.redshift == galaxies.redshift[:, None]).all()


def test_free_and_given_redshifts_share_a_batch(trained, galaxies, effort, survey):
    redshift, sigma = galaxies.redshift.copy(), np.full(N, np.nan)
    redshift[0], sigma[1], sigma[2] = np.nan, 0.01, 0.1
    data = replace(broad(galaxies), redshift=redshift, redshift_err=sigma)
    found = certify(trained[0], data, 50, 0, effort=effort)
    low, high = survey.redshift_range
    assert ((found.redshift >= low) & (found.redshift <= high)).all()
    assert (found.redshift[3:].std(axis=1) == 0).all() and (found.redshift[:3].std(axis=1) > 1e-4).all()
    assert abs(found.redshift[1].mean() - redshift[1]) < 0.05
    assert np.isfinite(found.log_evidence[found.route != "failed"]).all()


def test_a_galaxy_alone_is_what_it_is_in_a_batch(trained, galaxies, effort):
    galaxies = replace(galaxies, flux_err=galaxies.flux_err / 10.0)  # some need tempering
    together = certify(trained[0], galaxies, 40, 0, effort=effort)
    assert set(together.route) >= {"smc"}
    for i in range(N):
        alone = certify(trained[0], galaxies[i : i + 1], 40, 0, effort=effort)
        assert alone.route[0] == together.route[i] and alone.n_proposals[0] == together.n_proposals[i]
        np.testing.assert_allclose(alone.log_evidence[0], together.log_evidence[i], atol=1e-3)
        np.testing.assert_allclose(alone.theta[0], together.theta[i], atol=1e-3)


def test_more_is_proposed_where_little_is_effective(trained, galaxies, effort):
    found = certify(trained[0], galaxies, 10, 0, effort=effort)
    assert set(found.n_proposals) <= set(module._TOTALS) and len(set(found.n_proposals)) > 1
    np.testing.assert_allclose(found.efficiency[found.route == "flow+is"],
                               (found.ess / found.n_proposals)[found.route == "flow+is"])  # fmt: skip
    assert (found.ess[found.route == "flow+is"] >= 100).all()


def test_a_budget_that_is_too_small_fails_and_says_so(trained, galaxies):
    precise = replace(galaxies, flux_err=galaxies.flux_err / 40)
    found = certify(trained[0], precise, 10, 0, effort=Effort(budget_ms=20.0))
    assert (found.route == "failed").all() and (found.route_why == "budget").all()
    assert np.isnan(found.log_evidence).all() and (found.n_proposals <= 768).all()
    plain = trained[0].sample(precise, 10, 0).theta
    np.testing.assert_allclose(found.theta, plain, atol=1e-3)


def test_where_the_flow_fails_proposals_are_fitted_and_corrected(trained, galaxies):
    """Evidences are those that many proposals of the flow give; what did not fail stays as it was."""
    data = replace(galaxies, flux_err=galaxies.flux_err / WIDER)[[0, 1, 3, 4]]
    data.flux_err[:2] *= 10.0
    short = Effort(budget_ms=100.0)  # less than tempering takes
    before, found = (certify(trained[0], data, 50, 0, effort=one) for one in (short, replace(short, refit=True)))
    failed = before.route == "failed"
    assert 0 < failed.sum() < len(data)
    np.testing.assert_array_equal(found.theta[~failed], before.theta[~failed])
    assert (found.route == "flow+is").all() and (found.ess >= 100.0).all() and (found.route_why == "").all()
    exact = certify(trained[0], data, 50, 0, effort=Effort(budget_ms=20_000.0))
    np.testing.assert_allclose(found.log_evidence, exact.log_evidence, atol=0.4)


def test_no_likelihood_above_zero_is_no_fit(trained, galaxies):
    absurd = replace(galaxies, flux_err=galaxies.flux_err * 1e-200)
    found = certify(trained[0], absurd, 10, 0, effort=Effort(budget_ms=400.0))
    assert (found.route == "failed").all() and (found.route_why == "no_fit").all()


def test_as_many_are_proposed_as_there_shall_be_draws(trained, galaxies):
    found = certify(trained[0], broad(galaxies), 700, 0)
    assert (found.n_proposals >= 700).all()


def test_more_particles_where_more_effective_draws_are_asked_for(trained, galaxies, monkeypatch):
    monkeypatch.setattr(module, "reliable_k", lambda n: -np.inf)  # no weights are believed
    found = certify(trained[0], broad(galaxies)[:3], 700, 0, effort=Effort(target_ess=800.0, budget_ms=3000.0))
    assert (found.route == "smc").all() and (found.ess > 512).all()
    assert all(len(np.unique(theta, axis=0)) > 512 for theta in found.theta)


def badly_fitted(galaxies):
    """u and z ten times as bright as they are: no model has such colours."""
    return replace(galaxies, flux=galaxies.flux * np.array([10.0, 1.0, 1.0, 1.0, 10.0]))


@pytest.mark.parametrize("apart", [0.0, 5.0])
def test_a_doubtful_rescue_is_made_twice_and_both_must_agree(trained, galaxies, apart, monkeypatch):
    first, second, plain = {}, [], module.temper

    def temper(log_ratio, d, ids, seed, **options):
        found = plain(log_ratio, d, ids, seed, **options)
        if seed == 0:
            first.update(zip(ids.tolist(), found.log_evidence, strict=True))
            return found
        second.extend(ids.tolist())
        return replace(found, log_evidence=np.array([first[one] + apart for one in ids.tolist()]))

    monkeypatch.setattr(module, "temper", temper)
    monkeypatch.setattr(module, "reliable_k", lambda n: -np.inf)
    data = badly_fitted(broad(galaxies))[:3]
    found = certify(trained[0], data, 50, 0, effort=Effort(budget_ms=100_000.0))
    assert (found.chi2_best > 25.8).all()
    assert set(first) == set(data.object_id.tolist()) and len(second) >= 2
    twice = np.isin(data.object_id, second)
    assert (found.route[twice] == ("failed" if apart else "smc")).all()
    assert (found.route_why[twice] == ("disagreement" if apart else "pareto_k")).all()
    assert (np.isfinite(found.log_evidence[twice]) == (apart == 0.0)).all()


def test_no_galaxies_give_no_draws(trained, galaxies):
    assert certify(trained[0], galaxies[:0], 7, 1).theta.shape == (0, 7, 12)

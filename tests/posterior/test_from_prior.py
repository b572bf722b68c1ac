"""A posterior without a flow draws, once certified, what accepted draws of the prior are, and serves as others do."""

from dataclasses import replace

import numpy as np
import pytest

from popcat.checks.certify import Effort, certify
from popcat.checks.samplers import Galaxy, sample_galaxy
from popcat.errors import PopcatError
from popcat.galaxies import Observation, observation
from popcat.posterior.from_prior import prior_posterior
from popcat.posterior.gaussians import fit_gaussians, log_standard
from popcat.posterior.posterior import load_posterior, save_posterior
from popcat.posterior.simulated import draw_mocks, simulate_partition

FLUX = np.array([[30.0, 90.0, 170.0, 240.0, 300.0]])


def galaxy(flux=FLUX, redshift=0.12, redshift_err=np.nan, relative=0.1):
    flux = np.asarray(flux, dtype=float)
    err = np.hypot(relative * flux, 1.0)
    return Observation(flux, err, np.array([redshift]), np.array([redshift_err]), np.array([5]))


@pytest.fixture(scope="module")
def flowless(survey, noise, model):
    return prior_posterior(survey, model, prior="flat", noise=noise)


WAYS = {
    "redshift given": {},
    "redshift with an error": {"redshift": 0.12, "redshift_err": 0.02},
    "redshift unknown": {"redshift": np.nan},
    "a band missing, a flux negative": {"flux": [[-0.5, 8.0, np.nan, 30.0, 40.0]]},
}
LIMIT = 0.09
"""Two samples of one law, of 800 effective draws each, are further apart in one of 300 columns; of 800 and 2,000, in
one of 3,000."""


@pytest.mark.parametrize("way", WAYS)
def test_certified_draws_and_evidences_are_those_of_accepted_draws_of_the_prior(flowless, survey, way):
    """The independent sampler shares none of the proposals."""
    data = galaxy(**WAYS[way])
    found = certify(flowless, data, 2000, 1, effort=Effort(target_ess=800.0))
    assert found.route[0] == "flow+is" and found.ess[0] >= 800.0
    one = Galaxy(flowless.forward.flux, flowless.prior, survey.redshift_range, data.flux[0], data.flux_err[0],
                 data.redshift[0], data.redshift_err[0])  # fmt: skip
    chain = sample_galaxy(one, np.empty((0, one.n_dim)), 3, sampler="prior")
    assert chain.converged
    assert found.log_evidence[0] == pytest.approx(chain.log_evidence, abs=0.12)
    ours = one.to_w(found.theta[0], found.redshift[0])
    for i in range(one.n_dim):
        assert two_sample_ks(ours[:, i], chain.w[:, i]) < LIMIT, i


@pytest.mark.parametrize("way", WAYS)
def test_certified_draws_and_evidences_are_those_of_a_trained_posterior(way):
    """Under the physical prior, of which that sampler accepts too few."""
    trained = load_posterior("sdss").under("physical")
    posterior = prior_posterior("sdss", trained.galaxy_model, prior="physical")
    data, effort = galaxy(**WAYS[way], relative=0.05), Effort(target_ess=800.0, budget_ms=20_000.0)
    ours, theirs = (certify(one, data, 2000, 3, effort=effort) for one in (posterior, trained))
    assert {ours.route[0], theirs.route[0]} <= {"flow+is", "smc"} and min(ours.ess[0], theirs.ess[0]) >= 400.0
    assert ours.log_evidence[0] == pytest.approx(theirs.log_evidence[0], abs=0.15)
    columns = [*ours.theta[0].T, ours.redshift[0]], [*theirs.theta[0].T, theirs.redshift[0]]
    # draws are resampled: as many are independent as are effective
    limit = max(LIMIT, 1.95 * (1.0 / ours.ess[0] + 1.0 / theirs.ess[0]) ** 0.5)
    for i, (a, b) in enumerate(zip(*columns, strict=True)):
        assert two_sample_ks(a, b) < limit, i


@pytest.mark.slow
def test_sharp_photometry_is_certified_with_the_evidence_of_a_trained_posterior():
    """To 3% in ten bands: hardly one of 8,192 points of the prior is near. Evidences of particles scatter by 0.2."""
    trained = load_posterior("galex_sdss_2mass").under("physical")
    mocks = draw_mocks(trained, 6, 5).assign(redshift_err=np.nan)
    data = observation(mocks, trained.survey)
    exact = trained.forward.flux(mocks[list(trained.prior.names)].to_numpy(), data.redshift)
    data = replace(data, flux=exact, flux_err=0.03 * exact)
    posterior = prior_posterior(trained.survey, trained.galaxy_model, prior="physical", noise=trained.noise)
    ours, theirs = (certify(one, data, 100, 3, effort=Effort(budget_ms=20_000.0)) for one in (posterior, trained))
    both = (ours.route != "failed") & (theirs.route != "failed")
    assert (ours.route != "failed").all() and both.sum() >= 4
    apart = np.abs(ours.log_evidence[both] - theirs.log_evidence[both])
    assert np.median(apart) < 0.7 and apart.max() < 1.5


def two_sample_ks(a, b):
    at = np.sort(np.concatenate([a, b]))
    return np.max(np.abs(np.searchsorted(np.sort(a), at, "right") / len(a)
                         - np.searchsorted(np.sort(b), at, "right") / len(b)))  # fmt: skip


def test_draws_are_functions_of_seed_and_galaxy_whatever_the_batch(flowless):
    some = [galaxy(), replace(galaxy(redshift=np.nan, relative=0.1), object_id=np.array([9]))]
    both = Observation(*(np.concatenate(parts) for parts in zip(*(vars(one).values() for one in some), strict=True)))
    together = flowless.sample(both, 40, 3)
    again = prior_posterior(flowless.survey, flowless.galaxy_model, prior="flat", noise=flowless.noise)
    for i in (1, 0):
        alone = again.sample(both[i : i + 1], 40, 3)
        for name, values in vars(alone).items():
            np.testing.assert_array_equal(values[0], getattr(together, name)[i])
    assert not np.array_equal(together.theta, flowless.sample(both, 40, 4).theta)


def test_a_map_of_numbers_has_the_density_that_its_draws_have(flowless):
    """Weights of both ways of drawing estimate one evidence, of free redshifts and given ones in one batch."""
    some = [galaxy(relative=0.3), replace(galaxy(redshift=np.nan, relative=0.3), object_id=np.array([9]))]
    both = Observation(*(np.concatenate(parts) for parts in zip(*(vars(one).values() for one in some), strict=True)))
    random = np.random.default_rng(0)
    normals = random.standard_normal((2, 20_000, flowless.n_coordinates))
    mapped = flowless.transform(both, normals, random.uniform(size=(2, 20_000)), random.uniform(size=(2, 20_000)))
    drawn = flowless.sample(both, 20_000, 0)
    evidence = [np.logaddexp.reduce(one.log_weight, axis=1) for one in (mapped, drawn)]
    np.testing.assert_allclose(*evidence, atol=0.1)
    assert flowless.prior.contains(mapped.theta.reshape(-1, 12)).all()


def test_saved_and_loaded_it_draws_the_same(flowless, tmp_path):
    name = save_posterior(flowless, tmp_path)
    loaded = load_posterior(tmp_path)
    assert loaded.name == name and loaded.flows == () and "fitted to each galaxy" in repr(loaded)
    np.testing.assert_array_equal(loaded.sample(galaxy(), 10, 0).theta, flowless.sample(galaxy(), 10, 0).theta)


def test_galaxies_unlike_the_simulated_ones_are_told(survey, noise, model):
    frame = simulate_partition(0, 4000, survey, model, noise, 0)
    posterior = prior_posterior(survey, model, prior="flat", noise=noise, simulated=frame)
    odd = galaxy(flux=[[30.0, 900.0, 170.0, 240.0, 300.0]])
    for one, is_odd in ((galaxy(), False), (odd, True)):
        _, colours = posterior.support.tails(one.flux, one.flux_err, one.redshift)
        assert (colours[0] < 0.005) == is_odd  # of 425 reference galaxies none is as odd
    without = prior_posterior(survey, model, prior="flat", noise=noise)
    np.testing.assert_array_equal(without.support.tails(odd.flux, odd.flux_err, odd.redshift), np.ones((2, 1)))
    with pytest.raises(PopcatError, match="at least 1000 simulated galaxies of the prior flat within the selection"):
        prior_posterior(survey, model, prior="flat", noise=noise, simulated=frame[:900])


def test_no_likelihood_leaves_the_prior(flowless):
    absurd = replace(galaxy(), flux_err=np.full((1, 5), 1e-200))
    found = certify(flowless, absurd, 20, 0)
    assert found.route[0] == "failed" and found.route_why[0] == "no_fit"


def test_weighted_points_count_as_often_as_their_weights_say():
    random = np.random.default_rng(2)
    x = np.concatenate([random.normal(-2.0, 0.3, (400, 3)), random.normal(1.0, 0.5, (200, 3))])
    times = random.integers(1, 4, len(x))
    weighted = fit_gaussians(x, times / times.sum(), 2, random.uniform(size=2 + len(x)))
    repeated = np.repeat(x, times, axis=0)
    uniform = random.uniform(size=2 + len(repeated))
    counted = fit_gaussians(repeated, np.full(len(repeated), 1.0 / len(repeated)), 2, uniform)
    np.testing.assert_allclose(np.exp(weighted.log_share).sum(), 0.9)
    for mixture in (weighted, counted):  # of which component is first says the start
        order = np.argsort(mixture.mean[:, 0])
        np.testing.assert_allclose(mixture.mean[order], [[-2.0] * 3, [1.0] * 3], atol=0.1)
        np.testing.assert_allclose(np.exp(mixture.log_share[order]), [0.6, 0.3], atol=0.02)


def test_a_mixture_has_the_density_of_its_draws():
    """Against scipy's, and the mean of p / g over draws of g is one."""
    from scipy.stats import multivariate_normal

    random = np.random.default_rng(3)
    points = np.concatenate([random.normal(2.0, 0.4, (500, 2)), random.normal(-1.0, 0.2, (500, 2))])
    mixture = fit_gaussians(points, np.full(1000, 1e-3), 3, random.uniform(size=1003))
    x = mixture.draw(random.standard_normal((50_000, 2)), random.uniform(size=50_000))
    parts = [np.exp(share) * multivariate_normal(mean, factor @ factor.T).pdf(x)
             for share, mean, factor in zip(mixture.log_share, mixture.mean, mixture.factor, strict=True)]  # fmt: skip
    density = np.sum(parts, axis=0) + 0.1 * np.exp(log_standard(x))
    np.testing.assert_allclose(np.exp(mixture.log_density(x)), density, rtol=1e-9)
    other = multivariate_normal(np.full(2, 0.5), np.eye(2)).pdf(x)
    assert np.mean(other / density) == pytest.approx(1.0, abs=0.05)

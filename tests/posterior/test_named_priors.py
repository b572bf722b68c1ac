"""One trained posterior under the galaxy model's own prior and the physical one: libraries, draws, certificates."""

import warnings
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr, ndtri

from popcat import infer, open_catalog, reweight, simulate, train
from popcat.checks.calibration import calibrate, calibration_of
from popcat.checks.samplers import Galaxy, sample_galaxy
from popcat.checks.weights import importance
from popcat.errors import PopcatError
from popcat.flows.settings import Training
from popcat.forward.noise import default_noise
from popcat.galaxies import observation
from popcat.galaxy_model import GalaxyModel
from popcat.posterior.draws import draw_mass
from popcat.posterior.library import open_library
from popcat.posterior.posterior import load_posterior
from popcat.posterior.simulated import draw_inside, draw_mocks, simulate_partition
from popcat.prior import BOTH, FLAT, PHYSICAL, PRIORS
from popcat.survey import load_survey

SURVEY, MODEL = load_survey("sdss"), GalaxyModel()
SMALL = Training(n_blocks=2, hidden=32, n_layers=1, batch=256, max_epochs=6, redshift_epochs=4, redshift_hidden=32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a posterior trained under both priors."""
    path = tmp_path_factory.mktemp("both")
    simulate("sdss", 12_000, output=path / "library", prior=BOTH, client="synchronous")
    train(path / "library", path / "posterior", settings=SMALL)
    return path / "posterior"


@pytest.fixture(scope="module")
def posterior(folder):
    return load_posterior(folder)


@pytest.fixture(scope="module")
def mocks(posterior):
    return observation(draw_mocks(posterior, 60, 5).assign(redshift_err=np.nan), posterior.survey)


def test_a_library_of_both_priors_takes_them_in_turn_however_it_is_cut(folder):
    noise = default_noise(SURVEY)
    whole = simulate_partition(0, 60, SURVEY, MODEL, noise, 3, BOTH)
    parts = [simulate_partition(a, b, SURVEY, MODEL, noise, 3, BOTH) for a, b in ((0, 7), (7, 60))]
    pd.testing.assert_frame_equal(whole, pd.concat(parts, ignore_index=True))
    assert whole["prior"].tolist() == [*PRIORS] * 30
    theta, redshift = draw_inside(np.arange(60), SURVEY, MODEL, noise, 3)
    own = (whole["prior"] == FLAT).to_numpy()
    np.testing.assert_array_equal(whole["redshift"].to_numpy() == redshift, own)
    np.testing.assert_allclose(whole.loc[own, "tau_ism"], theta[own, -2], rtol=1e-6)
    library = open_library(folder.parent / "library")
    assert library.priors == PRIORS
    assert library.load().prior.tolist() == [0.0, 1.0] * 6000


def test_at_each_magnitude_the_physical_prior_is_as_far_as_real_galaxies():
    """Whose redshifts had no part in it. Real bright galaxies were chosen by their magnitude alone."""
    mock = simulate_partition(0, 10_000, SURVEY, MODEL, default_noise(SURVEY), 5, PHYSICAL)
    real = pd.read_parquet(str(files("popcat") / "data" / "galaxies_sdss.parquet"))
    of_mock, of_real = mock["flux_r"], real["modelflux_r"] * 10.0 ** (0.4 * real["extinction_r"])
    for bright, faint in ((15.0, 16.0), (16.0, 17.0)):
        low, high = (10.0 ** (0.4 * (22.5 - mag)) for mag in (faint, bright))
        some, seen = (frame.loc[(flux > low) & (flux < high), "redshift"]
                      for frame, flux in ((mock, of_mock), (real, of_real)))  # fmt: skip
        assert len(some) > 1000
        assert some.median() == pytest.approx(seen.median(), rel=0.2)
        assert some.quantile(0.25) > 0.5 * seen.quantile(0.25)
        assert some.quantile(0.75) < 1.5 * seen.quantile(0.75)


def test_galaxies_of_the_physical_prior_are_used_to_limits_in_turn(folder):
    limit = open_library(folder.parent / "library").load().limit
    faint = SURVEY.selection.faint_mag
    assert limit[:12].tolist() == [faint, faint, faint, faint - 1, faint, faint - 2, faint, faint - 3, faint, faint - 4,
                                   faint, faint]  # fmt: skip
    mocks = draw_mocks(load_posterior(folder), 200, 9)
    mag = 22.5 - 2.5 * np.log10(mocks["flux_r"])
    allowed = faint - mocks["object_id"] % 5
    assert (mag <= allowed).all()
    assert (mag < faint - 3.0).sum() > 20


def test_a_posterior_is_under_the_physical_prior_unless_told_otherwise(folder, posterior, mocks, format_2):
    assert posterior.priors == PRIORS
    assert posterior.prior_name == PHYSICAL
    flat = posterior.under(FLAT)
    assert flat.name == posterior.name
    assert flat.under(PHYSICAL) is posterior
    assert flat.to("cpu") is flat
    a, b = (one.sample(mocks, 50, 1) for one in (posterior, flat))
    column = posterior.prior.names.index("tau_ism")
    assert np.median(a.theta[..., column]) < np.median(b.theta[..., column])
    with pytest.raises(PopcatError, match='no prior "physicl": expected flat or physical; did you mean "physical"'):
        posterior.under("physicl")
    with pytest.raises(PopcatError, match=r'trained under the prior flat, not "physical".*simulate --prior both'):
        format_2.under(PHYSICAL)
    with pytest.raises(PopcatError, match='no prior "all": expected flat or physical or both'):
        simulate("sdss", 10, prior="all")


def test_the_likelihood_is_averaged_over_the_mass_under_the_physical_prior(posterior, mocks):
    """Against a fine grid of masses, for bright and for faint galaxies."""
    law, grid = posterior.prior.laws["log_mstar_formed"], np.linspace(7.0, 12.5, 200_001)
    for scale in (1.0, 30.0):
        data = mocks[np.arange(8)]
        data = type(data)(data.flux, data.flux_err * scale, data.redshift, data.redshift_err, data.object_id)
        found = posterior.sample(data, 3, 1)
        for i, k in np.ndindex(8, 3):
            theta, z = found.theta[i, k][None].copy(), found.redshift[i, k : k + 1]
            theta[:, 0] = 10.0
            flux = posterior.forward.flux(theta, z)[0] * 10.0 ** (grid[:, None] - 10.0)
            chi2 = np.sum(((data.flux[i] - flux) / data.flux_err[i]) ** 2, axis=1)
            value = -0.5 * chi2 + posterior.physical.log_ratio_of_masses(theta, z, grid)[0]
            value += law.log_density(grid) - np.sum(np.log(data.flux_err[i])) - 2.5 * np.log(2.0 * np.pi)
            wanted = value.max() + np.log(np.trapezoid(np.exp(value - value.max()), grid))
            assert found.log_likelihood[i, k] == pytest.approx(wanted, abs=0.03)


def away_from_the_ends(mocks):
    """Rows of galaxies whose redshift is five of the errors below from either end of the range."""
    return np.flatnonzero((mocks.redshift > 0.101) & (mocks.redshift < 0.5))


def weighed(posterior, data, n, is_free):
    """ln of the evidence of one galaxy, theta of n draws of the model's own prior but for dust, of which most have
    little, and their weights under the physical prior: without a flow."""
    random, prior, physical = np.random.default_rng(7), posterior.prior, posterior.physical
    theta = prior.from_unit(random.uniform(size=(n, prior.n_unconstrained)))
    theta[:, 0] = 10.0
    z, log_weight = np.full(n, data.redshift[0]), np.zeros(n)
    if is_free:
        low, high = ndtr((np.array(SURVEY.redshift_range) - z[0]) / data.redshift_err[0])
        z = z + data.redshift_err[0] * ndtri(random.uniform(low, high, n))
        log_weight += physical.redshift_law.log_density(z) + np.log(high - low)
    for name in ("tau_ism", "tau_bc"):
        column = theta[:, prior.names.index(name)]
        column[:] = np.where(random.uniform(size=n) < 0.2, column, 0.25 * random.exponential(size=n))
        column[column > 3.0] = 3.0
        log_weight -= np.log(0.2 + 0.8 * 3.0 * 4.0 * np.exp(-4.0 * column))
    flux = posterior.forward.flux(theta, z)[None]
    theta[:, 0], log_l, _ = draw_mass(flux, 10.0, data, prior.laws["log_mstar_formed"], random.uniform(size=(1, n)),
                                      lambda part, mass: physical.log_ratio_of_masses(theta, z, mass))  # fmt: skip
    log_weight = log_l[0] + log_weight
    top = log_weight.max()
    return top + np.log(np.mean(np.exp(log_weight - top))), theta, np.exp(log_weight - top)


@pytest.mark.parametrize("is_free", [False, True])
def test_weighted_draws_are_those_of_weighted_draws_of_the_prior(posterior, mocks, is_free):
    """Evidence and means; errors that leave many of the prior's draws a weight."""
    data = mocks[away_from_the_ends(mocks)[:3]]
    err = data.flux_err + 0.15 * data.flux
    data = type(data)(data.flux, err, data.redshift, np.full(3, 0.02 if is_free else np.nan), data.object_id)
    draws = posterior.sample(data, 60_000, 1)
    found = importance(draws.log_weight)
    for i in range(3):
        log_evidence, theta, weight = weighed(posterior, data[np.arange(i, i + 1)], 600_000, is_free)
        ess = min(weight.sum() ** 2 / (weight**2).sum(), found.ess[i])
        assert ess > 50.0
        assert found.log_evidence[i] == pytest.approx(log_evidence, abs=0.05 + 3.0 / ess**0.5)
        for name in ("log_mstar_formed", "tau_ism", "log_gamma2"):
            column = posterior.prior.names.index(name)
            mean = np.average(theta[:, column], weights=weight)
            spread = np.average((theta[:, column] - mean) ** 2, weights=weight) ** 0.5
            own = np.exp(draws.log_weight[i] - draws.log_weight[i].max())
            ours = np.average(draws.theta[i, :, column], weights=own)
            assert abs(ours - mean) < spread * (0.05 + 3.0 / ess**0.5)


@pytest.mark.parametrize("is_free", [False, True])
def test_accepted_draws_of_the_prior_have_the_same_evidence(posterior, mocks, is_free):
    """The sampler "prior" of `popcat crosscheck`, which draws dust from a law of its own."""
    data = mocks[away_from_the_ends(mocks)[:1]]
    err = data.flux_err + 0.15 * data.flux
    data = type(data)(data.flux, err, data.redshift, np.full(1, 0.02 if is_free else np.nan), data.object_id)
    wanted, theta, weight = weighed(posterior, data, 600_000, is_free)
    galaxy = Galaxy(posterior.forward.flux, posterior.prior, SURVEY.redshift_range, data.flux[0], data.flux_err[0],
                    data.redshift[0], data.redshift_err[0], posterior.physical)  # fmt: skip
    chain = sample_galaxy(galaxy, np.empty((0, galaxy.n_dim)), 1, sampler="prior", max_steps=9_000)
    found, _ = galaxy.to_theta(chain.w)
    assert len(found) > 60
    assert chain.log_evidence == pytest.approx(wanted, abs=0.2)
    column = posterior.prior.names.index("tau_ism")
    mean = np.average(theta[:, column], weights=weight)
    assert abs(found[:, column].mean() - mean) < 4.0 * found[:, column].std() / len(found) ** 0.5 + 0.02


def test_a_catalogue_says_its_prior_and_is_reweighted_to_the_other(folder, galaxies, tmp_path):
    frame = pd.read_parquet(galaxies).iloc[:12]
    options = {"allow_uncalibrated": True, "draws": 3000, "certify": True, "client": "synchronous"}
    with pytest.warns(UserWarning, match="calibration"):
        made = {one: infer(frame, folder, output=tmp_path / one, prior=one, **options) for one in PRIORS}
        usual = infer(frame, folder, output=tmp_path / "usual", **options)
    assert {one: made[one].posterior.prior for one in PRIORS} == {one: one for one in PRIORS}
    assert usual.posterior.prior == PHYSICAL
    back = reweight(tmp_path / PHYSICAL, PHYSICAL, output=tmp_path / "same")
    same, before = (one.to_pandas(["log_evidence", "log_mstar_p50"]) for one in (back, made[PHYSICAL]))
    np.testing.assert_allclose(same["log_evidence"], before["log_evidence"], atol=1e-3)
    other = reweight(tmp_path / PHYSICAL, FLAT, output=tmp_path / "other").to_pandas(["log_evidence", "ess"])
    wanted = made[FLAT].to_pandas(["log_evidence"])
    good = ((other["ess"] > 8.0) & wanted["log_evidence"].notna()).to_numpy()
    assert good.any()
    np.testing.assert_allclose(other["log_evidence"][good], wanted["log_evidence"][good], atol=1.5)


def test_a_calibration_is_of_one_prior(folder, posterior):
    for prior, name in ((FLAT, "calibration"), (PHYSICAL, "calibration-physical")):
        found = calibrate(folder, 40, prior=prior, draws=40, runs=("exact",), output=folder / name)
        assert found.prior == prior
        assert calibration_of(folder, prior).prior == prior
    assert calibration_of(folder).prior == posterior.prior_name


def test_a_population_is_not_fitted_to_draws_under_the_physical_prior(folder, galaxies, tmp_path):
    from popcat import fit_population

    warnings.simplefilter("ignore", UserWarning)  # of the calibration
    infer(galaxies, folder, output=tmp_path / "posteriors", draws=20, allow_uncalibrated=True)
    assert open_catalog(tmp_path / "posteriors").posterior.prior == PHYSICAL
    with pytest.raises(PopcatError, match="is under the physical prior: fit a population to posteriors of `popcat inf"):
        fit_population(tmp_path / "posteriors", tmp_path / "population")

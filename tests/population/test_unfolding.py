"""The start: a library of a prior, reweighted until its photometry is the data's."""

import numpy as np
import pytest
import torch
from scipy.special import gammaln
from scipy.stats import beta, kstest

from popcat.errors import PopcatError
from popcat.forward.noise import default_noise
from popcat.forward.photometry import Photometry
from popcat.galaxy_model import GalaxyModel
from popcat.population.cuts import parse_cuts
from popcat.population.distance import Galaxies, fit_scaling
from popcat.population.settings import PopulationSettings
from popcat.population.start import (
    PhysicalPrior,
    _data_fluxes,
    _log_young,
    _wanted_fluxes,
    sample_start,
    start_prior,
)
from popcat.population.synthesis import Space, Synthesis
from popcat.population.unfolding import Start, StartLoss, _limited, _towards, unfold
from popcat.prior import make_prior
from popcat.survey import load_survey

SETTINGS = PopulationSettings(library=4000, iterations=8, rounds=1)


@pytest.fixture(scope="module", params=["evolving", "constant"])
def any_model(request):
    survey, model = load_survey("sdss"), GalaxyModel(metallicity=request.param)
    return Space(make_prior(model), survey.redshift_range), Photometry(survey, model)


@pytest.fixture(scope="module")
def synthesis():
    survey, model = load_survey("sdss"), GalaxyModel()
    space = Space(make_prior(model), survey.redshift_range)
    return Synthesis(Photometry(survey, model), default_noise(survey), parse_cuts(["r<19"], survey.band_names), space)


def galaxies_of(synthesis, x):
    flux, err, seen = synthesis.arrays(x, torch.randn(len(x), 10, generator=torch.Generator().manual_seed(1)))
    return Galaxies(flux[seen], err[seen], np.full(int(seen.sum()), np.nan)), seen


def test_draws_of_the_start_lie_inside_the_training_prior(any_model):
    space, photometry = any_model
    theta, redshift, log_weight = sample_start("physical", 3000, space, photometry, np.random.default_rng(0))
    assert space.prior.contains(theta).all()
    assert np.isfinite(log_weight).all()
    assert ((redshift >= 0.001) & (redshift <= 0.6)).all()


def test_the_starts_draws_and_its_density_agree(any_model):
    space, photometry = any_model
    theta, _, _ = sample_start("physical", 20_000, space, photometry, np.random.default_rng(0))
    prior = PhysicalPrior.of(space, photometry)
    for name in ("tau_ism", "n_dust", "f_burst"):
        column = space.prior.names.index(name)
        # along one parameter, everything else as in one galaxy that forms stars
        low, high = np.percentile(theta[:, column], [1, 99])
        line = np.repeat(theta[:1], 400, axis=0)
        line[:, 1 : 2 + space.prior.weights.n_free] = 1.0 / (1 + space.prior.weights.n_free)
        line[:, column] = np.linspace(low, high, 400)
        density = np.exp(prior(line, np.full(400, 0.1)))
        assert np.isfinite(density).all()
        mean = np.average(line[:, column], weights=density)
        chosen = theta[theta[:, prior.youngest] > 0.1][:, column]
        assert mean == pytest.approx(chosen[(chosen > low) & (chosen < high)].mean(), abs=0.35 * chosen.std())


@pytest.mark.parametrize("history", ["fractional", "continuity", "delayed_tau"])
def test_a_start_knows_the_history(history):
    survey, model = load_survey("sdss"), GalaxyModel(history=history)
    narrow = survey.model_copy(update={"redshift_range": (0.1, 0.12)})
    space, photometry = Space(make_prior(model), narrow.redshift_range), Photometry(narrow, model)
    theta, _, log_weight = sample_start("wide", 500, space, photometry, np.random.default_rng(0))
    assert space.prior.contains(theta).all() and np.isfinite(log_weight).all()
    if history == "fractional":
        assert PhysicalPrior.of(space, photometry).youngest == 1
        assert np.isfinite(sample_start("physical", 500, space, photometry, np.random.default_rng(0))[2]).all()
    else:
        with pytest.raises(PopcatError, match='start_prior "physical": expected a history that is a mixture of bases'):
            sample_start("physical", 500, space, photometry, np.random.default_rng(0))


@pytest.mark.parametrize("others", [2, 3, 5])
@pytest.mark.parametrize("a", [0.2, 2.0])
def test_young_stars_have_their_law_whatever_the_number_of_bases(others, a):
    young = beta(1.0, others).ppf((np.arange(200_000) + 0.5) / 200_000)
    ratio = np.exp(_log_young(young, others, a, a * others) - gammaln(others + 1.0))  # to the flat Dirichlet
    assert ratio.mean() == pytest.approx(1.0, abs=0.1)


def test_the_main_sequence_of_the_start_is_a_third_of_a_dex_wide(any_model):
    space, photometry = any_model
    theta, _, _ = sample_start("physical", 20_000, space, photometry, np.random.default_rng(0))
    young = theta[:, PhysicalPrior.of(space, photometry).youngest]
    # half are quiescent: of the others, that is nearly all above the median
    forming = np.log10(young[young > np.median(young)])
    assert np.median(10**forming) == pytest.approx(0.25, abs=0.04)
    assert 0.1 < forming.std() < 0.3
    np.testing.assert_allclose(theta[:, 1 : 2 + space.prior.weights.n_free].sum(1), 1.0, rtol=1e-9)
    others = space.prior.weights.n_free
    assert kstest(young, lambda x: 0.5 * (beta(0.2, others).cdf(x) + beta(2.0, 2.0 * others).cdf(x))).pvalue > 0.01
    assert np.std(np.log10(beta(2.0, 2.0 * others).rvs(100_000, random_state=0))) == pytest.approx(0.31, abs=0.02)


@pytest.mark.parametrize("name", ["physical", "wide"])
def test_a_start_leaves_the_training_prior_of_what_it_has_no_law_for(name):
    survey = load_survey("sdss")
    model = GalaxyModel(priors={"t_burst": {"family": "exponential", "scale": 0.5},
                                "tau_ism": {"family": "exponential", "scale": 0.2}})  # fmt: skip
    space, photometry = Space(make_prior(model), survey.redshift_range), Photometry(survey, model)
    theta, redshift, _ = sample_start("flat", 1, space, photometry, np.random.default_rng(0))
    ratio = start_prior(name, space, photometry)
    for parameter, same in (("t_burst", True), ("tau_ism", False)):
        line = np.repeat(theta, 20, axis=0)
        line[:, space.prior.names.index(parameter)] = np.linspace(0.1, 2.5, 20)
        found = ratio(line, np.repeat(redshift, 20))
        assert (np.ptp(found) < 1e-9) == same
    # of tau_ism the start's own law is left, whatever the training prior
    plain = Space(make_prior(GalaxyModel()), survey.redshift_range)
    trained = space.prior.laws["tau_ism"].log_density(line[:, space.prior.names.index("tau_ism")])
    own = start_prior(name, plain, photometry)(line, np.repeat(redshift, 20))
    assert np.ptp(found + trained - own) < 1e-9


def test_a_flat_start_is_the_training_prior(any_model):
    space, photometry = any_model
    theta, _, log_weight = sample_start("flat", 2000, space, photometry, np.random.default_rng(0))
    column = space.prior.names.index("tau_ism")
    assert kstest(theta[:, column] / 3.0, "uniform").pvalue > 1e-3
    assert np.ptp(log_weight) == 0.0


def test_a_wide_start_is_wide_in_all_but_mass_volume_and_dust(any_model):
    space, photometry = any_model
    theta, redshift, _ = sample_start("flat", 2, space, photometry, np.random.default_rng(0))
    ratio = start_prior("wide", space, photometry)

    def change(column, first, second):
        pair = np.repeat(theta[:1], 2, axis=0)
        pair[:, column] = first, second
        return np.diff(ratio(pair, np.full(2, redshift[0])))[0]

    at = space.prior.names.index
    assert change(at("tau_ism"), 0.2, 0.7) == pytest.approx(-1.0)
    assert change(at("n_dust"), -0.6, -0.1) == pytest.approx(-0.5)
    assert change(at("f_burst"), 0.1, 0.9) == 0.0
    assert change(0, 9.0, 12.0) == pytest.approx(-0.1 * np.log(1e3) - 10.0 + 0.01)


def test_a_users_start_is_a_file_of_reweight(any_model, tmp_path):
    space, photometry = any_model
    path = tmp_path / "start.toml"
    path.write_text('[tau_ism]\nfamily = "exponential"\nscale = 0.3\n')
    theta, redshift, _ = sample_start("flat", 100, space, photometry, np.random.default_rng(0))
    column = space.prior.names.index("tau_ism")
    ratio = start_prior(str(path), space, photometry)(theta, redshift)
    slope = np.polyfit(theta[:, column], ratio, 1)[0]
    assert slope == pytest.approx(-1 / 0.3, rel=1e-3)


def test_a_start_that_is_no_file_is_refused(any_model):
    space, photometry = any_model
    with pytest.raises(PopcatError, match="no prior at nowhere"):
        start_prior("nowhere", space, photometry)


def test_the_reweighted_library_has_the_photometry_of_the_data(synthesis):
    # truth: the start's own prior, but redder by dust and nearer
    theta, redshift, log_weight = sample_start(
        "physical", 150_000, synthesis.space, synthesis.photometry, np.random.default_rng(7)
    )
    log_weight = log_weight - redshift / 0.05 + 2.0 * theta[:, -2]
    weight = np.exp(log_weight - log_weight.max())
    rows = np.random.default_rng(0).choice(len(weight), 30_000, p=weight / weight.sum())
    galaxies, _ = galaxies_of(synthesis, torch.from_numpy(synthesis.space.unconstrained(theta[rows], redshift[rows])))
    scaling = fit_scaling(galaxies.flux, galaxies.err)
    said = []
    start = unfold(synthesis, galaxies, scaling, SETTINGS, said.append)
    before = unfold(synthesis, galaxies, scaling, SETTINGS.model_copy(update={"iterations": 0}))
    assert "effective" in said[0]
    truth = redshift[rows]

    def mean_redshift(one):
        chance = synthesis.detection(one.x, torch.zeros(len(one.x), 5))
        return np.average(synthesis.space.arrays(one.x)[1], weights=torch.softmax(one.log_weight, 0) * chance)

    seen_truth = galaxies_of(synthesis, torch.from_numpy(synthesis.space.unconstrained(theta[rows], truth)))[1]
    target = truth[seen_truth].mean()
    assert abs(mean_redshift(start) - target) < 0.6 * abs(mean_redshift(before) - target)


def test_a_catalogue_of_other_units_has_no_start(synthesis):
    flux = np.full((300, 5), 1e9) * np.linspace(1, 1.1, 300)[:, None]
    galaxies = Galaxies(flux, flux / 50, np.full(300, np.nan))
    with pytest.raises(PopcatError, match="check its units"):
        unfold(synthesis, galaxies, fit_scaling(galaxies.flux, galaxies.err), SETTINGS)


def test_a_flow_learns_the_library_with_its_weights():
    from popcat.population.synthesis import new_flow

    x = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    start = Start(x, torch.tensor([-40.0, 0.0]))
    settings = PopulationSettings(n_blocks=1, hidden=16, start_batch=64)
    flow, _ = new_flow(settings, 2, 0)
    made = StartLoss(flow, start, settings, 0)
    only = StartLoss(flow, Start(x[1:], torch.zeros(1)), settings, 0)
    assert made.loss(0).item() == pytest.approx(only.loss(0).item(), abs=1e-5)


def test_the_library_goes_on_beyond_a_cut_and_ends_with_the_data_without_one():
    data = 1.0 + np.random.default_rng(0).exponential(0.5, 20_000)
    edges, found = _data_fluxes(data, beyond=False)
    further, more = _data_fluxes(data, beyond=True)
    n, step = len(more) - len(found), np.diff(edges)[0]
    assert edges[0] == pytest.approx(1.0, abs=0.03)
    assert 1.0 <= edges[0] - further[0] < 1.0 + 1.01 * step
    np.testing.assert_array_equal(more[n:], found)
    assert np.isnan(more[:n]).all()
    np.testing.assert_allclose(np.diff(further), step)


def test_beyond_the_cut_the_library_has_the_priors_counts_up_to_its_share():
    found = np.array([np.nan, np.nan, np.nan, 100.0, 500.0, 400.0])
    there = np.array([8.0, 4.0, 2.0, 1.0, 3.0, 0.5])
    np.testing.assert_allclose(_wanted_fluxes(found, there, 0.6), [800, 400, 200, 100, 500, 400])
    np.testing.assert_allclose(_wanted_fluxes(found, there, 0.4), [0, 400, 200, 100, 500, 400])
    np.testing.assert_allclose(_wanted_fluxes(found, there, 0.0), [0, 0, 0, 100, 500, 400])
    np.testing.assert_allclose(_wanted_fluxes(found[3:], there[3:], 0.5), found[3:])


def test_no_more_of_the_library_than_allowed_lies_beyond_the_cuts(synthesis):
    theta, redshift, _ = sample_start("physical", 4000, synthesis.space, synthesis.photometry, np.random.default_rng(1))
    x = torch.from_numpy(synthesis.space.unconstrained(theta, redshift))
    chance = synthesis.detection(x, torch.zeros(len(x), 5))
    before = torch.zeros(len(x))
    assert (1.0 - chance).mean() > 0.6
    after = _limited(synthesis, x, before, 0.5)
    share = torch.softmax(after, 0)
    assert (share * (1.0 - chance)).sum().item() == pytest.approx(0.5, abs=0.01)
    assert chance[after < 0].max() <= chance[after == 0].min()
    assert torch.equal(_limited(synthesis, x, before, 1.0), before)
    hopeless, weight = torch.argsort(chance)[:100], torch.randn(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(_limited(synthesis, x[hopeless], weight, 0.01), weight)


def test_redshifts_are_weighted_to_the_known_ones():
    random = np.random.default_rng(0)
    known, library = random.beta(2.0, 6.0, 5000), random.uniform(size=50_000)
    log_ratio = _towards(known, library, torch.ones(len(library))).double().numpy()
    mean = np.average(library, weights=np.exp(log_ratio))
    assert mean == pytest.approx(known.mean(), abs=0.01)
    spread = np.sqrt(np.average((library - mean) ** 2, weights=np.exp(log_ratio)))
    assert spread == pytest.approx(known.std(), abs=0.01)


def test_regenerated_galaxies_are_distinct_and_keep_mean_and_covariance():
    from popcat.population.unfolding import _regenerated

    random = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, 2, generator=random) @ torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    log_weight = 0.8 * x[:, 0]
    share = torch.softmax(log_weight, 0)
    made = _regenerated(x, log_weight, random)
    assert len(torch.unique(made[:, 0])) > 19_000
    mean = (share[:, None] * x).sum(0)
    torch.testing.assert_close(made.mean(0), mean, atol=0.06, rtol=0)
    deviation = x - mean
    torch.testing.assert_close(torch.cov(made.t()), (share[:, None] * deviation).t() @ deviation, atol=0.08, rtol=0)


def test_the_library_lies_where_the_flow_does():
    start = Start(torch.zeros(5, 2), torch.zeros(5))
    assert StartLoss(None, start, SETTINGS, 0, "meta").x.device.type == "meta"
    assert StartLoss(None, start, SETTINGS, 0).x.device.type == "cpu"

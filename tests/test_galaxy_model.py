"""The prior is a bijection with the unit cube and with normal space, has the moments it claims, and leaks nowhere."""

import numpy as np
import pytest
from scipy.stats import kstest

from popcat.columns import PARAMETERS, parameter_fields
from popcat.errors import PopcatError
from popcat.galaxy_model import GalaxyModel, as_recorded
from popcat.prior import make_prior
from popcat.settings import settings_of

N, N_UNCONSTRAINED = 20_000, 11
BOUNDS = {
    "log_mstar_formed": (7.0, 12.5), "f_burst": (0.0, 1.0), "t_burst": (0.01, 13.27),
    "log_gamma1": (np.log10(4.5e-5), np.log10(1.5e-2)), "log_gamma2": (np.log10(4.5e-5), np.log10(1.5e-2)),
    "tau_bc": (0.0, 3.0), "tau_ism": (0.0, 3.0), "n_dust": (-2.0, 1.0),
}  # fmt: skip


@pytest.fixture(params=["flat", "provabgs_warped"])
def prior(request):
    return make_prior(GalaxyModel(beta=request.param))


def unit_points(n=N, seed=0):
    return np.random.default_rng(seed).uniform(size=(n, N_UNCONSTRAINED))


def betas(kind):
    return make_prior(GalaxyModel(beta=kind)).from_unit(unit_points())[:, 1:5]


def test_names_are_the_schema_in_its_order(prior):
    assert prior.names == tuple(PARAMETERS)


def test_from_unit_and_to_unit_are_inverse(prior):
    u = unit_points()
    theta = prior.from_unit(u)
    np.testing.assert_allclose(prior.to_unit(theta), u, rtol=0, atol=1e-10)
    np.testing.assert_allclose(prior.from_unit(prior.to_unit(theta)), theta, rtol=0, atol=1e-10)


def test_from_unconstrained_and_to_unconstrained_are_inverse(prior):
    w = np.random.default_rng(1).uniform(-3.5, 3.5, (N, N_UNCONSTRAINED))
    np.testing.assert_allclose(prior.to_unconstrained(prior.from_unconstrained(w)), w, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", BOUNDS)
def test_a_parameter_is_uniform_between_its_bounds(prior, name):
    low, high = BOUNDS[name]
    column = prior.names.index(name)
    values = prior.from_unit(unit_points())[:, column]
    assert kstest(values, "uniform", args=(low, high - low)).pvalue > 1e-3
    corners = prior.from_unit(np.array([np.zeros(N_UNCONSTRAINED), np.ones(N_UNCONSTRAINED)]))[:, column]
    np.testing.assert_allclose(corners, [low, high], rtol=1e-14)


def test_the_mass_range_is_a_setting():
    prior = make_prior(GalaxyModel(log_mstar_formed=(8.0, 11.0)))
    assert prior.from_unit(np.full((1, N_UNCONSTRAINED), 0.5))[0, 0] == 9.5


def test_weights_are_on_the_simplex(prior):
    beta = prior.from_unit(unit_points())[:, 1:5]
    assert (beta >= 0).all()
    np.testing.assert_allclose(beta.sum(axis=1), 1.0, rtol=1e-14)


def test_the_flat_prior_has_the_moments_of_a_flat_dirichlet():
    """Mean 1/4, variance (1/4)(3/4)/5, covariance -(1/4)^2/5."""
    beta = betas("flat")
    np.testing.assert_allclose(beta.mean(axis=0), 0.25, atol=5 * np.sqrt(0.0375 / N))
    np.testing.assert_allclose(np.cov(beta.T), np.where(np.eye(4) == 1, 0.0375, -0.0125), atol=1.5e-3)


@pytest.mark.parametrize("i", range(4))
def test_each_flat_weight_is_beta_1_3(i):
    assert kstest(betas("flat")[:, i], "beta", args=(1, 3)).pvalue > 1e-3


def test_the_warped_prior_has_the_means_of_the_released_code():
    np.testing.assert_allclose(betas("provabgs_warped").mean(axis=0), [1 / 2, 1 / 4, 1 / 8, 1 / 8], atol=0.01)


def test_prior_draws_are_standard_normal_in_unconstrained_space(prior):
    w = prior.to_unconstrained(prior.from_unit(unit_points()))
    assert min(kstest(column, "norm").pvalue for column in w.T) > 1e-3
    np.testing.assert_allclose(np.corrcoef(w.T), np.eye(N_UNCONSTRAINED), atol=5 / np.sqrt(N))


@pytest.mark.parametrize("scale", [1.0, 8.0, 40.0])
def test_nothing_leaves_the_prior(prior, scale):
    w = scale * np.random.default_rng(2).uniform(-1, 1, (N, N_UNCONSTRAINED))
    w[:2] = [[scale] * N_UNCONSTRAINED, [-scale] * N_UNCONSTRAINED]
    theta = prior.from_unconstrained(w)
    assert np.isfinite(theta).all()
    assert prior.contains(theta).all()


def test_the_edge_of_the_prior_stays_finite_in_unconstrained_space(prior):
    corners = np.array([np.zeros(N_UNCONSTRAINED), np.ones(N_UNCONSTRAINED)])
    w = prior.to_unconstrained(prior.from_unit(corners))
    assert np.isfinite(w).all()
    assert (w[0] < -6).all()
    # once the first weight takes the whole stick, the fractions of nothing are arbitrary
    assert (np.delete(w[1], [2, 3]) > 6).all()


def test_float32_parameters_move_little(prior):
    theta = prior.from_unit(unit_points())
    w = prior.to_unconstrained(theta)
    rounded = prior.to_unconstrained(theta.astype(np.float32).astype(float))
    common = (np.abs(w) < 3).all(axis=1)
    assert common.mean() > 0.9
    np.testing.assert_allclose(rounded[common], w[common], atol=2e-3)


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("side", [0, 1])
def test_contains_refuses_what_is_outside_any_bound(prior, name, side):
    theta = prior.from_unit(np.full((2, N_UNCONSTRAINED), 0.5))
    theta[1, prior.names.index(name)] = BOUNDS[name][side] + (1e-6 if side else -1e-6)
    assert prior.contains(theta).tolist() == [True, False]


def test_contains_refuses_weights_off_the_simplex(prior):
    theta = prior.from_unit(np.full((3, N_UNCONSTRAINED), 0.5))
    theta[0, 1:5] = [0.25, 0.25, 0.25, 0.25001]
    theta[1, 1:5] = [-0.01, 0.51, 0.25, 0.25]
    assert prior.contains(theta).tolist() == [False, False, True]


def test_contains_refuses_nan(prior):
    theta = prior.from_unit(np.full((1, N_UNCONSTRAINED), 0.5))
    theta[0, 3] = np.nan
    assert not prior.contains(theta)[0]


@pytest.fixture(params=[(1, 1, "evolving"), (3, 2, "evolving"), (5, 3, "evolving"), (4, 1, "constant")], ids=str)
def other(request, tmp_path):
    """The model settings of another number of bases, and the numbers of its weights."""
    n_sfh, n_zh, metallicity = request.param
    columns = [f"sfh{k + 1}" for k in range(n_sfh)] + [f"zh{k + 1}" for k in range(n_zh)]
    rows = [[t, *np.ones(n_sfh + n_zh)] for t in (0.0, 5.0, 13.8)]
    np.savetxt(tmp_path / "b.csv", rows, delimiter=",", header=",".join(["lookback_gyr", *columns]), comments="")
    return GalaxyModel(bases=str(tmp_path / "b.csv"), n_sfh_bases=n_sfh, n_metallicity_bases=n_zh,
                       metallicity=metallicity), n_sfh, n_zh


def test_any_number_of_weights_keeps_the_laws_of_the_prior(other):
    settings, n_sfh, n_zh = other
    prior = make_prior(settings)
    assert len(prior.names) == n_sfh + n_zh + 6 == prior.n_unconstrained + 1
    assert prior.names == tuple(parameter_fields(settings))
    u = np.random.default_rng(3).uniform(size=(N, prior.n_unconstrained))
    theta = prior.from_unit(u)
    assert prior.contains(theta).all()
    np.testing.assert_allclose(prior.to_unit(theta), u, rtol=0, atol=1e-10)
    w = prior.to_unconstrained(theta)
    np.testing.assert_allclose(prior.from_unconstrained(w), theta, rtol=0, atol=1e-10)
    np.testing.assert_allclose(theta[:, 1 : 1 + n_sfh].mean(axis=0), 1 / n_sfh, atol=5 / np.sqrt(N * n_sfh))


@pytest.mark.parametrize("i", range(3))
def test_each_of_n_flat_weights_is_beta_1_n_minus_1(other, i):
    settings, n_sfh, _ = other
    prior = make_prior(settings)
    beta = prior.from_unit(np.random.default_rng(4).uniform(size=(N, prior.n_unconstrained)))[:, 1 : 1 + n_sfh]
    if n_sfh == 1:
        assert (beta == 1.0).all()
    else:
        assert kstest(beta[:, i], "beta", args=(1, n_sfh - 1)).pvalue > 1e-3


def test_warped_weights_halve_what_is_left(other):
    settings, n_sfh, _ = other
    prior = make_prior(settings.model_copy(update={"beta": "provabgs_warped"}))
    beta = prior.from_unit(np.random.default_rng(5).uniform(size=(N, prior.n_unconstrained)))[:, 1 : 1 + n_sfh]
    halves = 0.5 ** np.arange(1, n_sfh + 1)
    halves[-1] = 0.5 ** (n_sfh - 1)
    np.testing.assert_allclose(beta.mean(axis=0), halves, atol=0.01)


def test_a_constant_metallicity_is_uniform_in_its_logarithm():
    prior = make_prior(GalaxyModel(metallicity="constant"))
    assert prior.names[7:9] == ("log_z", "tau_bc")
    u = np.random.default_rng(6).uniform(size=(N, prior.n_unconstrained))
    low, high = np.log10(4.5e-5), np.log10(4.5e-2)
    assert kstest(prior.from_unit(u)[:, 7], "uniform", args=(low, high - low)).pvalue > 1e-3


def test_the_preset_of_provabgs_sets_what_is_published_and_what_is_given_stands():
    model = GalaxyModel(preset="provabgs")
    assert (model.bases, model.binning, model.birth_cloud_age_gyr) == ("provabgs", "midpoint", 0.01)
    assert (model.igm, model.remnants, model.metallicity_range) == ("none", "renzini_ciotti_1993", (4.5e-5, 0.045))
    assert (model.dust_law, model.cosmology, model.n_sfh_bases, model.beta) == ("kriek_conroy", "Planck13", 4, "flat")
    given = GalaxyModel(preset="provabgs", bases="folder", igm="inoue_2014", metallicity_range=None)
    assert (given.bases, given.igm, given.metallicity_range) == ("folder", "inoue_2014", None)
    assert given.birth_cloud_age_gyr == 0.01


def test_a_model_is_written_as_its_settings_not_as_its_preset():
    model = GalaxyModel(preset="provabgs", metallicity_range=None)
    assert model.preset is None and "preset" not in model.model_dump()
    assert GalaxyModel.model_validate(as_recorded(model.model_dump())) == model
    assert model == GalaxyModel(bases="provabgs", binning="midpoint", birth_cloud_age_gyr=0.01, igm="none")


def test_a_preset_is_read_from_a_file_and_an_unknown_one_is_refused(tmp_path):
    (tmp_path / "m.toml").write_text('preset = "provabgs"\nbases = "here"\n')
    assert settings_of(GalaxyModel, tmp_path / "m.toml", "galaxy model").bases == "here"
    (tmp_path / "m.toml").write_text('preset = "prospector"\n')
    with pytest.raises(PopcatError, match="preset: Input should be 'provabgs'"):
        settings_of(GalaxyModel, tmp_path / "m.toml", "galaxy model")

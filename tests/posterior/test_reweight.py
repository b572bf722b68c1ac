"""Another prior's densities are normalised, its weights those of closed forms, and what has no draws is refused."""

import numpy as np
import pytest

from popcat.errors import PopcatError
from popcat.galaxy_model import GalaxyModel
from popcat.posterior.priors import load_prior, log_ratio_of, log_training
from popcat.prior import make_prior

Z_RANGE = (0.001, 0.6)
PRIOR = make_prior(GalaxyModel())
N = 40_000

FAMILIES = {
    "uniform": "[tau_ism]\nfamily = 'uniform'\nlow = 0.5\nhigh = 2.0",
    "normal": "[n_dust]\nfamily = 'normal'\nmean = -0.5\nsigma = 0.4",
    "a normal that is cut": "[n_dust]\nfamily = 'normal'\nmean = 1.0\nsigma = 0.5\ncut = true",
    "exponential": "[tau_bc]\nfamily = 'exponential'\nscale = 0.5",
    "beta": "[f_burst]\nfamily = 'beta'\na = 1.0\nb = 3.0",
    "table": "[log_mstar_formed]\nfamily = 'table'\nx = [8.0, 10.0, 12.0]\ndensity = [0.0, 2.0, 1.0]",
    "dirichlet": "[beta]\nfamily = 'dirichlet'\nconcentration = [2.0, 1.0, 1.5, 1.0]",
    "redshifts": "[redshift]\nfamily = 'table'\nx = [0.01, 0.2, 0.5]\ndensity = [0.0, 1.0, 0.0]",
}


@pytest.fixture(scope="module")
def draws():
    """One galaxy whose posterior is the prior."""
    random = np.random.default_rng(0)
    theta = PRIOR.from_unit(random.uniform(size=(N, len(PRIOR.names) - 1)))
    columns = {name: column[None].astype(np.float32) for name, column in zip(PRIOR.names, theta.T, strict=True)}
    return columns | {"redshift": random.uniform(*Z_RANGE, size=(1, N)).astype(np.float32)}


@pytest.fixture
def new(tmp_path):
    def load(text, model=None):
        (tmp_path / "prior.toml").write_text(text)
        return load_prior(tmp_path / "prior.toml", PRIOR if model is None else make_prior(model), Z_RANGE)

    return load


FREE = np.array([True])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mean_weight_of_the_prior_is_one(new, draws, family):
    weight = np.exp(new(FAMILIES[family]).log_ratio(draws, FREE))
    assert abs(weight.mean() - 1.0) < 5 * weight.std() / np.sqrt(N)


def test_priors_of_several_parameters_multiply(new, draws):
    parts = [FAMILIES[name] for name in ("uniform", "normal", "dirichlet")]
    together = new("\n".join(parts)).log_ratio(draws, FREE)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(together, sum(new(part).log_ratio(draws, FREE) for part in parts))


def test_a_prior_that_names_nothing_changes_nothing(new, draws):
    assert (new("").log_ratio(draws, FREE) == 0.0).all()


def test_the_training_prior_itself_has_weight_one(new, draws):
    low, high = PRIOR.bounds("tau_ism")
    text = f"[tau_ism]\nfamily = 'uniform'\nlow = {low}\nhigh = {high}\n"
    text += "[beta]\nfamily = 'dirichlet'\nconcentration = [1, 1, 1, 1]"
    np.testing.assert_allclose(new(text).log_ratio(draws, FREE), 0.0, atol=1e-5)


def test_weighted_draws_follow_the_new_prior(new, draws):
    weight = np.exp(new(FAMILIES["exponential"]).log_ratio(draws, FREE))
    mean = np.sum(weight * draws["tau_bc"]) / weight.sum()
    # of an exponential cut off at 3
    assert mean == pytest.approx(0.5 - 3.0 / np.expm1(3.0 / 0.5), rel=0.03)


def test_weights_may_be_continuous_under_the_new_prior(new, draws):
    ratio = new("[beta]\nfamily = 'continuity'\nscale = 0.5").log_ratio(draws, FREE)
    weights = np.stack([draws[name] for name in PRIOR.weights.names], axis=-1).astype(float)
    trained = make_prior(GalaxyModel(priors={"beta": {"family": "continuity", "scale": 0.5}}))
    np.testing.assert_allclose(ratio, trained.weights.log_density(weights) - PRIOR.weights.log_density(weights))


def test_a_given_redshift_has_no_prior(new, draws):
    assert (new(FAMILIES["redshifts"]).log_ratio(draws, ~FREE) == 0.0).all()


@pytest.mark.parametrize("beta", ["flat", "provabgs_warped"])
def test_the_density_of_the_weights_is_that_of_the_training_prior(beta):
    """Monte Carlo over the simplex: the density integrates to one, and its mean is that of the draws."""
    prior = make_prior(GalaxyModel(beta=beta))
    flat = np.random.default_rng(1).dirichlet(np.ones(4), size=400_000)
    density = np.exp(prior.weights.log_density(flat)) / 6.0  # the flat Dirichlet's density is 3!
    assert density.mean() == pytest.approx(1.0, rel=0.05)
    expected = prior.from_unit(np.random.default_rng(2).uniform(size=(100_000, 11)))[:, 1:5].mean(axis=0)
    np.testing.assert_allclose((density[:, None] * flat).mean(axis=0), expected, rtol=0.08)


def test_a_function_may_be_the_prior(draws):
    def training(columns):
        return log_training(PRIOR, Z_RANGE, columns, FREE)

    np.testing.assert_allclose(log_ratio_of(training, PRIOR, Z_RANGE, draws, FREE), 0.0, atol=1e-12)
    assert PRIOR.weights.names == ("beta1", "beta2", "beta3", "beta4")


REFUSED = {
    "a range that is too wide": (FAMILIES["uniform"].replace("2.0", "4.0"), "0 to 3, the new one 0.5 to 4"),
    "a logarithm of zero": ("[tau_ism]\nfamily = 'log_uniform'", "needs low > 0"),
    "a volume of dust": ("[tau_ism]\nfamily = 'volume'", "is for the redshift"),
    "a continuity of dust": ("[tau_ism]\nfamily = 'continuity'", "is for the SFH weights"),
    "one value": ("[tau_ism]\nfamily = 'fixed'\nvalue = 0.3", "leaves no draw any weight"),
    "a range upside down": (FAMILIES["uniform"].replace("2.0", "0.1"), "low < high"),
    "a normal beyond the edge": (FAMILIES["normal"].replace("-0.5", "1.0"), "50% of the new one's mass lies outside"),
    "a long exponential": (FAMILIES["exponential"].replace("0.5", "2.0"), "22% of the new one's mass"),
    "redshifts beyond the survey": (FAMILIES["redshifts"].replace("0.5]", "0.9]"), "0.001 to 0.6"),
    "an unknown parameter": ("[tau_isn]\nfamily = 'beta'\na = 1\nb = 1", 'did you mean "tau_ism"'),
    "an unknown family": ("[tau_ism]\nfamily = 'gamma'", "tau_ism"),
    "a weight alone": ("[beta1]\nfamily = 'beta'\na = 1\nb = 1", 'no parameter "beta1"'),
    "three weights": ("[beta]\nfamily = 'dirichlet'\nconcentration = [1, 1, 1]", "4 concentrations"),
    "weights that are uniform": ("[beta]\nfamily = 'uniform'\nlow = 0\nhigh = 1", "dirichlet"),
    "a table upside down": (FAMILIES["table"].replace("10.0", "7.0"), "ascend"),
    "no TOML": ("[tau_ism", "not valid TOML"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_draws_is_refused_with_the_reason(new, case):
    text, message = REFUSED[case]
    with pytest.raises(PopcatError, match=message.replace("(", r"\(")) as caught:
        new(text)
    assert "\n" not in str(caught.value)


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(PopcatError, match="no prior at"):
        load_prior(tmp_path / "absent.toml", PRIOR, Z_RANGE)

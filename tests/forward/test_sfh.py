"""Star-formation histories of the setting `history`: closed forms, and every fast path against the reference."""

import numba
import numpy as np
import pytest
import torch
from scipy.stats import kstest, t

from popcat.columns import parameter_fields
from popcat.errors import PopcatError
from popcat.forward.filters import load_curves
from popcat.forward.histories import load_bases
from popcat.forward.ingredients import load_ingredients
from popcat.forward.photometry import Photometry
from popcat.forward.properties import Properties
from popcat.forward.sfh import DelayedTau, DoublePowerLaw, Lognormal, Steps, make_history
from popcat.forward.sfh_parametric import double_power_law
from popcat.forward.spectrum import population, reference_fluxes
from popcat.forward.table_arrays import in_double
from popcat.forward.torch_photometry import TorchPhotometry
from popcat.galaxy_model import HISTORY_PARAMETERS, GalaxyModel
from popcat.prior import make_prior
from popcat.survey import load_survey

MIXTURES = ["fractional", "continuity", "continuity_bursty", "dirichlet"]
FIRST, *OTHERS = HISTORY_PARAMETERS
EVERY = [*MIXTURES, *HISTORY_PARAMETERS]
SLOW = [pytest.param(one, marks=pytest.mark.slow) for one in OTHERS]
"""Kernels of each formula compile for half a minute, and for a minute with derivatives in double precision."""
MOVING, DERIVED = [*MIXTURES, FIRST, *SLOW], ["continuity", FIRST, *SLOW]
DERIVED += [pytest.param(one, marks=pytest.mark.slow) for one in MIXTURES if one != "continuity"]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
REDSHIFTS = [0.1, 1.0, 3.0, 6.0, 12.0]


@pytest.fixture(scope="module")
def case():
    """(history, redshift) -> photometry in H and Ks next to that redshift, theta (80, d) and redshift (80,)."""
    known, wide = {}, load_survey("galex_sdss_2mass")

    def function(history, redshift):
        if (history, redshift) not in known:
            bands = tuple(band for band in wide.bands if band.name in ("H", "Ks"))
            selection = wide.selection.model_copy(update={"band": "H"})
            near = wide.model_copy(update={"redshift_range": (redshift - 0.01, redshift + 0.01), "bands": bands,
                                           "absolute_magnitudes": (), "selection": selection})  # fmt: skip
            photometry = Photometry(near, GalaxyModel(history=history))
            rng, prior = np.random.default_rng(3), make_prior(GalaxyModel(history=history))
            theta = prior.from_unit(rng.random((80, prior.n_unconstrained)))
            theta[:, -1] = np.maximum(theta[:, -1], -1.0)  # what the dust leaves of the far ultraviolet is not at stake
            known[history, redshift] = photometry, theta, rng.uniform(redshift - 0.009, redshift + 0.009, 80)
        return known[history, redshift]

    return function


@pytest.fixture(scope="module")
def precise(case):
    """The same with tables in float64: differences of fluxes mean something."""

    def function(history, redshift):
        photometry, theta, z = case(history, redshift)
        photometry.kernel_tables = in_double(photometry.kernel_tables)
        return photometry, theta, z, np.random.default_rng(4).normal(size=(len(z), 2))

    return function


@pytest.mark.parametrize("redshift", REDSHIFTS)
@pytest.mark.parametrize("history", MOVING)
def test_fluxes_agree_with_the_reference(case, history, redshift):
    photometry, theta, z = case(history, redshift)
    expected = reference_fluxes(theta, z, photometry.ingredients, load_curves(photometry.survey))
    error = np.abs(photometry.flux(theta, z) / expected - 1.0)[expected > 1e-10 * expected.max(axis=1, keepdims=True)]
    assert np.max(error) < 1e-3


@pytest.mark.parametrize("redshift", REDSHIFTS)
@pytest.mark.parametrize("history", DERIVED)
def test_every_derivative_agrees_with_finite_differences(precise, history, redshift):
    photometry, theta, z, v = precise(history, redshift)
    # formulae have steeper curves, and fewer digits
    step, tolerance = (1e-7, 1e-6) if history in MIXTURES else (1e-6, 1e-4)
    flux, grad, grad_z = photometry.flux_vjp(theta, z, v)
    x, exact = np.column_stack([theta, z]), np.column_stack([grad, grad_z])

    def value(x):
        return np.sum(v * photometry.flux(x[:, :-1], x[:, -1]), axis=1)

    for column in range(x.shape[1]):
        move = step * np.eye(x.shape[1])[column]
        here = np.sum(v * flux, axis=1)
        left, right = (here - value(x - move)) / step, (value(x + move) - here) / step
        size = np.sum(np.abs(v * flux), axis=1) + np.abs(exact[:, column])
        smooth = np.abs(left - right) < 1e3 * step * size
        assert np.mean(smooth) > 0.9
        assert np.max((np.abs(0.5 * (left + right) - exact[:, column]) / size)[smooth]) < tolerance


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("redshift", REDSHIFTS)
@pytest.mark.parametrize("history", DERIVED)
def test_the_torch_twin_agrees(precise, history, redshift, device):
    photometry, theta, z, v = precise(history, redshift)
    flux, grad, grad_z = photometry.flux_vjp(theta, z, v)
    inputs = [torch.tensor(x, device=device, requires_grad=True) for x in (theta, z)]
    twin = TorchPhotometry(photometry, dtype=torch.float64).to(device)(*inputs)
    torch.sum(torch.tensor(v, device=device) * twin).backward()
    found, by_theta, by_z = (x.detach().cpu().numpy() for x in (twin, inputs[0].grad, inputs[1].grad))
    size = np.sum(np.abs(v * flux), axis=1)
    np.testing.assert_allclose(found, flux, rtol=1e-9)
    assert np.max(np.abs(by_theta - grad) / (size[:, None] + np.abs(grad))) < 1e-9
    assert np.max(np.abs(by_z - grad_z) / (size + np.abs(grad_z))) < 1e-9


@pytest.mark.parametrize("history", MOVING)
def test_the_torch_twin_is_good_in_single_precision_too(case, history):
    photometry, theta, z = case(history, 3.0)
    twin = TorchPhotometry(photometry)
    with torch.no_grad():
        flux = twin(torch.tensor(theta).to(twin.component), torch.tensor(z).to(twin.component)).numpy()
    assert np.quantile(np.abs(flux / photometry.flux(theta, z) - 1.0), 0.95) < 1e-4


@pytest.mark.parametrize("redshift", [0.1, 6.0])
@pytest.mark.parametrize("history", MOVING)
def test_properties_agree_with_the_population_and_the_history(case, history, redshift):
    photometry, theta, z = case(history, redshift)
    model = photometry.ingredients
    out = Properties(photometry.survey, model)(theta, z)
    stars = [population(row, one, model) for row, one in zip(theta, z, strict=True)]
    np.testing.assert_allclose(10.0 ** out["log_z_mw"], [s.mass @ 10.0**s.log_z for s in stars], rtol=1e-9)
    np.testing.assert_allclose(out["age_mw_gyr"], [s.mass @ s.age_gyr for s in stars], rtol=1e-9)
    for i, (row, t_age) in enumerate(zip(theta, model.cosmology.age(z), strict=True)):
        parameters, (f_burst, t_burst) = row[1 : 1 + model.n_sfh], row[1 + model.n_sfh : 3 + model.n_sfh]
        f_burst = f_burst if t_burst <= t_age else 0.0
        for name, window in (("log_sfr_100myr", 0.1), ("log_sfr_1gyr", 1.0)):
            mass = model.history.masses(parameters, np.unique([0.0, min(window, t_age), t_age]), t_age)
            formed = (1.0 - f_burst) * mass[0] / mass.sum() + (f_burst if t_burst < window else 0.0)
            rate = max(formed / (window * 1e9), 1e-14)
            assert 10.0 ** (out[name][i] - row[0]) == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize("history", ["lookback", *EVERY])
def test_masses_are_integrals_of_the_rate(history):
    """By trapezoids, of histories that change no faster than these do."""
    model, rng = GalaxyModel(history=history), np.random.default_rng(2)
    prior, found = make_prior(model), load_ingredients(model).history
    for row in prior.from_unit(0.3 + 0.4 * rng.random((20, prior.n_unconstrained))):
        parameters, t_age = row[1 : 1 + len(model.history_parameters)], rng.uniform(0.3, 13.7)
        breaks = [*found.breaks_gyr, *(found.edges(t_age) if isinstance(found, Steps) else ())]
        edges = np.array([0.0, 0.05 * t_age, 0.3 * t_age, t_age])
        fine = np.sort(np.concatenate([t_age * np.linspace(0.0, 1.0, 40_001), edges, *[[b - 1e-9, b] for b in breaks]]))
        fine = np.unique(np.clip(fine, 0.0, t_age))
        rate = found.rates(parameters, fine, t_age)
        below = np.concatenate([[0.0], np.cumsum(0.5 * np.diff(fine) * (rate[1:] + rate[:-1]))])
        expected = np.diff(np.interp(edges, fine, below))
        np.testing.assert_allclose(found.masses(parameters, edges, t_age), expected, rtol=1e-4,
                                   atol=1e-5 * expected.sum())  # fmt: skip


def test_the_delayed_history_has_its_closed_form():
    """M(T) ~ tau^2 - tau (tau + T) e^(-T / tau) since the onset: Carnall et al. 2018's rate, integrated."""
    age, tau = 0.8, 0.3
    since = np.array([0.0, 0.2, 0.5, 0.8])
    expected = np.diff(tau**2 - tau * (tau + since) * np.exp(-since / tau))
    edges = 10.0 * (age - since[::-1])
    np.testing.assert_allclose(DelayedTau().masses(np.array([age, np.log10(tau)]), edges, 10.0), expected[::-1])
    assert DelayedTau().masses(np.array([age, np.log10(tau)]), np.array([8.0, 10.0]), 10.0)[0] == 0.0


def test_the_lognormal_history_has_its_peak_and_width():
    time = np.linspace(1e-4, 2.0, 200_001)
    rate = Lognormal().rate(np.array([0.4, 0.3]), time)
    assert time[np.argmax(rate)] == pytest.approx(0.4, abs=1e-4)
    assert np.ptp(time[rate >= 0.5 * rate.max()]) == pytest.approx(0.3, abs=1e-4)


def test_the_double_power_law_has_its_slopes():
    rate = DoublePowerLaw().rate(np.array([0.3, 0.6, 0.1]), np.array([1e-5, 1e-4, 1e2, 1e3]))
    assert np.diff(np.log10(rate))[[0, 2]] == pytest.approx([10.0**0.6, -(10.0**0.3)], rel=1e-6)


# Star-formation rates in Msun / yr of bagpipes 1.3.6 at z = 1 (star_formation_history.py), 1e10 Msun formed, at these
# lookback times in Gyr: delayed, age 4 and tau 1 Gyr; lognormal, tmax 3 and fwhm 2; dblplaw, tau 3, alpha 5, beta 2.
BAGPIPES_AGE, BAGPIPES_GYR = 5.751646943448282, np.array([0.05011872, 0.59910094, 1.99526231, 3.50751874])
BAGPIPES = {
    "delayed_tau": ([4.0 / BAGPIPES_AGE, -np.log10(BAGPIPES_AGE)], [0.8373116, 1.2482936, 2.9725266, 3.3130083]),
    "lognormal": ([3.0 / BAGPIPES_AGE, 2.0 / BAGPIPES_AGE], [0.3264223, 0.7080048, 3.3840401, 2.7213066]),
    "double_power_law": ([np.log10(5.0), np.log10(2.0), 3.0 / BAGPIPES_AGE],
                         [0.3008668, 0.4935179, 2.0300745, 3.7317492]),
}  # fmt: skip


@pytest.mark.parametrize("history", BAGPIPES)
def test_formulae_are_those_of_bagpipes(history):
    parameters, expected = BAGPIPES[history]
    found = make_history(GalaxyModel(history=history), load_bases("popcat"))
    formed = found.masses(np.array(parameters), np.array([0.0, BAGPIPES_AGE]), BAGPIPES_AGE)[0]
    rates = found.rates(np.array(parameters), BAGPIPES_GYR, BAGPIPES_AGE)
    np.testing.assert_allclose(10.0 * rates / formed, expected, rtol=1e-5)


def test_the_series_of_the_double_power_law_is_good_to_1e_12():
    x = np.linspace(0.0, 1.0, 1001)
    np.testing.assert_allclose(np.polyval(double_power_law().coefficient[::-1], x) * (1.0 + x), 1.0, atol=1e-12)


def test_steps_lie_as_published():
    """Leja et al. 2019: 30 and 100 Myr, the last from 0.85 of the age of the universe, equal in ln t between."""
    edges = Steps(7, by_mass=False).edges(13.0)
    np.testing.assert_allclose(edges[[0, 1, 2, -2, -1]], [0.0, 0.03, 0.1, 0.85 * 13.0, 13.0], rtol=1e-12)
    np.testing.assert_allclose(np.diff(np.log(edges[2:-1])), np.log(8.5 * 13.0) / 4, rtol=1e-12)


@pytest.mark.parametrize("t_age", [0.05, 0.11, 0.37, 2.0, 13.0])
def test_the_mass_of_a_step_is_its_rate_times_its_width(t_age):
    weights = np.array([0.1, 0.05, 0.2, 0.3, 0.15, 0.2])
    edges = Steps(6, by_mass=False).edges(t_age)
    assert np.all(np.diff(edges) >= 0.0) and edges[-1] == t_age
    np.testing.assert_allclose(Steps(6, by_mass=False).masses(weights, edges, t_age), weights * np.diff(edges))


def test_the_mass_of_a_step_is_its_fraction():
    weights = np.array([0.1, 0.05, 0.2, 0.3, 0.15, 0.2])
    steps = Steps(6, by_mass=True)
    np.testing.assert_allclose(steps.masses(weights, steps.edges(2.0), 2.0), weights, rtol=1e-12)


def test_steps_of_no_width_form_nothing():
    weights, steps = np.full(5, 0.2), Steps(5, by_mass=True)
    mass = steps.masses(weights, steps.edges(0.1), 0.1)
    assert mass.tolist() == pytest.approx([0.2, 0.2, 0.0, 0.0, 0.2])


def test_kernels_know_a_universe_too_young_for_some_steps():
    """The masses do, at redshifts above those of any survey."""
    from popcat.forward.sfh_laws import StepsLaw, masses, masses_gradient

    @numba.njit
    def both(law, beta, t_age, edges, last, mass, d_mass, grad):
        return masses(law, beta, t_age, edges, last, mass), masses_gradient(law, beta, t_age, edges, last, d_mass, grad)

    edges, beta, d_mass = np.array([0.0, 0.02, 0.04, 0.2]), (0.1, 0.2, 0.3, 0.2, 0.2), np.array([1.0, -2.0, 3.0])
    for t_age in (0.05, 0.1, 0.15):
        for by_mass in (False, True):
            expected = [Steps(5, by_mass).masses(np.array(beta), np.append(edges[:3], t), t) @ d_mass
                        for t in (t_age, t_age - 1e-7, t_age + 1e-7)]  # fmt: skip
            mass, grad = np.zeros(3), np.zeros(6)
            _, d_age = both(StepsLaw(by_mass), beta, t_age, edges, 2, mass, d_mass, grad)
            assert mass @ d_mass == pytest.approx(expected[0])
            assert d_age == pytest.approx((expected[2] - expected[1]) / 2e-7, rel=1e-5)
            assert grad[1:] @ beta == pytest.approx(expected[0])


def test_fractional_bases_are_the_same_at_every_redshift_in_units_of_the_age():
    history = load_ingredients(GalaxyModel(history="fractional")).history
    weights, edges = np.array([0.1, 0.3, 0.1, 0.2, 0.1, 0.2]), np.linspace(0.0, 1.0, 30)
    low, high = (history.masses(weights, edges * t_age, t_age) for t_age in (0.4, 13.0))
    np.testing.assert_allclose(low, high, rtol=1e-9)
    assert history.masses(weights, edges, 1.0).sum() == pytest.approx(1.0, rel=1e-4)


def test_embedded_fractional_bases_have_the_mean_ages_of_their_formula():
    bases = load_bases("popcat", fractional=True)
    k, u = np.arange(6), np.linspace(0.0, 1.0, 20_001)
    mean = [np.trapezoid(u * np.interp(u, bases.lookback_gyr, row), u) for row in bases.sfh]
    np.testing.assert_allclose(mean, (k + 2) * (k + 3) / 72, rtol=2e-3)
    assert 13.8 * mean[0] < 13.8 * mean[1] < 2.31 and bases.sfh.min() >= 0.0


@pytest.mark.parametrize(("history", "scale"), [("continuity", 0.3), ("continuity_bursty", 1.0)])
def test_rates_of_neighbouring_steps_have_the_published_ratio(history, scale):
    prior = make_prior(GalaxyModel(history=history))
    theta = prior.from_unit(np.random.default_rng(1).random((4000, prior.n_unconstrained)))
    assert prior.names[1:8] == tuple(f"beta{k}" for k in range(1, 8))
    for k in range(1, 7):
        assert kstest(np.log10(theta[:, k] / theta[:, k + 1]), t(2, scale=scale).cdf).pvalue > 1e-3


def test_fractions_of_the_mass_have_a_flat_prior():
    assert make_prior(GalaxyModel(history="dirichlet")).weights == make_prior(GalaxyModel(n_sfh_bases=7)).weights


def test_models_of_before_are_written_as_they_were():
    assert "history" not in GalaxyModel().model_dump()
    for history in EVERY:
        model = GalaxyModel(history=history)
        assert GalaxyModel.model_validate_json(model.model_dump_json()) == model
        assert list(parameter_fields(model))[1:-7] == list(model.history_parameters)
        few = GalaxyModel(history=history, bins_per_dex=10)
        assert GalaxyModel.model_validate_json(few.model_dump_json()) == few
        assert history not in HISTORY_PARAMETERS or model.bins_per_dex >= 20
    assert parameter_fields(GalaxyModel(history="dirichlet"))["beta2"][1].startswith("fraction of the mass")


def test_the_default_history_compiles_to_tables_alone(photometry):
    assert photometry.histories.law is None


def test_too_few_steps_are_refused():
    with pytest.raises(ValueError, match='history "continuity" needs at least 4 steps, got n_sfh_bases = 3'):
        GalaxyModel(history="continuity", n_sfh_bases=3)


def test_a_formula_has_no_weights():
    prior = make_prior(GalaxyModel(history="delayed_tau"))
    u = np.random.default_rng(5).random((50, prior.n_unconstrained))
    theta = prior.from_unit(u)
    np.testing.assert_allclose(prior.to_unit(theta), u, atol=1e-12)
    assert prior.names[1:3] == ("age_fraction", "log_tau_fraction") and prior.contains(theta).all()
    draws = dict(zip(prior.names, theta.T, strict=True))
    spans = [high - low for low, high in (prior.bounds(name) for name in prior.names)]
    np.testing.assert_allclose(prior.log_density(draws), -np.sum(np.log(spans)))
    with pytest.raises(PopcatError, match='history "delayed_tau" has no weights: expected priors of age_fr'):
        make_prior(GalaxyModel(history="delayed_tau", priors={"beta": {"family": "continuity"}}))
    with pytest.raises(PopcatError, match=r"priors\.age_fraction: expected no more than 0\.01 to 1, "):
        make_prior(GalaxyModel(history="delayed_tau", priors={"age_fraction": {"family": "uniform", "high": 1.2}}))
    with pytest.raises(ValueError, match='history "lognormal" has no bases: leave n_sfh_bases out, got 3'):
        GalaxyModel(history="lognormal", n_sfh_bases=3)


def test_a_prior_of_other_histories_is_refused():
    with pytest.raises(ValueError, match='beta "provabgs_warped" is for history "lookback"'):
        GalaxyModel(history="dirichlet", beta="provabgs_warped")


def test_bases_in_gyr_are_no_fractions(tmp_path):
    (tmp_path / "b.csv").write_text("lookback_gyr,sfh1,zh1\n0,1,1\n5,1,1\n13.8,1,1\n")
    with pytest.raises(PopcatError, match=r"between 0 and 1 of the age of the universe, got 0 to 13\.8"):
        load_bases(str(tmp_path / "b.csv"), fractional=True)
    with pytest.raises(PopcatError, match='history "fractional" needs a CSV file'):
        load_bases(str(tmp_path), fractional=True)


def test_a_star_formation_rate_does_not_count_time_before_the_big_bang(survey, model):
    """At redshift 8 the universe is younger than the window of 1 Gyr."""
    high = survey.model_copy(update={"redshift_range": (7.99, 8.01), "absolute_magnitudes": ()})
    theta = np.array([[10.0, 0.25, 0.25, 0.25, 0.25, 0.0, 1.0, -2.5, -2.2, 0.8, 0.4, -0.5]])
    assert Properties(high, model)(theta, np.array([8.0]))["log_sfr_1gyr"][0] == pytest.approx(1.0, abs=1e-12)

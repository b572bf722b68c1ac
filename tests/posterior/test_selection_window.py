"""Galaxies are simulated where noise may bring them into the selection, and there they are the prior's."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from popcat.errors import PopcatError
from popcat.forward.noise import add_noise, default_noise
from popcat.forward.properties import forward_for
from popcat.galaxy_model import GalaxyModel
from popcat.physical.prior import physical_prior
from popcat.posterior.simulated import draw_inside, draw_mocks, draw_physical, draw_prior, simulate_partition, window_of
from popcat.prior import PHYSICAL, PRIORS, make_prior
from popcat.survey import load_survey
from popcat.units import nmgy_to_ab_mag

MODEL = GalaxyModel()


def survey_of(bright, faint, redshift_range=(0.001, 0.6)):
    survey = load_survey("sdss")
    cut = survey.selection.model_copy(update={"bright_mag": bright, "faint_mag": faint})
    return survey.model_copy(update={"selection": cut, "redshift_range": redshift_range})


def inside(theta, redshift, survey, model=MODEL):
    """Rows whose model magnitude is in the window, and that magnitude."""
    window = window_of(survey, default_noise(survey))
    mag = nmgy_to_ab_mag(forward_for(survey, model).photometry.flux(theta, redshift)[:, window.band])
    return np.flatnonzero((mag >= window.bright_mag) & (mag <= window.faint_mag)), mag


def assert_same(first, second, names):
    """By the KS distance of each column: as far apart as chance leaves one of ten thousand tests."""
    for column, name in enumerate(names):
        found = ks_2samp(first[:, column], second[:, column])
        assert found.pvalue > 1e-4, (name, found)


MODELS = {
    "the mass uniform": MODEL,
    "the mass of a Schechter function": GalaxyModel(
        priors={"log_mstar_formed": {"family": "schechter", "log_mass": 10.7, "alpha": -1.2}}
    ),
    "the mass fixed": GalaxyModel(priors={"log_mstar_formed": {"family": "fixed", "value": 10.0}}),
    "dust tied to the mass": GalaxyModel(
        priors={"tau_ism": {"family": "tied", "to": "log_mstar_formed", "factor": 0.2, "offset": -1.0}}
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_draws_in_the_window_are_those_of_the_prior_that_are_there(name):
    model, survey = MODELS[name], survey_of(14.0, 19.0)
    all_theta, all_redshift = draw_prior(np.arange(60_000), survey, model, 1)
    rows, mag = inside(all_theta, all_redshift, survey, model)
    theta, redshift = draw_inside(np.arange(8000), survey, model, default_noise(survey), 2)
    there, its_mag = inside(theta, redshift, survey, model)
    assert len(there) == len(theta) and 1000 < len(rows) < 40_000
    assert_same(np.column_stack([theta, redshift, its_mag]),
                np.column_stack([all_theta, all_redshift, mag])[rows],
                [*make_prior(model).names, "redshift", "magnitude"])  # fmt: skip


def test_draws_of_the_physical_prior_in_the_window_are_those_that_are_there():
    survey = survey_of(14.0, 19.0, (0.02, 0.08))
    joint = physical_prior(MODEL, survey.redshift_range)
    drawn = joint.sample(12_000, np.random.default_rng(1), candidates=60)
    rows, mag = inside(drawn.theta, drawn.redshift, survey)
    theta, redshift = draw_physical(5 * np.arange(3000), survey, MODEL, default_noise(survey), 2)
    there, its_mag = inside(theta, redshift, survey)
    assert len(there) == len(theta) and len(rows) > 1000
    assert_same(np.column_stack([theta, redshift, its_mag]),
                np.column_stack([drawn.theta, drawn.redshift, mag])[rows],
                [*make_prior(MODEL).names, "redshift", "magnitude"])  # fmt: skip


@pytest.mark.parametrize("prior", PRIORS)
def test_most_simulated_galaxies_pass_the_selection(prior):
    survey = survey_of(14.0, 18.0)
    frame = simulate_partition(0, 1000, survey, MODEL, default_noise(survey), 3, prior)
    mag = nmgy_to_ab_mag(frame["flux_r"].to_numpy())
    assert np.mean((mag >= 14.0) & (mag <= 18.0)) > 0.85


def test_the_physical_prior_has_less_dust():
    survey = load_survey("sdss")
    physical, flat = (simulate_partition(0, 1000, survey, MODEL, default_noise(survey), 3, one) for one in PRIORS[::-1])
    assert "prior" not in physical.columns
    assert physical["tau_ism"].median() < 0.6 < flat["tau_ism"].median()


@pytest.mark.parametrize("louder", [1.0, 2.0])
def test_noise_brings_hardly_any_galaxy_from_outside_the_window_into_the_selection(louder):
    survey = survey_of(15.0, 19.0)
    noise = default_noise(survey)
    bands = {name: band.model_copy(update={"ln_err": tuple(np.array(band.ln_err) + np.log(louder))})
             for name, band in noise.bands.items()}  # fmt: skip
    noise = noise.model_copy(update={"bands": bands})
    window, band = window_of(survey, noise), survey.band_names.index("r")
    random = np.random.default_rng(0)
    # more galaxies of each fainter magnitude, as 10^(0.4 m), and equal numbers of those whose errors are widened
    mag = 13.0 + np.log10(1.0 + random.uniform(size=400_000) * (10.0 ** (0.4 * 10.0) - 1.0)) / 0.4
    flux = np.repeat(10.0 ** (0.4 * (22.5 - mag))[:, None], 5, axis=1)
    noisy, _ = add_noise(flux, noise, random.standard_normal((len(mag), 10)))
    widened = np.exp(0.4 * random.standard_normal(len(mag)) * (np.arange(len(mag)) % 2))
    seen = nmgy_to_ab_mag((flux + widened[:, None] * (noisy - flux))[:, band])
    passes = (seen >= 15.0) & (seen <= 19.0)
    outermost = np.sum((mag > 18.0) & (mag < 19.0))
    fainter = np.sum(passes & (mag > window.faint_mag)) / outermost
    assert fainter < 0.025
    assert np.sum(passes & (mag < window.bright_mag)) < 0.05 * np.sum((mag > 15.0) & (mag < 16.0))
    assert window.faint_mag - 19.0 < louder


def test_the_window_ends_three_magnitudes_below_a_selection_of_pure_noise():
    survey = survey_of(15.0, 24.0)
    assert window_of(survey, default_noise(survey)).faint_mag == 27.0


def test_a_selection_without_galaxies_is_said_in_a_line():
    survey = survey_of(1.0, 2.0, (0.3, 0.6))
    for draw in (draw_inside, draw_physical):
        with pytest.raises(PopcatError, match=r"pass the selection of survey \"sdss\" \(r 1 to 2 mag\): widen"):
            draw(np.arange(20), survey, MODEL, default_noise(survey), 0)


def test_mocks_are_of_the_posterior_s_prior(tiny_model):
    from popcat.posterior.posterior import load_posterior

    posterior = load_posterior(tiny_model)
    frame = draw_mocks(posterior, 200, 4)
    assert len(frame) == 200 and posterior.prior_name != PHYSICAL
    cut, mag = posterior.survey.selection, nmgy_to_ab_mag(frame["flux_r"].to_numpy())
    assert mag.min() >= cut.bright_mag and mag.max() <= cut.faint_mag

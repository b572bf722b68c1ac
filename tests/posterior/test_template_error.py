"""The error of the model's spectra: in the likelihood at each draw's redshift, in simulated galaxies, on a device."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from popcat.checks.samplers import Galaxy, sample_galaxy
from popcat.errors import PopcatError
from popcat.forward.flux_errors import FluxErrors
from popcat.forward.noise import default_noise
from popcat.galaxies import Observation
from popcat.galaxy_model import GalaxyModel
from popcat.io.survey_files import survey_text
from popcat.posterior.draws import draw_mass
from popcat.posterior.from_prior import prior_posterior
from popcat.posterior.library import LibraryArrays, observe
from popcat.posterior.on_device import OnDevice
from popcat.posterior.simulated import simulate_partition, window_of
from popcat.prior import MASS
from popcat.survey import TemplateError, load_survey

SURVEY = load_survey("sdss")
LAW = TemplateError(wave_aa=(2500.0, 4000.0, 6000.0), fraction=(0.3, 0.1, 0.05))
WITH = SURVEY.model_copy(update={"template_error": LAW})
FLUX = np.array([[25.3, 98.4, 196.0, 267.0, 330.0], [5.0, 20.0, np.nan, 60.0, -1.0]])
ERR = np.array([[3.0, 5.0, 10.0, 13.0, 20.0], [1.0, 1.0, 1.0, 2.0, 3.0]])


def galaxies(redshift):
    return Observation(FLUX, ERR, np.full(2, redshift), np.full(2, np.nan), np.arange(2))


@pytest.fixture(scope="module")
def posteriors():
    """With the error of the spectra, and without."""
    return [prior_posterior(survey, prior="flat", noise=default_noise(SURVEY)) for survey in (WITH, SURVEY)]


@pytest.fixture(scope="module")
def numbers(posteriors):
    """Coordinates and masses of 40 draws of either galaxy."""
    random = np.random.default_rng(2)
    return random.standard_normal((2, 40, posteriors[0].n_coordinates)), random.uniform(size=(2, 40))


def measured(posterior, data, redshift, numbers):
    normals, masses = numbers
    nothing = np.zeros(redshift.shape)
    return posterior.placed._measured(data, redshift, normals.reshape(-1, normals.shape[2]), masses, nothing, nothing)


def test_the_error_is_the_laws_at_the_pivots_in_the_rest_frame():
    errors, z = FluxErrors(WITH), np.array([[0.1, 0.5]])
    found = errors(galaxies(np.nan)[:1], z)
    for k, redshift in enumerate(z[0]):
        rest = errors.pivot_aa / (1.0 + redshift)
        fraction = np.interp(np.log(rest), np.log(LAW.wave_aa), LAW.fraction)
        np.testing.assert_allclose(found[0, k], np.sqrt(ERR[0] ** 2 + (fraction * FLUX[0]) ** 2))
    assert FluxErrors(WITH)(galaxies(0.1), np.full((2, 7), 0.1)).shape == (2, 1, 5)
    second = errors(galaxies(0.1), np.full((2, 7), 0.1))[1, 0]
    assert second[2] == 1.0 and second[4] == ERR[1, 4]  # not observed; a negative flux


def test_at_a_known_redshift_it_is_the_likelihood_of_larger_errors(posteriors, numbers):
    with_error, without = posteriors
    data, z = galaxies(0.2), np.full((2, 40), 0.2)
    ours = measured(with_error, data, z, numbers)
    theirs = measured(without, FluxErrors(WITH).applied(data), z, numbers)
    for name in ("theta", "chi2", "log_likelihood"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-12)
    bare = measured(without, data, z, numbers)
    assert np.all(ours.chi2[0] < bare.chi2[0])


def test_each_draw_of_an_unknown_redshift_has_the_errors_of_its_own(posteriors, numbers):
    z = np.random.default_rng(3).uniform(0.05, 0.5, (2, 40))
    ours = measured(posteriors[0], galaxies(np.nan), z, numbers)
    for k in (0, 7, 31):
        some = tuple(values[:, k : k + 1] for values in numbers)
        data = replace(galaxies(0.1), redshift=z[:, k])
        alone = measured(posteriors[0], data, z[:, k : k + 1], some)
        np.testing.assert_allclose(ours.log_likelihood[:, k], alone.log_likelihood[:, 0], rtol=1e-12)
        np.testing.assert_allclose(ours.theta[:, k], alone.theta[:, 0], rtol=1e-12)


def test_the_mass_is_drawn_with_each_draws_errors():
    random = np.random.default_rng(4)
    model, err = random.uniform(0.5, 2.0, (2, 6, 5)), random.uniform(0.5, 3.0, (2, 6, 5))
    data, law, u = galaxies(np.nan), prior_law(), random.uniform(size=(2, 6))
    together = draw_mass(model.copy(), 10.0, data, law, u, err=err)
    for k in range(6):
        own = replace(data, flux_err=err[:, k])
        alone = draw_mass(model[:, k : k + 1].copy(), 10.0, own, law, u[:, k : k + 1])
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_allclose(a[:, k], b[:, 0], rtol=1e-12)


def prior_law():
    from popcat.prior import make_prior

    return make_prior(GalaxyModel()).laws[MASS]


def test_a_device_has_the_same_errors():
    device = OnDevice.__new__(OnDevice)
    device.device, device.flux_errors = torch.device("cpu"), FluxErrors(WITH)
    z = np.random.default_rng(5).uniform(0.01, 0.6, (2, 9))
    for data in (galaxies(np.nan), galaxies(0.3)):
        np.testing.assert_allclose(device._errors(data, torch.from_numpy(z)), device.flux_errors(data, z), rtol=1e-12)
    device.flux_errors = FluxErrors(SURVEY)
    np.testing.assert_allclose(device._errors(galaxies(0.3), torch.from_numpy(z)), FluxErrors(SURVEY)(galaxies(0.3), z))
    one = SURVEY.model_copy(update={"template_error": TemplateError(wave_aa=(4000.0,), fraction=(0.1,))})
    device.flux_errors = FluxErrors(one)
    np.testing.assert_allclose(device._errors(galaxies(np.nan), torch.from_numpy(z)),
                               device.flux_errors(galaxies(np.nan), z), rtol=1e-12)  # fmt: skip


def test_simulated_fluxes_scatter_by_it():
    noise, errors = default_noise(SURVEY), FluxErrors(WITH)
    plain, ours = (simulate_partition(0, 400, survey, GalaxyModel(), noise, 3) for survey in (SURVEY, WITH))
    same = np.flatnonzero(np.isclose(plain["redshift"], ours["redshift"]))  # the window is wider
    assert len(same) > 300
    columns = [f"{{}}_{name}" for name in SURVEY.band_names]
    model, before, after = (frame[[one.format(kind) for one in columns]].to_numpy(float)[same]
                            for frame, kind in ((ours, "flux_model"), (plain, "flux"), (ours, "flux")))  # fmt: skip
    shift = (after - before) / (errors.fraction(ours["redshift"].to_numpy(float)[same]) * model)
    assert kstest(shift.ravel(), "norm").pvalue > 0.01
    assert window_of(WITH, noise).faint_mag > window_of(SURVEY, noise).faint_mag


def test_a_training_sees_it_too():
    n, random = 4000, np.random.default_rng(6)
    flux = random.uniform(50.0, 500.0, (n, 5))
    theta = np.zeros((n, 12), dtype=np.float32)
    z = random.uniform(0.1, 0.5, n)
    library = LibraryArrays(theta, z, flux, np.zeros(n, dtype=np.int8), np.full(n, 99.0))
    noise = default_noise(SURVEY)
    before, _, rows = observe(library, SURVEY, noise, (1,))
    after, _, others = observe(library, WITH, noise, (1,))
    both = np.intersect1d(rows, others)
    a, b = before[np.searchsorted(rows, both)], after[np.searchsorted(others, both)]
    shift = (b - a) / (FluxErrors(WITH).fraction(z[both]) * flux[both])
    assert kstest(shift[:, 0], "norm").pvalue > 0.01 and kstest(shift[:, 4], "norm").pvalue > 0.01


def test_a_sampler_of_the_cross_check_has_the_same_likelihood(posteriors, numbers):
    """Evidence of accepted prior draws against the particles fitted to the galaxy, the redshift unknown."""
    posterior, data = posteriors[0], galaxies(np.nan)[:1]
    draws = posterior.sample(data, 4000, 1)
    weight = draws.log_weight[0]
    ours = weight.max() + np.log(np.mean(np.exp(weight - weight.max())))
    galaxy = Galaxy(posterior.forward.flux, posterior.prior, SURVEY.redshift_range, FLUX[0], ERR[0], np.nan, np.nan,
                    flux_errors=FluxErrors(WITH))  # fmt: skip
    chain = sample_galaxy(galaxy, np.empty((0, galaxy.n_dim)), 1, sampler="prior", max_steps=500)
    assert ours == pytest.approx(chain.log_evidence, abs=0.1)


def test_a_survey_file_has_it_and_without_it_says_nothing(tmp_path):
    (tmp_path / "survey.toml").write_text(survey_text(WITH))
    assert load_survey(tmp_path / "survey.toml").template_error == LAW
    assert "template_error" not in survey_text(SURVEY) and "template_error" not in SURVEY.model_dump()
    assert WITH.without_error_floors().template_error is None


@pytest.mark.parametrize(("wave", "fraction", "says"), [
    ("[4000.0, 3000.0]", "[0.1, 0.1]", "ascend"), ("[3000.0]", "[0.1, 0.1]", "same length"),
    ("[3000.0]", "[1.5]", "below 1"),
])  # fmt: skip
def test_numbers_that_are_no_error_are_one_line(tmp_path, wave, fraction, says):
    text = survey_text(SURVEY) + f"\n[template_error]\nwave_aa = {wave}\nfraction = {fraction}\n"
    (tmp_path / "survey.toml").write_text(text)
    with pytest.raises(PopcatError, match=says) as raised:
        load_survey(tmp_path / "survey.toml")
    assert "\n" not in str(raised.value)

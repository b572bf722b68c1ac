"""A catalogue's noise by true flux, against noise whose law is known."""

import numpy as np
import pytest

from popcat.forward.noise import add_noise, default_noise, noise_counts, noise_from_counts
from popcat.population.synthesis import catalogue_noise, responsibilities
from popcat.survey import load_survey

FAINT_MAG = 22.0


@pytest.fixture(scope="module")
def faint():
    """Galaxies of 19 to 22 mag, as many a magnitude, with the noise of sdss: up to more than half of the flux."""
    random = np.random.default_rng(0)
    flux = 10.0 ** (0.4 * (22.5 - random.uniform(19.0, FAINT_MAG, 30_000)))[:, None] * np.ones(5)
    return flux, *add_noise(flux, default_noise(load_survey("sdss")), random.standard_normal((len(flux), 10)))


def ln_err_at(noise, band, mag):
    made = noise.bands[band]
    return np.interp(0.4 * np.log(10.0) * (22.5 - mag), made.ln_flux, made.ln_err)


@pytest.mark.parametrize("band", ["u", "z"])
def test_errors_of_faint_galaxies_are_those_of_their_true_flux(faint, band):
    import pandas as pd

    survey = load_survey("sdss")
    _, noisy, err = faint
    found, truth = catalogue_noise(noisy, err, survey), default_noise(survey)
    columns = {f"{kind}_{name}": values[:, i] for i, name in enumerate(survey.band_names)
               for kind, values in (("flux", noisy), ("flux_err", err))}  # fmt: skip
    naive = noise_from_counts(noise_counts(pd.DataFrame(columns), survey), survey, widen=1.0, min_scatter=0.02)
    mag = np.linspace(19.5, FAINT_MAG - 0.3, 8)
    expected = ln_err_at(truth, band, mag)
    off, off_naive = (np.abs(ln_err_at(noise, band, mag) - expected).max() for noise in (found, naive))
    assert off < 0.06
    assert off < off_naive


def test_scatter_is_the_catalogues_and_not_widened(faint):
    survey = load_survey("sdss")
    _, noisy, err = faint
    found, truth = catalogue_noise(noisy, err, survey).bands["r"], default_noise(survey).bands["r"]
    at = 0.4 * np.log(10.0) * (22.5 - 20.5)
    assert np.interp(at, found.ln_flux, found.scatter) == pytest.approx(
        np.interp(at, truth.ln_flux, truth.scatter), abs=0.05
    )


def test_responsibilities_add_up_and_draw_noisy_fluxes_to_where_galaxies_are():
    random = np.random.default_rng(1)
    nodes = np.geomspace(1.0, 100.0, 40)
    flux = 10.0 + 5.0 * random.standard_normal(4000)
    share = responsibilities(flux, np.full(4000, 5.0), nodes)
    np.testing.assert_allclose(share.sum(1), 1.0)
    mean = share @ nodes
    assert mean.std() < 0.6 * flux.std()
    assert mean.mean() == pytest.approx(10.0, abs=0.7)


def test_without_noise_galaxies_stay_where_they_are():
    nodes = np.geomspace(1.0, 100.0, 40)
    share = responsibilities(nodes, nodes * 1e-6, nodes)
    assert (share.argmax(1) == np.arange(40)).all()

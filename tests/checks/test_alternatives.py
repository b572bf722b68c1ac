"""Stars and quasars beside galaxies: evidences against integrals, how bright galaxies are, and what p_star says."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp

from popcat.checks.alternatives import (
    DEFAULT_ODDS,
    STAR_REDSHIFT,
    Odds,
    Templates,
    alternatives,
    odds_of,
    templates_of,
)
from popcat.checks.certify import Effort, certify
from popcat.errors import PopcatError
from popcat.forward.filters import load_curves
from popcat.forward.properties import forward_for
from popcat.forward.spectrum import band_flux
from popcat.forward.star_spectra import black_body_f_nu, locus_f_nu
from popcat.galaxies import Observation, observation
from popcat.io.photometry import to_photometry
from popcat.posterior.from_prior import prior_posterior
from popcat.posterior.posterior import load_posterior
from popcat.posterior.simulated import draw_prior
from popcat.survey import load_survey
from popcat.units import ab_mag_to_nmgy

LN_FLUX = np.linspace(0.0, 12.0, 25)
TEMPLATES = Templates(
    star=np.array([[0.3, 1.0, 1.5], [0.8, 1.0, 1.1]]), log_star=np.log([0.7, 0.3]),
    star_error=np.array([0.05, 0.0, 0.1]),
    quasar=np.array([[[1.0, 1.0, 1.0], [0.8, 1.0, 1.2]]] * 3), log_ebv=np.log([0.6, 0.4]),
    quasar_ln1pz=np.log1p([0.5, 1.0, 2.0]), ln_flux=LN_FLUX, redshift=np.array([0.0, 0.5]),
    log_density=np.array([-1.6 * LN_FLUX, -1.2 * LN_FLUX, -1.4 * LN_FLUX]),
)  # fmt: skip


def three_bands(n=1, redshift=np.nan, flux=(31.0, 98.0, 151.0), error=(2.0, 3.0, 4.0)):
    return Observation(np.tile(flux, (n, 1)), np.tile(error, (n, 1)), np.full(n, redshift), np.full(n, np.nan),
                       np.arange(n))  # fmt: skip


@pytest.mark.parametrize("flux", [(31.0, 98.0, 151.0), (31.0, np.nan, 151.0), (-3.0, 60.0, 80.0)])
def test_the_evidence_of_a_star_is_the_integral_over_its_brightness(flux):
    data = three_bands(flux=flux)
    amplitude = np.geomspace(1.0, 5000.0, 200_001)
    seen = np.isfinite(data.flux[0])
    total = 0.0
    for shape, part in zip(TEMPLATES.star, np.exp(TEMPLATES.log_star), strict=True):
        variance = (data.flux_err[0] ** 2 + (TEMPLATES.star_error * np.maximum(data.flux[0], 0.0)) ** 2)[seen]
        away = data.flux[0, seen] - amplitude[:, None] * shape[seen]
        likelihood = np.prod(np.exp(-0.5 * away**2 / variance) / np.sqrt(2.0 * np.pi * variance), axis=1)
        total += part * np.trapezoid(likelihood * amplitude**-1.6, amplitude)
    found = TEMPLATES.log_evidences(data, data.redshift)[0]
    np.testing.assert_allclose(found, np.log(total), atol=0.02)


def test_a_quasar_at_a_known_redshift_is_that_of_the_nearest_template():
    anywhere = TEMPLATES.log_evidences(three_bands(), np.array([np.nan]))[1]
    at = TEMPLATES._each(three_bands(), TEMPLATES.quasar[1], np.full(3, 0.1 / 1.0857362), np.array([0.9]))
    found = TEMPLATES.log_evidences(three_bands(), np.array([0.9]))[1]
    np.testing.assert_allclose(found, logsumexp(at + TEMPLATES.log_ebv, axis=1), atol=1e-6)
    assert found != anywhere


def test_the_density_is_linear_in_the_redshift_and_constant_beyond_its_ends():
    ln_amplitude = np.array([[1.0, 6.25, 99.0]] * 2)
    found = TEMPLATES.density(ln_amplitude, np.array([0.25, np.nan]))
    np.testing.assert_allclose(found, [[-1.3, -1.3 * 6.25, -1.3 * 12.0], [-1.6, -10.0, -19.2]])


def test_how_bright_galaxies_are_is_how_bright_the_prior_makes_them():
    """Of the flat prior, by draws of it through the forward model, in magnitude bins with enough of them."""
    posterior = load_posterior("sdss").under("flat")
    survey, model = posterior.survey, posterior.galaxy_model
    theta, redshift = draw_prior(np.arange(30_000), survey, model, 5)
    flux = forward_for(survey, model).photometry.flux(theta, redshift)[:, survey.band_names.index("r")]
    found = templates_of(posterior)
    selection = survey.selection
    edges = np.log(ab_mag_to_nmgy(np.linspace(selection.faint_mag, selection.bright_mag, 9)))
    number, _ = np.histogram(np.log(flux), edges)
    middle = 0.5 * (edges[1:] + edges[:-1])
    free = np.full(1, np.nan)
    expected = len(flux) * np.exp(found.density(middle[None], free)[0] + middle) * np.diff(edges)
    many = number > 300
    assert many.sum() >= 4
    np.testing.assert_allclose(expected[many], number[many], rtol=0.15)


@pytest.mark.parametrize("row", [0, 5])
def test_without_a_flow_galaxies_are_as_bright(row):
    """Proposals that are fitted to a few brightnesses serve for all; any redshift, and one."""
    trained, own = (templates_of(one).log_density[row] for one in
                    (load_posterior("sdss").under("physical"), prior_posterior("sdss", prior="physical")))  # fmt: skip
    usual = trained > trained.max() - 15.0
    assert usual.sum() > 8
    np.testing.assert_allclose(own[usual], trained[usual], atol=0.25)


def test_the_locus_has_the_colours_of_its_table():
    curves = load_curves(load_survey("sdss"))
    waves = [np.linspace(curve.wave_aa[0], curve.wave_aa[-1], 400) for curve in curves]
    table = {0.6: (1.25, 0.44, 0.16, 0.04), 1.4: (2.38, 1.02, 0.38, 0.20), 2.4: (2.59, 1.41, 0.98, 0.52)}
    for g_i, expected in table.items():
        flux = [band_flux(wave, locus_f_nu(wave, g_i), curve) for wave, curve in zip(waves, curves, strict=True)]
        np.testing.assert_allclose(2.5 * np.log10(np.array(flux[1:]) / flux[:-1]), expected, atol=0.05)


def test_probabilities_follow_the_odds_and_the_redshift():
    posterior = load_posterior("sdss")
    data = black_bodies(posterior.survey, [6000.0])
    evidence = certify(posterior, data, 20, 0, effort=Effort()).log_evidence
    before = 0.0
    for odds in (Odds(0.0, 0.0), Odds(0.01, 0.001), DEFAULT_ODDS, Odds(100.0, 0.001)):
        p_star, p_qso = alternatives(posterior, data, evidence, odds)
        assert before <= p_star[0] <= 1.0 and p_star[0] + p_qso[0] <= 1.0 + 1e-12
        before = p_star[0]
    assert alternatives(posterior, data, evidence, Odds(0.0, 0.0))[0][0] == 0.0
    far = replace(data, redshift=np.array([0.1]), redshift_err=np.array([1e-4]))
    assert alternatives(posterior, far, evidence, DEFAULT_ODDS)[0][0] == 0.0
    near = replace(data, redshift=np.array([0.9 * STAR_REDSHIFT]))
    assert alternatives(posterior, near, evidence, DEFAULT_ODDS)[0][0] > 0.0
    wide = replace(data, redshift=np.array([0.1]), redshift_err=np.array([0.05]))
    assert np.isnan(alternatives(posterior, wide, evidence, DEFAULT_ODDS)).all()
    assert np.isnan(alternatives(posterior, data, np.array([np.nan]), DEFAULT_ODDS)).all()


def black_bodies(survey, kelvin):
    """Black bodies with 200 nMgy in r and errors of 2%, without a redshift."""
    curves, n = load_curves(survey), len(kelvin)
    waves = [np.linspace(curve.wave_aa[0], curve.wave_aa[-1], 400) for curve in curves]
    flux = np.array([[band_flux(wave, black_body_f_nu(wave, one), curve)
                      for wave, curve in zip(waves, curves, strict=True)] for one in kelvin])  # fmt: skip
    flux *= 200.0 / flux[:, [survey.band_names.index("r")]]
    return Observation(flux, 0.02 * flux, np.full(n, np.nan), np.full(n, np.nan), np.arange(n))


def test_odds_are_checked():
    assert odds_of(None, 0.0) == Odds(0.05, 0.0) and odds_of() == DEFAULT_ODDS
    for given, words in (({"star_odds": -1.0}, "0 or more"), ({"qso_odds": np.nan}, "0 or more"),
                         ({"star_odds": 1.0, "certify": False}, "--certify")):  # fmt: skip
        with pytest.raises(PopcatError, match=words):
            odds_of(**given)


@pytest.mark.slow
def test_black_bodies_are_stars_and_galaxies_are_not(galaxies):
    posterior = load_posterior("sdss")
    frame = to_photometry(pd.read_parquet(galaxies), posterior.survey)
    real = observation(frame.iloc[::5].assign(redshift=np.nan), posterior.survey)
    stars = black_bodies(posterior.survey, np.linspace(4500.0, 8000.0, 20))
    for data, low, high in ((real, 0.0, 0.04), (stars, 0.4, 1.0)):
        evidence = certify(posterior, data, 20, 0, effort=Effort(budget_ms=400.0)).log_evidence
        p_star, _ = alternatives(posterior, data, evidence, DEFAULT_ODDS)
        assert low <= np.mean(p_star > 0.5) <= high

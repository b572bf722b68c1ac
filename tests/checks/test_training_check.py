"""A catalogue that is off in the same way throughout does not fit, and its usual cause is said; a right one fits."""

from dataclasses import replace
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest

from popcat.catalog.training_check import Measure, TrainingCheck
from popcat.checks.training_check import MIN_GALAXIES, check_training, error_factor
from popcat.galaxies import observation
from popcat.io.photometry import to_photometry
from popcat.posterior.posterior import load_posterior
from popcat.posterior.simulated import draw_mocks
from popcat.survey import load_survey

BANDS = "ugriz"
WAVE = dict(zip(BANDS, (3550.0, 4690.0, 6170.0, 7480.0, 8930.0), strict=True))


@pytest.fixture(scope="module")
def posterior():
    return load_posterior("sdss")


@pytest.fixture(scope="module")
def real(posterior):
    """300 of the real galaxies, at random."""
    raw = pd.read_parquet(files("popcat") / "data" / "galaxies_sdss.parquet")
    chosen = np.random.default_rng(5).permutation(len(raw))[:300]
    return to_photometry(raw.iloc[chosen].reset_index(drop=True), posterior.survey)


def check(frame, posterior, **options):
    return check_training(frame, posterior, "sdss", **options)


def scaled(frame, factors, errors=1.0):
    """Fluxes and errors of bands times their factors, and all errors times `errors`."""
    changed = {f"flux_{b}": frame[f"flux_{b}"] * factors.get(b, 1.0) for b in BANDS}
    changed |= {f"flux_err_{b}": frame[f"flux_err_{b}"] * factors.get(b, 1.0) * errors for b in BANDS}
    return frame.assign(**changed)


def every(factor):
    return dict.fromkeys(BANDS, factor)


def exchanged(frame, a, b):
    names = [(f"{kind}_{x}", f"{kind}_{y}") for kind in ("flux", "flux_err") for x, y in ((a, b), (b, a))]
    return frame.assign(**{x: frame[y] for x, y in names})


def moved(frame, shift):
    return frame.assign(redshift=np.clip(frame["redshift"] + shift, 0.002, 0.599))


@pytest.mark.parametrize("n", [60, 300])
def test_real_galaxies_fit(real, posterior, n):
    found = check(real[:n], posterior)
    assert found.fits and found.galaxies == n and found.cause is None and "fit the training" in found.line


@pytest.mark.parametrize("n", [60, 400])
def test_simulated_galaxies_fit(posterior, n):
    mocks = draw_mocks(posterior, n, 7).assign(redshift_err=np.nan, flags=np.zeros(n, dtype=np.int32))
    assert check(mocks, posterior).fits


FAULTS = {
    "microjansky": (lambda f: scaled(f, every(3.631)), "errors at given flux", "in uJy"),
    "nanojansky": (lambda f: scaled(f, every(3631.0)), "colours", "in nJy"),
    "transmission": (lambda f: scaled(f, every(2.2)), "errors at given flux", "transmission"),
    "half of the light": (lambda f: scaled(f, every(0.5)), "errors at given flux", "times too small"),
    "errors doubled": (lambda f: scaled(f, {}, 2.0), "noise", "errors are 2.0 times too large"),
    "errors halved": (lambda f: scaled(f, {}, 0.5), "noise", "errors are 2.0 times too small"),
    "aperture": (lambda f: scaled(f, every(0.5), 2.0), "errors at given flux", "aperture"),
    "f_lambda": (lambda f: scaled(f, {b: (WAVE[b] / 6170.0) ** -2 for b in BANDS}), "best chi2", "f_lambda"),
    "zero point": (lambda f: scaled(f, {"g": 10**0.12}), "best chi2", "g is about 0.3 mag too bright"),
    "exchanged": (lambda f: exchanged(f, "i", "z"), "colours", "i and z are exchanged"),
    "redshift column": (lambda f: moved(f, 0.1), "redshifts given the photometry", "redshifts are about 0.1 too large"),
}  # fmt: skip


@pytest.mark.parametrize("n", [60, 300])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_every_galaxy_is_said_with_its_cause(real, posterior, name, n):
    change, what, cause = FAULTS[name]
    found = check(change(real[:n]), posterior)
    assert not found.fits and what in found.misfits and cause in found.cause
    assert found.line.startswith("DOES NOT FIT the training of posterior sdss: ") and found.cause in found.line


def test_redshifts_of_other_rows_are_said(real, posterior):
    other = real.assign(redshift=np.random.default_rng(0).permutation(real["redshift"]))
    assert "redshifts that the photometry excludes" in check(other, posterior).misfits


def test_a_catalogue_of_two_kinds_of_rows_is_said(real, posterior):
    factors = np.where(np.arange(len(real)) % 2, 1.0, 0.3)
    assert not check(scaled(real, dict.fromkeys("griz", factors)), posterior).fits


def test_hidden_redshifts_and_missing_bands_are_those_of_the_simulated_galaxies_too(real, posterior):
    hidden = real.assign(redshift=np.nan, flux_u=np.where(np.arange(len(real)) % 2, np.nan, real["flux_u"]))
    found = check(hidden, posterior)
    assert found.fits and not any("redshift" in one.what for one in found.measures)
    assert "in uJy" in check(scaled(hidden, every(3.631)), posterior).cause
    uncertain = check(real.assign(redshift_err=0.05), posterior)
    assert uncertain.fits and not any("redshift" in one.what for one in uncertain.measures)


def test_the_unit_in_the_survey_file_is_named(real, posterior):
    survey = load_survey("sdss").model_copy(update={"unit": "uJy"})
    found = check(scaled(real, every(1000.0)), posterior, survey=survey)
    assert "are they in nJy? The survey file says uJy" in found.line


def test_of_few_galaxies_nothing_is_said(real, posterior):
    assert check(real[: MIN_GALAXIES - 1], posterior) is None and check(real[:0], posterior) is None
    assert check(real.assign(flags=128), posterior) is None


def test_the_order_of_rows_beside_the_sample_and_repetition_change_nothing(real, posterior):
    assert check(real, posterior) == check(real.copy(), posterior)


def test_the_factor_of_the_errors_is_recovered(real, posterior):
    data = observation(real, posterior.survey)
    for factor in (0.1, 0.5, 1.0, 2.0, 5.0):
        off = replace(data, flux=data.flux * factor, flux_err=data.flux_err * factor)
        assert error_factor(off, posterior.noise) == pytest.approx(factor, rel=0.25)


def test_a_record_survives_json():
    made = TrainingCheck(posterior="sdss", galaxies=60, cause="x", measures=[
        Measure(what="errors", band="u", value=2.0, low=-1.5, high=1.5), Measure(what="chi2", value=0.1, high=0.3),
    ])  # fmt: skip
    assert TrainingCheck.model_validate_json(made.model_dump_json()) == made
    assert made.model_dump()["line"] == made.line and "errors u" in repr(made) and "<-" in repr(made)

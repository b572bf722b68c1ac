"""The embedded surveys: filters that exist, light everywhere, and the columns of the embedded galaxies."""

from importlib.resources import as_file, files

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from popcat.catalog.door import check_catalog, same_unit
from popcat.catalog.photometry import catalog_columns, to_photometry
from popcat.catalog.sources import plan_chunks
from popcat.errors import PopcatError
from popcat.prior import make_prior
from popcat.settings import Model, embedded_surveys, load_survey
from popcat.sps.filters import load_curves
from popcat.sps.photometry import Photometry
from popcat.sps.spectrum import reference_fluxes

SURVEYS = {"galex_sdss_2mass": 10, "gama": 10, "legacy": 5, "lsst": 6, "sdss": 5}
SAMPLE = files("popcat") / "data" / "galaxies_sdss.parquet"


@pytest.fixture(scope="module")
def galaxies():
    with as_file(SAMPLE) as path:
        return pq.read_table(path).to_pandas()


def test_these_are_the_embedded_surveys():
    assert embedded_surveys() == sorted(SURVEYS)


@pytest.mark.parametrize(("name", "n_band"), SURVEYS.items())
def test_every_band_has_a_curve_and_bands_come_in_order_of_wavelength(name, n_band):
    waves = [curve.effective_wavelength_aa for curve in load_curves(load_survey(name))]
    assert len(waves) == n_band
    assert np.all(np.diff(waves) > 0)


@pytest.mark.parametrize("name", sorted(SURVEYS))
@pytest.mark.parametrize("end", [0, 1], ids=["near", "far"])
def test_the_fast_path_agrees_at_both_ends_of_the_redshift_range(name, end):
    survey = load_survey(name)
    edge = survey.redshift_range[end]
    narrow = survey.model_copy(update={"redshift_range": (edge, edge + 0.005) if end == 0 else (edge - 0.005, edge)})
    photometry = Photometry(narrow, Model())
    rng = np.random.default_rng(1)
    theta, redshift = make_prior(Model()).from_unit(rng.random((40, 11))), rng.uniform(*narrow.redshift_range, 40)
    expected = reference_fluxes(theta, redshift, photometry.model, load_curves(survey))
    seen = expected > 1e-10 * expected.max(axis=1, keepdims=True)
    error = np.abs(photometry.flux(theta, redshift) / expected - 1.0)
    assert np.max(error[seen]) < 1e-3


def test_the_embedded_galaxies_come_through_the_three_surveys_at_once(galaxies):
    """Ten bands of one galaxy are one spectral energy distribution: infrared above optical above ultraviolet."""
    survey = load_survey("galex_sdss_2mass")
    assert set(catalog_columns(survey)) <= set(galaxies.columns)
    flux = to_photometry(galaxies, survey)[[f"flux_{band}" for band in survey.band_names]].median()
    assert np.all(np.diff(flux.to_numpy()[2:9]) > 0)
    assert 0.5 < flux["flux_J"] / flux["flux_z"] < 2.0
    assert flux["flux_FUV"] < flux["flux_NUV"] < flux["flux_u"]


def test_the_embedded_galaxies_state_the_units_that_the_survey_says():
    with as_file(SAMPLE) as path:
        survey, chunks = load_survey("galex_sdss_2mass"), plan_chunks(path)
        check_catalog(path, survey, chunks)
        wrong = survey.model_copy(update={"bands": (survey.bands[0].model_copy(update={"unit": None}),)})
        with pytest.raises(PopcatError, match=r'"galex_fuv_flux" is in "count/s".*unit = "nMgy"'):
            check_catalog(path, wrong, chunks)


def test_no_two_bands_of_a_survey_differ_in_case_alone():
    for name in SURVEYS:
        names = [band.lower() for band in load_survey(name).band_names]
        assert len(set(names)) == len(names), name


def test_a_galaxy_of_gama_comes_through_in_nanomaggies():
    """1 Jy is 2.754e5 nMgy; E(B-V) of 0.1 dims K by 0.031 mag."""
    survey = load_survey("gama")
    row = {"CATAID": [7], "RA": [130.0], "DEC": [1.0], "Z": [0.1], "EBV": [0.1]}
    row |= {f"{b}_{kind}": [value] for b in survey.band_names for kind, value in (("flux", 1e-4), ("fluxerr", 1e-6))}
    frame = to_photometry(pd.DataFrame(row), survey)
    assert frame["flux_K"][0] == pytest.approx(27.54 * 10 ** (0.4 * 0.0308), rel=1e-3)
    assert frame["flux_u"][0] == pytest.approx(27.54 * 10 ** (0.4 * 0.4239), rel=1e-3)
    assert frame["flags"][0] == 0


def test_a_count_rate_is_no_other_unit():
    assert same_unit("count/s", "count/s")
    assert same_unit("ct s-1", "count/s")
    assert not same_unit("nanomaggies", "count/s")
    assert not same_unit("count/s", "nMgy")

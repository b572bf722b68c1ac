"""The embedded surveys: filters that exist, light everywhere, and the columns of the embedded galaxies."""

from importlib.resources import as_file, files

import numpy as np
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

SURVEYS = {"galex_sdss_2mass": 10, "legacy": 5, "lsst": 6, "sdss": 5}
LIKE = {"gama": "sdss", "legacy_sweep": "legacy", "nsa_v0": "sdss", "nsa_v1": "sdss", "sdss_casjobs": "sdss",
        "sdss_casjobs_mag": "sdss"}  # fmt: skip
"""Other columns of the same bands."""
SAMPLE = files("popcat") / "data" / "galaxies_sdss.parquet"


@pytest.fixture(scope="module")
def galaxies():
    with as_file(SAMPLE) as path:
        return pq.read_table(path).to_pandas()


def test_these_are_the_embedded_surveys():
    assert embedded_surveys() == sorted([*SURVEYS, *LIKE])


@pytest.mark.parametrize(("name", "model"), LIKE.items())
def test_a_survey_of_other_columns_fits_the_model_of_its_bands(name, model):
    survey, trained = load_survey(name), load_survey(model)
    assert (survey.redshift_range, survey.selection) == (trained.redshift_range, trained.selection)
    same = {"name", "filter", "wave_range_aa", "error_floor"}
    assert [b.model_dump(include=same) for b in survey.bands] == [b.model_dump(include=same) for b in trained.bands]


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


def test_a_count_rate_is_no_other_unit():
    assert same_unit("count/s", "count/s")
    assert same_unit("ct s-1", "count/s")
    assert not same_unit("nanomaggies", "count/s")
    assert not same_unit("count/s", "nMgy")

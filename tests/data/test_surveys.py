"""The embedded surveys: filters that exist, light everywhere, and the columns of the embedded galaxies."""

from dataclasses import replace
from importlib.resources import as_file, files

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from popcat.errors import PopcatError
from popcat.forward.filters import load_curves
from popcat.forward.ingredients import load_ingredients
from popcat.forward.noise import default_noise
from popcat.forward.photometry import Photometry
from popcat.forward.spectrum import reference_fluxes
from popcat.forward.tables import build_tables
from popcat.galaxy_model import GalaxyModel
from popcat.io.checking import check_catalog
from popcat.io.photometry import catalog_columns, to_photometry
from popcat.io.sources import plan_chunks
from popcat.io.stated_units import same_unit
from popcat.prior import make_prior
from popcat.survey import embedded_surveys, load_survey

SURVEYS = {"galex_sdss_2mass": 10, "gama": 10, "legacy": 5, "lsst": 6, "sdss": 5}
LIKE = {"legacy_sweep": "legacy", "nsa_v0": "sdss", "nsa_v1": "sdss", "sdss_casjobs": "sdss",
        "sdss_casjobs_mag": "sdss"}  # fmt: skip
"""Other columns of the same bands."""
OTHER_ERRORS = {"sdss_nebular": "sdss"}
"""The same bands and columns with other error floors."""
PUBLIC = ["cosmos2020", "euclid", "euclid_des", "hsc", "jwst_nircam", "kids_viking", "lsst_deep", "roman"]
"""Tested in test_public_surveys.py."""
SAMPLE = files("popcat") / "data" / "galaxies_sdss.parquet"


@pytest.fixture(scope="module")
def galaxies():
    with as_file(SAMPLE) as path:
        return pq.read_table(path).to_pandas()


def test_these_are_the_embedded_surveys():
    assert embedded_surveys() == sorted([*SURVEYS, *LIKE, *OTHER_ERRORS, *PUBLIC])


@pytest.mark.parametrize(("name", "model"), LIKE.items())
def test_a_survey_of_other_columns_fits_the_model_of_its_bands(name, model):
    survey, trained = load_survey(name), load_survey(model)
    assert (survey.redshift_range, survey.selection) == (trained.redshift_range, trained.selection)
    same = {"name", "filter", "wave_range_aa", "error_floor", "depth_5sigma_mag"}
    assert [b.model_dump(include=same) for b in survey.bands] == [b.model_dump(include=same) for b in trained.bands]


@pytest.mark.parametrize(("name", "other"), OTHER_ERRORS.items())
def test_a_survey_of_other_errors_has_the_same_bands(name, other):
    survey, same = load_survey(name), load_survey(other)
    left_out = {"name", "description", "bands"}
    assert survey.model_dump(exclude=left_out) == same.model_dump(exclude=left_out)
    bands = [[b.model_dump(exclude={"error_floor"}) for b in s.bands] for s in (survey, same)]
    assert bands[0] == bands[1]


def test_errors_of_the_nebular_survey_are_those_of_the_calibration_alone():
    """Padmanabhan et al. 2008: 2% in u, 1% in griz; less than the template errors that kcorrect adds."""
    floors = [b.error_floor for b in load_survey("sdss_nebular").bands]
    assert floors == [0.02, 0.01, 0.01, 0.01, 0.01]
    assert np.all(np.array(floors) <= [b.error_floor for b in load_survey("sdss").bands])
    assert default_noise(load_survey("sdss_nebular")).survey == "sdss_nebular"


@pytest.mark.parametrize(("name", "n_band"), SURVEYS.items())
def test_every_band_has_a_curve_and_bands_come_in_order_of_wavelength(name, n_band):
    waves = [curve.effective_wavelength_aa for curve in load_curves(load_survey(name))]
    assert len(waves) == n_band
    assert np.all(np.diff(waves) > 0)


ENDS = [(name, end) for name in sorted(SURVEYS) for end in ("near", "far")]


@pytest.fixture(scope="module", params=ENDS, ids=["-".join(pair) for pair in ENDS])
def photometry(request):
    """The fast path of an embedded survey at one end of its redshift range."""
    name, end = request.param
    low, high = load_survey(name).redshift_range
    narrow = (low, low + 0.005) if end == "near" else (high - 0.005, high)
    return Photometry(load_survey(name).model_copy(update={"redshift_range": narrow}), GalaxyModel())


def largest_error(photometry, theta, redshift):
    """Of the fluxes of bands that have more than 1e-10 (25 magnitudes) of the brightest one's light."""
    expected = reference_fluxes(theta, redshift, photometry.ingredients, load_curves(photometry.survey))
    seen = expected > 1e-10 * expected.max(axis=1, keepdims=True)
    assert np.mean(seen) > 0.5
    return np.max(np.abs(photometry.flux(theta, redshift)[seen] / expected[seen] - 1.0))


def corners(photometry):
    """theta of an ordinary galaxy, changed to what is hard; at both ends of the redshift range and between."""
    low, high = photometry.survey.redshift_range
    t_age = float(photometry.ingredients.cosmology.age(0.5 * (low + high)))
    z_prior = make_prior(GalaxyModel())
    ordinary = np.array([10.5, 0.25, 0.25, 0.25, 0.25, 0.2, 1.0, -2.5, -2.2, 0.8, 0.4, -0.5])
    changes = [{10: 3.0, 11: -2.0}, {9: 3.0, 10: 3.0, 11: -2.0}, {10: 3.0, 11: 1.0}, {9: 0.0, 10: 0.0}]
    changes += [{5: f, 6: t} for f in (0.0, 1.0) for t in (0.01, 0.0999, 0.1001, t_age - 1e-3, t_age + 1e-3, 13.27)]
    changes += [{7: g, 8: g} for g in z_prior.bounds("log_gamma1")]
    changes += [dict(zip(range(1, 5), row, strict=True)) for row in np.eye(4)]
    theta = np.stack([ordinary] * len(changes))
    for row, change in zip(theta, changes, strict=True):
        row[list(change)] = list(change.values())
    return np.repeat(theta, 3, axis=0), np.tile([low, 0.5 * (low + high), high], len(theta))


def test_the_fast_path_agrees_with_the_reference_over_the_prior(photometry):
    rng = np.random.default_rng(1)
    theta = make_prior(GalaxyModel()).from_unit(rng.random((40, 11)))
    assert largest_error(photometry, theta, rng.uniform(*photometry.survey.redshift_range, 40)) < 1e-3


def test_the_fast_path_agrees_with_the_reference_in_the_corners(photometry):
    assert largest_error(photometry, *corners(photometry)) < 1e-3


def test_one_galaxy_is_one_of_many_and_none_is_none(photometry):
    theta, redshift = corners(photometry)
    many = photometry.flux(theta, redshift)
    np.testing.assert_array_equal(photometry.flux(theta[5:6], redshift[5:6])[0], many[5])
    assert photometry.flux(theta[:0], redshift[:0]).shape == (0, many.shape[1])


@pytest.mark.parametrize("name", ["galex_sdss_2mass", "legacy"])
def test_a_band_beyond_the_grid_is_named_with_its_redshift(name):
    """The far ultraviolet from below, and WISE from a grid that ends in the near infrared."""
    survey = load_survey(name)
    model = load_ingredients(GalaxyModel())
    inside = (model.grid.wave_aa > 600.0) & (model.grid.wave_aa < 45000.0)
    cut = replace(model.grid, wave_aa=model.grid.wave_aa[inside], lum=model.grid.lum[..., inside])
    band, redshift = ("FUV", 1.5) if name == "galex_sdss_2mass" else ("W2", 0.001)
    with pytest.raises(PopcatError, match=rf'band "{band}" at redshift {redshift:g} needs \d+ A in the rest frame'):
        build_tables(survey, replace(model, grid=cut), load_curves(survey))


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

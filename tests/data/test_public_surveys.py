"""The embedded surveys of public catalogues beyond the nearby universe: their columns, their light, their noise."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drafts import draft

from popcat.errors import PopcatError
from popcat.expressions import sources_of
from popcat.forward.coverage import lacking
from popcat.forward.filters import load_curve, load_curves
from popcat.forward.photometry import Photometry
from popcat.forward.spectrum import reference_fluxes
from popcat.galaxies import FLAGS
from popcat.galaxy_model import GalaxyModel
from popcat.io.photometry import to_photometry
from popcat.posterior.library import simulate
from popcat.prior import make_prior
from popcat.survey import embedded_surveys, load_survey
from popcat.units import NMGY_PER_UNIT

N_BANDS = {"cosmos2020": 27, "euclid": 9, "euclid_des": 8, "hsc": 5, "jwst_nircam": 8, "kids_viking": 9, "lsst_deep": 6,
           "roman": 6}  # fmt: skip
EBV, MAG, FLUX = 0.1, 20.0, 100.0
# What else a row has: vis of Euclid has half of the light in its aperture.
EUCLID = {"gal_ebv": EBV, "vis_det": 1, "spurious_flag": 0, "redshift": 0.5, "flux_vis_2fwhm_aper": 0.5 * FLUX}
BESIDE = {
    "cosmos2020": {"EBV": EBV, "FLAG_COMBINED": 0, "lp_type": 0, "lp_zPDF": 0.5, "lp_zPDF_l68": 0.48,
                   "lp_zPDF_u68": 0.52},
    "euclid": EUCLID, "euclid_des": EUCLID,
    "hsc": {**{f"a_{band}": EBV for band in "grizy"}, "specz_redshift": 0.5},
    "jwst_nircam": {"ebv": EBV, "z_spec": 0.5},
    "kids_viking": {"Z_B": 0.5, "Z_B_MIN": 0.46, "Z_B_MAX": 0.54},
    "lsst_deep": {"ebv": EBV, "redshift": 0.5},
    "roman": {"ebv": EBV, "warning_flags": 0, "photoz": 0.5, "photoz_low68": 0.48, "photoz_high68": 0.52},
}  # fmt: skip
NEEDED = {name: GalaxyModel(dust_emission="draine_li_2007") if "dust_emission" in load_survey(name).description
          else GalaxyModel() for name in embedded_surveys()}  # fmt: skip
"""The galaxy model that a survey needs."""


def own_columns(survey, n=1):
    """n rows in a survey's own columns: every flux 100 in its unit, or a magnitude of 20, and errors of 5%."""
    magnitudes = survey.unit == "ab_mag"
    columns = {survey.columns.object_id: np.arange(n), survey.columns.ra: np.full(n, 150.0),
               survey.columns.dec: np.full(n, 2.0)}  # fmt: skip
    columns |= {key: np.full(n, value) for key, value in BESIDE[survey.name].items()}
    for band in survey.bands:
        for text, value in ((band.flux, MAG if magnitudes else FLUX), (band.flux_err, 0.05 if magnitudes else 5.0)):
            columns |= {one: np.full(n, value) for one in sources_of(text, ()) if one not in columns}
    return columns


@pytest.fixture(params=N_BANDS)
def survey(request):
    return load_survey(request.param)


def test_a_row_of_its_own_columns_is_photometry_in_nanomaggies(survey):
    frame = to_photometry(pd.DataFrame(own_columns(survey)), survey)
    assert frame["flags"][0] & ~FLAGS["outside_training"] == 0
    assert frame["redshift"][0] == pytest.approx(0.5)
    assert len(survey.bands) == N_BANDS[survey.name]
    for band in survey.bands:
        value = 10 ** (0.4 * (22.5 - MAG)) if survey.unit == "ab_mag" else FLUX * NMGY_PER_UNIT[survey.unit]
        total = 2.0 if "flux_vis_2fwhm_aper" in band.flux else 1.0
        dust = EBV * band.extinction_factor if band.extinction else 0.0
        expected = total * value * 10 ** (0.4 * dust)
        assert frame[f"flux_{band.name}"][0] == pytest.approx(expected, rel=1e-6), band.name
        error = 0.05 * np.log(10.0) / 2.5 if survey.unit == "ab_mag" else 0.05
        assert frame[f"flux_err_{band.name}"][0] == pytest.approx(
            expected * np.hypot(error, band.error_floor), rel=1e-6
        )


def test_rows_that_fail_its_quality_are_flagged(survey):
    columns = own_columns(survey)
    for condition in survey.quality:
        name = condition.split()[0]
        frame = to_photometry(pd.DataFrame(columns | {name: columns[name] + 1}), survey)
        assert frame["flags"][0] & FLAGS["quality_cut"]


def test_a_draft_from_its_columns_has_its_filters_extinction_and_floors(survey, tmp_path):
    """So that the table of conventions and the survey file say the same."""
    spread = np.linspace(0.9, 1.1, 40)
    columns = {key: one * spread if one.dtype.kind == "f" else one for key, one in own_columns(survey, 40).items()}
    text, drafted = draft(tmp_path, columns, keys={})
    like = {"lsst_deep": "lsst"}.get(survey.name, survey.name)
    assert f'The embedded survey "{like}"' in text
    theirs = {sources_of(band.flux, ())[0]: band for band in survey.bands}
    ours = {band.flux: band for band in drafted.bands}
    common = theirs.keys() & ours.keys()
    assert len(common) >= len(theirs) - 1, "all but VIS of Euclid"
    assert drafted.unit == survey.unit
    for column in common:
        if ours[column].filter != "CHECK":
            same = {"filter", "wave_range_aa", "extinction", "extinction_factor"}
            assert ours[column].model_dump(include=same) == theirs[column].model_dump(include=same)


def test_bands_come_in_order_of_wavelength_and_are_one_stretch_each(survey):
    curves = load_curves(survey)
    assert np.all(np.diff([curve.effective_wavelength_aa for curve in curves]) > 0)
    assert all(len(curve.segments()) == 1 for curve in curves)


def test_curves_in_place_of_omegacams_have_its_pivot_wavelengths():
    """Those of the curves of the survey (Wright et al. 2019, A&A 632, A34)."""
    pivots = [load_curve(band).pivot_wavelength_aa for band in load_survey("kids_viking").bands[:4]]
    np.testing.assert_allclose(pivots, [3570.0, 4712.0, 6286.0, 7555.0], atol=5.0)


@pytest.mark.parametrize("name", N_BANDS)
@pytest.mark.parametrize("end", ["near", "far"])
def test_the_fast_path_agrees_with_the_reference_at_both_ends_of_its_redshifts(name, end):
    """In bands that have more than 1e-8 of the light that the galaxy's brightest band has without dust."""
    survey, model = load_survey(name), NEEDED[name]
    low, high = survey.redshift_range
    narrow = survey.model_copy(
        update={"redshift_range": (low, low + 0.005) if end == "near" else (high - 0.005, high)})  # fmt: skip
    photometry, prior, rng = Photometry(narrow, model), make_prior(model), np.random.default_rng(1)
    theta = prior.from_unit(rng.random((10, prior.n_unconstrained)))
    redshift = rng.uniform(*narrow.redshift_range, len(theta))
    ingredients, curves = photometry.ingredients, load_curves(narrow)
    expected = reference_fluxes(theta, redshift, ingredients, curves)
    clear = theta.copy()
    clear[:, [ingredients.n_history + ingredients.components.names.index(one) for one in ("tau_bc", "tau_ism")]] = 0.0
    brightest = reference_fluxes(clear, redshift, ingredients, curves).max(axis=1, keepdims=True)
    seen = expected > 1e-8 * brightest
    assert seen.any(axis=0).sum() >= len(curves) / 2
    assert np.max(np.abs(photometry.flux(theta, redshift)[seen] / expected[seen] - 1.0)) < 1e-3


@pytest.mark.parametrize("name", N_BANDS)
def test_a_hundred_galaxies_are_simulated_with_the_galaxy_model_that_it_needs(name):
    survey = load_survey(name)
    low = survey.redshift_range[0]
    narrow = survey.model_copy(update={"redshift_range": (low, low + 0.005)})
    library = simulate(narrow, 100, galaxy_model=NEEDED[name]).compute()
    fluxes = library[[f"flux_{band}" for band in survey.band_names]].to_numpy()
    assert fluxes.shape == (100, N_BANDS[name]) and np.isfinite(fluxes).all()
    if NEEDED[name] != GalaxyModel():
        with pytest.raises(PopcatError, match='set dust_emission = "draine_li_2007"'):
            simulate(narrow, 100)


@pytest.mark.parametrize(("name", "low"), [("cosmos2020", 2.7), ("jwst_nircam", 1.0)])
def test_above_a_redshift_a_survey_does_without_emission_of_dust(name, low):
    survey = load_survey(name)
    above = survey.model_copy(update={"redshift_range": (low, survey.redshift_range[1])})
    assert list(lacking(above, GalaxyModel())) == []


def test_desi_legacy_is_another_name_of_the_sweeps_and_no_second_survey():
    assert load_survey("desi_legacy") == load_survey("legacy_sweep")
    assert "desi_legacy" not in embedded_surveys()
    with pytest.raises(PopcatError, match=r'did you mean "desi_legacy"'):
        load_survey("desi_legasy")


def test_the_table_of_surveys_is_that_of_the_survey_files():
    """docs/howto/survey_file.md: names, numbers of bands, redshifts, the band of the selection, the galaxy model."""
    text = (Path(__file__).parents[2] / "docs" / "howto" / "survey_file.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\d+): [^|]* \| ([\d.]+) to ([\d.]+) \| ([^|]*) \| ([^|]*) \|", text, re.M)
    expected = []
    for name in embedded_surveys():
        survey, cut = load_survey(name), load_survey(name).selection
        model = '`dust_emission = "draine_li_2007"`' if list(lacking(survey, GalaxyModel())) else "default"
        low, high = survey.redshift_range
        expected.append((name, str(len(survey.bands)), f"{low:g}", f"{high:g}",
                         f"{cut.band} {cut.bright_mag:g} to {cut.faint_mag:g}", model))  # fmt: skip
    assert sorted(rows) == sorted(expected)

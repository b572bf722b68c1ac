"""A drafted survey file: the columns of public catalogues are found, and only what a file states is stated.

The tables have the names of the public schemas, and values as galaxies have them.
"""

import re

import numpy as np
import pytest
from drafts import FLUX, KEYS, MAG, REDSHIFT, TYPICAL, N, draft, fluxes, line_of, mags

from popcat.errors import PopcatError
from popcat.io.drafting import draft_survey
from popcat.io.inspection import inspect_catalog
from popcat.survey import Survey

pytestmark = pytest.mark.filterwarnings("ignore::astropy.units.UnitsWarning")  # nanomaggy is no unit of FITS

def summary(survey: Survey) -> str:
    """Bands with their filters and columns."""
    return "; ".join(f"{band.name} {band.filter} {band.flux}" for band in survey.bands)


E_BV = {"EBV": np.full(N, 0.05)}
GRIZY = "g r i z y"
CATALOGUES = {
    "COSMOS2020": (
        fluxes("UVISTA_{}_FLUX_AUTO: Ks Y", "UVISTA_{}_FLUXERR_AUTO", "HSC_{}_FLUX_APER2: g y", "HSC_{}_FLUXERR_APER2",
               "HSC_{}_FLUX_AUTO: g y", "HSC_{}_FLUXERR_AUTO", "CFHT_{}_FLUX_AUTO: u ustar", "CFHT_{}_FLUXERR_AUTO")
        | mags("HSC_{}_MAG_AUTO: g y", "HSC_{}_MAGERR_AUTO") | E_BV | {"lp_zBEST": REDSHIFT, "ez_z_phot": REDSHIFT},
        "u cfht_megacam-u CFHT_u_FLUX_AUTO; ustar cfht_megacam-ustar CFHT_ustar_FLUX_AUTO; "
        "g hsc2017-g HSC_g_FLUX_AUTO; hscy hsc2017-y HSC_y_FLUX_AUTO; uvistaY vista_vircam_Y UVISTA_Y_FLUX_AUTO; "
        "Ks vista_vircam_Ks UVISTA_Ks_FLUX_AUTO", "uJy", "COSMOS2020 documents uJy; the file states none"),
    "COSMOS2020 FARMER": (
        fluxes("HSC_{}_FLUX: g i", "HSC_{}_FLUXERR", "SC_{}_FLUX: IB427", "SC_{}_FLUXERR", "IRAC_{}_FLUX: CH1",
               "IRAC_{}_FLUXERR") | {"lp_zPDF": REDSHIFT},
        "IB427 suprime-IB427 SC_IB427_FLUX; g hsc2017-g HSC_g_FLUX; i hsc2017-i2 HSC_i_FLUX; "
        "ch1 spitzer_irac_ch1 IRAC_CH1_FLUX", "uJy", "COSMOS2020 documents uJy"),
    "COSMOS2015": (
        fluxes("{}_FLUX_APER3: u V ip zpp Ks yHSC", "{}_FLUXERR_APER3", "SPLASH_1_FLUX", "SPLASH_1_FLUX_ERR"),
        "u cfht_megacam-u u_FLUX_APER3; V subaru_suprimecam_V V_FLUX_APER3; ip subaru_suprimecam_ip ip_FLUX_APER3; "
        "zpp subaru_suprimecam_zp zpp_FLUX_APER3; y hsc2017-y yHSC_FLUX_APER3; Ks vista_vircam_Ks Ks_FLUX_APER3; "
        "ch1 spitzer_irac_ch1 SPLASH_1_FLUX", "uJy", "COSMOS2015 documents uJy"),
    "3D-HST or ZFOURGE": (
        fluxes("f_{}: Ks F160W U F814W", "e_{}") | {"z_spec": REDSHIFT},
        "U CHECK f_U; f814w acs_wfc_f814w f_F814W; f160w wfc3_ir_f160w f_F160W; Ks CHECK f_Ks", "nMgy",
        "a flux of 1 is AB magnitude 25"),
    "CANDELS": (
        fluxes("CTIO_{}_FLUX: U", "CTIO_{}_FLUXERR", "VIMOS_{}_FLUX: U", "VIMOS_{}_FLUXERR", "ACS_{}_FLUX: F606W",
               "ACS_{}_FLUXERR", "IRAC_{}_FLUX: CH1", "IRAC_{}_FLUXERR"),
        "ctioU CHECK CTIO_U_FLUX; vimosU CHECK VIMOS_U_FLUX; f606w acs_wfc_f606w ACS_F606W_FLUX; "
        "ch1 spitzer_irac_ch1 IRAC_CH1_FLUX", "uJy", "CANDELS documents uJy"),
    "DJA (grizli)": (
        fluxes("{}_flux_aper_0: f444w f115w", "{}_fluxerr_aper_0", "{}_corr_1: f444w f115w", "{}_ecorr_1",
               "{}_tot_1: f444w f115w", "{}_etot_1"),
        "f115w jwst_f115w f115w_tot_1; f444w jwst_f444w f444w_tot_1", "uJy", "DJA (grizli) documents uJy"),
    "LSST": (
        fluxes("{}_psfFlux: u g y", "{}_psfFluxErr", "{}_free_cModelFlux: u g y", "{}_free_cModelFluxErr",
               "{}_cModelFlux: u g y", "{}_cModelFluxErr"),
        "u lsst2023-u u_cModelFlux; g lsst2023-g g_cModelFlux; y lsst2023-y y_cModelFlux", "nJy",
        "LSST documents nJy; the file states none"),
    "Euclid MER": (
        fluxes("FLUX_{}_1FWHM_APER: VIS Y", "FLUXERR_{}_1FWHM_APER", "FLUX_{}_TEMPLFIT: VIS Y", "FLUXERR_{}_TEMPLFIT",
               "FLUX_{}_EXT_DECAM_TEMPLFIT: G", "FLUXERR_{}_EXT_DECAM_TEMPLFIT", "FLUX_DETECTION_TOTAL",
               "FLUXERR_DETECTION_TOTAL") | {"GAL_EBV": np.full(N, 0.03)},
        "g decam2014-g FLUX_G_EXT_DECAM_TEMPLFIT; VIS Euclid-VIS FLUX_VIS_TEMPLFIT; Y Euclid-Y FLUX_Y_TEMPLFIT", "uJy",
        "Euclid MER documents uJy"),
    "DES": (
        fluxes("FLUX_AUTO_{}: Z G", "FLUXERR_AUTO_{}") | mags("MAG_AUTO_{}: Z G", "MAGERR_AUTO_{}")
        | {"EBV_SFD98": np.full(N, 0.02)},
        "g decam2014-g FLUX_AUTO_G; z decam2014-z FLUX_AUTO_Z", "nMgy", "a flux of 1 is AB magnitude 30 in DES"),
    "KiDS": (
        fluxes("FLUX_GAAP_{}: Ks Z r", "FLUXERR_GAAP_{}") | mags("MAG_GAAP_{}: Ks Z r", "MAGERR_GAAP_{}")
        | {"EXTINCTION_r": np.full(N, 0.1), "Z_B": REDSHIFT},
        "r CHECK MAG_GAAP_r; Z vista_vircam_Z MAG_GAAP_Z; Ks vista_vircam_Ks MAG_GAAP_Ks", "ab_mag",
        "KiDS documents AB magnitudes; the file does not state it"),
    "HSC-SSP": (
        fluxes("{}_psfflux_flux: y g", "{}_psfflux_fluxerr", "{}_cmodel_flux: y g", "{}_cmodel_fluxerr")
        | {"a_g": np.full(N, 0.1), "a_y": np.full(N, 0.1)},
        "g hsc2017-g g_cmodel_flux; y hsc2017-y y_cmodel_flux", "nJy", "HSC-SSP documents nJy"),
    "Pan-STARRS": (
        mags("{}PSFMag: y g", "{}PSFMagErr", "{}MeanKronMag: y g", "{}MeanKronMagErr", "{}KronMag: y g",
             "{}KronMagErr"),
        "g panstarrs-g gKronMag; y panstarrs-y yKronMag", "ab_mag", "Pan-STARRS documents AB magnitudes"),
    "AllWISE and 2MASS": (
        mags("w{}mpro: 2 1", "w{}sigmpro", "{}_m: k j", "{}_msigcom"),
        "J twomass-J j_m; K twomass-Ks k_m; W1 wise2010-W1 w1mpro; W2 wise2010-W2 w2mpro", "ab_mag",
        "Vega magnitudes, which ab_offset_mag takes to AB"),
    "AllWISE and 2MASS VizieR": (
        mags("{}mag: J K", "e_{}mag") | {"_2MASS": np.full(N, "J00")}, "J twomass-J Jmag; K twomass-Ks Kmag", "ab_mag",
        "Vega magnitudes"),
    "SDSS VizieR": (
        mags("{}mag: g u", "e_{}mag") | {"SDSS12": np.full(N, "J00"), "zsp": REDSHIFT},
        "u sdss2010-u umag; g sdss2010-g gmag", "asinh_mag", "SDSS documents asinh magnitudes"),
    "UKIDSS": (
        mags("{}AperMag3: y k", "{}AperMag3Err", "{}PetroMag: y k", "{}PetroMagErr"),
        "Y CHECK yPetroMag; K ukirt_wfcam_K kPetroMag", "ab_mag", "Vega magnitudes"),
    "VISTA": (
        mags("{}AperMag3: ks j", "{}AperMag3Err"), "J vista_vircam_J jAperMag3; Ks vista_vircam_Ks ksAperMag3",
        "ab_mag", "Vega magnitudes"),
    "Legacy Surveys sweep": (
        fluxes("FLUX_{}: W1 Z G", "FLUX_IVAR_{}") | {"MW_TRANSMISSION_G": np.full(N, 0.9)},
        "g decamDR1-g FLUX_G; z decamDR1-z FLUX_Z; W1 wise2010-W1 FLUX_W1", "nMgy", "documents nMgy"),
    "GAMA": (
        fluxes("{}_flux: K X z u", "{}_fluxerr") | E_BV | {"CATAID": np.arange(N), "Z": REDSHIFT, "NQ": np.full(N, 4)},
        "u sdss2010-u u_flux; X vista_vircam_Z X_flux; z sdss2010-z z_flux; K vista_vircam_Ks K_flux", "Jy",
        "GAMA documents Jy"),
    "GAMA, data release 4": (
        fluxes("flux_{}t: r Z W1", "flux_err_{}t", "flux_{}c: r Z", "flux_err_{}c") | {"uberID": np.arange(N)},
        "r CHECK flux_rt; Z vista_vircam_Z flux_Zt; W1 wise2010-W1 flux_W1t", "Jy", "documents Jy"),
    "SDSS": (
        mags("{}: g u z", "err_{}", "modelMag_{}: g u z", "modelMagErr_{}", "cModelMag_{}: g u z", "cModelMagErr_{}")
        | {f"extinction_{band}": np.full(N, 0.1) for band in "guz"},
        "u sdss2010-u cModelMag_u; g sdss2010-g cModelMag_g; z sdss2010-z cModelMag_z", "asinh_mag",
        "SDSS documents asinh magnitudes"),
    "CIGALE": (
        fluxes("sdss.{}: r g", "sdss.{}_err", "galex.{}: FUV", "galex.{}_err") | {"redshift": REDSHIFT},
        "FUV galex-fuv galex.FUV; g sdss2010-g sdss.g; r sdss2010-r sdss.r", "mJy", "CIGALE documents mJy"),
    "LePHARE": (
        fluxes("f_hsc/{}HSC.pb: r g", "ferr_hsc/{}HSC.pb") | {"context": np.arange(N), "zspec": REDSHIFT},
        "g hsc2017-g f_hsc/gHSC.pb; r hsc2017-r2 f_hsc/rHSC.pb", "nMgy", "nMgy is a guess"),
    "": (
        mags("{}mag: z g", "e_{}mag"), "g CHECK gmag; z CHECK zmag", "ab_mag",
        "AB is a guess, the file does not state it"),
}  # fmt: skip
"""Columns; bands with filters and columns; unit; what the draft says about the unit. By the catalogue's name."""


@pytest.mark.parametrize("name", CATALOGUES)
def test_bands_filters_and_units_of_public_catalogues_are_found(name, tmp_path):
    columns, bands, unit, why = CATALOGUES[name]
    text, survey = draft(tmp_path, columns)
    assert summary(survey) == bands
    assert survey.unit == unit
    assert "CHECK" in line_of(text, "unit =") and why in text
    assert "stated by the file" not in text
    assert not name or f"look like those of {re.sub(' (FARMER|VizieR)$', '', name)}:" in text
    assert len({survey.unit_of(band) for band in survey.bands}) == 1


@pytest.mark.parametrize("name", CATALOGUES)
def test_a_draft_is_checked_where_its_units_are_known(name, tmp_path):
    _, survey = draft(tmp_path, CATALOGUES[name][0])
    units = {"nMgy": "nMgy", "ab_mag": "ab_mag", "asinh_mag": "asinh_mag"}.get(survey.unit, "nMgy")
    found = inspect_catalog(tmp_path / "catalog.fits", survey.model_copy(update={"unit": units, "bands": tuple(
        band.model_copy(update={"unit": None if band.unit == survey.unit else band.unit}) for band in survey.bands)}))
    assert found.rows == N
    assert [one.band for one in found.bands if one.observed == N] == list(survey.band_names)


def test_every_other_column_of_a_band_is_listed(tmp_path):
    text, _ = draft(tmp_path, CATALOGUES["COSMOS2020"][0])
    assert "# Other columns of this band: HSC_g_MAG_AUTO, HSC_g_FLUX_APER2" in text


def test_only_a_unit_that_the_file_states_is_stated(tmp_path):
    columns = fluxes("flux_{}: g r", "flux_err_{}")
    text, _ = draft(tmp_path, columns)
    assert "nMgy is a guess; the file states no unit" in text and "median AB magnitude in r would be" in text
    text, survey = draft(tmp_path, columns, units={"flux_g": "uJy", "flux_r": "uJy"})
    assert 'unit = "uJy"  # stated by the file' in text and survey.unit == "uJy"
    assert inspect_catalog(tmp_path / "catalog.fits", survey).bands[0].unit == "uJy"
    text, _ = draft(tmp_path, columns, units={"flux_g": "counts", "flux_r": "counts"})
    assert 'CHECK: nMgy is a guess; the file states "counts", which popcat cannot read' in text


@pytest.mark.parametrize(("unit", "said"), [
    ("mag", 'CHECK: AB is a guess, the file states "mag" alone'), ("ABmag", "stated by the file"),
    ("mag(AB)", "stated by the file"), ("Vega mag", "CHECK: Vega magnitudes"),
    ("STmag", "which is not AB")])  # fmt: skip
def test_magnitudes_are_ab_where_the_file_says_ab(unit, said, tmp_path):
    columns = mags("mag_{}: g r", "magerr_{}")
    text, survey = draft(tmp_path, columns, units={"mag_g": unit, "mag_r": unit})
    assert said in line_of(text, "unit =")
    assert survey.unit == "ab_mag"


def test_cgs_fluxes_become_jansky(tmp_path):
    """1 uJy is 1e-29 erg/s/cm2/Hz."""
    columns = {name: values * 1e-29 for name, values in fluxes("f_hsc/{}HSC.pb: r g", "ferr_hsc/{}HSC.pb").items()}
    text, survey = draft(tmp_path, columns)
    assert "are taken for erg/s/cm2/Hz" in line_of(text, "unit =")
    found = inspect_catalog(tmp_path / "catalog.fits", survey)
    assert found.bands[1].median_mag == pytest.approx(23.9 - 2.5 * np.log10(TYPICAL), abs=0.02)
    names = {name: "erg / (s cm2 Hz)" for name in columns}
    text, _ = draft(tmp_path, columns, units=names)
    assert 'stated by the file, as "erg' in line_of(text, "unit =")


def test_a_band_without_values_is_in_what_the_others_are_in(tmp_path):
    columns = {name: values * 1e-29 for name, values in fluxes("f_hsc/{}HSC.pb: r g z", "ferr_hsc/{}HSC.pb").items()}
    columns["f_hsc/zHSC.pb"] = np.full(N, np.nan)
    _, survey = draft(tmp_path, columns)
    assert {survey.unit_of(band) for band in survey.bands} == {"Jy"}


def test_zero_points_and_vega_offsets_are_said_and_used(tmp_path):
    _, survey = draft(tmp_path, CATALOGUES["3D-HST or ZFOURGE"][0])
    found = inspect_catalog(tmp_path / "catalog.fits", survey)
    assert [band.ab_offset_mag for band in survey.bands] == [2.5] * 4
    assert found.bands[3].median_mag == pytest.approx(25 - 2.5 * np.log10(TYPICAL), abs=0.02)
    text, survey = draft(tmp_path, CATALOGUES["AllWISE and 2MASS"][0])
    assert [band.ab_offset_mag for band in survey.bands] == [0.91, 1.85, 2.699, 3.339]
    assert 'ab_offset_mag = 0.91  # CHECK: 2MASS magnitudes are Vega (Blanton & Roweis 2007' in text
    _, survey = draft(tmp_path, CATALOGUES["UKIDSS"][0])
    assert [band.ab_offset_mag for band in survey.bands] == [0.634, 1.9]


def test_vega_columns_beside_others_keep_their_system(tmp_path):
    _, survey = draft(tmp_path, fluxes("modelflux_{}: g r", "modelflux_err_{}")
                      | mags("twomass_{}_vega_mag: j", "twomass_{}_vega_mag_err"))
    assert (survey.unit, survey.bands[2].unit, survey.bands[2].ab_offset_mag) == ("nMgy", "ab_mag", 0.91)


def test_asinh_magnitudes_of_sdss_have_their_softening(tmp_path):
    _, survey = draft(tmp_path, CATALOGUES["SDSS"][0])
    assert [band.softening for band in survey.bands] == [1.4e-10, 0.9e-10, 7.4e-10]


def test_extinction_is_used_where_its_coefficient_is_known(tmp_path):
    text, survey = draft(tmp_path, CATALOGUES["COSMOS2020"][0] | fluxes("SC_{}_FLUX: V", "SC_{}_FLUXERR"))
    factors = {band.name: band.extinction_factor for band in survey.bands if band.extinction == "EBV"}
    assert factors == {"u": 4.159, "ustar": 4.053, "g": 3.24, "hscy": 1.075, "uvistaY": 0.994, "Ks": 0.308}
    assert '# CHECK: no extinction_factor is known here, A / E(B-V) of this filter; with it, extinction = "EBV"' in text
    assert {band.extinction for band in draft(tmp_path, CATALOGUES["HSC-SSP"][0])[1].bands} == {"a_g", "a_y"}
    assert draft(tmp_path, CATALOGUES["DES"][0])[1].bands[0].extinction_factor == 3.237
    sweep = draft(tmp_path, CATALOGUES["Legacy Surveys sweep"][0])[1]
    assert sweep.bands[0].extinction == "-2.5 * log10(MW_TRANSMISSION_G)"
    text, survey = draft(tmp_path, CATALOGUES["KiDS"][0])
    assert all(band.extinction is None for band in survey.bands) and "removed from MAG_GAAP" in text


def test_ranges_and_marks_come_from_the_values(tmp_path):
    columns = mags("mag_{}_lsst: r g", "mag_err_{}_lsst") | {"redshift": REDSHIFT.copy()}
    columns["mag_r_lsst"] = MAG.copy()
    columns["mag_r_lsst"][3:6] = 99.0
    columns["mag_err_g_lsst"][7:9] = -1.0
    columns["redshift"][:2] = -9.99
    text, survey = draft(tmp_path, columns)
    assert survey.missing_values == (-9.99, -1.0, 99.0)
    assert survey.redshift_range == (0.05, 0.7) and "CHECK" in line_of(text, "redshift_range")
    assert (survey.selection.band, survey.selection.bright_mag, survey.selection.faint_mag) == ("r", 17.0, 21.5)
    assert "98% of the 37 galaxies" in line_of(text, "bright_mag")
    assert inspect_catalog(tmp_path / "catalog.fits", survey).flags["missing_redshift"] == 2


def test_non_detections_with_limits_are_data_and_no_missing_values(tmp_path):
    """A limit of 1.5 errors, by the errors of galaxies near it; without such galaxies one error is taken."""
    columns = mags("mag_{}_lsst: r g", "mag_err_{}_lsst")
    mag = np.linspace(25.6, 26.4, N)
    columns["mag_g_lsst"], columns["mag_err_g_lsst"] = mag, 2.5 / np.log(10.0) * 10.0 ** (0.4 * (mag - 26.0)) / 1.5
    columns["mag_g_lsst"][3:6], columns["mag_err_g_lsst"][3:6] = 99.0, 26.0
    text, survey = draft(tmp_path, columns)
    assert (survey.limit_mark, survey.limit_sigma, survey.missing_values) == (99.0, 1.5, ())
    assert "CHECK: 3 of the values" in line_of(text, "limit_mark") and "CHECK" in line_of(text, "limit_sigma")
    assert inspect_catalog(tmp_path / "catalog.fits", survey).flags.get("missing_band", 0) == 0
    columns["mag_err_g_lsst"][3:6] = 33.0
    assert draft(tmp_path, columns)[1].limit_sigma == 1.0
    columns["mag_err_g_lsst"][3:6] = 99.0
    _, survey = draft(tmp_path, columns)
    assert survey.limit_mark is None and survey.missing_values == (99.0,)


@pytest.mark.parametrize(("redshift", "expected"), [(0.1, (0.09, 0.2)), (0.5, (0.49, 0.6)), (20.0, (19.99, 20.0)),
                                                    (0.0004, (0.001, 0.1))])  # fmt: skip
def test_redshifts_that_are_all_the_same_make_a_valid_range(tmp_path, redshift, expected):
    columns = fluxes("flux_{}: g r", "flux_err_{}") | {"redshift": np.full(len(FLUX), redshift)}
    assert draft(tmp_path, columns)[1].redshift_range == expected


def test_counts_that_happen_to_be_99_are_no_mark(tmp_path):
    columns = fluxes("flux_{}: g r", "flux_err_{}")
    columns["flux_g"] = np.repeat(np.arange(90.0, 110.0), 2)
    assert draft(tmp_path, columns)[1].missing_values == ()


def test_filters_follow_the_header_where_the_names_say_nothing(tmp_path):
    columns = mags("mag_{}: g r", "magerr_{}")
    assert {band.filter for band in draft(tmp_path, columns)[1].bands} == {"CHECK"}
    for header, filter_ in ({"INSTRUME": "DECam"}, "decam2014-r"), ({"TELESCOP": "Rubin"}, "lsst2023-r"), (
        {"SURVEY": "SDSS"}, "sdss2010-r"), ({"ORIGIN": "CFHT"}, "cfht_megacam-r"):  # fmt: skip
        assert draft(tmp_path, columns, header=header)[1].bands[1].filter == filter_


def test_vectors_are_bands_and_a_catalogue_without_errors_is_refused(tmp_path):
    _, survey = draft(tmp_path, {"F": np.ones((N, 5)), "F_ERR": np.ones((N, 5)), "Z": REDSHIFT})
    assert summary(survey) == "; ".join(f"{band} CHECK F[{index}]" for index, band in enumerate("ugriz"))
    with pytest.raises(PopcatError, match="no pair of columns looks like a flux and its error"):
        draft(tmp_path, {"flux_g": FLUX, "redshift": REDSHIFT, "redshift_err": REDSHIFT, "radius_g": FLUX,
                         "radius_g_err": FLUX, "OIII_FLUX": FLUX, "OIII_FLUX_ERR": FLUX})  # fmt: skip


def test_bands_are_told_apart_by_the_case_of_a_letter(tmp_path):
    columns = fluxes("{}_flux: z Z g", "{}_fluxerr") | {"X_flux": FLUX, "X_fluxerr": FLUX}
    _, survey = draft(tmp_path, columns)
    assert [(band.name, band.flux, band.flux_err, band.filter) for band in survey.bands[1:]] == [
        ("Z", "Z_flux", "Z_fluxerr", "vista_vircam_Z"), ("X", "X_flux", "X_fluxerr", "vista_vircam_Z"),
        ("z2", "z_flux", "z_fluxerr", "sdss2010-z")]  # fmt: skip


def test_an_embedded_survey_is_named_where_its_identifier_and_fluxes_are_there(tmp_path):
    columns = mags("modelMag_{}: u g r i z", "modelMagErr_{}")
    named = 'The embedded survey "sdss_casjobs_mag" has these flux columns. It also wants redshift'
    assert named in draft(tmp_path, columns, keys={"objID": KEYS["id"], "ra": MAG, "dec": MAG})[0]
    assert named not in draft(tmp_path, columns)[0]


def test_columns_in_the_order_of_lephare_are_pairs(tmp_path):
    keys = {"Id": KEYS["id"]}
    columns = {"col2": MAG, "col3": FLUX, "col4": MAG, "col5": FLUX, "context": KEYS["id"], "zspec": REDSHIFT}
    _, survey = draft(tmp_path, columns, keys=keys)
    assert [(band.flux, band.flux_err) for band in survey.bands] == [("col2", "col3"), ("col4", "col5")]


def test_a_file_that_is_there_is_not_written_over(tmp_path):
    (tmp_path / "mine.toml").write_text("")
    with pytest.raises(PopcatError, match=r"mine\.toml is there already"):
        draft_survey(tmp_path / "catalog.fits", output=tmp_path / "mine.toml")


def nsa_columns(*names):
    vectors = {name: np.tile(np.linspace(20.0, 90.0, N)[:, None], 7) for name in names}
    return vectors | {f"{name}_IVAR": np.ones((N, 7)) for name in names} | {
        "NSAID": np.arange(N), "Z": REDSHIFT, "EXTINCTION": np.full((N, 7), 0.1)}  # fmt: skip


def test_fluxes_of_the_nsa_without_extinction_come_first(tmp_path):
    text, survey = draft(tmp_path, nsa_columns("PETROFLUX", "ELPETRO_FLUX", "SERSIC_NMGY", "ELPETRO_NMGY"))
    assert survey.bands[2].flux == "ELPETRO_NMGY[2]" and all(band.extinction is None for band in survey.bands)
    assert 'The embedded survey "nsa_v1" has these flux columns' in text
    text, survey = draft(tmp_path, nsa_columns("PETROFLUX", "ELPETRO_FLUX"))
    assert [(band.flux, band.extinction) for band in survey.bands][2] == ("ELPETRO_FLUX[2]", "EXTINCTION[2]")
    assert "CHECK that the fluxes are not corrected for it yet" in text and "The embedded survey" not in text


def test_extinction_that_is_removed_from_other_columns_is_used(tmp_path):
    columns = fluxes("FLUX_GAAP_{}: r i", "FLUXERR_GAAP_{}") | {"EXTINCTION_r": np.full(N, 0.1)}
    assert [band.extinction for band in draft(tmp_path, columns)[1].bands] == ["EXTINCTION_r", None]

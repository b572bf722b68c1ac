"""Each embedded survey reads files with the columns, types and units of the real catalogue, and catches a wrong unit.

The layouts are small, with the names, types and units of the public schemas. NSA: http://nsatlas.org/data and the table
`nsatlas` of the SDSS schema browser. CasJobs: PhotoObjAll and SpecObj of the SDSS schema browser. GAMA:
http://www.gama-survey.org/dr3/schema (LambdarCat, GalacticExtinction, SpecObj). Legacy Surveys:
https://www.legacysurvey.org/dr10/files/#sweep-catalogs.
"""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from popcat.errors import PopcatError
from popcat.galaxies import FLAGS
from popcat.io.checking import check_catalog
from popcat.io.drafting import draft_survey
from popcat.io.inspection import inspect_catalog
from popcat.io.photometry import catalog_columns, to_photometry
from popcat.io.sources import plan_chunks, read_chunk
from popcat.survey import Survey, load_survey

pytestmark = pytest.mark.filterwarnings("ignore::astropy.units.UnitsWarning")  # nanomaggy is no unit of FITS

N = 40
SDSS_MEDIAN = np.array([12.0, 45.0, 90.0, 130.0, 165.0])
"""ugriz of a galaxy at r = 17.6, in nMgy."""
GAMA_BANDS = "ugriXzYJHK"
GAMA_MEDIAN = np.array([12.0, 45.0, 90.0, 130.0, 155.0, 165.0, 180.0, 210.0, 240.0, 200.0])
JY_PER_NMGY = 3.631e-6
CLEAN = 1 << 28


def truth(median=SDSS_MEDIAN, seed=3):
    """Fluxes (n, n_band) in nMgy and their errors."""
    rng = np.random.default_rng(seed)
    flux = median * 10 ** rng.normal(0, 0.25, (N, 1)) * rng.uniform(0.9, 1.1, (N, len(median)))
    return flux, 0.02 * flux + 0.1


def _common(seed=4):
    rng = np.random.default_rng(seed)
    return rng.uniform(130, 230, N), rng.uniform(-5, 60, N), rng.uniform(0.02, 0.12, N)


def nsa(flux_name, ivar_name, identifier_type="i4"):
    flux, err = truth()
    ra, dec, z = _common()
    vector, ivar = np.zeros((N, 7), ">f4"), np.zeros((N, 7), ">f4")
    vector[:, 2:], ivar[:, 2:] = flux, err**-2.0
    return Table({
        "IAUNAME": [f"J{i:09d}" for i in range(N)], "NSAID": np.arange(N, dtype=identifier_type) + 140_000,
        "RA": ra, "DEC": dec, "Z": z.astype("f4"), "ZDIST": z.astype("f4"), flux_name: vector, ivar_name: ivar,
        "EXTINCTION": np.full((N, 7), 0.1, "f4"), "DFLAGS": np.zeros((N, 7), "i4"),
    })  # fmt: skip


def nsa_v0():
    return nsa("NMGY", "NMGY_IVAR")


def nsa_v1():
    return nsa("ELPETRO_NMGY", "ELPETRO_NMGY_IVAR")


def casjobs():
    """modelFlux and modelFluxIvar: nanomaggies, Galactic extinction not removed, zero points of SDSS."""
    flux, err = truth()
    ra, dec, z = _common()
    table = Table({"objID": 1237648704586514654 + np.arange(N), "ra": ra, "dec": dec, "flags": np.full(N, CLEAN)})
    for k, band in enumerate("ugriz"):
        table[f"modelFlux_{band}"], table[f"modelFluxIvar_{band}"] = flux[:, k], err[:, k] ** -2.0
        table[f"extinction_{band}"] = np.full(N, 0.1)
    table["redshift"], table["redshift_err"], table["zWarning"] = z, np.full(N, 1e-4), np.zeros(N, dtype="i4")
    table["flags"][1] |= 1 << 18
    table["flags"][2] = 0
    return table


SOFTENING = {"u": 1.4e-10, "g": 0.9e-10, "r": 1.2e-10, "i": 1.8e-10, "z": 7.4e-10}


def casjobs_mag():
    """modelMag: asinh magnitudes, m = -2.5/ln10 [asinh(f / 2b) + ln b], f in units of the flux of magnitude zero."""
    table = casjobs()
    for band, b in SOFTENING.items():
        x = table[f"modelFlux_{band}"] / 1e9 / (2 * b)
        sigma = table[f"modelFluxIvar_{band}"] ** -0.5 / 1e9 / (2 * b)
        pogson = 2.5 / np.log(10)
        table[f"modelMag_{band}"] = -pogson * (np.arcsinh(x) + np.log(b))
        table[f"modelMagErr_{band}"] = pogson * sigma / np.sqrt(1 + x**2)
        table.remove_columns([f"modelFlux_{band}", f"modelFluxIvar_{band}"])
    return table


def gama():
    """LambdarCat with Z and NQ of SpecObj and EBV of GalacticExtinction: Jy, 0.1 of reddening."""
    flux, err = truth(GAMA_MEDIAN)
    ra, dec, z = _common()
    table = Table({"CATAID": np.arange(N, dtype="i4") + 6800, "RA": ra, "DEC": dec, "Z": z, "NQ": np.full(N, 4, "i2"),
                   "EBV": np.full(N, 0.1)})  # fmt: skip
    for k, band in enumerate(GAMA_BANDS):
        table[f"{band}_flux"], table[f"{band}_fluxerr"] = flux[:, k] * JY_PER_NMGY, err[:, k] * JY_PER_NMGY
    table.meta["units"] = {f"{band}_{kind}": "Jy" for band in GAMA_BANDS for kind in ("flux", "fluxerr")}
    table["NQ"][3] = 2
    table["u_flux"][4] = -999.0
    return table


def legacy_sweep():
    """grz, W1, W2 as u, g, r, i, z of the other layouts: what matters is that they come back."""
    flux, err = truth()
    ra, dec, z = _common()
    table = Table({
        "RELEASE": np.full(N, 9011, "i2"), "BRICKID": np.full(N, 565022, "i4"),
        "OBJID": np.arange(N, dtype="i4") + 1468,
        "TYPE": ["SER"] * (N - 1) + ["PSF"], "RA": ra, "DEC": dec, "EBV": np.full(N, 0.03, "f4"),
    })  # fmt: skip
    for k, band in enumerate(("G", "R", "Z", "W1", "W2")):
        table[f"FLUX_{band}"] = flux[:, k].astype("f4")
        table[f"FLUX_IVAR_{band}"] = (err[:, k] ** -2.0).astype("f4")
        table[f"MW_TRANSMISSION_{band}"] = np.full(N, 10**-0.04, "f4")
        table.meta.setdefault("units", {}).update({f"FLUX_{band}": "nanomaggy", f"FLUX_IVAR_{band}": "1/nanomaggy^2"})
    table["Z_SPEC"] = z.astype("f4")
    table["Z_SPEC"][5] = -99.0
    return table


LAYOUTS = {
    "nsa_v0": (nsa_v0, "fits"), "nsa_v1": (nsa_v1, "fits"), "sdss_casjobs": (casjobs, "csv"),
    "sdss_casjobs_mag": (casjobs_mag, "csv"), "gama": (gama, "fits"), "legacy_sweep": (legacy_sweep, "fits"),
}  # fmt: skip


def write_layout(name, folder, suffix=None):
    """The catalogue of a survey as a file; its path."""
    make, usual = LAYOUTS[name]
    path = folder / f"{name}.{suffix or usual}"
    table = make()
    units = table.meta.pop("units", {})
    table.write(path, **({"format": "votable"} if path.suffix == ".vot" else {}))
    if path.suffix == ".fits":
        state_units(path, units)
    return path


def state_units(path, units):
    """TUNIT of columns, as surveys write it, whether FITS knows the unit or not."""
    with fits.open(path, mode="update") as hdus:
        for column, unit in units.items():
            hdus[1].columns[column].unit = unit


def photometry(path, survey):
    chunks = plan_chunks(path, rows_per_partition=N)
    check_catalog(path, survey, chunks)
    return to_photometry(read_chunk(chunks[0], catalog_columns(survey)), survey)


def expected_flux(survey):
    """What the layouts hold, without the extinction of 0.1 (mag, or E(B-V)) and with the AB offset, where stated."""
    flux, err = truth(GAMA_MEDIAN if survey.name == "gama" else SDSS_MEDIAN)
    dust = np.array([0.1 * band.extinction_factor if band.extinction else 0.0 for band in survey.bands])
    scale = 10 ** (0.4 * (dust - np.array([band.ab_offset_mag for band in survey.bands])))
    floor = np.array([band.error_floor for band in survey.bands])
    return flux * scale, np.hypot(err * scale, floor * flux * scale)


def rows_with(frame, flag):
    return np.flatnonzero(frame["flags"] & FLAGS[flag]).tolist()


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_catalogue_of_each_survey_gives_its_fluxes_in_nmgy(name, tmp_path):
    survey = load_survey(name)
    frame = photometry(write_layout(name, tmp_path), survey)
    flux, err = expected_flux(survey)
    seen = np.delete(np.arange(N), 4) if name == "gama" else np.arange(N)
    got = frame.iloc[seen]
    np.testing.assert_allclose(got[[f"flux_{b}" for b in survey.band_names]], flux[seen], rtol=3e-6)
    np.testing.assert_allclose(got[[f"flux_err_{b}" for b in survey.band_names]], err[seen], rtol=3e-5)


@pytest.mark.parametrize(("name", "flag", "rows"), [
    ("sdss_casjobs", "quality_cut", [1, 2]), ("sdss_casjobs_mag", "quality_cut", [1, 2]), ("gama", "quality_cut", []),
    ("gama", "missing_band", [4]), ("legacy_sweep", "quality_cut", [N - 1]), ("legacy_sweep", "missing_redshift", [5]),
    ("nsa_v1", "quality_cut", []),
])  # fmt: skip
def test_cuts_and_marks_of_each_survey_set_their_flags_and_drop_no_row(name, flag, rows, tmp_path):
    frame = photometry(write_layout(name, tmp_path), load_survey(name))
    assert rows_with(frame, flag) == rows
    assert len(frame) == N


def test_a_cut_that_a_user_adds_flags_the_rows_that_fail_it(tmp_path):
    survey = load_survey("gama").model_copy(update={"quality": ("NQ >= 3",)})
    assert rows_with(photometry(write_layout("gama", tmp_path), survey), "quality_cut") == [3]


def test_a_row_that_fails_a_quality_cut_keeps_its_posterior(tmp_path):
    from popcat.galaxies import has_posterior

    frame = photometry(write_layout("sdss_casjobs", tmp_path), load_survey("sdss_casjobs"))
    assert has_posterior(frame["flags"]).all()


def test_the_identifier_of_a_sweep_row_is_the_targetid_of_desi(tmp_path):
    """RELEASE 9011, BRICKID 565022, BRICK_OBJID 1468 of the DESI early data release is TARGETID 39633166985594300."""
    frame = photometry(write_layout("legacy_sweep", tmp_path), load_survey("legacy_sweep"))
    assert frame["object_id"][0] == 39633166985594300


@pytest.mark.parametrize(("name", "column"), [
    ("nsa_v0", "NMGY"), ("nsa_v1", "ELPETRO_NMGY"), ("gama", "r_flux"), ("legacy_sweep", "FLUX_R"),
    ("legacy_sweep", "FLUX_IVAR_R"), ("nsa_v1", "ELPETRO_NMGY_IVAR")])  # fmt: skip
def test_a_wrong_unit_that_the_file_states_is_caught(name, column, tmp_path):
    path = write_layout(name, tmp_path)
    state_units(path, {column: "uJy-2" if "IVAR" in column else "uJy"})
    with pytest.raises(PopcatError, match=rf'"{column}.*uJy.*by its own account'):
        photometry(path, load_survey(name))


def test_magnitudes_taken_for_fluxes_are_caught(tmp_path):
    path = write_layout("sdss_casjobs_mag", tmp_path)
    survey = load_survey("sdss_casjobs_mag")
    with pytest.raises(PopcatError, match=r'look like magnitudes.*unit = "ab_mag"'):
        photometry(path, survey.model_copy(update={"unit": "nMgy"}))


@pytest.mark.parametrize("name", sorted(set(LAYOUTS) - {"sdss_casjobs_mag"}))
def test_fluxes_in_another_unit_by_decades_are_caught_where_the_file_states_none(name, tmp_path):
    path = write_layout(name, tmp_path)
    survey = load_survey(name)
    right = survey.bands[0].unit or survey.unit
    wrong = "nMgy" if right == "Jy" else "Jy"
    bands = tuple(band.model_copy(update={"unit": None}) for band in survey.bands)
    told = survey.model_copy(update={"unit": wrong, "bands": bands})
    with pytest.raises(PopcatError, match=r"median \w+ magnitude would be .* expected 5 to 35|by its own account"):
        photometry(path, told)


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "vot", "parquet"])
def test_one_table_is_the_same_photometry_in_every_format(suffix, tmp_path):
    survey = load_survey("sdss_casjobs")
    frames = [photometry(write_layout("sdss_casjobs", tmp_path, kind), survey) for kind in ("fits", suffix)]
    np.testing.assert_array_equal(frames[0].to_numpy(dtype=float), frames[1].to_numpy(dtype=float))


@pytest.mark.parametrize("suffix", ["fits", "vot", "parquet"])
def test_vector_columns_are_read_by_element_in_every_format_that_has_them(suffix, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / f"nsa_v1.{suffix}"
    if suffix == "parquet":
        table = LAYOUTS["nsa_v1"][0]()
        pq.write_table(pa.table({name: table[name].tolist() for name in table.colnames}), path)
    else:
        write_layout("nsa_v1", tmp_path, suffix)
    survey = load_survey("nsa_v1")
    np.testing.assert_allclose(photometry(path, survey)["flux_r"], truth()[0][:, 2], rtol=1e-6)
    with pytest.raises(PopcatError, match=r"ELPETRO_NMGY.*element \[9\]"):
        read_chunk(plan_chunks(path)[0], ["ELPETRO_NMGY[9]"])


@pytest.mark.parametrize("name", LAYOUTS)
def test_check_reports_what_each_band_holds(name, tmp_path):
    found = inspect_catalog(write_layout(name, tmp_path), name)
    survey = load_survey(name)
    assert found.rows == N
    assert [one.band for one in found.bands] == list(survey.band_names)
    err = {"gama": N - 1}.get(name, N)
    assert found.bands[0].observed == err and found.bands[2].negative == 0
    flux, error = expected_flux(survey)
    assert found.bands[2].median_sn == pytest.approx(np.median(flux[:, 2] / error[:, 2]), rel=0.02)
    assert found.bands[2].median_mag == pytest.approx(np.median(22.5 - 2.5 * np.log10(flux[:, 2])), abs=0.05)


@pytest.mark.parametrize(("name", "bands"), [
    ("nsa_v0", "FUV NUV u g r i z"), ("nsa_v1", "FUV NUV u g r i z"), ("sdss_casjobs", "u g r i z"),
    ("sdss_casjobs_mag", "u g r i z"), ("gama", "u g r i X z Y J H K"),
    ("legacy_sweep", "g r z W1 W2")])  # fmt: skip
def test_a_template_for_each_layout_is_a_survey_with_its_bands(name, bands, tmp_path):
    text = draft_survey(write_layout(name, tmp_path), output=tmp_path / "mine.toml", name="mine")
    assert (tmp_path / "mine.toml").read_text() == text
    survey = load_survey(tmp_path / "mine.toml")
    assert " ".join(survey.band_names) == bands
    assert survey.columns.ra.lower() == "ra"
    theirs = {band.flux: band for band in load_survey(name).bands}
    ours = {band.flux: band for band in survey.bands if band.flux in theirs}
    assert list(ours) == list(theirs)
    assert survey.unit == {"sdss_casjobs_mag": "asinh_mag", "gama": "Jy"}.get(name, "nMgy")
    assert "CHECK" in text and f'The embedded survey "{name}" has these flux columns' in text
    for flux, band in theirs.items():
        left_out = {"name", "unit", "depth_5sigma_mag"}
        assert ours[flux].model_dump(exclude=left_out) == band.model_dump(exclude=left_out), "as in popcat's own survey"


def test_a_quality_cut_that_is_no_condition_is_refused(tmp_path):
    path = write_layout("gama", tmp_path)
    survey = load_survey("gama").model_copy(update={"quality": ("NQ",)})
    with pytest.raises(PopcatError, match=r"expected conditions as quality cuts.*NQ .integer"):
        photometry(path, survey)


def test_a_survey_with_a_cut_that_is_no_expression_is_refused_when_it_is_loaded():
    settings = load_survey("gama").model_dump()
    with pytest.raises(ValueError, match=r"Attribute is not allowed"):
        Survey.model_validate(settings | {"quality": ["NQ.__class__ == 3"]})


def test_asinh_magnitudes_need_their_softening():
    settings = load_survey("sdss_casjobs_mag").model_dump()
    settings["bands"][0]["softening"] = None
    with pytest.raises(ValueError, match='bands u are in "asinh_mag" and need softening'):
        Survey.model_validate(settings)

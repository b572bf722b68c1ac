"""Identifiers, positions and redshifts of a drafted survey file."""

import numpy as np
import pytest
from drafts import KEYS, MAG, REDSHIFT, N, draft, fluxes, line_of, mags

from popcat.io.inspection import inspect_catalog


@pytest.mark.parametrize(("object_id", "ra", "dec"), [
    ("ID", "ALPHA_J2000", "DELTA_J2000"), ("OBJECT_ID", "RIGHT_ASCENSION", "DECLINATION"),
    ("objID", "raMean", "decMean"), ("COADD_OBJECT_ID", "RA", "DEC"), ("objectId", "coord_ra", "coord_dec"),
    ("sourceID", "RAJ2000", "DECJ2000"),
    ("CATAID", "RAcen", "Deccen"), ("recno", "RA_ICRS", "DE_ICRS"), ("NUMBER", "_RAJ2000", "_DEJ2000"),
    ("id_zcosmos", "ra_deg", "dec_deg")])  # fmt: skip
def test_identifiers_and_positions_are_found(object_id, ra, dec, tmp_path):
    keys = {ra: KEYS["ra"], dec: KEYS["dec"], object_id: KEYS["id"]}
    _, survey = draft(tmp_path, fluxes("flux_{}: g r", "flux_err_{}"), keys=keys)
    assert (survey.columns.object_id, survey.columns.ra, survey.columns.dec) == (object_id, ra, dec)


def test_an_identifier_is_whole_numbers_each_once(tmp_path):
    columns = fluxes("flux_{}: g r", "flux_err_{}")
    _, survey = draft(tmp_path, columns, keys={"id": np.repeat(np.arange(N // 2), 2), "source_no_id": KEYS["id"]})
    assert survey.columns.object_id == "source_no_id"
    text, _ = draft(tmp_path, columns, keys={"id": np.repeat(np.arange(N // 2), 2)})
    assert "CHECK: numbers repeat" in line_of(text, "object_id")
    text, survey = draft(tmp_path, columns, keys={"id": [f"J{n}" for n in range(N)]})
    assert line_of(text, "object_id") == 'object_id = "id"  # text, which popcat keeps as object_name'
    assert inspect_catalog(tmp_path / "catalog.fits", survey).rows == N
    _, survey = draft(tmp_path, columns, keys={"id": KEYS["id"].astype(float)})
    assert survey.columns.object_id == "id | 0"
    assert inspect_catalog(tmp_path / "catalog.fits", survey).rows == N
    text, _ = draft(tmp_path, columns, keys={})
    assert line_of(text, "object_id") == 'object_id = "object_id"  # CHECK: no column found'


def test_a_brick_of_the_legacy_surveys_needs_three_columns_to_name_a_galaxy(tmp_path):
    keys = {"RELEASE": np.full(N, 9010), "BRICKID": np.repeat([5, 6], N // 2), "OBJID": np.tile(np.arange(N // 2), 2)}
    bands = [f"FLUX_{{}}: {' '.join(('G', 'R', 'Z', 'W1', 'W2'))}", "FLUX_IVAR_{}"]
    dust = {f"MW_TRANSMISSION_{band}": np.full(N, 0.9) for band in ("G", "R", "Z", "W1", "W2")}
    text, survey = draft(tmp_path, fluxes(*bands) | dust, keys=keys)
    assert survey.columns.object_id == "RELEASE << 42 | BRICKID << 22 | OBJID"
    assert 'The embedded survey "legacy_sweep" has these flux columns.' in text and "Z_SPEC" in text
    assert inspect_catalog(tmp_path / "catalog.fits", survey).rows == N


def redshift_line(folder, columns):
    text, survey = draft(folder, columns)
    return survey.columns.redshift, line_of(text, "redshift = ")


def test_spectroscopic_redshifts_come_before_photometric_ones(tmp_path):
    columns = fluxes("flux_{}: g r", "flux_err_{}")
    name, line = redshift_line(tmp_path, columns | {"z_phot": REDSHIFT, "z_spec": REDSHIFT})
    assert name == "z_spec" and "other candidates: z_phot (40 values)" in line and "photometric, so" not in line
    name, line = redshift_line(tmp_path, columns | {"lp_zBEST": REDSHIFT, "ez_z_phot": REDSHIFT})
    assert name == "lp_zBEST" and "photometric" in line and "ez_z_phot" in line
    _, survey = draft(tmp_path, columns | {"Z_B": REDSHIFT, "Z_B_MIN": REDSHIFT, "Z_B_ERR": REDSHIFT / 9})
    assert (survey.columns.redshift, survey.columns.redshift_err) == ("Z_B", "Z_B_ERR")
    name, line = redshift_line(tmp_path, columns)
    assert name == "" and "CHECK: no column of redshifts found" in line


@pytest.mark.parametrize("columns", [
    mags("{}: u g r i z", "err_{}"), mags("{}: g r z", "{}_err"),
    mags("{}mag: u g", "e_{}mag") | dict.fromkeys("ugriz", MAG),
    mags("mag_{}: g r", "magerr_{}") | {"z": MAG}, fluxes("f_{}: g r", "e_{}") | {"z": REDSHIFT}])  # fmt: skip
def test_a_z_that_may_be_a_band_is_no_redshift(columns, tmp_path):
    name, line = redshift_line(tmp_path, columns)
    assert name == "" and "CHECK" in line and "z " in line
    name, line = redshift_line(tmp_path, columns | {"zphot": REDSHIFT})
    assert name == "zphot" and "; z " in line


@pytest.mark.parametrize("columns", [
    mags("mag_{}: g r", "magerr_{}"), fluxes("FLUX_{}: g z", "FLUXERR_{}"), fluxes("flux_{}: W1", "flux_err_{}")])
def test_a_z_whose_band_is_elsewhere_or_whose_values_are_redshifts_is_one(columns, tmp_path):
    name, line = redshift_line(tmp_path, columns | {"z": REDSHIFT})
    assert name == "z" and "CHECK: z may also name a band" in line

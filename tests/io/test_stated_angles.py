"""Positions whose unit a file states: degrees, or refused with the expression that converts them."""

import numpy as np
import pytest
from astropy.table import Table
from drafts import KEYS, N, draft, fluxes, line_of

from popcat.errors import CatalogWarning, PopcatError
from popcat.io.reading import read_catalog


def stated(raw, tmp_path, units, name="a.fits"):
    table = Table.from_pandas(raw)
    for column, unit in units.items():
        table[column].unit = unit
    table.write(tmp_path / name, overwrite=True)
    return tmp_path / name


FACTORS = {"rad": 57.2957795130823, "hourangle": 15, "h": 15, "arcmin": 1 / 60}


@pytest.mark.parametrize("name, unit", [
    (name, unit) for name in ("a.fits", "a.parquet", "a.ecsv") for unit in FACTORS
    if (name, unit) != ("a.fits", "hourangle")])  # which FITS does not have
def test_positions_in_another_unit_than_degrees_are_refused_with_what_converts_them(
    raw, survey, tmp_path, unit, name
):
    path = stated(raw.assign(ra=raw["ra"] / FACTORS[unit]), tmp_path, {"ra": unit}, name)
    with pytest.raises(PopcatError, match=rf'column "ra" is in "{unit}" .* expected degrees; .*ra = "') as caught:
        read_catalog(path, survey)
    (text,) = [part for part in str(caught.value).split('"') if part.endswith("* ra")]
    columns = survey.columns.model_copy(update={"ra": text})
    frame = read_catalog(path, survey.model_copy(update={"columns": columns})).compute()
    np.testing.assert_allclose(frame["ra"], raw["ra"], rtol=1e-12)


@pytest.mark.parametrize("unit", ["deg", ""])
def test_positions_in_degrees_are_read(raw, survey, tmp_path, unit):
    assert len(read_catalog(stated(raw, tmp_path, {"ra": unit, "dec": unit}), survey)) == 20


def test_positions_in_no_angle_are_refused_and_in_an_unknown_unit_said(raw, survey, tmp_path):
    with pytest.raises(PopcatError, match=r'column "dec" is in "m" .* name another column'):
        read_catalog(stated(raw, tmp_path, {"dec": "m"}), survey)
    with pytest.warns(CatalogWarning, match=r'the unit "furlongs" of ra is not understood, taken as degrees'):
        read_catalog(stated(raw, tmp_path, {"ra": "furlongs"}, "a.ecsv"), survey)


def test_redshifts_that_are_velocities_by_their_unit_are_refused(raw, survey, tmp_path):
    with pytest.raises(PopcatError, match=r'column "z" is in "km s-1" .* expected redshifts'):
        read_catalog(stated(raw, tmp_path, {"z": "km/s"}), survey)


def test_a_draft_converts_positions_and_asks_for_a_check(tmp_path):
    columns = fluxes("flux_{}: g r", "flux_err_{}") | {"coord_ra": np.full(N, 1.0), "coord_dec": np.full(N, 0.5)}
    text, survey = draft(tmp_path, columns, keys={"id": KEYS["id"]}, units={"coord_ra": "rad", "coord_dec": "rad"})
    assert survey.columns.ra == "57.2957795130823 * coord_ra" and "57.29" in survey.columns.dec
    assert "CHECK" in line_of(text, "ra =") and 'states "rad"' in line_of(text, "dec =")

"""All that is wrong with a catalogue is told at once, each fault in a line; what can be read in two ways is said."""

import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.io import fits
from astropy.table import Table

from popcat.errors import CatalogWarning, PopcatError
from popcat.io.checking import check_catalog
from popcat.io.inspection import fit_noise, inspect_catalog
from popcat.io.reading import read_catalog
from popcat.io.sources import plan_chunks
from popcat.io.stated_units import verdict_of
from popcat.io.tables import photometry_of

VERDICTS = {
    "nanomaggies": "same", "NMGY": "same", "mJy": "other", "MJy": "other", "MJY": "unknown", "mjy": "unknown",
    "counts": "unknown", "ADU": "unknown", "Vega mag": "zero_point", "mag(Vega)": "zero_point", "STmag": "zero_point",
    "mag(ST)": "zero_point", "mag_ST": "zero_point", "ST mag": "zero_point", "first mag": "unknown", "mag": "other",
    "1e-17 erg/cm^2/s/Ang": "per_wavelength", "erg/s/cm2/AA": "per_wavelength", "W/m^2/um": "per_wavelength",
    "10^-17 ergs/s/cm2/A": "per_wavelength", "erg cm-2 s-1 Angstrom-1": "per_wavelength", "erg/s/cm2/Hz": "other",
    "": "same", "--": "same", "3.631e-29 erg/s/cm2/Hz": "same",
}  # fmt: skip


@pytest.mark.parametrize("text", VERDICTS)
def test_a_stated_unit_is_told_from_others(text):
    assert verdict_of(text, "nMgy") == VERDICTS[text]


def stated(raw, path, **of_columns):
    """Write a table whose columns state these units."""
    hdu = fits.BinTableHDU(Table.from_pandas(raw))
    for name, unit in of_columns.items():
        hdu.columns[name].unit = unit
    hdu.writeto(path)
    return path


def with_band(survey, index, **changes):
    bands = list(survey.bands)
    bands[index] = bands[index].model_copy(update=changes)
    return survey.model_copy(update={"bands": tuple(bands)})


def test_a_unit_that_is_not_understood_is_said_with_what_it_is_taken_for(raw, survey, tmp_path):
    path = stated(raw, tmp_path / "a.fits", f_g="counts", e_g="counts")
    said = r'a\.fits: the unit "counts" of f_g, e_g is not understood, taken as nMgy; say the unit in the survey file'
    with pytest.warns(CatalogWarning, match=said):
        read_catalog(path, survey)
    assert len(inspect_catalog(path, survey).remarks) == 1


def test_a_unit_that_the_band_says_is_an_answer(raw, survey, tmp_path):
    path = stated(raw, tmp_path / "a.fits", f_g="counts", e_g="counts")
    assert inspect_catalog(path, with_band(survey, 0, unit="nMgy")).remarks == ()


@pytest.mark.parametrize(("unit", "said"), [
    ("MJy", 'is in "MJy" by its own account.*unit = "mJy"'), ("Vega mag", "popcat reads AB magnitudes.*ab_offset_mag"),
    ("STmag", "popcat reads AB magnitudes"),
    ("1e-17 erg/cm^2/s/Ang", r'per frequency: convert it in the survey file, in band g flux = "[\d.e+-]+ \* f_g"'),
])  # fmt: skip
def test_a_unit_that_popcat_does_not_read_is_refused_with_what_to_do(raw, survey, tmp_path, unit, said):
    path = stated(raw, tmp_path / "a.fits", f_g=unit)
    with pytest.raises(PopcatError, match=said):
        read_catalog(path, survey.model_copy(update={"unit": "mJy"}))


def test_the_conversion_of_a_flux_per_wavelength_is_that_of_the_pivot_wavelength(raw, survey, tmp_path):
    path = stated(raw, tmp_path / "a.fits", f_g="1e-17 erg/s/cm2/AA")
    with pytest.raises(PopcatError) as caught:
        read_catalog(path, survey)
    factor = float(str(caught.value).split('flux = "')[1].split(" *")[0])
    at = 4703.0 * units.AA  # pivot wavelength of SDSS g
    expected = (1e-17 * units.erg / units.s / units.cm**2 / units.AA).to(units.Jy, units.spectral_density(at))
    assert factor == pytest.approx(expected.value / 3.631e-6, rel=5e-3)


def test_vega_magnitudes_pass_where_the_survey_says_how_they_reach_ab(raw, survey, tmp_path):
    mags = raw.assign(f_g=20.0 + raw.index / 10, e_g=0.1)
    path = stated(mags, tmp_path / "a.fits", f_g="Vega mag")
    read_catalog(path, with_band(survey, 0, unit="ab_mag", ab_offset_mag=0.91))
    with pytest.raises(PopcatError, match="popcat reads AB magnitudes"):
        read_catalog(path, with_band(survey, 0, unit="ab_mag"))


def test_units_of_an_astropy_table_are_judged_likewise(raw, survey):
    table = Table.from_pandas(raw)
    for name in ("f_g", "e_g"):
        table[name].unit = units.Unit("counts", parse_strict="silent")
    with pytest.warns(CatalogWarning, match='the table: the unit "counts" of f_g, e_g is not understood'):
        photometry_of(table, survey)
    table["f_g"].unit = units.Unit("STmag", parse_strict="silent")
    with pytest.raises(PopcatError, match="popcat reads AB magnitudes"):
        photometry_of(table, survey)


def write_twice(raw, path):
    """A table in which f_g is there twice."""
    if path.suffix == ".csv":
        path.write_text(raw.assign(twin=1.0).to_csv(index=False).replace("twin", "f_g", 1))
    elif path.suffix == ".parquet":
        table = pa.Table.from_pandas(raw.assign(twin=1.0), preserve_index=False)
        pq.write_table(table.rename_columns([name if name != "twin" else "f_g" for name in table.schema.names]), path)
    else:
        Table.from_pandas(raw.assign(twin=1.0)).write(path)
        content = path.read_bytes()
        path.write_bytes(content.replace(b"'twin    '", b"'f_g     '").replace(b'"twin"', b'"f_g"'))
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.fits"])
@pytest.mark.parametrize("door", [read_catalog, inspect_catalog])
def test_two_columns_of_one_name_are_refused_by_name(raw, survey, tmp_path, name, door):
    path = write_twice(raw, tmp_path / name)
    with pytest.raises(PopcatError, match=r"a\.\w+ has more than one column of the name f_g"):
        door(path, survey)


@pytest.mark.parametrize("make", [lambda frame: frame, lambda frame: pa.Table.from_arrays(
    [pa.array(frame.iloc[:, i]) for i in range(frame.shape[1])], names=list(frame))])  # fmt: skip
def test_two_columns_of_one_name_in_a_table_are_refused(raw, survey, make):
    twice = pd.concat([raw, raw[["f_g"]]], axis=1)
    with pytest.raises(PopcatError, match="f_g"):
        photometry_of(make(twice), survey)


def test_two_columns_of_a_name_that_the_survey_does_not_read_may_be_there(raw, survey, tmp_path):
    (tmp_path / "a.csv").write_text(raw.assign(note=1, twin=2).to_csv(index=False).replace("twin", "note", 1))
    assert read_catalog(tmp_path / "a.csv", survey).npartitions == 1


def test_all_faults_are_told_at_once_each_in_a_line(raw, survey, tmp_path):
    faulty = with_band(with_band(survey, 0, filter="sdss2010-q", flux="f_gg"), 1, flux="iv_r")
    faulty = faulty.model_copy(update={"quality": ("z_err",)})
    stated(raw.assign(a_r="low"), tmp_path / "a.fits", e_g="uJy")
    with pytest.raises(PopcatError) as caught:
        inspect_catalog(tmp_path / "a.fits", faulty)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith('does not fit survey "demo" in 6 ways:')
    for text in ("as flux of band r and as flux_ivar of band r", 'unknown filter "sdss2010-q"', "lacks 1 column(s)",
                 "expected one number a row", "expected conditions as quality cuts", 'column "e_g" is in "uJy"'):
        assert sum(text in line for line in lines[1:]) == 1, (text, lines)


def test_many_faults_are_counted(raw, survey, write, tmp_path):
    for i in range(30):
        write(raw.drop(columns="f_g"), f"many/{i:02d}.parquet")
    with pytest.raises(PopcatError, match=r"in 30 ways:") as caught:
        check_catalog(tmp_path / "many", survey, plan_chunks(tmp_path / "many"))
    assert str(caught.value).endswith("and 18 more")


def test_an_unknown_function_is_called_so(raw, survey, write):
    with pytest.raises(PopcatError, match=r'unknown function "coalesc": did you mean "coalesce"'):
        read_catalog(write(raw), with_band(survey, 0, flux="coalesc(f_g, f_r)"))


def test_columns_that_hold_the_same_numbers_are_remarked(raw, survey, write):
    found = inspect_catalog(write(raw.assign(f_r=raw["f_g"])), survey)
    assert found.remarks == ("columns f_g and f_r hold the same numbers: is one of them named in the wrong band?",)


def test_redshifts_without_an_error_are_counted_where_the_survey_names_errors(raw, survey, write):
    found = inspect_catalog(write(raw.assign(z_err=raw["z_err"].where(raw.index > 4, np.nan))), survey)
    assert found.exact_redshifts == 5
    assert "5 rows without an error, taken as exact" in str(found)


def test_non_detections_are_said_at_the_door(raw, survey, write):
    mags = raw.assign(f_g=20.0 + raw.index / 10, e_g=0.1)
    mags.loc[3, ["f_g", "e_g"]] = 99.0, 26.5
    path, in_mag = write(mags), with_band(survey, 0, unit="ab_mag")
    with pytest.warns(CatalogWarning, match=r"1 of 20 rows .* non-detections in band g .*limit_mark = 99 in"):
        read_catalog(path, in_mag)
    with pytest.warns(CatalogWarning, match=r"1 of 20 rows .* flux 0 with 1-sigma limits from e_g"):
        read_catalog(path, in_mag.model_copy(update={"limit_mark": 99.0}))


def test_a_catalogue_without_the_warnings_of_its_redshifts_is_read_and_said(raw, survey, write):
    columns = survey.columns.model_copy(update={"redshift_warning": "zwarn"})
    warned = survey.model_copy(update={"columns": columns})
    with pytest.warns(CatalogWarning, match='has no column "zwarn", which tells bad redshifts'):
        frame = read_catalog(write(raw), warned)
    assert (frame.compute()["flags"] == 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = read_catalog(write(raw.assign(zwarn=[0] * 19 + [4]), "b.parquet"), warned)
    assert (frame.compute()["flags"] != 0).sum() == 1


def test_a_frame_of_another_survey_has_no_noise_of_this_one(raw, survey, write):
    frame = read_catalog(write(pd.concat([raw.assign(id=raw.index + 20 * i) for i in range(200)])), survey)
    other = with_band(survey, 1, filter="decamDR1-r")
    with pytest.raises(PopcatError, match=r'was read with survey "demo" .*expected survey "demo" .*decamDR1-r'):
        fit_noise(frame, other)

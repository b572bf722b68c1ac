"""A table in memory is the catalogue that it would be as a file, units and refusals included."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from astropy import units
from astropy.table import MaskedColumn, QTable, Table
from pandas.testing import assert_frame_equal

from popcat.errors import PopcatError
from popcat.io.reading import read_catalog, survey_of
from popcat.io.tables import photometry_of, write_table

FLUXES = ("f_g", "e_g", "f_r")


@pytest.fixture
def from_file(raw, survey, write):
    return read_catalog(write(raw), survey).compute().reset_index(drop=True)


def arrow(raw):
    return pa.Table.from_pandas(raw, preserve_index=False)


def polars(raw):
    return pytest.importorskip("polars").from_arrow(arrow(raw))


def lazy_polars(raw):
    return polars(raw).lazy()


def narwhals(raw):
    import narwhals as nw

    return nw.from_native(arrow(raw))


def indexed(raw):
    return raw.set_index(raw["id"] % 7)


KINDS = {"pandas": lambda raw: raw, "indexed pandas": indexed, "PyArrow": arrow, "Polars": polars,
         "lazy Polars": lazy_polars, "narwhals": narwhals, "Table": Table.from_pandas,
         "QTable": QTable.from_pandas}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table_has_the_numbers_of_the_file(raw, survey, from_file, kind):
    assert_frame_equal(photometry_of(KINDS[kind](raw), survey), from_file)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table_is_the_same_as_a_file(raw, survey, from_file, kind, tmp_path):
    write_table(KINDS[kind](raw), tmp_path / "table.parquet")
    found = read_catalog(tmp_path / "table.parquet", survey).compute().reset_index(drop=True)
    assert_frame_equal(found, from_file)


def test_units_and_masks_of_an_astropy_table_are_in_its_file(raw, survey, tmp_path):
    table = Table.from_pandas(raw)
    table["f_r"] = MaskedColumn(table["f_r"], mask=np.arange(len(table)) == 2, unit="mJy")
    write_table(table, tmp_path / "table.parquet")
    field = pa.parquet.read_schema(tmp_path / "table.parquet").field("f_r")
    assert field.metadata[b"unit"] == b"mJy"
    assert pa.parquet.read_table(tmp_path / "table.parquet")["f_r"].null_count == 1
    with pytest.raises(PopcatError, match="mJy"):
        read_catalog(tmp_path / "table.parquet", survey)


def test_what_is_no_table_is_not_written(tmp_path):
    with pytest.raises(PopcatError, match="or a table"):
        write_table([1, 2], tmp_path / "table.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("unit", [units.Jy, units.mJy, units.uJy, units.erg / units.s / units.cm**2 / units.Hz])
def test_linear_flux_densities_are_converted(raw, survey, from_file, unit):
    table = QTable.from_pandas(raw)
    scale = (3.631e-6 * units.Jy).to_value(unit)
    for name in FLUXES:
        table[name] = raw[name].to_numpy() * scale * unit
    table["iv_r"] = raw["iv_r"].to_numpy() / scale**2 / unit**2
    table["ra"] = np.radians(raw["ra"].to_numpy()) * units.rad
    assert_frame_equal(photometry_of(table, survey), from_file, rtol=1e-6)


def test_the_surveys_own_unit_changes_no_bit(raw, survey, from_file):
    table = Table.from_pandas(raw)
    for name in FLUXES:
        table[name].unit = "nanomaggy" if name == "f_g" else "nmgy"
    names = [units.def_unit(name, 1e-9 * units.mgy) for name in ("nanomaggy", "nmgy")]
    with units.add_enabled_units(names):
        assert_frame_equal(photometry_of(table, survey), from_file)


WRONG = {
    "magnitudes": ("f_g", units.mag, 'column "f_g" is in "mag", expected "nMgy".*or another linear flux density'),
    "per wavelength": ("f_r", units.erg / units.s / units.cm**2 / units.AA, 'column "f_r" is in "erg'),
    "an inverse variance that is none": ("iv_r", units.Jy, 'column "iv_r" is in "Jy"'),
    "a velocity": ("z", units.km / units.s, 'column "z" is in "km / s", expected a bare number'),
    "no angle": ("ra", units.Jy, 'column "ra" is in "Jy", expected an angle'),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_unit_that_cannot_be_the_surveys_is_refused_in_one_line(raw, survey, case):
    name, unit, message = WRONG[case]
    table = QTable.from_pandas(raw)
    table[name] = raw[name].to_numpy() * unit
    with pytest.raises(PopcatError, match=message) as caught:
        photometry_of(table, survey)
    assert "\n" not in str(caught.value)


def test_a_unit_in_the_metadata_of_arrow_is_held_to_as_that_of_a_file_is(raw, survey):
    table = arrow(raw)
    field = pa.field("f_g", pa.float64(), metadata={"unit": "uJy"})
    at = table.schema.get_field_index("f_g")
    with pytest.raises(PopcatError, match='column "f_g" is in "uJy" by its own account'):
        photometry_of(table.set_column(at, field, table["f_g"]), survey)


def test_masked_values_are_missing(raw, survey):
    table = Table.from_pandas(raw)
    table["f_g"] = MaskedColumn(table["f_g"], mask=np.arange(len(raw)) == 3)
    assert np.flatnonzero(photometry_of(table, survey)["flux_g"].isna()).tolist() == [3]
    assert np.flatnonzero(photometry_of(QTable(table), survey)["flux_g"].isna()).tolist() == [3]


def test_elements_of_vectors_and_expressions_are_columns(raw, survey, from_file):
    bands = (survey.bands[0].model_copy(update={"flux": "F[0]", "flux_err": "sqrt(V)"}),
             survey.bands[1].model_copy(update={"flux": "F[1]"}))  # fmt: skip
    table = Table.from_pandas(raw.drop(columns=["f_g", "f_r", "e_g"]))
    table["F"], table["V"] = raw[["f_g", "f_r"]].to_numpy(), raw["e_g"].to_numpy() ** 2
    found = photometry_of(table, survey.model_copy(update={"bands": bands}))
    assert_frame_equal(found, from_file, rtol=1e-6)


REFUSED = {
    "a missing column": (lambda raw: raw.drop(columns="f_g"), 'the table lacks 1 column.*f_g'),
    "a repeated identifier": (lambda raw: pd.concat([raw, raw[:1]]), "identifiers in \"id\" must be unique"),
    "identifiers that are no integers": (lambda raw: raw.assign(id=raw["id"] + 0.5), "must hold integers"),
    "text": (lambda raw: raw.assign(f_g="bright"), "expected one number a row"),
    "objects": (lambda raw: raw.assign(f_g=[{}, *range(len(raw) - 1)]), "expected one number a row"),
    "no rows": (lambda raw: raw[:0], "has no rows"),
    "another unit": (lambda raw: raw.assign(f_r=raw["f_r"] * 1e-12), "the median r magnitude would be"),
    "no table": (lambda raw: 5, "source: expected a path, a glob, .*got int"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_file_is_refused_for_a_table_is_refused_for(raw, survey, case):
    spoil, message = REFUSED[case]
    with pytest.raises(PopcatError, match=message):
        photometry_of(spoil(raw), survey)


def test_columns_that_the_survey_does_not_name_may_be_anything(raw, survey, from_file):
    assert_frame_equal(photometry_of(raw.assign(note=[{}] * len(raw)), survey), from_file)


def test_a_lazy_frame_and_what_is_made_of_it_remember_their_survey(raw, survey, write):
    frame = read_catalog(write(raw), survey, rows_per_partition=7)
    made = (frame, frame[frame["redshift"] > 0.1], frame.assign(ra=0.0), frame.repartition(npartitions=1),
            frame.persist(scheduler="synchronous"), frame.partitions[1], frame.compute())  # fmt: skip
    assert all(survey_of(one) == survey for one in made)
    assert survey_of(raw) is None

"""The schemas name each column once, with type, unit and meaning, and the empty frames have exactly those types."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from popcat.columns import (
    PARAMETERS,
    PROPERTIES,
    certificate_fields,
    column_table,
    library_meta,
    library_schema,
    parameter_fields,
    photometry_columns,
    photometry_meta,
    posterior_meta,
    posterior_schema,
    property_fields,
    quantity_fields,
    to_pandas,
)
from popcat.galaxies import FLAGS, STATUS
from popcat.galaxy_model import GalaxyModel
from popcat.survey import load_survey

SURVEY = load_survey("sdss")
SCHEMAS = {"library": library_schema(SURVEY), "posterior": posterior_schema(SURVEY)}
METAS = {"library": library_meta(SURVEY), "posterior": posterior_meta(SURVEY)}


def test_flags_are_single_bits_of_an_int32():
    bits = list(FLAGS.values())
    assert len(set(bits)) == len(bits)
    assert all(bit & (bit - 1) == 0 and 0 < bit < 2**31 for bit in bits)


def test_every_status_but_ok_is_a_flag():
    assert STATUS[0] == "ok"
    assert set(STATUS[1:]) <= set(FLAGS)


def test_properties_are_those_the_physics_derives():
    from popcat.forward.properties import PROPERTY_NAMES

    assert tuple(PROPERTIES) == PROPERTY_NAMES


@pytest.mark.parametrize("kind", SCHEMAS)
def test_columns_are_named_once(kind):
    assert len(set(SCHEMAS[kind].names)) == len(SCHEMAS[kind].names)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_column_has_a_unit_a_ucd_and_a_description(kind):
    for field in SCHEMAS[kind]:
        assert set(field.metadata) == {b"unit", b"description", b"ucd"}
        assert field.metadata[b"description"]


@pytest.mark.parametrize("kind", SCHEMAS)
@pytest.mark.parametrize("survey", ["sdss", "galex_sdss_2mass", "gama", "legacy", "lsst"])
def test_every_ucd_is_one_of_the_ivoa(kind, survey):
    from astropy.io.votable.ucd import check_ucd

    fields = {"library": library_schema, "posterior": posterior_schema}[kind](load_survey(survey))
    wrong = {field.name: field.metadata[b"ucd"] for field in fields
             if not check_ucd(field.metadata[b"ucd"].decode(), check_controlled_vocabulary=True)}
    assert wrong == {}


@pytest.mark.parametrize("field", certificate_fields(), ids=lambda field: field.name)
def test_no_column_of_the_proof_is_described_as_a_fitted_parameter(field):
    assert not field.metadata[b"ucd"].startswith(b"stat.fit.param")


def test_the_table_of_columns_has_a_row_for_each():
    table = column_table(SCHEMAS["posterior"]).splitlines()
    assert len(table) == 2 + len(SCHEMAS["posterior"])
    assert "| `log_mstar_p50` | float | log10(Msun) | phys.mass;stat.median |" in "\n".join(table)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_number_has_a_unit_that_is_not_empty(kind):
    bare = [field.name for field in SCHEMAS[kind] if pa.types.is_floating(field.type) and not field.metadata[b"unit"]]
    assert bare == []


@pytest.mark.parametrize("kind", SCHEMAS)
def test_no_type_breaks_lake_readers(kind):
    lists = {pa.list_(pa.float32())}
    allowed = {pa.bool_(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string()} | lists
    assert {field.type for field in SCHEMAS[kind]} <= allowed


@pytest.mark.parametrize("kind", SCHEMAS)
def test_the_empty_frame_has_the_types_of_a_full_one(kind):
    table = SCHEMAS[kind].empty_table()
    one = {"int": 1, "str": "ok", "lis": [1.0], "boo": True}
    rows = {f.name: [None if pa.types.is_floating(f.type) else one[str(f.type)[:3]]]
            for f in SCHEMAS[kind]}
    full = to_pandas(pa.table(rows, schema=SCHEMAS[kind]))
    pd.testing.assert_series_equal(full.dtypes, METAS[kind].dtypes)
    assert len(METAS[kind]) == len(table) == 0


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_frame_goes_back_to_the_table_it_came_from(kind):
    table = pa.Table.from_pandas(METAS[kind], schema=SCHEMAS[kind], preserve_index=False)
    assert table.replace_schema_metadata(None).schema.equals(SCHEMAS[kind], check_metadata=False)


def test_the_posterior_schema_has_quantiles_and_draws_of_every_quantity():
    names = SCHEMAS["posterior"].names
    quantities = quantity_fields(SURVEY, GalaxyModel())
    for quantity in quantities:
        assert {f"{quantity}_p16", f"{quantity}_p50", f"{quantity}_p84", f"{quantity}_draws"} <= set(names)
    assert {field.name for field in certificate_fields()} <= set(names)
    fixed = 15 + len(certificate_fields())
    assert len(names) == fixed + 2 * len(SURVEY.bands) + 4 * len(quantities)


def test_the_library_schema_has_parameters_and_three_columns_a_band():
    names = SCHEMAS["library"].names
    assert names[:14] == ["object_id", "redshift", *PARAMETERS]
    assert names[14:] == [f"{kind}_{b}" for kind in ("flux_model", "flux", "flux_err") for b in SURVEY.band_names]


def test_the_photometry_meta_has_the_declared_columns():
    meta = photometry_meta(SURVEY)
    assert {name: str(kind) for name, kind in meta.dtypes.items()} == photometry_columns(SURVEY)
    assert len(meta) == 0


def test_strings_stay_arrow_arrays_and_lists_are_objects_which_pandas_writes_and_reads():
    meta = METAS["posterior"]
    assert meta["status"].dtype == pd.ArrowDtype(pa.string())
    assert meta["log_mstar_draws"].dtype == object
    assert meta["log_mstar_p50"].dtype == np.float32


def test_a_galaxy_model_has_parameters_of_its_own():
    constant = GalaxyModel(metallicity="constant")
    assert "log_z" in library_schema(SURVEY, constant).names
    assert "log_gamma1_p50" not in posterior_schema(SURVEY, constant).names
    assert list(posterior_meta(SURVEY, constant)) == posterior_schema(SURVEY, constant).names


def test_parameters_are_those_of_the_default_model():
    assert parameter_fields(GalaxyModel()) == PARAMETERS
    assert len(PARAMETERS) == 12


def test_a_survey_without_absolute_magnitudes_has_none():
    bare = SURVEY.model_copy(update={"absolute_magnitudes": ()})
    assert property_fields(bare, GalaxyModel()) == PROPERTIES
    assert [name for name in posterior_schema(bare).names if name.startswith("abs_mag")] == []


def test_an_absolute_magnitude_names_its_filter():
    unit, text = property_fields(SURVEY, GalaxyModel())["abs_mag_r"]
    assert unit == "mag"
    assert "sdss2010-r" in text

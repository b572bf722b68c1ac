"""What Parquet files say beside their values: masks and units of astropy, units of columns, dictionaries, nulls."""


import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import MaskedColumn, QTable, Table

from popcat.errors import PopcatError
from popcat.io.content import source_files
from popcat.io.reading import read_catalog
from popcat.io.sources import plan_chunks, read_chunk, read_fields
from popcat.io.tables import photometry_of

MASKED = np.arange(20) % 5 == 2


def masked(raw):
    """The table of astropy in which some redshifts and fluxes are masked."""
    table = Table.from_pandas(raw)
    for name in ("z", "f_r"):
        table[name] = MaskedColumn(table[name], mask=MASKED)
    return table


def quantities(raw):
    table = masked(raw)
    table["f_r"].unit = "nJy"
    return QTable(table)


@pytest.mark.parametrize("make", [masked, quantities])
@pytest.mark.parametrize("rows", [3, 100])
def test_values_that_astropy_masks_are_missing(raw, survey, tmp_path, make, rows):
    make(raw).write(tmp_path / "a.parquet")
    survey = survey.model_copy(update={"bands": tuple(
        band.model_copy(update={"unit": "nJy"}) if band.name == "r" and make is quantities else band
        for band in survey.bands)})  # fmt: skip
    frame = read_catalog(tmp_path / "a.parquet", survey, rows_per_partition=rows).compute()
    assert (frame["redshift"].isna().to_numpy() == MASKED).all() and (frame["flux_r"].isna().to_numpy() == MASKED).all()
    np.testing.assert_allclose(frame["redshift"][~MASKED], raw["z"][~MASKED], rtol=1e-6)


def test_masks_hold_for_vectors_texts_integers_and_expressions(tmp_path):
    table = Table({"v": MaskedColumn(np.ones((3, 2)), mask=[[1, 0], [0, 0], [0, 1]]),
                   "s": MaskedColumn(["a", "b", "c"], mask=[0, 0, 1]),
                   "i": MaskedColumn([2**60 + 1, 2, 3], mask=[0, 1, 0])})
    table.write(tmp_path / "a.parquet")
    frame = read_chunk(plan_chunks(tmp_path / "a.parquet")[0], ["v[0]", "v[1]", "s", "i", "2 * v[1]"])
    assert frame.isna().to_numpy().T.tolist() == [[True, False, False], [False, False, True], [False, False, True],
                                                  [False, True, False], [False, False, True]]  # fmt: skip
    assert frame["i"][0] == 2**60 + 1


def test_masks_hold_without_metadata_and_in_memory(raw, survey, tmp_path):
    masked(raw).write(tmp_path / "a.parquet")
    frame = pd.read_parquet(tmp_path / "a.parquet")
    assert (photometry_of(frame, survey)["redshift"].isna().to_numpy() == MASKED).all()
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "b.parquet")
    assert (read_catalog(tmp_path / "b.parquet", survey).compute()["redshift"].isna().to_numpy() == MASKED).all()


def test_a_mask_that_is_no_mask_is_refused(raw, survey, write):
    with pytest.raises(PopcatError, match=r'"z.mask" says by its name where "z" is masked, but holds int64'):
        read_catalog(write(raw.assign(**{"z.mask": 1})), survey)


def test_metadata_that_cannot_be_read_are_refused(raw, survey, tmp_path):
    table = pa.Table.from_pandas(raw).replace_schema_metadata({"table_meta_yaml": "datatype: [{name: "})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(PopcatError, match=r"a\.parquet: the metadata that astropy writes .* are damaged"):
        read_catalog(tmp_path / "a.parquet", survey)


def test_another_mask_is_another_catalogue(raw, survey, tmp_path):
    digests = set()
    for mask in (MASKED, ~MASKED):
        table = masked(raw)
        table["z"].mask = mask
        table.write(tmp_path / "a.parquet", overwrite=True)
        digests.add(source_files(plan_chunks(tmp_path / "a.parquet"), survey).digest)
    assert len(digests) == 2


def test_units_that_astropy_states_are_those_of_the_columns(raw, survey, tmp_path):
    table = Table.from_pandas(raw)
    table["f_g"].unit = "uJy"
    table.write(tmp_path / "a.parquet")
    assert read_fields(tmp_path / "a.parquet")["f_g"].unit == "uJy"
    with pytest.raises(PopcatError, match='column "f_g" is in "uJy" by its own account'):
        read_catalog(tmp_path / "a.parquet", survey)


@pytest.mark.parametrize("key", ["unit", "units"])
def test_a_unit_of_a_column_is_read_under_either_key(raw, survey, tmp_path, key):
    table = pa.Table.from_pandas(raw)
    fields = [one.with_metadata({key: "uJy"}) if one.name == "f_g" else one for one in table.schema]
    pq.write_table(table.cast(pa.schema(fields)), tmp_path / "a.parquet")
    with pytest.raises(PopcatError, match='column "f_g" is in "uJy" by its own account'):
        read_catalog(tmp_path / "a.parquet", survey)


def test_identifiers_in_a_dictionary_are_text(raw, survey, write):
    names = [f"J{number}" for number in range(20)]
    raw["id"] = pd.Categorical(names)
    assert read_catalog(write(raw), survey).compute()["object_name"].tolist() == names
    assert photometry_of(raw, survey)["object_name"].tolist() == names
    raw["id"] = pd.Categorical(np.arange(20) + 10**17)
    assert photometry_of(raw, survey)["object_id"].tolist() == raw["id"].tolist()


def test_a_column_of_nulls_in_one_file_is_missing_values(raw, survey, write, tmp_path):
    write(raw, "sky/a.parquet")
    write(raw.assign(id=raw["id"] + 10**16, z=None, f_g=None), "sky/b.parquet")
    assert pq.read_schema(tmp_path / "sky" / "b.parquet").field("z").type == pa.null()
    frame = read_catalog(tmp_path / "sky", survey).compute()
    assert frame["redshift"].isna().tolist() == frame["flux_g"].isna().tolist() == [False] * 20 + [True] * 20


def test_a_frame_in_the_byte_order_of_fits_is_a_table(raw, survey):
    swapped = pd.DataFrame({name: raw[name].to_numpy().astype(raw[name].dtype.newbyteorder(">")) for name in raw})
    assert not swapped["f_g"].dtype.isnative
    pd.testing.assert_frame_equal(photometry_of(swapped, survey), photometry_of(raw, survey))

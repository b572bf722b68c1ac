"""Identifiers that are text: kept, unique, the same number wherever they come from."""

import numpy as np
import pandas as pd
import pytest

from popcat.catalog.queries import open_catalog
from popcat.columns import posterior_schema
from popcat.errors import PopcatError
from popcat.galaxies import OBJECT_NAME, id_of_name
from popcat.inference.infer import infer
from popcat.io.checking import check_catalog
from popcat.io.reading import read_catalog, read_partition
from popcat.io.sources import parts_of_chunks, plan_chunks
from popcat.io.tables import photometry_of
from popcat.run.client import SYNCHRONOUS

NAMES = [f"{number:04d}" for number in range(10)] + [f"J{number:04d}" for number in range(10)]


@pytest.fixture
def named(raw):
    """Twenty galaxies with names, the first of which are of digits alone."""
    raw["id"] = NAMES
    return raw.sort_values("id", ascending=False, ignore_index=True)


def read(path, survey, rows):
    chunks = plan_chunks(path, rows_per_partition=rows)
    check_catalog(path, survey, chunks)
    return pd.concat([read_partition(part, survey) for part in parts_of_chunks(chunks, rows)], ignore_index=True)


@pytest.mark.parametrize("rows", [6, 100])
@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.fits"])
def test_names_are_kept_and_their_numbers_depend_on_nothing_else(named, survey, write, name, rows):
    frame = read(write(named, name), survey, rows)
    assert frame[OBJECT_NAME].tolist() == named["id"].tolist()
    assert frame["object_id"].tolist() == [id_of_name(one) for one in named["id"]]
    assert (frame["object_id"] >= 0).all()


def test_a_table_in_memory_and_a_lazy_frame_have_the_names_of_the_file(named, survey, write):
    expected = read(write(named), survey, 100)
    pd.testing.assert_frame_equal(photometry_of(named, survey), expected)
    lazy = read_catalog(write(named), survey, rows_per_partition=7)
    assert list(lazy.dtypes) == list(expected.dtypes)
    pd.testing.assert_frame_equal(lazy.compute().reset_index(drop=True), expected)


def test_integers_have_no_names(raw, survey, write):
    assert OBJECT_NAME not in read(write(raw), survey, 100)


def with_id(frame, name):
    return frame.assign(id=frame["id"].mask(frame.index == 3, name))


REFUSED = {
    "a name twice": (lambda frame: with_id(frame, "J0009"), "(first: J0009)"),
    "a blank around it": (lambda frame: with_id(frame, " J0009 "), "must be unique"),
    "none": (lambda frame: with_id(frame, None), "has no identifier"),
    "an empty one": (lambda frame: with_id(frame, "  "), "empty identifier"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_names_that_identify_no_galaxy_are_refused(named, survey, write, case):
    spoil, words = REFUSED[case]
    with pytest.raises(PopcatError) as caught:
        read(write(spoil(named)), survey, 100)
    assert words in str(caught.value)


def test_two_names_of_one_number_are_refused(named, survey, write, monkeypatch):
    twins = ("J0001", "J0002")
    monkeypatch.setattr("popcat.io.photometry.id_of_name", lambda name: 5 if name in twins else id_of_name(name))
    with pytest.raises(PopcatError, match='"J0001" and "J0002" in "id" have the same hash'):
        read(write(named), survey, 100)


def test_files_with_integers_and_with_names_are_no_catalogue(named, raw, survey, write, tmp_path):
    write(named, "sky/a.parquet")
    write(raw.assign(id=np.arange(20)), "sky/b.parquet")
    with pytest.raises(PopcatError, match='column "id" holds integers in some files and text in others'):
        read(tmp_path / "sky", survey, 100)


def test_a_galaxy_of_a_catalogue_is_found_by_its_name(galaxies, tiny_model, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(galaxies).slice(0, 12)
    names = [f"J{number:02d}" for number in range(12)]
    at = table.schema.get_field_index("object_id")
    pq.write_table(table.set_column(at, "object_id", pa.array(names)), tmp_path / "named.parquet")
    catalog = infer(tmp_path / "named.parquet", tiny_model, output=tmp_path / "out", draws=4, client=SYNCHRONOUS)
    expected = posterior_schema(catalog.survey, catalog.galaxy_model, named=True)
    assert catalog.has_names and catalog.columns == expected.names
    assert catalog.to_pandas([OBJECT_NAME])[OBJECT_NAME].tolist() == names
    draws = catalog.draws(["J07", "J02"], ["log_mstar"])
    assert draws[OBJECT_NAME].tolist() == ["J07"] * 4 + ["J02"] * 4
    pd.testing.assert_frame_equal(draws, catalog.draws([id_of_name("J07"), id_of_name("J02")], ["log_mstar"]))
    assert catalog.galaxies("J03", [OBJECT_NAME])[0][OBJECT_NAME] == "J03"
    assert len(catalog.to_pandas(where="object_name == 'J05'")) == 1
    with pytest.raises(PopcatError, match="no galaxy with object_id J99"):
        catalog.draws("J99")
    lazy = infer(read_catalog(tmp_path / "named.parquet", "sdss"), tiny_model, draws=4).compute()
    assert lazy[OBJECT_NAME].tolist() == names and list(lazy) == catalog.columns


def test_a_catalogue_of_integers_is_asked_by_integers(posterior_catalogue):
    catalog = open_catalog(posterior_catalogue)
    first = int(catalog.to_pandas(["object_id"])["object_id"][0])
    assert catalog.object_ids(str(first)).tolist() == catalog.object_ids([first]).tolist() == [first]
    with pytest.raises(PopcatError, match="identifies galaxies by integers"):
        catalog.draws("J0001")


@pytest.fixture
def posterior_catalogue(galaxies, tiny_model, tmp_path):
    infer(galaxies, tiny_model, output=tmp_path / "out", draws=4, client=SYNCHRONOUS)
    return tmp_path / "out"

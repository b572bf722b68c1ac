"""Catalogues of others in a store: the same chunks and rows as on the disk, by ranges of bytes."""

import bz2
import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from popcat import draft_survey, infer, plan, read_catalog
from popcat.errors import PopcatError
from popcat.inference.survey_check import check_survey
from popcat.io.inspection import fit_noise
from popcat.io.named import files_of
from popcat.io.sources import plan_chunks, read_chunk, read_fields
from popcat.paths import path_of

HOW = {"draws": 12, "rows_per_partition": 15, "client": "synchronous"}
FORMATS = ["parquet", "fits", "fits.gz", "csv", "csv.bz2", "ecsv", "vot", "txt"]


@pytest.fixture(scope="module")
def written(forty, tmp_path_factory):
    """The forty galaxies, in a format."""
    folder, frame = tmp_path_factory.mktemp("written"), pq.read_table(forty).to_pandas()
    table = Table.from_pandas(frame)

    def write(suffix):
        path = folder / f"galaxies.{suffix}"
        kind, _, packed = suffix.partition(".")
        plain = path.with_name(f"galaxies.{kind}")
        if kind == "parquet":
            pq.write_table(pq.read_table(forty), plain, row_group_size=10)
        elif kind in ("csv", "txt"):
            frame.to_csv(plain, index=False)
        else:
            table.write(plain, overwrite=True, **({"format": "votable"} if kind == "vot" else {}))
        if packed:
            path.write_bytes({"gz": gzip, "bz2": bz2}[packed].compress(plain.read_bytes()))
        return path

    return write


def rows_of(source):
    chunks = plan_chunks(source, rows_per_partition=15)
    names = ["objid", "redshift"] if "objid" in read_fields(chunks[0]) else list(read_fields(chunks[0]))[:3]
    return [(chunk.start, chunk.stop) for chunk in chunks], [read_chunk(chunk, names) for chunk in chunks]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_of_any_format_is_read_as_on_the_disk(written, uploaded, suffix):
    path = written(suffix)
    url = uploaded(path, f"there/{path.name}")
    spans, frames = rows_of(url)
    expected_spans, expected = rows_of(path)
    assert spans == expected_spans and sum(map(len, frames)) == 40
    for found, wanted in zip(frames, expected, strict=True):
        assert found.equals(wanted)


def test_globs_folders_lists_and_tables_name_what_they_do_on_the_disk(written, uploaded, bucket):
    for folder in ("night/a", "night/b"):
        uploaded(written("parquet"), f"{folder}/g.parquet")
    uploaded(written("fits"), "night/b/g.fits")
    both = [f"{bucket}/night/{one}/g.parquet" for one in "ab"]
    assert [str(one.path) for one in files_of(f"{bucket}/night/*/*.parquet")] == both
    assert [str(one.path) for one in files_of(f"{bucket}/night")] == both
    assert [str(one.path) for one in files_of(both[::-1])] == both[::-1]
    assert files_of(f"{bucket}/night/b/g.fits[1]")[0].table == "1"
    with pytest.raises(PopcatError, match=r"no catalogue s3://.*/none"):
        files_of(f"{bucket}/none")
    with pytest.raises(PopcatError, match="no catalogue matches"):
        files_of(f"{bucket}/none*.parquet")


def test_a_hats_catalogue_is_read(written, uploaded, bucket):
    for pixel in (3, 11):
        uploaded(written("parquet"), f"hats/dataset/Norder=1/Dir=0/Npix={pixel}.parquet")
    path_of(f"{bucket}/hats/hats.properties").put(b"hats_order=1\n")
    found = [str(one.path) for one in files_of(f"{bucket}/hats")]
    assert found == [f"{bucket}/hats/dataset/Norder=1/Dir=0/Npix={pixel}.parquet" for pixel in (3, 11)]


def test_from_a_store_into_a_store_is_the_same_catalogue(forty, uploaded, bucket, tmp_path):
    url = uploaded(forty, "in/galaxies.parquet")
    there, here = infer(url, output=f"{bucket}/out", **HOW), infer(forty, output=tmp_path / "out", **HOW)
    assert [part.sha256 for part in there.manifest.parts] == [part.sha256 for part in here.manifest.parts]
    assert there.manifest.source == url
    assert infer(url, draws=12).equals(infer(forty, draws=12))


def test_an_object_that_changes_between_two_runs_is_said(written, uploaded, bucket, tmp_path):
    url = uploaded(written("parquet"), "in/galaxies.parquet")
    infer(url, output=f"{bucket}/out", **HOW)
    pq.write_table(pq.read_table(written("parquet")).take(np.arange(40)[::-1]), tmp_path / "galaxies.parquet")
    uploaded(tmp_path / "galaxies.parquet", "in/galaxies.parquet")
    with pytest.raises(PopcatError, match=rf"{url} changed after .* was begun"):
        infer(url, output=f"{bucket}/out", **HOW)


def test_whatever_reads_a_catalogue_reads_one_in_a_store(forty, uploaded, tmp_path):
    url = uploaded(forty, "in/galaxies.parquet")
    assert draft_survey(url, name="mine") == draft_survey(forty, name="mine")
    assert check_survey(url, "sdss").rows == 40
    assert plan(url, draws=4, client="synchronous").galaxies == 40
    assert read_catalog(url, "sdss").compute().equals(read_catalog(forty, "sdss").compute())
    with pytest.raises(PopcatError, match=r"galaxies"):
        fit_noise(url, "sdss")


@pytest.fixture
def large(tmp_path, bucket):
    """A table of 60,000 rows and a dozen columns, of which few bytes are asked for: 6 MB."""
    random = np.random.default_rng(1)
    columns = {f"c{i}": random.normal(size=60_000) for i in range(12)}
    table = Table({"objid": np.arange(60_000), **columns})
    table.write(tmp_path / "t.fits")
    columns["objid"] = np.arange(60_000)
    pq.write_table(pa.table(columns), tmp_path / "t.parquet", row_group_size=10_000)
    return tmp_path


@pytest.mark.parametrize("suffix, most", [("parquet", 1_500_000), ("fits", 2_500_000)])
def test_a_few_rows_of_a_large_file_cost_few_bytes(large, uploaded, proxy, suffix, most):
    url = uploaded(large / f"t.{suffix}", f"t.{suffix}")
    proxy.seen.clear()
    chunk = plan_chunks(url, rows_per_partition=1000)[31]
    frame = read_chunk(chunk, ["objid", "c3"])
    assert frame["objid"].tolist() == list(range(31_000, 32_000))
    got = [one for one in proxy.seen if one.method == "GET"]
    assert all(one.range for one in got), "a whole object was asked for"
    assert sum(one.size for one in got) < most < (large / f"t.{suffix}").stat().st_size / 2

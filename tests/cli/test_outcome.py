"""What `popcat infer` says at the end of a run, and with which exit status."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from typer.testing import CliRunner

from popcat.catalog.manifest import CatalogManifest, read_manifest
from popcat.cli import app

SYNCHRONOUS = ["--client", "synchronous"]


def spoilt(galaxies, path, rows, redshift):
    table = pq.read_table(galaxies).slice(0, 40)
    values = np.where(np.arange(40) < rows, redshift, table["redshift"].to_numpy())
    at = table.schema.get_field_index("redshift")
    pq.write_table(table.set_column(at, "redshift", pa.array(values)), path)
    return path


def test_a_run_ends_with_what_became_of_the_rows(popcat, galaxies, tiny_model, tmp_path):
    arguments = ["--posterior", tiny_model, "--draws", 5, *SYNCHRONOUS, "--json", "-o"]
    for rows, warned in ((1, False), (4, True)):
        catalog, out = spoilt(galaxies, tmp_path / f"{rows}.parquet", rows, 3.0), tmp_path / f"out{rows}"
        status, said, err = popcat("infer", catalog, *arguments, out)
        assert status == 0
        assert f"{40 - rows} of 40 galaxies have a posterior; redshift_out_of_range {rows}" in err
        assert "flags: " in err and (f"Warning: {rows / 40:.0%} of the galaxies have no posterior" in err) == warned
        found = json.loads(said)
        assert found["status"] == {"ok": 40 - rows, "redshift_out_of_range": rows}
        assert found["flags"]["redshift_out_of_range"] == rows and found["warnings"] == []


def test_a_catalogue_that_can_have_no_posterior_is_refused_and_leaves_no_folder(popcat, galaxies, tiny_model, tmp_path):
    catalog = spoilt(galaxies, tmp_path / "kms.parquet", 40, 30000.0)
    result = popcat("infer", catalog, "--posterior", tiny_model, "-o", tmp_path / "out", *SYNCHRONOUS)
    assert result[0] == 2 and result[2].count("\n") == 1
    for words in ("none of the 40 galaxies", 'column "redshift" has 30000 to 30000, expected 0.001 to 0.6'):
        assert words in result[2]
    assert not (tmp_path / "out").exists()


def test_a_run_that_makes_no_posterior_ends_with_status_3(popcat, galaxies, tiny_model, tmp_path):
    """Of a few rows: they may be what they are."""
    pq.write_table(pq.read_table(spoilt(galaxies, tmp_path / "a.parquet", 40, 3.0)).slice(0, 5), tmp_path / "a.parquet")
    arguments = ["--posterior", tiny_model, "--draws", 5, *SYNCHRONOUS, "--json", "-o", tmp_path / "out"]
    status, said, err = popcat("infer", tmp_path / "a.parquet", *arguments)
    assert status == 3 and json.loads(said)["status"] == {"redshift_out_of_range": 5}
    assert "0 of 5 galaxies have a posterior" in err
    assert "3 done, but no galaxy has a posterior" in CliRunner().invoke(app, ["infer", "--help"]).output


def test_several_files_are_one_catalogue_and_what_is_left_out_is_in_the_manifest(
    popcat, galaxies, tiny_model, tmp_path
):
    table = pq.read_table(galaxies)
    (tmp_path / "sky").mkdir()
    for number in range(2):
        pq.write_table(table.slice(20 * number, 20), tmp_path / "sky" / f"{number}.parquet")
    arguments = ["--posterior", tiny_model, "--draws", 5, *SYNCHRONOUS, "-o"]
    assert popcat("infer", *sorted((tmp_path / "sky").iterdir()), *arguments, tmp_path / "listed")[0] == 0
    (tmp_path / "sky" / "more.csv").write_text("object_id\n1\n")
    status, _, err = popcat("infer", tmp_path / "sky", *arguments, tmp_path / "folder")
    assert status == 0 and "Warning: " in err and "more.csv left out" in err
    manifest = read_manifest(tmp_path / "folder", CatalogManifest)
    assert len(manifest.warnings) == 1 and "more.csv left out" in manifest.warnings[0]
    listed = read_manifest(tmp_path / "listed", CatalogManifest)
    assert listed.rows == manifest.rows == 40 and listed.n_parts == manifest.n_parts == 1

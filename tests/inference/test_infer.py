"""Stages mapped by Dask: the same numbers whatever the partitions, resumable, failures named."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from distributed import Client, LocalCluster

from popcat.catalog.manifest import read_manifest
from popcat.columns import library_meta, photometry_meta, posterior_meta
from popcat.errors import PopcatError
from popcat.forward.noise import default_noise
from popcat.galaxy_model import GalaxyModel
from popcat.inference.infer import infer
from popcat.inference.partition import write_posterior_part
from popcat.io.inspection import fit_noise
from popcat.io.reading import read_catalog
from popcat.posterior.library import simulate
from popcat.posterior.simulated import simulate_partition
from popcat.run.client import SYNCHRONOUS, connect
from popcat.survey import load_survey

SURVEY = load_survey("sdss")
LOCAL = {"client": SYNCHRONOUS}


def parts_of(folder):
    return sorted(folder.glob("part-*.parquet"))


def rows_of(folder):
    return pd.concat([pq.read_table(part).to_pandas() for part in parts_of(folder)], ignore_index=True)


def digests(folder):
    return [part.sha256 for part in read_manifest(folder).parts]


def test_a_lazy_catalogue_has_exactly_its_meta(galaxies):
    frame = read_catalog(galaxies, SURVEY, rows_per_partition=40)
    pd.testing.assert_frame_equal(frame.compute().iloc[:0], photometry_meta(SURVEY), check_index_type=False)


def test_a_lazy_library_has_exactly_its_meta_and_the_rows_of_one_partition():
    lazy = simulate(SURVEY, 70, seed=3, rows_per_partition=30).compute().reset_index(drop=True)
    whole = simulate_partition(0, 70, SURVEY, GalaxyModel(), default_noise(SURVEY), 3)
    pd.testing.assert_frame_equal(lazy, whole)
    pd.testing.assert_frame_equal(lazy.iloc[:0], library_meta(SURVEY), check_index_type=False)


def test_lazy_posteriors_have_exactly_their_meta_and_one_row_a_galaxy(galaxies, tiny_model):
    catalog = read_catalog(galaxies, SURVEY, rows_per_partition=50)
    lazy = infer(catalog, tiny_model, draws=5).compute()
    assert lazy.dtypes.equals(posterior_meta(SURVEY).dtypes)
    assert lazy["object_id"].tolist() == catalog["object_id"].compute().tolist()


def test_a_frame_of_other_bands_is_refused(galaxies, tiny_model):
    catalog = read_catalog(galaxies, SURVEY).drop(columns="flux_u")
    with pytest.raises(PopcatError, match="lacks flux_u"):
        infer(catalog, tiny_model)


def test_the_noise_fit_does_not_depend_on_the_partitions(galaxies):
    whole, split = (
        fit_noise(read_catalog(galaxies, SURVEY, rows_per_partition=n), SURVEY)
        for n in (150, 40)
    )
    assert whole == split


def test_options_of_a_run_are_refused_where_nothing_is_written():
    with pytest.raises(PopcatError, match="workers, log: these are of a run that writes files"):
        simulate(SURVEY, 100, workers=2, log="log.jsonl")


def test_a_written_library_does_not_depend_on_the_partitions(tmp_path):
    for name, rows in (("a", 100), ("b", 30)):
        made = simulate(SURVEY, 100, output=tmp_path / name, seed=1, rows_per_partition=rows, client="synchronous")
        assert len(made) == 100 and made.survey.name == "sdss"
    pd.testing.assert_frame_equal(rows_of(tmp_path / "a"), rows_of(tmp_path / "b"))


def test_posteriors_do_not_depend_on_the_partitions(galaxies, tiny_model, tmp_path):
    for name, rows in (("a", 150), ("b", 40)):
        infer(galaxies, tiny_model, output=tmp_path / name, draws=4, rows_per_partition=rows, **LOCAL)
    a, b = rows_of(tmp_path / "a"), rows_of(tmp_path / "b")
    assert a["object_id"].tolist() == b["object_id"].tolist()
    draws = [np.stack(frame["log_mstar_draws"]) for frame in (a, b)]
    # torch's float32 products depend on the batch in the last bits
    np.testing.assert_allclose(draws[0], draws[1], atol=1e-3)


def test_a_rerun_writes_only_what_is_missing_and_ends_with_the_same_bytes(galaxies, tiny_model, tmp_path):
    out = tmp_path / "out"
    run = {"posterior": tiny_model, "draws": 4, "rows_per_partition": 40, **LOCAL}
    infer(galaxies, output=out, **run)
    before, kept = digests(out), parts_of(out)[0].stat().st_mtime_ns
    parts_of(out)[2].unlink()
    parts_of(out)[1].write_bytes(b"torn")
    infer(galaxies, output=out, **run)
    assert digests(out) == before
    assert parts_of(out)[0].stat().st_mtime_ns == kept


@pytest.mark.parametrize("change", [{"draws": 5}, {"seed": 9}, {"rows_per_partition": 30}])
def test_the_output_of_another_run_is_refused_and_left_alone(galaxies, tiny_model, tmp_path, change):
    run = {"posterior": tiny_model, "draws": 4, "rows_per_partition": 40, **LOCAL}
    infer(galaxies, output=tmp_path / "out", **run)
    before = digests(tmp_path / "out")
    with pytest.raises(PopcatError, match=next(iter(change))):
        infer(galaxies, output=tmp_path / "out", **{**run, **change})
    assert digests(tmp_path / "out") == before


def test_another_catalogue_into_the_same_folder_is_refused(galaxies, tiny_model, tmp_path):
    infer(galaxies, tiny_model, output=tmp_path / "out", draws=4, **LOCAL)
    table = pq.read_table(galaxies)
    other = tmp_path / "other.parquet"
    pq.write_table(table.set_column(0, "object_id", [table["object_id"].to_numpy() + 1]), other)
    with pytest.raises(PopcatError, match="catalog"):
        infer(other, tiny_model, output=tmp_path / "out", draws=4, **LOCAL)


def test_a_failing_partition_is_named_and_the_others_are_written(galaxies, tiny_model, tmp_path, monkeypatch):
    real = write_posterior_part

    def poisoned(folder, index, *rest):
        if index == 1:
            raise ValueError("poison")
        return real(folder, index, *rest)

    run = {"posterior": tiny_model, "draws": 4, "rows_per_partition": 40, **LOCAL}
    monkeypatch.setattr("popcat.inference.infer.write_posterior_part", poisoned)
    with pytest.raises(PopcatError, match=r"1 of 4 partitions failed \(1\).*poison"):
        infer(galaxies, output=tmp_path / "out", **run)
    assert len(parts_of(tmp_path / "out")) == 3
    monkeypatch.undo()
    assert len(infer(galaxies, output=tmp_path / "out", **run)) == 150


def test_a_model_that_changes_during_a_run_is_refused(galaxies, tiny_model, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    out = tmp_path / "out"
    infer(galaxies, model, output=out, draws=4, **LOCAL)
    description = json.loads((model / "posterior.json").read_text())
    description["provenance"]["note"] = "another"
    (model / "posterior.json").write_text(json.dumps(description))
    with pytest.raises(PopcatError, match="posterior"):
        infer(galaxies, model, output=out, draws=4, **LOCAL)


def test_no_scheduler_at_the_address_is_one_clear_error():
    with pytest.raises(PopcatError, match="no Dask scheduler answers"), connect("not an address"):
        pass


def test_workers_of_a_cluster_write_the_same_parts_as_one_process(galaxies, tiny_model, tmp_path):
    run = {"posterior": tiny_model, "draws": 4, "rows_per_partition": 40}
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        infer(galaxies, output=tmp_path / "many", client=client.scheduler.address, **run)
    infer(galaxies, output=tmp_path / "one", **run, **LOCAL)
    assert digests(tmp_path / "many") == digests(tmp_path / "one")

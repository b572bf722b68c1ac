"""One answer: rows, flags and certificates are the same whichever way a catalogue comes in and goes out."""

from importlib.resources import files

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.table import QTable, Table
from distributed import Client, LocalCluster
from pandas.testing import assert_frame_equal

from popcat.catalog.queries import Catalog
from popcat.errors import PopcatError
from popcat.galaxies import CLEAN, FLAGS
from popcat.inference.infer import infer
from popcat.io.reading import read_catalog
from popcat.run.client import SYNCHRONOUS
from popcat.survey import load_survey

SURVEY = load_survey("sdss")
N, ROWS, FEW = 700, 250, 60
RUN = {"draws": 4, "rows_per_partition": ROWS, "client": SYNCHRONOUS}
CERTIFIED = {"draws": 20, "rows_per_partition": 20, "client": SYNCHRONOUS, "certify": True, "budget_ms": 60.0}


def real(n):
    return pq.read_table(files("popcat") / "data" / "galaxies_sdss.parquet").slice(0, n)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Enough galaxies to compare each with the others."""
    path = tmp_path_factory.mktemp("one") / "galaxies.parquet"
    pq.write_table(real(N), path)
    return path


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    path = tmp_path_factory.mktemp("few") / "galaxies.parquet"
    pq.write_table(real(FEW), path)
    return path


def test_pandas_writes_and_reads_the_posteriors_of_a_lazy_frame_and_of_a_table(path, tiny_model, tmp_path):
    lazy = infer(read_catalog(path, SURVEY, rows_per_partition=ROWS), tiny_model, draws=4).compute()
    for frame in (lazy.reset_index(drop=True), infer(pq.read_table(path).to_pandas(), tiny_model, draws=4)):
        frame.to_parquet(tmp_path / "posteriors.parquet")
        found = pd.read_parquet(tmp_path / "posteriors.parquet")
        assert list(found) == list(frame) and found["status"].tolist() == frame["status"].tolist()
        assert np.array_equal(np.stack(found["log_mstar_draws"]), np.stack(frame["log_mstar_draws"]))


def everything(catalog):
    return catalog.to_pandas(catalog.columns)


def same(found, expected):
    assert_frame_equal(found.reset_index(drop=True), expected, check_exact=True)


@pytest.fixture(scope="module")
def written(path, tiny_model, tmp_path_factory):
    catalog = infer(path, tiny_model, output=tmp_path_factory.mktemp("written") / "out", **RUN)
    assert isinstance(catalog, Catalog)
    return everything(catalog)


@pytest.fixture(scope="module")
def certified(few, tiny_model, tmp_path_factory):
    return everything(infer(few, tiny_model, output=tmp_path_factory.mktemp("certified") / "out", **CERTIFIED))


def lazy(path, rows):
    return read_catalog(path, SURVEY, rows_per_partition=rows)


def test_flags_are_given_whether_or_not_anything_is_certified(written):
    assert written["tail_peers"].notna().mean() > 0.95
    assert ((written["flags"] & FLAGS["band_off"]) != 0)[written["tail_peers"] < 0.01].all()
    assert not written["certified"].any()


def test_the_column_clean_is_the_condition_clean(path, tiny_model, tmp_path):
    catalog = infer(path, tiny_model, output=tmp_path / "out", hide_redshift=True, **RUN)
    rows = everything(catalog)
    assert rows["clean"].any() and not rows["clean"].all()
    for where in (CLEAN, "clean"):
        found = catalog.to_pandas(["object_id"], where=where)
        assert found["object_id"].tolist() == rows.loc[rows["clean"], "object_id"].tolist()


def test_a_path_without_output_gives_the_rows_of_the_files(path, tiny_model, written):
    same(infer(path, tiny_model, **RUN), written)


def test_a_lazy_frame_gives_them_lazily(path, tiny_model, written):
    found = infer(lazy(path, ROWS), tiny_model, draws=4)
    assert isinstance(found, dd.DataFrame)
    same(found.compute(scheduler="synchronous"), written)


def test_a_lazy_frame_is_written_as_a_path_is(path, tiny_model, written, tmp_path):
    options = {"draws": 4, "client": SYNCHRONOUS}
    catalog = infer(lazy(path, ROWS), tiny_model, output=tmp_path / "out", **options)
    same(everything(catalog), written)
    (tmp_path / "out" / "part-000001.parquet").unlink()
    same(everything(infer(lazy(path, ROWS), tiny_model, output=tmp_path / "out", **options)), written)
    other = lazy(path, ROWS).assign(redshift=0.1)
    with pytest.raises(PopcatError, match="differs in catalog"):
        infer(other, tiny_model, output=tmp_path / "out", **options)


TABLES = {"pandas": pd.read_parquet, "PyArrow": pq.read_table,
          "Table": lambda path: Table.from_pandas(pd.read_parquet(path)),
          "a computed frame": lambda path: lazy(path, 100).compute(),
          "Polars": lambda path: pytest.importorskip("polars").read_parquet(path)}  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_in_memory_gives_the_rows_of_the_files(path, tiny_model, written, kind):
    same(infer(TABLES[kind](path), tiny_model, **RUN), written)


def test_fluxes_in_jansky_give_the_posteriors_of_those_in_nanomaggies(few, tiny_model):
    expected, table = infer(few, tiny_model, draws=20, client=SYNCHRONOUS), QTable.from_pandas(pd.read_parquet(few))
    for band in SURVEY.bands:
        for name in (band.flux, band.flux_err):
            table[name] = np.asarray(table[name], dtype=float) * 3.631e-6 * units.Jy
    found = infer(table, tiny_model, draws=20, client=SYNCHRONOUS)
    assert found["flags"].tolist() == expected["flags"].tolist()
    for name in ("flux_r", "flux_err_r", "log_mstar_p50", "chi2_best"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-3)


def test_a_table_is_written_and_finished_like_a_path(path, tiny_model, written, tmp_path):
    table = pd.read_parquet(path)
    same(everything(infer(table, tiny_model, output=tmp_path / "out", **RUN)), written)
    (tmp_path / "out" / "part-000002.parquet").unlink()
    same(everything(infer(table, tiny_model, output=tmp_path / "out", **RUN)), written)
    with pytest.raises(PopcatError, match="differs in catalog"):
        infer(table.assign(redshift=0.1), tiny_model, output=tmp_path / "out", **RUN)


def test_a_glob_and_a_list_of_files_are_one_catalogue(path, tiny_model, written, tmp_path):
    table = pq.read_table(path)
    for number, start in enumerate(range(0, N, ROWS)):
        pq.write_table(table.slice(start, ROWS), tmp_path / f"night{number}.parquet")
    names = sorted(tmp_path.glob("night*.parquet"))
    same(infer(str(tmp_path / "night*.parquet"), tiny_model, **RUN), written)
    same(infer(names, tiny_model, **RUN), written)
    with pytest.raises(PopcatError, match="no catalogue matches"):
        infer(str(tmp_path / "day*.parquet"), tiny_model)
    with pytest.raises(PopcatError, match=r"night0.parquet is named 2 times"):
        infer([*names, names[0]], tiny_model, **RUN)


def test_certificates_are_the_same_too(few, tiny_model, certified):
    assert set(certified["route"]) <= {"flow+is", "smc", "failed"} and certified["ess"].notna().all()
    same(infer(few, tiny_model, **CERTIFIED), certified)
    same(infer(pd.read_parquet(few), tiny_model, **CERTIFIED), certified)
    found = infer(lazy(few, 20), tiny_model, draws=20, certify=True, budget_ms=60.0)
    same(found.compute(scheduler="synchronous"), certified)


@pytest.mark.slow
def test_a_thousand_certified_galaxies_are_the_same_through_every_door_and_on_every_cluster(tmp_path):
    """The embedded posterior, and the two-worker cluster by its address, as an object and as the active client."""
    path, run = tmp_path / "galaxies.parquet", {"certify": True, "budget_ms": 100.0}
    pq.write_table(real(1000), path)
    expected = everything(infer(path, "sdss", output=tmp_path / "here", client=SYNCHRONOUS, **run))
    assert len(expected) == 1000 and expected["certified"].mean() > 0.9
    frame = read_catalog(path, SURVEY, rows_per_partition=500)  # as a catalogue of 1,000 is cut by itself
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        same(everything(infer(path, "sdss", output=tmp_path / "client", client=client, **run)), expected)
        same(everything(infer(path, "sdss", output=tmp_path / "object", client=cluster, **run)), expected)
        address = cluster.scheduler_address
        same(everything(infer(frame, "sdss", output=tmp_path / "address", client=address, **run)), expected)
        with client.as_current():
            same(infer(pd.read_parquet(path), "sdss", **run), expected)
            same(infer(frame, "sdss", **run).compute(), expected)


@pytest.mark.parametrize("rows", [90, 700])
def test_flags_do_not_depend_on_the_partitions(path, tiny_model, written, rows):
    columns = ["object_id", "status", "worst_band"]
    for found in (infer(path, tiny_model, **{**RUN, "rows_per_partition": rows}),
                  infer(lazy(path, rows), tiny_model, draws=4).compute(scheduler="synchronous")):  # fmt: skip
        np.testing.assert_allclose(found["tail_peers"], written["tail_peers"], rtol=1e-5)
        np.testing.assert_array_equal(found["flags"], written["flags"])
        assert_frame_equal(found[columns].reset_index(drop=True), written[columns])


def test_the_own_galaxies_of_a_large_catalogue_are_the_same_however_it_is_read(tiny_model, monkeypatch, path, tmp_path):
    monkeypatch.setattr("popcat.checks.flags.BLOCK_ROWS", 40)  # 16 blocks of them
    raw = pd.read_parquet(path)
    raw.to_csv(tmp_path / "galaxies.csv", index=False)
    expected = infer(path, tiny_model, **RUN)["tail_peers"]
    whole = infer(raw, tiny_model, **RUN)["tail_peers"]
    lazily = infer(lazy(path, 90), tiny_model, draws=4).compute(scheduler="synchronous")["tail_peers"]
    of_csv = infer(tmp_path / "galaxies.csv", tiny_model, **{**RUN, "rows_per_partition": 110})["tail_peers"]
    assert expected.notna().mean() > 0.95
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_allclose(lazily, expected, rtol=1e-6)
    np.testing.assert_allclose(of_csv, expected, rtol=1e-3)  # text has fewer digits


def test_hidden_redshifts_are_hidden_whichever_way(few, tiny_model):
    options = {"draws": 10, "hide_redshift": True}
    expected = infer(few, tiny_model, client=SYNCHRONOUS, **options)
    assert expected["redshift"].isna().all() and ((expected["flags"] & FLAGS["missing_redshift"]) != 0).all()
    same(infer(lazy(few, 100), tiny_model, **options).compute(scheduler="synchronous"), expected)


def test_a_cluster_gives_the_same_frame_as_this_process(few, tiny_model):
    run = {"draws": 4, "rows_per_partition": 20}
    here = infer(few, tiny_model, client=SYNCHRONOUS, **run)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        same(infer(few, tiny_model, client=client, **run), here)
        same(infer(pd.read_parquet(few), tiny_model, **run), here)  # the active client
        frame = lazy(few, 20).persist()
        same(infer(frame, tiny_model, draws=4).compute(), here)
        with pytest.raises(PopcatError, match="one that a cluster holds"):
            infer(frame, tiny_model, draws=4, output="nowhere")


# surveys


@pytest.fixture
def in_ujy():
    """The bands of the posterior, in the columns and units of another catalogue, in another order."""
    bands = [band.model_copy(update={"flux": f"F_{band.name}", "flux_err": f"E_{band.name}", "unit": "uJy"})
             for band in SURVEY.bands]  # fmt: skip
    return SURVEY.model_copy(update={"name": "mine", "bands": tuple(bands[::-1]), "redshift_range": (0.001, 2.0)})


def test_a_survey_of_the_same_bands_says_what_the_columns_mean(few, tiny_model, in_ujy):
    raw = pd.read_parquet(few)
    names = {old: new for one, band in zip(SURVEY.bands[::-1], in_ujy.bands, strict=True)
             for old, new in ((one.flux, band.flux), (one.flux_err, band.flux_err))}  # fmt: skip
    raw = raw.astype(dict.fromkeys(names, float))
    mine = raw.assign(**{old: raw[old] * 3.631 for old in names}).rename(columns=names)
    expected, found = (infer(table, tiny_model, draws=4, survey=survey, client=SYNCHRONOUS)
                       for table, survey in ((raw, None), (mine, in_ujy)))  # fmt: skip
    assert list(found) == list(expected) and found["flags"].tolist() == expected["flags"].tolist()
    np.testing.assert_allclose(found["log_mstar_p50"], expected["log_mstar_p50"], atol=1e-2)
    far = mine.assign(redshift=1.5)
    found = infer(far, tiny_model, draws=4, survey=in_ujy, client=SYNCHRONOUS)
    assert (found["status"] == "redshift_out_of_range").all()


def test_a_survey_of_other_bands_is_refused(few, tiny_model):
    with pytest.raises(PopcatError, match=r'trained for the bands g sdss2010-g.*, got survey "gama" with'):
        infer(few, tiny_model, survey="gama")
    other = SURVEY.model_copy(update={"bands": tuple(
        band.model_copy(update={"filter": f"lsst2016-{band.name}"}) for band in SURVEY.bands)})  # fmt: skip
    with pytest.raises(PopcatError, match="got survey \"sdss\" with g lsst2016-g"):
        infer(read_catalog(few, other), tiny_model)


def test_a_frame_with_a_band_too_many_is_refused(few, tiny_model):
    with pytest.raises(PopcatError, match="the frame has flux_y, which are not of survey"):
        infer(lazy(few, 100).assign(flux_y=1.0), tiny_model)


# options that would do nothing

IDLE = {
    "check without output": ({"check": True}, "check: would do nothing for a source without output"),
    "a limit without certify": ({"budget_ms": 50.0}, "budget_ms did nothing"),
    "no draws": ({"draws": 0}, "draws must be at least 1"),
    "no rows": ({"rows_per_partition": 0}, "rows_per_partition must be at least 1"),
}


@pytest.mark.parametrize("case", IDLE)
@pytest.mark.parametrize("kind", ["a path", "a table"])
def test_an_option_that_does_nothing_is_refused(few, tiny_model, case, kind):
    options, message = IDLE[case]
    with pytest.raises(PopcatError, match=message):
        infer(few if kind == "a path" else pd.read_parquet(few), tiny_model, **options)


@pytest.mark.parametrize("option", [{"survey": "sdss"}, {"rows_per_partition": 5}, {"progress": True}, {"workers": 2}])
def test_options_of_a_run_are_refused_for_a_lazy_frame(few, tiny_model, option):
    with pytest.raises(PopcatError, match=f"{next(iter(option))}: would do nothing for a Dask frame without output"):
        infer(lazy(few, 100), tiny_model, **option)

"""A catalogue answers from its files what numpy answers from the whole table."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import popcat
from popcat.catalog.parts import OutputFolder
from popcat.errors import PopcatError
from popcat.expressions import parse
from popcat.galaxy_model import GalaxyModel


@pytest.fixture
def opened(posteriors):
    def build(**options):
        folder, table = posteriors(**options)
        return popcat.open_catalog(folder), table

    return build


def flat(table, name):
    return np.stack(table[name].drop_null().to_pylist())


def test_a_catalogue_says_what_it_holds(opened):
    catalog, table = opened()
    assert len(catalog) == 60 and catalog.columns == table.column_names
    assert catalog.quantities == ["log_mstar", "log_ssfr"]
    assert catalog.survey.name == "sdss" and catalog.posterior.name == "ab" * 32 and catalog.n_draws == 8
    assert catalog.galaxy_model == GalaxyModel()
    assert catalog.describe().loc["ra"].tolist() == ["double", "deg", "meta.id", "right ascension"]


def test_a_repr_is_a_few_lines_of_what_the_catalogue_is_of(opened):
    catalog, _ = opened()
    assert repr(catalog).splitlines() == [
        f"Catalog {catalog.path}",
        "  galaxies    60",
        "  survey      sdss: u, g, r, i, z",
        "  posterior   sdss (abababababab), 8 draws per galaxy, seed 42",
        "  certified   no",
        "  columns     14",
        "  quantities  log_mstar, log_ssfr",
    ]
    page = catalog._repr_html_()
    assert page.count("<tr>") == 6 and "<td style='text-align:left'>sdss: u, g, r, i, z</td>" in page


def test_a_name_cannot_be_html_in_a_notebook(tmp_path):
    (tmp_path / "<script>").mkdir()
    pq.write_table(pa.table({"object_id": [1]}), tmp_path / "<script>" / "a.parquet")
    assert "<script>" not in popcat.open_catalog(tmp_path / "<script>")._repr_html_()


def test_files_without_a_manifest_have_no_survey(tmp_path, opened):
    _, table = opened()
    pq.write_table(table, tmp_path / "one.parquet")
    catalog = popcat.open_catalog(tmp_path / "one.parquet")
    assert catalog.manifest is None and "survey" not in repr(catalog)
    with pytest.raises(PopcatError, match="Parquet files without a manifest: expected a posterior catalogue"):
        _ = catalog.survey


def test_another_output_of_popcat_opens_but_is_no_posterior_catalogue(tmp_path):
    folder = OutputFolder.open(tmp_path / "library", {}, 1, kind="library")
    folder.write_part(0, pa.table({"object_id": [1]}))
    folder.finish()
    catalog = popcat.open_catalog(tmp_path / "library")
    assert len(catalog) == catalog.manifest.rows == 1
    with pytest.raises(PopcatError, match="holds library: expected a posterior catalogue"):
        catalog.require_manifest()


def test_single_galaxies_come_as_plain_values_and_arrays_of_draws(opened):
    catalog, table = opened()
    ids = table["object_id"].to_pylist()
    rows = catalog.galaxies([ids[41], ids[9], ids[0]])
    assert [row["object_id"] for row in rows] == [ids[41], ids[9], ids[0]]
    assert rows[1]["log_mstar_draws"] is None and rows[1]["log_mstar_p50"] is None
    assert rows[0]["log_mstar_draws"].tolist() == table["log_mstar_draws"][41].as_py()
    assert set(rows[0]) == set(table.column_names)
    assert list(catalog.galaxies(ids[3], ["ra", "log_ssfr_draws"])[0]) == ["object_id", "ra", "log_ssfr_draws"]


def test_batches_are_the_table_in_its_order(opened, monkeypatch):
    catalog, table = opened()
    monkeypatch.setattr("popcat.catalog.queries.BATCH_ROWS", 7)
    batches = list(catalog.batches(["object_id", "log_mstar_draws"], where="status == 'ok'"))
    assert max(batch.num_rows for batch in batches) <= 7
    ok = table.filter(pc.equal(table["status"], "ok")).select(["object_id", "log_mstar_draws"])
    assert pa.Table.from_batches(batches).to_pydict() == ok.to_pydict()
    assert catalog.to_table(["object_id"]).schema.field("object_id").metadata[b"ucd"] == b"meta.id"


def test_some_row_groups_are_a_catalogue_of_their_own(opened):
    catalog, table = opened()
    same, groups = catalog.thinned(3)
    assert same is catalog and groups == 3
    some, groups = catalog.thinned(2)
    assert groups == 3 and len(some) == 40 and some.survey == catalog.survey
    assert some.to_pandas(["object_id"])["object_id"].tolist() == [
        *table["object_id"].to_pylist()[:20], *table["object_id"].to_pylist()[40:]
    ]


def test_each_file_opens_alone(opened):
    catalog, table = opened()
    assert pa.concat_tables(popcat.open_catalog(file).to_table() for file in catalog.files).equals(table)


def test_columns_default_to_all_but_the_lists(opened):
    catalog, table = opened()
    frame = catalog.to_pandas()
    assert list(frame) == [name for name in table.column_names if not name.endswith("_draws")]
    assert frame["object_id"].tolist() == table["object_id"].to_pylist()


@pytest.mark.parametrize(("where", "mask"), [
    ("redshift > 0.1", lambda t: t["redshift"].to_numpy() > 0.1),
    ("status == 'ok' and not log_mstar_p50 < 10",
     lambda t: pc.fill_null(pc.greater_equal(t["log_mstar_p50"], 10), False)),
    ("flags & 1 == 1 or dec > 30", lambda t: (t["flags"].to_numpy() == 1) | (t["dec"].to_numpy() > 30)),
    ("log_mstar_p84 - log_mstar_p16 > 0.2 and log_ssfr_p50 != -10", None),
    ("abs(dec) < 5", lambda t: np.abs(t["dec"].to_numpy()) < 5),
    (pc.field("redshift") < 0.05, lambda t: t["redshift"].to_numpy() < 0.05),
])  # fmt: skip
def test_conditions_choose_the_rows_that_numpy_chooses(opened, where, mask):
    catalog, table = opened()
    if mask is None:
        frame = table.to_pandas()
        expected = (frame["log_mstar_p84"].astype("f8") - frame["log_mstar_p16"] > 0.2).to_numpy()
    else:
        expected = np.asarray(mask(table))
    got = catalog.to_pandas(["object_id"], where)["object_id"].tolist()
    assert got == table["object_id"].to_numpy()[expected].tolist()


def test_a_condition_skips_row_groups_by_their_statistics(opened):
    from popcat.catalog.selection import prefilter

    catalog, _ = opened()
    fragments = catalog.dataset.get_fragments(filter=prefilter(parse("object_id < 5 and abs(dec) < 80")))
    assert sum(len(fragment.subset(pc.field("object_id") < 5).row_groups) for fragment in fragments) == 1


def test_draws_are_a_long_frame_in_the_order_asked_for(opened):
    catalog, table = opened()
    ids = table["object_id"].to_pylist()
    frame = catalog.draws([ids[40], ids[3]])
    assert list(frame) == ["object_id", "draw", "log_mstar", "log_ssfr"]
    assert frame["object_id"].tolist() == [ids[40]] * 8 + [ids[3]] * 8
    assert frame["log_mstar"].tolist() == table["log_mstar_draws"][40].as_py() + table["log_mstar_draws"][3].as_py()
    assert frame["draw"].tolist() == [*range(8), *range(8)]


def test_draws_of_one_galaxy_and_one_quantity(opened):
    catalog, table = opened()
    frame = catalog.draws(table["object_id"][0].as_py(), "log_ssfr")
    assert list(frame) == ["object_id", "draw", "log_ssfr"]
    assert frame["log_ssfr"].tolist() == table["log_ssfr_draws"][0].as_py()


def test_a_galaxy_without_a_posterior_has_no_draws(opened):
    catalog, table = opened()
    frame = catalog.draws([table["object_id"][9].as_py()])
    assert len(frame) == 0 and list(frame)[-1] == "log_ssfr"


def test_the_posterior_of_a_quantity_has_its_quantiles_and_draws(opened):
    catalog, table = opened()
    frame = catalog.quantity("log_mstar", where="redshift < 0.2")
    expected = table.filter(pc.and_(pc.less(table["redshift"], 0.2), pc.is_valid(table["log_mstar_p50"])))
    assert list(frame) == ["object_id", "p16", "p50", "p84", "draws"]
    assert frame["p50"].tolist() == expected["log_mstar_p50"].to_pylist()
    assert np.stack(frame["draws"].to_numpy()).shape == (len(expected), 8)


def test_a_stack_is_the_histogram_of_all_draws_over_their_number(opened):
    catalog, table = opened()
    x, y = flat(table, "log_mstar_draws").ravel(), flat(table, "log_ssfr_draws").ravel()
    edges = (np.linspace(9, 12, 7), np.array([-13.0, -11.5, -11.0, -8.0]))
    stack = catalog.stack("log_mstar", "log_ssfr", bins=edges)
    np.testing.assert_allclose(stack.mass, np.histogram2d(x, y, edges)[0] / 8, atol=1e-12)
    assert stack.n_galaxies == 54 and stack.mass.shape == (6, 3)


def test_a_stack_of_one_quantity_of_chosen_galaxies(opened):
    catalog, table = opened()
    stack = catalog.stack("log_mstar", bins=10, range_=(9, 12), where="redshift > 0.15")
    chosen = table.filter(pc.greater(table["redshift"], 0.15))
    expected, edges = np.histogram(flat(chosen, "log_mstar_draws"), 10, (9, 12))
    np.testing.assert_allclose(stack.mass, expected / 8, atol=1e-12)
    np.testing.assert_array_equal(stack.x_edges, edges)
    assert stack.y_edges is None


def test_a_stack_against_a_column_without_draws_counts_a_galaxy_where_it_is(opened):
    catalog, table = opened()
    stack = catalog.stack("redshift", "log_mstar", bins=(5, 1), range_=((0, 0.3), (0, 20)))
    ok = table.filter(pc.is_valid(table["log_mstar_p50"]))
    np.testing.assert_allclose(stack.mass[:, 0], np.histogram(ok["redshift"], 5, (0, 0.3))[0], atol=1e-12)


def test_weights_beside_the_draws_are_refused(tmp_path, opened):
    catalog, table = opened()
    weights = pa.array([[0.5, 0.5]] * len(table), pa.list_(pa.float32()))
    pq.write_table(table.append_column("weights", weights), tmp_path / "weighted.parquet")
    with pytest.raises(PopcatError, match="equally weighted draws; resample"):
        popcat.open_catalog(tmp_path / "weighted.parquet")
    pq.write_table(table.append_column("weights", [[1.0] * len(table)]), tmp_path / "numbers.parquet")
    assert len(popcat.open_catalog(tmp_path / "numbers.parquet")) == len(catalog), "a number per galaxy is no weight"


def test_a_range_that_is_not_given_holds_nearly_all_draws(opened):
    catalog, _ = opened()
    stack = catalog.stack("log_mstar", "log_ssfr", bins=20)
    assert stack.mass.sum() > 0.97 * stack.n_galaxies


def test_batches_do_not_change_a_stack(opened, monkeypatch):
    catalog, _ = opened()
    whole = catalog.stack("log_mstar", bins=9, range_=(9, 12)).mass
    monkeypatch.setattr("popcat.catalog.queries.BATCH_ROWS", 7)
    np.testing.assert_allclose(catalog.stack("log_mstar", bins=9, range_=(9, 12)).mass, whole, atol=1e-12)


def test_plain_pandas_reads_the_same_rows(opened):
    catalog, table = opened()
    frame = pd.read_parquet(catalog.path)
    assert frame["object_id"].tolist() == table["object_id"].to_pylist()
    assert len(frame["log_mstar_draws"][0]) == 8


def test_files_that_popcat_did_not_write_open_too(tmp_path, opened):
    _, table = opened()
    pq.write_table(table, tmp_path / "one.parquet")
    assert len(popcat.open_catalog(tmp_path / "one.parquet")) == 60


def test_errors_name_what_is_near(opened):
    catalog, _ = opened()
    with pytest.raises(PopcatError, match=r'no column "redshft"; did you mean "redshift"'):
        catalog.to_pandas(["redshft"])
    with pytest.raises(PopcatError, match='no column "log_mstar"; it has draws: log_mstar_draws, log_mstar_p50'):
        catalog.to_pandas(["log_mstar"])
    with pytest.raises(PopcatError, match=r'no draws of "log_star"; did you mean "log_mstar"'):
        catalog.quantity("log_star")
    with pytest.raises(PopcatError, match="has no galaxy with object_id 5 in it; expected identifiers of the input"):
        catalog.draws([1, 5])
    with pytest.raises(PopcatError, match="expected a condition"):
        catalog.to_pandas(["ra"], where="redshift + 1")
    with pytest.raises(PopcatError, match='no column "zz"'):
        catalog.to_pandas(["ra"], where="zz > 1")
    with pytest.raises(PopcatError, match="ascending edges"):
        catalog.stack("log_mstar", bins=[3.0, 1.0])
    with pytest.raises(PopcatError, match="expected 2 of bins and range_"):
        catalog.stack("log_mstar", "log_ssfr", bins=(1, 2, 3))
    with pytest.raises(PopcatError, match="so its range is unknown"):
        catalog.stack("log_mstar", where="redshift > 99")


def test_what_is_no_catalogue_is_refused(tmp_path):
    with pytest.raises(PopcatError, match="no catalogue"):
        popcat.open_catalog(tmp_path / "nothing")
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(PopcatError, match="cannot read"):
        popcat.open_catalog(tmp_path / "bad.parquet")
    OutputFolder.open(tmp_path / "out", {}, 2, kind="posteriors").write_part(0, pa.table({"object_id": [1]}))
    with pytest.raises(PopcatError, match="1 of 2 parts are done"):
        popcat.open_catalog(tmp_path / "out")

"""Published catalogues, opened by the engines themselves: nothing lost, nothing twice, units kept."""

import json
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catalogues import record

import popcat
from popcat.catalog.export import PUBLISHERS, RECORD, export, iceberg_table
from popcat.errors import PopcatError

TARGETS = {"hats": "cdshealpix", "parquet": "cdshealpix", "delta": "deltalake", "iceberg": "pyiceberg"}
KINDS = [*((to, False) for to in TARGETS), ("delta", True), ("iceberg", True)]


def needs(*packages):
    for package in packages:
        pytest.importorskip(package, reason=f"{package} is of the extra `lake`: make test-lake")


def publish(source, output, to, **options):
    needs(TARGETS[to], *(["cdshealpix"] if options.get("sky") else []))
    return export(source, output, to=to, rows_per_pixel=options.pop("rows_per_pixel", 10), **options)


def read(output, to):
    """The published rows, by object_id, through the engine of the format."""
    if to == "delta":
        import deltalake

        table = deltalake.DeltaTable(str(output)).to_pyarrow_table()
    elif to == "iceberg":
        table = iceberg_table(output).scan().to_arrow()
    else:
        files = sorted(output.glob("dataset/Norder=*/Dir=*/Npix=*.parquet"))
        table = pa.concat_tables(pq.ParquetFile(file).read() for file in files)
    return table.sort_by("object_id")


def draws_of(table):
    return [value.as_py() for value in table["log_mstar_draws"]]


@pytest.mark.parametrize(("to", "sky"), KINDS)
def test_every_galaxy_is_published_once_with_its_draws(posteriors, tmp_path, to, sky):
    folder, table = posteriors()
    done = publish(folder, tmp_path / "out", to, sky=sky)
    got = read(tmp_path / "out", to)
    assert done.added == done.rows == len(got) == 60
    assert got["object_id"].to_pylist() == table["object_id"].to_pylist()
    assert draws_of(got) == draws_of(table)


@pytest.mark.parametrize(("to", "sky"), KINDS)
def test_new_galaxies_are_added_and_the_same_export_adds_nothing(posteriors, tmp_path, to, sky):
    folder, table = posteriors()
    publish(folder, tmp_path / "out", to, sky=sky)
    assert publish(folder, tmp_path / "out", to, sky=sky).added == 0
    later, more = shifted(posteriors)
    done = publish(later, tmp_path / "out", to, sky=sky)
    got = read(tmp_path / "out", to)
    assert (done.added, done.rows, len(got)) == (40, 100, 100)
    assert got["object_id"].to_pylist() == sorted(table["object_id"].to_pylist() + more["object_id"].to_pylist())


def shifted(posteriors, by=10_000):
    """A later catalogue: other galaxies, of other identifiers."""
    from popcat.catalog.parts import OutputFolder

    folder, table = posteriors(n=40, parts=2, name="first", seed=5)
    table = table.set_column(0, table.schema.field(0), pa.array(table["object_id"].to_numpy() + by))
    later = OutputFolder.open(folder.with_name("later"), {"shift": by}, 1, kind="posteriors")
    later.write_part(0, table)
    later.finish(record())
    return folder.with_name("later"), table


@pytest.mark.parametrize("to", TARGETS)
def test_galaxies_of_another_catalogue_that_are_there_are_refused(posteriors, tmp_path, to):
    folder, _ = posteriors()
    publish(folder, tmp_path / "out", to)
    other, _ = posteriors(n=20, parts=1, name="other", seed=9)
    with pytest.raises(PopcatError, match="has 20 of these galaxies already"):
        publish(other, tmp_path / "out", to)
    assert len(read(tmp_path / "out", to)) == 60


@pytest.mark.parametrize(("to", "sky"), KINDS)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_export_that_was_cut_off_is_finished_by_the_same_command(posteriors, tmp_path, monkeypatch, to, sky, moment):
    folder, _ = posteriors()
    real = PUBLISHERS[to]

    def cut(*arguments, **options):
        if moment == "after":
            real(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setitem(PUBLISHERS, to, cut)
    with pytest.raises(KeyboardInterrupt):
        publish(folder, tmp_path / "out", to, sky=sky)
    monkeypatch.setitem(PUBLISHERS, to, real)
    assert publish(folder, tmp_path / "out", to, sky=sky).rows == 60
    assert len(read(tmp_path / "out", to)) == 60


KILLED = """
import os, signal, sys
from popcat import files
from popcat.catalog.export import export

files.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
export(sys.argv[1], sys.argv[2], to="delta")
"""


def test_an_export_that_is_killed_at_its_first_record_goes_on_when_called_again(posteriors, tmp_path, monkeypatch):
    monkeypatch.setitem(PUBLISHERS, "delta", lambda *_, **__: None)  # what the library adds is not asked for here
    folder, out = posteriors()[0], tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", KILLED, folder, out])
    assert done.returncode == -signal.SIGKILL
    (left,) = out.glob("._popcat_export*")
    assert left.suffix == ".tmp"
    assert export(folder, out, to="delta").added == 60
    assert not left.exists() and export(folder, out, to="delta").added == 0


def test_a_file_of_someone_else_beside_such_a_leftover_is_still_refused(posteriors, tmp_path):
    for name in ("._popcat_export.0.tmp", "thesis.tex"):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / name).touch()
    with pytest.raises(PopcatError, match="not empty and no export of popcat's"):
        export(posteriors()[0], tmp_path / "out", to="delta")
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_file_of_pixels_holds_no_more_rows_than_it_may_and_is_sorted(posteriors, tmp_path):
    folder, _ = posteriors(n=300)
    publish(folder, tmp_path / "out", "hats", rows_per_pixel=20)
    files = list((tmp_path / "out").glob("dataset/Norder=*/Dir=*/Npix=*.parquet"))
    for file in files:
        index = pq.ParquetFile(file).read(["_healpix_29"])["_healpix_29"].to_numpy()
        order, pixel = int(file.parts[-3][7:]), int(file.stem[5:])
        assert len(index) <= 20 and np.all(np.diff(index) >= 0)
        assert np.all(index >> 2 * (29 - order) == pixel)
    assert len(files) > 15


def test_units_and_ucds_stay_with_the_columns(posteriors, tmp_path):
    folder, _ = posteriors()
    publish(folder, tmp_path / "out", "hats")
    described = popcat.open_catalog(tmp_path / "out").describe()
    assert described.loc["ra", "unit"] == "deg" and described.loc["_healpix_29", "ucd"] == "pos.healpix"


def test_an_iceberg_column_says_its_meaning_and_unit(posteriors, tmp_path):
    folder, _ = posteriors()
    publish(folder, tmp_path / "out", "iceberg")
    assert iceberg_table(tmp_path / "out").schema().find_field("ra").doc == "right ascension [deg]"


def test_delta_has_one_transaction_an_export_and_statistics_that_prune(posteriors, tmp_path):
    folder, _ = posteriors()
    publish(folder, tmp_path / "out", "delta")
    publish(shifted(posteriors)[0], tmp_path / "out", "delta")
    import deltalake

    table = deltalake.DeltaTable(str(tmp_path / "out"))
    assert table.version() == 1 and table.transaction_version("popcat") == 2
    actions = pa.table(table.get_add_actions(flatten=True))
    assert sum(actions["num_records"].to_pylist()) == 100 and min(actions["min.object_id"].to_pylist()) == 1
    assert table.to_pyarrow_table(filters=[("object_id", ">", 10_000)])["object_id"].to_numpy().min() > 10_000


@pytest.mark.filterwarnings("ignore")  # of lsdb, dask and pandas about each other
def test_lsdb_opens_searches_and_crossmatches_a_hats_export(posteriors, tmp_path):
    needs("lsdb", "cdshealpix")
    folder, table = posteriors(n=300)
    publish(folder, tmp_path / "out", "hats", rows_per_pixel=40)
    import dask
    import lsdb
    from hats.io.validation import is_valid_catalog

    assert is_valid_catalog(tmp_path / "out", strict=True)
    with dask.config.set(scheduler="synchronous"):
        catalog = lsdb.open_catalog(tmp_path / "out")
        assert len(catalog) == 300
        ra, dec = table["ra"][7].as_py(), table["dec"][7].as_py()
        found = catalog.cone_search(ra, dec, 20 * 3600).compute()
        mine = popcat.open_catalog(tmp_path / "out").cone(ra, dec, 20, ["object_id"])
        assert sorted(found["object_id"]) == sorted(mine["object_id"]) and len(mine) > 1
        positions = table.select(["object_id", "ra", "dec"]).to_pandas()
        near = lsdb.from_dataframe(positions, ra_column="ra", dec_column="dec")
        pairs = catalog.crossmatch(near, radius_arcsec=1, suffixes=("", "_b")).compute()
    assert len(pairs) == 300 and (pairs["object_id"] == pairs["object_id_b"]).all()
    assert len(pairs["log_mstar_draws"].iloc[0]) == 8


@pytest.mark.parametrize(("to", "sky"), KINDS)
def test_duckdb_queries_what_is_published(posteriors, tmp_path, to, sky):
    needs("duckdb")
    import duckdb

    folder, table = posteriors()
    publish(folder, tmp_path / "out", to, sky=sky)
    pattern = "dataset/**/*.parquet" if to in ("hats", "parquet") else "data/**/*.parquet"
    query = f"""SELECT count(*), sum(len(log_mstar_draws)), avg(list_avg(log_mstar_draws))
                FROM read_parquet('{tmp_path / "out" / pattern}') WHERE status = 'ok'"""
    rows, draws, mean = duckdb.sql(query).fetchall()[0]
    expected = np.concatenate([value for value in draws_of(table) if value is not None])
    assert (rows, draws) == (54, 54 * 8) and mean == pytest.approx(expected.mean(), rel=1e-6)


@pytest.mark.parametrize(("to", "sky"), KINDS)
def test_polars_queries_what_is_published(posteriors, tmp_path, monkeypatch, to, sky):
    needs("polars")
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")  # else Polars warns that its own planner is not there
    import polars as pl

    folder, table = posteriors()
    publish(folder, tmp_path / "out", to, sky=sky)
    out = tmp_path / "out"
    scan = {"delta": lambda: pl.scan_delta(str(out)), "iceberg": lambda: pl.scan_iceberg(iceberg_table(out))}
    frame = scan.get(to, lambda: pl.scan_parquet(str(out / "dataset" / "**" / "*.parquet")))()
    got = frame.filter(pl.col("status") == "ok").select(pl.col("log_mstar_draws").list.mean().mean()).collect().item()
    expected = np.concatenate([value for value in draws_of(table) if value is not None])
    assert got == pytest.approx(expected.mean(), rel=1e-5)


@pytest.mark.parametrize(("ra", "dec", "radius"), [(0.5, 10, 30), (200, 88, 12), (359, -45, 25), (120, 0, 180)])
def test_a_cone_is_every_galaxy_within_the_angle(posteriors, ra, dec, radius):
    from astropy.coordinates import SkyCoord

    folder, table = posteriors(n=300)
    where = SkyCoord(table["ra"].to_numpy(), table["dec"].to_numpy(), unit="deg")
    angle = where.separation(SkyCoord(ra, dec, unit="deg")).deg
    frame = popcat.open_catalog(folder).cone(ra, dec, radius, ["object_id"])
    assert sorted(frame["object_id"]) == sorted(table["object_id"].to_numpy()[angle <= radius])
    np.testing.assert_allclose(frame["separation_deg"], np.sort(angle[angle <= radius]), atol=1e-9)


def test_galaxies_without_a_position_are_counted(posteriors, tmp_path):
    from popcat.catalog.parts import OutputFolder

    _, table = posteriors()
    ra, dec = (table[name].to_numpy().copy() for name in ("ra", "dec"))
    ra[:3], dec[3:5] = np.nan, (99.0, -999.0)
    folder = OutputFolder.open(tmp_path / "lost", {}, 1, kind="posteriors")
    for at, (name, values) in enumerate({"ra": ra, "dec": dec}.items(), start=1):
        table = table.set_column(at, table.schema.field(name), pa.array(values))
    folder.write_part(0, table)
    folder.finish(record())
    done = publish(tmp_path / "lost", tmp_path / "out", "hats")
    assert (done.rows, done.without_position, len(read(tmp_path / "out", "hats"))) == (55, 5, 55)


def test_an_unknown_format_another_format_and_a_strange_folder_are_refused(posteriors, tmp_path):
    folder, _ = posteriors()
    with pytest.raises(PopcatError, match=r'cannot export to "hat"; did you mean "hats"'):
        export(folder, tmp_path / "out", to="hat")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / RECORD).write_text(json.dumps({"to": "delta"}))
    with pytest.raises(PopcatError, match="holds a catalogue exported to delta, not hats"):
        export(folder, tmp_path / "out", to="hats")
    with pytest.raises(PopcatError, match="is not empty and no export"):
        export(folder, folder, to="hats")


@pytest.mark.parametrize(("to", "package"), [("delta", "deltalake"), ("iceberg", "pyiceberg"), ("hats", "cdshealpix")])
def test_a_missing_library_is_named_with_the_extra(posteriors, tmp_path, monkeypatch, to, package):
    import sys

    folder, _ = posteriors()
    for name in [package, *(name for name in sys.modules if name.startswith(package + "."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(PopcatError, match=rf"{package}.*popcat\[lake\]"):
        export(folder, tmp_path / "out", to=to)

"""Four questions asked of a posterior catalogue through pandas, DuckDB, Polars and LSDB: seconds and bytes read.

    python benchmarks/catalog_queries.py --rows 1000000 --draws 100 --json queries.json

The catalogue is synthetic (random draws under the real schema of `sdss`) and is exported to HATS: pandas stands for
`popcat.open_catalog`, DuckDB and Polars read the Parquet files, LSDB the HATS catalogue. Every query runs in a process
of its own, imports not counted, after the files have left the page cache: bytes are those that came from the disk,
the system's read-ahead among them, and seconds are those of a first question.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from environment import conclude, parser, print_table

ENGINES = ("pandas", "duckdb", "polars", "lsdb")
QUERIES = ("column", "galaxy", "cone", "stack")
PART_ROWS = 2500
RA, DEC, RADIUS = 180.0, 20.0, 1.0
EDGES = (np.linspace(8, 12.5, 46), np.linspace(-14, -8, 61))


def main() -> None:
    args = options().parse_args()
    if args.ask:
        return ask(*args.ask.split(","), Path(args.folder))
    folder = Path(args.folder) if args.folder else Path(tempfile.mkdtemp(prefix="popcat-queries-"))
    try:
        made = make(folder, args.rows, args.draws)
        chosen = args.engines.split(",")
        results = {query: {engine: measure(query, engine, folder) for engine in chosen} for query in QUERIES}
    finally:
        if not args.folder:
            shutil.rmtree(folder, ignore_errors=True)
    rows = [{"query": query, "engine": engine, **values} for query, engines in results.items()
            for engine, values in engines.items()]  # fmt: skip
    print_table(rows, f"{args.rows:,} galaxies x {args.draws} draws, {made['bytes'] / 1e9:.2f} GB")
    conclude(args.json, {"queries": results, "catalog": made})


def options():
    result = parser(__doc__)
    result.add_argument("--rows", type=int, default=100_000, help="galaxies; a million with 100 draws is 8 GB, twice")
    result.add_argument("--draws", type=int, default=100)
    result.add_argument("--folder", help="where the catalogues are kept; without it, a temporary folder")
    result.add_argument("--engines", default=",".join(ENGINES))
    result.add_argument("--ask", help="QUERY,ENGINE: run one query and print it as JSON")
    return result


def make(folder: Path, rows: int, draws: int) -> dict:
    """The synthetic catalogue and its HATS export; what they are and how long they took."""
    from popcat.catalog.export import export
    from popcat.catalog.parts import OutputFolder
    from popcat.catalog.record import CatalogRecord, PosteriorRecord
    from popcat.galaxy_model import GalaxyModel
    from popcat.survey import load_survey

    parts, survey = -(-rows // PART_ROWS), load_survey("sdss")
    needed = rows * draws * 20 * 4 * 2.5
    if shutil.disk_usage(folder if folder.exists() else folder.parent).free < needed:
        raise SystemExit(f"expected {needed / 1e9:.0f} GB of free disk for {rows:,} galaxies; choose another --folder")
    start = time.perf_counter()
    output = OutputFolder.open(folder / "posteriors", {"rows": rows, "draws": draws}, parts, kind="posteriors")
    for index in output.pending():
        first = index * PART_ROWS
        output.write_part(index, synthetic(first, min(first + PART_ROWS, rows), draws, survey))
    made_by = PosteriorRecord(name=None, location="synthetic")
    manifest = output.finish(CatalogRecord(survey=survey, galaxy_model=GalaxyModel(), posterior=made_by, draws=draws,
                                           seed=0, calibration="none", provenance={}, source="synthetic"))
    written = time.perf_counter()
    export(folder / "posteriors", folder / "hats", to="hats", rows_per_pixel=50_000)
    return {"rows": rows, "draws": draws, "bytes": manifest.bytes, "write_s": written - start,
            "export_s": time.perf_counter() - written}  # fmt: skip


def synthetic(start: int, stop: int, draws: int, survey) -> pa.Table:
    """Rows of the posterior schema: plausible centres, Gaussian draws, a patch of 120 x 70 degrees."""
    from popcat.catalog.draws import encode
    from popcat.columns import posterior_schema, quantity_fields
    from popcat.galaxy_model import GalaxyModel

    rng, n = np.random.default_rng([7, start]), stop - start
    centres = {"log_mstar": (10.3, 0.6), "log_mstar_formed": (10.5, 0.6), "log_ssfr": (-10.5, 1.0)}
    columns = {"object_id": np.arange(start, stop), "ra": rng.uniform(120, 240, n),
               "dec": np.degrees(np.arcsin(rng.uniform(0, 0.94, n))), "redshift": rng.uniform(0.01, 0.3, n),
               "status": np.full(n, "ok", dtype=object)}  # fmt: skip
    for name in quantity_fields(survey, GalaxyModel()):
        mean, width = centres.get(name, (1.0, 0.3))
        values = rng.normal(mean, width, (n, 1)) + rng.normal(0, 0.15, (n, draws))
        values = values.astype(np.float32)
        quantiles = np.percentile(values, (16, 50, 84), axis=1)
        columns |= {f"{name}_p{q}": row for q, row in zip((16, 50, 84), quantiles, strict=True)}
        columns[f"{name}_draws"] = encode(values, np.arange(n), n)
    schema = posterior_schema(survey)
    arrays = [filled(columns.get(field.name), field, n, rng) for field in schema]
    return pa.table(arrays, schema=schema)


def filled(values, field: pa.Field, n: int, rng) -> pa.Array:
    """A column of the schema; noise where nothing is asked of it."""
    if values is None:
        values = np.full(n, "", dtype=object) if pa.types.is_string(field.type) else rng.uniform(0, 10, n)
    return values if isinstance(values, pa.Array) else pa.array(values).cast(field.type, safe=False)


def measure(query: str, engine: str, folder: Path) -> dict:
    """Seconds and bytes of one query in a process of its own."""
    command = [sys.executable, __file__, "--ask", f"{query},{engine}", "--folder", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        print(f"{query} {engine}: {run.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return {"seconds": None, "bytes_read": None, "answer": None}
    return json.loads(run.stdout.strip().splitlines()[-1])


def ask(query: str, engine: str, folder: Path) -> None:
    """Run one query and print seconds, bytes read and an answer by which engines can be compared."""
    function = {"pandas": with_pandas, "duckdb": with_duckdb, "polars": with_polars, "lsdb": with_lsdb}[engine](folder)
    forget(folder)
    before, start = bytes_read(), time.perf_counter()
    answer = function[query]()
    seconds, after = time.perf_counter() - start, bytes_read()
    print(json.dumps({"seconds": round(seconds, 4), "bytes_read": after - before, "answer": round(float(answer), 4)}))


def bytes_read() -> int:
    """Bytes that the disk has given to this process, memory-mapped files included."""
    info = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(info["read_bytes"])


def forget(folder: Path) -> None:
    """Let the system drop what it keeps of the files in memory."""
    for file in folder.rglob("*"):
        if file.is_file():
            with open(file, "rb") as opened:
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def some_id(folder: Path) -> int:
    """The galaxy that is asked for: in the middle of the catalogue."""
    from popcat.catalog.manifest import read_manifest

    return read_manifest(folder / "posteriors").rows // 2


def with_pandas(folder: Path) -> dict:
    import popcat

    plain, hats = popcat.open_catalog(folder / "posteriors"), popcat.open_catalog(folder / "hats")
    galaxy = some_id(folder)
    return {
        "column": lambda: plain.to_pandas(["log_mstar_p50"])["log_mstar_p50"].mean(),
        "galaxy": lambda: plain.draws(galaxy, "log_mstar")["log_mstar"].mean(),
        "cone": lambda: len(hats.cone(RA, DEC, RADIUS, ["object_id", "log_mstar_p50"])),
        "stack": lambda: plain.stack("log_mstar", "log_ssfr", bins=EDGES).mass.sum(),
    }


def with_duckdb(folder: Path) -> dict:
    import duckdb

    connection, galaxy = duckdb.connect(), some_id(folder)
    plain = f"read_parquet('{folder}/posteriors/part-*.parquet')"
    hats = f"read_parquet('{folder}/hats/dataset/**/*.parquet')"
    distance = (f"degrees(2 * asin(sqrt(pow(sin(radians(dec - {DEC}) / 2), 2) + "
                f"cos(radians(dec)) * cos(radians({DEC})) * pow(sin(radians(ra - {RA}) / 2), 2))))")  # fmt: skip
    reach = np.degrees(np.arcsin(np.sin(np.radians(RADIUS)) / np.cos(np.radians(DEC))))
    box = f"dec BETWEEN {DEC - RADIUS} AND {DEC + RADIUS} AND ra BETWEEN {RA - reach} AND {RA + reach}"
    low, high = (edges[[0, -1]] for edges in EDGES)
    stack = f"""SELECT count(*) FROM (SELECT unnest(log_mstar_draws) AS x, unnest(log_ssfr_draws) AS y FROM {plain})
                WHERE x >= {low[0]} AND x <= {low[1]} AND y >= {high[0]} AND y <= {high[1]}
                GROUP BY floor((x - {low[0]}) / 0.1), floor((y - {high[0]}) / 0.1)"""

    def value(query):
        return connection.sql(query).fetchall()[0][0]

    def stacked():
        per_galaxy = value(f"SELECT len(log_mstar_draws) FROM {plain} LIMIT 1")
        return sum(row[0] for row in connection.sql(stack).fetchall()) / per_galaxy

    return {
        "column": lambda: value(f"SELECT avg(log_mstar_p50) FROM {plain}"),
        "galaxy": lambda: np.mean(value(f"SELECT log_mstar_draws FROM {plain} WHERE object_id = {galaxy}")),
        "cone": lambda: value(f"SELECT count(log_mstar_p50) FROM {hats} WHERE {box} AND {distance} <= {RADIUS}"),
        "stack": stacked,
    }


def with_polars(folder: Path) -> dict:
    import polars as pl

    plain = pl.scan_parquet(f"{folder}/posteriors/part-*.parquet")
    hats, galaxy = pl.scan_parquet(f"{folder}/hats/dataset/**/*.parquet"), some_id(folder)
    reach = float(np.degrees(np.arcsin(np.sin(np.radians(RADIUS)) / np.cos(np.radians(DEC)))))
    ra, dec = pl.col("ra").radians(), pl.col("dec").radians()
    east = ((ra - np.radians(RA)) / 2).sin() ** 2 * dec.cos() * np.cos(np.radians(DEC))
    half = ((dec - np.radians(DEC)) / 2).sin() ** 2 + east
    box = pl.col("dec").is_between(DEC - RADIUS, DEC + RADIUS) & pl.col("ra").is_between(RA - reach, RA + reach)
    inside = box & (2 * half.sqrt().arcsin() <= np.radians(RADIUS))

    def stacked():
        axes = {"x": EDGES[0], "y": EDGES[1]}
        draws = plain.select(pl.col("log_mstar_draws").explode().alias("x"),
                             pl.col("log_ssfr_draws").explode().alias("y"))  # fmt: skip
        kept = [pl.col(name).is_between(float(edges[0]), float(edges[-1])) for name, edges in axes.items()]
        bins = [((pl.col(name) - float(edges[0])) / 0.1).floor().alias(f"{name}_bin") for name, edges in axes.items()]
        counts = draws.filter(*kept).group_by(*bins).len().collect(engine="streaming")["len"].sum()
        return counts / plain.select(pl.col("log_mstar_draws").list.len().first()).head(1).collect().item()

    return {
        "column": lambda: plain.select(pl.col("log_mstar_p50").mean()).collect().item(),
        "galaxy": lambda: plain.filter(pl.col("object_id") == galaxy).select("log_mstar_draws").collect().item().mean(),
        "cone": lambda: hats.filter(inside).select("object_id", "log_mstar_p50").collect().height,
        "stack": stacked,
    }


def with_lsdb(folder: Path) -> dict:
    import dask
    import lsdb
    import pandas as pd

    dask.config.set(scheduler="threads")
    galaxy = some_id(folder)

    def opened(columns):
        return lsdb.open_catalog(folder / "hats", columns=columns)

    def histogram(frame):
        if not len(frame):
            return pd.DataFrame({"mass": pd.Series(dtype=float)})
        x, y = (np.stack(frame[name].to_numpy()) for name in ("log_mstar_draws", "log_ssfr_draws"))
        return pd.DataFrame({"mass": [np.histogram2d(x.ravel(), y.ravel(), EDGES)[0].sum() / x.shape[1]]})

    def one():
        return opened(["object_id", "log_mstar_draws"]).query(f"object_id == {galaxy}").compute()

    def stacked():
        draws = opened(["log_mstar_draws", "log_ssfr_draws"])
        return draws.map_partitions(histogram, meta=histogram([])).compute()["mass"].sum()

    return {
        "column": lambda: opened(["log_mstar_p50"]).compute()["log_mstar_p50"].mean(),
        "galaxy": lambda: np.mean(one()["log_mstar_draws"].iloc[0]),
        "cone": lambda: len(opened(["object_id", "log_mstar_p50"]).cone_search(RA, DEC, RADIUS * 3600).compute()),
        "stack": stacked,
    }


if __name__ == "__main__":
    main()

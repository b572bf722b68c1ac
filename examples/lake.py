"""A posterior catalogue published in a data lake, and asked questions there.

    python examples/lake.py POSTERIORS FOLDER

POSTERIORS is what `popcat infer` or `make demo` wrote. Needs the extra `lake`: pip install 'popcat[lake]'.
"""

import sys
from pathlib import Path

import duckdb

import popcat

posteriors = Path(sys.argv[1] if len(sys.argv) > 1 else "demo/posteriors")
folder = Path(sys.argv[2] if len(sys.argv) > 2 else "demo/lake")

# Here, in pandas: by columns and row groups, so it does not matter how large the catalogue is.
catalog = popcat.open_catalog(posteriors)
massive = catalog.to_pandas(["object_id", "ra", "dec", "log_mstar_p50"], where="status == 'ok' and log_mstar_p50 > 11")
print(f"{len(massive)} of {len(catalog)} galaxies are above 10^11 Msun")
stack = catalog.stack("log_mstar", "log_ssfr", bins=(30, 30))
print(f"posterior mass of {stack.n_galaxies} galaxies in {stack.mass.size} bins: {stack.mass.sum():.1f}")

# Published: HEALPix pixels for LSDB, and one transaction of Delta. Run it again after more galaxies: they are added.
for kind in ("hats", "delta"):
    done = popcat.export(posteriors, folder / kind, to=kind)
    print(f"{kind}: {done.added} galaxies added, {done.rows} in all; open it with {done.open}")

# Around one galaxy: only the row groups near it are read.
galaxy = massive.iloc[0]
near = popcat.open_catalog(folder / "hats").cone(galaxy["ra"], galaxy["dec"], 2.0, ["object_id", "log_mstar_p50"])
print(f"{len(near)} galaxies within two degrees of {int(galaxy['object_id'])}")

# In SQL, over the files of the Delta table: how many galaxies are quiescent, counting every draw?
parts = folder / "delta" / "data" / "*.parquet"
quiescent = duckdb.sql(f"SELECT sum(list_avg(list_transform(log_ssfr_draws, lambda x: (x < -11)::INT))) FROM '{parts}'")
print(f"{quiescent.fetchall()[0][0]:.1f} galaxies are quiescent")

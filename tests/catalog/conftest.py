"""A small survey and catalogue, in every form that a file can have."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from popcat.settings import Band, Columns, Selection, Survey


@pytest.fixture
def survey() -> Survey:
    """Two bands: one with errors and nothing to correct, one with inverse variances, extinction, offset and floor."""
    return Survey(
        name="demo", redshift_range=(0.01, 0.5), columns=Columns(object_id="id", redshift="z", redshift_err="z_err"),
        bands=(Band(name="g", filter="sdss2010-g", flux="f_g", flux_err="e_g"),
               Band(name="r", filter="sdss2010-r", flux="f_r", flux_ivar="iv_r", extinction="a_r",
                    ab_offset_mag=0.1, error_floor=0.05)),
        selection=Selection(band="r", bright_mag=14.0, faint_mag=21.0),
    )


@pytest.fixture
def raw() -> pd.DataFrame:
    """Twenty galaxies of r = 17 to 18 without a blemish."""
    rng = np.random.default_rng(1)
    n = 20
    return pd.DataFrame({
        "id": np.arange(n) ** 2 + 10**15, "ra": rng.uniform(0, 360, n), "dec": rng.uniform(-90, 90, n),
        "z": rng.uniform(0.02, 0.4, n), "z_err": rng.uniform(1e-4, 1e-3, n),
        "f_g": rng.uniform(20, 60, n), "e_g": rng.uniform(0.1, 1, n),
        "f_r": rng.uniform(60, 150, n), "iv_r": rng.uniform(1, 9, n), "a_r": rng.uniform(0, 0.3, n),
    })


def write_parquet(frame, path):
    pq.write_table(pa.Table.from_pandas(frame), path, row_group_size=6)


def write_csv(frame, path):
    frame.to_csv(path, index=False)


def write_fits(frame, path):
    from astropy.table import Table

    Table.from_pandas(frame).write(path, overwrite=True)


WRITERS = {".parquet": write_parquet, ".csv": write_csv, ".fits": write_fits, ".gz": write_fits}


@pytest.fixture
def write(tmp_path):
    """Write a frame under a name whose suffix says the format; its path."""
    def writer(frame, name="cat.parquet"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[path.suffix](frame, path)
        return path
    return writer


def posterior_table(n, *, seed=0, n_draws=8, weights=False, first=0) -> pa.Table:
    """A table like a part of a posterior catalogue, of two quantities; every tenth galaxy has no posterior."""
    rng = np.random.default_rng([seed, first])
    missing = np.arange(first, first + n) % 10 == 9
    centre = {"log_mstar": rng.normal(10.3, 0.6, n), "log_ssfr": rng.normal(-10.5, 0.8, n)}
    draws = {name: (value[:, None] + rng.normal(0, 0.1, (n, n_draws))).astype("f4") for name, value in centre.items()}

    def field(name, kind, unit, text):
        return pa.field(name, kind, metadata={"unit": unit, "description": text, "ucd": "meta.id"})

    columns = [
        (field("object_id", pa.int64(), "", "identifier"), np.arange(first, first + n) * 7 + 1),
        (field("ra", pa.float64(), "deg", "right ascension"), rng.uniform(0, 360, n)),
        (field("dec", pa.float64(), "deg", "declination"), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))),
        (field("redshift", pa.float64(), "1", "redshift"), rng.uniform(0.01, 0.3, n)),
        (field("status", pa.string(), "", "status"), np.where(missing, "missing_band", "ok").astype(object)),
        (field("flags", pa.int32(), "", "flags"), np.where(missing, 1, 0)),
    ]
    for name, values in draws.items():
        for k, q in enumerate(np.percentile(values, (16, 50, 84), axis=1)):
            columns.append((field(f"{name}_p{(16, 50, 84)[k]}", pa.float32(), "dex", name), q))
    lists = dict(draws) | ({"weights": rng.uniform(0.1, 3, (n, n_draws)).astype("f4")} if weights else {})
    for name, values in lists.items():
        full = name if name == "weights" else f"{name}_draws"
        columns.append((field(full, pa.list_(pa.float32()), "dex", name), list(values)))
    hole = {f"{name}_{part}" for name in draws for part in ("p16", "p50", "p84", "draws")} | {"weights"}
    arrays = [pa.array(value, field.type, mask=missing if field.name in hole else None) for field, value in columns]
    return pa.table(arrays, schema=pa.schema([field for field, _ in columns]))


@pytest.fixture
def posteriors(tmp_path):
    """Write a finished posterior catalogue; its folder and its table."""
    from popcat.catalog.partitions import OutputFolder

    def writer(n=60, parts=3, name="posteriors", **options):
        sizes = [n // parts] * parts
        folder = OutputFolder.open(tmp_path / name, {"n": n, **options}, parts, kind="posteriors")
        tables = [posterior_table(size, first=size * k, **options) for k, size in enumerate(sizes)]
        for k, table in enumerate(tables):
            folder.write_part(k, table)
        folder.finish()
        return tmp_path / name, pa.concat_tables(tables)

    return writer

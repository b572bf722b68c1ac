"""A posterior catalogue of two quantities, finished, in parts."""

import numpy as np
import pyarrow as pa
import pytest
from catalogues import record

from popcat.catalog.draws import encode


def posterior_table(n, *, seed=0, n_draws=8, first=0) -> pa.Table:
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
    hole = {f"{name}_{part}" for name in draws for part in ("p16", "p50", "p84")}
    arrays = [pa.array(value, field.type, mask=missing if field.name in hole else None) for field, value in columns]
    for name, values in draws.items():
        columns.append((field(f"{name}_draws", pa.list_(pa.float32()), "dex", name), values))
        arrays.append(encode(values[~missing], np.flatnonzero(~missing), n))
    return pa.table(arrays, schema=pa.schema([field for field, _ in columns]))


@pytest.fixture
def posteriors(tmp_path):
    """Write a finished posterior catalogue; its folder and its table."""
    from popcat.catalog.parts import OutputFolder

    def writer(n=60, parts=3, name="posteriors", **options):
        sizes = [n // parts] * parts
        folder = OutputFolder.open(tmp_path / name, {"n": n, **options}, parts, kind="posteriors")
        tables = [posterior_table(size, first=size * k, **options) for k, size in enumerate(sizes)]
        for k, table in enumerate(tables):
            folder.write_part(k, table)
        folder.finish(record())
        return tmp_path / name, pa.concat_tables(tables)

    return writer

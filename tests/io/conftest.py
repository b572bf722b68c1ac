"""A small survey and catalogue, in every form that a file can have."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from popcat.survey import Band, Columns, Selection, Survey


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

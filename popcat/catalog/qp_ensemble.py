"""Redshift densities of a posterior catalogue as an ensemble that qp reads, and with it RAIL (LSST DESC).

The file is qp's own layout in HDF5, of its parameterization "interp": `meta` says what the densities are and at which
redshifts (xvals), `data` holds them (yvals), `ancil` columns beside them. Batches are appended, so memory does not grow
with the catalogue.
"""


import numpy as np
import pyarrow as pa

from popcat.catalog.draws import decode
from popcat.catalog.fits_table import most_letters
from popcat.catalog.photoz import density, estimates, redshift_grid
from popcat.catalog.queries import Catalog
from popcat.errors import PopcatError
from popcat.files import replacing
from popcat.galaxies import OBJECT_NAME
from popcat.paths import AnyPath

META = {"pdf_name": np.array([b"interp"]), "pdf_version": np.array([0])}
ANCIL = {"redshift_mode": "zmode", "redshift_mean": "zmean", "redshift_p50": "zmedian", "redshift_odds": "odds"}
"""Point estimates under the names that RAIL gives them."""
_CARRIED = ("object_id", OBJECT_NAME, "redshift", "flags", "clean")
_DRAWS = "redshift_draws"


def write_qp(catalog: Catalog, path: AnyPath, nodes: int) -> int:
    """Write the redshift densities of a catalogue's galaxies to an HDF5 file that is not there; their number.

    The densities are at so many `nodes` over the redshift range of the survey. A galaxy without a posterior has none,
    and no row. `ancil` has object_id, object_name where there are names, zmode, zmean, zmedian, odds, redshift (the one
    given to the inference; NaN where it was inferred), flags and clean.

    Raises PopcatError if the file is there, h5py is missing, or no galaxy has a posterior.
    """
    try:
        import h5py
    except ImportError as error:
        raise PopcatError("the qp export needs h5py: pip install 'popcat[qp]'") from error
    if path.exists():
        raise PopcatError(f"{path} is there already: name another file")
    grid = redshift_grid(nodes, catalog.survey.redshift_range)
    carried = [name for name in _CARRIED if name in catalog.columns]
    letters = max((most_letters(batch.column(0)) for batch in catalog.batches([OBJECT_NAME])), default=0) \
        if catalog.has_names else 0  # fmt: skip
    rows = 0
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        for name, values in {**META, "xvals": grid[None]}.items():
            file.create_dataset(f"meta/{name}", data=values)
        for batch in catalog.batches([*carried, _DRAWS]):
            datasets = _datasets(batch, grid, carried, max(letters, 1))
            for name, values in datasets.items():
                if name not in file:
                    file.create_dataset(name, data=values, maxshape=(None, *values.shape[1:]), chunks=True)
                    continue
                file[name].resize(rows + len(values), axis=0)
                file[name][rows:] = values
            rows += len(datasets["data/yvals"])
        if not rows:
            raise PopcatError(f"{catalog.path}: no galaxy has a posterior, so there are no redshift densities")
    return rows


def _datasets(batch: pa.RecordBatch, grid: np.ndarray, carried: list[str], letters: int) -> dict[str, np.ndarray]:
    """What a batch adds to each dataset of the file."""
    rows, draws = decode(batch.column(_DRAWS))
    points = estimates(draws, grid)
    columns = {name: batch.column(name).take(pa.array(rows)).to_numpy(zero_copy_only=False) for name in carried}
    if OBJECT_NAME in columns:
        columns[OBJECT_NAME] = np.char.encode(columns[OBJECT_NAME].astype(str), "utf-8").astype(f"S{letters}")
    columns |= {theirs: points[ours] for ours, theirs in ANCIL.items()}
    ancil = {f"ancil/{name}": values for name, values in columns.items()}
    return {"data/yvals": density(draws, grid).astype(np.float32), **ancil}

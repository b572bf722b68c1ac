"""Posterior catalogues published: in data lakes (HATS, Delta, Iceberg, plain Parquet ordered on the sky), or in a file.

The first export makes the published catalogue; a later one of another catalogue, or of one that has grown, to the same
folder adds the parts that are new, in one transaction. `_popcat_export.json` in the folder says which parts are in it.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from popcat.catalog.fits_table import write_fits
from popcat.catalog.lease import LEASE, alone
from popcat.catalog.parquet import read_parquet, require_written
from popcat.catalog.photoz import GRID_NODES
from popcat.catalog.qp_ensemble import write_qp
from popcat.catalog.queries import open_catalog
from popcat.catalog.sky import has_position, write_hats_metadata, write_pixels
from popcat.display import Displayed
from popcat.errors import PopcatError, did_you_mean
from popcat.files import read_json, write_json_atomic
from popcat.paths import AnyPath, local, output_path, path_of

RECORD = "_popcat_export.json"
OPENERS = {
    "hats": 'lsdb.open_catalog("{path}")', "delta": 'deltalake.DeltaTable("{path}")',
    "iceberg": 'popcat.catalog.export.iceberg_table("{path}")', "parquet": 'pandas.read_parquet("{path}/dataset")',
}  # fmt: skip
TABLE = "popcat.posteriors"
ONE_FILE = {"fits": (".fits", ".fit"), "qp": (".hdf5", ".h5")}
"""Formats of one file, with the ends of its name."""


@dataclass(frozen=True, repr=False)
class Exported(Displayed):
    """What an export did: galaxies added now, rows in all, files, how to open it, and how many galaxies are left out:
    those without a position, or without a posterior."""

    added: int
    rows: int
    without_position: int
    files: int
    open: str
    without_posterior: int = 0

    def _facts(self) -> dict[str, object]:
        found: dict[str, object] = {"galaxies": f"{self.added:,} added, {self.rows:,} in all, in {self.files:,} files"}
        if self.without_position:
            found["left out"] = f"{self.without_position:,} galaxies without a position"
        if self.without_posterior:
            found["without"] = f"{self.without_posterior:,} galaxies have no posterior, and no row"
        return found | {"open with": self.open}


def export(
    posteriors: str | Path, output: str | Path = "lake", *, to: str = "hats", sky: bool = False,
    rows_per_pixel: int = 50_000, name: str = "popcat", grid: int = GRID_NODES,
) -> Exported:  # fmt: skip
    """Publish a finished posterior catalogue in a folder, or add what is new of it.

    `to` is "hats", "delta", "iceberg", "parquet", "fits" or "qp". HATS and Parquet are files of HEALPix pixels of at
    most `rows_per_pixel` rows, sorted by the index `_healpix_29`; with `sky` so are the files of Delta and Iceberg,
    whose readers then skip most of them in a sky query. Galaxies without a position lie in no pixel and are counted.
    FITS is one table with draws as vector columns, as TOPCAT reads it. qp is the photometric redshifts alone: densities
    of redshift at `grid` redshifts over the survey's range, with point estimates, in an HDF5 file that qp and RAIL read
    (popcat.catalog.photoz). For these two `output` is the file, or the folder of it; it is written once.

    Raises PopcatError if the catalogue is not finished, the folder holds something else, galaxies of this catalogue
    are published there already from another one, or a library is missing.

    >>> export("posteriors", "delta", to="dleta")
    Traceback (most recent call last):
    ...
    popcat.errors.PopcatError: cannot export to "dleta"; did you mean "delta"...
    """
    if to in ONE_FILE:
        return _one_file(path_of(posteriors), output_path(output).absolute(), to, name, grid)
    if to not in OPENERS:
        raise PopcatError(f'cannot export to "{to}"; {did_you_mean(to, [*OPENERS, *ONE_FILE])}')
    source, output = local(posteriors).absolute(), local(output).absolute()
    parts = open_catalog(source).require_manifest().parts
    with alone(output / LEASE, output):
        record = _record(output, to, name)
        new = [part for part in parts if part.sha256 not in record["parts"]]
        files = [source / part.file for part in new]
        if files:
            require_written(source, new)
            if {part.sha256 for part in new} - set(record["pending"]):
                _check_new(output, files, record)
            record["pending"] = [part.sha256 for part in new]
            write_json_atomic(output / RECORD, record)  # an export that is cut off here can be done again
            written, lost = _write(output, files, to, sky, rows_per_pixel, record)
            PUBLISHERS[to](output, written, record, name=name, rows_per_pixel=rows_per_pixel)
            record["parts"] |= {part.sha256: part.rows for part in new}
            record["without_position"] += lost
            record["files"] = sorted({*record["files"], *(file.relative_to(output).as_posix() for file in written)})
            record["files"] = [file for file in record["files"] if (output / file).is_file()]
            record["pending"] = []
            write_json_atomic(output / RECORD, record)
    rows = sum(record["parts"].values()) - record["without_position"]
    return Exported(sum(part.rows for part in new), rows, record["without_position"], len(record["files"]),
                    OPENERS[to].format(path=output))  # fmt: skip


def _one_file(posteriors: AnyPath, output: AnyPath, to: str, name: str, grid: int) -> Exported:
    ends = ONE_FILE[to]
    file = output if output.suffix.lower() in ends else output / f"{name}{ends[0]}"
    catalog = open_catalog(posteriors)
    require_written(posteriors, catalog.require_manifest().parts)
    if to == "qp":
        rows = write_qp(catalog, file, grid)
        return Exported(rows, rows, 0, 1, f'qp.read("{file}")', len(catalog) - rows)
    rows = write_fits(catalog, file)
    return Exported(rows, rows, 0, 1, f'topcat {file}, or astropy.table.Table.read("{file}")')


def iceberg_table(path: str | Path):
    """The Iceberg table of a folder that `export` wrote, as a pyiceberg table."""
    return _iceberg_catalog(local(path).absolute()).load_table(TABLE)


def _record(output: Path, to: str, name: str) -> dict:
    file = output / RECORD
    if file.is_file():
        try:
            record = read_json(file)
            before = str(record["to"])
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise PopcatError(f"{file} is damaged ({error}): name a new folder") from error
        if before != to:
            raise PopcatError(f"{output} holds a catalogue exported to {before}, not {to}: name another folder")
        return record
    # what an export leaves that is killed while it writes its first record
    leftovers = [*output.glob(f".{Path(RECORD).stem}.*.tmp"), *output.glob(f".{Path(LEASE).stem}.*.tmp")]
    others = [item for item in output.iterdir() if item not in leftovers and LEASE not in item.name]
    if others:
        raise PopcatError(f"{output} is not empty and no export of popcat's: name a new or empty folder")
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    return {"to": to, "name": name, "version": 0, "parts": {}, "files": [], "without_position": 0,
            "pending": []}


def _check_new(output: Path, files: list[Path], record: dict):
    """Galaxies are identified by object_id: none may be published twice, and all columns must be those there."""
    schema = pq.read_schema(files[0])
    if record["files"]:
        there = pq.read_schema(output / record["files"][0])
        names = [field for field in there.names if field in schema.names or not field.startswith("_healpix")]
        if [name for name in names if not name.startswith("_healpix")] != schema.names:
            odd = sorted(set(names) ^ set(schema.names))
            raise PopcatError(f"{output}: the catalogue there has other columns ({', '.join(odd[:5])} ...): "
                              "it is of another survey or version; name another folder")
    ids = _ids(files)
    repeated = np.intersect1d(ids, _ids([output / file for file in record["files"]]))
    if repeated.size:
        raise PopcatError(f"{output} has {repeated.size} of these galaxies already, from another catalogue (first: "
                          f"{', '.join(map(str, repeated[:5]))}): leave them out, or export all to a new folder")


def _ids(files: list[Path]) -> np.ndarray:
    columns = [read_parquet(file, ["object_id"])["object_id"].to_numpy() for file in files]
    return np.concatenate([np.empty(0, np.int64), *columns])


def _write(output, files, to, sky, rows_per_pixel, record) -> tuple[list[Path], int]:
    """Files of the new rows in the output folder, and how many rows had no position."""
    if not (sky or to in ("hats", "parquet")):
        return [_placed(file, output / "data" / f"{record['version']:06d}-{file.name}") for file in files], 0
    folder = output / "dataset" if to in ("hats", "parquet") else output / "data" / f"{record['version']:06d}"
    counts = {"out": 0}
    folder.mkdir(parents=True, exist_ok=True)
    rows = sum(pq.read_metadata(file).num_rows for file in files)
    written = write_pixels(folder, _tables(files, counts), rows, rows_per_pixel=rows_per_pixel)
    return written, counts["out"]


def _tables(files: list[Path], counts: dict) -> Iterator[pa.Table]:
    for file in files:
        table = read_parquet(file)
        known = has_position(table["ra"].to_numpy(), table["dec"].to_numpy())
        counts["out"] += int((~known).sum())
        yield table


def _placed(file: Path, target: Path) -> Path:
    """A part in the output folder: the same file under a second name, or a copy on another file system."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)
    return target


def _publish_hats(output: Path, files: list[Path], record: dict, *, name: str, rows_per_pixel: int):
    write_hats_metadata(output, name=name, rows_per_pixel=rows_per_pixel)
    record["version"] += 1


def _publish_delta(output: Path, files: list[Path], record: dict, *, name: str, rows_per_pixel: int):
    """One commit adds all files. The application's own version makes a commit that was not recorded count once."""
    deltalake = _library("deltalake")
    from deltalake.transaction import AddAction, create_table_with_add_actions

    version = record["version"] + 1
    commit = deltalake.CommitProperties(app_transactions=[deltalake.Transaction("popcat", version)])
    actions = [AddAction(file.relative_to(output).as_posix(), file.stat().st_size, {},
                         int(file.stat().st_mtime * 1000), True, _delta_stats(file)) for file in files]  # fmt: skip
    schema = deltalake.Schema.from_arrow(pq.read_schema(files[0]))
    if not deltalake.DeltaTable.is_deltatable(str(output)):
        create_table_with_add_actions(str(output), schema, actions, name=name, commit_properties=commit)
    else:
        table = deltalake.DeltaTable(str(output))
        if (table.transaction_version("popcat") or 0) < version:
            table.create_write_transaction(actions, "append", schema, commit_properties=commit)
    record["version"] = version


def _delta_stats(file: Path) -> str:
    """Statistics of a file in Delta's form, by which readers skip it: counts, extremes and nulls of plain columns."""
    footer = pq.read_metadata(file)
    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for group in range(footer.num_row_groups):
        for index in range(footer.num_columns):
            column = footer.row_group(group).column(index)
            stats, path = column.statistics, column.path_in_schema
            if "." in path or stats is None or not stats.has_min_max:
                continue
            low[path] = min(stats.min, low.get(path, stats.min))
            high[path] = max(stats.max, high.get(path, stats.max))
            nulls[path] = nulls.get(path, 0) + stats.null_count
    values = {"numRecords": footer.num_rows, "minValues": low, "maxValues": high, "nullCount": nulls}
    return json.dumps(values)


def _publish_iceberg(output: Path, files: list[Path], record: dict, *, name: str, rows_per_pixel: int):
    """One snapshot adds all files; the schema carries description and unit as `doc`."""
    catalog = _iceberg_catalog(output)
    from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchTableError

    try:
        table = catalog.load_table(TABLE)
    except NoSuchTableError:
        with contextlib.suppress(NamespaceAlreadyExistsError):
            catalog.create_namespace(TABLE.split(".")[0])
        table = catalog.create_table(TABLE, schema=_documented(pq.read_schema(files[0])))
    there = set(table.inspect.files()["file_path"].to_pylist()) if table.current_snapshot() else set()
    table.add_files([f"file://{file}" for file in files if f"file://{file}" not in there])
    record["version"] += 1


def _iceberg_catalog(output: Path):
    _library("pyiceberg")
    from pyiceberg.catalog.sql import SqlCatalog

    return SqlCatalog("popcat", uri=f"sqlite:///{output / 'catalog.db'}", warehouse=f"file://{output}")


def _documented(schema: pa.Schema) -> pa.Schema:
    """Fields whose metadata hold pyiceberg's `doc`: the description and the unit."""
    fields = []
    for field in schema:
        text = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        unit = f" [{text['unit']}]" if text.get("unit") else ""
        fields.append(field.with_metadata({"doc": text.get("description", "") + unit}))
    return pa.schema(fields)


def _library(name: str):
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise PopcatError(f"this export needs {name}: pip install 'popcat[lake]'") from error


PUBLISHERS: dict[str, Callable] = {
    "hats": _publish_hats, "parquet": _publish_hats, "delta": _publish_delta, "iceberg": _publish_iceberg,
}  # fmt: skip

"""A catalogue ordered on the sky: rows as files of HEALPix pixels, in the layout of HATS (hats.readthedocs.io).

    dataset/Norder=K/Dir=D/Npix=P.parquet    rows of one pixel, sorted by _healpix_29
    dataset/_metadata, dataset/_common_metadata, partition_info.csv, hats.properties

A pixel holds at most a given number of rows; a fuller one is divided into its four children. New rows go to the pixels
they lie in: only those files are written anew, and the lists of files last.
"""

import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from popcat.catalog.parquet import read_parquet
from popcat.errors import PopcatError
from popcat.files import write_bytes_atomic, write_parquet_atomic

INDEX = "_healpix_29"
ORDER = 29
MAX_ORDER = 12
_FIELD = pa.field(INDEX, pa.int64(), metadata={"unit": "", "ucd": "pos.healpix",
                                                "description": "HEALPix index of order 29, nested, of ra and dec"})
_FLUSH_BYTES = 512_000_000


def healpix_index(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """HEALPix index of order 29, nested scheme, int64 (n,), of positions in degrees; -1 where there is none.

    Raises PopcatError if cdshealpix is not installed.
    """
    try:
        import astropy.units as u
        from astropy.coordinates import Latitude, Longitude
        from cdshealpix.nested import lonlat_to_healpix
    except ImportError as error:
        raise PopcatError(f"HEALPix indices need cdshealpix ({error}): pip install 'popcat[lake]'") from error
    known = has_position(ra, dec)
    index = np.full(len(ra), -1, dtype=np.int64)
    if known.any():
        lon, lat = Longitude(ra[known] * u.deg), Latitude(dec[known] * u.deg)
        index[known] = lonlat_to_healpix(lon, lat, depth=ORDER).astype(np.int64)
    return index


def has_position(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Whether ra and dec, in degrees, are a place on the sky: catalogues written by others also have 99 and -999."""
    return np.isfinite(ra) & (np.abs(dec) <= 90.0)


def with_index(table: pa.Table) -> pa.Table:
    """A table with the column _healpix_29 in front, sorted by it; rows without a position left out."""
    index = healpix_index(table["ra"].to_numpy(), table["dec"].to_numpy())
    table = table.add_column(0, _FIELD, pa.array(index)).filter(pa.array(index >= 0))
    return table.sort_by(INDEX)


def write_pixels(folder: Path, tables: Iterator[pa.Table], rows: int, *, rows_per_pixel: int) -> list[Path]:
    """Add rows to the files of a folder (`.../dataset`); the files that were written.

    `rows` is their number. They wait in files of coarse pixels until all are there; memory holds one such pixel, or
    half a gigabyte of `tables`. A galaxy that is there already, by object_id, is replaced.
    """
    waiting, order = folder.parent / ".waiting", _waiting_order(rows, rows_per_pixel)
    shutil.rmtree(waiting, ignore_errors=True)
    try:
        for number, table in enumerate(_gathered(tables)):
            _sort_into(waiting, table, order, number)
        written = []
        for bucket in sorted(waiting.glob("*")):
            new = pa.concat_tables(read_parquet(file) for file in sorted(bucket.glob("*.parquet")))
            written += _add(folder, order, int(bucket.name), new, rows_per_pixel)
        return written
    finally:
        shutil.rmtree(waiting, ignore_errors=True)


def _waiting_order(rows: int, rows_per_pixel: int) -> int:
    """Pixels that hold about as many rows as a file, if the catalogue covers a quarter of the sky.

    >>> _waiting_order(1_000, 50_000), _waiting_order(100_000_000, 50_000)
    (0, 5)
    """
    order = 0
    while order < MAX_ORDER and rows > 3 * 4**order * rows_per_pixel:
        order += 1
    return order


def _gathered(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of half a gigabyte, so that few files wait."""
    group, size = [], 0
    for table in tables:
        group.append(table)
        size += table.nbytes
        if size >= _FLUSH_BYTES:
            yield pa.concat_tables(group)
            group, size = [], 0
    if group:
        yield pa.concat_tables(group)


def _sort_into(waiting: Path, table: pa.Table, order: int, number: int):
    indexed = with_index(table)
    pixel = _pixel_of(indexed, order)
    for value in np.unique(pixel):
        bucket = waiting / str(value)
        bucket.mkdir(parents=True, exist_ok=True)
        chosen = indexed.filter(pa.array(pixel == value))
        pq.write_table(chosen, bucket / f"{number:06d}.parquet", compression="zstd")


def _add(folder: Path, order: int, pixel: int, rows: pa.Table, limit: int) -> list[Path]:
    """Add rows to a pixel: to its file, or to those of its parents or children, whichever there are."""
    for above in range(order, -1, -1):
        file = pixel_path(folder, above, pixel >> 2 * (order - above))
        if file.is_file():
            merged = _newest(pa.concat_tables([read_parquet(file), rows])).sort_by(INDEX)
            written = _write(folder, above, pixel >> 2 * (order - above), merged, limit)
            if file not in written:
                file.unlink()
            return written
    if not _has_children(folder, order, pixel):
        return _write(folder, order, pixel, rows.sort_by(INDEX), limit)
    return [file for child, part in _children(rows, order, pixel)
            for file in _add(folder, order + 1, child, part, limit)]


def _newest(rows: pa.Table) -> pa.Table:
    """The last row of every galaxy."""
    ids = rows["object_id"].to_numpy()[::-1]
    _, last = np.unique(ids, return_index=True)
    return rows if len(last) == len(ids) else rows.take(pa.array(np.sort(len(ids) - 1 - last)))


def _write(folder: Path, order: int, pixel: int, rows: pa.Table, limit: int) -> list[Path]:
    if len(rows) > limit and order < MAX_ORDER:
        return [file for child, part in _children(rows, order, pixel)
                for file in _write(folder, order + 1, child, part, limit)]
    file = pixel_path(folder, order, pixel)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_parquet_atomic(file, rows)
    return [file]


def _children(rows: pa.Table, order: int, pixel: int) -> Iterator[tuple[int, pa.Table]]:
    number = _pixel_of(rows, order + 1)
    for child in range(4 * pixel, 4 * pixel + 4):
        if np.any(number == child):
            yield child, rows.filter(pa.array(number == child))


def _has_children(folder: Path, order: int, pixel: int) -> bool:
    return any(number >> 2 * (deeper - order) == pixel for deeper, number in pixels(folder) if deeper > order)


def _pixel_of(rows: pa.Table, order: int) -> np.ndarray:
    return rows[INDEX].to_numpy() >> 2 * (ORDER - order)


def pixel_path(folder: Path, order: int, pixel: int) -> Path:
    """Where HATS keeps a pixel.

    >>> pixel_path(Path("dataset"), 7, 12345).as_posix()
    'dataset/Norder=7/Dir=10000/Npix=12345.parquet'
    """
    return folder / f"Norder={order}" / f"Dir={pixel // 10_000 * 10_000}" / f"Npix={pixel}.parquet"


def pixels(folder: Path) -> list[tuple[int, int]]:
    """Order and number of every pixel that has a file, in the order of the sky."""
    found = [(int(file.parts[-3].removeprefix("Norder=")), int(file.stem.removeprefix("Npix=")))
             for file in folder.glob("Norder=*/Dir=*/Npix=*.parquet")]
    return sorted(found, key=lambda pixel: (pixel[1] << 2 * (ORDER - pixel[0]), pixel[0]))


def write_hats_metadata(output: Path, *, name: str, rows_per_pixel: int) -> int:
    """Write what HATS readers look for beside the pixels; the number of rows."""
    dataset, found = output / "dataset", pixels(output / "dataset")
    footers = []
    for order, pixel in found:
        file = pixel_path(dataset, order, pixel)
        footer = pq.read_metadata(file)
        footer.set_file_path(file.relative_to(dataset).as_posix())
        footers.append(footer)
    schema = pq.read_schema(pixel_path(dataset, *found[0]))
    pq.write_metadata(schema, dataset / "_common_metadata")
    pq.write_metadata(schema, dataset / "_metadata", metadata_collector=footers)
    lines = ["Norder,Npix", *(f"{order},{pixel}" for order, pixel in found)]
    write_bytes_atomic(output / "partition_info.csv", ("\n".join(lines) + "\n").encode())
    rows = sum(footer.num_rows for footer in footers)
    text = "".join(f"{key}={value}\n" for key, value in _properties(name, rows, found, rows_per_pixel).items())
    for file in ("hats.properties", "properties"):
        write_bytes_atomic(output / file, text.encode())
    return rows


def _properties(name: str, rows: int, found: Sequence[tuple[int, int]], rows_per_pixel: int) -> dict:
    covered = sum(1.0 / (12 * 4**order) for order, _ in found)
    return {
        "obs_collection": name, "dataproduct_type": "object", "hats_nrows": rows, "hats_col_ra": "ra",
        "hats_col_dec": "dec", "hats_col_healpix": INDEX, "hats_col_healpix_order": ORDER,
        "hats_npix_suffix": ".parquet", "hats_max_rows": rows_per_pixel, "hats_order": max(order for order, _ in found),
        "moc_sky_fraction": f"{covered:.5f}",
        "hats_builder": "popcat", "hats_version": "v1.0",
        "hats_creation_date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M%Z"),
    }  # fmt: skip

"""Parquet catalogues as chunks."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from popcat.errors import PopcatError
from popcat.expressions import split_element
from popcat.io.astropy_metadata import mask_of, units_of
from popcat.io.chunks import Chunk, Field, spans
from popcat.paths import arrow_options, arrow_source

BATCH_ROWS = 65_536
_UNITS = (b"unit", b"units", b"Unit", b"UNIT")
"""Keys of the metadata of a column under which its unit stands."""


def plan(path: str, rows: int) -> list[Chunk]:
    """Chunks of at most `rows` rows, each with the row groups that hold it."""
    edges = _edges(pq.read_metadata(arrow_source(path)))
    chunks = []
    for start, stop in spans(int(edges[-1]), rows):
        first = int(np.searchsorted(edges, start, side="right")) - 1
        last = int(np.searchsorted(edges, stop, side="left"))
        chunks.append(Chunk(path, "parquet", start, stop, row_groups=tuple(range(first, last))))
    return chunks


def read(chunk: Chunk, columns: list[str]) -> pd.DataFrame:
    """Rows of a chunk."""
    with pq.ParquetFile(**arrow_options(chunk.path), page_checksum_verification=True) as file:
        schema = file.schema_arrow
        index = _range_index(schema)
        read = [name for name in columns if name not in index]
        stored = list(dict.fromkeys(one for vector, _ in _parts(read, schema).values()
                                    for one in (vector, mask_of(vector, schema)) if one))  # fmt: skip
        table = pa.Table.from_batches(list(_batches(file, chunk, stored)), None if stored else pa.schema([]))
        table = table.replace_schema_metadata(schema.metadata) if stored else table
    frame = frame_of_table(table, read) if read else pd.DataFrame(index=range(chunk.stop - chunk.start))
    rows = np.arange(chunk.start, chunk.stop)
    indices = {name: start + step * rows for name, (start, step) in index.items() if name in columns}
    return frame.assign(**indices)[columns] if indices else frame


def frame_of_table(table: pa.Table, columns: list[str]) -> pd.DataFrame:
    """Columns and elements of vector columns; integers with nulls keep all their digits, as a nullable type.

    What a column of masks, as astropy writes it, masks is null.
    """
    parts = _parts(columns, table.schema)
    arrays = {name: _element(table[vector], vector, element) for name, (vector, element) in parts.items()}
    for name, (vector, element) in parts.items():
        mask = mask_of(vector, table.schema)
        if mask is not None and not _is_vector(arrays[name].type):
            masked = pc.fill_null(_element(table[mask], mask, element), False)
            arrays[name] = pc.if_else(masked, pa.scalar(None, arrays[name].type), arrays[name])
    # Metadata left by pandas would make an index of object_id.
    return pd.DataFrame({name: _series(array) for name, array in arrays.items()})


def fields(path: str) -> dict[str, Field]:
    """Kind of each column, and its unit from the field metadata; an index that pandas has named is a column too."""
    schema = pq.read_schema(arrow_source(path))
    return {name: Field("integer") for name in _range_index(schema)} | fields_of_schema(schema)


def masks(path: str, columns: Iterable[str]) -> list[str]:
    """Columns that say where some are masked."""
    schema = pq.read_schema(arrow_source(path))
    return [mask for name in columns if (mask := mask_of(name, schema)) is not None]


def names(path: str) -> list[str]:
    """Names of all columns, also those that are there twice."""
    return list(pq.read_schema(arrow_source(path)).names)


def fields_of_schema(schema: pa.Schema) -> dict[str, Field]:
    """Kind of each column, and its unit from the field metadata, or from those of astropy."""
    units = units_of(schema)
    return {field.name: Field(_kind(field.type), _unit(field) or units.get(field.name), _element_kind(field.type))
            for field in schema}  # fmt: skip


def _range_index(schema: pa.Schema) -> dict[str, tuple[int, int]]:
    """First value and step of a named index of evenly spaced integers, which pandas writes as no column."""
    index = (schema.pandas_metadata or {}).get("index_columns", [])
    found = {one["name"]: (int(one["start"]), int(one["step"])) for one in index if isinstance(one, dict)}
    return {name: span for name, span in found.items() if name is not None and name not in schema.names}


def _parts(columns: list[str], schema: pa.Schema) -> dict[str, tuple[str, int | None]]:
    """The stored column of each name, and the element of it that is meant."""
    known = set(schema.names)
    return {name: (name, None) if name in known else split_element(name) for name in columns}


def _edges(metadata: pq.FileMetaData) -> np.ndarray:
    """First row of each row group, and the number of rows."""
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    return np.cumsum([0, *sizes])


def _batches(file, chunk, columns):
    """Slices of batches, not whole row groups: those often have a million rows, a chunk a few thousand."""
    row = int(_edges(file.metadata)[chunk.row_groups[0]])
    for batch in file.iter_batches(BATCH_ROWS, row_groups=list(chunk.row_groups), columns=columns):
        low, high = max(chunk.start - row, 0), min(chunk.stop - row, batch.num_rows)
        if low < high:
            yield batch.slice(low, high - low)
        row += batch.num_rows
        if row >= chunk.stop:
            return


def _element(column: pa.ChunkedArray, name: str, element: int | None) -> pa.ChunkedArray:
    if element is None:
        return column
    if not _is_vector(column.type):
        raise PopcatError(f'column "{name}" is {column.type}, no vector: leave out [{element}]')
    try:
        return pc.list_element(column, element)
    except pa.ArrowInvalid as error:
        raise PopcatError(f'column "{name}" has no element [{element}] in every row: {error}') from error


def _series(array: pa.ChunkedArray) -> pd.Series:
    if pa.types.is_null(array.type):
        return pd.Series(np.full(len(array), np.nan))
    array = array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array
    if pa.types.is_integer(array.type) and array.null_count:
        return array.cast(pa.int64()).to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return array.to_pandas()


def _is_vector(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _element_kind(kind: pa.DataType) -> str | None:
    return _kind(kind.value_type) if _is_vector(kind) else None


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        return _kind(kind.value_type)
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_null(kind):  # a column without a value, of which pandas does not know that it is numbers
        return "float"
    return "float" if pa.types.is_floating(kind) else str(kind)


def _unit(field: pa.Field) -> str | None:
    found = field.metadata or {}
    texts = [found[key].decode("utf-8", "replace").strip() for key in _UNITS if key in found]
    return next((text for text in texts if text), None)

"""Parquet catalogues as chunks."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from popcat.catalog.chunk import Chunk, Field, spans

BATCH_ROWS = 65_536


def plan(path: str, rows: int) -> list[Chunk]:
    """Chunks of at most `rows` rows, each with the row groups that hold it."""
    edges = _edges(pq.read_metadata(path))
    chunks = []
    for start, stop in spans(int(edges[-1]), rows):
        first = int(np.searchsorted(edges, start, side="right")) - 1
        last = int(np.searchsorted(edges, stop, side="left"))
        chunks.append(Chunk(path, "parquet", start, stop, row_groups=tuple(range(first, last))))
    return chunks


def read(chunk: Chunk, columns: list[str]) -> pd.DataFrame:
    """Rows of a chunk."""
    with pq.ParquetFile(chunk.path, page_checksum_verification=True) as file:
        table = pa.Table.from_batches(list(_batches(file, chunk, columns)))
    # Metadata left by pandas would make an index of object_id.
    return table.select(columns).to_pandas(ignore_metadata=True)


def fields(path: str) -> dict[str, Field]:
    """Kind of each column, and its unit from the field metadata."""
    return {field.name: Field(_kind(field.type), _unit(field)) for field in pq.read_schema(path)}


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


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "integer"
    return "float" if pa.types.is_floating(kind) else str(kind)


def _unit(field: pa.Field) -> str | None:
    return (field.metadata or {}).get(b"unit", b"").decode() or None

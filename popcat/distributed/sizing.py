"""How many galaxies a part holds: so many that a part is a good size, and every worker has some."""

from pathlib import Path

import pyarrow as pa

from popcat.catalog.chunk import Chunk
from popcat.catalog.readers import plan_chunks
from popcat.inference.posterior import embedded_posteriors

PART_BYTES = 2**26
"""64 MB of a part in memory: below a tenth of a small worker's memory, and tens of MB on disk."""
MIN_PARTS = 16
"""A small catalogue is cut finer, so that there is work for every core of one machine."""
MIN_ROWS = 500
_TEXT_BYTES = 16
_ALL = 2**62


def bytes_per_row(schema: pa.Schema, draws: int) -> int:
    """Bytes of a row in memory, lists as long as the number of draws.

    >>> bytes_per_row(pa.schema([("object_id", pa.int64()), ("x_draws", pa.list_(pa.float32()))]), 100)
    412
    """
    return sum(_width(field.type, draws) for field in schema)


def rows_per_part(schema: pa.Schema, draws: int, n: int) -> int:
    """Rows of a part of a catalogue of n galaxies: a function of the catalogue and the draws, not of the cluster.

    >>> schema = pa.schema([("x_draws", pa.list_(pa.float32()))])
    >>> [rows_per_part(schema, 10_000, n) for n in (10, 10_000, 10**6)]
    [500, 625, 1677]
    """
    fits = max(PART_BYTES // bytes_per_row(schema, draws), 1)
    return min(fits, max(-(-n // MIN_PARTS), MIN_ROWS))


def cut(source: str | Path, schema: pa.Schema, draws: int, rows: int | None) -> tuple[list[Chunk], int]:
    """The chunks of a catalogue and the rows of each, chosen where `rows` is None; PopcatError as `plan_chunks`."""
    if rows is None:
        whole = plan_chunks(source, rows_per_partition=_ALL)
        rows = rows_per_part(schema, draws, sum(chunk.stop - chunk.start for chunk in whole))
    return plan_chunks(source, rows_per_partition=rows), rows


def model_location(model: str | Path) -> str:
    """A model as workers find it: an embedded one's name, or an absolute path."""
    return str(model) if str(model) in embedded_posteriors() else str(Path(model).absolute())


def _width(kind: pa.DataType, draws: int) -> int:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return 4 + draws * _width(kind.value_type, draws)
    try:
        return max(kind.bit_width // 8, 1)
    except ValueError:
        return _TEXT_BYTES

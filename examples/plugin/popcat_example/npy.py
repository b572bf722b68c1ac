"""A catalogue format: structured arrays of numpy, in files whose names end in .npy."""

import numpy as np
import pandas as pd

from popcat.io.chunks import Chunk, Field, numpy_kind, spans


def plan(path: str, rows: int) -> list[Chunk]:
    """Chunks of at most so many rows, without a look at any row."""
    return [Chunk(path, "npy", start, stop) for start, stop in spans(len(_table(path)), rows)]


def read(chunk: Chunk, columns: list[str]) -> pd.DataFrame:
    """These columns of the rows of a chunk."""
    return pd.DataFrame(np.array(_table(chunk.path)[chunk.start : chunk.stop][columns]))


def fields(path: str) -> dict[str, Field]:
    """Kind of each column; a unit would be the second part of a Field."""
    table = _table(path)
    return {name: Field(numpy_kind(table.dtype[name])) for name in table.dtype.names}


def names(path: str) -> list[str]:
    """Names of all columns; twice what is there twice."""
    return list(_table(path).dtype.names)


def _table(path: str) -> np.ndarray:
    return np.load(path, mmap_mode="r", allow_pickle=False)

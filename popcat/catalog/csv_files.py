"""CSV catalogues as chunks: byte ranges, so that rows far down a file cost no more to read than the first."""

import io
from collections.abc import Iterator

import pandas as pd

from popcat.catalog.chunk import Chunk, Field, numpy_kind


def plan(path: str, rows: int) -> list[Chunk]:
    """Chunks of at most `rows` rows, each with its bytes."""
    with open(path, "rb") as file:
        ends = list(_record_ends(file))
    edges = [*ends[:-1:rows], ends[-1]] if len(ends) > 1 else []
    chunks = []
    for start, begin, end in zip(range(0, len(ends), rows), edges[:-1], edges[1:], strict=False):
        stop = min(start + rows, len(ends) - 1)
        chunks.append(Chunk(path, "csv", start, stop, byte_range=(begin, end)))
    return chunks


def read(chunk: Chunk, columns: list[str]) -> pd.DataFrame:
    """Rows of a chunk."""
    return _parse(chunk, usecols=columns)[columns]


def fields(path: str) -> dict[str, Field]:
    """Kind of each column in the first rows: a CSV file has no schema and no units."""
    frame = _parse(plan(path, 2500)[0])
    return {str(name): Field(numpy_kind(frame[name].dtype)) for name in frame}


def _record_ends(file) -> Iterator[int]:
    """The byte after the header and after each row that is not blank; a quoted field may span lines."""
    end, quotes, blank = 0, 0, True
    for line in file:
        end += len(line)
        quotes += line.count(b'"')
        blank = blank and not line.strip()
        if quotes % 2 == 0 and not blank:
            yield end
            blank = True
    if not blank:
        yield end


def _parse(chunk: Chunk, **options) -> pd.DataFrame:
    begin, end = chunk.byte_range
    with open(chunk.path, "rb") as file:
        header_end = next(_record_ends(file))
        file.seek(0)
        header = file.read(header_end)
        file.seek(begin)
        text = header + file.read(end - begin)
    # index_col: else a comma at the end of every row makes pandas shift all columns by one, silently.
    options |= {"index_col": False, "skipinitialspace": True}
    return pd.read_csv(io.BytesIO(text), **options)

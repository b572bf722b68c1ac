"""Reading a catalogue, in three steps: plan it and check it once, then read each chunk and convert it.

>>> from popcat.settings import load_survey
>>> survey = load_survey("sdss")
>>> chunks = plan_chunks("galaxies.parquet")  # doctest: +SKIP
>>> check_catalog("galaxies.parquet", survey, chunks)  # doctest: +SKIP
>>> frames = [to_photometry(read_chunk(chunk, catalog_columns(survey)), survey) for chunk in chunks]  # doctest: +SKIP
"""

from popcat.catalog.chunk import Chunk
from popcat.catalog.door import check_catalog
from popcat.catalog.photometry import catalog_columns, has_posterior, observed, status_of, to_photometry
from popcat.catalog.sources import plan_chunks, read_chunk

__all__ = [
    "Chunk", "catalog_columns", "check_catalog", "has_posterior", "observed", "plan_chunks", "read_chunk", "status_of",
    "to_photometry",
]

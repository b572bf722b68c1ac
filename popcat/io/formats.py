"""Which format a catalogue file has: by its name, and where a name says little (.txt, .cat, .dat) by its content."""

from pathlib import Path

from popcat.errors import PopcatError
from popcat.io.streams import head
from popcat.paths import AnyPath

SUFFIXES = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".ecsv": "csv", ".tsv": "csv",
    ".fits": "fits", ".fit": "fits", ".fz": "fits", ".vot": "votable", ".votable": "votable", ".xml": "votable",
}  # fmt: skip
TEXT_SUFFIXES = (".txt", ".cat", ".dat", ".tbl", ".mrt", ".ascii", ".asc", ".part")
"""Names that say nothing of the format: text of some kind, or FITS."""
COMPRESSED = (".gz", ".bz2")
READABLE = {"parquet": "Parquet", "csv": "CSV", "fits": "FITS", "votable": "VOTable", "ascii": "text table"}
"""Kinds of files as a message names them."""
_HEAD = 65_536


def kind_of(path: str | AnyPath) -> str:
    """The format of a file, a key of `READABLE`; PopcatError if its name is not one that popcat knows.

    >>> kind_of("a.fits.gz"), kind_of("b.CSV")
    ('fits', 'csv')
    """
    suffix = suffix_of(path)
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if suffix in TEXT_SUFFIXES:
        return _kind_of_content(head(path, _HEAD))
    known = ", ".join([*SUFFIXES, *TEXT_SUFFIXES])
    raise PopcatError(f"{path}: unknown format; expected a name that ends in {known}, or one of them with .gz or .bz2")


def suffix_of(path: str | AnyPath) -> str:
    """The suffix of a name in lower case, without that of a compression.

    >>> suffix_of("night.FITS.gz"), suffix_of("part.0")
    ('.fits', '.0')
    """
    name = Path(str(path)).name.lower()
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    return Path(name).suffix


def _kind_of_content(start: bytes) -> str:
    """The format that the first bytes of a file show.

    >>> _kind_of_content(b"SIMPLE  =   T"), _kind_of_content(b"id ra dec\\n"), _kind_of_content(b"| ra | dec |\\n")
    ('fits', 'csv', 'ascii')
    """
    text = start.lstrip()
    if start.startswith(b"SIMPLE  ="):
        return "fits"
    if start.startswith(b"PAR1"):
        return "parquet"
    if text.startswith((b"<?xml", b"<VOTABLE")):
        return "votable"
    return "ascii" if start.startswith((b"\\", b"|")) or b"Byte-by-byte Description" in start else "csv"

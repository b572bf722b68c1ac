"""Which format a catalogue file has: by its name, and where a name says little (.txt, .cat, .dat) by its content.

Formats beyond popcat's own are plugins, each by the ending of its files.
"""

from pathlib import Path

from popcat.errors import PopcatError
from popcat.io.streams import head
from popcat.paths import AnyPath
from popcat.plugins import PluginKind

SUFFIXES = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".ecsv": "csv", ".tsv": "csv",
    ".fits": "fits", ".fit": "fits", ".fz": "fits", ".vot": "votable", ".votable": "votable", ".xml": "votable",
}  # fmt: skip
TEXT_SUFFIXES = (".txt", ".cat", ".dat", ".tbl", ".mrt", ".ascii", ".asc", ".part")
"""Names that say nothing of the format: text of some kind, or FITS."""
COMPRESSED = (".gz", ".bz2")
READABLE = {"parquet": "Parquet", "csv": "CSV", "fits": "FITS", "votable": "VOTable", "ascii": "text table"}
"""Kinds of files as a message names them."""
PLUGINS = PluginKind(
    "popcat.catalogue_formats", "catalogue format",
    tuple(suffix.removeprefix(".") for suffix in (*SUFFIXES, *TEXT_SUFFIXES, *COMPRESSED)),
)  # fmt: skip
"""Formats of other packages, by the ending of their files without its dot: each a module as popcat.io.chunks has them,
with `plan`, `read`, `fields` and `names`."""
_HEAD = 65_536


def kind_of(path: str | AnyPath) -> str:
    """The format of a file, a key of `READABLE` or the name of a plugin; PopcatError if popcat knows no such ending.

    >>> kind_of("a.fits.gz"), kind_of("b.CSV")
    ('fits', 'csv')
    """
    suffix = suffix_of(path)
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if suffix in TEXT_SUFFIXES:
        return _kind_of_content(head(path, _HEAD))
    if suffix in (others := plugin_suffixes()):
        return suffix.removeprefix(".")
    known = ", ".join([*SUFFIXES, *TEXT_SUFFIXES, *others])
    raise PopcatError(f"{path}: unknown format; expected a name that ends in {known}, or one of them with .gz or .bz2")


def plugin_suffixes() -> list[str]:
    """Endings of the files that plugins read."""
    return [f".{name}" for name in PLUGINS.names()]


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

"""Which files a source names: a file, a table of a FITS file, a folder, a HATS catalogue, a glob, a list of these."""

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from popcat.catalog.manifest import is_output, read_manifest
from popcat.display import listed
from popcat.errors import PopcatError
from popcat.io.formats import READABLE, SUFFIXES, kind_of, suffix_of

Source = str | Path | Sequence[str | Path]
"""A file, a folder, a glob such as "night*.fits", "night.fits[2]" for an HDU, or a list of these."""

_HATS = ("hats.properties", "properties")
_FOLDER_SUFFIXES = (*(suffix for suffix in SUFFIXES if suffix != ".xml"), ".part")
"""What is taken for a catalogue where only its folder is named: .txt and the like are often notes."""
_MAX_NAMED = 5


class Named(NamedTuple):
    """A file, and the table of it that is asked for by name or number of the HDU."""

    path: Path
    table: str | None = None


def label_of(source: Source) -> str:
    """A source's name in a message.

    >>> label_of("a.csv"), label_of(["a.csv", "b.csv", "c.csv"])
    ('a.csv', 'a.csv and 2 more')
    """
    if isinstance(source, str | Path):
        return str(source)
    first, *others = map(str, source)
    return f"{first} and {len(others)} more" if others else first


def files_of(source: Source) -> list[Named]:
    """The files that a source names, absolute, those of a glob or a folder in the order of their names.

    Raises PopcatError if there is none, or a folder holds files of several formats, or an output that is not finished.
    """
    return [Named(file, table) for path, table in _paths(source) for file in _in_path(path)]


def left_out(source: Source) -> list[str]:
    """A line for each folder of a source in which tables of another format lie beside those that are read."""
    lines = []
    for path, _ in _paths(source):
        if not path.is_dir() or _is_hats(path):
            continue
        others = sorted(set(_tables_in(path)) - set(_in_path(path)))
        if others:
            names = listed([str(file.relative_to(path)) for file in others], _MAX_NAMED)
            lines.append(f"{path}: {names} left out, because only files of one format are read of a folder; "
                         "name them too if they belong to the catalogue")  # fmt: skip
    return lines


def partition_values(path: str | Path) -> dict[str, int | float | str | None]:
    """Columns that stand in the names of a file's folders (Hive), not in the file.

    >>> partition_values("sky/tile=12/field=A%20B/0.parquet")
    {'tile': 12, 'field': 'A B'}
    """
    found: dict[str, int | float | str | None] = {}
    for folder in Path(path).parents:
        if not (match := re.fullmatch(r"([A-Za-z_]\w*)=(.*)", folder.name)):
            break
        found = {match[1]: _value(unquote(match[2])), **found}
    return found


def _value(text: str) -> int | float | str | None:
    if text == "__HIVE_DEFAULT_PARTITION__":
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _paths(source: Source) -> list[Named]:
    """The paths that a source names, absolute; PopcatError for a glob or a list of nothing."""
    if not isinstance(source, str | Path):
        found = [path for one in source for path in _paths(one)]
    elif re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(source)):
        raise PopcatError(f"{source}: popcat reads files of this machine alone, no addresses yet; "
                          "copy the catalogue here first, or mount it")
    else:
        found = _path(Path(source).expanduser())
    if not found:
        raise PopcatError(f"no catalogue matches {source}: expected the names of files, or a glob of some")
    return found


def _path(path: Path) -> list[Named]:
    if path.exists():
        return [Named(path.absolute())]
    match = re.fullmatch(r"(.+)\[([^\[\]]+)\]", str(path))
    if match and SUFFIXES.get(suffix_of(match[1])) == "fits":
        return [Named(file, match[2]) for file, _ in _path(Path(match[1]))]
    if not glob.has_magic(str(path)):
        return [Named(path.absolute())]
    return [Named(Path(file).absolute()) for file in sorted(glob.glob(str(path), recursive=True))]


def _in_path(path: Path) -> list[Path]:
    if not path.exists():
        raise PopcatError(f"no catalogue {path}: expected a file, a folder of catalogue files, or a HATS catalogue")
    if path.is_file():
        return [path]
    if is_output(path):
        read_manifest(path)  # an unfinished output would lose galaxies silently
    if _is_hats(path):
        return _hats_files(path / "dataset")
    of_kind: dict[str, list[Path]] = {}
    for file in _tables_in(path):
        of_kind.setdefault(kind_of(file), []).append(file)
    if not of_kind:
        raise PopcatError(f"{path} holds no Parquet, CSV, FITS or VOTable file: expected *.parquet or the like in it")
    if len(of_kind) > 1 and "parquet" not in of_kind:
        listing = ", ".join(f"{len(files)} {READABLE[kind]}" for kind, files in of_kind.items())
        raise PopcatError(f"{path} holds files of several formats ({listing}): name those that are meant, such as "
                          f"{path / ('*' + next(iter(of_kind.values()))[0].suffix)}")
    return of_kind.get("parquet") or next(iter(of_kind.values()))


def _tables_in(folder: Path) -> list[Path]:
    """The files of a folder, and of the folders in it, that are tables by their names; none that is hidden."""
    files = (file for file in folder.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(folder)))
    return sorted(file for file in files if suffix_of(file) in _FOLDER_SUFFIXES)


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(("_", ".")) for part in relative.parts)


def _is_hats(path: Path) -> bool:
    return any((path / name).is_file() for name in _HATS) and (path / "dataset").is_dir()


def _hats_files(dataset: Path) -> list[Path]:
    """The pixels of a HATS catalogue, by order and number: beside them lie thumbnails and metadata."""
    files = [file for file in dataset.glob("Norder=*/Dir=*/Npix=*/*") if _is_pixel(file.relative_to(dataset))]
    files += dataset.glob("Norder=*/Dir=*/Npix=*.parquet")
    if not files:
        raise PopcatError(f"{dataset.parent} says that it is a HATS catalogue, but holds no "
                          "dataset/Norder=*/Dir=*/Npix=*.parquet; copy it again")
    return sorted(files, key=lambda file: [int(number) for number in re.findall(r"=(\d+)", str(file))] + [str(file)])


def _is_pixel(relative: Path) -> bool:
    return SUFFIXES.get(relative.suffix.lower()) == "parquet" and not _is_hidden(relative)

"""Which files a source names: a file, a table of a FITS file, a folder, a HATS catalogue, a glob, a list of these."""

import glob
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple
from urllib.parse import unquote

from popcat.catalog.manifest import is_output, read_manifest
from popcat.display import listed
from popcat.errors import PopcatError
from popcat.io.dialects import holds_rows
from popcat.io.formats import READABLE, SUFFIXES, TEXT_SUFFIXES, kind_of, plugin_suffixes, suffix_of
from popcat.paths import AnyPath, below, path_of
from popcat.stores import StorePath

Source = str | Path | Sequence[str | Path]
"""A file, a folder, a glob such as "night*.fits", "night.fits[2]" for an HDU, or a list of these; each may be a URL."""

_HATS = ("hats.properties", "properties")
_FOLDER_SUFFIXES = (*(suffix for suffix in SUFFIXES if suffix != ".xml"), ".part")
"""What is taken for a catalogue where only its folder is named: .txt and the like are often notes."""
_MAX_NAMED = 5


class Named(NamedTuple):
    """A file, and the table of it that is asked for by name or number of the HDU."""

    path: AnyPath
    table: str | None = None


def label_of(source: Source) -> str:
    """A source's name in a message.

    >>> label_of("a.csv"), label_of(["a.csv", "b.csv", "c.csv"])
    ('a.csv', 'a.csv and 2 more')
    """
    if isinstance(source, str | Path) or not isinstance(source, Iterable):
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
        for found, why in ((others, "because only files of one format are read of a folder"),
                           (_texts_in(path), "because of a folder no files of such names are read"),
                           (_linked_folders_in(path), "because links to folders are not followed")):  # fmt: skip
            if found:
                names = listed([str(below(file, path)) for file in found], _MAX_NAMED)
                lines.append(f"{path}: {names} left out, {why}; name them too if they belong to the catalogue")
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
    if not isinstance(source, str | os.PathLike | StorePath):
        found = [path for one in _listed_paths(source) for path in _paths(one)]
    else:
        found = _path(path_of(source).expanduser())
    if not found:
        raise PopcatError(f"no catalogue matches {source}: expected the names of files, or a glob of some")
    return found


def _listed_paths(source: Any) -> list[Any]:
    """What a list holds; PopcatError where that is no paths, or it is no list."""
    is_list = isinstance(source, Iterable) and not isinstance(source, Mapping) and not hasattr(source, "columns")
    found = list(source) if is_list else []
    wrong = [type(one).__name__ for one in found if not isinstance(one, str | os.PathLike | StorePath | Sequence)]
    if wrong or not is_list:
        got = f"a {type(source).__name__} of {wrong[0]}" if wrong else type(source).__name__
        raise PopcatError(f"source: expected a path, a glob or a list of paths, got {got}; popcat.infer also takes a "
                          "table in memory, such as pandas.DataFrame(rows)")
    return found


def _path(path: AnyPath) -> list[Named]:
    if path.exists():
        return [Named(path.absolute())]
    match = re.fullmatch(r"(.+)\[([^\[\]]+)\]", str(path))
    if match and SUFFIXES.get(suffix_of(match[1])) == "fits":
        return [Named(file, match[2]) for file, _ in _path(path_of(match[1]))]
    if not glob.has_magic(str(path)):
        return [Named(path.absolute())]
    if isinstance(path, StorePath):
        return [Named(file) for file in sorted(path.matches())]
    return [Named(Path(file).absolute()) for file in sorted(glob.glob(str(path), recursive=True))]


def _in_path(path: AnyPath) -> list[AnyPath]:
    if not path.exists():
        raise PopcatError(f"no catalogue {path}: expected a file, a folder of catalogue files, or a HATS catalogue")
    if path.is_file():
        return [path]
    if is_output(path):
        read_manifest(path)  # an unfinished output would lose galaxies silently
    if _is_hats(path):
        return _hats_files(path / "dataset")
    of_kind: dict[str, list[AnyPath]] = {}
    for file in _tables_in(path):
        of_kind.setdefault(kind_of(file), []).append(file)
    if not of_kind:
        raise PopcatError(f"{path} holds no Parquet, CSV, FITS or VOTable file: expected *.parquet or the like in it")
    if len(of_kind) > 1 and "parquet" not in of_kind:
        listing = ", ".join(f"{len(files)} {READABLE.get(kind, kind)}" for kind, files in of_kind.items())
        raise PopcatError(f"{path} holds files of several formats ({listing}): name those that are meant, such as "
                          f"{path / ('*' + next(iter(of_kind.values()))[0].suffix)}")
    return of_kind.get("parquet") or next(iter(of_kind.values()))


def _tables_in(folder: AnyPath) -> list[AnyPath]:
    """The files of a folder, and of the folders in it, that are tables by their names; none that is hidden.

    Raises PopcatError for a link to a file that is not there: its galaxies would be lost silently.
    """
    tables = (*_FOLDER_SUFFIXES, *plugin_suffixes())
    named = [file for file in _shown_in(folder) if suffix_of(file) in (*tables, *TEXT_SUFFIXES, ".xml")]
    dangling = sorted(file for file in named if file.is_symlink() and not file.exists())
    if dangling:
        raise PopcatError(f"{listed(list(map(str, dangling)), _MAX_NAMED)}: expected a file, got a link to "
                          f"{os.readlink(str(dangling[0]))}, which is not there; correct the link, or remove it")
    return sorted(file for file in named if file.is_file() and suffix_of(file) in tables)


def _texts_in(folder: AnyPath) -> list[AnyPath]:
    """Files of a folder that are tables by their content alone: notes have the same names."""
    suffixes = {*TEXT_SUFFIXES, ".xml"} - set(_FOLDER_SUFFIXES)
    return sorted(file for file in _shown_in(folder)
                  if suffix_of(file) in suffixes and file.is_file() and _holds_table(file))  # fmt: skip


def _holds_table(file: AnyPath) -> bool:
    """Whether the content of a file is a table, as far as its beginning shows."""
    try:
        return file.stat().st_size > 0 and (kind_of(file) not in ("csv", "votable") or holds_rows(str(file)))
    except (OSError, EOFError, ValueError, zlib.error):
        return True  # damaged, and so rather named than not


def _linked_folders_in(folder: AnyPath) -> list[AnyPath]:
    """Links to folders, in which catalogue files may be."""
    links = (file for file in _shown_in(folder) if file.is_symlink() and file.is_dir())
    return sorted(link for link in links if any(suffix_of(file) in _FOLDER_SUFFIXES for file in link.iterdir()))


def _shown_in(folder: AnyPath) -> Iterator[AnyPath]:
    return (file for file in folder.rglob("*") if not _is_hidden(below(file, folder)))


def _is_hidden(relative: PurePath) -> bool:
    return any(part.startswith(("_", ".")) for part in relative.parts)


def _is_hats(path: AnyPath) -> bool:
    return any((path / name).is_file() for name in _HATS) and (path / "dataset").is_dir()


def _hats_files(dataset: AnyPath) -> list[AnyPath]:
    """The pixels of a HATS catalogue, by order and number: beside them lie thumbnails and metadata."""
    files = [file for file in dataset.glob("Norder=*/Dir=*/Npix=*/*") if _is_pixel(below(file, dataset))]
    files += dataset.glob("Norder=*/Dir=*/Npix=*.parquet")
    if not files:
        raise PopcatError(f"{dataset.parent} says that it is a HATS catalogue, but holds no "
                          "dataset/Norder=*/Dir=*/Npix=*.parquet; copy it again")
    return sorted(files, key=lambda file: [int(number) for number in re.findall(r"=(\d+)", str(file))] + [str(file)])


def _is_pixel(relative: PurePath) -> bool:
    return SUFFIXES.get(relative.suffix.lower()) == "parquet" and not _is_hidden(relative)

"""Plugins: what installed packages add to popcat by entry points, read when something of an unknown name is asked for.

A package names them in its pyproject.toml; docs/plugins.md says what each kind must be.

    [project.entry-points."popcat.ssp_engines"]
    my_stars = "my_package.stars:build"
"""

import sys
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import Any

from popcat.errors import PopcatError


@dataclass(frozen=True)
class PluginKind:
    """One group of entry points.

    group : its name. what : one of them in a message. built_in : names that are popcat's own, which no plugin may have.
    """

    group: str
    what: str
    built_in: tuple[str, ...]

    def names(self) -> list[str]:
        """Names of the plugins that are installed; nothing of them is imported.

        Raises PopcatError if two of them, or one and popcat, have the same name: which is meant cannot be said.

        >>> PluginKind("popcat.none_of_these", "nothing", ()).names()
        []
        """
        entries = _entries(self.group, tuple(sys.path))
        found = [entry.name for entry in entries]
        if clash := next((name for name, times in Counter((*found, *self.built_in)).items() if times > 1), None):
            owners = [_package(entry) for entry in entries if entry.name == clash]
            others = ["popcat itself"] if clash in self.built_in else []
            raise PopcatError(f'{self.what} "{clash}": expected one of this name, got that of '
                              f"{' and that of '.join([*owners, *others])}; uninstall {owners[-1].split()[0]}")
        return sorted(found)

    def load(self, name: str) -> Any:
        """What the plugin of this name, which is one of `names`, is; PopcatError with the plugin's name if it cannot
        be imported."""
        entry = self._entry(name)
        try:
            return entry.load()
        except Exception as error:
            raise self.broken(name, f"cannot be imported: {type(error).__name__}: {error}") from error

    def broken(self, name: str, why: str) -> PopcatError:
        """The error of a plugin that does not do what it should."""
        entry, line = self._entry(name), " ".join(why.split())
        return PopcatError(f'{self.what} "{name}" of {_package(entry)} ({entry.value}) {line}; update that package, or '
                           "tell its authors")  # fmt: skip

    def label(self, name: str) -> str:
        """Name, package and version of a plugin, as a record of what was made with it has them."""
        return f"{name} ({_package(self._entry(name))})"

    def _entry(self, name: str) -> metadata.EntryPoint:
        return next(entry for entry in _entries(self.group, tuple(sys.path)) if entry.name == name)


@lru_cache(maxsize=16)
def _entries(group: str, search_path: tuple[str, ...]) -> tuple[metadata.EntryPoint, ...]:
    """Entry points of a group: they are read from the disk once, for as long as Python looks in the same folders."""
    return tuple(metadata.entry_points(group=group))


def _package(entry: metadata.EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown package"

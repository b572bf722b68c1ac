"""Where what can be built again is kept: popcat's cache folder, and folders for libraries that find none themselves.

Light to import: `import popcat` runs it, in every process.
"""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path


def cache_folder() -> Path:
    """Where what can be built again is kept: $POPCAT_CACHE, else popcat in $XDG_CACHE_HOME, else ~/.cache/popcat.

    A variable that is empty counts as not set.
    """
    named = os.environ.get("POPCAT_CACHE")
    return Path(named) if named else _user_cache() / "popcat"


def place_caches(package: Path) -> None:
    """Name numba and matplotlib a folder where they would find none: numba then refuses to start, matplotlib warns.

    numba keeps compiled kernels beside the modules of `package`, else in the user's cache. Where neither can be
    written, as in containers and in the module trees of a site, they go to popcat's cache folder, else to a folder of
    this user in the one for temporary files. A variable that is set stays as it is.
    """
    if not (_in_tree(package) or can_be_made(_user_cache() / "numba")):
        _place("NUMBA_CACHE_DIR", "numba")
        if "numba" in sys.modules:  # it has read the variable already
            sys.modules["numba"].config.CACHE_DIR = os.environ.get("NUMBA_CACHE_DIR", "")
    if not can_be_made(_of_user("XDG_CONFIG_HOME", ".config") / "matplotlib"):
        _place("MPLCONFIGDIR", "matplotlib")


def _place(variable: str, library: str) -> None:
    """Set a variable, if it is not set, to the first folder that is this user's alone."""
    if not os.environ.get(variable):
        folder = next((one / library for one in _candidates() if _is_private(one / library)), None)
        if folder is not None:
            os.environ[variable] = str(folder)


def _candidates() -> Iterator[Path]:
    """Folders for the caches of libraries, best first."""
    yield cache_folder()
    import tempfile

    try:
        own = Path(tempfile.gettempdir()) / f"popcat-{os.geteuid()}"
    except OSError:  # no folder for temporary files
        return
    if _is_private(own):
        yield own


def _user_cache() -> Path:
    return _of_user("XDG_CACHE_HOME", ".cache")


def _of_user(variable: str, name: str) -> Path:
    """The folder that a variable names, else `name` in the user's home."""
    named = os.environ.get(variable)
    try:
        return Path(named) if named else Path.home() / name
    except RuntimeError:  # an account without a home, as containers run under
        return Path(os.sep, "nonexistent", name)


def _in_tree(package: Path) -> bool:
    """Whether kernels can be kept beside every module of the package."""
    folders = [package, *(file.parent for file in package.glob("*/__init__.py"))]
    return all(can_be_made(folder / "__pycache__") for folder in folders)


def can_be_made(folder: Path) -> bool:
    """Whether a folder can be written, or made so; nothing is made.

    >>> can_be_made(Path(__file__) / "below a file")
    False
    """
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    except OSError:  # a folder that may not be looked into
        return False


def _is_private(folder: Path) -> bool:
    """Whether a folder is this user's alone, and can be written; it is made. numba runs what it finds in it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
        return is_own and os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        return False

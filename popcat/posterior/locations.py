"""Where trained posteriors are: embedded ones by name, all others by folder."""

import hashlib
from importlib.resources import files
from pathlib import Path

from popcat.caches import cache_folder
from popcat.errors import PopcatError, did_you_mean
from popcat.files import folder_atomic
from popcat.paths import AnyPath, below, path_of
from popcat.prior import FLAT
from popcat.stores import StoreError, StorePath

DESCRIPTION = "posterior.json"
"""The file that makes a folder a posterior."""


def embedded_posteriors() -> list[str]:
    """Names of the posteriors that popcat carries."""
    folder = files("popcat") / "data" / "models"
    return sorted(item.name for item in folder.iterdir()) if folder.is_dir() else []


def posterior_folder(posterior: "str | Path") -> Path:
    """The folder of a posterior: a path, or the name of an embedded one; PopcatError if there is none."""
    if str(posterior) in embedded_posteriors():
        return Path(str(files("popcat") / "data" / "models" / str(posterior)))
    folder = path_of(posterior)
    if isinstance(folder, StorePath):
        folder = _fetched(folder)
    if not (folder / DESCRIPTION).is_file():
        raise PopcatError(
            f'no posterior "{posterior}": expected a folder that `popcat train` wrote (it holds {DESCRIPTION}) or an '
            f"embedded name; {did_you_mean(str(posterior), embedded_posteriors())}"
        )
    return folder


def _fetched(there: StorePath) -> Path:
    """A copy in the cache folder of what is in a store now; it is made once."""
    found = sorted(there.rglob("*"))
    said = [f"{one} {one.listed}" for one in found]
    folder = cache_folder() / f"posterior-{hashlib.sha256(repr(said).encode()).hexdigest()[:32]}"
    if not folder.is_dir():
        try:
            with folder_atomic(folder) as building:
                for one in found:
                    if ".." in (name := below(one, there)).parts:
                        raise PopcatError(f"{one}: expected no name with .. in a posterior's folder")
                    target = building / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(one.read_bytes())
        except StoreError:
            raise
        except OSError as error:
            raise PopcatError(f"cannot copy {there} into the cache folder {folder.parent}: {error}; POPCAT_CACHE names "
                              "another folder") from error
    return folder


def calibration_folder(folder: "str | AnyPath", prior: str) -> AnyPath:
    """Where, in a posterior's folder, its calibration under one of its priors is kept."""
    return path_of(folder) / ("calibration" if prior == FLAT else f"calibration-{prior}")


def posterior_location(posterior: "str | Path") -> str:
    """A posterior as workers find it: an embedded one's name, or an absolute path."""
    return str(posterior) if str(posterior) in embedded_posteriors() else str(path_of(posterior).absolute())

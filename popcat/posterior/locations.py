"""Where trained posteriors are: embedded ones by name, all others by folder."""

from importlib.resources import files
from pathlib import Path

from popcat.errors import PopcatError, did_you_mean
from popcat.paths import local
from popcat.prior import FLAT

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
    if not (local(posterior) / DESCRIPTION).is_file():
        raise PopcatError(
            f'no posterior "{posterior}": expected a folder that `popcat train` wrote (it holds {DESCRIPTION}) or an '
            f"embedded name; {did_you_mean(str(posterior), embedded_posteriors())}"
        )
    return Path(posterior)


def calibration_folder(folder: "str | Path", prior: str) -> Path:
    """Where, in a posterior's folder, its calibration under one of its priors is kept."""
    return Path(folder) / ("calibration" if prior == FLAT else f"calibration-{prior}")


def posterior_location(posterior: "str | Path") -> str:
    """A posterior as workers find it: an embedded one's name, or an absolute path."""
    return str(posterior) if str(posterior) in embedded_posteriors() else str(Path(posterior).absolute())

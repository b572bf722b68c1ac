"""Files that other installed packages hold."""

import importlib.util
from pathlib import Path

from popcat.errors import PopcatError


def package_folder(package: str, missing: str) -> Path:
    """Folder of an installed package, which is not imported.

    Raises PopcatError with the text `missing` if it is not installed.

    >>> package_folder("numpy", "pip install numpy").name
    'numpy'
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise PopcatError(missing)
    return Path(spec.origin).parent

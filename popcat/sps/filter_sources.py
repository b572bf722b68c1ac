"""Where filter curves come from: files, and the collections of the packages speclite and sedpy.

Files are two columns of text (Angstrom, response to photons), as sedpy and the SVO Filter Profile Service write them,
or tables with named columns and units: the VOTables of the SVO, the ECSV of speclite.
"""

import difflib
import warnings
from functools import cache
from pathlib import Path

import numpy as np

from popcat.errors import PopcatError
from popcat.installed import package_folder

_TABLES = (".xml", ".vot", ".votable", ".ecsv")


def read_filter(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Wavelength in Angstrom and response to photons, as tabulated: of a file, or of a speclite or sedpy name.

    Raises PopcatError if there is no such filter, with the closest names of both collections, or the file holds none.

    >>> wave, response = read_filter("sdss2010-r")
    >>> float(wave[response.argmax()])
    6380.0
    """
    path = Path(name)
    if path.is_file():
        return _from_table(path) if path.suffix.lower() in _TABLES else _from_text(path)
    if name in speclite_filters():
        import speclite.filters

        curve = speclite.filters.load_filter(name)
        return curve.wavelength, curve.response
    if name in sedpy_filters():
        return _from_text(_sedpy_folder() / f"{name}.par")
    raise PopcatError(
        f'unknown filter "{name}": expected a file or a name; {_closest("speclite", name, speclite_filters())}; '
        f"{_closest('sedpy', name, sedpy_filters())}"
    )


@cache
def speclite_filters() -> tuple[str, ...]:
    """Names of the filters that speclite carries, such as "sdss2010-r"."""
    folder = _package_folder("speclite") / "data" / "filters"
    return tuple(sorted(path.stem for path in folder.glob("*.ecsv")))


@cache
def sedpy_filters() -> tuple[str, ...]:
    """Names of the filters that sedpy carries, such as "vista_vircam_Ks"."""
    return tuple(sorted(path.stem for path in _sedpy_folder().glob("*.par")))


def _sedpy_folder() -> Path:
    """sedpy's code is not imported: it reads its reference spectra when it is."""
    return _package_folder("sedpy") / "data" / "filters"


def _package_folder(package: str) -> Path:
    missing = f"the package {package}, which holds filter curves, is not installed: reinstall popcat"
    return package_folder(package, missing)


def _closest(collection: str, name: str, names: tuple[str, ...]) -> str:
    lower = {choice.lower(): choice for choice in names}
    close = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
    shown = ", ".join(f'"{lower[choice]}"' for choice in close) or f'none like it, but "{names[0]}" and others'
    return f"{collection} ({len(names)} filters) has {shown}"


def _from_text(path: Path):
    try:
        table = np.loadtxt(path, comments="#", ndmin=2)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise PopcatError(f"filter file {path}: expected two columns (Angstrom, response): {error}") from error
    if table.shape[1] < 2:
        raise PopcatError(f"filter file {path}: expected two columns (Angstrom, response), got {table.shape[1]}")
    return table[:, 0], table[:, 1]


def _from_table(path: Path):
    """The first two columns, wavelengths by their unit; a response to energy is brought to one to photons."""
    from astropy import units

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the SVO's files stretch the standard
            table, parameters = _read_table(path)
        unit = table.columns[0].unit or units.AA
        wave_aa = units.Quantity(np.asarray(table.columns[0], dtype=float), unit).to_value(units.AA)
        response = np.asarray(table.columns[1], dtype=float)
    except (OSError, ValueError, IndexError, TypeError) as error:
        raise PopcatError(f"filter file {path}: expected a table of wavelength and response: {error}") from error
    counts_energy = parameters.get("DetectorType") == "0"
    return wave_aa, response / wave_aa if counts_energy else response


def _read_table(path: Path):
    """The table of a file, and the parameters by name that a VOTable has."""
    from astropy.io import votable
    from astropy.table import Table

    if path.suffix.lower() == ".ecsv":
        return Table.read(path, format="ascii.ecsv"), {}
    found = votable.parse_single_table(path, verify="ignore")
    return found.to_table(), {parameter.name: str(parameter.value).strip() for parameter in found.params}

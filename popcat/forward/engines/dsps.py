"""Grids in the HDF5 layout of DSPS (Hearin et al. 2023): ssp_lgmet, ssp_lg_age_gyr, ssp_wave, ssp_flux."""

from pathlib import Path

import numpy as np

from popcat.errors import PopcatError
from popcat.forward.grid import SSPGrid
from popcat.units import C_AA_S

_KEYS = ("ssp_lgmet", "ssp_lg_age_gyr", "ssp_wave", "ssp_flux")
_LOG_Z_MAX = -0.7
"""Absolute metallicities end at 0.06; a larger maximum means that the file is relative to the Sun."""


def read_dsps(path: "str | Path | None" = None, *, mstar: "np.ndarray | None" = None) -> SSPGrid:
    """A grid from a file of DSPS: log10 Z (absolute), log10 age / Gyr, Angstrom (vacuum), Lsun/Hz/Msun formed.

    L_lambda = L_nu c / lambda^2. The files hold no surviving mass: it is `surviving_mass` of each age, good to 0.02
    for a Chabrier IMF and the same at every metallicity, unless `mstar`, (n_Z, n_age), is given. Emission lines that a
    file may hold are left out.

    Raises PopcatError if the file is missing or not in that layout.
    """
    if path is None:
        raise PopcatError("the dsps engine reads a file: --source FILE, an HDF5 file of SSP templates for DSPS")
    path = Path(path)
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

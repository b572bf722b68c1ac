"""FSPS through python-fsps (0.4.8: FSPS 3.3; 0.5.0: FSPS 4.0), always in a process of its own.

A Fortran STOP ends a process with exit status 0, and Fortran state is global: so FSPS never runs in the caller's
process, each process holds one StellarPopulation, and it counts as done only when it has printed a sentinel.
`read_fsps` reads all metallicities in one process. `read_metallicity` reads one and may be mapped over many workers;
`assemble_metallicities` joins what they wrote:

    parts = [read_metallicity(i + 1, folder, home) for i in range(len(probe_fsps(home)["z_abs"]))]
    grid = assemble_metallicities(parts)

which `build_fsps_grid` does on a cluster, one metallicity a task.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import warnings
import zipfile
from functools import partial
from pathlib import Path

import numpy as np

from popcat.errors import PopcatError, did_you_mean
from popcat.forward.engines import _fsps_process
from popcat.forward.engines.sps_home import check_libraries, check_sps_home, size_hash
from popcat.forward.grid import SSPGrid
from popcat.run.client import Where
from popcat.run.runner import How, run
from popcat.units import C_AA_S

IMFS = {"salpeter": 0, "chabrier": 1, "kroupa": 2}
"""Initial mass functions by FSPS's number (imf_type)."""
FLAGS = {
    "zcontinuous": 0, "sfh": 0, "add_stellar_remnants": True, "add_neb_emission": False, "add_dust_emission": False,
    "add_agb_dust_model": False, "add_igm_absorption": False, "dust1": 0.0, "dust2": 0.0, "fagn": 0.0,
    "sigma_smooth": 0.0, "smooth_lsf": False,
}  # fmt: skip
"""Bare stars: what popcat adds itself (dust, histories), or does not model, is off."""
CLOSURE_RANGE = (0.95, 1.08)
"""Integral of L over wavelength / bolometric light: whole libraries give 1.00 to 1.03, broken ones up to 50."""
C3K_LR_CAVEAT = (
    "FSPS 4.0 never uses the +0.25 and +0.50 dex spectra of its C3K_LR library and misreads metallicities that end in "
    "a quarter dex: compile python-fsps with MILES (FFLAGS=-DMILES=1 pip install --no-binary fsps fsps) for science"
)
_TIMEOUT_S = 1800.0
_OUTPUT_MAX = 400
_SHARED = ("wave_aa", "log_age_yr", "facts")


def read_fsps(sps_home: "str | Path | None" = None, *, imf: str = "chabrier", timeout_s: float = _TIMEOUT_S) -> SSPGrid:
    """All metallicities, ages and wavelengths of FSPS's simple stellar populations.

    L_lambda = L_nu c / lambda^2 in Lsun/A per Msun formed; wavelengths in vacuum; absolute metallicity as FSPS says it
    (`zlegend`); surviving mass with remnants. Takes 5 to 30 s and up to 1 GB, in a process of its own.

    Parameters
    ----------
    sps_home : the FSPS release that belongs to the installed fsps package; by default $SPS_HOME
    imf : one of `IMFS`

    Raises PopcatError if SPS_HOME is not whole, FSPS stops, or its light does not add up to the bolometric. Warns
    about the C3K_LR library.
    """
    with tempfile.TemporaryDirectory(prefix="popcat-fsps-") as folder:
        facts = _set_up(sps_home, imf, {"folder": folder}, timeout_s)
        return assemble_metallicities([Path(folder, f"z{i + 1:02d}.npz") for i in range(len(facts["z_abs"]))])


def read_metallicity(
    index: int, folder: "str | Path", sps_home: "str | Path | None" = None, *, imf: str = "chabrier",
    timeout_s: float = _TIMEOUT_S,
) -> Path:  # fmt: skip
    """Read metallicity `index` (from 1, in FSPS's order) in a process of its own; the .npz file that holds it.

    The file appears in `folder` under its name only when complete. Raises PopcatError as `read_fsps` does.
    """
    path = Path(folder).absolute() / f"z{index:02d}.npz"
    _set_up(sps_home, imf, {"parts": [(index, str(path))]}, timeout_s)
    return path


def probe_fsps(sps_home: "str | Path | None" = None, *, timeout_s: float = _TIMEOUT_S) -> dict:
    """Set FSPS up in a process of its own and say what it is: version, libraries, metallicities.

    Raises PopcatError, with FSPS's own words, if it does not get that far.
    """
    return _set_up(sps_home, "chabrier", {}, timeout_s)


def _set_up(sps_home: "str | Path | None", imf: str, job: dict, timeout_s: float) -> dict:
    """Ask the package what it was compiled for, look at those files, and only then let Fortran read them."""
    if imf not in IMFS:
        raise PopcatError(f'unknown IMF "{imf}": {did_you_mean(imf, IMFS)}')
    home = check_sps_home(sps_home)
    compiled = run_fsps({}, home, timeout_s=timeout_s)
    check_libraries(home, compiled["isochrones"], compiled["spectra"])
    facts = {"imf": imf.capitalize(), "sps_home_hash": size_hash(home)}
    return run_fsps({"settings": {**FLAGS, "imf_type": IMFS[imf]}, "facts": facts, **job}, home, timeout_s=timeout_s)


def run_fsps(job: dict, home: Path, *, timeout_s: float = _TIMEOUT_S) -> dict:
    """One job for popcat/forward/engines/_fsps_process.py; what it answers.

    Raises PopcatError if fsps is not installed, or the process ends without its sentinel: then with its last words.
    """
    if importlib.util.find_spec("fsps") is None:
        raise PopcatError("the fsps engine needs the fsps package: pip install fsps")
    # -P: the folder of the script, which has an fsps.py, stays off the path; that of popcat is on it.
    command = [sys.executable, "-P", _fsps_process.__file__, json.dumps(job)]
    root = str(Path(_fsps_process.__file__).parents[3])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "SPS_HOME": str(home), "PYTHONPATH": path}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise PopcatError(f"FSPS with SPS_HOME={home} took more than {timeout_s:g} s: is that disk slow?") from error
    lines = done.stdout.decode(errors="replace").splitlines()
    if lines and lines[-1].startswith(_fsps_process.SENTINEL):
        return json.loads(lines[-1].removeprefix(_fsps_process.SENTINEL))
    said = _last_words(lines + done.stderr.decode(errors="replace").splitlines())
    raise PopcatError(f"FSPS with SPS_HOME={home} stopped (exit status {done.returncode}) and said: {said}")


def _last_words(lines: list[str]) -> str:
    """The end of what a process said, on one line."""
    text = " | ".join(line.strip() for line in lines if line.strip())
    return text[-_OUTPUT_MAX:] or "nothing"


def assemble_metallicities(paths: "list[str | Path]") -> SSPGrid:
    """The grid from the files that `read_metallicity` wrote, in any order.

    Raises PopcatError if a file cannot be read, they are not of one FSPS, or the light does not add up.
    """
    parts = sorted((_read_part(Path(path)) for path in paths), key=lambda part: float(part["z_abs"]))
    first = parts[0]
    if any(not np.array_equal(part[name], first[name]) for part in parts for name in _SHARED):
        raise PopcatError("metallicities of FSPS: the files are of different set-ups of FSPS; read them anew")
    lum_hz, mstar, log_lbol = (np.stack([part[name] for part in parts]) for name in ("lum_hz", "mstar", "log_lbol"))
    wave, facts = first["wave_aa"], json.loads(str(first["facts"]))
    lum = lum_hz * (C_AA_S / wave**2)
    provenance = _provenance(facts, _closure(wave, lum, log_lbol))
    if "caveat" in provenance:
        warnings.warn(provenance["caveat"], UserWarning, stacklevel=2)
    return SSPGrid(first["log_age_yr"], np.log10([float(p["z_abs"]) for p in parts]), wave, lum, mstar, provenance)


def _read_part(path: Path) -> dict:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise PopcatError(f"{path} is no metallicity of FSPS that popcat wrote: {error}") from error


def _closure(wave_aa, lum, log_lbol) -> tuple[float, float]:
    """Smallest and largest integral of L dw / L_bol; PopcatError if a spectrum lost light or gained it."""
    ratio = np.trapezoid(lum, wave_aa, axis=-1) / 10.0**log_lbol
    low, high = float(np.min(ratio)), float(np.max(ratio))
    if not (CLOSURE_RANGE[0] <= low and high <= CLOSURE_RANGE[1]):
        raise PopcatError(
            f"FSPS: integrated spectra are {low:.3g} to {high:.3g} of the bolometric light, expected "
            f"{CLOSURE_RANGE[0]:g} to {CLOSURE_RANGE[1]:g}: a file in SPS_HOME is damaged, or of another release"
        )
    return low, high


def _provenance(facts: dict, closure: tuple[float, float]) -> dict:
    """What made the grid."""
    made_by = {
        "engine": "fsps",
        "source": f"FSPS (Conroy, Gunn & White 2009; Conroy & Gunn 2010) through python-fsps {facts['fsps_version']}",
        "mstar_has_remnants": True,
        **{name: value for name, value in facts.items() if name not in ("z_abs", "dust_emission")},
        "closure": [round(value, 5) for value in closure],
    }
    return {**made_by, "caveat": C3K_LR_CAVEAT} if facts["spectra"] == "c3k_lr" else made_by


def build_fsps_grid(
    sps_home: str | Path | None = None, *, folder: str | Path | None = None, imf: str = "chabrier",
    client: Where = None, workers: int | None = None, progress: bool = False, log: str | Path | None = None,
) -> SSPGrid:  # fmt: skip
    """The grid of `popcat.forward.engines.read_fsps`, one metallicity a task, each with an FSPS process of its own.

    Workers must see `sps_home` and `folder`, in which metallicities are kept until all are there (by default a
    temporary folder of this machine). A task takes up to 1 GB.

    Raises PopcatError as `read_fsps` does, naming every metallicity that failed.
    """
    home = check_sps_home(sps_home).absolute()
    z_abs = probe_fsps(home)["z_abs"]
    how = How(client, workers, progress, log=log)
    how.verify()
    with tempfile.TemporaryDirectory(prefix=".popcat-fsps-", dir=folder) as parts:
        jobs = {i: (i + 1, Path(parts).absolute(), home) for i in range(len(z_abs))}
        read = partial(read_metallicity, imf=imf)
        outcomes = run(read, jobs, verb="reading FSPS", how=how, unit="metallicities", noun="metallicity")
        failed = {i: outcome.error for i, outcome in outcomes.items() if outcome.error is not None}
        if failed:
            said = "; ".join(f"{i + 1} (Z = {z_abs[i]:.2g}): {error}" for i, error in failed.items())
            raise PopcatError(f"{len(failed)} of {len(z_abs)} metallicities of FSPS failed. {said}")
        return assemble_metallicities([outcome.value for outcome in outcomes.values()])

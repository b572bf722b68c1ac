"""FSPS through python-fsps (0.4.8: FSPS 3.3; 0.5.0: FSPS 4.0), always in a process of its own.

A Fortran STOP ends a process with exit status 0, and Fortran state is global: so FSPS never runs in the caller's
process, each process holds one StellarPopulation, and it counts as done only when it has printed a sentinel.
`read_fsps` reads all metallicities in one process. `read_metallicity` reads one and may be mapped over many workers;
`assemble_metallicities` joins what they wrote:

    parts = [read_metallicity(i + 1, folder, home) for i in range(len(probe_fsps(home)["z_abs"]))]
    grid = assemble_metallicities(parts)

which `build_fsps_grid` does on a cluster, one metallicity a task.

Before any Fortran runs, `check_sps_home` and `check_libraries` look at the folder SPS_HOME. FSPS ends the process, with
exit status 0, where a file is missing; and where a spectral library is truncated, or is a pointer that Git LFS left, it
reads on and gives spectra that are wrong by up to a factor of 50. So names and exact sizes are looked at first.
"""

import hashlib
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
from typing import NamedTuple

import numpy as np

from popcat.errors import PopcatError, did_you_mean
from popcat.forward.engines import _fsps_process
from popcat.forward.grid import SSPGrid
from popcat.paths import local
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


PATH_MAX = 250
"""FSPS keeps the path of SPS_HOME in this many characters, and cuts what is longer."""
DATA_FOLDERS = ("ISOCHRONES", "SPECTRA", "data", "dust", "nebular")
_REQUIRED = ("data/emlines_info.dat", "data/FILTER_LIST", "data/allfilters.dat", "data/allindices.dat")
_LFS_HEAD = b"version https://git-lfs"
_LFS_MAX_BYTES = 1024
_CLONE = "git clone https://github.com/cconroy20/fsps and name that folder (--sps-home, or the variable SPS_HOME)"


class BinaryLibrary(NamedTuple):
    """Binary spectra that FSPS reads without looking at their size: file names, how many it needs, bytes of each."""

    pattern: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody asks of it
    size: int


# Sizes are float32 x wavelengths x temperatures x gravities (sps_vars.f90 of FSPS 3.3 and 4.0).
SPECTRAL_LIBRARIES = {
    "miles": BinaryLibrary("SPECTRA/MILES/imiles_z*.spectra.bin", 5, 4 * 5994 * 68 * 19),
    "basel": BinaryLibrary("SPECTRA/BaSeL3.1/basel_*_z*.spectra.bin", 6, 4 * 1963 * 68 * 19),
    "c3k_lr": BinaryLibrary("SPECTRA/C3K/c3k_lr/c3k_lr_feh*_afe+0.0.spec.bin", 11, 4 * 1936 * 80 * 14),
    "c3k_hr": BinaryLibrary("SPECTRA/C3K/c3k_hr/c3k_hr_feh*_afe+0.0.spec.bin", 11, 4 * 10992 * 80 * 14),
    "c3k_afe+0.0": BinaryLibrary("SPECTRA/C3K/c3k_afe+0.0_z*.spectra.bin", 11, 4 * 11149 * 68 * 19),
    "bpass": BinaryLibrary("ISOCHRONES/BPASS/bpass_v2.2_salpeter100.ssp.bin", 1, 8 * 15000 * 43 * 12),
}
ISOCHRONE_FOLDERS = {
    "mist": "ISOCHRONES/MIST",
    "prsc": "ISOCHRONES/PARSEC",
    "pdva": "ISOCHRONES/Padova/Padova2007",
    "bsti": "ISOCHRONES/BaSTI",
    "gnva": "ISOCHRONES/Geneva",
    "bpss": "ISOCHRONES/BPASS",
}
"""Where FSPS looks for the isochrones that it calls by these names."""


def check_sps_home(sps_home: "str | Path | None" = None) -> Path:
    """The absolute path of SPS_HOME, by default the environment's, if the folder can be one.

    Raises PopcatError if none is named, it is no folder, its path is longer than FSPS can hold, it lacks what every
    build of FSPS reads, or a file in it is a pointer that Git LFS left.
    """
    named = sps_home if sps_home is not None else os.environ.get("SPS_HOME")
    if not named:
        raise PopcatError(f"the fsps engine needs the data of FSPS, and SPS_HOME is not set: {_CLONE}")
    home = local(named).expanduser().absolute()
    if not home.is_dir():
        raise PopcatError(f"SPS_HOME: {home} is not a folder; {_CLONE}")
    length = len(os.fsencode(home))
    if length > PATH_MAX:
        raise PopcatError(f"SPS_HOME: FSPS holds paths of at most {PATH_MAX} characters, got {length} ({home}): "
                          "name a shorter link to it (ln -s)")  # fmt: skip
    missing = [name for name in DATA_FOLDERS if not (home / name).is_dir()]
    missing += [name for name in _REQUIRED if not (home / name).is_file()]
    if missing:
        raise PopcatError(f"SPS_HOME: {home} lacks {', '.join(missing)}; {_CLONE}")
    _check_no_pointers(home)
    return home


def check_libraries(home: Path, isochrones: str, spectra: str) -> None:
    """Raise PopcatError unless the libraries that FSPS was compiled for are in SPS_HOME, whole.

    `isochrones` and `spectra` are FSPS's own names for them, as `StellarPopulation.libraries` says.
    """
    folder = home / ISOCHRONE_FOLDERS.get(isochrones, "ISOCHRONES")
    if not folder.is_dir() or (isochrones in ISOCHRONE_FOLDERS and not (folder / "zlegend.dat").is_file()):
        raise PopcatError(f'SPS_HOME: the fsps package was compiled for the isochrones "{isochrones}", and {folder} '
                          "has no zlegend.dat: use the FSPS release that belongs to the package")  # fmt: skip
    library = SPECTRAL_LIBRARIES.get(spectra)
    if library is not None:
        _check_binaries(home, spectra, library)


def _check_binaries(home: Path, name: str, library: BinaryLibrary) -> None:
    found = sorted(home.glob(library.pattern))
    if len(found) < library.count:
        raise PopcatError(f'SPS_HOME: the fsps package was compiled for the spectra "{name}": expected at least '
                          f"{library.count} files {library.pattern} in {home}, got {len(found)}; use the FSPS release "
                          "that belongs to the package")  # fmt: skip
    for path in found:
        size = path.stat().st_size
        if size != library.size:
            raise PopcatError(f"SPS_HOME: {path} should have {library.size:,} bytes, got {size:,}: it is truncated or "
                              "of another release; fetch it again (git lfs pull, or a new clone)")  # fmt: skip


def _data_files(home: Path):
    """(path, bytes) of every data file, in no order; links are followed."""
    for folder in DATA_FOLDERS:
        for parent, _, names in os.walk(home / folder, followlinks=True):
            for name in names:
                path = Path(parent, name)
                if path.is_file():
                    yield path, path.stat().st_size


def _check_no_pointers(home: Path) -> None:
    for path, size in _data_files(home):
        if size < _LFS_MAX_BYTES and path.read_bytes().startswith(_LFS_HEAD):
            raise PopcatError(f"SPS_HOME: {path} is a Git LFS pointer, not the file: run git lfs pull in {home}")


def size_hash(home: Path) -> str:
    """SHA-256 of the names and sizes of all data files: tells one release of FSPS's data from another."""
    lines = sorted(f"{path.relative_to(home).as_posix()} {size}" for path, size in _data_files(home))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()

"""Is a folder the SPS_HOME that FSPS needs? Checked before any Fortran runs.

FSPS ends the process, with exit status 0, where a file is missing; and where a spectral library is truncated, or is a
pointer that Git LFS left, it reads on and gives spectra that are wrong by up to a factor of 50. So names and exact
sizes are looked at first.
"""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from popcat.errors import PopcatError

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
    home = Path(named).expanduser().absolute()
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

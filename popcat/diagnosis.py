"""What works on this machine, and what to do about what does not: the checks of `popcat doctor`."""

import importlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from importlib.resources import as_file, files
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import Requirement

from popcat.caches import can_be_made
from popcat.display import Displayed
from popcat.errors import PopcatError
from popcat.files import cache_folder
from popcat.survey import embedded_surveys, load_survey

PYTHON_MIN = (3, 11)
KEY_PACKAGES = ("popcat", "numpy", "numba", "torch", "dask", "pandas", "pyarrow")
SCHEDULER_PORT = 8786
TIMEOUT_S = 5.0
MEMORY_MIN_GB = 2.0
"""One worker that has loaded torch, numba and a partition, beside the scheduler and the client."""
NUMBA_CACHE = "name a folder that can be written: export NUMBA_CACHE_DIR=/path/to/folder"
REINSTALL = "pip install --force-reinstall --no-deps popcat, or, in a clone: git checkout -- popcat/data"


@dataclass(frozen=True)
class Check:
    """One finding: `ok` is None for what is optional and absent; `remedy` is empty where nothing needs doing."""

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


@dataclass(frozen=True, repr=False)
class Diagnosis(Displayed):
    """The checks of this machine, in the order in which to mend what fails; `ok` if none failed."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed: what is optional and absent does not count."""
        return all(check.ok is not False for check in self.checks)

    def _title(self) -> str:
        return "Everything that popcat needs works" if self.ok else "Something that popcat needs does not work"

    def _facts(self) -> dict[str, object]:
        marks = {True: "ok  ", False: "FAIL", None: "-   "}
        return {check.name: f"{marks[check.ok]} {check.detail}" for check in self.checks}


def doctor(*, client: str | None = None) -> Diagnosis:
    """What works on this machine, and what to do about what does not.

    `client` is the address of a Dask scheduler to try. Raises nothing: a check that fails to run is a failed check.

    >>> [check.name for check in doctor().checks][:2]
    ['python', 'packages']
    """
    named: dict[str, Callable[[], Check]] = {
        "python": check_python,
        "packages": check_packages,
        **{name: partial(_read_data, name, read) for name, read in DATA.items()},
        "numba": check_numba,
        "cache": check_cache,
        "machine": check_machine,
        "gpu": check_gpu,
        "fsps": check_fsps,
        "plugins": check_plugins,
    }
    if client is not None:
        named["scheduler"] = lambda: check_scheduler(client)
    return Diagnosis(tuple(_guarded(name, check) for name, check in named.items()))


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """The check's finding; an exception that nobody foresaw is one too."""
    try:
        return check()
    except Exception as error:
        return Check(name, False, _one_line(error), "report this with the output of popcat doctor")


def _one_line(error: Exception) -> str:
    """The kind of an exception and the first line of what it says."""
    return f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}"


def check_python() -> Check:
    """Python is new enough."""
    version = ".".join(map(str, sys.version_info[:3]))
    wanted = ".".join(map(str, PYTHON_MIN))
    ok = sys.version_info >= PYTHON_MIN
    return Check("python", ok, f"{version} ({sys.executable})", "" if ok else f"install Python {wanted} or newer")


def check_packages() -> Check:
    """Every package that popcat requires is installed, in a version that it allows."""
    try:
        required = [Requirement(line) for line in metadata.requires("popcat") or []]
    except metadata.PackageNotFoundError:
        return Check("packages", None, "popcat runs from its source, not installed", "pip install -e . in the clone")
    wrong = [line for item in required if (line := _unmet(item))]
    if wrong:
        return Check("packages", False, "; ".join(wrong), "pip install --upgrade popcat, in a fresh environment")
    return Check("packages", True, ", ".join(f"{name} {metadata.version(name)}" for name in KEY_PACKAGES))


def _unmet(item: Requirement) -> str:
    """What is wrong with a required package, or an empty string; extras are not required."""
    if item.marker is not None and not item.marker.evaluate({"extra": ""}):
        return ""
    try:
        version = metadata.version(item.name)
    except metadata.PackageNotFoundError:
        return f"{item.name} is missing"
    return "" if item.specifier.contains(version, prereleases=True) else f"{item.name}{item.specifier}, got {version}"


def _read_data(name: str, read: Callable[[], str]) -> Check:
    """Embedded data: present and readable."""
    try:
        return Check(name, True, read())
    except Exception as error:
        return Check(name, False, _one_line(error), REINSTALL)


def _read_grids() -> str:
    from popcat.forward.grid import embedded_grids, load_grid

    shapes = {name: load_grid(name).lum.shape for name in embedded_grids()}
    return _listing(f"{name} ({z} metallicities x {age} ages x {wave} wavelengths)"
                    for name, (z, age, wave) in shapes.items())  # fmt: skip


def _read_bases() -> str:
    from popcat.forward.histories import load_bases

    return f"popcat ({len(load_bases('popcat').sfh)} star-formation histories)"


def _read_surveys() -> str:
    return _listing(f"{name} ({' '.join(load_survey(name).band_names)})" for name in embedded_surveys())


def _read_galaxies() -> str:
    import pyarrow.parquet as pq

    with as_file(files("popcat") / "data" / "galaxies_sdss.parquet") as path:
        return f"{pq.read_metadata(path).num_rows:,} real galaxies (SDSS)"


def _read_models() -> str:
    folder = files("popcat") / "data" / "models"
    return _listing(item.name for item in folder.iterdir() if item.is_dir() and any(item.iterdir()))


DATA = {
    "SSP grids": _read_grids,
    "bases": _read_bases,
    "surveys": _read_surveys,
    "galaxies": _read_galaxies,
    "models": _read_models,
}
"""Embedded data: name and reader, which says what it found or raises."""


def _listing(items: Iterator[str]) -> str:
    """Items on one line; FileNotFoundError where there are none."""
    found = sorted(items)
    if not found:
        raise FileNotFoundError("none found in popcat/data")
    return ", ".join(found)


def check_numba() -> Check:
    """numba compiles a kernel that gives the right number, and has a folder to keep kernels in."""
    import numba

    square = numba.njit(nogil=True)(lambda x: x * x)(3.0)
    if square != 9.0:
        remedy = "reinstall numba and llvmlite: pip install --force-reinstall numba llvmlite"
        return Check("numba", False, f"expected 9, got {square}", remedy)
    try:
        from popcat.rng import philox4x32

        kernels = philox4x32.stats.cache_path
    except RuntimeError as error:
        return Check("numba", False, _one_line(error), NUMBA_CACHE)
    return Check("numba", True, f"{numba.__version__} compiles, and keeps kernels in {kernels}")


def check_cache() -> Check:
    """The cache folder can be written, or made."""
    folder = cache_folder()
    if can_be_made(folder):
        return Check("cache", True, str(folder))
    existing = next((path for path in (folder, *folder.absolute().parents) if os.path.exists(path)), folder)
    remedy = f"{existing} must be a writable folder; or name another: export POPCAT_CACHE=/path/to/folder"
    return Check("cache", False, f"{folder} cannot be written", remedy)


def check_machine() -> Check:
    """Cores and memory that this process may use."""
    cores, memory_gb = len(os.sched_getaffinity(0)), _memory_bytes() / 1e9
    ok = memory_gb >= MEMORY_MIN_GB
    remedy = "" if ok else f"popcat wants {MEMORY_MIN_GB:g} GB: use a larger machine, or --client of a cluster"
    return Check("machine", ok, f"{cores} cores, {memory_gb:.1f} GB of memory", remedy)


def _memory_bytes() -> int:
    """Physical memory, or the container's limit if that is smaller."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(physical, int(text)) if text.isdigit() else physical


def check_gpu() -> Check:
    """A GPU that torch can use; popcat runs without one too."""
    # By name: importing torch is for flows and inference only, and the doctor must work where torch does not.
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        return Check("gpu", False, f"torch cannot be imported: {error}", "reinstall torch")
    if not torch.cuda.is_available():
        detail = f"none that torch {torch.__version__} can use; popcat samples on the CPU"
        return Check("gpu", None, detail, "if this machine has one: install a torch built for its CUDA version")
    return Check("gpu", True, ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())))


def check_fsps() -> Check:
    """FSPS, needed only to build its grid: SPS_HOME is whole, and the Fortran starts up with it."""
    from popcat.forward.engines import probe_fsps

    home = os.environ.get("SPS_HOME")
    if not home:
        detail = "SPS_HOME is not set; the embedded grid does not need it"
        return Check("fsps", None, detail, "for FSPS grids: git clone FSPS, export SPS_HOME=/path/to/fsps")
    try:
        found = probe_fsps(home)
    except PopcatError as error:
        return Check("fsps", False, str(error), "point SPS_HOME at a whole clone of FSPS, or unset it")
    libraries = f"{found['isochrones']} isochrones, {found['spectra']} spectra"
    return Check("fsps", True, f"fsps {found['fsps_version']} ({libraries}), SPS_HOME={home}")


def check_plugins() -> Check:
    """Every plugin that is installed can be imported, and none has another's name."""
    from popcat.forward.engines import PLUGINS as ENGINES
    from popcat.inference.reweight import PLUGINS as PRIORS
    from popcat.io.formats import PLUGINS as FORMATS
    from popcat.prior_families import PLUGINS as FAMILIES

    found = []
    try:
        for kind in (ENGINES, FORMATS, PRIORS, FAMILIES):
            for name in kind.names():
                kind.load(name)
                found.append(f"{kind.what} {kind.label(name)}")
    except PopcatError as error:
        return Check("plugins", False, str(error), "update or uninstall the package that it names")
    return Check("plugins", True if found else None, "; ".join(found) or "none is installed",
                 "" if found else "none is needed; docs/plugins.md says how to write one")  # fmt: skip


def check_scheduler(address: str) -> Check:
    """A Dask scheduler answers at tcp:// or tls:// HOST:PORT; only the connection is tried.

    >>> check_scheduler("localhost").detail
    'expected tcp://HOST:PORT or tls://HOST:PORT, got "localhost"'
    """
    host, port = _host_and_port(address)
    if host is None:
        detail = f'expected tcp://HOST:PORT or tls://HOST:PORT, got "{address}"'
        return Check("scheduler", False, detail, "copy the address that dask scheduler printed")
    try:
        socket.create_connection((host, port), timeout=TIMEOUT_S).close()
    except OSError as error:
        remedy = f"is dask scheduler running there, and port {port} open from here?"
        return Check("scheduler", False, f"{address}: {error}", remedy)
    return Check("scheduler", True, f"{address} accepts connections")


def _host_and_port(address: str) -> tuple[str | None, int]:
    """Host (None: not an address that can be tried) and port."""
    try:
        parts = urlsplit(address)
        return (parts.hostname if parts.scheme in ("tcp", "tls") else None), parts.port or SCHEDULER_PORT
    except ValueError:
        return None, SCHEDULER_PORT

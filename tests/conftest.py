"""What every test runs under: one thread a process, no display, a cache of its own.

The environment is set before the libraries that read it are imported. torch reads OMP_NUM_THREADS, so it need not be
imported here.
"""

import fcntl
import os
import shutil
import tempfile
import warnings
from importlib.resources import files
from pathlib import Path

import pytest

SINGLE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ

os.environ["MPLBACKEND"] = "Agg"
os.environ.update(dict.fromkeys(SINGLE_THREAD, "1"))
if not IS_WORKER:
    # Band tables are built once for all xdist workers, which inherit this, and never in the user's own cache.
    os.environ["POPCAT_CACHE"] = tempfile.mkdtemp(prefix="popcat-tests-")


def pytest_unconfigure():
    if not IS_WORKER:
        shutil.rmtree(os.environ["POPCAT_CACHE"], ignore_errors=True)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """made_once(name, make): a folder that `make(folder)` fills, once for all processes of a run; they only read it."""

    def folder_of(name, make) -> Path:
        if not IS_WORKER:
            folder = tmp_path_factory.mktemp(name)
            make(folder)
            return folder
        folder = tmp_path_factory.getbasetemp().parent / f"once-{name}"  # the parent is that of all workers
        with open(folder.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                partial = Path(tempfile.mkdtemp(dir=folder.parent))
                make(partial)
                partial.rename(folder)
        return folder

    return folder_of


# Libraries are imported inside the fixtures, after the environment is set.


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A tab of a headless browser (tests/shared/browser.py)."""
    from browser import Browser

    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def galaxies(tmp_path_factory) -> Path:
    """150 of the real SDSS galaxies, the first ten with u <= 0 among them, as a Parquet file."""
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(files("popcat") / "data" / "galaxies_sdss.parquet")
    negative = np.flatnonzero(table["modelflux_u"].to_numpy() <= 0)[:10]
    rows = np.concatenate([negative, np.setdiff1d(np.arange(150), negative)])[:150]
    path = tmp_path_factory.mktemp("galaxies") / "galaxies.parquet"
    pq.write_table(table.take(np.sort(rows)), path)
    return path


@pytest.fixture(scope="session")
def tiny_model(made_once) -> Path:
    """A badly trained posterior: everything about it is real but its quality."""
    return made_once("model", _make_tiny_model) / "tiny"


def _make_tiny_model(folder: Path) -> None:
    import numpy as np

    from popcat.checks.calibration import calibrate
    from popcat.flows.settings import Training
    from popcat.forward.noise import default_noise
    from popcat.forward.properties import forward_for
    from popcat.galaxy_model import GalaxyModel
    from popcat.posterior.library import LibraryArrays
    from popcat.posterior.posterior import save_posterior
    from popcat.posterior.simulated import draw_prior
    from popcat.posterior.training import train_posterior
    from popcat.survey import CalibrationLimits, load_survey

    # of limits that even this one passes
    limits = CalibrationLimits(max_ks=0.99, max_tarp=0.99)
    survey, model = load_survey("sdss").model_copy(update={"calibration": limits}), GalaxyModel()
    theta, redshift = draw_prior(np.arange(6000), survey, model, 0)
    flux = forward_for(survey, model).photometry.flux(theta, redshift)
    library = LibraryArrays.from_theta(theta, redshift, flux, model)
    settings = Training(n_blocks=2, hidden=16, n_layers=1, batch=256, max_epochs=2, redshift_hidden=32)
    posterior, _ = train_posterior(
        library, survey, model, default_noise(survey), settings, provenance={"made_by": "tests"}
    )
    save_posterior(posterior, folder / "tiny")
    calibrate(folder / "tiny", 40, output=folder / "tiny" / "calibration", draws=40)


@pytest.fixture
def cluster():
    """Start a cluster of one-threaded workers in this process, with these resources each: a client."""
    from distributed import Client, Scheduler, SpecCluster, Worker

    open_ones = []

    def start(*resources):
        options = {"dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}
        workers = {
            i: {"cls": Worker, "options": {"nthreads": 1, "resources": one, "host": "127.0.0.1",
                                           "dashboard_address": "127.0.0.1:0"}}
            for i, one in enumerate(resources)
        }  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about ports
            spec = SpecCluster(workers=workers, scheduler={"cls": Scheduler, "options": options}, silence_logs=50)
        client = Client(spec, set_as_default=False)
        open_ones.extend([client, spec])
        return client

    yield start
    for one in open_ones:
        one.close()

"""What every test runs under: one thread a process, no display, a cache of its own.

The environment is set before the libraries that read it are imported. torch reads OMP_NUM_THREADS, so it need not be
imported here.
"""

import os
import shutil
import tempfile

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

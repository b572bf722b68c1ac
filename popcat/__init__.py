"""popcat: tables of galaxy photometry into probabilistic catalogues.

>>> import popcat
>>> popcat.load_survey("sdss").band_names
('u', 'g', 'r', 'i', 'z')
"""

import importlib

__version__ = "0.1.0"

_HOME = {
    "PopcatError": "popcat.errors",
    "load_survey": "popcat.settings",
    "read_catalog": "popcat.distributed",
    "fit_noise": "popcat.distributed",
    "simulate": "popcat.distributed",
    "simulate_library": "popcat.distributed",
    "infer": "popcat.distributed",
    "infer_catalog": "popcat.distributed",
    "plan": "popcat.distributed.planning",
    "open_catalog": "popcat.catalog.queries",
    "train": "popcat.inference.learn",
    "load_posterior": "popcat.inference.posterior",
    "reweight_catalog": "popcat.distributed",
    "crosscheck": "popcat.crosschecking",
    "compare": "popcat.inference.compare",
    "calibrate": "popcat.calibrating",
    "report": "popcat.reporting",
    "verify": "popcat.catalog.verification",
    "spectrum": "popcat.sps.spectrum",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str):
    """Public names are resolved when first used (PEP 562), so that `import popcat` needs no torch and no Dask."""
    if name not in _HOME:
        raise AttributeError(f"module 'popcat' has no attribute '{name}'; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

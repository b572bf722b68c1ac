"""popcat: tables of galaxy photometry into probabilistic catalogues.

>>> import popcat
>>> popcat.load_survey("sdss").band_names
('u', 'g', 'r', 'i', 'z')
"""

import importlib

__version__ = "0.1.0"

_HOME = {
    "PopcatError": "popcat.errors",
    "load_survey": "popcat.survey",
    "read_catalog": "popcat.io.reading",
    "fit_noise": "popcat.forward.noise",
    "simulate": "popcat.posterior.simulation",
    "simulate_library": "popcat.posterior.simulation",
    "infer": "popcat.inference.infer",
    "infer_catalog": "popcat.inference.infer",
    "plan": "popcat.inference.plan",
    "open_catalog": "popcat.catalog.queries",
    "train": "popcat.posterior.training",
    "load_posterior": "popcat.posterior.posterior",
    "reweight": "popcat.inference.reweight",
    "crosscheck": "popcat.pages.crosscheck",
    "compare": "popcat.checks.compare",
    "calibrate": "popcat.checks.calibration",
    "report": "popcat.pages.report",
    "verify": "popcat.catalog.verification",
    "spectrum": "popcat.forward.spectrum",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str):
    """Public names are resolved when first used (PEP 562), so that `import popcat` needs no torch and no Dask."""
    if name not in _HOME:
        raise AttributeError(f"module 'popcat' has no attribute '{name}'; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

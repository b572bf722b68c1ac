"""popcat: tables of galaxy photometry into probabilistic catalogues.

>>> import popcat
>>> popcat.load_survey("sdss").band_names
('u', 'g', 'r', 'i', 'z')
"""

import importlib
from pathlib import Path

from popcat.caches import place_caches

__version__ = "0.1.0"

place_caches(Path(__file__).parent)  # before anything of popcat imports numba, in workers too

_HOME = {
    # what there is
    "Survey": "popcat.survey",
    "GalaxyModel": "popcat.galaxy_model",
    "Noise": "popcat.forward.noise",
    "Training": "popcat.flows.settings",
    "Posterior": "popcat.posterior.posterior",
    "Catalog": "popcat.catalog.queries",
    "Population": "popcat.population.fitted",
    "PopcatError": "popcat.errors",
    "CLEAN": "popcat.galaxies",
    # read
    "load_survey": "popcat.survey",
    "load_posterior": "popcat.posterior.posterior",
    "load_population": "popcat.population.fitted",
    "read_catalog": "popcat.io.reading",
    "open_catalog": "popcat.catalog.queries",
    # infer
    "fit": "popcat.pipeline.fit",
    "plan": "popcat.inference.plan",
    "infer": "popcat.inference.infer",
    "fit_galaxy": "popcat.inference.one_galaxy",
    "reweight": "popcat.inference.reweight",
    "spectrum": "popcat.forward.spectrum",
    # check and publish
    "verify": "popcat.catalog.verification",
    "crosscheck": "popcat.pages.crosscheck",
    "compare": "popcat.checks.compare",
    "report": "popcat.pages.report",
    "export": "popcat.catalog.export",
    "schema": "popcat.columns",
    # a survey and a posterior of one's own
    "draft_survey": "popcat.io.drafting",
    "check_survey": "popcat.inference.survey_check",
    "fit_noise": "popcat.io.inspection",
    "fit_zero_points": "popcat.pages.zero_points",
    "simulate": "popcat.posterior.library",
    "train": "popcat.posterior.training",
    "calibrate": "popcat.checks.calibration",
    "build_ssp": "popcat.forward.engines",
    "describe_ssp": "popcat.forward.grid",
    # populations
    "fit_population": "popcat.population.fit",
    "sample_population": "popcat.population.sampling",
    "report_population": "popcat.pages.population",
    "compare_populations": "popcat.population.sampling",
    # this machine
    "doctor": "popcat.diagnosis",
    "demo": "popcat.demonstration",
}
"""Where each public name lives; __init__.pyi says the same to type checkers."""

__all__ = ["__version__", *_HOME]


def __getattr__(name: str):
    """Public names are resolved when first used (PEP 562), so that `import popcat` needs no torch and no Dask."""
    if name not in _HOME:
        from popcat.errors import did_you_mean

        raise AttributeError(f"module 'popcat' has no attribute '{name}'; {did_you_mean(name, __all__)}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""One HTML page about a posterior catalogue: what came out, whether to believe it, its galaxies to look at."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from popcat import stages
from popcat.calibrating import read_calibration
from popcat.catalog.partitions import read_manifest
from popcat.errors import PopcatError
from popcat.inference.posterior import embedded_posteriors, posterior_folder
from popcat.reporting.page import build_report
from popcat.reporting.sections import crosscheck_section
from popcat.settings import Model, Survey
from popcat.sps.filters import load_curves
from popcat.sps.spectra import observed_spectra

__all__ = ["build_report", "report"]


def report(posteriors: str | Path, output: str | Path = "report.html", *, galaxies: Sequence[int] | None = None,
           calibration: str | Path | None = None, crosscheck: str | Path | None = None,
           title: str | None = None) -> Path:
    """Write the HTML page of a catalogue that `popcat infer` wrote, with spectra from its own galaxy model.

    galaxies: object_ids to show in full. calibration: a folder that `popcat calibrate` wrote; by default the folder
    `calibration` inside the model's own, if there is one. crosscheck: a folder that `popcat crosscheck` wrote.
    title: of the page, by default the folder's name. The page is one file: what to trust, up to 300 galaxies to sort,
    filter and look at, the population, what made it.

    Returns the path of the page. Raises PopcatError if the folder holds no finished posterior catalogue.

    >>> report("posteriors", "report.html", title="Forty galaxies").name
    'report.html'
    """
    manifest = read_manifest(posteriors)
    if manifest["kind"] != "posteriors":
        raise PopcatError(f"{posteriors} holds a {manifest['kind']}, not posteriors: name the folder that "
                          "`popcat infer` wrote")  # fmt: skip
    survey = Survey.model_validate(manifest["extra"]["survey"])
    model = Model.model_validate(manifest["extra"]["galaxy_model"])
    photometry = stages.forward_for(survey, model).photometry
    curves = load_curves(survey)
    span = np.geomspace(0.9 * min(c.wave_aa[0] for c in curves), 1.1 * max(c.wave_aa[-1] for c in curves), 600)

    return build_report(
        Path(posteriors), Path(output), survey=survey, curves=[(c.name, c.wave_aa, c.response) for c in curves],
        forward=photometry.flux, galaxies=galaxies, model=model, title=title,
        spectrum=lambda theta, redshift: (span, observed_spectra(theta, redshift, photometry.model, span)),
        calibration=_calibration_of(manifest) if calibration is None else read_calibration(calibration),
        sections=[] if crosscheck is None else [crosscheck_section(crosscheck)],
    )  # fmt: skip


def _calibration_of(manifest: Mapping) -> dict | None:
    """The calibration kept with the model that made a catalogue; None if there is none, or it is of another model."""
    model = manifest["extra"]["model"]
    folder = (posterior_folder(model) if model in embedded_posteriors() else Path(model)) / "calibration"
    if not folder.is_dir():
        return None
    found = read_calibration(folder)
    return found if found["model"] == manifest["fingerprint"]["model"] else None

"""One HTML page about a fitted population."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from popcat import plots
from popcat.errors import PopcatError
from popcat.pages.template import flattened, write_page
from popcat.paths import local, output_path
from popcat.plots import population as panels
from popcat.population.distance import Scaling, features_of
from popcat.population.fitted import Population, load_population
from popcat.population.members import WORK, read_job
from popcat.population.sampling import CENTRES, main_sequence, read_samples

_FEWEST = 50
_DETAILS = ("survey.", "galaxy_model.", "noise.", "settings.")


def report_population(population: str | Path, output: str | Path = "population.html") -> Path:
    """Write the page of a population, the folder that `popcat population fit` wrote, and return the page's path.

    The page has what to trust, figures of the samples against the data, the main sequence, and the ensemble's flows.

    Raises PopcatError if there is no population, or it has hardly any samples.

    >>> report_population("nowhere")
    Traceback (most recent call last):
    ...
    popcat.errors.PopcatError: no population at nowhere: expected a folder that `popcat population fit` wrote...
    """
    folder, output = local(population), output_path(output)
    fitted, frame = load_population(folder), read_samples(folder)
    if len(frame) < _FEWEST:
        raise PopcatError(f"{folder} has {len(frame)} samples that the survey selects; expected at least {_FEWEST}: "
                          f"popcat population sample {folder} -n 100000 -o {folder / 'samples.parquet'}")  # fmt: skip
    provenance = _provenance(fitted)
    members = fitted.description.members
    return write_page(
        "population.html.j2", output, kind="population", title=folder.resolve().name,
        sections=[("figures", "Figures"), ("sequence", "Main sequence"), ("flows", "Flows")],
        provenance=provenance, details=[key for key, _ in provenance if key.startswith(_DETAILS)],
        description=fitted.description, rows=len(frame), n_failed=sum(bool(member.failure) for member in members),
        cuts=" and ".join(str(cut) for cut in fitted.cuts.cuts) or "none",
        sequence=_sequence(frame), members=[_row(member) for member in members],
        figures=[(title, plots.figure_to_data_uri(figure)) for title, figure in _figures_of(folder, fitted, frame)],
    )  # fmt: skip


def _provenance(population: Population) -> list[tuple[str, str]]:
    stored = population.description.model_dump(mode="json", exclude={"members", "files", "measured", "cuts"})
    return [("name", population.name), *flattened(stored)]


def _sequence(frame: pd.DataFrame) -> list[tuple[str, str]]:
    medians = main_sequence(frame[frame["redshift"] < 0.1])
    return [(f"{mass:.1f}", "\u2013" if np.isnan(sfr) else f"{sfr:.2f}")
            for mass, sfr in zip(CENTRES, medians, strict=True)]  # fmt: skip


def _row(member) -> tuple[str, ...]:
    """A flow of the ensemble, as a row of the table."""
    score = "" if member.score is None else f"{member.score:.4f}"
    return (str(member.number), score, f"{member.weight:.2f}", f"{member.steps:,}", f"{member.seconds:.0f}",
            f"failed, left out: {member.failure}" if member.failure else "")  # fmt: skip


def _figures_of(folder: Path, population: Population, frame: pd.DataFrame) -> list:
    """Titles and figures: with the data beside the samples where the folder still has them."""
    job = read_job(folder) if (folder / WORK / "job.json").is_file() else None
    if job is None or job.galaxies is None or job.scaling is None:
        return _figures(frame, None)
    data = _physical(features_of(job.galaxies, job.scaling).numpy(), job.scaling)
    corner = _corner(frame, data, job.scaling, population)
    caption = "Photometry (asinh magnitudes and colours): contours hold 68% and 95% of the galaxies"
    return [(caption, corner), *_figures(frame, job.galaxies.redshift)]


def _figures(frame: pd.DataFrame, redshift: np.ndarray | None) -> list:
    z, mass, sfr = (frame[name].to_numpy(dtype=float) for name in ("redshift", "log_mstar", "log_sfr_1gyr"))
    member = frame["member"].to_numpy()
    known = None if redshift is None or not np.isfinite(redshift).any() else redshift[np.isfinite(redshift)]
    given = "" if known is None else ", and redshifts in the catalogue"
    return [
        (f"Redshift of the population{given}", panels.marginal(z, member, "redshift", known=known)),
        ("Stellar mass of the population", panels.marginal(mass, member, "log_mstar")),
        ("Star-forming main sequence in slices of redshift: median and 68% of the galaxies",
         panels.sequence_slices(z, mass, sfr)),
        ("Mass function of the observed galaxies, without correction for volume", panels.mass_function(mass, member)),
    ]  # fmt: skip


def _corner(frame: pd.DataFrame, data: np.ndarray, scaling: Scaling, population: Population):
    """r and the colours: the other magnitudes follow."""
    bands = population.survey.band_names
    flux, z = (torch.as_tensor(frame[name].to_numpy(dtype=float, copy=True))
               for name in ([f"flux_{band}" for band in bands], "redshift"))  # fmt: skip
    synthetic = _physical(scaling(flux, z).numpy(), scaling)
    names = scaling.names(bands)
    middle = len(bands) // 2
    columns = [middle, *range(len(bands), len(names))]
    return panels.photometry_corner(data[:, columns], synthetic[:, columns], [names[i] for i in columns])


def _physical(features: np.ndarray, scaling: Scaling) -> np.ndarray:
    """Features in magnitudes."""
    return features * scaling.spread + scaling.centre

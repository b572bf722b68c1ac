"""One HTML page about a fitted population."""

from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import torch

from popcat import plots
from popcat.errors import PopcatError
from popcat.files import write_bytes_atomic
from popcat.plots import population as panels
from popcat.population.distance import Scaling, features_of
from popcat.population.fitted import Population, load_population
from popcat.population.members import WORK, read_job
from popcat.population.sampling import CENTRES, main_sequence, read_samples

_TEMPLATE = "population.html.j2"
_FEWEST = 50


def report_population(population: str | Path, output: str | Path = "population.html") -> Path:
    """Write the page of a population that `popcat population fit` wrote; its path.

    Raises PopcatError if there is no population, or it has hardly any samples.

    >>> report_population("nowhere")
    Traceback (most recent call last):
    ...
    popcat.errors.PopcatError: no population at nowhere: expected a folder that `popcat population fit` wrote...
    """
    folder, output = Path(population), Path(output)
    population, frame = load_population(folder), read_samples(folder)
    if len(frame) < _FEWEST:
        raise PopcatError(f"{folder} has {len(frame)} samples that the survey selects; expected at least {_FEWEST}: "
                          f"popcat population sample {folder} -n 100000 -o {folder / 'samples.parquet'}")  # fmt: skip
    job = read_job(folder) if (folder / WORK / "job.json").is_file() else None
    galaxies = None if job is None else job.galaxies
    figures = _figures(frame, None if galaxies is None else galaxies.redshift)
    if galaxies is not None:
        scaling = job.scaling
        data = _physical(features_of(galaxies, scaling).numpy(), scaling)
        figures = [("Photometry (asinh magnitudes, colours)", _corner(frame, data, scaling, population)), *figures]
    page = _template().render(
        title=folder.resolve().name, description=population.description, name=population.name,
        rows=len(frame), cuts=", ".join(str(cut) for cut in population.cuts.cuts) or "none",
        sequence=list(zip(CENTRES, main_sequence(frame[frame["redshift"] < 0.1]), strict=True)),
        figures=[(title, plots.figure_to_data_uri(figure)) for title, figure in figures],
    )  # fmt: skip
    output.absolute().parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(output.absolute(), page.encode("utf-8"))
    return output


def _figures(frame: pd.DataFrame, redshift: np.ndarray | None) -> list:
    z, mass, sfr = (frame[name].to_numpy(dtype=float) for name in ("redshift", "log_mstar", "log_sfr_1gyr"))
    member = frame["member"].to_numpy()
    known = None if redshift is None or not np.isfinite(redshift).any() else redshift[np.isfinite(redshift)]
    return [
        ("p(z)", panels.marginal(z, member, "redshift", known=known)),
        ("p(log M*)", panels.marginal(mass, member, "log_mstar")),
        ("Star-forming main sequence", panels.sequence_slices(z, mass, sfr)),
        ("Mass function of what is observed", panels.mass_function(mass, member)),
    ]


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


def _template():
    loader = jinja2.PackageLoader("popcat", "data")
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True).get_template(_TEMPLATE)  # fmt: skip

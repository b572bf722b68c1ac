"""One HTML page about a fitted population."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from popcat import plots
from popcat.catalog.parquet import read_parquet
from popcat.columns import to_pandas
from popcat.errors import PopcatError
from popcat.pages.template import flattened, write_page
from popcat.paths import local, output_path
from popcat.plots import fitted_population as panels
from popcat.population.distance import Scaling, features_of
from popcat.population.fitted import Population, load_population
from popcat.population.members import WORK, read_job
from popcat.population.sampling import CENTRES, QUANTITIES, main_sequence, read_samples
from popcat.population.sensitivity import FILE, SECOND_FIT, START
from popcat.population.trust import differs_from_data, standing, start_words, statements

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
    provenance, starts = _provenance(fitted), _starts(folder)
    members = fitted.description.members
    return write_page(
        "population.html.j2", output, kind="population", title=folder.resolve().name,
        sections=[("quantities", "Quantities"), ("figures", "Figures"), ("sequence", "Main sequence"),
                  ("flows", "Flows"), ("settings", "What was fitted")],
        provenance=provenance, details=[key for key, _ in provenance if key.startswith(_DETAILS)],
        description=fitted.description, rows=len(frame), n_failed=sum(bool(member.failure) for member in members),
        cuts=" and ".join(str(cut) for cut in fitted.cuts.cuts) or "none", trust=statements(fitted.description),
        differs=differs_from_data(fitted.description.measured), quantities=_quantities(fitted),
        sequence=_sequence(frame), members=[_row(member) for member in members], fitted=_fitted(fitted),
        figures=[(title, plots.figure_to_data_uri(figure))
                 for title, figure in _figures_of(folder, fitted, frame, starts)],
    )  # fmt: skip


def _starts(folder: Path) -> dict[str, pd.DataFrame]:
    """Galaxies of the starts and of the second fit, by what they are of; none in a population of an older popcat."""
    if not (folder / FILE).is_file():
        return {}
    return dict(iter(to_pandas(read_parquet(folder / FILE)).groupby("of")))


def _quantities(population: Population) -> list[tuple[str, ...]]:
    """What two fits say of each quantity, as rows of the table."""
    measured = population.description.measured
    return [(row["name"], f"{row['p50']:.3g} ({row['p16']:.3g} to {row['p84']:.3g})", _percent(row["between_fits"]),
             _percent(row["between_starts"]), _percent(row["between_flows"]), standing(row, measured))
            for row in measured.get("quantities", [])]  # fmt: skip


def _percent(share: float | None) -> str:
    return "\u2013" if share is None else f"{share:.0%}"


def _fitted(population: Population) -> list[tuple[str, str]]:
    """Selection, noise, starts and settings, as pairs."""
    made, measured = population.description, population.description.measured
    noise, second = made.noise, measured.get("second") or {}
    of_noise = f"fitted to the errors of {noise.n_galaxies:,} galaxies"
    if noise.is_nominal:
        of_noise = "nominal, from the depths of the survey"
    pairs = {"galaxies": f"{measured['galaxies']:,}" if "galaxies" in measured else "",
             "selection": "; ".join(map(str, population.cuts.cuts)) or "none", "noise": of_noise,
             "start": start_words(measured["start"]) if "start" in measured else ""}  # fmt: skip
    if second.get("failure"):
        pairs["second start"] = f"{start_words(second['start'])}: failed, {second['failure']}"
    elif second:
        pairs["second start"] = start_words(second["start"])
        pairs["second fit"] = f"one flow, {second['steps']:,} steps, {second['seconds']:.0f} s"
        if "distance_over_floor" in second:
            pairs["second fit"] += f", {second['distance_over_floor']:.2f} times sampling noise from the data"
    facts = made.settings._facts()
    pairs |= {name: str(facts[name]) for name in ("flow", "members", "steps", "redshifts")}
    pairs["settings that are not the default"] = str(facts["not default"])
    return [(name, value) for name, value in pairs.items() if value]


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


def _figures_of(folder: Path, population: Population, frame: pd.DataFrame, starts: dict[str, pd.DataFrame]) -> list:
    """Titles and figures: with the data beside the samples where the folder still has them."""
    job = read_job(folder) if (folder / WORK / "job.json").is_file() else None
    if job is None or job.galaxies is None or job.scaling is None:
        return _figures(frame, None, starts)
    data = _physical(features_of(job.galaxies, job.scaling).numpy(), job.scaling)
    corner = _corner(frame, data, job.scaling, population, starts.get(START))
    caption = "Photometry (asinh magnitudes and colours): contours hold 68% and 95% of the galaxies"
    return [(caption, corner), *_figures(frame, job.galaxies.redshift, starts)]


def _figures(frame: pd.DataFrame, redshift: np.ndarray | None, starts: dict[str, pd.DataFrame]) -> list:
    _, mass, _ = sequence = _columns(frame)
    member = frame["member"].to_numpy()
    known = None if redshift is None or not np.isfinite(redshift).any() else redshift[np.isfinite(redshift)]
    first, second = starts.get(START), starts.get(SECOND_FIT)

    def pair(name: str) -> dict:
        """A quantity of the start and of the second fit."""
        return {key: None if some is None else some[name].to_numpy(dtype=float)
                for key, some in (("start", first), ("second", second))}  # fmt: skip

    given = "" if known is None else ", and redshifts in the catalogue"
    figures = [(f"{_TITLES.get(name, name)} of the population{given if name == 'redshift' else ''}",
                panels.marginal(frame[name].to_numpy(dtype=float), member, name,
                                known=known if name == "redshift" else None, **pair(name)))
               for name in QUANTITIES if name in frame]  # fmt: skip
    others = {key: None if some is None else _columns(some) for key, some in (("start", first), ("second", second))}
    return [
        *figures,
        ("Star-forming main sequence in slices of redshift: median and 68% of the galaxies",
         panels.sequence_slices(*sequence, **others)),
        ("Mass function of the observed galaxies, without correction for volume",
         panels.mass_function(mass, member, **pair("log_mstar"))),
    ]  # fmt: skip


_TITLES = {"redshift": "Redshift", "log_mstar": "Stellar mass", "log_sfr_1gyr": "Star-formation rate",
           "log_ssfr": "Specific star-formation rate", "age_mw_gyr": "Mass-weighted age",
           "log_z_mw": "Mass-weighted metallicity", "tau_ism": "Optical depth of the dust"}  # fmt: skip


def _columns(frame: pd.DataFrame) -> list[np.ndarray]:
    return [frame[name].to_numpy(dtype=float) for name in ("redshift", "log_mstar", "log_sfr_1gyr")]


def _corner(
    frame: pd.DataFrame, data: np.ndarray, scaling: Scaling, population: Population, start: pd.DataFrame | None
):
    """r and the colours: the other magnitudes follow."""
    bands = population.survey.band_names
    names = scaling.names(bands)
    columns = [len(bands) // 2, *range(len(bands), len(names))]
    synthetic, under = (None if some is None else _features(some, scaling, bands)[:, columns]
                        for some in (frame, start))  # fmt: skip
    return panels.photometry_corner(data[:, columns], synthetic, [names[i] for i in columns], under)


def _features(frame: pd.DataFrame, scaling: Scaling, bands: tuple[str, ...]) -> np.ndarray:
    """Magnitudes, colours and, where it is one of the features, redshift of a table of galaxies."""
    flux, z = (torch.as_tensor(frame[name].to_numpy(dtype=float, copy=True))
               for name in ([f"flux_{band}" for band in bands], "redshift"))  # fmt: skip
    return _physical(scaling(flux, z).numpy(), scaling)


def _physical(features: np.ndarray, scaling: Scaling) -> np.ndarray:
    """Features in magnitudes."""
    return features * scaling.spread + scaling.centre

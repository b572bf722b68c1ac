"""Draws of a population as a table: parameters, properties, what the survey would measure, and whether it would.

`selected` tells the two populations apart: all rows are the parent, the selected ones what the survey observes.

Two populations side by side: 1-D Wasserstein distances of every quantity, and the main sequence.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from popcat.catalog.parquet import read_parquet
from popcat.columns import quantity_fields, to_pandas
from popcat.errors import PopcatError
from popcat.files import write_parquet_atomic
from popcat.forward.photometry import Photometry
from popcat.forward.properties import Properties
from popcat.galaxy_model import GalaxyModel
from popcat.paths import local, output_path
from popcat.population.fitted import Population, load_population
from popcat.population.synthesis import Synthesis
from popcat.survey import Survey

_STREAM = 77


def draw_galaxies(
    population: Population, n: int, *, photometry: Photometry, properties: Callable, seed: int = 0
) -> pd.DataFrame:
    """n galaxies of a population: columns of `sample_schema`, in random order.

    photometry, properties : the forward model of its survey and galaxy model.
    """
    x, member = population.draw(n, seed)
    synthesis = Synthesis(photometry, population.description.noise, population.cuts, population.space)
    frame = galaxies_at(x, synthesis, properties, seed=seed).assign(member=member.astype(np.int32))
    return frame.sample(frac=1.0, random_state=np.random.default_rng(seed), ignore_index=True)


def galaxies_at(x: np.ndarray, synthesis: Synthesis, properties: Callable, *, seed: int = 0) -> pd.DataFrame:
    """Galaxies at x (n, d), unconstrained: columns of `sample_schema` but for `member`, in the order of x.

    properties : of the survey and galaxy model of the synthesis.
    """
    theta, redshift = synthesis.space.arrays(x)
    normals = torch.randn(len(x), 2 * synthesis.n_band, generator=torch.Generator().manual_seed(seed + _STREAM))
    flux, err, selected = synthesis.arrays(torch.as_tensor(x), normals)
    columns = dict(zip(synthesis.space.prior.names, theta.T, strict=True))
    columns |= properties(theta, redshift) | {"redshift": redshift}
    for i, band in enumerate(synthesis.cuts.bands):
        columns |= {f"flux_{band}": flux[:, i], f"flux_err_{band}": err[:, i]}
    return pd.DataFrame({**columns, "selected": selected})


def sample_population(
    population: "str | Path | Population", n: int = 100_000, *, output: "str | Path | None" = None, seed: int = 1,
    selected: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """n galaxies of a population: parameters, properties, photometry with the survey's noise, and `selected`.

    `population` is a folder that `fit_population` wrote, or what it returned. `selected` keeps those that the survey
    observes, so fewer than n. With `output`, a Parquet file, the table is written there, with units.

    Raises PopcatError if there is no such population.

    >>> sample_population("no such folder")
    Traceback (most recent call last):
    ...
    popcat.errors.PopcatError: no population at no such folder: expected a folder that `popcat population fit` wrote...
    """
    output = None if output is None else output_path(output)
    population = population if isinstance(population, Population) else load_population(population)
    photometry = Photometry(population.survey, population.galaxy_model)
    properties = Properties(population.survey, photometry.ingredients)
    frame = draw_galaxies(population, n, photometry=photometry, properties=properties, seed=seed)
    kept = frame[frame["selected"]] if selected else frame
    table = sample_table(kept, population.survey, population.galaxy_model)
    if output is not None:
        write_parquet_atomic(output, table)
    return to_pandas(table)


def sample_schema(survey: Survey, galaxy_model: GalaxyModel) -> pa.Schema:
    """Columns of a population's samples, with units and meanings."""
    fields = [_field(name, pa.float32(), *text) for name, text in quantity_fields(survey, galaxy_model).items()]
    for band in survey.band_names:
        fields += [_field(f"flux_{band}", pa.float32(), "nMgy", "flux with the survey's noise"),
                   _field(f"flux_err_{band}", pa.float32(), "nMgy", "its error")]  # fmt: skip
    fields += [_field("selected", pa.bool_(), "", "whether it passes the survey's cuts"),
               _field("member", pa.int32(), "", "number of the flow among those with a weight")]  # fmt: skip
    return pa.schema(fields)


def sample_table(frame: pd.DataFrame, survey: Survey, galaxy_model: GalaxyModel) -> pa.Table:
    """Samples as an Arrow table with units."""
    schema = sample_schema(survey, galaxy_model)
    return pa.table([pa.array(frame[field.name].to_numpy()).cast(field.type) for field in schema], schema=schema)


def _field(name, kind, unit, description):
    return pa.field(name, kind, metadata={"unit": unit, "description": description})


QUANTITIES = ("redshift", "log_mstar", "log_sfr_1gyr", "log_ssfr", "age_mw_gyr", "log_z_mw", "tau_ism")
STAR_FORMING_LOG_SSFR = -11.0
CENTRES = (9.5, 10.0, 10.5)


@dataclass(frozen=True)
class PopulationComparison:
    """Two populations: galaxies of each, and by quantity the 1-D Wasserstein distance and differences first - second.

    table : one row a quantity: w1, difference (of the means), p16, p50, p84 (of the quantiles), in its own unit.
    """

    first: str
    second: str
    n_first: int
    n_second: int
    table: pd.DataFrame

    def __repr__(self) -> str:
        numbers = self.table.to_string(index=False, float_format=lambda value: f"{value:.4f}")
        return f"{self.first} ({self.n_first:,}) - {self.second} ({self.n_second:,})\n{numbers}"

    def _repr_html_(self) -> str:
        return self.table.to_html(index=False, float_format=lambda value: f"{value:.4f}")


def compare_populations(
    first: "str | Path | pd.DataFrame", second: "str | Path | pd.DataFrame", *, selected: bool = True
) -> PopulationComparison:
    """Two populations: 1-D Wasserstein distance of every quantity, differences of mean and quantiles (first - second).

    Each is a folder that `fit_population` wrote, a Parquet file with columns such as those of its samples, or such a
    table in memory. `selected` compares what the survey observes, where the samples say so, not the parents.

    Raises PopcatError if there are no samples, or no quantity that both have values of.

    >>> one = pd.DataFrame({"redshift": [0.1, 0.2, 0.3]})
    >>> float(compare_populations(one + 0.05, one).table["w1"].iloc[0].round(3))
    0.05
    """
    name_a, name_b = ("a table" if isinstance(one, pd.DataFrame) else str(one) for one in (first, second))
    a, b = (_observed(one, selected) if isinstance(one, pd.DataFrame) else read_samples(one, selected=selected)
            for one in (first, second))  # fmt: skip
    return PopulationComparison(name_a, name_b, len(a), len(b), _differences(a, b))


def _differences(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    from scipy.stats import wasserstein_distance

    rows = []
    for name in QUANTITIES:
        if name in first.columns and name in second.columns:
            a, b = (frame[name].to_numpy(dtype=float) for frame in (first, second))
            a, b = a[np.isfinite(a)], b[np.isfinite(b)]
            if not len(a) or not len(b):
                continue
            rows.append({"quantity": name, "w1": wasserstein_distance(a, b), "difference": a.mean() - b.mean(),
                         **{f"p{q}": np.percentile(a, q) - np.percentile(b, q) for q in (16, 50, 84)}})  # fmt: skip
    if not rows:
        raise PopcatError(f"nothing to compare: expected columns such as {', '.join(QUANTITIES[:3])}, with values, in "
                          "both tables")  # fmt: skip
    return pd.DataFrame(rows)


def main_sequence(frame: pd.DataFrame, *, centres=CENTRES, half_width: float = 0.15) -> np.ndarray:
    """Median log SFR (Msun / yr, over 1 Gyr) of galaxies with sSFR > 1e-11 / yr at masses log M* = centres; NaN where
    there are fewer than five.
    """
    mass, sfr = frame["log_mstar"].to_numpy(dtype=float), frame["log_sfr_1gyr"].to_numpy(dtype=float)
    forming = sfr - mass > STAR_FORMING_LOG_SSFR
    rows = [sfr[forming & (np.abs(mass - centre) < half_width)] for centre in centres]
    return np.array([np.median(row) if len(row) >= 5 else np.nan for row in rows])


def read_samples(path: "str | Path", *, selected: bool = True) -> pd.DataFrame:
    """The samples of a population's folder, or a table with columns such as theirs.

    Raises PopcatError if there is neither.
    """
    path = local(path)
    file = path / "samples.parquet" if path.is_dir() else path
    if not file.is_file():
        raise PopcatError(f"no samples at {path}: expected a folder of `popcat population fit`, or a Parquet file")
    try:
        frame = to_pandas(read_parquet(file))
    except PopcatError as error:
        raise PopcatError(f"{file} cannot be read as Parquet: {error}") from error
    return _observed(frame, selected)


def _observed(frame: pd.DataFrame, selected: bool) -> pd.DataFrame:
    """What the survey observes, where that is asked for and known."""
    return frame[frame["selected"]] if selected and "selected" in frame.columns else frame

"""Draws of a population as a table: parameters, properties, what the survey would measure, and whether it would.

`selected` tells the two populations apart: all rows are the parent, the selected ones what the survey observes.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from popcat.population.fitted import Population, load_population
from popcat.population.synthesis import Synthesis
from popcat.schema import quantity_fields
from popcat.settings import Model, Survey
from popcat.sps.photometry import Photometry
from popcat.sps.properties import Properties

_STREAM = 77


def sample_population(
    population: Population, n: int, *, photometry: Photometry, properties: Callable, seed: int = 0
) -> pd.DataFrame:
    """n galaxies of a population: columns of `sample_schema`, in random order.

    photometry, properties : the forward model of its survey and galaxy model.
    """
    x, member = population.draw(n, seed)
    theta, redshift = population.space.arrays(x)
    synthesis = Synthesis(photometry, population.description.noise, population.cuts, population.space)
    normals = torch.randn(n, 2 * synthesis.n_band, generator=torch.Generator().manual_seed(seed + _STREAM))
    flux, err, selected = synthesis.arrays(torch.as_tensor(x), normals)
    columns = dict(zip(population.space.prior.names, theta.T, strict=True))
    columns |= properties(theta, redshift) | {"redshift": redshift}
    for i, band in enumerate(population.survey.band_names):
        columns |= {f"flux_{band}": flux[:, i], f"flux_err_{band}": err[:, i]}
    frame = pd.DataFrame({**columns, "selected": selected, "member": member.astype(np.int32)})
    return frame.sample(frac=1.0, random_state=np.random.default_rng(seed), ignore_index=True)


def sample_folder(folder: "str | Path", n: int, *, seed: int = 0, selected: bool = False) -> pa.Table:
    """n galaxies of a saved population as a table; `selected` keeps those that the survey observes, so fewer."""
    population = load_population(folder)
    photometry = Photometry(population.survey, population.model)
    properties = Properties(population.survey, photometry.model)
    frame = sample_population(population, n, photometry=photometry, properties=properties, seed=seed)
    return sample_table(frame[frame["selected"]] if selected else frame, population.survey, population.model)


def sample_schema(survey: Survey, model: Model) -> pa.Schema:
    """Columns of a population's samples, with units and meanings."""
    fields = [_field(name, pa.float32(), *text) for name, text in quantity_fields(survey, model).items()]
    for band in survey.band_names:
        fields += [_field(f"flux_{band}", pa.float32(), "nMgy", "flux with the survey's noise"),
                   _field(f"flux_err_{band}", pa.float32(), "nMgy", "its error")]  # fmt: skip
    fields += [_field("selected", pa.bool_(), "", "whether it passes the survey's cuts"),
               _field("member", pa.int32(), "", "number of the flow among those with a weight")]  # fmt: skip
    return pa.schema(fields)


def sample_table(frame: pd.DataFrame, survey: Survey, model: Model) -> pa.Table:
    """Samples as an Arrow table with units."""
    schema = sample_schema(survey, model)
    return pa.table([pa.array(frame[field.name].to_numpy()).cast(field.type) for field in schema], schema=schema)


def _field(name, kind, unit, description):
    return pa.field(name, kind, metadata={"unit": unit, "description": description})

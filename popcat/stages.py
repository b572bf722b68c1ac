"""The stages of a run: one partition in, one partition out. Pure functions of (frame, what the user chose).

Everything here runs without Dask; popcat.distributed maps it over partitions.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from popcat import rng
from popcat.catalog.chunk import Chunk
from popcat.catalog.partitions import OutputFolder
from popcat.catalog.readers import catalog_columns, has_posterior, read_chunk, status_of, to_photometry
from popcat.errors import PopcatError
from popcat.inference.calibration import ranks, summarise
from popcat.inference.posterior import Posterior, load_posterior
from popcat.noise import NoiseModel, add_noise
from popcat.prior import make_prior
from popcat.schema import (
    CHI2_TAIL,
    FLAGS,
    PERCENTILES,
    library_schema,
    parameter_fields,
    posterior_schema,
    property_fields,
    to_pandas,
)
from popcat.settings import Model, Survey
from popcat.sps.grid import load_grid
from popcat.sps.photometry import Photometry
from popcat.sps.properties import Properties
from popcat.units import nmgy_to_ab_mag

_MAX_FORWARDS = 4
_MAX_MOCK_BATCHES = 100
# Galaxies sampled at a time: bounds the memory of a partition whatever its size.
_BATCH_DRAWS = 200_000


@dataclass(frozen=True)
class Forward:
    """What theta and redshift imply: band fluxes and properties."""

    photometry: Photometry
    properties: Properties


_forwards: OrderedDict[str, Forward] = OrderedDict()
_lock = threading.Lock()


def forward_for(survey: Survey, model: Model) -> Forward:
    """The forward model of a survey; built once a process, shared by its threads."""
    key = survey.model_dump_json() + model.model_dump_json()
    with _lock:
        if key not in _forwards:
            photometry = Photometry(survey, model)
            _forwards[key] = Forward(photometry, Properties(survey, photometry.model))
            if len(_forwards) > _MAX_FORWARDS:
                _forwards.popitem(last=False)
        return _forwards[key]


def read_partition(chunk: Chunk, survey: Survey) -> pd.DataFrame:
    """The photometry frame of one chunk of a catalogue."""
    return to_photometry(read_chunk(chunk, catalog_columns(survey)), survey)


def draw_prior(object_id: np.ndarray, survey: Survey, model: Model, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """theta (n, d) and redshift (n,) from the prior, a function of (seed, object_id) alone."""
    prior = make_prior(model)
    u = rng.uniform(seed, rng.STREAM_PRIOR, object_id, prior.n_unconstrained + 1)
    low, high = survey.redshift_range
    return prior.from_unit(u[:, :-1]), low + (high - low) * u[:, -1]


def simulate_partition(
    start: int, stop: int, survey: Survey, model: Model, noise: NoiseModel, seed: int
) -> pd.DataFrame:
    """Galaxies start <= object_id < stop of the library with this seed: columns of popcat.schema.library_schema."""
    object_id = np.arange(start, stop, dtype=np.int64)
    theta, redshift = draw_prior(object_id, survey, model, seed)
    flux_model = forward_for(survey, model).photometry.flux(theta, redshift)
    normals = rng.normal(seed, rng.STREAM_NOISE, object_id, 2 * len(survey.bands))
    flux, err = add_noise(flux_model, noise, normals)
    columns = [object_id, redshift, *theta.T, *flux_model.T, *flux.T, *err.T]
    schema = library_schema(survey, model)
    return to_pandas(pa.table([pa.array(c).cast(f.type) for c, f in zip(columns, schema, strict=True)], schema=schema))


def infer_partition(frame: pd.DataFrame, model: str, draws: int, seed: int) -> pd.DataFrame:
    """Posteriors of one photometry frame: columns of popcat.schema.posterior_schema.

    `model` is the folder or embedded name of a posterior; it is loaded once a process. Rows without a posterior keep
    their photometry, a status that says why, and nulls.
    """
    return to_pandas(infer_table(frame, load_posterior(model), draws, seed))


def infer_table(frame: pd.DataFrame, posterior: Posterior, draws: int, seed: int) -> pa.Table:
    """`infer_partition` as an Arrow table with units in its field metadata."""
    survey = posterior.survey
    flags = frame["flags"].to_numpy().copy()
    rows = np.flatnonzero(has_posterior(flags))
    quantities, chi2 = _sample(frame.iloc[rows], posterior, draws, seed)
    flags[rows] |= np.where(chi2 > _chi2_limit(survey), FLAGS["high_chi2"], 0).astype(flags.dtype)
    columns = {name: frame[name].to_numpy() for name in ("object_id", "ra", "dec", "redshift")}
    columns |= {"status": status_of(flags), "flags": flags, "chi2_best": _scatter(chi2, rows, len(frame))}
    for band in survey.band_names:
        columns |= {name: frame[name].to_numpy() for name in (f"flux_{band}", f"flux_err_{band}")}
    for name, values in quantities.items():
        for q, column in zip(PERCENTILES, np.percentile(values, PERCENTILES, axis=1), strict=True):
            columns[f"{name}_p{q}"] = _scatter(column, rows, len(frame))
        columns[f"{name}_draws"] = _lists(values, rows, len(frame))
    schema = posterior_schema(survey, posterior.model)
    return pa.table([_arrow(columns[field.name], field.type) for field in schema], schema=schema)


def _sample(frame, posterior, draws, seed) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draws of every quantity, {name: (n, draws) float32}, and chi2_best (n,), in batches of bounded memory."""
    survey = posterior.survey
    flux, err = _bands(frame, "flux", survey), _bands(frame, "flux_err", survey)
    redshift, object_id = frame["redshift"].to_numpy(), frame["object_id"].to_numpy()
    photometry = forward_for(survey, posterior.model).photometry
    names = (*posterior.prior.names, *property_fields(survey))
    out = {name: np.empty((len(frame), draws), dtype=np.float32) for name in names}
    chi2 = np.empty(len(frame))
    step = max(_BATCH_DRAWS // draws, 1)
    for start in range(0, len(frame), step):
        part = slice(start, start + step)
        theta, _ = posterior.sample(flux[part], err[part], redshift[part], object_id[part], draws, seed)
        flat, z = theta.reshape(-1, theta.shape[2]), np.repeat(redshift[part], draws)
        model_flux = photometry.flux(flat, z).reshape(*theta.shape[:2], -1)
        residual = (model_flux - flux[part, None]) / err[part, None]
        chi2[part] = np.min(np.sum(residual**2, axis=2), axis=1)
        for name, values in derive(flat, z, survey, posterior.model).items():
            out[name][part] = values.reshape(-1, draws)
    return out, chi2


def derive(theta: np.ndarray, redshift: np.ndarray, survey: Survey, model: Model) -> dict[str, np.ndarray]:
    """Parameters and properties by name, each (n,), of theta (n, d) and redshift (n,)."""
    properties = forward_for(survey, model).properties(theta, redshift)
    return {**dict(zip(parameter_fields(model), theta.T, strict=True)), **properties}


def draw_mocks(posterior: Posterior, n: int, seed: int) -> pd.DataFrame:
    """The first n simulated galaxies that pass the survey's selection: a library frame, fresh for every seed.

    Their numbers begin at 2^40, beyond any training library, so that no seed repeats its galaxies.

    Raises PopcatError if hardly any galaxy passes.
    """
    survey, parts, found = posterior.survey, [], 0
    for start in range(2**40, 2**40 + _MAX_MOCK_BATCHES * 4 * n, 4 * n):
        frame = simulate_partition(start, start + 4 * n, survey, posterior.model, posterior.noise, seed)
        mag = nmgy_to_ab_mag(frame[f"flux_{survey.selection.band}"].to_numpy())
        parts.append(frame[(mag >= survey.selection.bright_mag) & (mag <= survey.selection.faint_mag)])
        found += len(parts[-1])
        if found >= n:
            return pd.concat(parts, ignore_index=True).iloc[:n]
    raise PopcatError(
        f"only {found} of {_MAX_MOCK_BATCHES * 4 * n} simulated galaxies pass the selection of survey "
        f'"{survey.name}" ({survey.selection.band} {survey.selection.bright_mag} to {survey.selection.faint_mag} mag)'
    )


def calibrate_posterior(posterior: Posterior, n: int, seed: int, draws: int) -> tuple[dict, dict[str, np.ndarray]]:
    """Calibration summary and the ranks by name, on n fresh mocks from the prior with the model's own noise."""
    survey = posterior.survey
    mocks = draw_mocks(posterior, n, seed)
    redshift = mocks["redshift"].to_numpy()
    frame = mocks.assign(**dict.fromkeys(("ra", "dec", "redshift_err"), np.nan), flags=np.int32(0))
    quantities, _ = _sample(frame, posterior, draws, seed)
    names = posterior.prior.names
    theta = mocks[list(names)].to_numpy(dtype=np.float64)
    truth = derive(theta, redshift, survey, posterior.model)
    all_ranks = {name: ranks(truth[name].astype(np.float32), values) for name, values in quantities.items()}
    flat = np.column_stack([quantities[name].ravel() for name in names]).astype(np.float64)
    outside = int((~posterior.prior.contains(flat, tolerance=1e-5)).sum())
    summary = {
        "mode": "redshift given",
        "model": posterior.name,
        "draws": draws,
        "seed": seed,
        "outside_prior": outside,
    }
    return {**summary, **summarise(all_ranks)}, all_ranks


def _bands(frame, column, survey) -> np.ndarray:
    return np.column_stack([frame[f"{column}_{band}"].to_numpy(dtype=np.float64) for band in survey.band_names])


def _chi2_limit(survey: Survey) -> float:
    """chi2 that pure noise exceeds with probability CHI2_TAIL: even the best of all models would not fit."""
    from scipy.stats import chi2

    return float(chi2.isf(CHI2_TAIL, len(survey.bands)))


def _scatter(values, rows, n) -> pa.Array:
    """A float32 column with nulls in the other rows."""
    full = np.zeros(n, dtype=np.float32)
    with np.errstate(over="ignore"):  # a chi2 beyond float32 is infinite
        full[rows] = values
    return pa.array(full, mask=_missing(rows, n))


def _lists(values, rows, n) -> pa.Array:
    """A list<float32> column with nulls in the other rows."""
    lengths = np.zeros(n, dtype=np.int32)
    lengths[rows] = values.shape[1]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()), mask=pa.array(_missing(rows, n)))


def _missing(rows, n) -> np.ndarray:
    """Which of n rows are not among `rows`, (n,) bool."""
    missing = np.ones(n, dtype=bool)
    missing[rows] = False
    return missing


def _arrow(values, kind) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, type=kind, from_pandas=False)


def write_library_part(folder: OutputFolder, index: int, start: int, stop: int, survey, model, noise, seed) -> int:
    """Simulate one part of a library and write it; the number of rows."""
    frame = simulate_partition(start, stop, survey, model, noise, seed)
    folder.write_part(index, pa.Table.from_pandas(frame, schema=library_schema(survey, model), preserve_index=False))
    return len(frame)


def write_posterior_part(folder: OutputFolder, chunk: Chunk, model: str, name: str, draws: int, seed: int) -> int:
    """Read one chunk, infer its posteriors and write the part; the number of rows.

    Raises PopcatError if the model that this process finds is not the one that the run began with.
    """
    posterior = load_posterior(model)
    if posterior.name != name:
        raise PopcatError(
            f"model {model} changed during the run ({posterior.name[:12]}, expected {name[:12]}): "
            "put the first one back, or start anew in another folder"
        )
    table = infer_table(read_partition(chunk, posterior.survey), posterior, draws, seed)
    status = {
        str(value): int(n) for value, n in zip(*np.unique(table["status"].to_numpy(), return_counts=True), strict=True)
    }
    folder.write_part(chunk.index, table, {"status": status})
    return table.num_rows


def grid_hash(model: Model) -> str:
    """SHA-256 of the SSP grid that a model names: goes into fingerprints and provenance."""
    return load_grid(model.grid).content_hash()

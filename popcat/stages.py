"""The stages of a run: one partition in, one partition out. Pure functions of (frame, what the user chose).

Everything here runs without Dask; popcat.distributed maps it over partitions.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from popcat import rng
from popcat.catalog.chunk import Chunk
from popcat.catalog.partitions import OutputFolder
from popcat.catalog.readers import (
    catalog_columns,
    has_posterior,
    observed,
    plan_chunks,
    read_chunk,
    status_of,
    to_photometry,
)
from popcat.certifying import certificate_columns, certified_quantities, judge, others, scatter
from popcat.errors import PopcatError
from popcat.inference.certify import Effort
from popcat.inference.peers import N_FIT, Peers, fit_peers
from popcat.inference.posterior import Posterior, load_posterior
from popcat.inference.reweighted import reweight_table
from popcat.inference.trust import chi2_of
from popcat.noise import NoiseModel, add_noise
from popcat.prior import make_prior
from popcat.schema import (
    FLAGS,
    PERCENTILES,
    library_schema,
    parameter_fields,
    posterior_schema,
    quantity_fields,
    to_pandas,
)
from popcat.settings import Model, Survey
from popcat.sps.grid import load_grid
from popcat.sps.photometry import Photometry
from popcat.sps.properties import Properties
from popcat.timing import stage
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


def without_redshift(frame: pd.DataFrame) -> pd.DataFrame:
    """A photometry frame with its redshifts hidden, so that they are inferred."""
    flags = frame["flags"] & ~FLAGS["redshift_out_of_range"] | FLAGS["missing_redshift"]
    return frame.assign(redshift=np.nan, redshift_err=np.nan, flags=flags.astype(np.int32))


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


def infer_partition(
    frame: pd.DataFrame, model: str, draws: int, seed: int, effort: Effort | None = None, peers: Peers | None = None
) -> pd.DataFrame:
    """Posteriors of one photometry frame: columns of popcat.schema.posterior_schema.

    `model` is the folder or embedded name of a posterior; it is loaded once a process. Rows without a posterior keep
    their photometry, a status that says why, and nulls. With an `effort` the exact likelihood corrects the draws; with
    `peers` the catalogue's own galaxies say whether a band is off.
    """
    return to_pandas(infer_table(frame, load_posterior(model), draws, seed, effort, peers))


def infer_table(
    frame: pd.DataFrame, posterior: Posterior, draws: int, seed: int, effort: Effort | None = None,
    peers: Peers | None = None,
) -> pa.Table:  # fmt: skip
    """`infer_partition` as an Arrow table with units in its field metadata."""
    survey = posterior.survey
    flags = frame["flags"].to_numpy().copy()
    rows, n = np.flatnonzero(has_posterior(flags)), len(frame)
    data = observation(frame.iloc[rows], survey)
    forward = forward_for(survey, posterior.model).photometry.flux
    if effort is None:
        (quantities, chi2), proof = sample_quantities(data, posterior, draws, seed), None
    else:
        derived = partial(derive, survey=survey, model=posterior.model)
        quantities, proof = certified_quantities(data, posterior, forward, derived, draws, seed, effort)
        chi2 = proof.chi2_best
    found = judge(data, posterior, forward, chi2, seed, peers)
    flags[rows] |= found.flags.astype(flags.dtype)
    columns = {name: frame[name].to_numpy() for name in ("object_id", "ra", "dec", "redshift", "redshift_err")}
    columns |= {"status": status_of(flags), "flags": flags, "n_bands": np.zeros(n, dtype=np.int32)}
    columns["n_bands"][rows] = observed(data.flux, data.flux_err).sum(axis=1)
    columns["chi2_best"] = scatter(chi2, rows, n)
    columns |= {name: scatter(tail, rows, n, nan_is_null=True) for name, tail in found.tails.items()}
    columns["worst_band"] = _names(found.worst, rows, n, survey)
    columns |= certificate_columns(proof, flags, rows)
    for band in survey.band_names:
        columns |= {name: frame[name].to_numpy() for name in (f"flux_{band}", f"flux_err_{band}")}
    for name, values in quantities.items():
        for q, column in zip(PERCENTILES, np.percentile(values, PERCENTILES, axis=1), strict=True):
            columns[f"{name}_p{q}"] = scatter(column, rows, n)
        columns[f"{name}_draws"] = _lists(values, rows, n)
    schema = posterior_schema(survey, posterior.model)
    return pa.table([_arrow(columns[field.name], field.type) for field in schema], schema=schema)


@dataclass(frozen=True)
class Observation:
    """Photometry of n galaxies as arrays: flux, flux_err (n, n_band) in nMgy; the others (n,)."""

    flux: np.ndarray
    flux_err: np.ndarray
    redshift: np.ndarray
    redshift_err: np.ndarray
    object_id: np.ndarray

    def __getitem__(self, rows) -> "Observation":
        return Observation(*(values[rows] for values in vars(self).values()))

    def __len__(self) -> int:
        return len(self.object_id)


def observation(frame: pd.DataFrame, survey: Survey) -> Observation:
    """The arrays of a photometry frame."""
    names = ("redshift", "redshift_err", "object_id")
    return Observation(_bands(frame, "flux", survey), _bands(frame, "flux_err", survey),
                       *(frame[name].to_numpy() for name in names))  # fmt: skip


def find_peers(source: str | Path, posterior: Posterior, *, hide_redshift: bool = False) -> Peers | None:
    """A description of a catalogue's own galaxies, of parts spread evenly over it; None if they are too few.

    A function of the catalogue alone, not of how a run cuts it.
    """
    chunks = plan_chunks(source)
    rows = sum(chunk.stop - chunk.start for chunk in chunks) / max(len(chunks), 1)
    n = min(len(chunks), int(np.ceil(2 * N_FIT / max(rows, 1.0))))
    chosen = [chunks[i] for i in np.unique(np.linspace(0, len(chunks) - 1, n).astype(int))]
    frame = pd.concat([read_partition(chunk, posterior.survey) for chunk in chosen], ignore_index=True)
    frame = without_redshift(frame) if hide_redshift else frame
    flags = frame["flags"].to_numpy()
    good = has_posterior(flags) & (flags & FLAGS["quality_cut"] == 0)
    data = observation(frame[good], posterior.survey)
    return fit_peers(data.flux, data.flux_err, data.redshift, data.redshift_err, posterior.features.softening)


def sample_quantities(
    data: Observation, posterior: Posterior, draws: int, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draws of every quantity, {name: (n, draws) float32}, and chi2_best (n,), in batches of bounded memory."""
    survey = posterior.survey
    photometry = forward_for(survey, posterior.model).photometry
    out = {name: np.empty((len(data), draws), dtype=np.float32) for name in quantity_fields(survey, posterior.model)}
    chi2 = np.empty(len(data))
    step = max(_BATCH_DRAWS // draws, 1)
    for start in range(0, len(data), step):
        part = slice(start, start + step)
        some = data[part]
        with stage("sample"):
            found = posterior.sample(
                some.flux, some.flux_err, some.redshift, some.object_id, draws, seed, redshift_err=some.redshift_err
            )
        flat, z = found.theta.reshape(-1, found.theta.shape[2]), found.redshift.ravel()
        model_flux = photometry.flux(flat, z).reshape(len(some), draws, -1)
        chi2[part] = chi2_of(model_flux, some.flux, some.flux_err).min(axis=1)
        for name, values in derive(flat, z, survey, posterior.model).items():
            out[name][part] = values.reshape(-1, draws)
    return out, chi2


def derive(theta: np.ndarray, redshift: np.ndarray, survey: Survey, model: Model) -> dict[str, np.ndarray]:
    """Every quantity by name, each (n,), of theta (n, d) and redshift (n,)."""
    properties = forward_for(survey, model).properties(theta, redshift)
    return {**dict(zip(parameter_fields(model), theta.T, strict=True)), **properties, "redshift": redshift}


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


def _bands(frame, column, survey) -> np.ndarray:
    return np.column_stack([frame[f"{column}_{band}"].to_numpy(dtype=np.float64) for band in survey.band_names])


def _lists(values, rows, n) -> pa.Array:
    """A list<float32> column with nulls in the other rows."""
    lengths = np.zeros(n, dtype=np.int32)
    lengths[rows] = values.shape[1]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()), mask=pa.array(others(rows, n)))


def _names(index, rows, n, survey: Survey) -> pa.Array:
    """Names of bands by index, null where it is -1 and in the other rows."""
    names = np.full(n, None, dtype=object)
    names[rows] = [survey.band_names[i] if i >= 0 else None for i in index]
    return pa.array(names, type=pa.string())


def _arrow(values, kind) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, type=kind, from_pandas=False)


def write_library_part(folder: OutputFolder, index: int, start: int, stop: int, survey, model, noise, seed) -> int:
    """Simulate one part of a library and write it; the number of rows."""
    with stage("simulate"):
        frame = simulate_partition(start, stop, survey, model, noise, seed)
    folder.write_part(index, pa.Table.from_pandas(frame, schema=library_schema(survey, model), preserve_index=False))
    return len(frame)


def write_posterior_part(
    folder: OutputFolder, chunk: Chunk, model: str, name: str, draws: int, seed: int, hide_redshift: bool = False,
    effort: Effort | None = None, peers: Peers | None = None,
) -> int:  # fmt: skip
    """Read one chunk, infer its posteriors and write the part; the number of rows.

    Raises PopcatError if the model that this process finds is not the one that the run began with.
    """
    posterior = load_posterior(model)
    if posterior.name != name:
        raise PopcatError(
            f"model {model} changed during the run ({posterior.name[:12]}, expected {name[:12]}): "
            "put the first one back, or start anew in another folder"
        )
    with stage("read"):
        frame = read_partition(chunk, posterior.survey)
        frame = without_redshift(frame) if hide_redshift else frame
    with stage("derive"):
        table = infer_table(frame, posterior, draws, seed, effort, peers)
    status = {
        str(value): int(n) for value, n in zip(*np.unique(table["status"].to_numpy(), return_counts=True), strict=True)
    }
    folder.write_part(chunk.index, table, {"status": status})
    return table.num_rows


def write_reweighted_part(
    folder: OutputFolder, index: int, part: str, new, survey: Survey, model: Model, seed: int
) -> int:
    """Read one part of a posterior catalogue, reweight it to a new prior and write it; the number of rows."""
    table = reweight_table(pq.read_table(part), new, make_prior(model), survey.redshift_range, seed)
    folder.write_part(index, table)
    return table.num_rows


def grid_hash(model: Model) -> str:
    """SHA-256 of the SSP grid that a model names: goes into fingerprints and provenance."""
    return load_grid(model.grid).content_hash()

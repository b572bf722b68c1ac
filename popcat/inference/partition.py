"""One partition of a catalogue: photometry in, table of posteriors out. Runs without Dask."""

from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa

from popcat.catalog.draws import encode, scatter
from popcat.catalog.parts import OutputFolder
from popcat.checks.certify import Certified, Effort, certified_quantities
from popcat.checks.flags import judge
from popcat.checks.peers import Peers
from popcat.columns import PERCENTILES, posterior_schema, to_pandas
from popcat.errors import PopcatError
from popcat.forward.model import derive, forward_for
from popcat.galaxies import CERTIFIED_ESS, FLAGS, UNCERTIFIED, has_posterior, observation, observed, status_of
from popcat.io.chunks import Chunk
from popcat.io.reading import read_partition, without_redshift
from popcat.posterior.posterior import Posterior, load_posterior
from popcat.posterior.sampling import sample_quantities
from popcat.survey import Survey
from popcat.timing import stage


def infer_partition(
    frame: pd.DataFrame, posterior: str, draws: int, seed: int, effort: Effort | None = None, peers: Peers | None = None
) -> pd.DataFrame:
    """Posteriors of one photometry frame: columns of popcat.columns.posterior_schema.

    `model` is the folder or embedded name of a posterior; it is loaded once a process. Rows without a posterior keep
    their photometry, a status that says why, and nulls. With an `effort` the exact likelihood corrects the draws; with
    `peers` the catalogue's own galaxies say whether a band is off.
    """
    return to_pandas(infer_table(frame, load_posterior(posterior), draws, seed, effort, peers))


def infer_table(
    frame: pd.DataFrame, posterior: Posterior, draws: int, seed: int, effort: Effort | None = None,
    peers: Peers | None = None,
) -> pa.Table:  # fmt: skip
    """`infer_partition` as an Arrow table with units in its field metadata."""
    survey = posterior.survey
    flags = frame["flags"].to_numpy().copy()
    rows, n = np.flatnonzero(has_posterior(flags)), len(frame)
    data = observation(frame.iloc[rows], survey)
    forward = forward_for(survey, posterior.galaxy_model).photometry.flux
    if effort is None:
        (quantities, chi2), proof = sample_quantities(data, posterior, draws, seed), None
    else:
        derived = partial(derive, survey=survey, galaxy_model=posterior.galaxy_model)
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
        columns[f"{name}_draws"] = encode(values, rows, n)
    schema = posterior_schema(survey, posterior.galaxy_model)
    return pa.table([_arrow(columns[field.name], field.type) for field in schema], schema=schema)


def _names(index, rows, n, survey: Survey) -> pa.Array:
    """Names of bands by index, null where it is -1 and in the other rows."""
    names = np.full(n, None, dtype=object)
    names[rows] = [survey.band_names[i] if i >= 0 else None for i in index]
    return pa.array(names, type=pa.string())


def _arrow(values, kind) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, type=kind, from_pandas=False)


def write_posterior_part(
    folder: OutputFolder, chunk: Chunk, posterior: str, name: str, draws: int, seed: int, hide_redshift: bool = False,
    effort: Effort | None = None, peers: Peers | None = None,
) -> int:  # fmt: skip
    """Read one chunk, infer its posteriors and write the part; the number of rows.

    Raises PopcatError if the model that this process finds is not the one that the run began with.
    """
    where, posterior = posterior, load_posterior(posterior)
    if posterior.name != name:
        raise PopcatError(
            f"posterior {where} changed during the run ({posterior.name[:12]}, expected {name[:12]}): "
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


def certificate_columns(proof: Certified | None, flags: np.ndarray, rows: np.ndarray) -> dict[str, pa.Array]:
    """The columns of popcat.columns.certificate_fields; without a proof they say so. flags (n,); rows were inferred."""
    n = len(flags)
    route, why = np.full(n, None, dtype=object), np.full(n, None, dtype=object)
    route[rows] = "flow" if proof is None else proof.route
    certified = np.zeros(n, dtype=bool)
    numbers = ("log_evidence", "ess", "efficiency", "pareto_k")
    columns = {name: pa.nulls(n, pa.float32()) for name in numbers} | {"n_proposals": np.zeros(n, dtype=np.int32)}
    if proof is not None:
        why[rows] = np.where(proof.route_why == "", None, proof.route_why)
        passed = (flags[rows] & sum(FLAGS[name] for name in UNCERTIFIED)) == 0
        certified[rows] = passed & np.isin(proof.route, ("flow+is", "smc")) & (proof.ess >= CERTIFIED_ESS)
        columns |= {name: scatter(getattr(proof, name), rows, n, nan_is_null=True) for name in numbers}
        columns["n_proposals"][rows] = proof.n_proposals
    text = {"route": pa.array(route, type=pa.string()), "route_why": pa.array(why, type=pa.string())}
    return {"certified": certified, **text, **columns}

"""A posterior table under another prior: weights, resampled draws, quantiles, evidence, effective draws."""

import numpy as np
import pyarrow as pa

from popcat import rng
from popcat.inference.reweight import log_ratio_of
from popcat.inference.weights import importance, resample
from popcat.prior import Prior
from popcat.schema import CERTIFIED_ESS, PERCENTILES

_STREAM = 10


def reweight_table(table: pa.Table, new, prior: Prior, redshift_range: tuple[float, float], seed: int) -> pa.Table:
    """Rows of a posterior catalogue under a new prior (popcat.inference.reweight): columns and row order stay.

    Draws are resampled, quantiles taken anew, the evidence multiplied by the mean weight. `ess` becomes the number of
    effective draws that are left of those stored; below 100 of them nothing is certified any more.
    """
    rows = np.flatnonzero(table["status"].to_numpy(zero_copy_only=False) == "ok")
    if len(rows) == 0:
        return table
    names = [name.removesuffix("_draws") for name in table.column_names if name.endswith("_draws")]
    draws = {name: _matrix(table[f"{name}_draws"], rows) for name in names}
    z = draws["redshift"]
    is_free = np.ptp(z, axis=1) > 0.0
    found = importance(log_ratio_of(new, prior, redshift_range, draws, is_free))
    k = z.shape[1]
    ids = table["object_id"].to_numpy()[rows]
    chosen = resample(found.smoothed, rng.uniform(seed, _STREAM, ids, 1)[:, 0], k)
    changed = {name: np.take_along_axis(values, chosen, axis=1) for name, values in draws.items()}
    for name, values in changed.items():
        table = _replace(table, f"{name}_draws", _lists(values, rows, table.num_rows))
        for q, column in zip(PERCENTILES, np.percentile(values, PERCENTILES, axis=1), strict=True):
            table = _replace(table, f"{name}_p{q}", _column(column, rows, table.num_rows))
    return _with_proof(table, found, rows, k)


def _with_proof(table, found, rows, k):
    """Effective draws, evidence and certificate, as the weights leave them."""
    n = table.num_rows
    before = table["ess"].to_numpy(zero_copy_only=False).astype(float)[rows]
    ess = found.ess * np.minimum(np.where(np.isnan(before), k, before), k) / k
    evidence = table["log_evidence"].to_numpy(zero_copy_only=False).astype(float)[rows] + found.log_evidence
    certified = table["certified"].to_numpy(zero_copy_only=False).copy()
    certified[rows] &= (ess >= CERTIFIED_ESS) & np.isfinite(evidence)
    table = _replace(table, "ess", _column(ess, rows, n))
    table = _replace(table, "log_evidence", _column(evidence, rows, n))
    return _replace(table, "certified", pa.array(certified))


def _matrix(column, rows) -> np.ndarray:
    """Draws (len(rows), k) of a list column: every galaxy has the same number of them."""
    values = column.combine_chunks().drop_null()
    flat = values.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(rows), -1)


def _column(values, rows, n) -> pa.Array:
    full = np.full(n, np.nan, dtype=np.float32)
    full[rows] = values
    return pa.array(full, mask=np.isnan(full))


def _lists(values, rows, n) -> pa.Array:
    lengths = np.zeros(n, dtype=np.int32)
    lengths[rows] = values.shape[1]
    missing = np.ones(n, dtype=bool)
    missing[rows] = False
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()), mask=pa.array(missing))


def _replace(table, name, values):
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), values.cast(table.schema.field(at).type))

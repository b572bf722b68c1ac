"""A posterior catalogue under another prior: weights, resampled draws, quantiles, evidence, effective draws."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from popcat import rng
from popcat.catalog.draws import SUFFIX, decode_table, encode, scatter
from popcat.catalog.parquet import read_parquet
from popcat.catalog.parts import OutputFolder, write_parts
from popcat.catalog.queries import Catalog, open_catalog
from popcat.checks.flags import is_at_edge
from popcat.checks.weights import Weights, importance, resample
from popcat.columns import PERCENTILES
from popcat.errors import PopcatError
from popcat.galaxies import CERTIFIED_ESS, FLAGS, is_clean
from popcat.galaxy_model import GalaxyModel
from popcat.inference.rows import counts_of_folder, counts_of_table
from popcat.paths import output_path, path_of
from popcat.plugins import PluginKind
from popcat.population.fitted import population_prior
from popcat.posterior.priors import NamedPrior, load_prior, log_ratio_of, named_prior
from popcat.prior import BOTH, PRIORS, make_prior
from popcat.run.client import SYNCHRONOUS, Where
from popcat.run.runner import How

PLUGINS = PluginKind("popcat.priors", "prior", (*PRIORS, BOTH))
"""Priors of other packages, by name: each a function as `reweight` takes."""
_STREAM = 10

_SECONDS = 5e-4
"""Of one core for one galaxy with 100 draws, about."""


def reweight(
    posteriors: str | Path, prior: "str | Path | Callable", *, output: str | Path, seed: int = 0,
    client: Where = None, workers: int | None = None, progress: bool = False, log: str | Path | None = None,
) -> Catalog:  # fmt: skip
    """Write a posterior catalogue under another prior, inside the training prior, and open it.

    `prior` is "flat" or "physical" (popcat.prior.PRIORS), a TOML file (popcat.posterior.priors says what it holds), the
    folder of a fitted population, which every worker must see, the name of a plugin (docs/plugins.md), which every
    worker must have, or a function of the draws by name, each (n, k), that gives the ln of its density; a function runs
    in this process.

    Raises PopcatError for a prior that reaches outside the training prior, or a folder without posteriors.

    >>> def less_dust(draws):
    ...     return -draws["tau_ism"] / 0.5
    >>> reweight("posteriors", less_dust, output="less_dusty").quantities[:2]
    ['log_mstar_formed', 'beta1']
    """
    catalog = open_catalog(posteriors)
    manifest, survey, galaxy_model = catalog.require_manifest(), catalog.survey, catalog.galaxy_model
    output = output_path(output)
    is_file = not callable(prior)
    if callable(prior):
        new, text = prior, getattr(prior, "__name__", "function")
    else:
        new, text = _new_prior(prior, galaxy_model, survey.redshift_range)
    settings = {"posteriors": manifest.fingerprint_sha256, "seed": seed, "prior": text}
    base = named_prior(manifest.posterior.prior, galaxy_model, survey.redshift_range)
    how = How(client if is_file else SYNCHRONOUS, workers if is_file else None, progress, log=log)
    how.verify()
    arguments = {"posteriors": str(path_of(posteriors)), "prior": str(prior), "seed": seed} if is_file else {}
    folder = OutputFolder.open(output, settings, len(manifest.parts), kind=manifest.KIND, arguments=arguments)
    with folder.alone() as folder:
        files = [(str(path_of(posteriors).expanduser().absolute() / part.file), part.sha256) for part in manifest.parts]
        jobs = {i: (folder, i, *files[i], new, base, seed) for i in folder.resume(check=False)}
        rows = [part.rows for part in manifest.parts]
        seconds = _SECONDS * sum(rows[index] for index in jobs)
        write_parts(folder, write_reweighted_part, jobs, rows, "reweighting", how, seconds=seconds)
        changed = {"prior": text, "reweighted_from": str(path_of(posteriors)), "learned": None,
                   **counts_of_folder(folder)}  # fmt: skip
        folder.finish(manifest.record.model_copy(update=changed))
    return open_catalog(output)


def _new_prior(path: str | Path, galaxy_model: GalaxyModel, redshift_range) -> tuple[Any, str]:
    """A named prior, a population's folder, a TOML file or a plugin as a prior, and what the manifest says of it."""
    if str(path) in PRIORS:
        return named_prior(str(path), galaxy_model, redshift_range), str(path)
    prior = make_prior(galaxy_model)
    if (where := path_of(path)).is_dir():
        new = population_prior(path, prior, redshift_range)
        return new, f"population {new.name}"
    if not where.exists() and str(path) in PLUGINS.names():
        new = PLUGINS.load(str(path))
        if not callable(new):
            raise PLUGINS.broken(str(path), f"is a {type(new).__name__}: expected a function of the draws by name")
        return new, PLUGINS.label(str(path))
    return load_prior(path, prior, redshift_range), where.read_text(encoding="utf-8")


def reweight_table(table: pa.Table, new: Any, base: NamedPrior, seed: int) -> pa.Table:
    """Rows of a posterior catalogue, made under `base`, under a new prior (popcat.posterior.priors): columns and row
    order stay.

    Draws are resampled, quantiles taken anew, the evidence multiplied by the mean weight. `ess` becomes the number of
    effective draws that are left of those stored; below 100 of them nothing is certified any more.
    """
    rows = np.flatnonzero(table["status"].to_numpy(zero_copy_only=False) == "ok")
    if len(rows) == 0:
        return table
    have, draws = decode_table(table)
    if not np.array_equal(have, rows):
        raise PopcatError(f"expected draws of the {len(rows)} galaxies with status ok, got them of {len(have)}")
    z = draws["redshift"]
    is_free = np.ptp(z, axis=1) > 0.0
    prior, redshift_range = base.prior, base.redshift_range
    log_ratio = log_ratio_of(new, prior, redshift_range, draws, is_free) - base.log_ratio(draws, is_free)
    found = importance(log_ratio)
    k = z.shape[1]
    ids = table["object_id"].to_numpy()[rows]
    chosen = resample(found.smoothed, rng.uniform(seed, _STREAM, ids, 1)[:, 0], k)
    changed = {name: np.take_along_axis(values, chosen, axis=1) for name, values in draws.items()}
    for name, values in changed.items():
        table = _replace(table, f"{name}{SUFFIX}", encode(values, rows, table.num_rows))
        for q, column in zip(PERCENTILES, np.percentile(values, PERCENTILES, axis=1), strict=True):
            table = _replace(table, f"{name}_p{q}", scatter(column, rows, table.num_rows, nan_is_null=True))
    at_edge = is_at_edge(changed, is_free, prior, redshift_range)
    return _recertified(_flagged(table, at_edge, rows), found, rows, k)


def _flagged(table: pa.Table, at_edge: np.ndarray, rows: np.ndarray) -> pa.Table:
    """Flags and `clean` by the new draws; a catalogue written before has no such column."""
    flags = table["flags"].to_numpy().copy()
    flags[rows] = flags[rows] & ~FLAGS["at_edge"] | FLAGS["at_edge"] * at_edge
    table = _replace(table, "flags", pa.array(flags))
    return _replace(table, "clean", pa.array(is_clean(flags))) if "clean" in table.column_names else table


def _recertified(table: pa.Table, found: Weights, rows: np.ndarray, k: int) -> pa.Table:
    """Effective draws, evidence and certificate, as the weights leave them."""
    n = table.num_rows
    before = table["ess"].to_numpy(zero_copy_only=False).astype(float)[rows]
    ess = found.ess * np.minimum(np.where(np.isnan(before), k, before), k) / k
    evidence = table["log_evidence"].to_numpy(zero_copy_only=False).astype(float)[rows] + found.log_evidence
    certified = table["certified"].to_numpy(zero_copy_only=False).copy()
    certified[rows] &= (ess >= CERTIFIED_ESS) & np.isfinite(evidence)
    table = _replace(table, "ess", scatter(ess, rows, n, nan_is_null=True))
    table = _replace(table, "log_evidence", scatter(evidence, rows, n, nan_is_null=True))
    return _replace(table, "certified", pa.array(certified))


def _replace(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), values.cast(table.schema.field(at).type))


def _unlearned(table: pa.Table) -> pa.Table:
    """Without what was said to be learned beyond the prior of before."""
    said = [{key: text for key, text in (field.metadata or {}).items() if key != b"learned"} for field in table.schema]
    fields = [field.with_metadata(kept) for field, kept in zip(table.schema, said, strict=True)]
    return table.cast(pa.schema(fields, table.schema.metadata))


def write_reweighted_part(
    folder: OutputFolder, index: int, part: str, sha256: str, new: object, base: NamedPrior, seed: int
) -> int:
    """Read one part of a posterior catalogue, reweight it to a new prior and write it; the number of rows."""
    whole = read_parquet(part, sha256=sha256)
    table = _unlearned(reweight_table(whole, new, base, seed))
    folder.write_part(index, table, counts_of_table(table))
    return table.num_rows

"""One part of a catalogue: photometry in, table of posteriors out, without Dask. And how large a part is.

    photometry frame -> Observation -> draws -> certified, where asked; checked, always -> quantities -> table
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

from popcat.catalog.chi2_limits import Chi2Limits, limits_of
from popcat.catalog.draws import encode, scatter
from popcat.catalog.learned import Learned
from popcat.catalog.parts import OutputFolder
from popcat.checks.alternatives import DEFAULT_ODDS, NOT_GALAXY, Odds, alternatives
from popcat.checks.certify import Certified, Effort, certify
from popcat.checks.flags import OwnGalaxies, check_galaxies, is_at_edge, known_redshift, rows_to_fit
from popcat.columns import PERCENTILES, posterior_schema, to_pandas
from popcat.errors import PopcatError
from popcat.galaxies import (
    CERTIFIED_ESS,
    FLAGS,
    OBJECT_NAME,
    UNCERTIFIED,
    has_posterior,
    is_clean,
    observation,
    observed,
    status_of,
)
from popcat.inference.rows import counts_of_table
from popcat.io.chunks import Chunk
from popcat.io.named import Source
from popcat.io.photometry import catalog_columns
from popcat.io.reading import read_partition, read_pieces, seen_by, without_redshift
from popcat.io.sources import plan_chunks
from popcat.posterior.posterior import Posterior, load_posterior
from popcat.run.frames import Part
from popcat.survey import Survey
from popcat.timing import recorded, stage


@dataclass(frozen=True)
class Request:
    """What is inferred of every part of a catalogue; small, so that it travels with each.

    posterior : its location, which every worker must see, and name : its hash. survey : how files are read. effort :
    of the correction by the exact likelihood; None is none. own : what describes the catalogue's own galaxies. device :
    where a worker without a GPU of its own samples, as torch names it. prior : the one of the posterior's that draws
    are made under. calibration : what the metadata of columns says of the posterior's calibration, by quantity.
    learned : what the catalogue's photometry says beyond the prior, for the same place. chi2_limits : of the flag
    high_chi2; None is the chi2 law. odds : of stars and quasars, for p_star and p_qso.
    """

    posterior: str
    name: str
    survey: Survey
    draws: int
    seed: int
    hide_redshift: bool = False
    effort: Effort | None = None
    own: OwnGalaxies | None = None
    device: str = "cpu"
    prior: str | None = None
    calibration: Mapping[str, str] = field(default_factory=dict)
    learned: Learned | None = None
    chi2_limits: Chi2Limits | None = None
    odds: Odds = DEFAULT_ODDS

    @property
    def remarks(self) -> dict[str, dict[str, str]]:
        """Metadata of the columns of a quantity, by its name and a key."""
        said = {"calibration": self.calibration, "learned": {} if self.learned is None else self.learned.of_columns()}
        names = dict.fromkeys(name for words in said.values() for name in words)
        return {name: {key: words[name] for key, words in said.items() if name in words} for name in names}


OTHERS = ("p_star", "p_qso")
"""Columns of probabilities of what is no galaxy."""

OfCatalog: TypeAlias = Chunk | Sequence[Chunk] | Part | pd.DataFrame
"""A part of a catalogue: rows of a file or of several, of a Dask frame, or photometry as it is."""


def read_part(part: OfCatalog, survey: Survey) -> pd.DataFrame:
    """The photometry frame of a part."""
    if isinstance(part, Chunk | tuple):
        return read_partition(part, survey)
    return seen_by(part.make() if isinstance(part, Part) else part, survey)


def read_spread(
    source: Source, survey: Survey, spans: Callable[[int], list[tuple[int, int]]] = rows_to_fit
) -> pd.DataFrame:
    """The photometry frame of rows that stand for all n of a catalogue: first and last (excluded) of `spans(n)`."""
    chunks = plan_chunks(source, columns=catalog_columns(survey))
    rows = [chunk.stop - chunk.start for chunk in chunks]
    return read_pieces([[chunk] for chunk in chunks], pieces_of(rows, spans(sum(rows))), survey)


def infer_part(part: OfCatalog, request: Request) -> pa.Table:
    """Posteriors of one part; PopcatError if this process finds another posterior than the run began with."""
    posterior = load_posterior(request.posterior).under(request.prior)
    if posterior.name != request.name:
        raise PopcatError(
            f"posterior {request.posterior} changed during the run ({posterior.name[:12]}, expected "
            f"{request.name[:12]}): put the first one back, or start anew in another folder"
        )
    posterior = posterior.to("cuda" if recorded().get("gpu") else request.device)
    with stage("read"):
        frame = read_part(part, request.survey)
        frame = without_redshift(frame) if request.hide_redshift else frame
    with stage("derive"):
        return infer_table(frame, posterior, request.draws, request.seed, request.effort, request.own,
                           request.remarks, request.chi2_limits, request.odds)  # fmt: skip


def infer_partition(part: OfCatalog, request: Request) -> pd.DataFrame:
    """`infer_part` in pandas: columns of popcat.columns.posterior_schema."""
    return to_pandas(infer_part(part, request))


def write_posterior_part(
    folder: OutputFolder, index: int, part: OfCatalog, request: Request
) -> int:
    """Infer the posteriors of one part and write them; the number of rows."""
    table = infer_part(part, request)
    folder.write_part(index, table, counts_of_table(table))
    return table.num_rows


def infer_table(
    frame: pd.DataFrame, posterior: Posterior, draws: int, seed: int, effort: Effort | None = None,
    own: OwnGalaxies | None = None, remarks: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    chi2_limits: Chi2Limits | None = None, odds: Odds = DEFAULT_ODDS,
) -> pa.Table:  # fmt: skip
    """Posteriors of a photometry frame, with units in the field metadata: columns of popcat.columns.posterior_schema.

    Rows without a posterior keep their photometry, a status that says why, and nulls. With an `effort` the exact
    likelihood corrects the draws; `own`, the catalogue's own galaxies, help to tell whether a band disagrees.
    `remarks` are for the metadata of the columns. `chi2_limits` are those of the flag high_chi2, by default the chi2
    law's. `odds` are those of stars and quasars.
    """
    survey = posterior.survey
    flags = frame["flags"].to_numpy().copy()
    rows, n = np.flatnonzero(has_posterior(flags)), len(frame)
    data = observation(frame.iloc[rows], survey)
    quantities, chi2, certified = _draw(posterior, data, draws, seed, effort)
    n_bands = observed(data.flux, data.flux_err).sum(axis=1)
    tried = draws if certified is None else certified.n_proposals
    limit = limits_of(chi2_limits, n_bands, ~np.isnan(known_redshift(data)), tried)
    checked = check_galaxies(posterior, data, chi2 > limit, seed, own)
    flags[rows] |= checked.flags.astype(flags.dtype)
    at_edge = is_at_edge(quantities, data.is_free, posterior.prior, survey.redshift_range)
    flags[rows] |= (FLAGS["at_edge"] * at_edge).astype(flags.dtype)
    p_other = None
    if certified is not None:
        p_other = alternatives(posterior, data, certified.log_evidence, odds)
        flags[rows] |= (FLAGS["not_galaxy"] * (p_other[0] + p_other[1] > NOT_GALAXY)).astype(flags.dtype)
        flags[rows] |= (FLAGS["correction_failed"] * (certified.route == "failed")).astype(flags.dtype)
    columns = {name: frame[name].to_numpy() for name in ("object_id", "ra", "dec", "redshift", "redshift_err")}
    columns |= {"status": status_of(flags), "flags": flags, "n_bands": np.zeros(n, dtype=np.int32)}
    columns["clean"] = is_clean(flags)
    columns["n_bands"][rows] = n_bands
    columns["chi2_best"] = scatter(chi2, rows, n)
    columns |= {name: scatter(tail, rows, n, nan_is_null=True) for name, tail in checked.tails.items()}
    columns["worst_band"] = _names(checked.worst, rows, n, survey)
    columns |= certificate_columns(certified, flags, rows, p_other)
    for band in survey.band_names:
        columns |= {name: frame[name].to_numpy() for name in (f"flux_{band}", f"flux_err_{band}")}
    for name, values in quantities.items():
        for q, column in zip(PERCENTILES, np.percentile(values, PERCENTILES, axis=1), strict=True):
            columns[f"{name}_p{q}"] = scatter(column, rows, n)
        columns[f"{name}_draws"] = encode(values, rows, n)
    is_named = OBJECT_NAME in frame.columns
    if is_named:
        columns[OBJECT_NAME] = pa.array(frame[OBJECT_NAME].tolist(), pa.string())
    schema = posterior_schema(survey, posterior.galaxy_model, named=is_named, remarks=remarks)
    return pa.table([_arrow(columns[field.name], field.type) for field in schema], schema=schema)


def _draw(posterior: Posterior, data, n_draws: int, seed: int, effort: Effort | None):
    """Draws of every quantity, {name: (n, n_draws) float32}, the best chi2 (n,), and what certified them, if asked."""
    if effort is None:
        return *posterior.quantities(data, n_draws, seed), None
    found = certify(posterior, data, n_draws, seed, effort=effort)
    return posterior.derive(found.theta, found.redshift), found.chi2_best, found


def certificate_columns(
    found: Certified | None, flags: np.ndarray, rows: np.ndarray, p_other: tuple[np.ndarray, np.ndarray] | None = None
) -> dict[str, pa.Array]:
    """The columns of popcat.columns.certificate_fields; flags (n,), of which `rows` were inferred. `p_other` are the
    probabilities of a star and of a quasar.

    Without a certification they say that the draws are the flow's.
    """
    n = len(flags)
    route, why = np.full(n, None, dtype=object), np.full(n, None, dtype=object)
    route[rows] = "flow" if found is None else found.route
    certified = np.zeros(n, dtype=bool)
    numbers = ("log_evidence", "ess", "efficiency", "pareto_k")
    columns = {name: pa.nulls(n, pa.float32()) for name in (*numbers, *OTHERS)}
    columns |= {"n_proposals": np.zeros(n, dtype=np.int32)}
    if found is not None:
        why[rows] = np.where(found.route_why == "", None, found.route_why)  # type: ignore[call-overload]  # None is no number
        passed = (flags[rows] & sum(FLAGS[name] for name in UNCERTIFIED)) == 0
        certified[rows] = passed & np.isin(found.route, ("flow+is", "smc")) & (found.ess >= CERTIFIED_ESS)
        columns |= {name: scatter(getattr(found, name), rows, n, nan_is_null=True) for name in numbers}
        columns["n_proposals"][rows] = found.n_proposals
    for name, p in zip(OTHERS, p_other or (), strict=False):
        columns[name] = scatter(p, rows, n, nan_is_null=True)
    text = {"route": pa.array(route, type=pa.string()), "route_why": pa.array(why, type=pa.string())}
    return {"certified": certified, **text, **columns}


def _names(index, rows, n, survey: Survey) -> pa.Array:
    """Names of bands by index, null where it is -1 and in the other rows."""
    names = np.full(n, None, dtype=object)
    names[rows] = [survey.band_names[i] if i >= 0 else None for i in index]
    return pa.array(names, type=pa.string())


def _arrow(values, kind) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, type=kind, from_pandas=False)


PART_BYTES = 2**26
"""64 MB of a part in memory: below a tenth of a small worker's memory, and tens of MB on disk."""
MIN_PARTS = 16
"""A small catalogue is cut finer, so that there is work for every core of one machine."""
MIN_ROWS = 500
_TEXT_BYTES = 16
SECONDS_PER_DRAW, SECONDS_CERTIFIED = 1e-5, 0.005
"""Of one core, for a draw and for a certified galaxy, about (docs/measured.md)."""
WORKER_BYTES, COPIES = 730 * 10**6, 2.4
"""Memory of a worker that has imported and compiled all, and how often a part lies in it while it is made: no more than
measured (docs/measured.md), so that no worker is refused that would do."""


def bytes_per_row(schema: pa.Schema, draws: int) -> int:
    """Bytes of a row in memory, lists as long as the number of draws.

    >>> bytes_per_row(pa.schema([("object_id", pa.int64()), ("x_draws", pa.list_(pa.float32()))]), 100)
    412
    """
    return sum(_width(field.type, draws) for field in schema)


def memory_of(schema: pa.Schema, draws: int) -> tuple[int, int]:
    """Bytes that a worker needs whatever it does, and for each row of a part."""
    return WORKER_BYTES, round(COPIES * bytes_per_row(schema, draws))


def rows_per_part(schema: pa.Schema, draws: int, n: int) -> int:
    """Rows of a part of a catalogue of n galaxies: a function of the catalogue and the draws, not of the cluster.

    >>> schema = pa.schema([("x_draws", pa.list_(pa.float32()))])
    >>> [rows_per_part(schema, 10_000, n) for n in (10, 10_000, 10**6)]
    [500, 625, 1677]
    """
    fits = max(PART_BYTES // bytes_per_row(schema, draws), 1)
    return min(fits, max(-(-n // MIN_PARTS), MIN_ROWS))


def pieces_of(rows: list[int], spans: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Where rows, by their numbers in the whole, are in parts of so many rows each: (part, first row, end), in order.

    >>> pieces_of([10, 10, 10], [(5, 12), (28, 30)])
    [(0, 5, 10), (1, 0, 2), (2, 8, 10)]
    """
    edges = np.cumsum([0, *rows])
    found = [(i, max(start - int(edges[i]), 0), min(stop - int(edges[i]), rows[i]))
             for start, stop in spans
             for i in range(np.searchsorted(edges, start, side="right") - 1, np.searchsorted(edges, stop))]
    return [(int(i), start, stop) for i, start, stop in found if start < stop]


def _width(kind: pa.DataType, draws: int) -> int:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return 4 + draws * _width(kind.value_type, draws)
    try:
        return max(kind.bit_width // 8, 1)
    except ValueError:
        return _TEXT_BYTES


def seconds_of(n: int, draws: int, *, certified: bool = False) -> float:
    """What the posteriors of n galaxies take on one core, about: enough to know whether a cluster is worth its start.

    >>> seconds_of(1000, 100), seconds_of(1000, 100, certified=True)
    (1.0, 5.0)
    """
    return n * (SECONDS_CERTIFIED if certified else SECONDS_PER_DRAW * draws)

"""What the report reads: scalar columns of a whole catalogue, draws of a few galaxies, what made it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from popcat.catalog.queries import Catalog
from popcat.columns import PARAMETERS, PERCENTILES, REDSHIFT, property_fields, to_pandas
from popcat.errors import PopcatError
from popcat.galaxies import CHECK_FLAGS, FLAGS
from popcat.pages.template import flattened
from popcat.survey import Survey

FIGURE_ROWS = 1_000_000
"""Figures of a larger catalogue show every k-th row; the counts are of every row."""
TABLE_GROUPS = 32
"""The galaxies of the table are from so many row groups, evenly spaced: draws are the bulk of a catalogue."""
_SHOWN = ("log_mstar", "log_sfr_1gyr", "log_ssfr")
SCALARS = ("object_id", "redshift_p50", "status", "flags", "chi2_best",
           *(f"{name}_p{q}" for name in _SHOWN for q in PERCENTILES))  # fmt: skip
CERTIFICATE = ("certified", "route", "ess")
_COUNTED = ("redshift", *CERTIFICATE)


@dataclass(frozen=True)
class Counts:
    """The scalar columns (of every k-th row) and the counts (of every row).

    failed : galaxies with a posterior that failed a consistency check. inferred_redshifts : with a posterior and
    without a redshift in the catalogue. certified, corrected : None where the catalogue has no such columns.
    """

    frame: pd.DataFrame
    rows: int
    status: Mapping[str, int]
    flags: Mapping[str, int]
    failed: int = 0
    inferred_redshifts: int = 0
    certified: int | None = None
    corrected: int | None = None
    routes: Mapping[str, int] | None = None


def check_columns(catalog: Catalog, survey: Survey, parameters: Mapping = PARAMETERS) -> None:
    """PopcatError if a catalogue is not one of posteriors of this survey."""
    missing = [name for name in galaxy_columns(survey, parameters) if name not in catalog.columns]
    if missing:
        raise PopcatError(f"{catalog.path} is no posterior catalogue of the survey {survey.name}: it lacks "
                          f"{', '.join(missing[:4])}{' ...' if len(missing) > 4 else ''}; check --survey")  # fmt: skip


def read_counts(catalog: Catalog) -> Counts:
    """Stream the scalar columns: counts of every row, and every k-th row so that at most FIGURE_ROWS stay."""
    step = max(1, -(-len(catalog) // FIGURE_ROWS))
    columns = _scalar_columns(catalog)
    tally, kept = _Tally(), []
    for batch in catalog.batches(columns):
        kept.append(batch.take(pa.array(np.arange(-tally.rows % step, batch.num_rows, step))))
        tally.add(batch)
    frame = _frame(pa.Table.from_batches(kept, schema=kept[0].schema)) if kept else pd.DataFrame(columns=columns)
    return tally.counts(frame, certificates="certified" in columns)


class _Tally:
    """Counts of every row that was streamed."""

    def __init__(self):
        self.rows, self.status, self.flags = 0, Counter(), Counter(dict.fromkeys(FLAGS, 0))
        self.failed = self.inferred = self.certified = self.corrected = 0
        self.routes = Counter()

    def add(self, batch: pa.RecordBatch) -> None:
        self.rows += batch.num_rows
        self.status.update(_counts(batch["status"]))
        bits = batch["flags"].to_numpy(zero_copy_only=False)
        self.flags.update({name: int(np.count_nonzero(bits & bit)) for name, bit in FLAGS.items()})
        ok = pc.equal(batch["status"], "ok").to_numpy(zero_copy_only=False)
        self.failed += int(np.count_nonzero(ok & ((bits & CHECK_FLAGS) != 0)))
        if "redshift" in batch.schema.names:
            given = np.isfinite(batch["redshift"].to_numpy(zero_copy_only=False))
            self.inferred += int(np.count_nonzero(ok & ~given))
        if "certified" in batch.schema.names:
            self.certified += pc.sum(batch["certified"]).as_py() or 0
            self.corrected += len(batch["ess"]) - batch["ess"].null_count
            self.routes.update(_counts(batch["route"].filter(pa.array(ok))))

    def counts(self, frame: pd.DataFrame, *, certificates: bool) -> Counts:
        certificate = (self.certified, self.corrected, dict(self.routes)) if certificates else (None, None, None)
        return Counts(frame, self.rows, self.status, self.flags, self.failed, self.inferred, *certificate)


def _counts(column: pa.Array) -> dict[str, int]:
    return {str(pair["values"]): pair["counts"] for pair in pc.value_counts(column).to_pylist()}


def _frame(table: pa.Table) -> pd.DataFrame:
    # A null in a column of booleans would make it one of objects.
    if "certified" in table.schema.names:
        at = table.schema.get_field_index("certified")
        table = table.set_column(at, "certified", pc.fill_null(table["certified"], False))
    return to_pandas(table)


def read_scalars(catalog: Catalog) -> pd.DataFrame:
    """The scalar columns of every row, for the choice of galaxies."""
    return _frame(catalog.to_table(_scalar_columns(catalog)))


def _scalar_columns(catalog: Catalog) -> list[str]:
    return [*SCALARS, *(name for name in _COUNTED if name in catalog.columns)]


def read_galaxies(catalog: Catalog, object_ids: Sequence[int], survey: Survey, parameters: Mapping) -> list[dict]:
    """Fluxes, quantiles and draws of single galaxies, in the order asked for; PopcatError for one that is absent."""
    more = [name for name in (*CERTIFICATE, "n_bands") if name in catalog.columns]
    return catalog.galaxies(object_ids, [*galaxy_columns(survey, parameters), *more])


def read_provenance(catalog: Catalog) -> list[tuple[str, str]]:
    """What made the catalogue: dotted keys and values of its manifest; empty without one."""
    manifest = catalog.manifest
    return [] if manifest is None else list(flattened(manifest.model_dump(mode="json", exclude_none=True)))


def galaxy_columns(survey: Survey, parameters: Mapping) -> list[str]:
    """Columns that show one galaxy."""
    bands = [f"{kind}_{name}" for kind in ("flux", "flux_err") for name in survey.band_names]
    names = (*parameters, *property_fields(survey), *REDSHIFT)
    quantiles = [f"{name}_p{q}" for name in names for q in PERCENTILES]
    draws = [f"{name}_draws" for name in names]
    scalars = ["object_id", "ra", "dec", "redshift", "status", "flags", "chi2_best", "worst_band"]
    return [*scalars, *bands, *quantiles, *draws]



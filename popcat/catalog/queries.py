"""A posterior catalogue at hand: columns of chosen rows, draws of galaxies, population histograms, in pandas.

>>> catalog = open_catalog("posteriors/")  # doctest: +SKIP
>>> catalog.to_pandas(["redshift", "log_mstar_p50"], where="status == 'ok' and chi2_best < 10")  # doctest: +SKIP
>>> catalog.draws([1237648704586514654])  # doctest: +SKIP
>>> catalog.stack("log_mstar", "log_ssfr", bins=(40, 40))  # doctest: +SKIP

Everything is read by columns and row groups, so a question costs what it asks about and not the catalogue's size. Where
the catalogue has a column `weights` (a list beside each list of draws, of any scale), draws are weighted by it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from popcat.catalog.parts import is_output, read_manifest
from popcat.catalog.selection import box, prefilter, separation
from popcat.catalog.stacking import WEIGHTS, Stack, histogram, masses
from popcat.columns import to_pandas
from popcat.errors import PopcatError, did_you_mean
from popcat.expressions import base_name, parse
from popcat.expressions import column as column_of

BATCH_ROWS = 16_384
Where = str | ds.Expression | None
_DRAWS = "_draws"


def open_catalog(path: "str | Path") -> "Catalog":
    """A posterior catalogue, or any folder or file of Parquet with its columns, ready for questions.

    Raises PopcatError if there is no catalogue, or it is an output of popcat that is not finished.

    >>> catalog = open_catalog("posteriors")
    >>> len(catalog)
    40
    >>> list(catalog.to_pandas(["object_id", "log_mstar_p50"], where="status == 'ok'").columns)
    ['object_id', 'log_mstar_p50']
    """
    path = Path(path)
    if is_output(path):
        files = [str(path / part["file"]) for part in read_manifest(path)["parts"]]
    elif (path / "dataset").is_dir():
        files = sorted(str(file) for file in path.glob("dataset/Norder=*/Dir=*/Npix=*.parquet"))
    elif path.is_dir():
        files = sorted(str(file) for file in path.rglob("*.parquet") if _visible(file.relative_to(path)))
    else:
        files = [str(path)] if path.is_file() else []
    if not files:
        raise PopcatError(f"no catalogue {path}: expected what `popcat infer -o` wrote, or Parquet files")
    try:
        return Catalog(str(path), ds.dataset(files, format="parquet"))
    except (OSError, pa.ArrowInvalid) as error:
        raise PopcatError(f"cannot read {path}: {error}") from error


def _visible(relative: Path) -> bool:
    return not any(part.startswith(("_", ".")) for part in relative.parts)


@dataclass(frozen=True)
class Catalog:
    """A posterior catalogue on disk. `dataset` is its pyarrow dataset, for whatever is not here."""

    path: str
    dataset: ds.Dataset

    def __len__(self) -> int:
        return self.dataset.count_rows()

    def __repr__(self) -> str:
        quantities = ", ".join(self.quantities)
        return f"Catalog({self.path!r}: {len(self):,} galaxies, {len(self.columns)} columns; draws of {quantities})"

    @property
    def columns(self) -> list[str]:
        """Names of all columns."""
        return self.dataset.schema.names

    @cached_property
    def quantities(self) -> list[str]:
        """Names of the parameters and properties that have draws."""
        return [name.removesuffix(_DRAWS) for name in self.columns if name.endswith(_DRAWS)]

    def describe(self) -> pd.DataFrame:
        """Type, unit, UCD and description of each column, from the file itself."""
        rows = [{"column": field.name, "type": str(field.type), **_texts(field)} for field in self.dataset.schema]
        return pd.DataFrame(rows, columns=["column", "type", "unit", "ucd", "description"]).set_index("column")

    def to_pandas(self, columns: Sequence[str] | None = None, where: Where = None) -> pd.DataFrame:
        """Chosen columns of chosen rows, in memory.

        `columns` defaults to all that are no lists of draws. `where` is a condition on columns, such as
        "status == 'ok' and log_mstar_p50 > 11", or a pyarrow expression; comparisons skip row groups by statistics.

        Raises PopcatError for a column that is not there, with near names, and for a condition that is none.
        """
        wanted = self._known(columns if columns is not None else self._scalars())
        tables = [batch.select(wanted) for batch in self._batches(wanted, where)]
        schema = pa.schema([self.dataset.schema.field(name) for name in wanted])
        return to_pandas(pa.Table.from_batches(tables, schema=schema))

    def draws(self, ids: "int | Iterable[int]", quantities: Sequence[str] | None = None) -> pd.DataFrame:
        """Posterior draws of some galaxies as a long frame: object_id, draw, weight, one column a quantity.

        Rows come in the order of `ids`; weights of a galaxy sum to one. A galaxy without a posterior has no rows.

        Raises PopcatError if an identifier is not in the catalogue.
        """
        ids = np.atleast_1d(np.asarray(ids, dtype=np.int64))
        names = self._quantities(quantities)
        table = self._rows_of(ids, ["object_id", *(f"{name}{_DRAWS}" for name in names), *self._weights()])
        return pd.concat([_long(table.slice(row, 1), names) for row in range(len(table))], ignore_index=True)

    def cone(self, ra: float, dec: float, radius_deg: float, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Galaxies within an angle of a position (degrees), with their `separation_deg`, nearest first.

        Row groups are skipped by their extremes of ra and dec, so it is cheap where rows are ordered on the sky
        (`popcat export --to hats`, `--to parquet`).
        """
        wanted = self._known(columns if columns is not None else self._scalars())
        read = list(dict.fromkeys([*wanted, *self._known(["ra", "dec"])]))
        frame = self.to_pandas(read, where=box(ra, dec, radius_deg))
        frame["separation_deg"] = separation(frame["ra"].to_numpy(), frame["dec"].to_numpy(), ra, dec)
        frame = frame[frame["separation_deg"] <= radius_deg].sort_values("separation_deg", ignore_index=True)
        return frame[[*wanted, "separation_deg"]]

    def posterior(self, quantity: str, where: Where = None) -> pd.DataFrame:
        """One quantity of every galaxy that has a posterior: object_id, p16, p50, p84, draws (a list).

        Raises PopcatError for an unknown quantity.
        """
        (name,) = self._quantities([quantity])
        quantiles = [f"{name}_p{q}" for q in (16, 50, 84) if f"{name}_p{q}" in self.columns]
        wanted = ["object_id", *quantiles, f"{name}{_DRAWS}", *self._weights()]
        frame = self.to_pandas(wanted, where)
        frame = frame[frame[f"{name}{_DRAWS}"].notna()].reset_index(drop=True)
        return frame.rename(columns={full: full.removeprefix(f"{name}_") for full in wanted[1:]})

    def stack(
        self, x: str, y: str | None = None, bins: "int | tuple | Sequence" = 50, *, range_: "Sequence | None" = None,
        where: Where = None,
    ) -> Stack:  # fmt: skip
        """The population's histogram in one or two quantities: every galaxy adds its posterior, of total mass one.

        `bins` is a number, or the edges; a pair of them for two quantities. A number of bins spans `range_`
        ((low, high), or a pair of them), or what the medians span, widened. A column without draws, such as a
        flux, counts where it is. Row groups are streamed, so memory does not grow with the catalogue.
        """
        names = [x] if y is None else [x, y]
        sources = [self._source(name) for name in names]
        edges = self._edges(names, bins, range_, where)
        mass, galaxies = np.zeros([len(edge) - 1 for edge in edges]), 0
        for batch in self._batches([*sources, *self._weights()], where):
            counts, found = histogram(batch, sources, self._weights(), edges)
            mass, galaxies = mass + counts, galaxies + found
        return Stack(mass, edges[0], edges[1] if y is not None else None, galaxies)

    def _batches(self, wanted: Sequence[str], where) -> Iterator[pa.RecordBatch]:
        """Batches of the rows that pass, with `wanted` and whatever the condition reads."""
        passes, expression, extra = self._condition(where)
        columns = list(dict.fromkeys([*wanted, *extra]))
        for batch in self.dataset.to_batches(columns=columns, filter=expression, batch_size=BATCH_ROWS):
            if batch.num_rows:
                yield batch if passes is None else batch.filter(pa.array(passes(batch)))

    def _condition(self, where) -> tuple[Callable | None, ds.Expression | None, list[str]]:
        """A test of batches, a filter of pyarrow's, and the columns that the test reads."""
        if where is None or isinstance(where, ds.Expression):
            return None, where, []
        expression = parse(where)
        extra = self._known([base_name(name) for name in expression.columns])

        def passes(batch):
            frame = to_pandas(pa.Table.from_batches([batch.select(extra)]))
            values = column_of(frame, where) if where not in frame.columns else frame[where]
            if values.dtype != bool:
                raise PopcatError(f'where = "{where}": expected a condition such as "flags == 0", got {values.dtype}')
            return values.to_numpy()

        return passes, prefilter(expression), extra

    def _rows_of(self, ids: np.ndarray, columns: list[str]) -> pa.Table:
        """Rows of some identifiers, in their order, which row-group statistics find."""
        table = self.dataset.to_table(columns=columns, filter=pc.field("object_id").isin(pa.array(np.unique(ids))))
        position = pd.Index(table["object_id"].to_numpy()).get_indexer(ids)
        if (position < 0).any():
            missing = ", ".join(str(value) for value in ids[position < 0][:5])
            raise PopcatError(f"{self.path} has no galaxy {missing}; identifiers are those of the input catalogue, in "
                              "column object_id")
        return table.take(pa.array(position))

    def _known(self, names: Iterable[str]) -> list[str]:
        names = [names] if isinstance(names, str) else list(dict.fromkeys(names))
        for name in names:
            if name not in self.columns:
                near = f"; it has draws: {name}{_DRAWS}, {name}_p50" if name in self.quantities else ""
                raise PopcatError(f'{self.path} has no column "{name}"{near}; {did_you_mean(name, self.columns)}')
        return names

    def _quantities(self, names: Sequence[str] | None) -> list[str]:
        names = self.quantities if names is None else [names] if isinstance(names, str) else list(names)
        for name in names:
            if name not in self.quantities:
                raise PopcatError(f'{self.path} has no draws of "{name}"; {did_you_mean(name, self.quantities)}')
        return names

    def _source(self, name: str) -> str:
        """The column that a histogram reads: the draws where there are any."""
        return f"{name}{_DRAWS}" if name in self.quantities else self._known([name])[0]

    def _scalars(self) -> list[str]:
        return [field.name for field in self.dataset.schema if not pa.types.is_nested(field.type)]

    def _weights(self) -> list[str]:
        return [WEIGHTS] if WEIGHTS in self.columns else []

    def _edges(self, names, bins, range_, where) -> list[np.ndarray]:
        both = len(names) == 2
        bins = list(bins) if both and isinstance(bins, tuple | list) else [bins] * len(names)
        ranges = list(range_) if both and range_ is not None else [range_] * len(names)
        if len(bins) != len(names) or len(ranges) != len(names):
            raise PopcatError(f"{' and '.join(names)}: expected {len(names)} of bins and range_, got {len(bins)} and "
                              f"{len(ranges)}")
        return [self._edges_of(name, one, span, where) for name, one, span in zip(names, bins, ranges, strict=True)]

    def _edges_of(self, name, bins, span, where) -> np.ndarray:
        if not isinstance(bins, int | np.integer):
            edges = np.asarray(bins, dtype=np.float64)
            if edges.ndim != 1 or len(edges) < 2 or not np.all(np.diff(edges) > 0):
                raise PopcatError(f"bins of {name}: expected a number or ascending edges, got {bins!r}")
            return edges
        return np.linspace(*(span if span is not None else self._span(name, where)), bins + 1)

    def _span(self, name: str, where) -> tuple[float, float]:
        """What the medians span (or the values, without draws), and half of that again on either side of the bulk."""
        column = f"{name}_p50" if name in self.quantities and f"{name}_p50" in self.columns else self._source(name)
        values = self.to_pandas([column], where)[column].to_numpy(dtype=np.float64)
        values = values[np.isfinite(values)]
        if not values.size:
            raise PopcatError(f"{self.path}: no galaxy with {name} passes, so its range is unknown; give range_")
        low, high = np.percentile(values, [0.5, 99.5])
        margin = 0.25 * (high - low) or 0.5
        return low - margin, high + margin


def _long(row: pa.Table, names: list[str]) -> pd.DataFrame:
    """Draws of one galaxy as rows."""
    lists = {name: row[f"{name}{_DRAWS}"][0].values for name in names}
    n = 0 if not names or any(values is None for values in lists.values()) else len(lists[names[0]])
    weights = np.full(n, 1.0 / max(n, 1))
    if n and WEIGHTS in row.column_names:
        weights = masses(row[WEIGHTS], np.array([n]))
    frame = {"object_id": np.full(n, row["object_id"][0].as_py()), "draw": np.arange(n, dtype=np.int32),
             "weight": weights}  # fmt: skip
    frame |= {name: values.to_numpy() if n else np.empty(0, np.float32) for name, values in lists.items()}
    return pd.DataFrame(frame)


def _texts(field: pa.Field) -> dict[str, str]:
    metadata = field.metadata or {}
    return {key: metadata.get(key.encode(), b"").decode() for key in ("unit", "ucd", "description")}

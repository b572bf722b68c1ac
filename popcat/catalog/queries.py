"""A posterior catalogue at hand: columns of chosen rows, draws of galaxies, population histograms, in pandas.

>>> catalog = open_catalog("posteriors/")  # doctest: +SKIP
>>> catalog.to_pandas(["redshift", "log_mstar_p50"], where="status == 'ok' and chi2_best < 10")  # doctest: +SKIP
>>> catalog.stack("log_mstar", "log_ssfr", bins=(40, 40))  # doctest: +SKIP

Everything is read by columns and row groups, so a question costs what it asks about, not the catalogue's size.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from popcat.catalog.draws import (
    SUFFIX,
    Stack,
    edges_of,
    histogram,
    is_list,
    long_columns,
    paired,
    plain_rows,
    quantities_of,
    refuse_weights,
)
from popcat.catalog.figures import CatalogFigures
from popcat.catalog.manifest import CatalogManifest, Manifest, is_output, read_manifest, read_run
from popcat.catalog.parquet import parquet_dataset, parquet_format, readable, require_footers
from popcat.catalog.photoz import GRID_NODES, PhotoRedshifts, photo_redshifts
from popcat.catalog.prior_draws import learned_frame
from popcat.catalog.record import PosteriorRecord
from popcat.catalog.selection import Ids, as_list, box, numbers_of, parquet_files, prefilter, separation
from popcat.catalog.star_formation import StarFormationDraws, star_formation_draws
from popcat.columns import column_list, to_pandas
from popcat.display import listed
from popcat.errors import PopcatError, did_you_mean
from popcat.expressions import base_name, parse
from popcat.expressions import column as column_of
from popcat.galaxies import OBJECT_NAME
from popcat.galaxy_model import GalaxyModel
from popcat.paths import AnyPath, path_of
from popcat.survey import Survey

BATCH_ROWS = 16_384
Where: TypeAlias = str | ds.Expression | None


def open_catalog(path: "str | AnyPath") -> "Catalog":
    """A posterior catalogue, or any folder or file of Parquet with its columns, ready for questions.

    Raises PopcatError if there is no catalogue, or it is an output of popcat that is not finished.

    >>> catalog = open_catalog("posteriors")
    >>> len(catalog)
    40
    >>> list(catalog.to_pandas(["object_id", "log_mstar_p50"], where="status == 'ok'").columns)
    ['object_id', 'log_mstar_p50']
    """
    path, manifest = path_of(path).expanduser(), None
    if is_output(path):
        is_posteriors = read_run(path).kind == CatalogManifest.KIND
        manifest = read_manifest(path, CatalogManifest if is_posteriors else Manifest)
        require_footers(path, manifest.parts)
        files = [str(path / part.file) for part in manifest.parts]
    else:
        files = parquet_files(path)
    if not files:
        raise PopcatError(f"no catalogue {path}: expected what `popcat infer -o` wrote, or Parquet files")
    dataset = parquet_dataset(files, path)
    refuse_weights(dataset.schema, str(path))
    return Catalog(str(path), dataset, manifest)


@dataclass(frozen=True, repr=False)
class Catalog(CatalogFigures):
    """A posterior catalogue on disk, as `open_catalog` finds it.

    path : its folder or file. dataset : its pyarrow dataset, for whatever is not here. manifest : what popcat wrote of
    it (`CatalogManifest`, of a library `Manifest`); None for other Parquet files.
    """

    path: str
    dataset: ds.Dataset
    manifest: Manifest | None = None

    def __len__(self) -> int:
        return self.dataset.count_rows()

    def _title(self) -> str:
        return f"Catalog {self.path}"

    def _facts(self) -> dict[str, str]:
        facts = {"galaxies": f"{len(self):,}"}
        facts |= self.manifest.facts if isinstance(self.manifest, CatalogManifest) else {}
        quantities = {"quantities": listed(self.quantities)} if self.quantities else {}
        return facts | {"columns": f"{len(self.columns)}"} | quantities

    def require_manifest(self) -> CatalogManifest:
        """The manifest; PopcatError for anything but what `popcat infer` and `popcat reweight` write."""
        if not isinstance(self.manifest, CatalogManifest):
            holds = "Parquet files without a manifest" if self.manifest is None else self.manifest.kind
            raise PopcatError(f"{self.path} holds {holds}: expected {CatalogManifest.EXPECTED}")
        return self.manifest

    @property
    def survey(self) -> Survey:
        """The survey; PopcatError as `require_manifest`."""
        return self.require_manifest().survey

    @property
    def galaxy_model(self) -> GalaxyModel:
        """The galaxy model; PopcatError as `require_manifest`."""
        return self.require_manifest().galaxy_model

    @property
    def posterior(self) -> PosteriorRecord:
        """The trained posterior that made it: its name (a hash) and location; PopcatError as `require_manifest`."""
        return self.require_manifest().posterior

    @property
    def n_draws(self) -> int:
        """Draws per galaxy; PopcatError as `require_manifest`."""
        return self.require_manifest().draws

    @property
    def columns(self) -> list[str]:
        """Names of all columns."""
        return self.dataset.schema.names

    @property
    def has_names(self) -> bool:
        """Whether the identifiers of its galaxies are text, in the column object_name."""
        return OBJECT_NAME in self.columns

    @cached_property
    def quantities(self) -> list[str]:
        """Names of the parameters and properties that have draws."""
        return quantities_of(self.columns)

    @property
    def files(self) -> list[str]:
        """Its Parquet files, in the order of the rows: each opens as a catalogue of its own."""
        return list(self.dataset.files)

    def describe(self) -> pd.DataFrame:
        """Type, unit, UCD and description of each column, from the file itself.

        If the file has it, also what the catalogue's photometry says of it beyond the prior: `learned`.
        """
        of = self.dataset.schema
        learned = [(one.metadata or {}).get(b"learned", b"").decode() for one in of]
        more = {"learned": learned} if any(learned) else {}
        found = pd.DataFrame(column_list(of)).assign(type=[*map(str, of.types)], **more)
        return found.set_index("name").rename_axis("column")

    def to_pandas(self, columns: Sequence[str] | None = None, where: Where = None) -> pd.DataFrame:
        """Chosen columns of chosen rows, in memory.

        `columns` defaults to all that are no lists of draws. `where` is a condition on columns, such as
        "status == 'ok' and log_mstar_p50 > 11", or a pyarrow expression; comparisons skip row groups by statistics.

        Raises PopcatError for a column that is not there, with near names, and for a condition that is none.
        """
        return to_pandas(self.to_table(columns if columns is not None else self._scalars(), where))

    def to_table(self, columns: Sequence[str] | None = None, where: Where = None) -> pa.Table:
        """The same as a pyarrow table, with units in the metadata of its fields; `columns` defaults to all."""
        wanted = self._known(columns if columns is not None else self.columns)
        schema = pa.schema([self.dataset.schema.field(name) for name in wanted])
        return pa.Table.from_batches(self.batches(wanted, where), schema=schema)

    def batches(self, columns: Sequence[str] | None = None, where: Where = None) -> Iterator[pa.RecordBatch]:
        """The same as batches of at most BATCH_ROWS rows in their order, so that memory does not grow."""
        wanted = self._known(columns if columns is not None else self.columns)
        passes, expression, extra = self._condition(where)
        read = list(dict.fromkeys([*wanted, *extra]))
        with readable(self.path):
            for batch in self.dataset.to_batches(columns=read, filter=expression, batch_size=BATCH_ROWS):
                chosen = batch if passes is None or not batch.num_rows else batch.filter(pa.array(passes(batch)))
                if chosen.num_rows:
                    yield chosen.select(wanted)

    def draws(self, ids: Ids, quantities: Sequence[str] | None = None) -> pd.DataFrame:
        """Posterior draws of some galaxies as a long frame: object_id, draw, and one column per quantity.

        Rows come in the order of `ids`; every draw counts alike. A galaxy without a posterior has no rows. In a
        catalogue whose identifiers are text, `ids` may be these, and a column object_name has them.

        Raises PopcatError if an identifier is not in the catalogue.
        """
        names = self._quantities(quantities)
        keys = ["object_id", OBJECT_NAME] if self.has_names else ["object_id"]
        table = self._rows_of(ids, [*keys, *(f"{name}{SUFFIX}" for name in names)])
        return pd.DataFrame(long_columns(table, keys, names))

    def learned(self, ids: Ids, quantities: Sequence[str] | None = None) -> pd.DataFrame:
        """What the photometry of some galaxies says beyond the prior, a row for each quantity of each galaxy.

        object_id, quantity, ratio (of the widths p84 - p16), nats (information gained), stays_prior (less than 0.1
        nats): popcat.catalog.learned. A given redshift has NaN. Raises PopcatError as `draws`, and without a prior.
        """
        names = self._quantities(quantities)
        wanted = ["status", "redshift", "redshift_err", *(f"{name}{SUFFIX}" for name in names)]
        return learned_frame(self.path, self.galaxies(ids, wanted), names)

    def sfh(self, ids: Ids, lookback_gyr: "Sequence[float] | None" = None) -> StarFormationDraws:
        """Star-formation rates of some galaxies in bins of lookback time, and when their mass formed, draw by draw.

        Raises PopcatError as `draws` and `require_manifest` do, and if the bases have changed since.
        """
        return star_formation_draws(self.path, self.require_manifest(), partial(self.draws, ids), lookback_gyr)

    def photoz(self, where: Where = None, *, grid: "int | Sequence[float]" = GRID_NODES) -> PhotoRedshifts:
        """Photometric redshifts of chosen galaxies: means, modes, odds, densities, and scores against known redshifts.

        `grid` are equidistant redshifts for modes and densities, or how many of them span the survey's range.

        Raises PopcatError for a grid that is none, and as `to_pandas` does.
        """
        return photo_redshifts(partial(self.to_table, where=where), self.has_names, self.manifest, grid)

    def galaxies(self, ids: Ids, columns: Sequence[str] | None = None) -> list[dict]:
        """Rows of some galaxies, in the order of `ids`: plain values by column, draws as arrays (k,), None for null.

        Raises PopcatError if an identifier is not in the catalogue, or a column is not there.
        """
        table = self._rows_of(ids, ["object_id", *self._known(columns if columns is not None else self.columns)])
        return plain_rows(table)

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

    def quantity(self, name: str, where: Where = None) -> pd.DataFrame:
        """One quantity of every galaxy that has a posterior: object_id, p16, p50, p84, draws (a list).

        Raises PopcatError for an unknown quantity.
        """
        (name,) = self._quantities([name])
        quantiles = [f"{name}_p{q}" for q in (16, 50, 84) if f"{name}_p{q}" in self.columns]
        wanted = ["object_id", *quantiles, f"{name}{SUFFIX}"]
        frame = self.to_pandas(wanted, where)
        frame = frame[frame[f"{name}{SUFFIX}"].notna()].reset_index(drop=True)
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
        edges = [self._edges(name, one, span, where) for name, one, span in paired(names, bins, range_)]
        mass, galaxies = np.zeros([len(edge) - 1 for edge in edges]), 0
        for batch in self.batches(sources, where):
            counts, found = histogram(batch, sources, edges)
            mass, galaxies = mass + counts, galaxies + found
        return Stack(mass, edges[0], edges[1] if y is not None else None, galaxies)

    def thinned(self, row_groups: int) -> tuple["Catalog", int]:
        """At most so many row groups, evenly spaced, as a catalogue; and how many there are in all."""
        groups = [group for file in self.dataset.get_fragments() for group in file.split_by_row_group()]
        if len(groups) <= row_groups:
            return self, len(groups)
        chosen = [groups[i] for i in np.linspace(0, len(groups) - 1, row_groups).round().astype(int)]
        dataset = ds.FileSystemDataset(chosen, self.dataset.schema, parquet_format())
        return dataclasses.replace(self, dataset=dataset), len(groups)

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

    def object_ids(self, ids: Ids) -> np.ndarray:
        """The object_id of some galaxies, int64 (n,), given as names or as numbers; PopcatError for what is neither."""
        return numbers_of(ids, self.has_names, self.path)

    def _rows_of(self, ids: Ids, columns: list[str]) -> pa.Table:
        """Rows of some identifiers, in their order, which row-group statistics find."""
        asked, ids = as_list(ids), self.object_ids(ids)
        wanted = list(dict.fromkeys(columns))
        with readable(self.path):
            table = self.dataset.to_table(columns=wanted, filter=pc.field("object_id").isin(pa.array(np.unique(ids))))
        position = pd.Index(table["object_id"].to_numpy()).get_indexer(ids)
        if (position < 0).any():
            missing = ", ".join(str(asked[i]) for i in np.flatnonzero(position < 0)[:5])
            raise PopcatError(f"{self.path} has no galaxy with object_id {missing} in it; "
                              "expected identifiers of the input")  # fmt: skip
        return table.take(pa.array(position))

    def _known(self, names: Iterable[str]) -> list[str]:
        names = [names] if isinstance(names, str) else list(dict.fromkeys(names))
        for name in names:
            if name not in self.columns:
                near = f"; it has draws: {name}{SUFFIX}, {name}_p50" if name in self.quantities else ""
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
        return f"{name}{SUFFIX}" if name in self.quantities else self._known([name])[0]

    def _scalars(self) -> list[str]:
        return [name for name in self.columns if not is_list(self.dataset.schema, name)]

    def _edges(self, name: str, bins, span, where: Where) -> np.ndarray:
        """Edges as given, or so many bins of a range, which defaults to what the medians (or the values) span."""
        median = f"{name}_p50"
        source = median if name in self.quantities and median in self.columns else self._source(name)
        return edges_of(name, bins, span, lambda: self.to_pandas([source], where)[source], self.path)

"""Libraries of simulated galaxies (popcat.posterior.simulated), which posteriors are trained on.

A training sees a library in memory or shard after shard, with noise that is drawn anew.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import model_validator

from popcat.catalog.manifest import Manifest, read_manifest, renamed
from popcat.catalog.parquet import parquet_dataset, readable
from popcat.catalog.parts import OutputFolder, write_parts
from popcat.columns import PRIOR, library_meta, library_schema, schema_digest
from popcat.display import Displayed, listed
from popcat.errors import PopcatError
from popcat.forward.coverage import require_light
from popcat.forward.filters import with_curves
from popcat.forward.flux_errors import FluxErrors
from popcat.forward.noise import Noise, add_noise, check_noise, noise_of
from popcat.forward.properties import forward_for, forward_hashes
from popcat.galaxy_model import GalaxyModel, RecordedGalaxyModel
from popcat.paths import AnyPath, output_path, path_of
from popcat.physical.prior import physical_prior
from popcat.posterior.simulated import COMMON_SCATTER, faint_limits, simulate_partition
from popcat.prior import BOTH, FLAT, PHYSICAL, PRIORS, make_prior, require_prior
from popcat.run.client import Where
from popcat.run.frames import Frame, frame_of
from popcat.run.runner import How
from popcat.settings import settings_of
from popcat.survey import Survey, load_survey
from popcat.timing import stage
from popcat.units import nmgy_to_ab_mag

MAX_VALIDATION = 50_000
MAX_IN_MEMORY = 10_000_000
SHARD_GALAXIES = 1_000_000
"""A library of more galaxies than fit into memory is read in shards of about this many."""
# The prior has no mass out there that a library can hold; float32 parameters on a bound would land there.
_W_MAX = 6.0
_SECONDS = {FLAT: 2.5e-5, BOTH: 1.7e-4, PHYSICAL: 3.2e-4}
"""Of one core for one galaxy, about."""


@dataclass(frozen=True)
class LibraryArrays:
    """A simulated library in memory: unconstrained (n, d - 1), redshift (n,), model flux (n, n_band), the number in
    popcat.prior.PRIORS of the prior that each galaxy was drawn from, (n,), and the faintest magnitude at which it is
    used (popcat.posterior.simulated.faint_limits), (n,); float32 but the redshift.
    """

    unconstrained: np.ndarray
    redshift: np.ndarray
    flux: np.ndarray
    prior: np.ndarray
    limit: np.ndarray

    @classmethod
    def from_theta(cls, theta: np.ndarray, redshift: np.ndarray, flux: np.ndarray, galaxy_model: GalaxyModel,
                   prior: np.ndarray | None = None, limit: np.ndarray | None = None) -> "LibraryArrays":  # fmt: skip
        """theta is (n, d), flux noise-free in nMgy; without `prior` all are of the first, without `limit` all are used.
        """
        w = make_prior(galaxy_model).to_unconstrained(np.asarray(theta, dtype=float))
        w = np.clip(w, -_W_MAX, _W_MAX).astype(np.float32)
        number = np.zeros(len(w)) if prior is None else prior
        faint = np.full(len(w), np.inf) if limit is None else limit
        return cls(w, np.asarray(redshift, dtype=float), np.asarray(flux, dtype=np.float32), number.astype(np.float32),
                   faint.astype(np.float32))  # fmt: skip

    def __len__(self) -> int:
        return len(self.redshift)

    def __getitem__(self, rows) -> "LibraryArrays":
        return LibraryArrays(*(values[rows] for values in vars(self).values()))


class LibraryManifest(Manifest):
    """The manifest of a simulated library: its parts, and the settings in its fingerprint that decide them."""

    KIND: ClassVar[str] = "library"
    EXPECTED: ClassVar[str] = "a library, a folder that `popcat simulate` wrote"

    survey: Survey
    galaxy_model: RecordedGalaxyModel
    noise: Noise
    seed: int
    prior: str = FLAT
    """This is not in manifests of before, nor are those with a default below."""
    grid: str
    bases: str | None = None
    cosmology: str | None = None
    filters: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_fingerprint(cls, data):
        """The settings stand in the fingerprint, and nowhere else."""
        made = data.get("fingerprint") if isinstance(data, dict) else None
        return renamed(made, cls.KIND) | data if isinstance(made, dict) else data


    @property
    def forward_hashes(self) -> dict[str, str]:
        """Of what the forward model read from files and packages, as far as it was written down."""
        found = {name: getattr(self, name) for name in ("grid", "bases", "cosmology", "filters")}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, repr=False)
class Library(Displayed):
    """A library on disk with what it was simulated with, as its manifest records it."""

    path: AnyPath
    survey: Survey
    galaxy_model: GalaxyModel
    noise: Noise
    manifest: LibraryManifest

    def __len__(self) -> int:
        return self.manifest.rows

    def _title(self) -> str:
        return f"Library {self.path}"

    def _facts(self) -> dict[str, object]:
        parts, size = len(self.manifest.parts), self.manifest.bytes / 1e6
        return {
            "galaxies": f"{len(self):,} in {parts:,} parts, {size:,.0f} MB",
            "survey": f"{self.survey.name}: {listed(self.survey.band_names, 20)}",
            "galaxy model": f"grid {self.galaxy_model.grid}, bases {self.galaxy_model.bases}",
            "prior": " and ".join(self.priors),
            "noise": "nominal, from the survey's depths" if self.noise.is_nominal else "fitted to a catalogue",
            "seed": self.manifest.seed,
        }

    @property
    def priors(self) -> tuple[str, ...]:
        """Names of the priors that its galaxies are drawn from."""
        return PRIORS if self.manifest.prior == BOTH else (self.manifest.prior,)

    def load(self, parts: slice = slice(None)) -> LibraryArrays:
        """Read parameters, redshifts and model fluxes of some parts into memory: 70 bytes a galaxy for five bands."""
        parameters = make_prior(self.galaxy_model).names
        fluxes = [f"flux_model_{band}" for band in self.survey.band_names]
        names = [self.path / part.file for part in self.manifest.parts[parts]]
        with readable(self.path):
            columns = ["object_id", "redshift", *parameters, *fluxes, *([PRIOR] if len(self.priors) > 1 else [])]
            table = parquet_dataset(list(map(str, names)), self.path).to_table(columns=columns)
        theta = np.column_stack([table[name].to_numpy() for name in parameters])
        flux = np.column_stack([table[name].to_numpy() for name in fluxes])
        prior = np.array(table[PRIOR]) == PHYSICAL if len(self.priors) > 1 else None
        limit = faint_limits(table["object_id"].to_numpy(), self.survey, self.manifest.prior)
        return LibraryArrays.from_theta(theta, table["redshift"].to_numpy(), flux, self.galaxy_model, prior, limit)

    def source(self, validation_fraction: float, *, max_in_memory: int = MAX_IN_MEMORY) -> "Source":
        """The library as a training reads it: from memory, or from shards of parts if it has more galaxies."""
        origin = (str(self.path.absolute()), validation_fraction, max_in_memory)
        if self.manifest.rows <= max_in_memory:
            return replace(memory_source(self.load(), validation_fraction), origin=origin)
        rows = np.cumsum([part.rows for part in self.manifest.parts])
        wanted = rows[-1] - min(int(rows[-1] * validation_fraction), MAX_VALIDATION)
        last = int(min(np.searchsorted(rows, wanted, side="right"), len(rows) - 1))
        step = max(SHARD_GALAXIES * len(rows) // int(rows[-1]), 1)
        spans = [slice(start, min(start + step, last)) for start in range(0, last, step)]
        if not spans:
            raise PopcatError(
                f"library {self.path}: its {len(rows)} part(s) are too large to be read one at a time; simulate it "
                "with smaller parts (rows_per_partition)"
            )
        return Source(self.load(slice(last, None)), int(rows[last - 1]), lambda: map(self.load, spans), origin)


@dataclass(frozen=True)
class Source:
    """Galaxies to train on: some held out, and a way to read the others, n of them, shard after shard.

    `origin` is what `source_of` opens it from. A pickle holds that alone: a library is read where it is trained on.
    """

    held_out: LibraryArrays
    n: int
    shards: Callable[[], Iterable[LibraryArrays]]
    origin: tuple[str, float, int] | None = None

    def __reduce__(self):
        if self.origin is None:
            raise PopcatError("a library in memory cannot be sent to workers: simulate it into a folder")
        return source_of, self.origin


def source_of(path: str, validation_fraction: float, max_in_memory: int) -> Source:
    """The source of a library's folder."""
    return open_library(path).source(validation_fraction, max_in_memory=max_in_memory)


def memory_source(library: LibraryArrays, validation_fraction: float) -> Source:
    """A library in memory as one shard; the last galaxies are held out."""
    n = len(library) - min(int(len(library) * validation_fraction), MAX_VALIDATION)
    return Source(library[n:], n, lambda: [library[:n]])


def open_library(path: "str | AnyPath") -> Library:
    """A library that `popcat simulate` wrote; PopcatError if the folder holds none or an unfinished one."""
    manifest = read_manifest(path, LibraryManifest)
    noise = check_noise(manifest.noise, manifest.survey, f"library {path}")
    return Library(path_of(path), manifest.survey, manifest.galaxy_model, noise, manifest)


def observe(library: LibraryArrays, survey: Survey, noise: Noise, seed: tuple[int, ...], *, widened: bool = False):
    """Noisy fluxes and errors of the galaxies whose noisy magnitude passes the survey's selection, and their rows.

    The cut is on observed quantities, so it leaves p(theta | photometry) of what passes unchanged. `widened` adds
    worse and better errors than the survey's, see `widen`.
    """
    normals = np.random.default_rng(seed).standard_normal((len(library), 2 * len(survey.bands)))
    flux, err = add_noise(library.flux, noise, normals)
    if widened:
        flux, err = widen(library.flux, flux, err, np.random.default_rng((*seed, 5)))
    flux = FluxErrors(survey).scattered(
        flux, library.flux, library.redshift, lambda: np.random.default_rng((*seed, 6)).standard_normal(flux.shape)
    )
    selection = survey.selection
    mag = nmgy_to_ab_mag(flux[:, survey.band_names.index(selection.band)])
    rows = np.flatnonzero((mag >= selection.bright_mag) & (mag <= np.minimum(selection.faint_mag, library.limit)))
    return flux[rows], err[rows], rows


def widen(flux_model: np.ndarray, flux: np.ndarray, flux_err: np.ndarray, random) -> tuple[np.ndarray, np.ndarray]:
    """Half of the galaxies with all their errors, and their noise, scaled by a common log-normal factor.

    The posterior is conditioned on the errors: a model that has seen worse ones serves shallower data too.
    """
    scale = np.exp(COMMON_SCATTER * random.standard_normal(len(flux)) * (random.uniform(size=len(flux)) < 0.5))
    return flux_model + scale[:, None] * (flux - flux_model), scale[:, None] * flux_err


def write_library_part(folder: OutputFolder, index: int, start: int, stop: int, survey, galaxy_model, noise,
                       seed, prior=FLAT) -> int:  # fmt: skip
    """Simulate one part of a library and write it; the number of rows."""
    with stage("simulate"):
        frame = simulate_partition(start, stop, survey, galaxy_model, noise, seed, prior)
    schema = library_schema(survey, galaxy_model, has_prior=prior == BOTH)
    folder.write_part(index, pa.Table.from_pandas(frame, schema=schema, preserve_index=False))
    return len(frame)


def simulate(
    survey: "str | Path | Survey" = "sdss", n: int = 1_000_000, *, output: str | Path | None = None,
    galaxy_model: "GalaxyModel | str | Path | None" = None, noise: "Noise | str | Path | None" = None,
    prior: str = FLAT, seed: int = 0, rows_per_partition: int = 50_000, client: Where = None,
    workers: int | None = None, progress: bool = False, check: bool = False, log: str | Path | None = None,
    performance_report: str | Path | None = None,
) -> Library | Frame:  # fmt: skip
    """A simulated library of n galaxies: theta and redshift from the prior, model fluxes, one noisy observation.

    `prior` is "flat", the galaxy model's own; "physical" (popcat.physical.prior); or "both" in turn, so that a
    posterior trained on them can be had under either. Galaxies are those that noise may bring into the survey's
    selection; of the physical prior as many bright ones as faint ones.
    Row i is a function of (seed, i) alone. `noise` defaults to the embedded one of an embedded survey, else to the
    nominal one of its depths. With `output`, a folder, the library is written there, by a run with the options of
    `infer`, and a rerun finishes what is missing; without, it is a lazy Dask frame.

    Raises PopcatError if the folder holds another run's output, for a galaxy model that cannot be simulated in this
    survey, if hardly any of its galaxies is in the selection, or for an option of a run without `output`.

    >>> simulate("sdss", 1000).npartitions
    1
    >>> len(simulate("sdss", 100, output="library", client="synchronous"))
    100
    """
    label = survey.name if isinstance(survey, Survey) else str(survey)
    survey, galaxy_model = with_curves(load_survey(survey)), settings_of(GalaxyModel, galaxy_model, "galaxy-model")
    noise = noise_of(noise, survey)
    make_prior(galaxy_model).redshift_law(survey.redshift_range)  # said now, before a folder is begun
    require_light(survey, galaxy_model)
    require_prior(prior, (*PRIORS, BOTH))
    if output is not None:
        how = How(client, workers, progress, check, log, performance_report)
        output = output_path(output)
        return _write_library(output, label, survey, n, galaxy_model, noise, seed, prior, rows_per_partition, how)
    given = {"client": client, "workers": workers, "check": check or None, "log": log,
             "performance_report": performance_report}  # fmt: skip
    if useless := [name for name, value in given.items() if value is not None]:
        raise PopcatError(f"{', '.join(useless)}: these are of a run that writes files: give output, too")
    starts, stops = zip(*_spans(n, rows_per_partition), strict=True)
    options = {"survey": survey, "galaxy_model": galaxy_model, "noise": noise, "seed": seed, "prior": prior}
    meta = library_meta(survey, galaxy_model, has_prior=prior == BOTH)
    return frame_of(simulate_partition, starts, stops, **options, meta=meta)


def _write_library(output: AnyPath, label: str, survey: Survey, n: int, galaxy_model: GalaxyModel, noise: Noise,
                   seed: int, prior: str, rows_per_partition: int, how: How) -> Library:  # fmt: skip
    spans = _spans(n, rows_per_partition)
    schema = library_schema(survey, galaxy_model, has_prior=prior == BOTH)
    settings = {"survey": survey.model_dump(mode="json"), "galaxy_model": galaxy_model.model_dump(mode="json"),
                "noise": noise.model_dump(mode="json"), "seed": seed, "n": n, **forward_hashes(survey, galaxy_model),
                "rows_per_partition": rows_per_partition, "schema": schema_digest(schema)}  # fmt: skip
    if prior != FLAT:
        settings["prior"] = prior
    how.verify()
    arguments = {"survey": label, "n": n, "seed": seed}
    folder = OutputFolder.open(output, settings, len(spans), kind="library", arguments=arguments)
    with folder.alone() as folder:
        forward_for(survey, galaxy_model)  # build the tables once, before the workers look for them
        if prior != FLAT:
            physical_prior(galaxy_model, survey.redshift_range)
        options = survey, galaxy_model, noise, seed, prior
        jobs = {i: (folder, i, *spans[i], *options) for i in folder.resume(check=how.check)}
        rows = [stop - start for start, stop in spans]
        seconds = _SECONDS[prior] * sum(rows[index] for index in jobs)
        write_parts(folder, write_library_part, jobs, rows, "simulating", how, seconds=seconds)
        folder.finish()
    return open_library(output)


def _spans(n: int, rows: int) -> list[tuple[int, int]]:
    if n < 1 or rows < 1:
        raise PopcatError(f"expected at least one galaxy and one row a partition, got {n} and {rows}")
    return [(start, min(start + rows, n)) for start in range(0, n, rows)]

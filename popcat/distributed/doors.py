"""Two doors to the stages: lazily as Dask dataframes, or from files to files.

Lazy: `read_catalog`, `simulate`, `infer` return Dask dataframes for ad hoc work. Files to files: `simulate_library`,
`infer_catalog` write one part a partition, atomically, through a bounded window of tasks on whatever cluster there is
(running.py); a rerun finishes what is missing.
"""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import dask
import dask.dataframe as dd

from popcat import stages
from popcat.calibrating import require_calibrated
from popcat.catalog.partitions import OutputFolder, read_manifest
from popcat.catalog.readers import check_catalog, plan_chunks
from popcat.catalog.sources import content_digest
from popcat.distributed.cluster import SYNCHRONOUS
from popcat.distributed.running import How, run
from popcat.distributed.sizing import cut, model_location
from popcat.errors import PopcatError
from popcat.inference.certify import effort_for
from popcat.inference.posterior import load_posterior
from popcat.inference.reweight import load_prior
from popcat.noise import NoiseModel, check_noise, default_noise, noise_counts, noise_from_counts
from popcat.population.as_prior import population_prior
from popcat.prior import Prior, make_prior
from popcat.schema import library_meta, library_schema, photometry_meta, posterior_meta, posterior_schema
from popcat.settings import Model, Survey, load_survey
from popcat.sps.filters import load_curves


def read_catalog(path: str | Path, survey: "str | Path | Survey", *, rows_per_partition: int = 2500) -> dd.DataFrame:
    """An observed catalogue as a lazy photometry frame: one row a galaxy, fluxes in nMgy, extinction removed.

    Raises PopcatError if the file, a column, a unit or an identifier is not what the survey says.

    >>> from importlib.resources import files
    >>> frame = read_catalog(files("popcat") / "data" / "galaxies_sdss.parquet", "sdss")
    >>> frame.npartitions
    4
    """
    survey = load_survey(survey)
    chunks = plan_chunks(path, rows_per_partition=rows_per_partition)
    check_catalog(path, survey, chunks)
    return dd.from_map(stages.read_partition, chunks, survey=survey, meta=photometry_meta(survey))


def simulate(
    survey: "str | Path | Survey", n: int, *, model: Model | None = None, noise: NoiseModel | None = None,
    seed: int = 0, rows_per_partition: int = 50_000,
) -> dd.DataFrame:  # fmt: skip
    """A simulated library as a lazy frame: theta and redshift from the prior, model fluxes, one noisy observation.

    Row i is a function of (seed, i) alone. `noise` defaults to the embedded one of an embedded survey.

    >>> simulate("sdss", 1000).npartitions
    1
    """
    survey, model = load_survey(survey), model or Model()
    noise = default_noise(survey) if noise is None else check_noise(noise, survey, "noise")
    starts, stops = zip(*_spans(n, rows_per_partition), strict=True)
    options = {"survey": survey, "model": model, "noise": noise, "seed": seed}
    return dd.from_map(stages.simulate_partition, starts, stops, **options, meta=library_meta(survey, model))


def infer(
    catalog: dd.DataFrame, model: str | Path = "sdss", *, draws: int = 100, seed: int = 0,
    allow_uncalibrated: bool = False, certify: bool | None = None, budget_ms: float | None = None,
    target_ess: float | None = None,
) -> dd.DataFrame:  # fmt: skip
    """Posteriors of a lazy photometry frame, partition by partition: a lazy posterior frame.

    `model` is the folder of a posterior, which every worker must see, or the name of an embedded one. A galaxy whose
    redshift is NaN has it inferred. `certify`, `budget_ms`, `target_ess`: as for `infer_catalog`.

    Raises PopcatError for a model that has not passed its calibration, unless allow_uncalibrated.

    >>> from importlib.resources import files
    >>> frame = read_catalog(files("popcat") / "data" / "galaxies_sdss.parquet", "sdss")
    >>> infer(frame, "sdss").npartitions
    4
    """
    require_calibrated(model, allow=allow_uncalibrated)
    posterior = load_posterior(model)
    _check_bands(catalog, posterior.survey)
    meta = posterior_meta(posterior.survey, posterior.model)
    options = {"meta": meta, "enforce_metadata": False}
    return catalog.map_partitions(
        stages.infer_partition, str(model), draws, seed, effort_for(certify, budget_ms, target_ess), **options
    )


def fit_noise(catalog: dd.DataFrame, survey: "str | Path | Survey") -> NoiseModel:
    """The empirical noise model of a lazy photometry frame; independent of the partitioning.

    Raises PopcatError where a band has too few galaxies.

    >>> from importlib.resources import files
    >>> noise = fit_noise(read_catalog(files("popcat") / "data" / "galaxies_sdss.parquet", "sdss"), "sdss")
    >>> tuple(noise.bands)
    ('u', 'g', 'r', 'i', 'z')
    """
    survey = load_survey(survey)
    load_curves(survey)  # an unknown filter is said now, not when the library is simulated
    counts = [dask.delayed(noise_counts)(part, survey) for part in catalog.to_delayed()]
    return noise_from_counts(dask.delayed(sum)(counts).compute(), survey)


def simulate_library(
    output: str | Path, survey: "str | Path | Survey", n: int, *, model: Model | None = None,
    noise: NoiseModel | None = None, seed: int = 0, rows_per_partition: int = 50_000,
    scheduler: str | None = None, workers: int | None = None, progress: bool = False, check: bool = False,
    log: str | Path | None = None, performance_report: str | Path | None = None,
) -> dict:  # fmt: skip
    """Write a simulated library of n galaxies to a folder and return its manifest; options as `infer_catalog`.

    Raises PopcatError if the folder holds another run's output; a rerun of the same run finishes it.

    >>> manifest = simulate_library("library", "sdss", 100, scheduler="synchronous")
    >>> manifest["rows"]
    100
    """
    how = How(scheduler, workers, progress, check, log, performance_report)
    label = survey.name if isinstance(survey, Survey) else str(survey)
    survey, model = load_survey(survey), model or Model()
    noise = default_noise(survey) if noise is None else check_noise(noise, survey, "noise")
    spans = _spans(n, rows_per_partition)
    settings = {"survey": survey.model_dump(mode="json"), "model": model.model_dump(mode="json"),
                "noise": noise.model_dump(mode="json"), "seed": seed, "n": n, "grid": stages.grid_hash(model),
                "rows_per_partition": rows_per_partition, "schema": _digest(library_schema(survey, model))}  # fmt: skip
    how.check_door()
    arguments = {"survey": label, "n": n, "seed": seed}
    folder = OutputFolder.open(output, settings, len(spans), kind="library", arguments=arguments)
    stages.forward_for(survey, model)  # build the tables once, before the workers look for them
    jobs = {i: (folder, i, *spans[i], survey, model, noise, seed) for i in folder.resume(check=check)}
    run(folder, stages.write_library_part, jobs, [stop - start for start, stop in spans], "simulating", how)
    return folder.finish()


def infer_catalog(
    source: str | Path, output: str | Path, *, model: str | Path = "sdss", draws: int = 100, seed: int = 0,
    rows_per_partition: int | None = None, hide_redshift: bool = False, allow_uncalibrated: bool = False,
    certify: bool | None = None, budget_ms: float | None = None, target_ess: float | None = None,
    scheduler: str | None = None, workers: int | None = None, progress: bool = False,
    check: bool = False, log: str | Path | None = None,
    performance_report: str | Path | None = None,
) -> dict:  # fmt: skip
    """Write the posteriors of a catalogue to a folder, one part a partition, and return its manifest.

    `hide_redshift` infers every redshift, also where the catalogue has one. `rows_per_partition` None makes parts of
    64 MB in memory, and at least 16 of them. `scheduler` is the address of a Dask scheduler or its scheduler file; None
    starts a local cluster of `workers` processes (one a core). Where workers have the resource "GPU", only those are
    given partitions. In a script, call it under `if __name__ == "__main__":`, because local workers are new processes
    that import the script.

    Parts that are there already are kept: `check` reads every byte of them first, and does damaged ones again. A
    partition that fails is named and does not stop the others. `progress` shows a bar on stderr; `log` is a file for
    one JSON object an event; `performance_report` a file for Dask's own report. Seconds by stage, workers and failures
    go to _popcat/summary.json in the folder.

    `certify` corrects every posterior by the exact likelihood (popcat.inference.certify), for at most `budget_ms`
    nominal milliseconds a galaxy and core. By default it is on where a budget is named that pays for it. `target_ess`
    (200) is how many effective draws it asks for. Then the catalogue's own galaxies, read before the run, also judge
    whether a band of one of them is off (popcat.inference.peers).

    Raises PopcatError at the door for a catalogue that cannot work or a model that cannot or may not (it has not passed
    its calibration, unless allow_uncalibrated), and at the end for failed partitions.

    >>> manifest = infer_catalog("galaxies.parquet", "posteriors", draws=20, scheduler="synchronous")
    >>> manifest["rows"]
    40
    """
    if draws < 1:
        raise PopcatError(f"draws must be at least 1, got {draws}")
    calibrated = require_calibrated(model, allow=allow_uncalibrated)
    how = How(scheduler, workers, progress, check, log, performance_report)
    posterior = load_posterior(model)
    schema = posterior_schema(posterior.survey, posterior.model)
    chunks, rows_per_partition = cut(source, schema, draws, rows_per_partition)
    rows = [chunk.stop - chunk.start for chunk in chunks]
    check_catalog(source, posterior.survey, chunks)
    settings = {"model": posterior.name, "draws": draws, "seed": seed, "rows_per_partition": rows_per_partition,
                "catalog": content_digest(chunks), "n": sum(rows), "schema": _digest(schema),
                "hide_redshift": hide_redshift}  # fmt: skip
    effort = effort_for(certify, budget_ms, target_ess)
    if effort is not None:
        settings["effort"] = vars(effort)
    how.check_door()
    where = model_location(model)
    arguments = {"source": str(source), "model": where, "draws": draws, "seed": seed,
                 "rows_per_partition": rows_per_partition, "hide_redshift": hide_redshift}  # fmt: skip
    folder = OutputFolder.open(output, settings, len(chunks), kind="posteriors", arguments=arguments)
    pending = folder.resume(check=check)
    if pending:
        stages.forward_for(posterior.survey, posterior.model)
    peers = stages.find_peers(source, posterior, hide_redshift=hide_redshift) if pending and effort else None
    jobs = {i: (folder, chunks[i], where, posterior.name, draws, seed, hide_redshift, effort, peers) for i in pending}
    start = time.monotonic()
    run(folder, stages.write_posterior_part, jobs, rows, "inferring", how)
    extra = {
        "source": str(source),
        "model": where,
        "survey": posterior.survey.model_dump(mode="json"),
        "galaxy_model": posterior.model.model_dump(mode="json"),
        "provenance": posterior.provenance,
        "calibration": calibrated,
        "draws": draws,
        "seed": seed,
        "certify": None if effort is None else vars(effort),
    }
    return folder.finish({**extra, "seconds": round(time.monotonic() - start, 3)} if pending else extra)


def reweight_catalog(
    posteriors: str | Path, output: str | Path, prior: "str | Path | Callable", *, seed: int = 0,
    scheduler: str | None = None, workers: int | None = None, progress: bool = False,
) -> dict:  # fmt: skip
    """Write a posterior catalogue under another prior, inside the training prior; its manifest.

    `prior` is a TOML file (popcat.inference.reweight says what it holds), the folder of a fitted population, which
    every worker must see, or a function of the draws by name, each (n, k), that gives the ln of its density; a function
    runs in this process.

    Raises PopcatError for a prior that reaches outside the training prior, or a folder without posteriors.

    >>> def less_dust(draws):
    ...     return -draws["tau_ism"] / 0.5
    >>> reweight_catalog("posteriors", "less_dusty", less_dust, scheduler="synchronous")["rows"]
    40
    """
    manifest = read_manifest(posteriors, kind="posteriors")
    survey = Survey.model_validate(manifest["extra"]["survey"])
    model = Model.model_validate(manifest["extra"]["galaxy_model"])
    is_file = not callable(prior)
    new, text = _new_prior(prior, make_prior(model), survey.redshift_range) if is_file else (prior, None)
    text = text or getattr(prior, "__name__", "function")
    settings = {"posteriors": manifest["fingerprint_sha256"], "seed": seed, "prior": text}
    how = How(scheduler if is_file else SYNCHRONOUS, workers, progress, False, None, None)
    how.check_door()
    folder = OutputFolder.open(output, settings, len(manifest["parts"]), kind="posteriors")
    parts = [str(Path(posteriors).absolute() / part["file"]) for part in manifest["parts"]]
    jobs = {i: (folder, i, parts[i], new, survey, model, seed) for i in folder.resume(check=False)}
    rows = [part["rows"] for part in manifest["parts"]]
    run(folder, stages.write_reweighted_part, jobs, rows, "reweighting", how)
    return folder.finish({**manifest["extra"], "prior": text, "reweighted_from": str(posteriors)})


def _new_prior(path: str | Path, prior: Prior, redshift_range) -> tuple[object, str]:
    """A population's folder or a TOML file as a prior, and what the manifest says of it."""
    if Path(path).is_dir():
        new = population_prior(path, prior, redshift_range)
        return new, f"population {new.name}"
    return load_prior(path, prior, redshift_range), Path(path).read_text(encoding="utf-8")


def _digest(schema) -> str:
    """A hash of names, types and order of the columns: a folder never mixes two layouts."""
    return hashlib.sha256(schema.to_string(show_field_metadata=False, show_schema_metadata=False).encode()).hexdigest()


def _spans(n: int, rows: int) -> list[tuple[int, int]]:
    if n < 1 or rows < 1:
        raise PopcatError(f"expected at least one galaxy and one row a partition, got {n} and {rows}")
    return [(start, min(start + rows, n)) for start in range(0, n, rows)]


def _check_bands(catalog: dd.DataFrame, survey: Survey) -> None:
    missing = [name for name in photometry_meta(survey).columns if name not in catalog.columns]
    if missing:
        raise PopcatError(
            f'the frame lacks {", ".join(missing)} of survey "{survey.name}", for which the model was '
            "trained: read it with popcat.read_catalog and that survey"
        )

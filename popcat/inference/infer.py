"""`infer`: posteriors of a catalogue of photometry, from wherever it comes to wherever they go."""

import hashlib
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from popcat.catalog.manifest import (
    META,
    CatalogManifest,
    is_output,
    read_or_none,
)
from popcat.catalog.parts import OutputFolder, write_parts
from popcat.catalog.queries import Catalog, open_catalog
from popcat.catalog.record import CatalogRecord, Certification, PosteriorRecord
from popcat.checks.alternatives import DEFAULT_ODDS, odds_of, templates_of
from popcat.checks.calibration import require_calibrated
from popcat.checks.certify import effort_for
from popcat.columns import posterior_meta, posterior_schema, schema_digest, to_pandas
from popcat.errors import CatalogWarning, PopcatError
from popcat.galaxies import OBJECT_NAME
from popcat.inference.described import Given, describe
from popcat.inference.learned import keep_prior
from popcat.inference.partition import (
    Request,
    infer_part,
    infer_partition,
    memory_of,
    rows_per_part,
    seconds_of,
    write_posterior_part,
)
from popcat.inference.rows import counts_of_folder, misfits_of_folder
from popcat.io.checking import check_catalog
from popcat.io.chunks import Chunk
from popcat.io.content import (
    record_files,
    recorded_files,
    require_unchanged,
    require_unchanged_since,
    source_files,
)
from popcat.io.identifiers import has_names
from popcat.io.named import Source, label_of
from popcat.io.photometry import catalog_columns
from popcat.io.reading import (
    read_pieces,
    require_bands,
    require_frame,
    seen_by,
    survey_of,
)
from popcat.io.sources import parts_of_chunks, plan_chunks, remarks_on
from popcat.paths import AnyPath, output_path, path_of
from popcat.posterior.locations import posterior_location
from popcat.posterior.posterior import Posterior, load_posterior
from popcat.prior import FLAT
from popcat.run.client import Where
from popcat.run.frames import Frame, each_of, is_frame, map_frame, parts_of, take
from popcat.run.runner import How, run, values_of
from popcat.survey import Survey, load_survey

_ALL = 2**62


def infer(
    source: "Source | Frame | pd.DataFrame | Any", posterior: str | Path = "sdss", *, output: str | Path | None = None,
    survey: "str | Path | Survey | None" = None, prior: str | None = None, draws: int = 100, seed: int = 0,
    certify: bool = False, budget_ms: float | None = None, target_ess: float | None = None,
    refit: bool = False, star_odds: float | None = None, qso_odds: float | None = None, hide_redshift: bool = False,
    allow_uncalibrated: bool = False, rows_per_partition: int | None = None,
    client: Where = None, workers: int | None = None, device: str = "cpu", progress: bool = False, check: bool = False,
    log: str | Path | None = None, performance_report: str | Path | None = None,
) -> "Catalog | Frame | pd.DataFrame":  # fmt: skip
    """Posteriors of every galaxy of a catalogue. A galaxy without a redshift has it inferred.

    Without `output`, a Dask frame comes back as one, lazy; a path or a table in memory comes back as a pandas frame,
    which is for what fits into memory. With `output` the posteriors are written there, part by part, and the catalogue
    of them is opened; the same call finishes a run that was interrupted. Numbers are the same whichever way.

    Parameters
    ----------
    source : a path, a glob or a list of paths (Parquet, CSV, FITS, VOTable, HATS); a lazy frame of `read_catalog`; or a
        table in memory: pandas, Polars, PyArrow, whatever else narwhals knows, astropy's Table and QTable. Units that
        an astropy table states are checked, and fluxes in Jy or the like converted to the survey's unit
    posterior : folder of a trained posterior, which every worker must see, or the name of an embedded one
    output : folder of the posterior catalogue; parts that are there are kept
    survey : survey file that says what the columns mean, where it is not the posterior's own; of the same bands
    prior : "flat" or "physical": one that the posterior was trained under; by default "physical" where it was
    draws, seed : posterior draws per galaxy; draw k of a galaxy is a function of (seed, object_id, k)
    certify : correct each posterior by importance sampling with the exact likelihood (popcat.checks.certify). That
        makes the draws right given the galaxy model, prior and data; it tests none of these
    budget_ms : compute limit of `certify` per galaxy, in nominal milliseconds of one core; 2000 by default
    target_ess : effective sample size that `certify` asks for; 200 by default
    refit : where `certify` fails, fit proposals to the galaxy (popcat.posterior.per_galaxy) and correct these: about
        half a second of one core for each such galaxy, more in more than ten bands, and up to budget_ms
    star_odds, qso_odds : stars and quasars per galaxy of the same magnitude, for p_star and p_qso of `certify`
        (popcat.checks.alternatives); by default 0.05 and 0.001, for sources that shapes said are galaxies. Without
        shapes take 1 and 0.02; 0 is none at all
    hide_redshift : infer every redshift, also where the catalogue has one
    allow_uncalibrated : use a posterior that has not passed its calibration
    rows_per_partition : galaxies per part; by default parts of 64 MB in memory, and at least 16 of them
    client, workers : where it runs (popcat.run.client.connect): by default on the active client, in this process if it
        is little, or on a local cluster. In a script, call it under `if __name__ == "__main__":`, because local workers
        are new processes that import the script. Parts go to workers with the resource "GPU", where there are any
    device : where other workers, and this process, sample: "cuda" for a GPU, same draws to 1e-4 standard deviations
    progress, log, performance_report : a bar on stderr; files for one JSON object an event, and for Dask's own report
    check : read every byte of the source and of the parts that are there, and write damaged parts again

    A part that fails is named and does not stop the others. Every galaxy is also compared with the catalogue's own
    galaxies (popcat.checks.flags): with all of them up to 8,000, and with evenly spaced ones of a larger catalogue. For
    that a Dask frame is gone through once, when this is called, to count its rows.

    The whole catalogue is compared with the training set of the posterior (popcat.checks.training_check), before the
    first part: a `CatalogWarning` says what does not fit and what usually causes it. With `output` the result stays in
    the manifest: `catalog.manifest.training_check`. What the calibration of the posterior found is in the metadata of
    each column: key "calibration". So is what the photometry says beyond the prior: key "learned", and
    `catalog.manifest.learned` (popcat.catalog.learned).

    Raises PopcatError for a catalogue or an option that cannot work, for a posterior that has not passed its
    calibration, and at the end for parts that failed.

    >>> frame = infer(pd.read_parquet("galaxies.parquet"), draws=20)
    >>> len(frame), frame["status"].unique().tolist()
    (40, ['ok'])
    >>> catalog = infer("galaxies.parquet", output="written", draws=20)
    >>> len(catalog)
    40
    """
    effort = effort_for(certify, budget_ms, target_ess, refit)
    odds = odds_of(star_odds, qso_odds, certify=certify)
    if draws < 1:
        raise PopcatError(f"draws must be at least 1, got {draws}")
    how, is_lazy = How(client, workers, progress, check, log, performance_report), is_frame(source)
    _refuse_idle(how, is_lazy=is_lazy, output=output, survey=survey, rows_per_partition=rows_per_partition)
    how.verify()
    standing = require_calibrated(posterior, prior, allow=allow_uncalibrated)
    where, posterior = posterior_location(posterior), load_posterior(posterior).under(prior).to(device)
    reading, schema = _reading_survey(survey, posterior), posterior_schema(posterior.survey, posterior.galaxy_model)
    words = standing.of_columns(corrected=effort is not None)
    request = Request(where, posterior.name, reading, draws, seed, hide_redshift, effort, device=device,
                      prior=posterior.prior_name, calibration=words,
                      chi2_limits=standing.chi2_limits, odds=odds)  # fmt: skip
    output = None if output is None else output_path(output)
    if is_lazy:
        given = _of_frame(source, reading, is_written=output is not None)
    elif isinstance(source, str | Path | list | tuple):
        given = _of_files(source, reading, schema, draws, rows_per_partition, output, check)
    else:
        given = _of_table(source, reading, schema, draws, rows_per_partition)
    for line in given.remarks:
        warnings.warn(line, CatalogWarning, stacklevel=2)
    if output is not None:
        return _write(given, posterior, request, output, how, standing.line)
    if is_lazy:
        meta = posterior_meta(posterior.survey, posterior.galaxy_model, named=given.is_named)
        return map_frame(source, infer_partition, describe(given, posterior, request)[0], meta=meta)
    return _gather(given, posterior, request, how)


def _refuse_idle(how: How, *, is_lazy: bool, output, survey, rows_per_partition) -> None:
    """PopcatError for options that would do nothing."""
    idle = {"check": how.check} if output is None else {}
    if is_lazy:
        idle |= {"survey": survey, "rows_per_partition": rows_per_partition}
        if output is None:
            idle |= vars(how)
    if given := [name for name, value in idle.items() if value not in (None, False)]:
        source = "a Dask frame" if is_lazy else "a source"
        raise PopcatError(f"{', '.join(given)}: would do nothing for {source} "
                          f"{'without' if output is None else 'with'} output; leave it out"
                          + (", or name an output" if output is None else ""))  # fmt: skip


def _reading_survey(survey: "str | Path | Survey | None", posterior: Posterior) -> Survey:
    """How files are read: by a survey of the posterior's bands, in the range that the posterior was trained for."""
    if survey is None:
        return posterior.survey
    survey = load_survey(survey)
    require_bands(survey, posterior.survey)
    trained = {"redshift_range": posterior.survey.redshift_range, "selection": posterior.survey.selection}
    return survey.model_copy(update=trained)


def _of_files(
    source: Source, survey: Survey, schema: pa.Schema, draws: int, rows: int | None, output: AnyPath | None, check: bool
) -> Given:
    chunks, rows = cut(source, survey, schema, draws, rows)
    check_catalog(source, survey, chunks)
    parts = parts_of_chunks(chunks, rows)
    sizes = [sum(chunk.stop - chunk.start for chunk in part) for part in parts]
    known = None if check else recorded_files(output)
    files = None if output is None else source_files(chunks, survey, known)
    return Given(label_of(source), parts, sizes, files.digest if files else "", rows,
                  lambda pieces: read_pieces(parts, pieces, survey), files, remarks_on(source, chunks),
                  has_names(survey, chunks[0]))  # fmt: skip


def cut(source: Source, survey: Survey, schema: pa.Schema, draws: int, rows: int | None) -> tuple[list[Chunk], int]:
    """The chunks of a catalogue and the most rows of a part, chosen where `rows` is None; PopcatError as
    `plan_chunks`."""
    columns = catalog_columns(survey)
    if rows is None:
        whole = plan_chunks(source, rows_per_partition=_ALL, columns=columns)
        rows = rows_per_part(schema, draws, sum(chunk.stop - chunk.start for chunk in whole))
    return plan_chunks(source, rows_per_partition=rows, columns=columns), rows


def _of_table(table: Any, survey: Survey, schema: pa.Schema, draws: int, rows: int | None) -> Given:
    frame = _photometry(table, survey)
    rows = rows_per_part(schema, draws, len(frame)) if rows is None else rows
    if rows < 1:
        raise PopcatError(f"rows_per_partition must be at least 1, got {rows}")
    parts = [frame.iloc[start : start + rows] for start in range(0, len(frame), rows)]
    digest = _digest(_look(part, True)[1] for part in parts)
    return Given("a table in memory", parts, list(map(len, parts)), digest, rows,
                  lambda pieces: pd.concat([parts[i].iloc[start:stop] for i, start, stop in pieces]),
                  is_named=OBJECT_NAME in frame.columns)  # fmt: skip


def _photometry(table: Any, survey: Survey) -> pd.DataFrame:
    """A table as a photometry frame; one that `read_catalog` made, and Dask computed, is one already."""
    if isinstance(table, pd.DataFrame) and survey_of(table) is not None:
        require_frame(table, survey)
        return table.reset_index(drop=True)
    from popcat.io.tables import photometry_of

    return photometry_of(table, survey)


def _of_frame(frame: Frame, survey: Survey, *, is_written: bool) -> Given:
    require_frame(frame, survey)
    looked = each_of(frame, _look, is_written)
    return Given("a Dask frame", parts_of(frame) if is_written else [], [n for n, _ in looked],
                  _digest(text for _, text in looked), None, lambda pieces: seen_by(take(frame, pieces), survey),
                  is_named=OBJECT_NAME in frame.columns)  # fmt: skip


def _look(frame: pd.DataFrame, needs_hash: bool) -> tuple[int, str]:
    """Number of rows, and a hash of them."""
    return len(frame), _digest([pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes().hex()]
                               if needs_hash else [])  # fmt: skip


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _gather(given: Given, posterior: Posterior, request: Request, how: How) -> pd.DataFrame:
    """The posteriors of all parts, in memory."""
    memory = memory_of(posterior_schema(posterior.survey, posterior.galaxy_model), request.draws)
    request, _ = describe(given, posterior, request)
    jobs = {i: (part, request) for i, part in enumerate(given.parts)}
    seconds = seconds_of(sum(given.rows), request.draws, certified=request.effort is not None)
    outcomes = run(infer_part, jobs, verb="inferring", how=how, sizes=given.rows, seconds=seconds, memory=memory)
    return to_pandas(pa.concat_tables(values_of(outcomes, "part")))


def _write(
    given: Given, posterior: Posterior, request: Request, output: AnyPath, how: How, calibrated: str
) -> Catalog:
    """Write the parts that are missing, and open the catalogue."""
    schema = posterior_schema(posterior.survey, posterior.galaxy_model, named=given.is_named)
    effort = None if request.effort is None else request.effort.settings
    settings = {"posterior": posterior.name, "draws": request.draws, "seed": request.seed,
                "rows_per_partition": given.rows_per_part, "catalog": given.digest, "n": sum(given.rows),
                "schema": schema_digest(schema), "hide_redshift": request.hide_redshift,
                "forward": posterior.forward_hashes}  # fmt: skip
    other = None if request.survey == posterior.survey else request.survey.model_dump(mode="json")
    limits = None if request.chi2_limits is None else request.chi2_limits.model_dump()
    prior = None if request.prior == FLAT else request.prior
    chosen = {"effort": effort, "survey": other, "chi2_limits": limits, "prior": prior,
              "odds": None if request.odds == DEFAULT_ODDS else vars(request.odds)}  # fmt: skip
    settings |= {name: value for name, value in chosen.items() if value is not None}
    memory = memory_of(schema, request.draws)
    how.require_memory(memory, given.rows)
    arguments = {"source": given.label, "posterior": request.posterior, "draws": request.draws, "seed": request.seed,
                 "hide_redshift": request.hide_redshift}  # fmt: skip
    if given.rows_per_part is not None:
        arguments["rows_per_partition"] = given.rows_per_part
    if given.files is not None:
        require_unchanged(output, given.files, recorded_files(output))
    begun = None
    if not is_output(output):  # what is refused now leaves no folder
        begun = describe(given, posterior, request, is_written=True)
    folder = OutputFolder.open(output, settings, len(given.parts), kind=CatalogManifest.KIND, arguments=arguments)
    with folder.alone() as folder:
        if given.files is not None:
            record_files(output, given.files)
        pending, start = folder.resume(check=how.check), time.monotonic()
        earlier = read_or_none(path_of(folder.path) / META / "manifest.json", CatalogManifest)
        check, learned = (None, None) if earlier is None else (earlier.training_check, earlier.learned)
        if pending or check is None or learned is None:
            _ = posterior.forward, posterior.physical  # builds their tables once, before the workers look for them
            if effort is not None:
                templates_of(posterior)
            request, check = begun or describe(given, posterior, request, is_written=True)
            learned = request.learned
            keep_prior(folder.path, posterior)
        jobs = {i: (folder, i, given.parts[i], request) for i in pending}
        seconds = seconds_of(sum(given.rows[i] for i in pending), request.draws, certified=effort is not None)
        write_parts(folder, write_posterior_part, jobs, given.rows, "inferring", how, seconds=seconds, memory=memory)
        if given.files is not None and pending:
            require_unchanged_since([one for part in given.parts for one in part], request.survey, given.files, output)
        record = CatalogRecord(
            survey=posterior.survey, galaxy_model=posterior.galaxy_model, draws=request.draws, seed=request.seed,
            posterior=PosteriorRecord(name=posterior.name, location=request.posterior, prior=posterior.prior_name),
            provenance=posterior.provenance, source=given.label, calibration=calibrated,
            certify=None if effort is None else Certification(**effort, odds=vars(request.odds)),
            seconds=round(time.monotonic() - start, 3) if pending else None, training_check=check,
            warnings=given.remarks, **counts_of_folder(folder), misfits=misfits_of_folder(folder, posterior.survey),
            learned=learned, chi2_limits=request.chi2_limits,
        )  # fmt: skip
        folder.finish(record)
    return open_catalog(output)

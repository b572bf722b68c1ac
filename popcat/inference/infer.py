"""`infer`: posteriors of a catalogue of photometry."""

import time
from pathlib import Path

from popcat.catalog.parts import OutputFolder, write_parts
from popcat.checks.calibration import require_calibrated
from popcat.checks.certify import effort_for
from popcat.checks.peers import find_peers
from popcat.columns import photometry_meta, posterior_meta, posterior_schema
from popcat.errors import PopcatError
from popcat.forward.model import forward_for
from popcat.inference.partition import infer_partition, write_posterior_part
from popcat.inference.plan import cut, posterior_location, seconds_of
from popcat.io.reading import check_catalog
from popcat.io.sources import content_digest
from popcat.posterior.posterior import load_posterior
from popcat.posterior.simulation import _digest
from popcat.run.client import Where
from popcat.run.frames import Frame, map_frame
from popcat.run.runner import How
from popcat.survey import Survey


def infer(
    catalog: Frame, posterior: str | Path = "sdss", *, draws: int = 100, seed: int = 0,
    allow_uncalibrated: bool = False, certify: bool | None = None, budget_ms: float | None = None,
    target_ess: float | None = None,
) -> Frame:  # fmt: skip
    """Posteriors of a lazy photometry frame, partition by partition: a lazy posterior frame.

    `posterior` is the folder of a posterior, which every worker must see, or the name of an embedded one. A galaxy
    whose redshift is NaN has it inferred. `certify`, `budget_ms`, `target_ess`: as for `infer_catalog`.

    Raises PopcatError for a model that has not passed its calibration, unless allow_uncalibrated.

    >>> from importlib.resources import files
    >>> from popcat.io.reading import read_catalog
    >>> frame = read_catalog(files("popcat") / "data" / "galaxies_sdss.parquet", "sdss")
    >>> infer(frame, "sdss").npartitions
    4
    """
    require_calibrated(posterior, allow=allow_uncalibrated)
    where, posterior = posterior_location(posterior), load_posterior(posterior)
    _check_bands(catalog, posterior.survey)
    meta = posterior_meta(posterior.survey, posterior.galaxy_model)
    effort = effort_for(certify, budget_ms, target_ess)
    return map_frame(catalog, infer_partition, where, draws, seed, effort, meta=meta)


def infer_catalog(
    source: str | Path, output: str | Path, *, posterior: str | Path = "sdss", draws: int = 100, seed: int = 0,
    rows_per_partition: int | None = None, hide_redshift: bool = False, allow_uncalibrated: bool = False,
    certify: bool | None = None, budget_ms: float | None = None, target_ess: float | None = None,
    client: Where = None, workers: int | None = None, progress: bool = False,
    check: bool = False, log: str | Path | None = None,
    performance_report: str | Path | None = None,
) -> dict:  # fmt: skip
    """Write the posteriors of a catalogue to a folder, one part a partition, and return its manifest.

    `hide_redshift` infers every redshift, also where the catalogue has one. `rows_per_partition` None makes parts of
    64 MB in memory, and at least 16 of them. `client` says where the run runs, and `workers` how many processes a local
    cluster has (popcat.run.client.connect): by default a small catalogue is inferred in this process. Where workers
    have the resource "GPU", only those are given partitions. In a script, call it under
    `if __name__ == "__main__":`, because local workers are new processes that import the script.

    Parts that are there already are kept: `check` reads every byte of them first, and does damaged ones again. A
    partition that fails is named and does not stop the others. `progress` shows a bar on stderr; `log` is a file for
    one JSON object an event; `performance_report` a file for Dask's own report. Seconds by stage, workers and failures
    go to _popcat/summary.json in the folder.

    `certify` corrects every posterior by the exact likelihood (popcat.checks.certify), for at most `budget_ms`
    nominal milliseconds a galaxy and core. By default it is on where a budget is named that pays for it. `target_ess`
    (200) is how many effective draws it asks for. Then the catalogue's own galaxies, read before the run, also judge
    whether a band of one of them is off (popcat.checks.peers).

    Raises PopcatError at the door for a catalogue that cannot work or a model that cannot or may not (it has not passed
    its calibration, unless allow_uncalibrated), and at the end for failed partitions.

    >>> manifest = infer_catalog("galaxies.parquet", "posteriors", draws=20, client="synchronous")
    >>> manifest["rows"]
    40
    """
    if draws < 1:
        raise PopcatError(f"draws must be at least 1, got {draws}")
    calibrated = require_calibrated(posterior, allow=allow_uncalibrated)
    how = How(client, workers, progress, check, log, performance_report)
    where, posterior = posterior_location(posterior), load_posterior(posterior)
    schema = posterior_schema(posterior.survey, posterior.galaxy_model)
    chunks, rows_per_partition = cut(source, schema, draws, rows_per_partition)
    rows = [chunk.stop - chunk.start for chunk in chunks]
    check_catalog(source, posterior.survey, chunks)
    settings = {"model": posterior.name, "draws": draws, "seed": seed, "rows_per_partition": rows_per_partition,
                "catalog": content_digest(chunks), "n": sum(rows), "schema": _digest(schema),
                "hide_redshift": hide_redshift}  # fmt: skip
    effort = effort_for(certify, budget_ms, target_ess)
    if effort is not None:
        settings["effort"] = vars(effort)
    how.verify()
    arguments = {"source": str(source), "posterior": where, "draws": draws, "seed": seed,
                 "rows_per_partition": rows_per_partition, "hide_redshift": hide_redshift}  # fmt: skip
    folder = OutputFolder.open(output, settings, len(chunks), kind="posteriors", arguments=arguments)
    pending = folder.resume(check=check)
    if pending:
        forward_for(posterior.survey, posterior.galaxy_model)
    peers = find_peers(source, posterior, hide_redshift=hide_redshift) if pending and effort else None
    jobs = {i: (folder, chunks[i], where, posterior.name, draws, seed, hide_redshift, effort, peers) for i in pending}
    start = time.monotonic()
    seconds = seconds_of(sum(rows[index] for index in pending), draws, certified=effort is not None)
    write_parts(folder, write_posterior_part, jobs, rows, "inferring", how, seconds=seconds)
    extra = {
        "source": str(source),
        "model": where,
        "survey": posterior.survey.model_dump(mode="json"),
        "galaxy_model": posterior.galaxy_model.model_dump(mode="json"),
        "provenance": posterior.provenance,
        "calibration": calibrated,
        "draws": draws,
        "seed": seed,
        "certify": None if effort is None else vars(effort),
    }
    return folder.finish({**extra, "seconds": round(time.monotonic() - start, 3)} if pending else extra)


def _check_bands(catalog: Frame, survey: Survey) -> None:
    missing = [name for name in photometry_meta(survey).columns if name not in catalog.columns]
    if missing:
        raise PopcatError(
            f'the frame lacks {", ".join(missing)} of survey "{survey.name}", for which the model was '
            "trained: read it with popcat.read_catalog and that survey"
        )

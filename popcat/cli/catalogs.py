"""Commands of posterior catalogues: make, check, show, publish; the demo; and doctor, which checks the machine."""

import warnings
from pathlib import Path
from typing import Annotated

import typer

import popcat
from popcat.cli.options import (
    CATALOGUE,
    CERTIFY,
    NONE_HAS_A_POSTERIOR,
    READ,
    START,
    CheckOption,
    ClientOption,
    DeviceOption,
    DrawsOption,
    JsonOption,
    LogOption,
    PerformanceOption,
    PosteriorOption,
    PosteriorsArgument,
    PriorOption,
    RowsOption,
    SeedOption,
    SourcesArgument,
    SurveyOption,
    WorkersOption,
    examples,
    one_or_all,
    print_json,
    say,
    show,
    written,
)
from popcat.errors import CatalogWarning
from popcat.paths import path_of

app = typer.Typer()
_MAX_SHOWN = 50


@app.command(rich_help_panel=START, epilog=examples("popcat demo -o demo"))
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")] = Path("demo"),
    draws: DrawsOption = 100,
    workers: WorkersOption = None,
    json: JsonOption = False,
) -> None:
    """Infer the posteriors of 10,000 real SDSS galaxies, and write a report."""
    show(popcat.demo(output, draws=draws, workers=workers, progress=True), as_json=json)


@app.command(rich_help_panel=START, epilog=examples("popcat doctor --client tcp://node1:8786"))
def doctor(
    client: Annotated[str | None, typer.Option(help="Address of a Dask scheduler to try.")] = None,
    json: JsonOption = False,
) -> None:
    """Check what works on this machine, and say how to repair what does not."""
    found = popcat.doctor(client=client)
    if json:
        print_json({"ok": found.ok, "checks": found.checks})
    for check in found.checks:
        mark = {True: "ok  ", False: "FAIL", None: "-   "}[check.ok]
        remedy = f"\n     -> {check.remedy}" if check.remedy else ""
        typer.echo(f"{mark} {check.name:10s} {check.detail}{remedy}", err=json)
    raise typer.Exit(0 if found.ok else 1)


@app.command(rich_help_panel=CATALOGUE, epilog=examples("popcat plan galaxies.parquet --workers 32 --gpus 2"))
def plan(
    source: SourcesArgument,
    posterior: PosteriorOption = "sdss",
    draws: DrawsOption = 100,
    workers: Annotated[int, typer.Option(min=1, help="Processes of the run, one core each.")] = 1,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs that the processes share.")] = 0,
    rows_per_partition: RowsOption = None,
    client: ClientOption = None,
    json: JsonOption = False,
) -> None:
    """Estimate the parts, memory, time and output size of `popcat infer`, from a measurement of some seconds."""
    found = popcat.plan(one_or_all(source), posterior, draws=draws, workers=workers, gpus=gpus,
                        rows_per_partition=rows_per_partition, client=client)  # fmt: skip
    show(found, as_json=json)


@app.command(rich_help_panel=CATALOGUE, epilog=examples(
    "popcat infer galaxies.parquet --posterior sdss -o posteriors",
    "popcat infer galaxies.fits --certify --client tcp://node1:8786",
    "popcat infer night1.fits night2.fits --survey mine.toml",
))
def infer(
    source: SourcesArgument,
    posterior: PosteriorOption = "sdss",
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the posterior catalogue.")] = Path(
        "posteriors"
    ),
    survey: Annotated[
        str | None,
        typer.Option(help="Survey file of the catalogue: a name or a TOML file. Default: that of the posterior."),
    ] = None,
    prior: PriorOption = None,
    draws: DrawsOption = 100,
    seed: SeedOption = 0,
    certify: Annotated[
        bool,
        typer.Option("--certify", help="Correct by importance sampling, which tests neither the data nor the model.",
                     rich_help_panel=CERTIFY),
    ] = False,
    budget_ms: Annotated[
        float | None,
        typer.Option(min=0.0, help="Compute limit of --certify: nominal ms per galaxy on one core. Default 2000.",
                     rich_help_panel=CERTIFY),
    ] = None,
    target_ess: Annotated[
        float | None,
        typer.Option(min=1.0, help="Effective sample size per galaxy that --certify asks for. Default 200.",
                     rich_help_panel=CERTIFY),
    ] = None,
    refit: Annotated[
        bool,
        typer.Option("--refit",
                     help="Fit proposals to each galaxy that --certify fails for, in about half a second of one core.",
                     rich_help_panel=CERTIFY),
    ] = False,
    star_odds: Annotated[
        float | None,
        typer.Option(min=0.0, help="Prior odds of p_star: stars per galaxy of its magnitude. Default 0.05.",
                     rich_help_panel=CERTIFY),
    ] = None,
    qso_odds: Annotated[
        float | None,
        typer.Option(min=0.0, help="Prior odds of p_qso: quasars per galaxy of its magnitude. Default 0.001.",
                     rich_help_panel=CERTIFY),
    ] = None,
    hide_redshift: Annotated[
        bool, typer.Option("--hide-redshift", help="Infer every redshift, also where the catalogue has one.")
    ] = False,
    allow_uncalibrated: Annotated[
        bool, typer.Option("--allow-uncalibrated", help="Use a posterior that has not passed its calibration.")
    ] = False,
    rows_per_partition: RowsOption = None,
    client: ClientOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = "cpu",
    check: CheckOption = False,
    log: LogOption = None,
    performance_report: PerformanceOption = None,
    json: JsonOption = False,
) -> None:
    """Infer the posterior of every galaxy of a catalogue; a rerun finishes what is missing.

    Exit status: 0 done, also where some galaxies have no posterior; 1 an unexpected error; 2 something to mend, in one
    line; 3 done, but no galaxy has a posterior; 130 interrupted.
    """
    from popcat.inference.rows import in_words, without_posterior

    warnings.simplefilter("ignore", UserWarning)  # the calibration is printed below, from the manifest
    warnings.simplefilter("always", CatalogWarning)  # before hours are spent; and below, from the manifest
    catalog: popcat.Catalog = popcat.infer(  # type: ignore[assignment]  # a Catalog, because there is an output
        one_or_all(source), posterior, output=output, survey=survey, prior=prior, draws=draws, seed=seed,
        certify=certify, budget_ms=budget_ms, target_ess=target_ess, refit=refit, star_odds=star_odds,
        qso_odds=qso_odds, hide_redshift=hide_redshift, allow_uncalibrated=allow_uncalibrated,
        rows_per_partition=rows_per_partition, client=client, workers=workers, device=device, progress=True,
        check=check, log=log, performance_report=performance_report,
    )  # fmt: skip
    manifest = catalog.require_manifest()
    say(manifest.calibration)
    for line in (*in_words(manifest.status, manifest.flags), *manifest.misfits):
        say(line)
    say(f"{manifest.rows:,} galaxies, {manifest.bytes / 1e6:.0f} MB, in {path_of(output)}")
    if manifest.certified_line:
        say(manifest.certified_line)
    against_training = manifest.training_check
    if against_training is not None:
        say(against_training.line)
    if manifest.learned is not None:
        say(manifest.learned.line)
    if json:
        kept = {"calibration", "status", "flags", "warnings", "misfits", "learned", "n_certified"}
        print_json(written(manifest, output) | manifest.model_dump(include=kept)
                   | {"training_check": against_training})  # fmt: skip
    lost, total = without_posterior(manifest.status)
    if lost == total:
        raise typer.Exit(NONE_HAS_A_POSTERIOR)


@app.command(rich_help_panel=CATALOGUE, epilog=examples(
    "popcat reweight posteriors --prior new_prior.toml -o reweighted",
))
def reweight(
    posteriors: PosteriorsArgument,
    prior: Annotated[
        Path,
        typer.Option(help="New prior: flat, physical, a TOML file with a table per parameter, or a population folder."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the catalogue to write.")] = Path(
        "reweighted"
    ),
    seed: SeedOption = 0,
    client: ClientOption = None,
    workers: WorkersOption = None,
    log: LogOption = None,
    json: JsonOption = False,
) -> None:
    """Write a posterior catalogue under another prior, inside the training prior, without another inference."""
    catalog = popcat.reweight(
        posteriors, prior, output=output, seed=seed, client=client, workers=workers, progress=True, log=log
    )
    manifest = catalog.require_manifest()
    say(f"{manifest.rows:,} galaxies, {manifest.bytes / 1e6:.0f} MB, in {path_of(output)}; effective draws: column ess")
    if json:
        print_json(written(manifest, output))

@app.command(rich_help_panel=READ, epilog=examples("popcat verify posteriors"))
def verify(
    path: Annotated[Path, typer.Argument(help="Folder that `popcat infer` or `popcat simulate` wrote.")],
    ids_at_once: Annotated[
        int, typer.Option(min=1, help="Identifiers in memory at once. Lower it if memory is short.")
    ] = 2**25,
    json: JsonOption = False,
) -> None:
    """Check every checksum, row count, identifier and column; exit status 1 with what is wrong and what mends it."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    found = popcat.verify(path, ids_at_once=ids_at_once)
    show(found, as_json=json, of={"ok": found.ok, "path": found.path, "kind": found.kind, "parts": found.parts,
                                  "rows": found.rows, "bytes": found.bytes, "problems": found.problems})  # fmt: skip
    if found.ok:
        return
    table = Table("where", "what is wrong", title=f"{len(found.problems)} problems", title_justify="left")
    for problem in found.problems[:_MAX_SHOWN]:
        table.add_row(escape(problem.where), escape(problem.what))
    Console(stderr=json).print(table)
    if len(found.problems) > _MAX_SHOWN:
        typer.echo(f"and {len(found.problems) - _MAX_SHOWN} more", err=json)
    for remedy in dict.fromkeys(problem.remedy for problem in found.problems):
        typer.echo(f"-> {remedy}", err=json)
    raise typer.Exit(1)


@app.command(rich_help_panel=READ, epilog=examples("popcat crosscheck posteriors -n 50 -o crosscheck"))
def crosscheck(
    posteriors: PosteriorsArgument,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Number of galaxies, drawn at random.")] = 50,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the page and the numbers.")] = Path(
        "crosscheck"
    ),
    seed: SeedOption = 0,
    sampler: Annotated[str, typer.Option(help="prior, emcee or nautilus (the latter two: extra bench).")] = "prior",
    max_steps: Annotated[int, typer.Option(min=1, help="Longest chain of emcee, in steps.")] = 60_000,
    only: Annotated[
        list[str] | None, typer.Option(help="Only galaxies with this value of the column route; may be repeated.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Sample some galaxies of a catalogue again with an independent sampler, and compare the posteriors."""
    found = popcat.crosscheck(
        posteriors, n, output=output, seed=seed, sampler=sampler, max_steps=max_steps, only=only or None, report=say
    )
    show(found, as_json=json)
    say(f"page and numbers in {path_of(output)}")


@app.command(rich_help_panel=READ, epilog=examples("popcat compare posteriors_a posteriors_b -o factors.parquet"))
def compare(
    first: PosteriorsArgument,
    second: PosteriorsArgument,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Parquet file of the factors.")] = None,
    json: JsonOption = False,
) -> None:
    """Compare two galaxy models: Bayes factors, per galaxy and summed, of catalogues inferred with --certify."""
    show(popcat.compare(first, second, output=output), as_json=json)


@app.command(rich_help_panel=READ, epilog=examples(
    "popcat report posteriors -o report.html",
    "popcat report posteriors --galaxy 4711 --galaxy 42",
))
def report(
    posteriors: PosteriorsArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML file.")] = Path("report.html"),
    galaxy: Annotated[
        list[str] | None, typer.Option(help="Identifier of a galaxy to show, object_id or name; may be repeated.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Folder from `popcat calibrate`. Default: that of the posterior.")
    ] = None,
    crosscheck: Annotated[Path | None, typer.Option(help="Folder from `popcat crosscheck`, to show too.")] = None,
    beside: Annotated[
        Path | None, typer.Option(help="Catalogue of the same galaxies to compare with, as under another prior.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page. Default: the folder's name.")] = None,
) -> None:
    """Write one HTML page: what to trust, galaxies to sort, filter and draw, distributions of the catalogue."""
    page = popcat.report(
        posteriors, output, galaxies=galaxy or None, calibration=calibration, crosscheck=crosscheck, beside=beside,
        title=title,
    )  # fmt: skip
    say(f"report in {page}")


@app.command(rich_help_panel=READ, epilog=examples(
    "popcat schema --survey sdss",
    "popcat schema --kind library --json",
))
def schema(
    survey: SurveyOption = "sdss",
    kind: Annotated[str, typer.Option(help="Which columns: posterior or library.")] = "posterior",
    json: JsonOption = False,
) -> None:
    """Print the columns of a catalogue as a markdown table: type, unit, UCD, description."""
    from popcat.columns import column_list, column_table

    columns = popcat.schema(survey, kind=kind)
    if json:
        print_json({"survey": survey, "kind": kind, "columns": column_list(columns)})
    else:
        typer.echo(column_table(columns))


@app.command(rich_help_panel=READ, epilog=examples(
    "popcat export posteriors --to hats -o lake",
    "popcat export posteriors --to fits -o posteriors.fits",
    "popcat export posteriors --to qp -o photoz.hdf5",
))
def export(
    posteriors: PosteriorsArgument,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder of the published catalogue; a file for fits and qp.")
    ] = Path("lake"),
    to: Annotated[
        str, typer.Option(help="hats, delta, iceberg, parquet, fits (for TOPCAT), qp (photometric redshifts).")
    ] = "hats",
    sky: Annotated[
        bool, typer.Option("--sky", help="Sort by position (HATS always is), so that sky queries skip files.")
    ] = False,
    rows_per_pixel: Annotated[int, typer.Option(min=1, help="Most galaxies in one file of HATS or Parquet.")] = 50_000,
    name: Annotated[str, typer.Option(help="Name of the published catalogue.")] = "popcat",
    grid: Annotated[int, typer.Option(min=3, help="Redshifts at which --to qp writes the densities.")] = 301,
    json: JsonOption = False,
) -> None:
    """Publish a posterior catalogue in a data lake; again with more galaxies, to the same folder, adds them."""
    done = popcat.export(posteriors, output, to=to, sky=sky, rows_per_pixel=rows_per_pixel, name=name, grid=grid)
    show(done, as_json=json)

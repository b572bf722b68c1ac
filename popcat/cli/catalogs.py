"""Commands that make posterior catalogues: demo, plan, infer, reweight; and doctor, which checks the machine."""

import warnings
from pathlib import Path
from typing import Annotated

import typer

import popcat
from popcat.cli.options import (
    CATALOGUE,
    CERTIFY,
    START,
    CheckOption,
    ClientOption,
    DrawsOption,
    JsonOption,
    LogOption,
    PerformanceOption,
    PosteriorOption,
    PosteriorsArgument,
    RowsOption,
    SeedOption,
    SourceArgument,
    WorkersOption,
    examples,
    print_json,
    say,
    show,
    written,
)
from popcat.errors import CatalogWarning

app = typer.Typer()


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
    """Check what works on this machine, and say how to mend what does not."""
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
    source: SourceArgument,
    posterior: PosteriorOption = "sdss",
    draws: DrawsOption = 100,
    workers: Annotated[int, typer.Option(min=1, help="Processes of the run, one core each.")] = 1,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs that the processes share.")] = 0,
    rows_per_partition: RowsOption = None,
    client: ClientOption = None,
    json: JsonOption = False,
) -> None:
    """Estimate the parts, memory, time and output size of `popcat infer`, from a measurement of some seconds."""
    found = popcat.plan(source, posterior, draws=draws, workers=workers, gpus=gpus,
                        rows_per_partition=rows_per_partition, client=client)  # fmt: skip
    show(found, as_json=json)


@app.command(rich_help_panel=CATALOGUE, epilog=examples(
    "popcat infer galaxies.parquet --posterior sdss -o posteriors",
    "popcat infer galaxies.fits --certify --client tcp://node1:8786",
))
def infer(
    source: SourceArgument,
    posterior: PosteriorOption = "sdss",
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the posterior catalogue.")] = Path(
        "posteriors"
    ),
    survey: Annotated[
        str | None,
        typer.Option(help="Survey file that says what the columns mean. Default: that of the posterior."),
    ] = None,
    draws: DrawsOption = 100,
    seed: SeedOption = 0,
    certify: Annotated[
        bool,
        typer.Option("--certify", help="Correct each posterior by importance sampling with the exact likelihood.",
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
    hide_redshift: Annotated[
        bool, typer.Option("--hide-redshift", help="Infer every redshift, also where the catalogue has one.")
    ] = False,
    allow_uncalibrated: Annotated[
        bool, typer.Option("--allow-uncalibrated", help="Use a posterior that has not passed its calibration.")
    ] = False,
    rows_per_partition: RowsOption = None,
    client: ClientOption = None,
    workers: WorkersOption = None,
    check: CheckOption = False,
    log: LogOption = None,
    performance_report: PerformanceOption = None,
    json: JsonOption = False,
) -> None:
    """Infer the posterior of every galaxy of a catalogue; a rerun finishes what is missing."""
    warnings.simplefilter("ignore", UserWarning)  # the calibration is printed below, from the manifest
    warnings.simplefilter("always", CatalogWarning)  # before hours are spent; and below, from the manifest
    warnings.showwarning = lambda message, *_, **__: say(message)
    catalog: popcat.Catalog = popcat.infer(  # type: ignore[assignment]  # a Catalog, because there is an output
        source, posterior, output=output, survey=survey, draws=draws, seed=seed, certify=certify, budget_ms=budget_ms,
        target_ess=target_ess, hide_redshift=hide_redshift, allow_uncalibrated=allow_uncalibrated,
        rows_per_partition=rows_per_partition, client=client, workers=workers, progress=True, check=check, log=log,
        performance_report=performance_report,
    )  # fmt: skip
    manifest = catalog.require_manifest()
    say(manifest.calibration)
    say(f"{manifest.rows:,} galaxies, {manifest.bytes / 1e6:.0f} MB, in {output}")
    check = manifest.training_check
    if check is not None:
        say(check.line)
    if json:
        print_json(written(manifest, output) | {"calibration": manifest.calibration, "training_check": check})


@app.command(rich_help_panel=CATALOGUE, epilog=examples(
    "popcat reweight posteriors --prior new_prior.toml -o reweighted",
))
def reweight(
    posteriors: PosteriorsArgument,
    prior: Annotated[
        Path, typer.Option(help="New prior: a TOML file with a table per parameter, or a population's folder.")
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
    say(f"{manifest.rows:,} galaxies, {manifest.bytes / 1e6:.0f} MB, in {output}; effective draws: column ess")
    if json:
        print_json(written(manifest, output))

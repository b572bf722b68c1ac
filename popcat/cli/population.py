"""`popcat population`: fit, sample, report, compare."""

from pathlib import Path
from typing import Annotated

import typer

import popcat
from popcat.cli.options import (
    ClientOption,
    DeviceOption,
    GalaxyModelOption,
    LogOption,
    PopulationArgument,
    SeedOption,
    WorkersOption,
    examples,
    say,
)

app = typer.Typer(no_args_is_help=True, help="p(theta, z) of a whole survey, from photometry or from posteriors.")


@app.command(epilog=examples(
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
    members: Annotated[int | None, typer.Option(min=1, help="Flows of the ensemble, each a Dask task.")] = None,
    steps: Annotated[int | None, typer.Option(min=0, help="Steps of the fit to photometry.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of all random numbers.")] = None,
    device: DeviceOption = "cpu",
    client: ClientOption = None,
    workers: WorkersOption = None,
    samples: Annotated[int, typer.Option(min=0, help="Galaxies to draw from it into samples.parquet.")] = 100_000,
    log: LogOption = None,
) -> None:
    """Fit a population: to photometry (Wasserstein distance), or to posteriors (hierarchical likelihood)."""
    from popcat.population.settings import population_settings

    given = {"members": members, "steps": steps, "seed": seed}
    chosen = population_settings(settings, preset, {key: value for key, value in given.items() if value is not None})
    population = popcat.fit_population(
        source, output, survey=survey, galaxy_model=galaxy_model, noise=noise, cuts=cut or (), settings=chosen,
        device=device, client=client, workers=workers, samples=samples, progress=True, log=log, report=say,
    )  # fmt: skip
    for member in population.description.members:
        typer.echo(f"flow {member.number}  " + (f"FAILED: {member.failure}" if member.failure else
                   f"score {member.score:.4f}  weight {member.weight:.2f}"))  # fmt: skip
    measured = population.description.measured
    if "distance" in measured:
        typer.echo(f"Synthetic and observed photometry differ by {measured['distance_over_floor']:.2f} +- "
                   f"{measured['distance_over_floor_err']:.2f} times what sampling noise alone would give "
                   f"({measured['compared']:,} galaxies).")  # fmt: skip
    page = popcat.report_population(output, output / "report.html") if samples else "no samples, so no page"
    say(f"population in {output}; {page}")


@app.command(epilog=examples("popcat population sample population -n 100000 --selected -o samples.parquet"))
def sample(
    population: PopulationArgument,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Number of galaxies to draw.")] = 100_000,
    output: Annotated[Path, typer.Option("-o", "--output", help="Parquet file.")] = Path("samples.parquet"),
    seed: SeedOption = 1,
    selected: Annotated[bool, typer.Option("--selected", help="Only galaxies that the survey would observe.")] = False,
) -> None:
    """Draw galaxies: parameters, derived properties, synthetic photometry, and whether the survey observes them."""
    frame = popcat.sample_population(population, n, output=output, seed=seed, selected=selected)
    say(f"{len(frame):,} galaxies in {output}")


@app.command(epilog=examples("popcat population report population -o population.html"))
def report(
    population: PopulationArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML file.")] = Path("population.html"),
) -> None:
    """Write one HTML page: photometry against the data, p(z), masses, the main sequence, the mass function."""
    say(f"report in {popcat.report_population(population, output)}")


@app.command(epilog=examples("popcat population compare population_a population_b"))
def compare(
    first: PopulationArgument,
    second: Annotated[Path, typer.Argument(help="Another population, or a Parquet file with such columns.")],
    selected: Annotated[bool, typer.Option(help="Compare what the survey observes, or all galaxies.")] = True,
) -> None:
    """Compare two populations: 1-D Wasserstein distance of every quantity, differences of mean and quantiles."""
    typer.echo(str(popcat.compare_populations(first, second, selected=selected)))

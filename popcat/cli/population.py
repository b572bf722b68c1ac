"""`popcat population`: fit, sample, report, compare. Parses, calls, prints."""

from pathlib import Path
from typing import Annotated

import typer

from popcat.cli.options import (
    ClientOption,
    LogOption,
    SeedOption,
    SurveyOption,
    WorkersOption,
    examples,
    load_galaxy_model,
    say,
)

app = typer.Typer(no_args_is_help=True, help="p(theta, z) of a whole survey, from photometry or from posteriors.")
FolderArgument = Annotated[Path, typer.Argument(help="Folder that `popcat population fit` wrote.")]


@app.command(epilog=examples(
    'popcat population fit galaxies.parquet --survey sdss --cut "r<17.77" -o population',
    "popcat population fit posteriors --survey sdss -o population",
))
def fit(
    catalog: Annotated[Path, typer.Argument(help="Catalogue of photometry, or posteriors of `popcat infer`.")],
    survey: SurveyOption = "sdss",
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the population.")] = Path("population"),
    cut: Annotated[
        list[str] | None, typer.Option(help='The survey\'s selection, such as "r<19.8" or "sn_u>3"; may be repeated.')
    ] = None,
    noise: Annotated[
        Path | None, typer.Option(help="Noise model; by default the catalogue's own, with posteriors the survey's.")
    ] = None,
    galaxy_model: Annotated[
        Path | None,
        typer.Option(help="TOML file with the galaxy model's settings; that of posteriors is their own."),
    ] = None,
    settings: Annotated[Path | None, typer.Option(help="TOML file with settings of the fit.")] = None,
    preset: Annotated[str, typer.Option(help="Settings by name: default, or published (PopSED's).")] = "default",
    members: Annotated[int | None, typer.Option(min=1, help="Flows of the ensemble, each a Dask task.")] = None,
    steps: Annotated[int | None, typer.Option(min=0, help="Steps of the Wasserstein route.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Every random number is a function of it.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    client: ClientOption = None,
    workers: WorkersOption = None,
    log: LogOption = None,
) -> None:
    """Fit a population: to photometry (Wasserstein distance), or to posteriors (hierarchical likelihood)."""
    from popcat.forward.noise import read_noise
    from popcat.pages.population import write_report
    from popcat.population.fit import fit_population
    from popcat.population.settings import population_settings

    given = {"members": members, "steps": steps, "seed": seed}
    chosen = population_settings(settings, preset, {key: value for key, value in given.items() if value is not None})
    made = read_noise(noise) if noise else None
    population = fit_population(
        catalog, output, survey=survey, galaxy_model=load_galaxy_model(galaxy_model), noise=made,
        cuts=cut or (), settings=chosen,
        device=device, client=client, workers=workers, progress=True, log=log, report=say,
    )  # fmt: skip
    for member in population.description.members:
        typer.echo(f"flow {member.number}  " + (f"FAILED: {member.failure}" if member.failure else
                   f"score {member.score:.4f}  weight {member.weight:.2f}"))  # fmt: skip
    measured = population.description.measured
    if "distance" in measured:
        typer.echo(f"distance {measured['distance']:.4f}, {measured['distance_over_floor']:.2f} "
                   f"+- {measured['distance_over_floor_err']:.2f} times the sampling floor of {measured['floor']:.4f} "
                   f"({measured['compared']:,} galaxies)")  # fmt: skip
    say(f"population in {output}; {write_report(output, output / 'report.html')}")


@app.command(epilog=examples("popcat population sample population -n 100000 --selected -o samples.parquet"))
def sample(
    population: FolderArgument,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Number of galaxies.")] = 100_000,
    output: Annotated[Path, typer.Option("-o", "--output", help="Parquet file.")] = Path("samples.parquet"),
    seed: SeedOption = 1,
    selected: Annotated[bool, typer.Option("--selected", help="Only those that the survey would observe.")] = False,
) -> None:
    """Draw galaxies: parameters, derived properties, synthetic photometry, and whether the survey sees them."""
    from popcat.files import write_parquet_atomic
    from popcat.population.sampling import sample_folder

    table = sample_folder(population, n, seed=seed, selected=selected)
    write_parquet_atomic(output, table)
    say(f"{table.num_rows:,} galaxies in {output}")


@app.command(epilog=examples("popcat population report population -o population.html"))
def report(
    population: FolderArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML file.")] = Path("population.html"),
) -> None:
    """Write one HTML page: photometry against the data, p(z), masses, the main sequence, the mass function."""
    from popcat.pages.population import write_report

    say(f"report in {write_report(population, output)}")


@app.command(epilog=examples("popcat population compare population_a population_b"))
def compare(
    first: FolderArgument,
    second: Annotated[Path, typer.Argument(help="Another population, or a Parquet file with such columns.")],
    selected: Annotated[bool, typer.Option(help="Compare what the survey observes, or the parents.")] = True,
) -> None:
    """Two populations: 1-D Wasserstein distance of every quantity, differences of mean and quantiles."""
    from popcat.population.sampling import compare_tables, read_samples

    frames = [read_samples(path, selected=selected) for path in (first, second)]
    typer.echo(f"{first} ({len(frames[0]):,}) - {second} ({len(frames[1]):,})")
    typer.echo(compare_tables(*frames).to_string(index=False, float_format=lambda value: f"{value:.4f}"))

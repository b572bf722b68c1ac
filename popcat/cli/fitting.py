"""The command that does all: `popcat fit`."""

import warnings
from pathlib import Path
from typing import Annotated

import typer

import popcat
from popcat.cli.options import (
    NONE_HAS_A_POSTERIOR,
    START,
    ClientOption,
    DrawsOption,
    GalaxyModelOption,
    JsonOption,
    LogOption,
    SeedOption,
    SourcesArgument,
    WorkersOption,
    examples,
    one_or_all,
    print_json,
    say,
)
from popcat.errors import CatalogWarning

app = typer.Typer()


@app.command(rich_help_panel=START, epilog=examples(
    "popcat fit galaxies.fits -o fit",
    "popcat fit galaxies.fits --survey legacy -o fit --minutes 20 --hide-redshift",
))
def fit(
    source: SourcesArgument,
    survey: Annotated[
        str | None, typer.Option(help="Survey: an embedded one by name, or a TOML file. Default: a draft.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for all products.")] = Path("fit"),
    galaxy_model: GalaxyModelOption = None,
    prior: Annotated[str, typer.Option(help="Prior of the galaxies: physical, flat, or both.")] = "physical",
    minutes: Annotated[
        float, typer.Option(help="Approximate time limit in minutes; it sets the size of the training. Default 10.")
    ] = 10.0,
    hide_redshift: Annotated[
        bool, typer.Option("--hide-redshift", help="Infer every redshift, also where the catalogue has one.")
    ] = False,
    draws: DrawsOption = 100,
    seed: SeedOption = 0,
    proposals: Annotated[
        str, typer.Option(help="Proposals: flow (trained), fitted (to each galaxy), or auto (the faster).")
    ] = "auto",
    library_size: Annotated[
        int | None, typer.Option(min=1, help="Number of simulated galaxies. Default: as many as --minutes allows.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="TOML file with settings of the training. Default: what --minutes allows.")
    ] = None,
    client: ClientOption = None,
    workers: WorkersOption = None,
    log: LogOption = None,
    json: JsonOption = False,
) -> None:
    """Fit a catalogue of any survey: noise, simulation, training, certified posteriors and a report in one folder.

    The same command goes on where the last one stopped. Exit status as of `popcat infer`; 2 also for a drafted survey
    file with lines to check.
    """
    warnings.simplefilter("ignore", UserWarning)
    warnings.simplefilter("always", CatalogWarning)
    found = popcat.fit(
        one_or_all(source), survey, output=output, galaxy_model=galaxy_model, prior=prior, minutes=minutes,
        hide_redshift=hide_redshift, draws=draws, seed=seed, proposals=proposals, library_size=library_size,
        settings=settings, client=client, workers=workers, progress=True, log=log,
    )  # fmt: skip
    for line in found.lines:
        say(line)
    if json:
        print_json(found)
    if found.without_posterior == found.galaxies:
        raise typer.Exit(NONE_HAS_A_POSTERIOR)

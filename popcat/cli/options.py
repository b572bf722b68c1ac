"""Options that several commands share, and what they print with."""

from pathlib import Path
from typing import Annotated

import typer

from popcat.errors import PopcatError

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
PosteriorsArgument = Annotated[Path, typer.Argument(help="Posterior catalogue from `popcat infer`.")]


def say(text: str) -> None:
    typer.echo(text, err=True)


def galaxy_model(path: Path | None):
    from popcat.settings import Model, parse_toml

    if path is not None and not path.is_file():
        raise PopcatError(f"no galaxy-model settings at {path}: expected a TOML file")
    return Model() if path is None else parse_toml(Model, path)

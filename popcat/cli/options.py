"""Options that several commands share, the panels of `--help`, and what the commands print with."""

import json
from pathlib import Path
from typing import Annotated

import typer

from popcat.errors import PopcatError

START, CATALOGUE, READ, MODEL = "Start here", "Make a catalogue", "Check, look, publish", "Make a model"
"""Panels of `popcat --help`."""
RUN, PROOF = "Where and how it runs", "Correction by the exact likelihood"
"""Panels of a command's options."""

SurveyOption = Annotated[str, typer.Option(help="Name of an embedded survey, or a TOML file.")]
PosteriorOption = Annotated[str, typer.Option(help="Folder of a trained posterior, or the name of an embedded one.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Every random number is a function of it.")]
ClientOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS|FILE", rich_help_panel=RUN,
        help="Address or scheduler file of a Dask cluster; by default a local one, or none for little work.",
    ),
]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Processes of the local cluster; by default one a core.", rich_help_panel=RUN)
]
RowsOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Galaxies in one part; by default 64 MB of them, and at least 16 parts.", rich_help_panel=RUN
    ),
]
CheckOption = Annotated[
    bool,
    typer.Option("--check", help="Read every byte of the parts that are there already.", rich_help_panel=RUN),
]
LogOption = Annotated[
    Path | None, typer.Option(help="File for a log: one JSON object an event.", rich_help_panel=RUN)
]
PerformanceOption = Annotated[
    Path | None, typer.Option(help="HTML file for Dask's performance report.", rich_help_panel=RUN)
]
GalaxyModelOption = Annotated[Path | None, typer.Option(help="TOML file with the galaxy model's settings.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, for scripts; the words go to stderr.")
]
PosteriorsArgument = Annotated[Path, typer.Argument(help="Posterior catalogue from `popcat infer`.")]


def say(text: str) -> None:
    """A line for a person, on stderr."""
    typer.echo(text, err=True)


def teller(as_json: bool):
    """Where a command's findings are printed in words: on stdout, or on stderr where JSON is on stdout."""
    return say if as_json else typer.echo


def print_json(found) -> None:
    """One JSON object on stdout; what is no number in JSON is null."""
    typer.echo(json.dumps(_plain(found), indent=1, allow_nan=False))


def _plain(value):
    """Numbers, texts, lists and dicts alone."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if value - value == 0 else None
    return value if value is None or isinstance(value, (str, int)) else str(value)


def examples(*commands: str) -> str:
    """The end of a command's help: commands to copy."""
    return "\n\n".join([f"Example{'s' if len(commands) > 1 else ''}:", *commands])


def written(manifest: dict, output: Path) -> dict:
    """What scripts ask of an output that was written: its folder, size, model and settings."""
    kept = ("kind", "rows", "bytes", "n_parts", "popcat_version", "arguments", "fingerprint_sha256", "stages")
    return {"output": str(output), **{key: manifest[key] for key in kept if key in manifest}}


def load_galaxy_model(path: Path | None):
    from popcat.galaxy_model import GalaxyModel
    from popcat.settings import parse_toml

    if path is not None and not path.is_file():
        raise PopcatError(f"no galaxy-model settings at {path}: expected a TOML file")
    return GalaxyModel() if path is None else parse_toml(GalaxyModel, path)

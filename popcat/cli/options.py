"""Options that several commands share, the panels of `--help`, and what the commands print with."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import pydantic
import typer

from popcat.paths import path_of

START, CATALOGUE, READ, MODEL = "Start here", "Make a catalogue", "Check, show, publish", "Train a posterior"
"""Panels of `popcat --help`."""
RUN, CERTIFY = "Where and how it runs", "Correction by importance sampling"
"""Panels of a command's options."""

SourceArgument = Annotated[
    Path, typer.Argument(help="Catalogue of photometry: Parquet, FITS, CSV, ECSV, VOTable or HATS.")
]
SourcesArgument = Annotated[
    list[str],
    typer.Argument(help="Catalogue of photometry: files, a folder or a glob. FITS, Parquet, CSV, text, VOTable, HATS."),
]
PosteriorsArgument = Annotated[Path, typer.Argument(help="Posterior catalogue: a folder from `popcat infer`.")]
PopulationArgument = Annotated[Path, typer.Argument(help="Folder from `popcat population fit`.")]
SurveyOption = Annotated[str, typer.Option(help="Survey: an embedded one by name, or a TOML file.")]
PosteriorOption = Annotated[str, typer.Option(help="Trained posterior: an embedded one by name, or a folder.")]
GalaxyModelOption = Annotated[
    Path | None, typer.Option(help="TOML file with settings of the galaxy model; default: the embedded one.")
]
PriorOption = Annotated[
    str | None, typer.Option(help="Prior: flat or physical. Default physical, if the posterior was trained under it.")
]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of all random numbers; the same seed, the same result.")]
DrawsOption = Annotated[
    int, typer.Option(min=1, help="Posterior draws per galaxy. More: smoother percentiles and larger files.")
]
DeviceOption = Annotated[str, typer.Option(help="Where to sample and train: cpu, or cuda for a GPU.")]
ClientOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS|FILE", rich_help_panel=RUN,
        help="Dask scheduler: its address or its file. Default: a local cluster, or none for little work.",
    ),
]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Processes of the local cluster. Default: one per core.", rich_help_panel=RUN)
]
RowsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Galaxies per part. Default: parts of 64 MB, at least 16; lower it if memory is short.",
                 rich_help_panel=RUN),
]
CheckOption = Annotated[
    bool,
    typer.Option("--check", help="Read every byte of source and existing parts, and compare checksums. Slow.",
                 rich_help_panel=RUN),
]
LogOption = Annotated[
    Path | None, typer.Option(help="File for a log: one JSON object per event.", rich_help_panel=RUN)
]
PerformanceOption = Annotated[
    Path | None, typer.Option(help="HTML file for the performance report of Dask.", rich_help_panel=RUN)
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, for scripts; text goes to stderr.")
]


NONE_HAS_A_POSTERIOR = 3
"""Exit status of a run that ended well and made nothing, and of a check that finds that none would."""

UNLIKE_THE_DATA = 3
"""Exit status of a population that was fitted, but whose photometry is not like the data's."""


def one_or_all(sources: list[str]) -> str | list[str]:
    """The source that is named, or the list of several: what a shell makes of a glob."""
    return sources[0] if len(sources) == 1 else sources


def say(text: object) -> None:
    """A line for a person, on stderr."""
    typer.echo(str(text), err=True)


def show(found: object, *, as_json: bool, of: Any = None) -> None:
    """A result in words on stdout; or, for scripts, words on stderr and JSON on stdout: of `of`, by default of all."""
    typer.echo(str(found), err=as_json)
    if as_json:
        print_json(found if of is None else of)


def print_json(found: Any) -> None:
    """One JSON object on stdout; what is no number in JSON is null."""
    typer.echo(json.dumps(_plain(found), indent=1, allow_nan=False))


def _plain(value: Any) -> Any:
    """Numbers, texts, lists and dicts alone; tables in memory are left out."""
    if isinstance(value, pydantic.BaseModel):
        return _plain(value.model_dump(mode="json"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _plain({name: item for name, item in fields.items() if not hasattr(item, "to_string")})
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if value - value == 0 else None
    return value if value is None or isinstance(value, str | int) else str(value)


def examples(*commands: str) -> str:
    """The end of a command's help: commands to copy."""
    return "\n\n".join([f"Example{'s' if len(commands) > 1 else ''}:", *commands])


def written(manifest: Any, output: Path) -> dict[str, Any]:
    """What scripts ask of an output that was written: its folder, size, settings and how it was made."""
    kept = {"kind", "rows", "bytes", "n_parts", "popcat_version", "arguments", "fingerprint_sha256", "stages"}
    return {"output": str(path_of(output)), **manifest.model_dump(mode="json", include=kept)}

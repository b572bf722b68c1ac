"""Commands that check, show and publish a posterior catalogue."""

from pathlib import Path
from typing import Annotated

import typer

import popcat
from popcat.cli.options import (
    READ,
    JsonOption,
    PosteriorsArgument,
    SeedOption,
    SurveyOption,
    examples,
    print_json,
    say,
    show,
)

app = typer.Typer()
_MAX_SHOWN = 50


@app.command(rich_help_panel=READ, epilog=examples("popcat verify posteriors"))
def verify(
    path: Annotated[Path, typer.Argument(help="Folder that `popcat infer` or `popcat simulate` wrote.")],
    ids_at_once: Annotated[
        int, typer.Option(min=1, help="Identifiers in memory at once. Lower it where memory is short.")
    ] = 2**25,
    json: JsonOption = False,
) -> None:
    """Check every checksum, row count, identifier and column; exit status 1 with what is wrong and what mends it."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    found = popcat.verify(path, ids_at_once=ids_at_once)
    show(found, as_json=json, of={"ok": found.ok, "path": found.path, "kind": found.kind, "parts": found.parts,
                                  "rows": found.rows, "bytes": found.bytes, "problems": found.problems})  # fmt: skip
    if found.ok:
        return
    table = Table("where", "what is wrong", title=f"{len(found.problems)} problems", title_justify="left")
    for problem in found.problems[:_MAX_SHOWN]:
        table.add_row(escape(problem.where), escape(problem.what))
    Console(stderr=json).print(table)
    if len(found.problems) > _MAX_SHOWN:
        typer.echo(f"and {len(found.problems) - _MAX_SHOWN} more", err=json)
    for remedy in dict.fromkeys(problem.remedy for problem in found.problems):
        typer.echo(f"-> {remedy}", err=json)
    raise typer.Exit(1)


@app.command(rich_help_panel=READ, epilog=examples("popcat crosscheck posteriors -n 50 -o crosscheck"))
def crosscheck(
    posteriors: PosteriorsArgument,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Number of galaxies, drawn at random.")] = 50,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the page and the numbers.")] = Path(
        "crosscheck"
    ),
    seed: SeedOption = 0,
    sampler: Annotated[str, typer.Option(help="prior, emcee or nautilus (the last two: extra bench).")] = "prior",
    max_steps: Annotated[int, typer.Option(min=1, help="Longest chain of emcee, in steps.")] = 60_000,
    only: Annotated[
        list[str] | None, typer.Option(help="Galaxies with this value of the column route alone; may be repeated.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Sample some galaxies of a catalogue again with an independent sampler, and compare the posteriors."""
    found = popcat.crosscheck(
        posteriors, n, output=output, seed=seed, sampler=sampler, max_steps=max_steps, only=only or None, report=say
    )
    show(found, as_json=json)
    say(f"page and numbers in {output}")


@app.command(rich_help_panel=READ, epilog=examples("popcat compare posteriors_a posteriors_b -o factors.parquet"))
def compare(
    first: PosteriorsArgument,
    second: PosteriorsArgument,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Parquet file of the factors.")] = None,
    json: JsonOption = False,
) -> None:
    """Compare two galaxy models: Bayes factors, per galaxy and summed, of catalogues inferred with --certify."""
    show(popcat.compare(first, second, output=output), as_json=json)


@app.command(rich_help_panel=READ, epilog=examples(
    "popcat report posteriors -o report.html",
    "popcat report posteriors --galaxy 4711 --galaxy 42",
))
def report(
    posteriors: PosteriorsArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML file.")] = Path("report.html"),
    galaxy: Annotated[list[int] | None, typer.Option(help="object_id of a galaxy to show; may be repeated.")] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Folder from `popcat calibrate`. Default: that of the posterior.")
    ] = None,
    crosscheck: Annotated[Path | None, typer.Option(help="Folder from `popcat crosscheck`, to show too.")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page. Default: the folder's name.")] = None,
) -> None:
    """Write one HTML page: what to trust, galaxies to sort, filter and draw, distributions of the catalogue."""
    page = popcat.report(
        posteriors, output, galaxies=galaxy or None, calibration=calibration, crosscheck=crosscheck, title=title
    )
    say(f"report in {page}")


@app.command(rich_help_panel=READ, epilog=examples(
    "popcat schema --survey sdss",
    "popcat schema --kind library --json",
))
def schema(
    survey: SurveyOption = "sdss",
    kind: Annotated[str, typer.Option(help="Which columns: posterior or library.")] = "posterior",
    json: JsonOption = False,
) -> None:
    """Print the columns of a catalogue as a markdown table: type, unit, UCD, description."""
    from popcat.columns import column_list, column_table

    columns = popcat.schema(survey, kind=kind)
    if json:
        print_json({"survey": survey, "kind": kind, "columns": column_list(columns)})
    else:
        typer.echo(column_table(columns))


@app.command(rich_help_panel=READ, epilog=examples("popcat export posteriors --to hats -o lake"))
def export(
    posteriors: PosteriorsArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the published catalogue.")] = Path("lake"),
    to: Annotated[str, typer.Option(help="Format: hats, delta, iceberg or parquet.")] = "hats",
    sky: Annotated[
        bool, typer.Option("--sky", help="Sort by position (HATS always is), so that sky queries skip files.")
    ] = False,
    rows_per_pixel: Annotated[int, typer.Option(min=1, help="Most galaxies in one file of the sky.")] = 50_000,
    name: Annotated[str, typer.Option(help="Name of the published catalogue.")] = "popcat",
    json: JsonOption = False,
) -> None:
    """Publish a posterior catalogue in a data lake; again with more galaxies, to the same folder, adds them."""
    done = popcat.export(posteriors, output, to=to, sky=sky, rows_per_pixel=rows_per_pixel, name=name)
    show(done, as_json=json)

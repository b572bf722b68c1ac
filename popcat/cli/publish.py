"""Commands that show and publish a catalogue: report, schema, export."""

from pathlib import Path
from typing import Annotated

import typer

from popcat.cli.options import (
    READ,
    JsonOption,
    SurveyOption,
    examples,
    print_json,
    say,
)
from popcat.errors import PopcatError

app = typer.Typer()


@app.command(rich_help_panel=READ, epilog=examples(
    "popcat report posteriors -o report.html",
    "popcat report posteriors --galaxy 4711 --galaxy 42",
))
def report(
    posteriors: Annotated[Path, typer.Argument(help="Posterior catalogue from `popcat infer`.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML file.")] = Path("report.html"),
    galaxy: Annotated[list[int] | None, typer.Option(help="object_id of a galaxy to show; may be repeated.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="Folder from `popcat calibrate`; else the model's.")] = None,
    crosscheck: Annotated[Path | None, typer.Option(help="Folder from `popcat crosscheck`, to be shown too.")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page; by default the folder's name.")] = None,
) -> None:
    """Write one HTML page to send round: what to trust, galaxies to sort, filter and look at, the population."""
    from popcat.pages.report import report as write_report

    shown = {"galaxies": galaxy or None, "calibration": calibration, "crosscheck": crosscheck, "title": title}
    say(f"report in {write_report(posteriors, output, **shown)}")


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
    from popcat.columns import column_list, column_table, library_schema, posterior_schema
    from popcat.errors import did_you_mean
    from popcat.survey import load_survey

    schemas = {"posterior": posterior_schema, "library": library_schema}
    if kind not in schemas:
        raise PopcatError(f'no columns of kind "{kind}"; {did_you_mean(kind, schemas)}')
    columns = schemas[kind](load_survey(survey))
    if json:
        print_json({"survey": survey, "kind": kind, "columns": column_list(columns)})
    else:
        typer.echo(column_table(columns))


@app.command(rich_help_panel=READ, epilog=examples("popcat export posteriors --to hats -o lake"))
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
    from popcat.catalog.export import export as publish

    done = publish(posteriors, output, to=to, sky=sky, rows_per_pixel=rows_per_pixel, name=name)
    say(f"{done['added']:,} galaxies added, {done['rows']:,} in all, in {output} ({to}): open it with {done['open']}")
    if done["without_position"]:
        say(f"Warning: {done['without_position']:,} galaxies have no position and are not in it")

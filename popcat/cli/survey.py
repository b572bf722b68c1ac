"""Commands about survey files."""

from pathlib import Path
from typing import Annotated

import typer

from popcat.cli.options import (
    JsonOption,
    SurveyOption,
    examples,
    print_json,
    say,
    teller,
)
from popcat.errors import PopcatError

app = typer.Typer(no_args_is_help=True, help="Survey files: what a catalogue's columns mean.")


@app.command("new", epilog=examples("popcat survey new galaxies.fits -o survey.toml --name my_survey"))
def survey_new(
    catalog: Annotated[Path, typer.Argument(help="Catalogue whose columns are to be described.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="TOML file to write.")] = Path("survey.toml"),
    name: Annotated[str, typer.Option(help="Name of the survey.")] = "my_survey",
) -> None:
    """Write a survey file with comments for a catalogue: columns, units and bands that its header suggests."""
    from popcat.files import write_bytes_atomic
    from popcat.io.inspection import survey_template

    if output.exists():
        raise PopcatError(f"{output} is there already: name another file")
    write_bytes_atomic(output, survey_template(catalog, name).encode())
    say(f"{output}: look at the lines marked CHECK, then `popcat survey check {catalog} --survey {output}`")


@app.command("check", epilog=examples("popcat survey check galaxies.fits --survey survey.toml"))
def survey_check(
    catalog: Annotated[Path, typer.Argument(help="Catalogue: Parquet, FITS, CSV, ECSV, VOTable or HATS.")],
    survey: SurveyOption = "sdss",
    json: JsonOption = False,
) -> None:
    """Read a catalogue as a survey file says, and report what each band holds."""
    from popcat.io.inspection import inspect_catalog

    found = inspect_catalog(catalog, survey)
    if json:
        print_json(found)
    tell = teller(json)
    tell(f"{found['rows']:,} rows as survey {found['survey']}")
    tell(f"{'band':6s} {'unit':10s} {'stated':14s} {'observed':>10s} {'negative':>9s} {'S/N':>8s} {'AB mag':>7s}")
    for band in found["bands"]:
        medians = [f"{band[key]:.4g}" if band[key] is not None else "-" for key in ("median_sn", "median_mag")]
        tell(f"{band['band']:6s} {band['unit']:10s} {band['stated'] or 'not stated':14s} {band['observed']:10,d} "
                   f"{band['negative']:9,d} {medians[0]:>8s} {medians[1]:>7s}")
    for flag, rows in found["flags"].items():
        if rows:
            tell(f"{flag:22s} {rows:10,d} rows")

"""Commands of survey files: draft, check, zeropoints."""

from pathlib import Path
from typing import Annotated

import typer

import popcat
from popcat.cli.options import (
    MODEL,
    NONE_HAS_A_POSTERIOR,
    JsonOption,
    PosteriorOption,
    PriorOption,
    SeedOption,
    SourceArgument,
    SourcesArgument,
    SurveyOption,
    examples,
    one_or_all,
    say,
    show,
)
from popcat.paths import path_of

app = typer.Typer()
survey = typer.Typer(no_args_is_help=True, help="Survey files: what a catalogue's columns mean.")
app.add_typer(survey, name="survey", rich_help_panel=MODEL)


@survey.command("draft", epilog=examples("popcat survey draft galaxies.fits -o survey.toml --name my_survey"))
def draft_survey(
    source: SourceArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="TOML file to write.")] = Path("survey.toml"),
    name: Annotated[str, typer.Option(help="Name of the survey.")] = "my_survey",
) -> None:
    """Write a first survey file for a catalogue, from its column names, header and values; guesses are marked CHECK."""
    popcat.draft_survey(source, output=output, name=name)
    source, output = path_of(source), path_of(output)  # type: ignore[assignment]
    say(f"{output}: read the lines marked CHECK, then `popcat survey check {source} --survey {output}`")


@survey.command("check", epilog=examples("popcat survey check galaxies.fits --survey survey.toml"))
def check_survey(
    source: SourcesArgument,
    survey: SurveyOption = "sdss",
    posterior: Annotated[
        str | None, typer.Option(help="Posterior to compare with. Default: an embedded one of the survey's bands.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Read a catalogue as a survey file says: what each band holds, and whether it fits a posterior's training.

    Exit status: 0 done; 1 an unexpected error; 2 something to mend, in one line; 3 done, but no galaxy can have a
    posterior.
    """
    found = popcat.check_survey(one_or_all(source), survey, posterior=posterior)
    show(found, as_json=json)
    for remark in found.remarks:
        say(f"Warning: {remark}")
    if found.training_check is not None and not found.training_check.fits:
        say(found.training_check.line)
    if found.inferable == 0:
        raise typer.Exit(NONE_HAS_A_POSTERIOR)


@survey.command("zeropoints", epilog=examples(
    "popcat survey zeropoints galaxies.fits --survey survey.toml --posterior posterior -o zero_points.toml",
))
def fit_zero_points(
    source: SourcesArgument,
    posterior: PosteriorOption = "sdss",
    survey: Annotated[
        str | None, typer.Option(help="Survey of the catalogue: a name or a TOML file. Default: the posterior's.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Survey file to write.")] = Path("zero_points.toml"),
    page: Annotated[
        Path | None, typer.Option(help="HTML file of the residuals. Default: beside the survey file.")
    ] = None,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Most galaxies to use; a third is held out.")] = 3000,
    reference: Annotated[
        str | None, typer.Option(help="Band whose zero point is kept fixed. Default: that of the survey's selection.")
    ] = None,
    prior: PriorOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Fit zero points and template errors of all bands from galaxies, best with spectroscopic redshifts.

    Writes the survey file with the new ab_offset_mag and error_floor, and a page of residuals.
    """
    found = popcat.fit_zero_points(
        one_or_all(source), posterior, survey, output=output, page=page, n=n, reference=reference, prior=prior,
        seed=seed, report=say,
    )  # fmt: skip
    show(found, as_json=json)
    if not found.is_settled:
        say(f"Warning: the last change was not below its error after {found.steps} steps")
    for one in found.bands:
        if one.beyond_help:
            say(f"Warning: no zero point corrects band {one.band}: {one.beyond_help}")
    say(f"survey file and page: {', '.join(found.files)}")

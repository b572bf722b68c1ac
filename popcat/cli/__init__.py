"""The `popcat` command: parses, calls, prints. `popcat VERB` is popcat.VERB, `popcat GROUP VERB` popcat.VERB_GROUP.

Each module of this package has a `typer.Typer` with the commands of one topic; a new topic is one more `add_typer`.
"""

import sys
import warnings
from typing import Annotated

import typer
import typer.core

from popcat import __version__
from popcat.cli import catalogs, fitting, models, surveys
from popcat.cli.options import CATALOGUE, examples, say
from popcat.errors import CatalogWarning, PopcatError
from popcat.files import is_full_disk


class _Interruptible(typer.core.TyperGroup):
    """An interrupted command says in one line what was done, and ends with exit status 130. A warning of a catalogue is
    a line on stderr."""

    def invoke(self, ctx):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always", CatalogWarning)
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except KeyboardInterrupt as error:
            typer.echo(f"Interrupted: {error}" if str(error) else "Interrupted", err=True)
            raise typer.Exit(130) from None


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    say(f"Warning: {message}")


app = typer.Typer(
    cls=_Interruptible,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Tables of galaxy photometry into probabilistic catalogues.",
    epilog=examples(
        "popcat demo",
        "popcat fit galaxies.fits -o fit",
        "popcat infer galaxies.parquet --posterior sdss -o posteriors",
        "popcat report posteriors -o report.html",
        "popcat --install-completion",
    ),
)
for topic in (fitting, catalogs, surveys, models):
    app.add_typer(topic.app)
app.add_typer(models.populations, name="population", rich_help_panel=CATALOGUE)


def main() -> None:
    """Run the command line; what the user can mend is one line on stderr and exit status 2."""
    try:
        app()
    except PopcatError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(2)
    except RuntimeError as error:
        if "no locator available" not in str(error):  # as numba says
            raise
        typer.echo("Error: numba has no folder to keep compiled kernels in; name one that can be written: "
                   "export NUMBA_CACHE_DIR=/path/to/folder", err=True)  # fmt: skip
        sys.exit(2)
    except OSError as error:
        if not is_full_disk(error):
            raise
        # as of numba, which keeps compiled kernels beside the package or in NUMBA_CACHE_DIR
        typer.echo(f"Error: the disk is full or the quota used up: {error}; make room and give the same command again",
                   err=True)  # fmt: skip
        sys.exit(2)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Tables of galaxy photometry into probabilistic catalogues."""
    if show:
        typer.echo(__version__)
        raise typer.Exit

"""`fit`: from a catalogue to certified posteriors and a report, whatever its survey, in one call."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from popcat.catalog.lease import LEASE, alone
from popcat.errors import PopcatError
from popcat.files import sha256_of
from popcat.flows.settings import Training
from popcat.galaxy_model import GalaxyModel
from popcat.io.named import Source
from popcat.io.tables import write_table
from popcat.paths import local
from popcat.pipeline.given import SURVEY, make_ready
from popcat.pipeline.record import FILE
from popcat.pipeline.result import FitResult
from popcat.pipeline.run import NAMES, Run
from popcat.pipeline.sizes import AUTO, FITTED, FLOW, PROPOSALS
from popcat.prior import BOTH, PHYSICAL, PRIORS, require_prior
from popcat.run.client import Where
from popcat.run.frames import is_frame
from popcat.run.runner import How
from popcat.run.steps import Steps
from popcat.settings import settings_of
from popcat.survey import Survey

TABLE = "catalogue.parquet"
"""A table in memory, as a file of the folder."""


def fit(
    source: "Source | Any", survey: "str | Path | Survey | None" = None, *, output: str | Path = "fit",
    galaxy_model: "GalaxyModel | str | Path | None" = None, prior: str = PHYSICAL, minutes: float = 10.0,
    hide_redshift: bool = False, draws: int = 100, seed: int = 0, proposals: str = AUTO,
    library_size: int | None = None, settings: "Training | str | Path | None" = None, client: Where = None,
    workers: int | None = None, progress: bool = False, log: str | Path | None = None,
) -> FitResult:  # fmt: skip
    """Certified posteriors of a catalogue, with a posterior that is trained for it, and a report; all in one folder.

    The steps are those of `draft_survey`, `fit_noise`, `simulate`, `train`, `calibrate`, `infer` and `report`. The same
    call goes on where the last one stopped. fit.json in the folder names what was made and the command of each step.

    Parameters
    ----------
    source : a path, a glob or a list of paths; or a table in memory (pandas, Polars, PyArrow, astropy)
    survey : an embedded survey by name, or a TOML file. Without one a survey file is drafted from the columns. Its
        selection and its redshift range become those of the catalogue where they are a draft's guesses, where galaxies
        lie outside, or where the catalogue needs less than half of them
    output : the folder
    galaxy_model : a TOML file; by default the embedded model, with dust emission where the bands see it
    prior : "physical", "flat", or "both" for a posterior that can be had under either
    minutes : what the fit may take, about. Rates that are measured on this machine say how many galaxies are simulated
        for it, and how long the flow is trained. These sizes are written down, and a fit that goes on keeps them
    hide_redshift : infer every redshift, also where the catalogue has one
    draws, seed : posterior draws per galaxy; the seed of all random numbers
    proposals : "flow", which is trained; "fitted" to each galaxy (popcat.posterior.from_prior), which is sooner done
        for a few hundred galaxies; "auto" takes what is sooner done
    library_size, settings : simulated galaxies, and settings of the training, instead of those that the time pays for;
        either asks for a flow
    client, workers : where it runs (popcat.run.client.connect)
    progress, log : a bar on stderr; a file for one JSON object an event

    Posteriors are corrected by importance sampling with the exact likelihood (popcat.checks.certify), so that a flow
    that was trained for a short time costs time, not accuracy; those that cannot be corrected are flagged.

    Raises PopcatError for a catalogue or an option that cannot work, if the drafted survey file holds guesses (it is
    written, to be looked at), and if the folder holds another fit.

    >>> fit("galaxies.parquet", "sdss", minutes=0.0)
    Traceback (most recent call last):
    ...
    popcat.errors.PopcatError: minutes must be above 0, got 0
    """
    began = time.monotonic()
    if not minutes > 0.0:
        raise PopcatError(f"minutes must be above 0, got {minutes:g}")
    if draws < 1 or (library_size is not None and library_size < 1):
        raise PopcatError(f"expected at least 1 draw and 1 simulated galaxy, got {draws} and {library_size}")
    require_prior(prior, (*PRIORS, BOTH))
    proposals = _proposals(proposals, prior, sized=library_size is not None or settings is not None)
    if is_frame(source):
        raise PopcatError("source: expected a path, a list of paths or a table in memory, got a Dask frame: name the "
                          "files that it reads")  # fmt: skip
    How(client, workers).verify()
    given_training = None if settings is None else settings_of(Training, settings, "training")
    folder = local(output).expanduser()
    _require_own(folder)
    options = {"prior": prior, "proposals": proposals, "hide_redshift": hide_redshift, "draws": draws, "seed": seed,
               "library_size": library_size, "settings": None if given_training is None else
               given_training.model_dump(mode="json")}  # fmt: skip
    expected = dict.fromkeys(NAMES, 5.0) | {"train": 30.0 * minutes, "simulate": 15.0 * minutes}
    with Steps(expected, show=progress) as steps:
        with steps.step("catalogue", NAMES["catalogue"], is_short=True):
            with _as_file(source, folder) as files:
                given = make_ready(files, folder, survey, galaxy_model, hide_redshift=hide_redshift)
            for line in (str(given.found), *given.remarks):
                steps.say(line)
        run = Run(given, folder, options, steps, client, workers, log, began + 60.0 * minutes, given_training)
        with alone(folder / LEASE, folder):
            return run.run(began)


def _proposals(name: str, prior: str, *, sized: bool) -> str:
    """What proposes draws, as far as the options say; PopcatError if they contradict each other."""
    if name not in PROPOSALS:
        raise PopcatError(f'no proposals "{name}": expected {", ".join(PROPOSALS)}')
    if name == FITTED and (sized or prior == BOTH):
        what = "--prior both" if prior == BOTH else "--library-size and --settings"
        raise PopcatError(f'proposals "fitted" need no training: leave out {what}, or take "flow"')
    return FLOW if sized or prior == BOTH else name


def _require_own(folder: Path) -> None:
    """PopcatError for a folder that holds something else than a fit, or a survey file that was drafted for one."""
    known = {FILE, SURVEY, TABLE, LEASE}
    if folder.exists() and not folder.is_dir():
        raise PopcatError(f"{folder} is a file: name a folder for the output")
    if folder.is_dir() and not (folder / FILE).is_file():
        foreign = [one.name for one in folder.iterdir() if one.name not in known and one.suffix != ".tmp"]
        if foreign:
            raise PopcatError(f"{folder} holds {foreign[0]} and no fit: name a new or empty folder")


@contextmanager
def _as_file(source: Any, folder: Path) -> Iterator[Source]:
    """A table in memory as a file of the folder, which stays if the block succeeds; one that is there must be of the
    same content. Paths as they are."""
    if isinstance(source, str | Path | list | tuple):
        yield source
        return
    path, new = folder / TABLE, folder / f".new-{TABLE}"
    is_there = path.is_file()
    try:
        write_table(source, new)
        if is_there and sha256_of(path) != sha256_of(new):
            raise PopcatError(f"{folder} holds a fit of another table: name another folder, or remove this one")
        if not is_there:
            new.replace(path)
        yield str(path)
    except PopcatError:
        if not is_there:
            path.unlink(missing_ok=True)
        raise
    finally:
        new.unlink(missing_ok=True)

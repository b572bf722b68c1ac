"""The errors that a user of popcat may see."""

import difflib
from collections.abc import Iterable


class PopcatError(Exception):
    """Something the user can mend: the message says what was expected, what came, and what to do.

    The command line prints it as one line and exits with status 2.

    >>> from popcat.survey import load_survey
    >>> load_survey("sdds")
    Traceback (most recent call last):
    ...
    popcat.errors.PopcatError: ... did you mean "sdss"...
    """


class OutputError(PopcatError):
    """The output cannot be written: nothing that is tried next would fare better, so a run stops."""

    remedy = ("what is written is kept and nothing is half written: make the folder writable and give the same command "
              "again")  # fmt: skip


class DiskFullError(OutputError):
    """No space is left, or the quota is used up."""

    remedy = "what is written is kept and nothing is half written: make room and give the same command again"


class OutputGoneError(OutputError):
    """The output folder is no longer there, or this machine does not see it."""

    remedy = "and made no folder anew: mount or name a folder that every worker sees, and give the same command again"


class CatalogWarning(UserWarning):
    """Something of a catalogue that is not as it seems: read in one of several ways, or unlike a posterior's training.

    The message says which it is, what usually causes it, and how to say another. The command line prints it as a line
    on stderr.
    """


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A hint that lists the choices, closest first.

    >>> did_you_mean("sds", ["gama", "sdss"])
    'did you mean "sdss"? (choices: gama, sdss)'
    >>> did_you_mean("xyz", ["gama", "sdss"])
    'choices: gama, sdss'
    """
    choices = list(choices)
    listing = f"choices: {', '.join(choices)}" if choices else "there are none"
    close = difflib.get_close_matches(word, choices, n=1)
    return f'did you mean "{close[0]}"? ({listing})' if close else listing

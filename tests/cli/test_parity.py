"""The command line says what Python says: every command is a public function, with the same arguments and defaults."""

import inspect
import re
from pathlib import Path

import pytest
import typer.core
from typer.main import get_command

import popcat
from popcat.cli import app


def leaves(command, path=()):
    """Every command that does something, by its words."""
    children = getattr(command, "commands", {})
    for name, child in children.items():
        yield from leaves(child, (*path, name))
    if not children:
        yield path, command


COMMANDS = dict(leaves(get_command(app)))

ALWAYS = {
    "json": "how a result is printed; a function returns it",
    "help": "of every command",
}
"""Options of commands alone, and why."""
PYTHON_ONLY = {
    "progress": "the command line always shows progress",
    "report": "a function to call, such as print; the command line prints",
}
"""Arguments of functions alone, and why."""
SETTINGS = {
    "train": {"preset", "epochs", "members", "seed"},
    "population fit": {"preset", "members", "steps", "seed", "second_start"},
}
"""Options for fields of the argument `settings`, which on the command line is a TOML file."""
EXTRA = {"train": {"calibrate"}}
"""The command train calls popcat.calibrate afterwards, unless told not to."""
REPEATED = {"galaxy": "galaxies", "cut": "cuts", "run": "runs"}
"""An option that may be repeated names one; the argument names all."""
NAMED_OUTPUT = "output"
"""Without it a function gives its result back; a command must write, so it has a default (see test below)."""


def public_name(path):
    """`popcat GROUP VERB` is popcat.VERB_GROUP; what compares speaks of the plural, and zero points are fitted."""
    name = "_".join(reversed(path))
    renamed = {"compare_population": "compare_populations", "zeropoints_survey": "fit_zero_points"}
    return renamed.get(name, name)


def options(command):
    """The command's parameters by the name of the function's argument."""
    return {REPEATED.get(one.name, one.name): one for one in command.params if one.name not in ALWAYS}


def plain(value):
    """Paths as text, nothing given as None: what a default means, however it is written."""
    value = str(value) if isinstance(value, Path) else value
    return None if value in ((), []) else value


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_is_a_public_function(path):
    name = public_name(path)
    assert name in popcat.__all__ and callable(getattr(popcat, name))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_arguments_of_a_command_are_those_of_its_function(path):
    words = " ".join(path)
    named = set(options(COMMANDS[path])) - SETTINGS.get(words, set()) - EXTRA.get(words, set())
    taken = set(inspect.signature(getattr(popcat, public_name(path))).parameters) - set(PYTHON_ONLY)
    assert named == taken


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_defaults_of_a_command_are_those_of_its_function(path):
    from popcat.checks.verdict import RUNS

    arguments = inspect.signature(getattr(popcat, public_name(path))).parameters
    different = {}
    for name, option in options(COMMANDS[path]).items():
        if name not in arguments or option.required:
            continue
        ours, theirs = plain(option.default), plain(arguments[name].default)
        all_runs = name == "runs" and ours is None and theirs == tuple(RUNS)
        no_file = name == NAMED_OUTPUT and theirs in (None, inspect.Parameter.empty)
        if ours != theirs and not all_runs and not no_file:
            different[name] = (ours, theirs)
    assert different == {}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_what_a_command_must_be_given_its_function_must_be_given(path):
    arguments = inspect.signature(getattr(popcat, public_name(path))).parameters
    for name, option in options(COMMANDS[path]).items():
        if isinstance(option, typer.core.TyperArgument) and option.required:
            assert arguments[name].default is inspect.Parameter.empty


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_options_are_explained_in_a_line(path):
    for option in COMMANDS[path].params:
        if option.name != "help":
            assert len(option.help) <= 100, option.name
            assert re.search(r"[.;)]$", option.help), option.name


def test_exceptions_are_still_needed():
    for words, names in (SETTINGS | EXTRA).items():
        assert names <= set(options(COMMANDS[tuple(words.split())]))
    used = {one.name for command in COMMANDS.values() for one in command.params}
    assert set(REPEATED) <= used and "json" in used

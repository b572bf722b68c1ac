"""The API reference, from docstrings: python docs/build.py -o build/docs

Writes api.md (every public name, and the methods of what it returns), cli.md (every command with its options) and
columns.md (the columns of catalogues).
"""

import argparse
import inspect
from pathlib import Path

import popcat
from popcat.catalog.draws import Stack
from popcat.catalog.export import Exported
from popcat.catalog.training_check import Measure, TrainingCheck
from popcat.catalog.verification import Problem, Verification
from popcat.checks.calibration_result import Calibration
from popcat.checks.compare import Comparison
from popcat.checks.verdict import CalibrationRun, ColumnVerdict
from popcat.columns import column_table
from popcat.demonstration import DemoResult
from popcat.diagnosis import Check, Diagnosis
from popcat.errors import PopcatError
from popcat.forward.grid import SSPDescription, SSPGrid
from popcat.inference.plan import Measured, Plan
from popcat.io.inspection import BandInspection, Inspection
from popcat.population.sampling import PopulationComparison
from popcat.population.settings import PopulationSettings
from popcat.posterior.library import Library
from popcat.survey import Band, CalibrationLimits, Columns, Filter, Selection

BESIDE = (
    Band, Filter, Columns, Selection, CalibrationLimits, PopulationSettings,
    Plan, Measured, Stack, Verification, Problem, Comparison, Exported, Inspection, BandInspection, TrainingCheck,
    Measure, Library,
    Calibration, CalibrationRun, ColumnVerdict, SSPGrid, SSPDescription,
    PopulationComparison, Diagnosis, Check, DemoResult,
)  # fmt: skip
"""What public functions take and give back, beside the public classes."""


def main() -> None:
    """Write the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/docs"))
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    pages = {"api.md": api(), "cli.md": commands(), "columns.md": columns()}
    for name, text in pages.items():
        (output / name).write_text(text, encoding="utf-8")


def api() -> str:
    """Every public name of popcat, in the order of __all__, and the classes beside them."""
    names = [name for name in popcat.__all__ if name != "__version__"]
    public = [entry(f"popcat.{name}", getattr(popcat, name)) for name in names]
    beside = [entry(f"{item.__module__}.{item.__name__}", item) for item in BESIDE]
    return "\n".join([f"# popcat {popcat.__version__}: reference\n", *public, "# What they take and give\n", *beside])


def entry(title: str, item) -> str:
    """One name: signature, docstring, and for a class its public methods and properties; a constant's value."""
    if isinstance(item, str):
        return f"## {title}\n\n```text\n{item}\n```\n"
    lines = [f"## {title}{signature(item)}\n", documentation(item)]
    if inspect.isclass(item) and not issubclass(item, PopcatError):
        for name, member in members(item).items():
            target = member.fget if isinstance(member, property) else getattr(member, "func", member)
            if not name.startswith("_") and inspect.isfunction(target) and target.__doc__:
                lines += [f"### .{name}{signature(target, skip_self=True)}\n", documentation(target)]
        fields = getattr(item, "model_fields", {})
        lines += [f"- `{name}` = `{field.default!r}`" for name, field in fields.items()]
    return "\n".join(lines) + "\n"


def members(item: type) -> dict:
    """What a class has, and its bases that are popcat's."""
    bases = [base for base in reversed(item.__mro__) if base.__module__.startswith("popcat.")]
    return {name: member for base in bases for name, member in vars(base).items()}


def signature(item, *, skip_self: bool = False) -> str:
    """The arguments of a function; nothing for a class of settings."""
    if inspect.isclass(item):
        return ""
    found = inspect.signature(item)
    kept = [value for name, value in found.parameters.items() if not (skip_self and name == "self")]
    return str(found.replace(parameters=kept))


def documentation(item) -> str:
    """The docstring as it stands: examples and tables keep their lines."""
    return f"```text\n{inspect.getdoc(item)}\n```\n"


def commands() -> str:
    """Every command with its help."""
    import typer

    from popcat.cli import app

    def walk(command, path):
        yield path, command
        for name, child in sorted(getattr(command, "commands", {}).items()):
            yield from walk(child, f"{path} {name}")

    pages = []
    for path, command in walk(typer.main.get_command(app), "popcat"):
        options = [f"- `{' '.join(option.opts)}`: {getattr(option, 'help', None) or ''}" for option in command.params]
        text = [f"## {path}\n", (command.help or "").strip() + "\n", *options, ""]
        pages.append("\n".join([*text, *_examples(command)]))
    return "\n".join(["# Commands\n", *pages])


def _examples(command) -> list[str]:
    """The commands at the end of its help, as a block to copy."""
    lines = [line for line in (command.epilog or "").splitlines() if line.startswith("popcat ")]
    return ["```", *lines, "```", ""] if lines else []


def columns() -> str:
    """The columns of a posterior catalogue and of a library, for the survey sdss."""
    posterior, library = (column_table(popcat.schema("sdss", kind=kind)) for kind in ("posterior", "library"))
    return f"# Columns (survey sdss)\n\n## Posterior catalogue\n\n{posterior}\n\n## Library\n\n{library}\n"


if __name__ == "__main__":
    main()

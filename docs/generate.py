"""The generated pages of the reference, from docstrings, help texts, schemas and settings: docs/conf.py writes them.

python.md has every public name and the methods of what it returns, command_line.md every command with its options,
columns.md the columns of catalogues, survey_file.md and galaxy_model.md the settings of these files.
"""

import ast
import inspect
import re
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pydantic_core

import popcat
from popcat import galaxies
from popcat.catalog.draws import Stack
from popcat.catalog.export import Exported
from popcat.catalog.photoz import PhotoRedshifts
from popcat.catalog.training_check import Measure, TrainingCheck
from popcat.catalog.verification import Problem, Verification
from popcat.checks.calibration_result import Calibration
from popcat.checks.compare import Comparison
from popcat.checks.verdict import CalibrationRun, ColumnVerdict
from popcat.columns import column_table, parameter_fields
from popcat.demonstration import DemoResult
from popcat.diagnosis import Check, Diagnosis
from popcat.errors import PopcatError
from popcat.flows.settings import Training
from popcat.forward.grid import SSPDescription, SSPGrid
from popcat.galaxy_model import GalaxyModel
from popcat.inference.galaxy_posterior import GalaxyPosterior
from popcat.inference.plan import Measured, Plan
from popcat.io.inspection import BandInspection, Inspection
from popcat.population.sampling import PopulationComparison
from popcat.population.settings import PopulationSettings
from popcat.posterior.library import Library
from popcat.prior_families import AnyFamily
from popcat.settings import Settings
from popcat.survey import Band, CalibrationLimits, Columns, Filter, Selection, Survey, TemplateError

BESIDE = (
    GalaxyPosterior, PhotoRedshifts, Stack, Plan, Measured, Verification, Problem, Comparison, Exported, Inspection,
    BandInspection, TrainingCheck, Measure, Library, Calibration, CalibrationRun, ColumnVerdict, SSPGrid,
    SSPDescription, PopulationSettings, PopulationComparison, Diagnosis, Check, DemoResult,
)  # fmt: skip
"""What public functions take and give back, beside the public classes."""


def write(folder: Path) -> None:
    """Write the pages; a page that has not changed is left as it is, so that it is not built again."""
    pages = {"python": python(), "command_line": command_line(), "columns": columns(), "survey_file": survey_file(),
             "galaxy_model": galaxy_model()}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def python() -> str:
    """Every public name of popcat, in the order of __all__, and the classes beside them."""
    names = [name for name in popcat.__all__ if name != "__version__"]
    public = [entry(f"popcat.{name}", getattr(popcat, name)) for name in names]
    beside = [entry(f"{item.__module__}.{item.__name__}", item) for item in BESIDE]
    return "\n".join([f"# Python\n\nEvery public name of popcat {popcat.__version__}.\n", *public,
                      "## What functions return\n", *beside])  # fmt: skip


def entry(title: str, item) -> str:
    """One name: signature, docstring, and for a class its public methods and properties; a constant's value."""
    if isinstance(item, str):
        return f"::::::{{py:data}} {title}\n\n```text\n{item}\n```\n::::::\n"
    if not inspect.isclass(item):
        return f"::::::{{py:function}} {title}{signature(item)}\n\n{markdown(item)}\n::::::\n"
    lines = [f"::::::{{py:class}} {title}\n\n{markdown(item)}\n"]
    if not issubclass(item, PopcatError):
        for name, member in members(item).items():
            target = member.fget if isinstance(member, property) else getattr(member, "func", member)
            if not name.startswith("_") and inspect.isfunction(target) and target.__doc__:
                kind = "method" if target is member else "property"
                arguments = signature(target, skip_self=True) if kind == "method" else ""
                lines.append(f":::::{{py:{kind}}} {name}{arguments}\n\n{markdown(target)}\n:::::\n")
    return "\n".join(lines) + "\n::::::\n"


def members(item: type) -> dict:
    """What a class has, and its bases that are popcat's."""
    bases = [base for base in reversed(item.__mro__) if base.__module__.startswith("popcat.")]
    return {name: member for base in bases for name, member in vars(base).items()}


def signature(item, *, skip_self: bool = False) -> str:
    """The arguments of a function with their defaults; their types are said in the docstring."""
    found = inspect.signature(item)
    kept = [_plain(value) for name, value in found.parameters.items() if not (skip_self and name == "self")]
    return str(inspect.Signature(kept))


def _plain(parameter: inspect.Parameter) -> inspect.Parameter:
    """Without its type, and with a function as default by the name that it has."""
    default = parameter.default
    shown = _Shown("...") if callable(default) and default is not parameter.empty else default
    return parameter.replace(annotation=parameter.empty, default=shown)


class _Shown(str):
    def __repr__(self) -> str:
        return str(self)


def markdown(item) -> str:
    """A docstring as Markdown: sections are headings in bold, examples blocks of code, parameters a list."""
    return "\n\n".join(_block(block) for block in _blocks(inspect.getdoc(item) or "")).strip()


def _blocks(text: str) -> list[str]:
    return [block for block in re.split(r"\n\s*\n", text) if block.strip()]


def _block(block: str) -> str:
    lines = block.splitlines()
    if lines[0].startswith(">>>"):
        return "```pycon\n" + block + "\n```"
    if len(lines) > 1 and re.fullmatch(r"-{3,}", lines[1].strip()):
        rest = "\n".join(lines[2:])
        return f"**{lines[0]}**" + (f"\n\n{_block(rest)}" if rest else "")
    if re.match(r"[\w, *]+ : \S", lines[0]):
        return _parameters(lines)
    if lines[0].startswith("    ") or any(re.match(r"\s{4,}\S", line) for line in lines):
        return "```text\n" + block + "\n```"
    return _escaped(block)


def _parameters(lines: list[str]) -> str:
    """"name : what" with indented lines that go on, as a list."""
    joined: list[str] = []
    for line in lines:
        if line.startswith(" ") and joined:
            joined[-1] += " " + line.strip()
        else:
            joined.append(line)
    return "\n".join(f"- `{name}`: {_escaped(text)}" if text else _escaped(name)
                     for name, _, text in (line.partition(" : ") for line in joined))  # fmt: skip


def _escaped(text: str) -> str:
    """Outside code, what Markdown would take for its own marks."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*<>\[\]$|#{}])", r"\\\1", part) for part in parts)


def command_line() -> str:
    """Every command with its help, its options and its examples, panel by panel of `popcat --help`."""
    import typer

    from popcat.cli import app
    from popcat.cli.options import CATALOGUE, MODEL, READ, START

    def walk(command, path, panel):
        children = sorted(getattr(command, "commands", {}).items())
        if not children:
            yield panel, path, command
        for name, child in children:
            yield from walk(child, f"{path} {name}", panel or child.rich_help_panel)

    found = list(walk(typer.main.get_command(app), "popcat", None))
    lines = ["# Command line\n\nWords in capitals are arguments. `popcat COMMAND --help` prints the same.\n"]
    for panel in (START, CATALOGUE, READ, MODEL):
        lines.append(f"## {panel}\n")
        lines += [_command(path, command) for own, path, command in found if own == panel]
    return "\n".join(lines)


def _command(path: str, command) -> str:
    options = [f"| `{_named(one)}` | {_cell(getattr(one, 'help', None) or '')} | {_default(one)} |"
               for one in command.params if not getattr(one, "hidden", False)]  # fmt: skip
    table = ["| option | what it does | default |", "|---|---|---|", *options, ""]
    shown = [line for line in (command.epilog or "").splitlines() if line.startswith("popcat ")]
    return "\n".join([f"### {path}\n", _escaped((command.help or "").strip()) + "\n", *table, "```console",
                      *(f"$ {line}" for line in shown), "```", ""])  # fmt: skip


def _named(option) -> str:
    return option.name.upper() if option.param_type_name == "argument" else ", ".join(option.opts)


def _default(option) -> str:
    if option.required:
        return "required"
    return "" if option.default is None or option.default is False or callable(option.default) else (
        f"`{option.default}`")  # fmt: skip


def _cell(text: str) -> str:
    return _escaped(" ".join(text.split()))


def columns() -> str:
    """The columns of a posterior catalogue and of a library, for the survey sdss."""
    posterior, library = (column_table(popcat.schema("sdss", kind=kind)) for kind in ("posterior", "library"))
    flags = "\n".join(f"| {galaxies.FLAGS[name]} | `{name}` | {_cell(text)} |"
                      for name, text in galaxies.FLAG_MEANING.items())  # fmt: skip
    return (f"# Columns\n\nFor the survey `sdss`; `popcat schema --survey NAME` prints those of another.\n\n"
            f"## Posterior catalogue\n\n{posterior}\n\n## Flags\n\nBits of the column `flags`.\n\n"
            f"| bit | flag | meaning |\n|---|---|---|\n{flags}\n\n## Training library\n\n{library}\n")  # fmt: skip


def survey_file() -> str:
    """The settings of a survey file."""
    tables = ((Survey, "The file"), (Columns, "[columns]"), (Band, "[[bands]]"), (Selection, "[selection]"),
              (CalibrationLimits, "[calibration]"),
              (TemplateError, "[template_error]"), (Filter, "[[absolute_magnitudes]]"))  # fmt: skip
    text = "\n\n".join(f"## {title}\n\n{settings_table(kind)}" for kind, title in tables)
    return ("# Survey file\n\nA survey file is TOML. It says what the columns of a catalogue mean. "
            f"[How to write one](../../howto/survey_file.md).\n\n{text}\n")  # fmt: skip


def galaxy_model() -> str:
    """The settings of a galaxy model's file, its parameters, the families of priors, and the settings of a training."""
    parameters = "\n".join(f"| `{name}` | {unit} | {_cell(meaning)} |"
                           for name, (unit, meaning) in parameter_fields(GalaxyModel()).items())  # fmt: skip
    kinds = {get_args(kind.model_fields["family"].annotation)[0]: kind for kind in _unpacked(AnyFamily)}
    families = "\n\n".join(f"### {name}\n\n{markdown(kind)}\n\n{settings_table(kind)}"
                           for name, kind in kinds.items())  # fmt: skip
    return ("# Galaxy model file\n\nA galaxy model file is TOML with any of these settings: "
            "`popcat simulate --galaxy-model FILE`.\n\n"
            f"{settings_table(GalaxyModel)}\n\n## Parameters of the default model\n\n| parameter | unit | meaning |\n"
            f"|---|---|---|\n{parameters}\n\n## Families of priors\n\nA prior is a table `[priors.PARAMETER]` with the "
            f"key `family` and these keys.\n\n{families}\n\n## Settings of a training\n\nThe file of "
            f"`popcat train --settings FILE`.\n\n{settings_table(Training)}\n")  # fmt: skip


def _unpacked(kinds) -> list[type]:
    """The classes of a union, whatever annotations are around it or within."""
    inner = get_args(kinds)
    return [one for kind in inner for one in _unpacked(kind)] if inner else [kinds] * isinstance(kinds, type)


def settings_table(kind: type) -> str:
    """Key, meaning and default of each setting: the meaning is the text below the field in its class."""
    said = {name: text for base in reversed(kind.__mro__) if issubclass(base, Settings)
            for name, text in _said(base).items()}  # fmt: skip
    rows = [f"| `{name}` | {_cell(said.get(name, ''))} | {_setting(field)} |"
            for name, field in kind.model_fields.items()
            if name != "curve" and (name != "family" or kind is Training)]  # fmt: skip
    return "\n".join(["| key | meaning | default |", "|---|---|---|", *rows])


def _setting(field) -> str:
    default = field.get_default(call_default_factory=True)
    if default is pydantic_core.PydanticUndefined:
        return "required"
    if default is None:
        return "none"
    return "" if isinstance(default, Settings) else f"`{default!r}`"


def _said(of) -> dict[str, str]:
    """The texts below the fields of a class, or below the constants of a module."""
    tree = ast.parse(inspect.getsource(of))
    body = tree.body[0].body if inspect.isclass(of) else tree.body
    found = {}
    for field, text in pairwise(body):
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            name = field.target if isinstance(field, ast.AnnAssign) else getattr(field, "targets", [None])[0]
            if isinstance(name, ast.Name):
                found[name.id] = inspect.cleandoc(text.value.value)
    return found

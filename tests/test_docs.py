"""The documentation: its links lead somewhere, its commands parse, its tutorials run, the reference names all."""

import ast
import importlib.util
import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

import popcat
from popcat.cli import app
from popcat.columns import posterior_schema
from popcat.galaxies import FLAGS
from popcat.survey import load_survey

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MADE_BY_FUNCTIONS = {"Survey", "GalaxyModel", "Noise", "Training", "Posterior", "Catalog", "Population"}
"""Classes: their functions have the examples."""
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "deploy" / "README.md",
         *sorted(page for page in DOCS.rglob("*.md") if "generated" not in page.parts)]  # fmt: skip
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
GENERATED = ("python", "command_line", "columns", "survey_file", "galaxy_model")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The generated pages by name."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    folder = tmp_path_factory.mktemp("reference")
    generate.write(folder)
    return {page.stem: page.read_text(encoding="utf-8") for page in folder.iterdir()}


def test_the_reference_names_every_public_function_command_column_flag_and_setting(reference):
    assert sorted(reference) == sorted(GENERATED)
    assert [name for name in popcat.__all__[1:] if f" popcat.{name}" not in reference["python"]] == []
    methods = ("to_pandas", "draws", "stack", "cone", "plot_sed")
    assert all(f"{{py:method}} {method}(" in reference["python"] for method in methods)
    assert all(f"### popcat {command}\n" in reference["command_line"] for command in COMMANDS)
    names = [*posterior_schema(load_survey("sdss")).names, *FLAGS]
    assert [name for name in names if f"| `{name}` |" not in reference["columns"]] == []
    for page, kind in (("survey_file", popcat.Survey), ("galaxy_model", popcat.GalaxyModel)):
        assert [name for name in kind.model_fields if f"| `{name}` |" not in reference[page]] == []
    explained = reference["galaxy_model"].split("## Families of priors")
    assert re.findall(r"^\| `\w+` \|  \|.*", reference["survey_file"] + explained[0], re.MULTILINE) == []


@pytest.mark.parametrize("name", popcat.__all__[1:])
def test_every_public_name_has_an_example_that_runs(name):
    """Doctests are collected with the tests: an example that is there, and is not skipped, is one that runs."""
    item = getattr(popcat, name)
    text = inspect.getdoc(item)
    is_settled = isinstance(item, str) or name in MADE_BY_FUNCTIONS
    assert is_settled or (">>> " in text and "+SKIP" not in text)


def of_page(page):
    return str(page.relative_to(ROOT))


def anchors(path):
    """The headings of a page as links name them, as GitHub and MyST do."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_links_between_pages_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for link, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)#?([^)\s]*)\)", text):
        target = page.parent / link if link else page
        is_generated = target.parent.name == "generated" and target.stem in GENERATED
        assert target.exists() or is_generated, link
        assert not anchor or is_generated or anchor in anchors(target), f"{link}#{anchor}"


def leaves(command, path=()):
    """Every command that does something, by its words."""
    children = getattr(command, "commands", {})
    for name, child in children.items():
        yield from leaves(child, (*path, name))
    if not children:
        yield " ".join(path), command


COMMANDS = dict(leaves(get_command(app)))


def in_blocks(text):
    """The popcat commands of a page's blocks of code; continued lines are one."""
    blocks = re.findall(r"^```(?:\w*|\{code-cell\}.*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for line in (line for block in blocks for line in block.replace("\\\n", " ").splitlines()):
        if found := re.match(r"(?:\$ |!)?(?:\w+=\S+ )*(popcat [a-z].*)", line):
            yield found[1]


def in_line(text):
    """Those within sentences, which may leave out what does not matter there."""
    outside = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return (one for one in re.findall(r"`(popcat [a-z][^`]*)`", outside))


def parsed(line):
    """Name of the command and its arguments, as a shell gives them; None for a group of commands."""
    words = shlex.split(line, comments=True)[1:]
    words = words[: next((i for i, word in enumerate(words) if word in ("|", ">", "&&", "&")), len(words))]
    name = next((name for name in (" ".join(words[:2]), words[0]) if name in COMMANDS), None)
    assert name or any(known.startswith(f"{words[0]} ") for known in COMMANDS), line
    return name, words[len(name.split()):] if name else []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=of_page)
def test_every_command_of_a_page_is_one_of_popcats(page):
    text = page.read_text(encoding="utf-8")
    for line in (*in_blocks(text), *in_line(text)):
        name, arguments = parsed(line)
        options = COMMANDS[name].params if name else ()
        known = {word for option in options for word in (*option.opts, *option.secondary_opts)}
        assert {word.split("=")[0] for word in arguments if re.match(r"--?[a-z]", word)} <= known, line
    for line in in_blocks(text):
        name, arguments = parsed(line)
        if not any(re.fullmatch(r"[A-Z]+", word) for word in arguments):  # which stands for what the reader has
            COMMANDS[name].make_context("popcat", arguments)


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_python_of_a_page_is_python(page):
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        ast.parse(block)


def test_the_small_survey_file_of_the_how_to_is_one():
    text = (DOCS / "howto" / "survey_file.md").read_text(encoding="utf-8")
    survey = popcat.Survey.model_validate(tomllib.loads(re.search(r"^```toml\n(.*?)^```", text, re.DOTALL | re.M)[1]))
    assert survey.band_names == ("r",) and survey.bands[0].extinction == "EBV"


def cells(page):
    """The cells of a tutorial as one script; a line `!command` is run by a shell,
    and one that begins with % is for notebooks alone."""
    text = page.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"^```\{code-cell\}[^\n]*\n(?::[^\n]*\n)*(.*?)^```", text, re.DOTALL | re.MULTILINE))
    code = re.sub(r"^%.*$", "", code, flags=re.MULTILINE)
    return re.sub(r"^!(.*)$", lambda line: f"subprocess.run({line[1]!r}, shell=True, check=True)", code, flags=re.M)


@pytest.mark.slow  # `make docs` runs them, too
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs(page, tmp_path):
    if "import duckdb" in cells(page):
        pytest.importorskip("duckdb", reason="duckdb is of the extras `lake` and `docs`")
        pytest.importorskip("polars", reason="polars is of the extras `lake` and `docs`")
    (tmp_path / "cells.txt").write_text(f"import subprocess\n{cells(page)}", encoding="utf-8")
    script = tmp_path / "tutorial.py"  # which workers, as new processes, import
    script.write_text("if __name__ == '__main__':\n    exec(open('cells.txt', encoding='utf-8').read())\n")
    popcat_here = tmp_path / "bin" / "popcat"
    popcat_here.parent.mkdir()
    popcat_here.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m popcat "$@"\n')
    popcat_here.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
                   "PATH": os.pathsep.join([str(popcat_here.parent), os.environ["PATH"]])}  # fmt: skip
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_is_kept_without_outputs(page):
    text = page.read_text(encoding="utf-8")
    assert text.startswith("---\n") and "kernelspec" in text.split("---")[1] and "```{code-cell}" in text


def test_readme_is_about_a_page():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.slow  # the first call makes tables
def test_the_readme_prints_what_it_says(capsys):
    code, said = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"),
                           re.DOTALL).groups()  # fmt: skip
    exec(compile(code, "README.md", "exec"), {})
    printed, said = ([line.split() for line in text.strip().splitlines()] for text in (capsys.readouterr().out, said))
    assert [line[0] for line in printed] == [line[0] for line in said]
    quantity = re.compile(r"\S+ \S+ -[\d.]+ \+")
    quantities = [both for both in zip(printed, said, strict=True) if quantity.match(" ".join(both[1]))]
    assert len(quantities) == 6
    for ours, theirs in quantities:  # tables differ in their last bits from machine to machine, so draws are others
        width = float(theirs[3]) - float(theirs[2])
        assert float(ours[1]) == pytest.approx(float(theirs[1]), abs=0.1 * width), ours[0]

"""What surrounds the code: workflows, the conda recipe, and what CONTRIBUTING and the policies state of the code."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from typer.main import get_command

import popcat
from popcat.cli import app
from popcat.population.fitted import _FORMAT as POPULATION_FORMAT
from popcat.posterior.posterior import _FORMAT, _READ_FORMATS

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
RECIPE = ROOT / "recipe" / "recipe.yaml"
PYTHONS = [one.rpartition(" ")[2] for one in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", one)]
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
"""Names on conda-forge that differ."""


def steps():
    """(workflow, job, step) of every step."""
    for path in WORKFLOWS:
        for name, job in yaml.safe_load(path.read_text())["jobs"].items():
            for step in job["steps"]:
                yield path.name, job, step | {"job": name}


def test_yaml_files_are_well_formed():
    files = [*WORKFLOWS, *FORMS, RECIPE]
    assert len(WORKFLOWS) == 3 and len(FORMS) == 3
    subprocess.run([sys.executable, "-m", "yamllint", "--strict", *files], cwd=ROOT, check=True)


def test_workflows_have_few_rights_and_a_time_limit():
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}, path.name
        for name, job in workflow["jobs"].items():
            assert "timeout-minutes" in job or name == "publish", (path.name, name)
            writes = {right for right, level in job.get("permissions", {}).items() if level == "write"}
            assert writes <= ({"id-token", "pages"} if name == "publish" else set()), (path.name, name)
    assert "secrets." not in "".join(path.read_text() for path in WORKFLOWS), "publishing is trusted: no secret is kept"


def test_actions_are_pinned_by_version():
    used = {step["uses"] for _, _, step in steps() if "uses" in step}
    assert used and [one for one in used if not re.fullmatch(r"[\w-]+/[\w-]+@v\d+\.\d+\.\d+", one)] == []


def test_workflows_use_targets_of_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    wanted = set()
    for _, job, step in steps():
        for word in re.findall(r"make (\$\{\{ matrix\.target \}\}|[a-z-]+)", step.get("run", "")):
            wanted |= set(job["strategy"]["matrix"]["target"]) if "matrix" in word else {word}
    assert {"lint", "test", "docs", "dist", "test-lake"} <= wanted <= targets


def test_each_python_that_is_promised_is_tried():
    matrices = [yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())["jobs"][job]["strategy"]["matrix"]
                for name, job in (("test.yml", "tests"), ("release.yml", "try"))]  # fmt: skip
    assert [matrix["python"] for matrix in matrices] == [PYTHONS, PYTHONS]
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"


def test_issue_forms_ask_something():
    for path in FORMS:
        form = yaml.safe_load(path.read_text())
        if path.name == "config.yml":
            assert form == {"blank_issues_enabled": True}
            continue
        assert {"name", "description", "body"} <= set(form)
        ids = [field["id"] for field in form["body"]]
        assert len(set(ids)) == len(ids) and all(field["attributes"]["label"] for field in form["body"])


def test_the_recipe_is_the_project():
    recipe = yaml.safe_load(RECIPE.read_text())
    assert recipe["context"]["version"] == popcat.__version__
    assert recipe["about"]["summary"] == PROJECT["description"] and recipe["about"]["license"] == PROJECT["license"]
    entry = [f"{name} = {to}" for name, to in PROJECT["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == entry
    needed = [Requirement(line) for line in PROJECT["dependencies"]]
    expected = {f"{CONDA.get(one.name, one.name)} {one.specifier}" for one in needed}
    assert set(recipe["requirements"]["run"]) == expected | {f"python {PROJECT['requires-python']}"}
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert {one.replace(">=", " >=") for one in build} <= set(recipe["requirements"]["host"])


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "docs/policies.md"])
def test_what_a_page_names_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text.replace("\n", " ")) if not link.startswith("http")]
    assert [link for link in links if not (ROOT / page).parent.joinpath(link.strip()).exists()] == []
    paths = re.findall(r"`((?:popcat|tests|benchmarks|docs|recipe|deploy|examples)/[\w./-]*)`", text)
    assert [path for path in paths if "NAME" not in path and not (ROOT / path).exists()] == []
    targets = re.findall(r"^make ([a-z-]+)", text, re.M)
    assert [one for one in targets if f"\n{one}:" not in (ROOT / "Makefile").read_text()] == []


def test_what_contributing_says_of_a_module_is_in_it():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    items = re.findall(r"^\d\. `(popcat/[\w/]+\.py)`(.*?)(?=^\d\. |^$)", page, re.M | re.S)
    assert len(items) >= 6
    for path, text in items:
        source = (ROOT / path).read_text(encoding="utf-8")
        names = [name for name in re.findall(r"`(\w+)`", text) if name != "family"]
        assert [name for name in names if name not in source] == [], path


def test_the_policies_state_the_formats_of_the_code():
    text = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")
    assert f"(`posterior.json`) | {_FORMAT} | {_READ_FORMATS[0]} to {_READ_FORMATS[-1]} |" in text
    assert tuple(_READ_FORMATS) == tuple(range(_READ_FORMATS[0], _FORMAT + 1))
    assert f"(`population.json`) | {POPULATION_FORMAT} | {POPULATION_FORMAT} |" in text
    assert all(one in text for one in PYTHONS)


def test_the_commands_of_a_newcomers_first_hour_are_popcats():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import first_hour
    assert list(first_hour.TASKS) == ["demo", "survey", "cluster"]
    lines = [line for task in first_hour.TASKS.values() for line in task if line.startswith("popcat ")]
    for line in [*first_hour.INSTALL[2:], *lines]:
        command, (name, *arguments) = get_command(app), shlex.split(line)[1:]
        command.commands[name].make_context(name, arguments)  # raises for an unknown option or argument
    for name in ("first_hour", "environment"):
        sys.modules.pop(name, None)


def test_the_tests_that_make_names_exist():
    named = re.findall(r"tests/\S+\.py", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert named and [name for name in named if not (ROOT / name).is_file()] == []

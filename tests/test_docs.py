"""The reference is built from docstrings and names everything public."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import popcat
from popcat.columns import posterior_schema
from popcat.survey import load_survey

ROOT = Path(__file__).parents[1]
MADE_BY_FUNCTIONS = {"Survey", "GalaxyModel", "Noise", "Training", "Posterior", "Catalog", "Population"}
"""Classes: their functions have the examples."""
PAGES = ("catalogues", "decisions", "fit", "measured", "object_stores")


def test_the_reference_names_every_public_function_command_and_column(tmp_path):
    subprocess.run([sys.executable, ROOT / "docs" / "build.py", "-o", tmp_path], check=True, cwd=ROOT)
    api, cli, columns = ((tmp_path / name).read_text(encoding="utf-8") for name in ("api.md", "cli.md", "columns.md"))
    assert [name for name in popcat.__all__[1:] if f"## popcat.{name}" not in api] == []
    assert all(f"### .{method}(" in api for method in ("to_pandas", "draws", "posterior", "stack", "cone", "plot_sed"))
    assert all(f"## popcat {command}\n" in cli for command in ("infer", "export", "survey draft", "survey check"))
    assert all(f"| `{name}` |" in columns for name in posterior_schema(load_survey("sdss")).names)


@pytest.mark.parametrize("name", popcat.__all__[1:])
def test_every_public_name_has_an_example_that_runs(name):
    """Doctests are collected with the tests: an example that is there, and is not skipped, is one that runs."""
    item = getattr(popcat, name)
    text = inspect.getdoc(item)
    is_settled = isinstance(item, str) or name in MADE_BY_FUNCTIONS
    assert is_settled or (">>> " in text and "+SKIP" not in text)


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", *(f"docs/{name}.md" for name in PAGES)])
def test_links_between_pages_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / page).read_text(encoding="utf-8"))
    inside = [link for link in links if not link.startswith("http")]
    assert [link for link in inside if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_readme_is_about_a_page():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150

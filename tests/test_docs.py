"""The reference is built from docstrings and names everything public."""

import subprocess
import sys
from pathlib import Path

import popcat
from popcat.schema import posterior_schema
from popcat.settings import load_survey

ROOT = Path(__file__).parents[1]


def test_the_reference_names_every_public_function_command_and_column(tmp_path):
    subprocess.run([sys.executable, ROOT / "docs" / "build.py", "-o", tmp_path], check=True, cwd=ROOT)
    api, cli, columns = ((tmp_path / name).read_text(encoding="utf-8") for name in ("api.md", "cli.md", "columns.md"))
    assert [name for name in popcat.__all__[1:] if f"## popcat.{name}" not in api] == []
    assert all(f"### .{method}(" in api for method in ("to_pandas", "draws", "posterior", "stack", "cone"))
    assert all(f"## popcat {command}\n" in cli for command in ("infer", "export", "survey new", "survey check"))
    assert all(f"| `{name}` |" in columns for name in posterior_schema(load_survey("sdss")).names)

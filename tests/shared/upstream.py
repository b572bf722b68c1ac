"""Parts of other packages that are not public: who in popcat names them, and what a test says when they move."""

import ast
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

import popcat

PACKAGE = Path(popcat.__file__).parent


@contextmanager
def still_there(part: str, package: str, home: str):
    """Fail with what moved, and where popcat has to follow, if the block raises."""
    try:
        yield
    except Exception as error:
        pytest.fail(f"{package} {version(package)} moved {part} ({type(error).__name__}: {error}): mend {home}, which "
                    "alone uses it")  # fmt: skip


def users_of(*names: str) -> set[str]:
    """Modules of popcat in which one of the names is an attribute, an import or a part of one, a keyword or a key."""
    return {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")
            if set(names) & set(_names(ast.parse(path.read_text(encoding="utf-8"))))}  # fmt: skip


def _names(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.keyword):
            yield node.arg
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.name for alias in node.names)
            yield getattr(node, "module", None)

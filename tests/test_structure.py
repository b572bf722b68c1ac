"""The house: no module and no room needs itself, by whatever way."""

import sys
from pathlib import Path

import pytest

import popcat

ROOT = Path(popcat.__file__).parent
BENCHMARKS = ROOT.parent / "benchmarks"


@pytest.fixture(scope="module")
def structure():
    """The benchmark that measures the shape of the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import structure

        yield structure
    sys.modules.pop("structure")


def test_no_module_imports_itself_by_way_of_others(structure):
    assert structure.circles(structure.import_graph(ROOT)) == []


def test_no_room_imports_itself_by_way_of_others(structure):
    assert structure.circles(structure.room_graph(structure.import_graph(ROOT))) == []


def test_a_circle_is_seen_also_under_type_checking_and_in_a_function(structure, tmp_path):
    package = tmp_path / "house"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house import b\n")
    (package / "b.py").write_text("def late():\n    from house.a import x\n")
    assert structure.circles(structure.import_graph(package)) == [["house.a", "house.b"]]

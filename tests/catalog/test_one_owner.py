"""A posterior catalogue has one owner: only popcat.catalog opens its files, only `draws` takes its lists apart."""

import ast
from pathlib import Path

import popcat

PACKAGE = Path(popcat.__file__).parent
OPENING = {"dataset", "read_table", "read_parquet", "ParquetFile", "ParquetDataset"}
# Files that are no posterior catalogues: what others wrote, libraries, samples of a population, ranks, embedded data.
OTHERS_FILES = {"io", "data", "posterior/library.py", "population/sampling.py", "checks/calibration.py"}
LISTS = {"list_flatten", "list_value_length", "list_parent_indices", "list_element", "list_slice", "ListArray",
         "LargeListArray", "FixedSizeListArray"}  # fmt: skip


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def called(tree):
    """Names of what is called as an attribute of something: pq.read_table -> ("pq", "read_table")."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.value.id, node.attr


def test_only_the_catalogue_opens_its_files():
    others = []
    for name, tree in modules():
        if name.startswith("catalog/") or any(name == one or name.startswith(f"{one}/") for one in OTHERS_FILES):
            continue
        others += [f"{name}: {of}.{what}" for of, what in called(tree) if of in ("ds", "pq", "pd") and what in OPENING]
    assert others == []


def test_a_dataset_is_made_in_one_place_of_the_catalogue():
    made = [name for name, tree in modules() if name.startswith("catalog/") and ("ds", "dataset") in set(called(tree))]
    assert made == ["catalog/parquet.py"]


def test_only_draws_take_lists_apart_and_put_them_together():
    found = {name for name, tree in modules() for of, what in called(tree) if of in ("pa", "pc") and what in LISTS}
    assert {name for name in found if not name.startswith("io/")} == {"catalog/draws.py"}, "io: vectors of others"


def test_nobody_reads_a_manifest_by_the_names_of_its_keys():
    """Neither `manifest["survey"]` nor the old `extra`: a manifest has fields."""
    found = []
    for name, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                text = ast.unparse(node)
                if node.slice.value == "extra" and name != "catalog/manifest.py":
                    found.append(f"{name}: {text}")
    assert found == []

"""The shape of popcat: modules, circles of imports, files that the journey of a row enters, places that do one thing.

The package that Python imports is measured, whatever its folders are called. `--path FOLDER` measures the checkout in
FOLDER too, in its own process: FOLDER is "before", the imported package "after". What the numbers count:

- circle: a strongly connected component of the import graph, of modules or of rooms (popcat/<first level>, folder or
  file). Imports in functions and under TYPE_CHECKING count; names that an `__init__` looks up from strings do not.
- file entered: a call of one of its Python functions begins, when the same call has been made once before in the same
  process. A numba kernel that Python calls is seen; a kernel that another kernel calls is not.
- list column decoded, by pattern: `x.flatten()`, `list_flatten` or `x[...].values` in a module that imports pyarrow; a
  statement that makes an array and names a column "..._draws".
- work given to Dask, by pattern: a client's submit, map, gather, persist; compute, delayed, from_map, map_partitions.
"""

import ast
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy.sparse.csgraph import connected_components

import popcat

from environment import conclude, parser, print_table

Graph = dict[str, dict[str, list]]  # name -> imported name -> line numbers; between rooms: the imports as text
ARRAYS = {"array", "asarray", "stack", "column_stack", "vstack", "concatenate"}
OF_CLIENTS, OF_ANY = {"submit", "map", "gather", "persist"}, {"compute", "delayed", "from_map", "map_partitions"}


def main():
    options = parser(__doc__)
    options.add_argument("--path", metavar="FOLDER", type=Path, help="also measure the checkout in FOLDER (before)")
    options.add_argument("--verbose", action="store_true", help="list the files that each journey enters")
    arguments = options.parse_args()
    here = measure(Path(popcat.__file__).parent)
    before = measure_elsewhere(arguments.path.resolve()) if arguments.path else None
    columns = {"before": before, "after": here} if before else {"now": here}
    conclude(arguments.json, columns)
    print("\n".join(f"{label}: {result['package']}" for label, result in columns.items()))
    figures = {label: summary(result) for label, result in columns.items()}
    print_table([{"what": name} | {label: numbers[name] for label, numbers in figures.items()}
                 for name in summary(here)], "The shape of popcat")  # fmt: skip
    for heading, lines in details(here, verbose=arguments.verbose):
        print(f"{heading}:", *lines, sep="\n  ")


def measure(root: Path) -> dict:
    """All figures of the package in `root`, which is the one that this process has imported."""
    graphs = {"modules": import_graph(root)}
    graphs["rooms"] = room_graph(graphs["modules"])
    return {
        "package": str(root),
        "lines": {name: len(path.read_bytes().splitlines()) for name, path in modules(root).items()},
        "circles": {kind: {" <-> ".join(circle): ties(graph, circle) for circle in circles(graph)}
                    for kind, graph in graphs.items()},
        "files_entered": files_entered(root),
        "places": {"decode list columns": places(root, list_decoders), "give work to Dask": places(root, dask_calls),
                   "define open_*": places(root, open_functions)},
    }  # fmt: skip


def measure_elsewhere(folder: Path) -> dict:
    """The figures of another checkout's package, by this script in a process of its own."""
    if not (folder / "popcat" / "__init__.py").is_file():
        raise SystemExit(f"expected a checkout with popcat/__init__.py in it, got {folder}")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "result.json"
        command = [sys.executable, __file__, "--json", str(file)]
        subprocess.run(command, env=os.environ | {"PYTHONPATH": str(folder)}, stdout=subprocess.DEVNULL, check=True)
        return json.loads(file.read_text(encoding="utf-8"))["now"]


def summary(result: dict) -> dict[str, float]:
    """The numbers of the table."""
    lines = list(result["lines"].values())
    numbers = {"modules": len(lines), "lines, median": np.median(lines), "lines, 90%": np.percentile(lines, 90)}
    numbers |= {f"circles of {kind}": len(found) for kind, found in result["circles"].items()}
    inside = {kind: " ".join(found).replace("<->", "").split() for kind, found in result["circles"].items()}
    numbers |= {f"{kind} in circles": len(names) for kind, names in inside.items()}
    numbers |= {f"files entered: {journey}": len(files) for journey, files in result["files_entered"].items()}
    numbers |= {f"places that {what}": len(found) for what, found in result["places"].items()}
    owners = {what: {place.partition(":")[0] for place in found} for what, found in result["places"].items()}
    return numbers | {f"modules that {what}": len(found) for what, found in owners.items()}


def details(result: dict, *, verbose: bool) -> Iterator[tuple[str, list[str]]]:
    """Headings and lines: what the numbers count."""
    longest = sorted(result["lines"].items(), key=lambda item: -item[1])[:5]
    yield "longest modules", [f"{name} {lines}" for name, lines in longest]
    for kind, found in result["circles"].items():
        yield from ((f"circle of {kind}, {circle}", edges) for circle, edges in found.items())
    yield from ((f"places that {what}", found) for what, found in result["places"].items())
    yield from ((f"files entered: {name}", files) for name, files in result["files_entered"].items() if verbose)


def modules(root: Path) -> dict[str, Path]:
    """The file of each module of the package in `root`, by its dotted name; a package is its `__init__`."""
    return {".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__"): path
            for path in sorted(root.rglob("*.py"))}  # fmt: skip


def import_graph(root: Path) -> Graph:
    """Which module imports which, and in which lines. `from popcat.x import y` is of popcat.x.y if that is a module."""
    files, graph = modules(root), {}
    for name, path in files.items():
        package = name if path.stem == "__init__" else name.rpartition(".")[0]
        graph[name] = defaultdict(list)
        for line, base, member in imports(ast.parse(path.read_bytes()), package):
            target = f"{base}.{member}" if f"{base}.{member}" in files else base
            if target in files and target != name and line not in graph[name][target]:
                graph[name][target].append(line)
    return graph


def imports(tree: ast.Module, package: str) -> Iterator[tuple[int, str, str]]:
    """Line, module and member of every import, wherever it stands; `import x` has no member."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, node.module or ""]).removesuffix(".")
            yield from ((node.lineno, base, alias.name) for alias in node.names)


def room_graph(graph: Graph) -> Graph:
    """Which first level of the package imports which, and the imports that do."""
    room = {name: ".".join(name.split(".")[:2]) for name in graph}
    rooms = {name: defaultdict(list) for name in room.values()}
    for name, edges in graph.items():
        for target in edges:
            if room[target] != room[name]:
                rooms[room[name]][room[target]].append(f"{name} -> {target}")
    return rooms


def circles(graph: Graph) -> list[list[str]]:
    """Groups of names that all reach each other: the strongly connected components of more than one name."""
    names = np.array(sorted(graph))
    matrix = np.array([[target in graph[name] for target in names] for name in names])
    n, labels = connected_components(matrix, connection="strong")
    groups = (names[labels == label].tolist() for label in range(n))
    return sorted(group for group in groups if len(group) > 1)


def ties(graph: Graph, circle: list[str]) -> list[str]:
    """The edges inside a circle, with the lines or the imports that make them."""
    return [f"{name} -> {target} ({', '.join(map(str, graph[name][target]))})"
            for name in circle for target in sorted(graph[name]) if target in circle]  # fmt: skip


def files_entered(root: Path) -> dict[str, list[str]]:
    """Files of the package in which a function call begins, for each journey."""
    seen, found, prefix = set(), {}, f"{root}{os.sep}"

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_name != "<module>" and frame.f_code.co_filename.startswith(prefix):
            seen.add(frame.f_code.co_filename.removeprefix(prefix))

    threading.setprofile(note)  # from the start, because a thread that the first call leaves may serve the second
    with tempfile.TemporaryDirectory() as scratch:
        for name, journey in journeys(root, Path(scratch)).items():
            journey(Path(scratch) / f"{name}-first")
            seen.clear()
            sys.setprofile(note)
            journey(Path(scratch) / name)
            sys.setprofile(None)
            found[name] = sorted(seen)
    threading.setprofile(None)
    return found


def journeys(root: Path, scratch: Path) -> dict[str, Callable[[Path], object]]:
    """What is done to embedded galaxies in this process: functions of an output folder that is not there yet."""
    table = pq.read_table(root / "data" / "galaxies_sdss.parquet")
    few, some = scratch / "100.parquet", scratch / "500.parquet"
    pq.write_table(table[:100], few)
    pq.write_table(table[:500], some)
    home = next(name for name, path in modules(root).items() for node in ast.parse(path.read_bytes()).body
                if isinstance(node, ast.ClassDef) and node.name == "PopulationSettings")  # fmt: skip
    quick = {"members": 1, "steps": 6, "start_steps": 6, "library": 1000, "rounds": 2, "iterations": 1}
    settings = importlib.import_module(home).PopulationSettings(**quick)
    return {
        "infer": lambda output: run("infer", few, output, draws=100),
        "certify": lambda output: run("infer", few, output, draws=100, certify=True),
        "population": lambda output: run("fit", some, output, survey="sdss", cuts=["r<20"], settings=settings),
    }


def run(what: str, source: Path, output: Path, **more) -> object:
    """Call popcat as its user does, under the names that this popcat has."""
    is_old = "infer_catalog" in popcat.__all__
    more |= {"output": output, "scheduler" if is_old else "client": "synchronous"}
    if what == "fit":
        home = "popcat" if "fit_population" in popcat.__all__ else "popcat.distributed"
        return importlib.import_module(home).fit_population(source, **more)
    return popcat.infer_catalog(source, **more) if is_old else popcat.infer(source, posterior="sdss", **more)


def places(root: Path, find: Callable[[ast.Module], Iterator[tuple[int, str]]]) -> list[str]:
    """Where a pattern is found, as "module:line what"."""
    return [f"{name}:{line} {what}" for name, path in modules(root).items()
            for line, what in sorted(set(find(ast.parse(path.read_bytes()))))]  # fmt: skip


def list_decoders(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Where a list column becomes an array."""
    has_arrow = any(base.split(".")[0] == "pyarrow" for _, base, _ in imports(tree, ""))
    called = {node.func: node.args for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and has_arrow:
            is_element = node.attr == "values" and isinstance(node.value, ast.Subscript) and node not in called
            if node.attr == "list_flatten" or is_element or (node.attr == "flatten" and called.get(node) == []):
                yield node.lineno, node.attr
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Return | ast.Expr):
            inside = list(ast.walk(node))
            makers = {one.attr for one in inside if isinstance(one, ast.Attribute) and one.attr in ARRAYS}
            if makers and any(isinstance(one, ast.Constant) and str(one.value).endswith("_draws") for one in inside):
                yield node.lineno, ", ".join(sorted(makers))


def dask_calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Where work is given to Dask."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            owner, _, name = ast.unparse(node.func).rpartition(".")
            if name in OF_ANY or (name in OF_CLIENTS and owner.lower().endswith("client")):
                yield node.lineno, name


def open_functions(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Functions called open_*, of catalogues and of what else there is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("open_"):
            yield node.lineno, node.name


if __name__ == "__main__":
    main()

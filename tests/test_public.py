"""What `import popcat` offers: lazily, completely typed, and shown in a few lines."""

import ast
import importlib
import inspect
import subprocess
import sys
import time
import typing
from pathlib import Path

import dask.dataframe
import distributed.deploy
import pytest
from matplotlib.figure import Figure

import popcat
from popcat.display import Displayed, listed, shortened

ROOT = Path(popcat.__file__).parent
NOUNS = ("Survey", "GalaxyModel", "Training", "Noise", "Posterior", "Catalog", "Population")
NAMES = [name for name in popcat.__all__ if name != "__version__"]


def test_an_unknown_name_is_answered_with_a_near_one():
    with pytest.raises(AttributeError, match='did you mean "read_catalog"'):
        popcat.read_catalogue  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_no_module_hides_a_public_name(name):
    """An imported submodule becomes an attribute of its package: one named as a verb would take the verb's place."""
    assert not (ROOT / f"{name}.py").exists() and not (ROOT / name).is_dir()


def test_importing_popcat_takes_a_third_of_a_second():
    code = "import time; t = time.perf_counter(); import popcat; print(time.perf_counter() - t)"
    took = [float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                                 cwd=ROOT.parent).stdout) for _ in range(3)]  # fmt: skip
    assert min(took) < 0.3


def test_the_stub_has_the_public_names_where_they_are():
    tree = ast.parse((ROOT / "__init__.pyi").read_text(encoding="utf-8"))
    stub = {one.asname: node.module for node in tree.body if isinstance(node, ast.ImportFrom) for one in node.names}
    assert stub == popcat._HOME
    assert (ROOT / "py.typed").is_file()


def members(name):
    """A public function, or the public methods and properties of a class, which are popcat's own."""
    item = getattr(popcat, name)
    if inspect.isfunction(item):
        yield name, item
    for base in item.__mro__ if inspect.isclass(item) else ():
        if base.__module__.startswith("popcat."):
            for key, member in vars(base).items():
                target = getattr(member, "fget", None) or getattr(member, "func", None) or member
                target = getattr(target, "__func__", target)
                if not key.startswith("_") and inspect.isfunction(target):
                    yield f"{name}.{key}", target


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_and_result_has_a_type(name):
    for label, function in members(name):
        module = importlib.import_module(function.__module__)
        # names that are imported late are known to the module that gives them; Dask's are written with their package
        late = {"dask": dask, "distributed": distributed, "Figure": Figure}
        late |= {key: getattr(popcat, key) for key in NOUNS}
        hints = typing.get_type_hints(function, vars(module) | late)
        wanted = {key for key in inspect.signature(function).parameters if key not in ("self", "cls")} | {"return"}
        assert wanted - set(hints) == set(), label


def settings():
    from popcat.forward.noise import default_noise
    from popcat.population.settings import population_settings

    survey = popcat.load_survey("galex_sdss_2mass")
    return {
        "survey": survey, "galaxy model": popcat.GalaxyModel(), "training": popcat.Training.preset("published"),
        "noise": default_noise(popcat.load_survey("sdss")),
        "population settings": population_settings(None, "published"), "posterior": popcat.load_posterior("sdss"),
        "ssp": popcat.describe_ssp(), "machine": popcat.doctor(),
    }  # fmt: skip


def test_nouns_show_themselves_in_a_few_lines(galaxies, tmp_path):
    shown = settings()
    shown["inspection"] = popcat.check_survey(galaxies, "sdss")
    shown["library"] = popcat.simulate("sdss", 50, output=tmp_path / "library", client="synchronous")
    shown["verification"] = popcat.verify(tmp_path / "library")
    for name, one in shown.items():
        assert isinstance(one, Displayed) and len(repr(one)) < 1200 and repr(one).count("\n") < 15, name
        assert one._repr_html_().startswith("<table>") and str(one) == repr(one)
    for name in ("survey", "galaxy model", "training", "noise", "posterior", "library"):
        assert len(repr(shown[name])) < 800 and repr(shown[name]).count("\n") < 12, name


def test_text_from_outside_is_escaped_in_a_notebook():
    survey = popcat.load_survey("sdss").model_copy(update={"description": "<script>alert(1)</script>"})
    assert "<script>" not in survey._repr_html_() and "&lt;script&gt;" in survey._repr_html_()


def test_long_values_are_shortened_and_long_lists_counted():
    assert shortened("x" * 300).endswith("…") and len(shortened("x" * 300)) == 100
    assert listed([str(i) for i in range(20)], most=3) == "0, 1, 2 and 17 more"


def test_a_repr_is_cheap():
    posterior = popcat.load_posterior("sdss")
    start = time.perf_counter()
    repr(posterior)
    assert time.perf_counter() - start < 0.1

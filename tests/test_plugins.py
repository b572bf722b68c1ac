"""Plugins: found by their entry points, used like popcat's own, and refused in one line where they are not right."""

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import popcat
from popcat.diagnosis import check_plugins
from popcat.errors import PopcatError
from popcat.forward.engines import PLUGINS as ENGINES
from popcat.forward.grid import load_grid
from popcat.inference.reweight import PLUGINS as PRIORS
from popcat.io.formats import PLUGINS as FORMATS
from popcat.io.formats import kind_of
from popcat.posterior.priors import load_prior
from popcat.prior import make_prior
from popcat.prior_families import PLUGINS as FAMILIES

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "plugin"


def install(folder, name, groups):
    """What pip writes of a distribution, but for its files: {group: {name: where}}."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    text = "\n".join(f"[{group}]\n" + "".join(f"{key} = {to}\n" for key, to in one.items())
                     for group, one in groups.items())  # fmt: skip
    (info / "entry_points.txt").write_text(text)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a distribution, for this test: its folder, in which its modules may be written."""

    def of(name, groups):
        folder = tmp_path / f"site-{name}"
        install(folder, name, groups)
        monkeypatch.syspath_prepend(folder)
        return folder

    yield of
    for name in [name for name in sys.modules if name.split(".")[0] in ("popcat_example", "odd")]:
        del sys.modules[name]


@pytest.fixture
def example(installed, monkeypatch):
    """The package of examples/plugin."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    installed(project["name"], project["entry-points"])
    monkeypatch.syspath_prepend(EXAMPLE)


def test_the_example_names_one_plugin_of_every_kind(example):
    kinds = (ENGINES, FORMATS, PRIORS, FAMILIES)
    assert [kind.names() for kind in kinds] == [["main_sequence"], ["npy"], ["dusty_massive"], ["gamma"]]
    groups = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"]
    assert list(groups) == [kind.group for kind in kinds]


def test_an_engine_builds_a_grid_that_galaxies_are_made_of(example, tmp_path):
    grid = popcat.build_ssp("main_sequence", output=tmp_path / "grid.npz")
    assert grid.provenance["engine"] == "main_sequence (popcat-example 1.0)"
    stored = load_grid(tmp_path / "grid.npz")
    assert stored.provenance == grid.provenance
    assert np.all(np.diff(stored.lum.sum(axis=2)) < 0), "a population fades"
    assert np.all((stored.mstar > 0.5) & (stored.mstar <= 1.0 + 1e-6))


def test_a_format_is_read_like_one_of_popcats_own(example, galaxies, tmp_path):
    table = pd.read_parquet(galaxies)
    records = table[[name for name in table if table[name].dtype.kind in "iuf"]].to_records(index=False)
    for part, rows in enumerate((slice(0, 100), slice(100, None))):
        np.save(tmp_path / f"part-{part}.npy", np.asarray(records[rows]))
    found = popcat.read_catalog(tmp_path, survey="sdss", rows_per_partition=60).compute()
    expected = popcat.read_catalog(galaxies, survey="sdss").compute()
    pd.testing.assert_frame_equal(found.reset_index(drop=True), expected.reset_index(drop=True))
    with pytest.raises(PopcatError, match=r"\.npy, or one of them"):
        kind_of("a.numpy")


def test_a_family_is_a_prior_in_settings_files_and_records(example, tmp_path):
    file = tmp_path / "model.toml"
    file.write_text('[priors.tau_ism]\nfamily = "gamma"\nshape = 2.0\nscale = 0.2\n')
    model = popcat.GalaxyModel.model_validate(tomllib.loads(file.read_text()))
    assert popcat.GalaxyModel.model_validate_json(model.model_dump_json()) == model
    law = make_prior(model).laws["tau_ism"]
    u = np.linspace(0.001, 0.999, 200)
    np.testing.assert_allclose(law.to_unit(law.from_unit(u)), u, atol=2e-3)
    assert law.from_unit(np.array([0.5]))[0] == pytest.approx(0.2 * 1.67835, abs=1e-3)  # its median
    new = tmp_path / "new.toml"
    new.write_text('[tau_ism]\nfamily = "gamma"\nshape = 2.0\nscale = 0.2\n')
    prior = make_prior(popcat.GalaxyModel())
    assert load_prior(new, prior, (0.0, 0.6)).families["tau_ism"] == model.priors["tau_ism"]


def test_a_prior_is_taken_by_its_name(example, galaxies, tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = popcat.infer(galaxies, tiny_model, output="made", draws=30, client="synchronous")
    named = popcat.reweight("made", "dusty_massive", output="named", client="synchronous")
    from popcat_example.priors import dusty_massive

    given = popcat.reweight("made", dusty_massive, output="given")
    assert named.require_manifest().record.prior == "dusty_massive (popcat-example 1.0)"
    columns = [name for name in made.columns if name.endswith(("_p50", "ess"))]
    pd.testing.assert_frame_equal(named.to_pandas(columns), given.to_pandas(columns))
    assert not named.to_pandas(columns).equals(made.to_pandas(columns))


def test_without_plugins_a_name_is_unknown_as_ever():
    with pytest.raises(PopcatError, match="choices: bc03, fsps, dsps"):
        popcat.build_ssp("main_sequence")
    with pytest.raises(PopcatError, match="unknown format"):
        kind_of("a.npy")
    with pytest.raises(ValueError, match="does not match any of the expected tags"):
        popcat.GalaxyModel(priors={"tau_ism": {"family": "gamma"}})


@pytest.mark.parametrize("kind, name", [(ENGINES, "bc03"), (FORMATS, "csv"), (PRIORS, "flat"), (FAMILIES, "normal")])
def test_a_plugin_may_not_have_a_name_of_popcats_own(installed, kind, name):
    installed("odd-one", {kind.group: {name: "odd:it"}})
    with pytest.raises(PopcatError, match=r"of odd-one 1\.0 and that of popcat itself; uninstall odd-one"):
        kind.names()


def test_two_plugins_may_not_have_the_same_name(installed, example):
    installed("odd-one", {ENGINES.group: {"main_sequence": "odd:it"}})
    with pytest.raises(PopcatError, match=r'"main_sequence": expected one .* odd-one 1\.0 .*popcat-example 1\.0'):
        popcat.build_ssp("main_sequence")


BROKEN = {
    "cannot be imported": ("popcat.ssp_engines", "import nowhere_to_be_found\n", "ModuleNotFoundError"),
    "fails": ("popcat.ssp_engines", "def it(source):\n    return 1 / 0\n", "gave no grid: ZeroDivisionError"),
    "gives something else": ("popcat.ssp_engines", "def it(source):\n    return 5\n", "gave a int, expected"),
    "lacks functions": ("popcat.catalogue_formats", "it = object()\n", "has no plan and no read and no fields"),
    "falls over a file": ("popcat.catalogue_formats", "class it:\n    read = fields = names = print\n"
                          "    def plan(path, rows):\n        raise RuntimeError('odd\\nbytes')\n",
                          "cannot read .*file.odd: RuntimeError: odd bytes"),
    "is no family": ("popcat.prior_families", "class it:\n    pass\n", "is no prior family"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_named_in_one_line(installed, case, tmp_path):
    group, code, words = BROKEN[case]
    (installed("odd-one", {group: {"odd": "odd:it"}}) / "odd.py").write_text(code)
    (tmp_path / "file.odd").write_text("rows")
    use = {
        "popcat.ssp_engines": lambda: popcat.build_ssp("odd"),
        "popcat.catalogue_formats": lambda: popcat.read_catalog(tmp_path / "file.odd", survey="sdss"),
        "popcat.prior_families": lambda: popcat.GalaxyModel(priors={"tau_ism": {"family": "odd"}}),
    }[group]
    with pytest.raises(PopcatError, match=f'"odd" of odd-one 1.0 .*{words}') as caught:
        use()
    assert "\n" not in str(caught.value)


def test_the_doctor_names_plugins_and_what_is_wrong_with_them(example, installed):
    found = check_plugins()
    assert found.ok and "SSP engine main_sequence (popcat-example 1.0)" in found.detail
    (installed("odd-one", {"popcat.priors": {"odd": "odd:it"}}) / "odd.py").write_text("import nowhere_to_be_found")
    found = check_plugins()
    assert found.ok is False and "odd-one" in found.detail


def test_importing_popcat_and_reading_its_own_formats_looks_for_no_plugin():
    code = ("import popcat, popcat.plugins as plugins; plugins._entries = None; "
            "from popcat.io.formats import kind_of; popcat.GalaxyModel(priors={'tau_ism': {'family': 'normal', "
            "'mean': 1, 'sigma': 1}}); print(kind_of('a.csv'))")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "csv\n"

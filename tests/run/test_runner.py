"""One runner: the same parts wherever they are made, nothing of the user's closed, and no other way to run work."""

import ast
import functools
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from distributed import Client

import popcat
from popcat.catalog.verification import verify
from popcat.errors import PopcatError
from popcat.flows.settings import Training
from popcat.inference.infer import infer
from popcat.run import runner
from popcat.run.client import SYNCHRONOUS

PACKAGE = Path(popcat.__file__).parent
PARTS = 3


@pytest.fixture(scope="module")
def sixty(galaxies, tmp_path_factory):
    path = tmp_path_factory.mktemp("sixty") / "galaxies.parquet"
    pq.write_table(pq.read_table(galaxies).slice(0, 60), path)
    return path


@pytest.fixture(scope="module")
def inferred(sixty, tiny_model):
    """Infer the sixty galaxies in three parts into a folder: their digests."""

    def run_into(output, **options):
        catalog = infer(sixty, tiny_model, output=output, draws=4, rows_per_partition=20, **options)
        return [part.sha256 for part in catalog.require_manifest().parts]

    return run_into


@pytest.fixture(scope="module")
def undisturbed(inferred, tmp_path_factory):
    return inferred(tmp_path_factory.mktemp("here") / "out", client=SYNCHRONOUS)


def makers(folder):
    """Who made the parts."""
    return {json.loads((folder / "_popcat" / f"{i:06d}.json").read_text())["made"]["worker"] for i in range(PARTS)}


def add(a, b):
    return a + b


@pytest.mark.parametrize("given", ["active", "client", "cluster", "address", "scheduler file"])
def test_on_any_cluster_the_parts_are_the_same_and_what_was_open_stays_open(
    inferred, undisturbed, cluster, tmp_path, given
):
    user = cluster({}, {})
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": user.scheduler.address}))
    said = {"active": None, "client": user, "cluster": user.cluster, "address": user.scheduler.address,
            "scheduler file": file}  # fmt: skip
    if given == "active":
        with Client(user.scheduler.address) as active:
            assert inferred(tmp_path / "out") == undisturbed
            assert active.submit(add, 1, 2).result() == 3
    else:
        assert inferred(tmp_path / "out", client=said[given]) == undisturbed
    assert makers(tmp_path / "out") <= set(user.nthreads()), "on that cluster, and nowhere else"
    assert user.status == "running" and user.submit(add, 1, 1).result() == 2


def test_without_a_cluster_little_work_is_done_in_this_process_and_gives_the_same_parts(
    inferred, undisturbed, tmp_path
):
    assert inferred(tmp_path / "out") == undisturbed
    assert makers(tmp_path / "out") == {"this process"}


@pytest.mark.parametrize("parallel", [False, True])
def test_an_interrupted_run_keeps_what_is_written_and_a_rerun_finishes(
    inferred, undisturbed, cluster, tmp_path, monkeypatch, parallel
):
    out, user, told = tmp_path / "out", cluster({}) if parallel else SYNCHRONOUS, []
    tell = runner._tell

    def interrupted(reporter, outcome):
        tell(reporter, outcome)
        told.append(outcome.index)
        if len(told) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(runner, "_tell", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"inferring stopped after 2 of 3 parts; .*same command again to go on"):
        inferred(out, client=user)
    monkeypatch.undo()
    assert all((out / f"part-{index:06d}.parquet").is_file() for index in told)
    assert json.loads((out / "_popcat" / "summary.json").read_text())["galaxies"] == 40
    assert not (out / "_popcat" / "manifest.json").exists()
    if parallel:
        assert user.submit(add, 1, 1).result() == 2
    assert inferred(out, client=user) == undisturbed
    kept = json.loads((out / "_popcat" / "summary.json").read_text())["parts"]["kept"]
    assert kept >= 2
    assert verify(out).ok


def test_a_client_that_cannot_work_is_refused_before_the_folder_is_begun(inferred, cluster, tmp_path):
    closed = cluster({})
    closed.close()
    for options, said in (({"client": closed}, "expected a Client that is running, got one that is closed"),
                          ({"client": 5}, "expected a distributed.Client, a cluster, an address"),
                          ({"client": SYNCHRONOUS, "workers": 2}, "leave out workers, or client")):  # fmt: skip
        with pytest.raises(PopcatError, match=said):
            inferred(tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()


@functools.cache
def modules():
    return [(path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text(encoding="utf-8")))
            for path in sorted(PACKAGE.rglob("*.py"))]  # fmt: skip


def imported(tree):
    """What a module imports, wherever in it: (module, name)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((one.name, "") for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", one.name) for one in node.names)


def test_only_run_imports_dask():
    found = {name for name, tree in modules() for of, _ in imported(tree)
             if of.split(".")[0] in ("dask", "distributed")}  # fmt: skip
    assert found and {name.split("/")[0] for name in found} == {"run"}


def test_work_that_runs_in_this_process_imports_no_cluster():
    code = ("import sys; from popcat.run.runner import run; "
            "found = run(pow, {0: (2, 3), 1: (3, 2)}, verb='computing', seconds=0.1); "
            "print([one.value for one in found.values()], {'distributed', 'dask.dataframe'} & {*sys.modules})")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.split("\n")[0] == "[8, 9] set()"


def test_a_task_is_submitted_in_one_place():
    found = [name for name, tree in modules() for node in ast.walk(tree)
             if isinstance(node, ast.Attribute) and node.attr == "submit"]  # fmt: skip
    assert found == ["run/window.py"]


@pytest.mark.parametrize("where", ["here", "workers"])
def test_a_run_asks_for_more_until_there_is_none_and_its_total_grows(where, cluster, tmp_path):
    asked, how = [], runner.How(SYNCHRONOUS if where == "here" else cluster({}, {}), log=tmp_path / "log")

    def more(outcomes):
        asked.append([outcome.value for outcome in outcomes.values()])
        return ([(len(outcomes), 10), (0, 0)], [3, 4]) if len(asked) < 3 else ([], [])

    found = runner.run(add, {0: (1, 1)}, verb="adding", how=how, sizes=[2], unit="mocks", more=more)
    assert asked == [[2], [2, 11, 0], [2, 11, 0, 13, 0]] and list(found) == [0, 1, 2, 3, 4]
    events = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    totals = [event["mocks"] for event in events if event["event"] in ("run_started", "run_extended")]
    assert totals == [2, 9, 16] and events[-1]["mocks"] == 16 and events[-1]["parts"]["total"] == 5


def test_a_run_with_a_failure_asks_for_no_more():
    found = runner.run(add, {0: (1, None)}, verb="adding", how=runner.How(SYNCHRONOUS), more=lambda _: 1 / 0)
    assert isinstance(found[0].error, TypeError)


def test_nobody_outside_run_connects_or_drives_a_window():
    """What others take is where (Where), how (How), the runner itself, lazy frames, a bar of several runs, and how a
    job says how far it is."""
    found = {(of, what) for name, tree in modules() if not name.startswith("run/") for of, what in imported(tree)
             if of.startswith("popcat.run") and of != "popcat.run.frames"}  # fmt: skip
    assert found <= {
        ("popcat.run.client", "Where"), ("popcat.run.client", "SYNCHRONOUS"), ("popcat.run.outcome", "OnlyHere"),
        ("popcat.run.client", "active"), ("popcat.run.client", "cores"), ("popcat.run.steps", "Steps"),
        ("popcat.run.told", "Told"), ("popcat.run.told", "tell"),
        *(("popcat.run.runner", what) for what in ("How", "run", "values_of", "Outcome")),
    }  # fmt: skip


class ReachedError(Exception):
    """The runner was called to do this."""


@pytest.fixture
def reached(monkeypatch):
    """Do something that is work: what the runner was told that it is. The work is not done."""

    def report(verb, *_, **__):
        raise ReachedError(verb)

    def verb_of(do):
        with monkeypatch.context() as patch:
            patch.setattr(runner, "Reporter", report)
            with pytest.raises(ReachedError) as found:
                do()
        return str(found.value)

    return verb_of


def test_galaxies_are_inferred_reweighted_and_measured_by_the_runner(reached, inferred, sixty, tiny_model, tmp_path):
    inferred(tmp_path / "flat", client=SYNCHRONOUS)
    here = {"client": SYNCHRONOUS}
    assert reached(lambda: infer(sixty, tiny_model, output=tmp_path / "out", **here)) == "inferring"
    assert reached(lambda: infer(sixty, tiny_model, **here)) == "inferring"
    assert reached(lambda: infer(pq.read_table(sixty).to_pandas(), tiny_model, **here)) == "inferring"
    assert reached(lambda: popcat.plan(sixty, tiny_model, draws=4, **here)) == "measuring"
    assert reached(lambda: popcat.reweight(tmp_path / "flat", lambda draws: -draws["tau_ism"], output=tmp_path / "re")
                   ) == "reweighting"  # fmt: skip


def test_a_library_its_posterior_and_its_calibration_are_made_by_the_runner(reached, tiny_model, tmp_path):
    here, library = {"client": SYNCHRONOUS}, tmp_path / "library"
    assert reached(lambda: popcat.simulate("sdss", 50, output=tmp_path / "out", **here)) == "simulating"
    popcat.simulate("sdss", 5000, output=library, **here)
    two = Training(n_blocks=1, hidden=16, n_layers=1, batch=256, max_epochs=1, redshift_hidden=16, members=2)
    assert reached(lambda: popcat.train(library, tmp_path / "posterior", settings=two, **here)) == "training"
    assert reached(lambda: popcat.calibrate(tiny_model, 20, draws=20, **here)) == "calibrating"


def test_members_of_a_population_are_fitted_by_the_runner(reached, sixty, tmp_path, monkeypatch):
    from popcat.population import fit

    settings = SimpleNamespace(members=5, library=100)
    job = SimpleNamespace(survey=None, galaxy_model=None, galaxies=None, settings=settings)
    for name in ("job_of_photometry", "with_start", "check_folder", "write_job", "Photometry"):
        monkeypatch.setattr(fit, name, lambda *_, **__: job)
    monkeypatch.setattr(fit, "second_start", lambda *_: None)
    monkeypatch.setattr(fit, "work_of", lambda *_: [1] * 5)
    assert reached(lambda: fit.fit_population(sixty, tmp_path / "out", client=SYNCHRONOUS)) == "fitting"


def test_metallicities_of_a_grid_are_read_by_the_runner(reached, tmp_path, monkeypatch):
    from popcat.forward.engines import fsps

    monkeypatch.setattr(fsps, "check_sps_home", Path)
    monkeypatch.setattr(fsps, "probe_fsps", lambda home: {"z_abs": [0.01, 0.02]})
    assert reached(lambda: fsps.build_fsps_grid(tmp_path, folder=tmp_path, client=SYNCHRONOUS)) == "reading FSPS"

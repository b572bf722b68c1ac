"""Calibration written to a folder: complete, repeatable, read back as it was."""

import dataclasses
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from popcat.checks import calibration
from popcat.checks.verdict import verdict
from popcat.columns import quantity_fields
from popcat.errors import PopcatError
from popcat.files import write_parquet_atomic
from popcat.galaxy_model import GalaxyModel
from popcat.posterior.posterior import load_posterior
from popcat.posterior.simulated import draw_mocks
from popcat.run.client import SYNCHRONOUS


@pytest.fixture(scope="module")
def folder(tiny_model, tmp_path_factory):
    output = tmp_path_factory.mktemp("calibration")
    calibration.calibrate(tiny_model, 60, output=output, draws=50)
    return output


def test_every_parameter_and_property_has_ranks_and_a_distance(folder, tiny_model):
    result = calibration.read_calibration(folder)
    quantities = set(quantity_fields(load_posterior(tiny_model).survey, GalaxyModel()))
    assert set(result.first.ks) == set(result.ranks["exact"]) == quantities - {"redshift"}
    assert set(result.runs) == set(result.ranks) == set(calibration.RUNS)
    assert "redshift" in result.runs["unknown"].ks and "redshift" in result.runs["gaussian"].ks
    assert all(set(result.ranks[name]) == set(run.ks) for name, run in result.runs.items())
    every = [values for of_run in result.ranks.values() for values in of_run.values()]
    assert all(len(values) == 60 and values.min() > 0 and values.max() < 1 for values in every)


def test_a_calibration_is_read_back_as_it_was_saved(tiny_model, tmp_path):
    made = calibration.calibrate(tiny_model, 20, output=tmp_path, draws=20, runs=("unknown", "exact"))
    read = calibration.read_calibration(tmp_path)
    assert read.model_dump() == made.model_dump() and list(read.runs) == ["unknown", "exact"]
    for run, of_run in made.ranks.items():
        for name, values in of_run.items():
            np.testing.assert_array_equal(read.ranks[run][name], values)


def test_a_file_from_before_is_judged_by_its_ranks_and_the_limits_of_today(folder, tiny_model, tmp_path):
    """It has ranks as float32, other limits, and no verdict on columns."""
    found, posterior = calibration.read_calibration(folder), load_posterior(tiny_model)
    record = json.loads((folder / "calibration.json").read_text())
    old = {key: value for key, value in record.items() if key not in ("resolution", "columns")}
    old["limits"] = {"ks": 0.3}
    (tmp_path / "calibration.json").write_text(json.dumps(old))
    tables = [pa.table({"run": [run] * found.n, **{q: np.float32(rank) for q, rank in of_run.items()}})
              for run, of_run in found.ranks.items()]  # fmt: skip
    write_parquet_atomic(tmp_path / "ranks.parquet", pa.concat_tables(tables, promote_options="default"))
    read = calibration.read_calibration(tmp_path)
    assert read.columns == {} and read.held == {"ks": 0.3}
    judged = read.judged(posterior)
    assert judged.limits == {"ks": 0.99, "tarp": 0.99} and judged.passed
    assert judged.model_dump() == found.judged(posterior).model_dump()


def test_a_calibration_from_before_names_its_posterior_model(folder):
    path = folder / "calibration.json"
    new = json.loads(path.read_text())
    old = {"model": new["posterior"], **{key: value for key, value in new.items() if key != "posterior"}}
    assert calibration.Calibration.model_validate(old | new["runs"]["exact"]).model_dump() == new


def test_a_calibration_says_in_a_few_lines_whether_it_passed(folder):
    found = calibration.read_calibration(folder)
    assert "passed" in repr(found).splitlines()[0] and "two_bands_missing" in repr(found)


def test_no_draw_leaves_the_prior(folder):
    result = json.loads((folder / "calibration.json").read_text())
    assert [run["outside_prior"] for run in result["runs"].values()] == [0] * 4


def test_the_same_seed_gives_the_same_calibration_and_another_seed_another(tiny_model, folder):
    first = json.loads((folder / "calibration.json").read_text())
    alone = ("exact",)
    ks = first["runs"]["exact"]["ks"]
    assert calibration.calibrate(tiny_model, 60, draws=50, runs=alone).first.ks == ks
    assert calibration.calibrate(tiny_model, 60, draws=50, seed=2, runs=alone).first.ks != ks


def test_blocks_of_mocks_on_a_cluster_give_the_calibration_of_this_process(tiny_model, cluster, monkeypatch):
    monkeypatch.setattr(calibration, "_BLOCK", 25)
    options = {"n": 60, "draws": 50, "runs": ("unknown", "exact")}
    here = calibration.calibrate(tiny_model, **options, client=SYNCHRONOUS)
    assert calibration.calibrate(tiny_model, **options, client=cluster({}, {})).runs == here.runs


def test_mocks_pass_the_selection_and_are_none_of_the_training_galaxies(tiny_model):
    posterior = load_posterior(tiny_model)
    mocks = draw_mocks(posterior, 50, seed=0)
    mag = 22.5 - 2.5 * np.log10(mocks["flux_r"])
    assert len(mocks) == 50
    assert mag.between(posterior.survey.selection.bright_mag, posterior.survey.selection.faint_mag).all()
    assert mocks["object_id"].min() >= 2**40


def test_a_selection_that_nothing_passes_ends_with_an_error(tiny_model, monkeypatch):
    posterior = load_posterior(tiny_model)
    narrow = posterior.survey.selection.model_copy(update={"bright_mag": 1.0, "faint_mag": 1.1})
    survey = posterior.survey.model_copy(update={"selection": narrow})
    monkeypatch.setattr("popcat.posterior.simulated._MAX_MOCK_BATCHES", 2)
    blind = dataclasses.replace(posterior, survey=survey)
    with pytest.raises(PopcatError, match="only 0 of"):
        draw_mocks(blind, 20, seed=0)


@pytest.mark.parametrize("numbers", [{"n": 5}, {"draws": 5}])
def test_too_few_mocks_or_draws_are_refused(tiny_model, numbers):
    with pytest.raises(PopcatError, match="at least 20"):
        calibration.calibrate(tiny_model, **numbers)


def test_a_folder_without_a_calibration_is_refused(tmp_path):
    with pytest.raises(PopcatError, match="popcat calibrate"):
        calibration.read_calibration(tmp_path)


@pytest.mark.parametrize("runs", [(), ("exact", "inexact")])
def test_runs_have_names(tiny_model, runs):
    with pytest.raises(PopcatError, match="calibration runs are exact, gaussian, unknown, two_bands_missing"):
        calibration.calibrate(tiny_model, 20, runs=runs)


def test_coverage_is_given_in_bins_that_hold_every_mock(folder):
    result = json.loads((folder / "calibration.json").read_text())
    for run in result["runs"].values():
        for bins in (run["by_magnitude"], run["by_redshift"]):
            assert sum(part["n"] for part in bins) == 60 and len(bins) == 3


def test_two_bands_are_missing_from_every_mock_of_that_run(tiny_model):
    posterior = load_posterior(tiny_model)
    mocks = draw_mocks(posterior, 50, seed=0)
    shown = {run: calibration._as_observed(mocks, run, posterior.survey, 0) for run in calibration.RUNS}
    assert (np.isnan(shown["two_bands_missing"].flux).sum(axis=1) == 2).all()
    assert not np.isnan(shown["exact"].flux).any()
    assert np.isnan(shown["unknown"].redshift).all()
    pulls = (shown["gaussian"].redshift - mocks["redshift"]) / shown["gaussian"].redshift_err
    assert abs(pulls.std() - 1.0) < 0.3 and (shown["gaussian"].redshift_err >= 0.02).all()


def test_a_model_too_good_to_fail_passes_and_one_beyond_a_limit_fails_by_name(tiny_model):
    posterior = load_posterior(tiny_model)
    result = calibration.calibrate(tiny_model, 60, draws=50, runs=("exact",))
    assert verdict(posterior, result.runs).failures == []
    changes = {"ks": result.first.ks | {"tau_bc": 0.995}, "outside_prior": 3, "tarp_max_deviation": 0.992}
    failures = verdict(posterior, {"exact": result.first.model_copy(update=changes)}).failures
    assert [text.split(":")[0] for text in failures] == ["exact"] * 3
    assert "KS of tau_bc 0.995" in failures[0] and "TARP 0.992" in failures[1] and "3 draws outside" in failures[2]


def spoil_ranks(model, column):
    """Every truth above nearly all draws; as ranks, which is how older files have them."""
    path = model / "calibration" / "ranks.parquet"
    table = pq.read_table(path)
    wrong = pa.array(np.full(len(table), 0.999, dtype=np.float32))
    write_parquet_atomic(path, table.set_column(table.schema.get_field_index(column), column, wrong))


@pytest.fixture
def copy(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "copy")


def test_a_model_that_passed_may_be_used_and_says_so(copy):
    assert "passed its calibration: 4 runs of 40 mocks" in calibration.require_calibrated(copy).line


def test_a_model_without_a_calibration_is_refused_unless_allowed(copy):
    shutil.rmtree(copy / "calibration")
    with pytest.raises(PopcatError, match="has no calibration: run `popcat calibrate --posterior"):
        calibration.require_calibrated(copy)
    with pytest.warns(UserWarning, match="is used all the same"):
        assert "no calibration" in calibration.require_calibrated(copy, allow=True).line


def test_a_model_that_failed_is_refused_with_the_reason(copy):
    path = copy / "calibration" / "calibration.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"passed": False, "failures": ["exact: KS of tau_bc"]}))
    with pytest.raises(PopcatError, match=r"failed its calibration \(exact: KS of tau_bc\): train it longer"):
        calibration.require_calibrated(copy)


@pytest.mark.parametrize("what", ["ranks", "tarp", "outside", "lacking"])
def test_a_verdict_is_computed_and_not_believed(copy, what):
    """`passed: true` beside numbers that do not pass; KS distances come from the ranks, whatever the file says.

    The limits, which even a badly trained posterior passes, are 0.99.
    """
    path = copy / "calibration" / "calibration.json"
    stored = json.loads(path.read_text())
    assert stored["passed"]
    run = stored["runs"]["exact"]
    run |= {"tarp": {"tarp_max_deviation": 0.999}, "outside": {"outside_prior": 3}}.get(what, {})
    if what == "ranks":
        spoil_ranks(copy, "tau_bc")
        run["ks"]["tau_bc"] = 0.001
    if what == "lacking":
        del run["ks"]["tau_bc"]
    path.write_text(json.dumps(stored))
    with pytest.raises(PopcatError, match="failed its calibration"):
        calibration.require_calibrated(copy)
    found = calibration.calibration_of(copy)
    assert not found.passed and found.failures and repr(found).splitlines()[0].endswith("FAILED")


def test_a_calibration_of_another_model_is_none(copy):
    description = copy / "posterior.json"
    description.write_text(json.dumps(json.loads(description.read_text()) | {"provenance": {"made_by": "another"}}))
    assert calibration.calibration_of(copy) is None

"""As many mocks as a clear verdict takes, and a column that fails is named: in words, on the page, in the metadata."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from popcat import rng
from popcat.catalog.queries import open_catalog
from popcat.catalog.verification import verify
from popcat.checks import calibration
from popcat.checks.calibration import calibrate, calibration_of, plan_for, require_calibrated
from popcat.checks.verdict import RUNS, columns_of_run, mocks_needed
from popcat.files import write_parquet_atomic
from popcat.inference.infer import infer
from popcat.pages.report import report
from popcat.posterior.posterior import load_posterior
from popcat.posterior.simulated import draw_mocks
from popcat.ranks import ks_distance

NEEDED = 3800
"""Mocks that the limits of survey sdss need: 90 tests of the KS distance, the normal law of each in a hundred."""


def mocks_of(posterior, n, seed):
    """Numbers of mocks, with magnitudes and redshifts of no meaning: nothing is sampled."""
    random, number = np.random.default_rng(seed), 2**40 + np.arange(n)
    return pd.DataFrame({"object_id": number, "redshift": random.uniform(0.01, 0.5, n)} | {
        f"flux_{band}": 10.0 ** random.uniform(1.0, 3.0, n) for band in posterior.survey.band_names})  # fmt: skip


@pytest.fixture
def sample(monkeypatch):
    """Calibrate `sdss` with ranks that are uniform, but for some columns: in each, rank u becomes u^power."""

    def calibrate_as(powers=(), **options):
        def fake(where, model, prior, mocks, name, seed, draws):
            posterior = load_posterior(where)
            names = columns_of_run(name, posterior)
            u = rng.uniform(seed, 90 + list(RUNS).index(name), mocks["object_id"].to_numpy(), len(names) + 1)
            ranks = {q: (np.floor(u[:, i] ** dict(powers).get(q, 1.0) * (draws + 1)) + 0.5) / (draws + 1)
                     for i, q in enumerate(names)}  # fmt: skip
            return calibration.Block(ranks, u[:, -1], u[:, 0], np.zeros(len(mocks), dtype=bool), 0)

        monkeypatch.setattr(calibration, "_sample_block", fake)
        monkeypatch.setattr(calibration, "draw_mocks", mocks_of)
        monkeypatch.setattr(calibration, "measure_limits", lambda *given: None)  # has tests of its own
        return calibrate("sdss", client="synchronous", **options)

    return calibrate_as


def distorted(distance):
    """The power that gives ranks this KS distance."""
    u = (np.arange(20_000) + 0.5) / 20_000
    powers = np.linspace(1.0, 2.0, 201)
    return float(np.interp(distance, [ks_distance(u**power) for power in powers], powers))


def test_a_perfect_posterior_passes_with_the_mocks_that_the_written_limits_need(sample):
    assert plan_for(mocks_needed(load_posterior("sdss"), RUNS)).enough == NEEDED
    found = sample()
    assert found.passed and found.n == NEEDED and {run.n for run in found.runs.values()} == {NEEDED}
    assert found.held == found.limits == {"ks": 0.036, "tarp": 0.03} and found.too_few == ""
    assert len(found.columns) == 23 and all(one.passed for one in found.columns.values())


def test_a_parameter_that_is_clearly_beyond_ends_the_calibration_at_the_first_look(sample):
    found = sample({"tau_ism": distorted(0.2)})
    assert not found.passed and found.n == 1000
    assert len(found.failures) == 4 and all("KS of tau_ism" in text for text in found.failures)


@pytest.mark.parametrize(("distance", "passed"), [(0.020, True), (0.050, False)])
def test_near_the_limit_more_mocks_decide(sample, distance, passed):
    found = sample({"tau_ism": distorted(distance)})
    assert found.passed is passed and found.n == (NEEDED if passed else 2 * NEEDED)


def test_a_derived_column_does_not_refuse_and_is_named_with_its_numbers(sample):
    found = sample({"abs_mag_g": distorted(0.1)})
    assert found.passed and found.n == NEEDED and found.derived_failures == ["abs_mag_g"]
    assert "abs_mag_g (KS 0.1" in found.remarks[0] and "but for abs_mag_g" in repr(found).splitlines()[0]
    assert found.column_words()["abs_mag_g"].startswith("failed: KS 0.1")
    assert found.column_words()["abs_mag_r"].startswith("passed: KS 0.0")


def test_few_mocks_say_what_they_cannot_tell(sample):
    found = sample(n=300)
    assert found.n == 300 and found.limits["ks"] == 0.036 and found.held["ks"] == found.resolution["ks"] > 0.12
    assert found.too_few == (
        "300 mocks can tell no KS distance below 0.128 and no TARP deviation below 0.106 from chance; "
        "the limits 0.036 and 0.030 would take 3,800"
    )
    assert "limit 0.036, compared with 0.128" in found.column_words()["tau_ism"]


def test_the_result_is_the_same_in_other_blocks_and_on_workers(sample, monkeypatch, cluster):
    here = sample({"tau_ism": distorted(0.2)}).model_dump()
    monkeypatch.setattr(calibration, "_BLOCK", 170)
    assert sample({"tau_ism": distorted(0.2)}).model_dump() == here


@pytest.mark.slow  # half a minute
def test_rounds_go_on_on_workers(tiny_model, monkeypatch, cluster):
    """Real blocks, in rounds: the first of 20 mocks, as the tiny posterior's limits of 0.99 need no more."""
    monkeypatch.setattr(calibration, "plan_for", lambda needed: calibration.Plan((20, 40), 60))
    options = {"draws": 20, "runs": ("unknown", "exact")}
    here = calibrate(tiny_model, client="synchronous", **options)
    assert here.n == 40 and calibrate(tiny_model, client=cluster({}, {}), **options).runs == here.runs
    assert calibrate(tiny_model, 40, client="synchronous", **options).runs == here.runs


def test_more_mocks_begin_with_the_same():
    posterior = load_posterior("sdss")
    few, many = draw_mocks(posterior, 50, 3), draw_mocks(posterior, 400, 3)
    assert few.equals(many.iloc[:50])


def test_the_folder_of_a_calibration_is_small(sample, tmp_path):
    sample(output=tmp_path, draws=400)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 700_000
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".parquet", ".png"}


@pytest.fixture(scope="module")
def off(tiny_model, tmp_path_factory):
    """A posterior whose abs_mag_g failed: the truth is above all draws."""
    model = shutil.copytree(tiny_model, tmp_path_factory.mktemp("off") / "model")
    path = model / "calibration" / "ranks.parquet"
    table = pq.read_table(path)
    wrong = np.full(len(table), 0.999, dtype=np.float32)
    at = table.schema.get_field_index("abs_mag_g")
    write_parquet_atomic(path, table.set_column(at, "abs_mag_g", [wrong]))
    assert calibration_of(model).passed and calibration_of(model).derived_failures == ["abs_mag_g"]
    return model


WORDS = "derived columns that failed: abs_mag_g (KS 0.999, 68% interval holds 0.00)"


def test_infer_names_a_failed_column_in_its_words_in_the_metadata_and_on_the_page(off, galaxies, popcat, tmp_path):
    output = tmp_path / "posteriors"
    infer_it = ["infer", galaxies, "--posterior", off, "-o", output, "--draws", 12, "--client", "synchronous"]
    status, _, err = popcat(*infer_it)
    assert status == 0 and WORDS in err
    catalog = open_catalog(output)
    assert WORDS in catalog.manifest.calibration and "passed its calibration" in catalog.manifest.calibration
    said = {field.name: (field.metadata or {}).get(b"calibration", b"").decode() for field in catalog.dataset.schema}
    for name in ("abs_mag_g_p16", "abs_mag_g_p50", "abs_mag_g_p84", "abs_mag_g_draws"):
        assert said[name].startswith("failed: KS 0.999, 68% interval holds 0.00 (worst of 4 runs of 40 mocks")
    assert said["log_mstar_p50"].startswith("passed: KS 0.") and said["chi2_best"] == said["flux_r"] == ""
    assert catalog.to_table(["abs_mag_g_p50"]).schema.field(0).metadata[b"calibration"]
    page = report(output, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "passed its calibration, but these columns failed: abs_mag_g" in page
    assert "contain 0% to" in page and "22 of 23" in page


def test_a_column_of_corrected_draws_says_that_they_were_calibrated_before(off):
    standing = require_calibrated(off)
    assert standing.of_columns(corrected=True)["abs_mag_g"].endswith("; before the correction by importance sampling")
    assert standing.of_columns(corrected=False) == standing.columns


def test_parts_before_and_after_a_new_calibration_are_one_catalogue(off, tiny_model, galaxies, tmp_path):
    """The posterior is the same, and so are the numbers: a run that was interrupted goes on."""
    model, output = shutil.copytree(tiny_model, tmp_path / "model"), tmp_path / "posteriors"
    options = {"output": output, "draws": 8, "rows_per_partition": 75, "client": "synchronous"}
    infer(galaxies, model, **options)
    (output / "part-000001.parquet").unlink()
    shutil.rmtree(model / "calibration")
    shutil.copytree(off / "calibration", model / "calibration")
    assert WORDS in infer(galaxies, model, **options).manifest.calibration
    assert verify(output).ok


def test_calibrate_prints_limits_few_mocks_and_failed_columns(sample, popcat, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "MAX_MOCKS", 500)
    sample({"abs_mag_g": distorted(0.3)}, n=20)  # puts the blocks in place
    status, out, err = popcat("calibrate", "--prior", "flat", "-o", tmp_path / "out", "--client", "synchronous",
                              "--json")  # fmt: skip
    found = json.loads(out)
    assert status == 0 and found["passed"] and found["runs"]["exact"]["n"] == 500
    assert found["limits"] == {"ks": 0.036, "tarp": 0.03} and found["resolution"]["ks"] > 0.09
    worst = found["columns"]["abs_mag_g"]["ks"]
    assert found["columns"]["abs_mag_g"]["passed"] is False and worst > 0.2
    assert "500 mocks; limits: ks 0.0360, tarp 0.0300" in err and "500 mocks can tell no KS distance below" in err
    assert "\npassed\n" in err and f"derived columns that failed: abs_mag_g (KS {worst:.3f}" in err

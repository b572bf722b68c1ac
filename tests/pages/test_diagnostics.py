"""What the page says of trust: calibration, consistency checks, certificates, an independent sampler."""

import json
import re

import pandas as pd
import pytest

from popcat.checks.compare import read_crosscheck
from popcat.columns import PARAMETERS
from popcat.errors import PopcatError
from popcat.galaxies import CLEAN, FLAGS, NOT_CLEAN
from popcat.pages.crosscheck import crosscheck_section
from popcat.pages.diagnostics import Counts, diagnostics, run_badges


def counts_of(**changed):
    counts = {"frame": pd.DataFrame(), "rows": 1000, "status": {"ok": 990}, "flags": dict.fromkeys(FLAGS, 0)}
    return Counts(**(counts | changed))


def test_a_run_fails_by_the_worst_parameter_and_never_by_a_derived_property(calibration):
    good, bad = run_badges(calibration(passed=False, derived=["log_mstar"]))
    assert (good.passed, good.worst, good.ks) == (True, next(iter(PARAMETERS)), 0.02), "log_mstar is no parameter"
    assert (bad.passed, bad.worst, bad.ks, bad.meaning) == (False, "tau_ism", 0.09, "redshift inferred")
    assert good.coverage == (0.68, 0.79) and good.derived == ["log_mstar"] and bad.derived == []


def test_the_calibration_comes_first_and_a_failure_is_marked(calibration):
    for passed, level in ((True, "pass"), (False, "fail")):
        first = diagnostics(counts_of(), calibration(passed=passed))[0]
        assert first.level == level and ("KS of tau_ism" in first.text) is not passed
    assert diagnostics(counts_of(), None)[0].level == "warn"


def test_a_derived_column_that_failed_is_in_the_headline_and_in_the_range_of_coverages(calibration):
    first = diagnostics(counts_of(), calibration(derived=["abs_mag_g", "abs_mag_r"]))[0]
    assert first.level == "warn"
    assert first.title.endswith("passed its calibration, but these columns failed: abs_mag_g, abs_mag_r")
    assert "Over all 23 columns" in first.text and "contain 68% to 79%" in first.text
    assert "The farthest is abs_mag_g in run exact (79.0%)" in first.text
    assert "before the correction" not in first.text
    corrected = diagnostics(counts_of(certified=980, corrected=990, routes={}), calibration(derived=["abs_mag_g"]))[0]
    assert corrected.text.endswith("That is of the draws before the correction by importance sampling.")
    both = diagnostics(counts_of(), calibration(passed=False, derived=["abs_mag_g"]))[0]
    assert both.level == "fail" and "so did the columns abs_mag_g" in both.title and "60% to 79%" in both.text


def test_many_galaxies_that_failed_a_check_are_a_warning_with_the_condition_that_excludes_them():
    few, many = (diagnostics(counts_of(failed=n), None)[1] for n in (10, 100))
    assert (few.level, few.title) == ("pass", "99.0% of the posteriors pass every consistency check")
    assert many.level == "warn" and "100 of 990 posteriors failed a consistency check" in many.text
    assert many.code == CLEAN == f"status == 'ok' and flags & {sum(FLAGS[name] for name in NOT_CLEAN)} == 0"


def test_certificates_are_told_from_their_absence():
    none = diagnostics(counts_of(certified=0, corrected=0), None)[2]
    most = diagnostics(counts_of(certified=980, corrected=990, routes={"smc": 5, "flow+is": 985}), None)[2]
    assert (none.level, none.title) == ("note", "Not certified")
    assert most.level == "pass" and "985 flow+is, 5 smc" in most.text


def test_the_page_has_a_badge_for_each_run(catalogue, build, calibration, tmp_path):
    found = calibration(passed=False)
    page = build(catalogue[0], tmp_path / "r.html", calibration=found, title="A <title>").read_text(encoding="utf-8")
    badges = re.findall(r'<div class="card"><b>([^<]*)</b> <span class="badge \w+">(\w+)</span>', page)
    assert badges == [("redshift given", "pass"), ("redshift inferred", "fail")]
    assert "A &lt;title&gt;" in page and "<title>A" in page and "1 of 2" in page


def test_a_crosscheck_is_a_part_of_the_page_also_from_a_file_of_an_older_version(tmp_path, catalogue, build):
    galaxy = {"object_id": 7, "converged": True, "log_evidence_referee": -3.5, "shifts": {"log_mstar": {"p50": 0.1}}}
    old = {"n": 48, "n_not_converged": 2, "sampler": "emcee", "quantile_shift_median": {"log_mstar": 0.043},
           "c2st_median": 0.52, "model": "ab12", "galaxies": [galaxy]}  # fmt: skip
    (tmp_path / "crosscheck.json").write_text(json.dumps(old))
    found = read_crosscheck(tmp_path)
    assert (found.posterior, found.galaxies[0].log_evidence_sampler) == ("ab12", -3.5)
    section = crosscheck_section(tmp_path)
    page = build(catalogue[0], tmp_path / "r.html", sections=[section]).read_text(encoding="utf-8")
    assert "An independent sampler</h2>" in page and "<td>0.043</td>" in page
    with pytest.raises(PopcatError, match=r"expected crosscheck\.json"):
        crosscheck_section(tmp_path / "absent")
    (tmp_path / "crosscheck.json").write_text("{}")
    with pytest.raises(PopcatError, match=r"crosscheck\.json is not of `popcat crosscheck`: .*sampler"):
        crosscheck_section(tmp_path)



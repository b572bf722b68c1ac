"""What the page says of trust: the calibration's verdict, flags, certificates, a referee."""

import json
import re

import pandas as pd
import pytest

from popcat.columns import PARAMETERS
from popcat.errors import PopcatError
from popcat.galaxies import FLAGS, UNCERTIFIED
from popcat.pages.galaxies import as_json
from popcat.pages.judgement import crosscheck_section, run_badges, verdicts
from popcat.pages.reading import Population


def population(**changed):
    counts = {"frame": pd.DataFrame(), "rows": 1000, "status": {"ok": 990}, "flags": dict.fromkeys(FLAGS, 0)}
    return Population(**(counts | changed))


def test_a_run_fails_by_the_worst_parameter_and_never_by_a_derived_property(calibration):
    good, bad = run_badges(calibration(passed=False), tuple(PARAMETERS))
    assert (good.passed, good.worst, good.ks) == (True, next(iter(PARAMETERS)), 0.02), "log_mstar is no parameter"
    assert (bad.passed, bad.worst, bad.ks, bad.meaning) == (False, "tau_ism", 0.09, "redshift inferred")


def test_the_verdict_on_the_model_comes_first_and_is_loud_where_it_failed(calibration):
    for passed, level in ((True, "pass"), (False, "fail")):
        found = calibration(passed=passed)
        first = verdicts(population(), found, run_badges(found, tuple(PARAMETERS)))[0]
        assert first.level == level and ("KS of tau_ism" in first.text) is not passed
    assert verdicts(population(), None, [])[0].level == "warn"


def test_many_suspicious_galaxies_are_a_warning():
    few, many = (verdicts(population(care=n), None, [])[1] for n in (10, 100))
    assert (few.level, few.title) == ("pass", "99.0% of the posteriors are unsuspicious")
    assert many.level == "warn" and f"flags & {sum(FLAGS[name] for name in UNCERTIFIED)} == 0" in many.code


def test_certificates_are_told_from_their_absence():
    none = verdicts(population(certified=0, corrected=0), None, [])[2]
    most = verdicts(population(certified=980, corrected=990, routes={"smc": 5, "flow+is": 985}), None, [])[2]
    assert (none.level, none.title) == ("note", "Not certified")
    assert most.level == "pass" and "985 flow+is, 5 smc" in most.text


def test_the_page_has_a_badge_for_each_run(catalogue, build, calibration, tmp_path):
    found = calibration(passed=False)
    page = build(catalogue[0], tmp_path / "r.html", calibration=found, title="A <title>").read_text(encoding="utf-8")
    badges = re.findall(r'<div class="card"><b>([^<]*)</b> <span class="badge \w+">(\w+)</span>', page)
    assert badges == [("redshift given", "pass"), ("redshift inferred", "fail")]
    assert "A &lt;title&gt;" in page and "1 of 2" in page


def test_a_referees_findings_are_a_section_of_the_page(tmp_path, catalogue, build):
    found = {"n": 48, "n_not_converged": 2, "sampler": "emcee", "quantile_shift_median": {"log_mstar": 0.043},
             "c2st_median": 0.52}  # fmt: skip
    (tmp_path / "crosscheck.json").write_text(json.dumps(found))
    section = crosscheck_section(tmp_path)
    page = build(catalogue[0], tmp_path / "r.html", sections=[section]).read_text(encoding="utf-8")
    assert "An independent sampler</h2>" in page and "<td>0.043</td>" in page
    with pytest.raises(PopcatError, match=r"expected crosscheck\.json"):
        crosscheck_section(tmp_path / "absent")


def test_embedded_json_cannot_end_its_script():
    assert "</script>" not in as_json({"id": "</script><b>"})
    assert json.loads(as_json({"id": "</script>"})) == {"id": "</script>"}

"""Whether a calibration passes: the one place where KS distances and TARP deviations are compared with limits.

The limits are the survey's (`popcat.survey.CalibrationLimits`), one for each statistic. How small a deviation n mocks
can tell from chance is their resolution: what a perfect posterior exceeds in one of a hundred calibrations, all tests
of the statistic counted. What is above its limit fails; where mocks are too few for it, what is above the resolution.

Every published column is tested. Parameters and the redshift decide whether `infer` uses a posterior, as do TARP and
draws outside the prior. A derived column that fails is named wherever it is shown.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pydantic

from popcat.catalog.manifest import CatalogManifest
from popcat.checks.ranks import COVERAGE_LEVEL, ks_critical
from popcat.columns import quantity_fields
from popcat.posterior.posterior import Posterior
from popcat.prior import make_prior

RUNS = {
    "exact": "redshift given, every band",
    "gaussian": "redshift given with an error of 0.02 (1 + z), every band",
    "unknown": "redshift inferred, every band",
    "two_bands_missing": "redshift given, two random bands missing",
}
"""The ways in which a posterior is tested."""
_REDSHIFT_DRAWN = ("gaussian", "unknown")


class CalibrationRun(pydantic.BaseModel):
    """What one run found, of n mocks; distances and coverages by the name of the quantity."""

    model_config = pydantic.ConfigDict(frozen=True)
    mode: str
    n: int
    ks: dict[str, float]
    coverage_68: dict[str, float]
    tarp_max_deviation: float
    outside_prior: int
    """Draws that are outside the prior: none should be."""
    chi2_ks: float
    high_chi2_fraction: float
    by_magnitude: list[dict]
    by_redshift: list[dict]
    """Coverage of the 68% intervals in bins of equal numbers of mocks: low, high, n, coverage_68."""


class ColumnVerdict(pydantic.BaseModel):
    """What the runs found of one column, the worst of them; None where it was not tested.

    ks : the largest KS distance. coverage_68 : the fraction of truths inside the 68% interval, where it is farthest
    from 0.68. refuses : whether `infer` refuses the posterior if this column fails.
    """

    model_config = pydantic.ConfigDict(frozen=True)
    ks: float | None
    coverage_68: float | None
    passed: bool
    refuses: bool

    @property
    def numbers(self) -> str:
        """Distance and coverage in a few words."""
        if self.ks is None or self.coverage_68 is None:
            return "not tested"
        return f"KS {self.ks:.3f}, 68% interval holds {self.coverage_68:.2f}"


@dataclass(frozen=True)
class Verdict:
    """Limits, resolution, every column, and what speaks against the use of a posterior.

    is_beyond : whether more mocks would change nothing, because a deviation is above its limit by more than chance.
    """

    limits: dict[str, float]
    resolution: dict[str, float]
    columns: dict[str, ColumnVerdict]
    failures: list[str]
    is_beyond: bool


def columns_of_run(run: str, tested: Posterior | CatalogManifest) -> list[str]:
    """The columns that are drawn, and so tested, in a run: all quantities; redshift where it is not given exactly."""
    names = quantity_fields(tested.survey, tested.galaxy_model)
    return [name for name in names if name != "redshift" or run in _REDSHIFT_DRAWN]


def mocks_needed(tested: Posterior | CatalogManifest, runs: Collection[str]) -> int:
    """The fewest mocks whose resolution is not above the survey's limits."""
    limits, coarse = _limits(tested), _resolution(tested, runs, 1)
    return max(math.ceil((coarse[name] / limit) ** 2) for name, limit in limits.items())


def held_to(limits: Mapping[str, float], resolution: Mapping[str, float]) -> dict[str, float]:
    """What deviations are compared with: the limit, or the resolution where that is above it."""
    return {name: max(limit, resolution.get(name, 0.0)) for name, limit in limits.items()}


def beyond(run: CalibrationRun, limits: Mapping[str, float]) -> dict[str, float]:
    """KS distances above the limit, by column."""
    return {name: distance for name, distance in run.ks.items() if distance > limits["ks"]}


def verdict(tested: Posterior | CatalogManifest, runs: Mapping[str, CalibrationRun]) -> Verdict:
    """Compare what the runs found with the limits of a posterior, or of that of a catalogue."""
    limits = _limits(tested)
    resolution = _resolution(tested, runs, min(run.n for run in runs.values()))
    held = held_to(limits, resolution)
    refusing = (*make_prior(tested.galaxy_model).names, "redshift")
    failures, is_beyond, failed, lacking = [], False, set(), set()
    for name, run in runs.items():
        missing = [q for q in columns_of_run(name, tested) if q not in run.ks]
        above, tarp = beyond(run, held), run.tarp_max_deviation
        lacking |= {*missing}
        failed |= {*above}
        failures += [f"{name}: no KS of {q}" for q in missing if q in refusing]
        failures += [f"{name}: KS of {q} {above[q]:.3f} > {held['ks']:.3f}" for q in refusing if q in above]
        if tarp > held["tarp"]:
            failures.append(f"{name}: TARP {tarp:.3f} > {held['tarp']:.3f}")
        if run.outside_prior:
            failures.append(f"{name}: {run.outside_prior} draws outside the prior")
        largest = max((run.ks[q] for q in refusing if q in run.ks), default=0.0)
        is_beyond |= (largest > limits["ks"] + resolution["ks"] or tarp > limits["tarp"] + resolution["tarp"]
                      or run.outside_prior > 0)  # fmt: skip
    columns = {}
    for q in quantity_fields(tested.survey, tested.galaxy_model):
        ks = [run.ks[q] for run in runs.values() if q in run.ks]
        inside = [run.coverage_68[q] for run in runs.values() if q in run.coverage_68]
        if ks or q in lacking:
            columns[q] = ColumnVerdict(
                ks=max(ks, default=None), coverage_68=max(inside, key=off_level, default=None),
                passed=q not in failed | lacking, refuses=q in refusing,
            )  # fmt: skip
    return Verdict(limits, resolution, columns, failures, is_beyond)


def off_level(coverage: float) -> float:
    """How far the coverage of a 68% interval is from 0.68."""
    return abs(coverage - COVERAGE_LEVEL)


def _limits(tested: Posterior | CatalogManifest) -> dict[str, float]:
    asked = tested.survey.calibration
    return {"ks": asked.max_ks, "tarp": asked.max_tarp}


def _resolution(tested: Posterior | CatalogManifest, runs: Collection[str], n: int) -> dict[str, float]:
    tests = {"ks": sum(len(columns_of_run(run, tested)) for run in runs), "tarp": len(runs)}
    return {name: ks_critical(n, count) for name, count in tests.items()}

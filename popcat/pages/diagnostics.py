"""What to trust of a catalogue, in the report's words: its calibration, its consistency checks, its certificates.

The counts are of every row, which is streamed once.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from popcat import plots
from popcat.catalog.learned import LITTLE, Learned
from popcat.catalog.queries import Catalog
from popcat.catalog.training_check import TrainingCheck
from popcat.checks.calibration_result import Calibration
from popcat.galaxies import CERTIFIED_ESS, CERTIFIED_MEANS, CHECK_FLAGS, CLEAN, FLAGS, NOT_CLEAN, flag_counts
from popcat.pages import alt_texts
from popcat.pages.galaxies import scalar_columns, to_frame

FIGURE_ROWS = 1_000_000
"""Figures of a larger catalogue show every k-th row; the counts are of every row."""
WARN_SHARE = 0.05
"""Above this share of galaxies that failed a check, or are not certified, the report warns."""

_HISTOGRAMS = 8
"""Columns whose ranks have a histogram."""


@dataclass(frozen=True)
class Counts:
    """The scalar columns (of every k-th row) and the counts (of every row).

    failed : galaxies with a posterior that failed a consistency check. inferred_redshifts : with a posterior and
    without a redshift in the catalogue. certified, corrected : None where the catalogue has no such columns.
    """

    frame: pd.DataFrame
    rows: int
    status: Mapping[str, int]
    flags: Mapping[str, int]
    failed: int = 0
    inferred_redshifts: int = 0
    certified: int | None = None
    corrected: int | None = None
    routes: Mapping[str, int] | None = None


def read_counts(catalog: Catalog) -> Counts:
    """Stream the scalar columns: counts of every row, and every k-th row so that at most FIGURE_ROWS stay."""
    step = max(1, -(-len(catalog) // FIGURE_ROWS))
    columns = scalar_columns(catalog)
    tally, kept = _Tally(), []
    for batch in catalog.batches(columns):
        kept.append(batch.take(pa.array(np.arange(-tally.rows % step, batch.num_rows, step))))
        tally.add(batch)
    frame = to_frame(pa.Table.from_batches(kept, schema=kept[0].schema)) if kept else pd.DataFrame(columns=columns)
    return tally.counts(frame, certificates="certified" in columns)


class _Tally:
    """Counts of every row that was streamed."""

    def __init__(self):
        self.rows, self.status, self.flags = 0, Counter(), Counter(dict.fromkeys(FLAGS, 0))
        self.failed = self.inferred = self.certified = self.corrected = 0
        self.routes = Counter()

    def add(self, batch: pa.RecordBatch) -> None:
        self.rows += batch.num_rows
        self.status.update(_counts(batch["status"]))
        bits = batch["flags"].to_numpy(zero_copy_only=False)
        self.flags.update(flag_counts(bits))
        ok = pc.equal(batch["status"], "ok").to_numpy(zero_copy_only=False)
        self.failed += int(np.count_nonzero(ok & ((bits & CHECK_FLAGS) != 0)))
        if "redshift" in batch.schema.names:
            given = np.isfinite(batch["redshift"].to_numpy(zero_copy_only=False))
            self.inferred += int(np.count_nonzero(ok & ~given))
        if "certified" in batch.schema.names:
            self.certified += pc.sum(batch["certified"]).as_py() or 0
            self.corrected += len(batch["ess"]) - batch["ess"].null_count
            self.routes.update(_counts(batch["route"].filter(pa.array(ok))))

    def counts(self, frame: pd.DataFrame, *, certificates: bool) -> Counts:
        certificate = (self.certified, self.corrected, dict(self.routes)) if certificates else (None, None, None)
        return Counts(frame, self.rows, self.status, self.flags, self.failed, self.inferred, *certificate)


def _counts(column: pa.Array) -> dict[str, int]:
    return {str(pair["values"]): pair["counts"] for pair in pc.value_counts(column).to_pylist()}


@dataclass(frozen=True)
class Diagnostic:
    """One line of "what to trust": level is pass, warn, fail or note; `code` is what to type."""

    level: str
    title: str
    text: str
    code: str = ""


@dataclass(frozen=True)
class RunBadge:
    """One test of a trained posterior's calibration.

    ks, worst : the largest distance of a column that refuses, and that column. derived : derived columns that failed.
    """

    name: str
    meaning: str
    passed: bool
    worst: str
    ks: float
    tarp: float
    outside_prior: int
    coverage: tuple[float, float]
    derived: list[str]


def run_badges(calibration: Calibration) -> list[RunBadge]:
    """Pass or fail of each test, as the calibration says."""
    badges, refusing = [], {name for name, one in calibration.columns.items() if one.refuses}
    for name, run in calibration.runs.items():
        ks = {q: distance for q, distance in run.ks.items() if q in refusing}
        worst = max(ks, key=ks.__getitem__)
        failures, derived = calibration.failures_of(name)
        inside = run.coverage_68.values()
        badges.append(
            RunBadge(name, RUN_MEANING.get(name, name), not failures, worst, ks[worst], run.tarp_max_deviation,
                     run.outside_prior, (min(inside), max(inside)), derived)
        )  # fmt: skip
    return badges


def diagnostics(
    counts: Counts, calibration: Calibration | None, *, reweighted: bool = False,
    training_check: TrainingCheck | None = None, learned: Learned | None = None,
) -> list[Diagnostic]:  # fmt: skip
    """What to trust, most important first: a catalogue that does not fit the training comes before all."""
    found = [_calibration(calibration, corrected=bool(counts.corrected)), _checks(counts)]
    if training_check is not None:
        found.insert(0 if not training_check.fits else 1, _training(training_check))
    if counts.certified is not None:
        found.append(_certificates(counts, training_check))
    if learned is not None and learned.little:
        n = len(learned.little)
        title = f"{n} of {len(learned.quantities)} quantities are prior-dominated"
        found.append(Diagnostic("note", title, "The photometry adds little to the prior of "
                                f"{', '.join(learned.little)}: less than {LITTLE:g} nats in the median "
                                f"galaxy. Their posteriors show the prior ({learned.prior})."))  # fmt: skip
    if counts.inferred_redshifts:
        share = counts.inferred_redshifts / counts.status["ok"]
        found.append(Diagnostic("note", "Redshifts", f"{counts.inferred_redshifts:,} of the posteriors ({share:.1%}) "
                                "are of galaxies without a redshift in the catalogue. Their redshift is inferred from "
                                "the photometry: its uncertainty is redshift_p16 to redshift_p84."))  # fmt: skip
    if reweighted:
        found.append(Diagnostic("note", "Another prior", "The draws were reweighted to a prior other than the galaxy "
                                "model's own. The calibration is of the posteriors before that. Column ess: effective "
                                "sample size that is left."))  # fmt: skip
    return found


def _calibration(calibration: Calibration | None, *, corrected: bool) -> Diagnostic:
    if calibration is None:
        return Diagnostic("warn", "No calibration", "It is not known whether the intervals contain the truth as often "
                          "as they claim. To test that on mock galaxies:", "popcat calibrate --posterior")  # fmt: skip
    low, high, farthest = calibration.coverage_range
    runs, derived = calibration.runs, calibration.derived_failures
    good = sum(not calibration.failures_of(name)[0] for name in runs)
    text = (f"{calibration.n:,} mock galaxies with known truth were inferred in {len(runs)} ways: {good} passed. "
            f"Over all {len(calibration.columns)} columns, intervals that should contain 68% of the truths contain "
            f"{low:.0%} to {high:.0%}. The farthest is {farthest}.")  # fmt: skip
    text += f" {calibration.too_few[:1].upper()}{calibration.too_few[1:]}." if calibration.too_few else ""
    named = ", ".join(derived)
    if derived:
        numbers = "; ".join(f"{name}: {calibration.columns[name].numbers}" for name in derived)
        text += f" Derived columns that failed: {numbers}."
    text += " That is of the draws before the correction by importance sampling." if corrected else ""
    if not calibration.passed:
        also = f", and so did the columns {named}" if derived else ""
        return Diagnostic("fail", f"The trained posterior failed its calibration{also}",
                          f"{text} Do not use these posteriors: {'; '.join(calibration.failures[:3])}.")
    if derived:
        return Diagnostic("warn", f"The trained posterior passed its calibration, but these columns failed: {named}",
                          text)  # fmt: skip
    return Diagnostic("pass", "The trained posterior passed its calibration", text)


def _checks(counts: Counts) -> Diagnostic:
    total = max(counts.status["ok"], 1)
    share = counts.failed / total
    by_flag = ", ".join(f"{counts.flags[name]:,} {name}" for name in NOT_CLEAN if counts.flags[name])
    text = (f"{counts.failed:,} of {counts.status['ok']:,} posteriors failed a consistency check"
            f"{f' ({by_flag})' if by_flag else ''}. To exclude them: catalog.to_pandas(where=popcat.CLEAN). That is "
            "the condition")  # fmt: skip
    return Diagnostic("warn" if share > WARN_SHARE else "pass",
                      f"{1 - share:.1%} of the posteriors pass every consistency check", text, CLEAN)


def _training(check: TrainingCheck) -> Diagnostic:
    if check.fits:
        return Diagnostic("pass", "The catalogue looks like the training galaxies", f"{check.galaxies:,} of its "
                          "galaxies were compared: errors, colours, best chi2 and redshifts are like those that the "
                          "posterior was trained on. A fault that looks like other galaxies is not seen.")
    return Diagnostic("fail", "The catalogue does not fit the training of the posterior", f"{check.misfits}. "
                      f"Usually {check.cause or 'a unit, zero point, extinction, column or filter is wrong'}. "
                      "Correct that before you use any number of this catalogue.", "popcat survey check")  # fmt: skip


def _certificates(counts: Counts, check: TrainingCheck | None) -> Diagnostic:
    total = max(counts.status["ok"], 1)
    if not counts.corrected:
        return Diagnostic("note", "Not certified", "The draws are the neural network's own. To correct each posterior "
                          "by importance sampling with the exact likelihood:", "popcat infer --certify")  # fmt: skip
    share = (counts.certified or 0) / total
    routes = ", ".join(f"{number:,} {name}" for name, number in sorted((counts.routes or {}).items()))
    text = (f"{counts.certified:,} of {counts.status['ok']:,} posteriors are corrected by importance sampling with the "
            f"exact likelihood, with an effective sample size of at least {CERTIFIED_ESS:g} each. Galaxies by column "
            f"route: {routes}. The others are the neural network's draws, or have a smaller effective sample "
            f"size. Certified: {CERTIFIED_MEANS}. A galaxy with a wrong redshift may well be certified.")  # fmt: skip
    if check is not None and not check.fits:
        return Diagnostic("warn", f"{share:.1%} of the posteriors are certified given the data, but the catalogue "
                          f"{check.does_not_fit}", text)  # fmt: skip
    level = "pass" if share > 1 - WARN_SHARE else "warn"
    return Diagnostic(level, f"{share:.1%} of the posteriors are certified", text)


def calibration_panels(calibration: Calibration) -> dict:
    """Rows of the table (column, its verdict, worst KS and coverage of all runs) and the figures of the first run."""
    run, first = next(iter(calibration.ranks)), calibration.first
    ranks = {name: np.asarray(values, dtype=float) for name, values in calibration.ranks[run].items()}
    worst = {name: ranks[name] for name in plots.worst_columns(ranks, first.ks, _HISTOGRAMS)}
    figures = {"pp": plots.pp_curves(ranks, first.ks, calibration.held["ks"]), "ranks": plots.rank_histograms(worst)}
    return {"columns": calibration.columns, "passed": sum(one.passed for one in calibration.columns.values()),
            "limits": calibration.limits, "held": calibration.held, "too_few": calibration.too_few,
            "mocks": calibration.n, "meaning": RUN_MEANING.get(run, run),
            "words": {"pp": alt_texts.of_pp(first.ks, calibration.held["ks"]), "ranks": alt_texts.of_ranks(worst)},
            "figures": {name: plots.figure_to_data_uri(figure) for name, figure in figures.items()}}  # fmt: skip


STATUS_MEANING = {
    "ok": "has a posterior",
    "no_photometry": "no band is observed with a valid error",
    "redshift_out_of_range": "redshift outside the range of the training galaxies",
}
RUN_MEANING = {
    "exact": "redshift given",
    "gaussian": "redshift with an error",
    "unknown": "redshift inferred",
    "two_bands_missing": "two bands missing",
}
"""The ways in which `popcat calibrate` infers its mock galaxies."""

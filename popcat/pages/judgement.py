"""Whether to believe a catalogue: what its model's calibration, its flags and its certificates say.

What statuses and flags mean, in the report's words.

Further parts of the page, from what other commands found about the same catalogue.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from popcat import plots
from popcat.checks.calibration import coverage
from popcat.errors import PopcatError
from popcat.galaxies import UNCERTIFIED
from popcat.pages.reading import CARE, Population

CARE_WARN = 0.05
"""Above this share of galaxies that ask for care, the report warns."""


@dataclass(frozen=True)
class Verdict:
    """One line of "what to trust": level is pass, warn, fail or note; `code` is what to type."""

    level: str
    title: str
    text: str
    code: str = ""


@dataclass(frozen=True)
class RunBadge:
    """One run of a model's calibration against its limits."""

    name: str
    meaning: str
    passed: bool
    worst: str
    ks: float
    ks_limit: float
    tarp: float
    tarp_limit: float
    outside_prior: int
    coverage: tuple[float, float]


def run_badges(calibration: Mapping, parameters: Sequence[str]) -> list[RunBadge]:
    """Pass or fail of each run, by the verdict's limits: KS of every parameter and of the redshift, TARP, prior."""
    limits = calibration.get("limits")
    if limits is None:
        return []
    judged = (*parameters, "redshift")
    badges = []
    for name, run in calibration["runs"].items():
        ks = {q: run["ks"][q] for q in judged if q in run["ks"]}
        worst = max(ks, key=ks.get)
        tarp, outside = run["tarp_max_deviation"], run["outside_prior"]
        passed = ks[worst] <= limits["ks"] and tarp <= limits["tarp"] and not outside
        inside = [run["coverage_68"][q] for q in ks]
        badges.append(RunBadge(name, RUN_MEANING.get(name, name), passed, worst, ks[worst], limits["ks"], tarp,
                               limits["tarp"], outside, (min(inside), max(inside))))  # fmt: skip
    return badges


def verdicts(population: Population, calibration: Mapping | None, badges: Sequence[RunBadge], *,
             reweighted: bool = False) -> list[Verdict]:
    """What to trust, most important first."""
    found = [_calibrated(calibration, badges), _careful(population)]
    if population.certified is not None:
        found.append(_certified(population))
    if population.inferred_redshifts:
        share = population.inferred_redshifts / population.status["ok"]
        found.append(Verdict("note", "Redshifts", f"{population.inferred_redshifts:,} of the posteriors ({share:.1%}) "
                             "are of galaxies without a redshift: inferred from the photometry, and as uncertain as "
                             "redshift_p16 to redshift_p84 say."))  # fmt: skip
    if reweighted:
        found.append(Verdict("note", "Another prior", "These draws were re-weighted to a prior that is not the "
                             "model's own: the calibration is of the model before. Column ess: effective draws left."))
    return found


def _calibrated(calibration, badges) -> Verdict:
    if calibration is None:
        return Verdict("warn", "No calibration", "Nothing is known of whether this model's intervals hold what they "
                       "claim. What tests it on mock galaxies:", "popcat calibrate --posterior")  # fmt: skip
    if not badges:
        return Verdict("note", "Calibration", "Tested on mock galaxies: see Calibration below.")
    passed = sum(badge.passed for badge in badges)
    inside = [edge for badge in badges for edge in badge.coverage]
    text = (f"{calibration['n']:,} mock galaxies with known truth, shown to the model in {len(badges)} ways: "
            f"{passed} passed. Intervals that should hold 68% of the truths hold {min(inside):.0%} to "
            f"{max(inside):.0%}.")  # fmt: skip
    if passed < len(badges):
        return Verdict("fail", "The model failed its calibration",
                       f"{text} Do not build on these posteriors: {'; '.join(calibration['failures'][:3])}.")
    return Verdict("pass", "The model passed its calibration", text)


def _careful(population: Population) -> Verdict:
    total = max(population.status["ok"], 1)
    share = population.care / total
    counts = ", ".join(f"{population.flags[name]:,} {name}" for name in UNCERTIFIED if population.flags[name])
    text = (f"{population.care:,} of {population.status['ok']:,} posteriors carry a flag that asks for care"
            f"{f' ({counts})' if counts else ''}. For the others:")  # fmt: skip
    level = "warn" if share > CARE_WARN else "pass"
    return Verdict(level, f"{1 - share:.1%} of the posteriors are unsuspicious", text,
                   f"status == 'ok' and flags & {CARE} == 0")


def _certified(population: Population) -> Verdict:
    total = max(population.status["ok"], 1)
    if not population.corrected:
        return Verdict("note", "Not certified", "The draws are the trained network's own: none was checked against the "
                       "exact likelihood. What does that, galaxy by galaxy:", "popcat infer --certify")  # fmt: skip
    share = population.certified / total
    routes = ", ".join(f"{count:,} {name}" for name, count in sorted((population.routes or {}).items()))
    text = (f"{population.certified:,} of {population.status['ok']:,} posteriors are corrected by the exact likelihood"
            f", with at least 100 effective draws each. Made by: {routes}. Use the others with care.")  # fmt: skip
    return Verdict("pass" if share > 1 - CARE_WARN else "warn", f"{share:.1%} of the posteriors are certified", text)


def calibration_panels(calibration: Mapping) -> dict:
    """Rows of the KS table (name, distance, 99% limit, coverage of the 68% interval, pass) and the figures."""
    ranks = {name: np.asarray(values, dtype=float) for name, values in calibration["ranks"].items()}
    rows = []
    for name, values in ranks.items():
        # Kolmogorov's law: a uniform sample of n exceeds 1.63 / sqrt(n) in 1% of cases.
        limit = 1.63 / np.sqrt(len(values))
        rows.append((name, calibration["ks"][name], limit, coverage(values), calibration["ks"][name] <= limit))
    history = calibration.get("history")
    figures = {"pp": plots.pp_curves(ranks, calibration["ks"]), "ranks": plots.rank_histograms(ranks),
               "loss": plots.loss_curve(history) if history else None}  # fmt: skip
    return {"rows": rows, "mocks": max(map(len, ranks.values())), "passed": sum(row[-1] for row in rows),
            "figures": {name: figure and plots.figure_to_data_uri(figure) for name, figure in figures.items()}}


STATUS_MEANING = {
    "ok": "has a posterior",
    "no_photometry": "no band is observed with a valid error",
    "redshift_out_of_range": "redshift outside the range the model was trained on",
}
FLAG_MEANING = {
    "missing_band": "a flux or its error is NaN: the posterior is that of the other bands",
    "bad_error": "a flux error is zero, negative or infinite: its band is left out",
    "missing_redshift": "no redshift in the catalogue: inferred from the photometry",
    "redshift_out_of_range": "redshift outside the survey's range",
    "outside_training": "magnitude outside the range the model was trained on: treat the posterior with care",
    "high_chi2": "no draw fits the photometry: wrong redshift, blend, AGN, or bad errors",
    "negative_flux": "a measured flux below zero; kept and used, harmless",
    "no_photometry": "no band is observed with a valid error",
    "unusual_noise": "errors far from the survey's own, given the magnitudes: see worst_band",
    "unusual_colours": "colours or a brightness that no model galaxy has: see worst_band",
    "quality_cut": "fails a quality cut of the survey file; inferred nevertheless",
    "band_off": "one band is not what the others let expect: see worst_band, tail_band, tail_peers",
}
RUN_MEANING = {
    "exact": "redshift given",
    "gaussian": "redshift with an error",
    "unknown": "redshift inferred",
    "two_bands_missing": "two bands missing",
}
"""The ways in which `popcat calibrate` shows its mocks to a model."""


def crosscheck_section(folder: str | Path) -> Mapping:
    """The referee's findings in a folder that `popcat crosscheck` wrote; PopcatError if it holds none.

    A section is a dict of title, text, and optionally rows (the first is the header) and figures, (data URI, caption).
    """
    path = Path(folder) / "crosscheck.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        shifts, c2st = found["quantile_shift_median"], found["c2st_median"]
        sampler = "accepted draws of the prior" if found["sampler"] == "prior" else found["sampler"]
        text = (f"{found['n']} galaxies, drawn at random, were sampled anew with {sampler}, which shares with "
                "popcat the galaxy model and nothing of the network. A shift of 0.1 sigma in a quantile is small; a "
                "C2ST of 0.5 means that a classifier cannot tell the two sets of draws apart, 1 that it always can."
                )  # fmt: skip
    except (OSError, ValueError, KeyError) as error:
        raise PopcatError(
            f"{folder} holds no referee's findings: expected crosscheck.json from `popcat crosscheck`: {error}"
        ) from error
    rows = [("what", "median"), *((f"|shift| of the quantiles of {name}, sigma", f"{value:.3f}")
                                  for name, value in shifts.items())]  # fmt: skip
    if c2st is not None:
        rows.append(("C2ST", f"{c2st:.3f}"))
    if found["n_not_converged"]:
        rows.append(("galaxies without a converged referee, left out", str(found["n_not_converged"])))
    return {"title": "An independent sampler", "text": text, "rows": rows}

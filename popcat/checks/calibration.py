"""Calibrate a posterior on fresh mocks, in every way it is used, and keep the verdict with the posterior.

The truths are to be uniform among the draws (popcat.checks.ranks). Mocks are added until the verdict is clear
(popcat.checks.verdict). A posterior must pass before `infer` uses it: see `require_calibrated`.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from popcat import rng
from popcat.catalog.chi2_limits import Chi2Limits
from popcat.checks.best_chi2 import N_MOCKS, expected_s, measure_limits
from popcat.checks.calibration_result import RECORD, Calibration, read_calibration
from popcat.checks.ranks import binned_coverage, chi2_tail_of, summarise, tarp_ranks_of
from popcat.checks.verdict import RUNS, CalibrationRun, columns_of_run, mocks_needed, verdict
from popcat.errors import PopcatError
from popcat.galaxies import Observation, chi2_limit, observation
from popcat.paths import local
from popcat.posterior.locations import calibration_folder, embedded_posteriors, posterior_folder, posterior_location
from popcat.posterior.posterior import Posterior, load_posterior
from popcat.posterior.simulated import draw_mocks
from popcat.ranks import ks_distance, ranks
from popcat.run.client import Where
from popcat.run.runner import How, Outcome, run, values_of
from popcat.run.steps import Steps
from popcat.units import nmgy_to_ab_mag

MAX_MOCKS = 20_000
"""Mocks of a run beyond which none are added, however small the limits are."""
_FEWEST, _ROUND = 100, 1000
"""The least number of mocks, and how many are added before the verdict is computed again."""
_BLOCK = 250
"""Mocks of one task."""
_SECONDS_PER_DRAW = 1e-5
"""Of one core, about."""
_REDSHIFT_ERR = 0.02
_STREAM_MOCK = 64


def calibrate(
    posterior: str | Path = "sdss", n: int | None = None, *, prior: str | None = None,
    output: str | Path | None = None, seed: int = 1, draws: int = 500, runs: Sequence[str] = tuple(RUNS),
    only_chi2: bool = False, client: Where = None, workers: int | None = None, progress: bool = False,
    log: str | Path | None = None,
) -> Calibration:  # fmt: skip
    """SBC ranks, p-p curves, KS distances and TARP coverage of a posterior on fresh mocks from its prior and noise.

    `prior` is one of those that it was trained under, by default the one that `infer` takes.

    Mocks are added until the verdict is clear. A posterior passes with as many mocks as the survey's limits need: a
    perfect one is above a limit in one of a hundred calibrations. It fails as soon as a deviation is above its limit by
    more than chance. Between the two, twice as many mocks decide, and never more than 20,000. With `n`, exactly n mocks
    are used; if they are too few for the limits, the verdict says so.

    Then the best chi2 of mocks is measured, for the limit of the flag high_chi2 (popcat.checks.best_chi2): of 4,000
    mocks for each number of bands, or of n, if that is at least 1,000. `only_chi2` measures nothing else, and keeps the
    rest of the calibration that the posterior has.

    `runs` are the ways in which the posterior is used, names of `RUNS`. With `output`, a folder, the result is saved
    there. `client` and `workers` say where the mocks are sampled, blocks of them a task (popcat.run.client.connect):
    few are in this process, and workers must see the posterior. The result is a function of the seed alone.

    Raises PopcatError for no such posterior, no such run, fewer than 20 mocks, or `only_chi2` without a calibration.

    >>> found = calibrate("sdss", 40, draws=40, runs=("exact",))
    >>> list(found.runs), found.first.outside_prior
    (['exact'], 0)
    """
    if min(draws, draws if n is None else n) < 20:
        raise PopcatError(f"calibration needs at least 20 mocks and 20 draws each, got {n} and {draws}")
    unknown = [name for name in runs if name not in RUNS]
    if unknown or not runs:
        raise PopcatError(f"calibration runs are {', '.join(RUNS)}; got {', '.join(unknown) or 'none'}")
    output = None if output is None else local(output)
    names = ("chi2",) if only_chi2 else ("mocks", "chi2")
    steps = Steps(dict.fromkeys(names, 1.0), show=progress is True, log=log)
    how = How(client, workers, steps.progress if progress is True else progress, log=log)
    how.verify()
    where, posterior = posterior_location(posterior), load_posterior(posterior).under(prior)
    steps.expect({"chi2": expected_s(posterior, n or N_MOCKS)})
    if only_chi2:
        before = _kept(where, posterior.prior_name)
        with steps:
            limits = _measure_limits(steps, posterior, where, n or N_MOCKS, seed, how)
        result = before.model_copy(update={"chi2_limits": limits})
        if output is not None:
            result.save(output)
        return result
    plan = plan_for(mocks_needed(posterior, runs)) if n is None else Plan((n,), n)
    course = _Course(posterior, where, tuple(runs), plan, seed, draws)
    jobs, sizes = course.further({})
    seconds = _SECONDS_PER_DRAW * draws * plan.enough * len(runs)
    steps.expect({"mocks": seconds})
    with steps:
        with steps.step("mocks", f"sampling {plan.enough:,} mocks in each of {len(runs)} runs, or more"):
            outcomes = run(_sample_block, dict(enumerate(jobs)), verb="calibrating", how=how, sizes=sizes, unit="mocks",
                           noun="block", seconds=seconds, more=course.further)  # fmt: skip
            values_of(outcomes, "block")
        limits = _measure_limits(steps, posterior, where, n or N_MOCKS, seed, how)
    found = verdict(posterior, course.results)
    result = Calibration(
        posterior=posterior.name, prior=posterior.prior_name, seed=seed, draws=draws, limits=found.limits,
        resolution=found.resolution,
        passed=not found.failures, failures=found.failures, columns=found.columns, runs=course.results,
        ranks={name: {q: np.sort(values) for q, values in of_run.items()} for name, of_run in course.ranks.items()},
        chi2_limits=limits,
    )  # fmt: skip
    if output is not None:
        result.save(output)
    return result


def _measure_limits(
    steps: Steps, posterior: Posterior, where: str, n: int, seed: int, how: How
) -> Chi2Limits | None:
    """`measure_limits` as a step of a calibration."""
    with steps.step("chi2", "measuring the best chi2 of mocks"):
        return measure_limits(posterior, where, n, seed, how)


def _kept(where: str, prior: str) -> Calibration:
    """The calibration that a posterior has; PopcatError if it has none."""
    found = calibration_of(where, prior)
    if found is None:
        raise PopcatError(f"posterior {where} has no calibration to keep: leave out only_chi2 (--only-chi2)")
    return found


@dataclass(frozen=True)
class Plan:
    """How many mocks: those at which the verdict is computed, in order. At `enough` a posterior may pass.

    >>> plan_for(2350)
    Plan(looks=(1000, 2000, 2400, 3000, 4000, 4800), enough=2400)
    """

    looks: tuple[int, ...]
    enough: int


def plan_for(needed: int) -> Plan:
    """The plan where the limits need so many mocks: at most twice as many."""
    enough = min(max(-(-needed // _FEWEST) * _FEWEST, _FEWEST), MAX_MOCKS)
    most = min(2 * enough, MAX_MOCKS)
    return Plan(tuple(sorted({*range(_ROUND, most, _ROUND), enough, most})), enough)


@dataclass
class _Course:
    """A calibration as it goes: mocks so far, of which run each block is, and what was found at the last look."""

    posterior: Posterior
    where: str
    runs: tuple[str, ...]
    plan: Plan
    seed: int
    draws: int
    mocks: pd.DataFrame = field(default_factory=pd.DataFrame)
    run_of_block: list[str] = field(default_factory=list)
    results: dict[str, CalibrationRun] = field(default_factory=dict)
    ranks: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def further(self, outcomes: Mapping[int, Outcome]) -> tuple[list[tuple], list[int]]:
        """The blocks that come next, and their sizes; none where the verdict is clear."""
        start = len(self.mocks)
        if start and self._is_clear(start, outcomes):
            return [], []
        stop = next(n for n in self.plan.looks if n > start)
        self.mocks = draw_mocks(self.posterior, stop, self.seed)
        parts = [self.mocks.iloc[first : min(first + _BLOCK, stop)] for first in range(start, stop, _BLOCK)]
        self.run_of_block += [name for name in self.runs for _ in parts]
        made = self.where, self.posterior.name, self.posterior.prior_name
        jobs = [(*made, part, name, self.seed, self.draws)
                for name in self.runs for part in parts]  # fmt: skip
        return jobs, [len(part) for part in parts] * len(self.runs)

    def _is_clear(self, n: int, outcomes: Mapping[int, Outcome]) -> bool:
        """Whether n mocks decide."""
        for name in self.runs:
            blocks = [outcomes[i].value for i, of in enumerate(self.run_of_block) if of == name]
            self.results[name], self.ranks[name] = _result(self.posterior, name, self.mocks, blocks)
        found = verdict(self.posterior, self.results)
        passes = n == self.plan.enough and not found.failures
        return passes or found.is_beyond or n >= self.plan.looks[-1]


@dataclass(frozen=True)
class Block:
    """What some mocks say: ranks by quantity, TARP ranks, P(chi2) of one draw, all (n,); whether the best chi2 is too
    high, (n,); the number of draws outside the prior.
    """

    ranks: dict[str, np.ndarray]
    tarp: np.ndarray
    chi2_tail: np.ndarray
    is_high: np.ndarray
    outside: int


def _sample_block(where: str, model: str, prior: str, mocks: pd.DataFrame, name: str, seed: int, draws: int) -> Block:
    """Sample the posteriors of some mocks as the run `name` shows them; a task."""
    posterior = load_posterior(where).under(prior)
    if posterior.name != model:
        raise PopcatError(f"posterior {where} changed during the calibration: give the same command again")
    survey, z_true = posterior.survey, mocks["redshift"].to_numpy()
    data = _as_observed(mocks, name, survey, seed)
    quantities, chi2_best = posterior.quantities(data, draws, seed)
    parameters = posterior.prior.names
    theta = mocks[list(parameters)].to_numpy(dtype=np.float64)
    truth = posterior.forward.derive(theta, z_true)
    names = columns_of_run(name, posterior)
    sampled = np.stack([quantities[q] for q in parameters], axis=-1).astype(np.float64)
    outside = ~posterior.prior.contains(sampled.reshape(-1, len(parameters)), tolerance=1e-5)
    n_bands = np.isfinite(data.flux).sum(axis=1)
    return Block(
        ranks={q: ranks(truth[q].astype(np.float32), quantities[q]) for q in names},
        tarp=tarp_ranks_of(posterior, theta, z_true, sampled, quantities, mocks, seed),
        chi2_tail=chi2_tail_of(posterior, data, sampled[:, 0], quantities["redshift"][:, 0], n_bands),
        is_high=chi2_best > chi2_limit(n_bands),
        outside=int(outside.sum()),
    )


def _result(
    posterior: Posterior, name: str, mocks: pd.DataFrame, blocks: Sequence[Block]
) -> tuple[CalibrationRun, dict[str, np.ndarray]]:
    """Result of one run and the ranks by quantity."""
    all_ranks = {q: np.concatenate([block.ranks[q] for block in blocks]) for q in blocks[0].ranks}
    mag = nmgy_to_ab_mag(mocks[f"flux_{posterior.survey.selection.band}"].to_numpy())
    result = CalibrationRun(
        mode=RUNS[name],
        **summarise(all_ranks),
        tarp_max_deviation=ks_distance(np.concatenate([block.tarp for block in blocks])),
        outside_prior=sum(block.outside for block in blocks),
        # KS distance of chi2(photometry, one posterior draw) from the chi2 law: draws fit as well as the truth does
        chi2_ks=ks_distance(np.concatenate([block.chi2_tail for block in blocks])),
        high_chi2_fraction=float(np.mean(np.concatenate([block.is_high for block in blocks]))),
        by_magnitude=binned_coverage(all_ranks, mag),
        by_redshift=binned_coverage(all_ranks, mocks["redshift"].to_numpy()),
    )
    return result, all_ranks


def _as_observed(mocks, name: str, survey, seed: int) -> Observation:
    """The mocks as a run shows them to the model."""
    data = observation(mocks.assign(redshift_err=np.nan), survey)
    u = rng.uniform(seed, _STREAM_MOCK, data.object_id, len(survey.bands))
    if name == "two_bands_missing":
        hidden = np.argsort(np.argsort(u, axis=1), axis=1) < min(2, len(survey.bands) - 1)
        return Observation(np.where(hidden, np.nan, data.flux), data.flux_err, data.redshift,
                                  data.redshift_err, data.object_id)  # fmt: skip
    if name == "exact":
        return data
    sigma = _REDSHIFT_ERR * (1.0 + data.redshift)
    measured = data.redshift + sigma * rng.normal(seed, _STREAM_MOCK + 1, data.object_id, 1)[:, 0]
    if name == "unknown":
        measured, sigma = np.full(len(data), np.nan), np.full(len(data), np.nan)
    return Observation(data.flux, data.flux_err, measured, sigma, data.object_id)


def calibration_of(posterior: str | Path, prior: str | None = None) -> Calibration | None:
    """The calibration kept in a posterior's folder, under one of its priors, by default the one that `infer` takes;
    None if there is none, or it is of another state of the posterior."""
    loaded = load_posterior(posterior).under(prior)
    folder = calibration_folder(posterior_folder(posterior), loaded.prior_name)
    if not (folder / RECORD).is_file():
        return None
    found = read_calibration(folder)
    return found.judged(loaded) if found.posterior == loaded.name else None


@dataclass(frozen=True)
class Standing:
    """What a catalogue has of its posterior's calibration: one line, the metadata of columns by quantity, and limits of
    the best chi2."""

    line: str
    columns: Mapping[str, str]
    chi2_limits: Chi2Limits | None = None

    def of_columns(self, *, corrected: bool) -> dict[str, str]:
        """The metadata of columns; `corrected`: their draws are not those that were calibrated."""
        before = "; before the correction by importance sampling" if corrected else ""
        return {name: text + before for name, text in self.columns.items()}


def require_calibrated(posterior: str | Path, prior: str | None = None, *, allow: bool = False) -> Standing:
    """What the calibration of a posterior under a prior says, for the user and for the columns of a catalogue.

    Derived columns that failed are named.

    Raises PopcatError for a model that failed its calibration, or has none, unless `allow`.
    """
    found = calibration_of(posterior, prior)
    columns = {} if found is None else found.column_words()
    limits = None if found is None else found.chi2_limits
    if found is not None and found.passed:
        worst = max(one.ks or 0.0 for one in found.columns.values() if one.refuses)
        under = f" under the {found.prior} prior" if len(load_posterior(posterior).priors) > 1 else ""
        line = (f"posterior {posterior} passed its calibration{under}: {len(found.runs)} runs of {found.n:,} mocks, KS "
                f"of every parameter at most {worst:.3f}")  # fmt: skip
        by_law = [] if limits else ["flag high_chi2 by the chi2 law: `popcat calibrate --only-chi2` makes it sharper"]
        return Standing("; ".join([line, *found.remarks, *by_law]), columns, limits)
    if found is None:
        problem = f"posterior {posterior} has no calibration"
        remedy = f"run `popcat calibrate --posterior {posterior}`, which keeps the result in the posterior's folder"
    else:
        problem = f"posterior {posterior} failed its calibration ({'; '.join(found.failures[:3])})"
        remedy = "train it longer or on more galaxies"
    if not allow:
        raise PopcatError(f"{problem}: {remedy}; or say --allow-uncalibrated (allow_uncalibrated=True)")
    warnings.warn(f"{problem}, and is used all the same", UserWarning, stacklevel=3)
    return Standing(f"{problem}, and is used all the same", columns, limits)


def default_output(posterior: str | Path, prior: str) -> Path:
    """Where a calibration of this posterior is kept: in its folder, or in this one for an embedded one."""
    return local(calibration_folder("." if str(posterior) in embedded_posteriors() else posterior, prior))

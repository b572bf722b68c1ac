"""Amortized draws made exact: importance weights with the exact likelihood, and tempering where they say too little.

    w = p(x | theta, z) p(theta, z) / q(theta, z | x)

Proposals of the flow are doubled until their effective sample size (ESS) reaches the target and the tail of the weights
can be believed (popcat.checks.weights); for a galaxy that would need too many, tempered sequential Monte Carlo makes
the draws (popcat.checks.smc). They are equally weighted: resampled from the smoothed weights, or particles.

A budget is counted in evaluations at their nominal cost, never by the clock, so that a catalogue does not depend on the
machine that made it.
"""

from dataclasses import dataclass

import numpy as np

from popcat import rng
from popcat.checks.smc import N_PARTICLES, temper
from popcat.checks.weights import Target, importance, reliable_k, resample
from popcat.errors import PopcatError
from popcat.galaxies import CERTIFIED_ESS, Observation
from popcat.posterior.posterior import Posterior

FLOW, IMPORTANCE, SMC, FAILED = "flow", "flow+is", "smc", "failed"
N_PROPOSALS = 1000
"""Of a galaxy's first round; each later one doubles them."""
PROPOSAL_US, MOVE_US = 18.0, 20.0
"""Nominal cost, on one core of 2023, of a proposal and of a move of a particle: the flow is nearly all of both."""
# Particles that fewer independent ones stand behind have not forgotten a start that missed most of the posterior: their
# evidences scatter by e or more from seed to seed.
_TEMPERED_ESS = 2.0 * CERTIFIED_ESS
_MAX_ROUNDS = 4
_MIN_SWEEPS = 10
# Galaxies at a time: bounds memory, and makes the arrays of tempered particles large enough for numpy.
_BATCH = 128
_STREAM_RESAMPLE, _STREAM_THIN, _STREAM_MASS = 8, 9, 12


@dataclass(frozen=True)
class Effort:
    """What a galaxy may cost, and when it is done.

    target_ess : proposals are added, or particles tempered, below it. budget_ms : nominal milliseconds of one core.
    """

    target_ess: float = 2.0 * CERTIFIED_ESS
    budget_ms: float = 2000.0


def effort_for(certify: bool = False, budget_ms: float | None = None, target_ess: float | None = None) -> Effort | None:
    """What a user's choice comes to; None is no correction.

    Raises PopcatError for a limit without `certify`, and for one that pays for no round of proposals.

    >>> effort_for(), effort_for(True).budget_ms, effort_for(True, 50.0).target_ess
    (None, 2000.0, 200.0)
    """
    given = {name: float(value) for name, value in {"budget_ms": budget_ms, "target_ess": target_ess}.items()
             if value is not None}  # fmt: skip
    if not certify:
        if given:
            raise PopcatError(f"{' and '.join(given)} did nothing: expected it with certify=True (--certify), got it "
                              "without; add that, or leave it out")
        return None
    effort, least = Effort(**given), N_PROPOSALS * PROPOSAL_US / 1e3
    if not effort.budget_ms >= least or not effort.target_ess >= 1.0:
        raise PopcatError(f"expected a budget of at least {least:g} ms per galaxy, which pays for {N_PROPOSALS} "
                          f"proposals, and a target_ess of at least 1, got {effort.budget_ms:g} and "
                          f"{effort.target_ess:g}: raise them, or leave certify out")
    return effort


@dataclass(frozen=True)
class Certified:
    """Equally weighted draws of n galaxies, and how they were made.

    theta : (n, k, n_parameter). redshift : (n, k). The others (n,). log_evidence : ln p(x), good to about 0.05 by
    weights and 0.2 by particles; NaN if failed. ess : of the route that made the draws. efficiency : ESS of the flow's
    proposals over their number n_proposals. pareto_k : of their weights. chi2_best : smallest of all that was tried.
    route : "flow+is", "smc", or "failed", whose draws are the flow's own. route_why : of "smc": "ess" (too few
    effective proposals) or "pareto_k" (the weights' tail); of "failed": "budget" (it ended before the particles were
    there) or "no_fit" (no proposal has a likelihood above zero).
    """

    theta: np.ndarray
    redshift: np.ndarray
    log_evidence: np.ndarray
    ess: np.ndarray
    efficiency: np.ndarray
    pareto_k: np.ndarray
    chi2_best: np.ndarray
    n_proposals: np.ndarray
    route: np.ndarray
    route_why: np.ndarray


def certify(
    posterior: Posterior, data: Observation, n_draws: int, seed: int, *, effort: Effort | None = None
) -> Certified:
    """Draws of the exact posterior of n galaxies, and how far each can be believed."""
    target = Target(posterior, data)
    out = _empty(len(target), n_draws, len(posterior.prior.names))
    for start in range(0, len(target), _BATCH):
        part = slice(start, start + _BATCH)
        _Batch(target[part], seed, effort or Effort(), _view(out, part)).run()
    return out


class _Batch:
    """Galaxies that go through the rounds together; `out` is written in place."""

    def __init__(self, target: Target, seed: int, effort: Effort, out: Certified):
        self.target, self.object_id = target, target.data.object_id
        self.seed, self.effort, self.out = seed, effort, out

    def run(self):
        short = self._weigh()
        is_free = self.target.data.is_free[short]
        for rows in (short[~is_free], short[is_free]):
            self._temper(rows)
        failed = self.out.route == FAILED
        self.out.log_evidence[failed] = np.nan
        self.out.route_why[failed & (self.out.chi2_best < np.inf)] = "budget"
        self.out.route_why[self.out.route == IMPORTANCE] = ""

    def _weigh(self) -> np.ndarray:
        """Rounds of proposals; rows that fall short of the target."""
        rows, held, short = np.arange(len(self.target)), None, [np.zeros(0, dtype=int)]
        for number in range(_MAX_ROUNDS):
            if len(rows) == 0:
                break
            held = self._propose(rows, number, held)
            is_done, goes_on = self._settle(rows, held)
            short.append(rows[~is_done & ~goes_on])
            rows, held = rows[goes_on], {key: values[goes_on] for key, values in held.items()}
        return np.sort(np.concatenate(short))

    def _settle(self, rows, held) -> tuple[np.ndarray, np.ndarray]:
        """Which galaxies have enough, and which are worth another round; what is enough becomes draws."""
        found, n = importance(held["log_weight"]), held["log_weight"].shape[1]
        self._note(rows, found, held, n)
        is_tail = found.pareto_k > reliable_k(n)
        is_done = (found.ess >= self.effort.target_ess) & ~is_tail
        needed = n * self.effort.target_ess / np.maximum(found.ess, 1e-9)
        goes_on = ~is_done & (np.maximum(needed, 2 * n) <= self._most()) & (found.pareto_k < 1.0)
        # what is short of the target is good enough, unless tempering makes it better
        is_good = is_done | (~goes_on & (found.ess >= CERTIFIED_ESS) & ~is_tail)
        self._resample(rows[is_good], found.smoothed[is_good], {key: values[is_good] for key, values in held.items()})
        self.out.route_why[rows] = np.where(found.ess == 0.0, "no_fit", np.where(is_tail, "pareto_k", "ess"))
        return is_done, goes_on

    def _most(self) -> float:
        """Proposals that cost no more than tempering would, or the budget."""
        return min(self.effort.budget_ms * 1e3 / PROPOSAL_US, N_PROPOSALS * 2 ** (_MAX_ROUNDS - 1))

    def _propose(self, rows, number: int, held):
        """Proposals of a round, weighed, after those of the rounds before."""
        some, n = self.target[rows], N_PROPOSALS * 2 ** max(number - 1, 0)
        draws = some.posterior.sample(some.data, n, _round_seed(self.seed, number))
        new = {"theta": draws.theta, "redshift": draws.redshift, "log_weight": draws.log_weight, "chi2": draws.chi2}
        return new if held is None else {k: np.concatenate([held[k], new[k]], axis=1) for k in new}

    def _note(self, rows, found, held, n):
        out = self.out
        out.log_evidence[rows], out.ess[rows], out.pareto_k[rows] = found.log_evidence, found.ess, found.pareto_k
        out.efficiency[rows], out.n_proposals[rows] = found.ess / n, n
        out.chi2_best[rows] = held["chi2"].min(axis=1)
        # until something better is known: the flow's own draws
        some = np.arange(out.theta.shape[1]) % n
        out.theta[rows], out.redshift[rows] = held["theta"][:, some], held["redshift"][:, some]
        out.route[rows] = FAILED

    def _resample(self, rows, weight, held):
        u = rng.uniform(self.seed, _STREAM_RESAMPLE, self.object_id[rows], 1)[:, 0]
        chosen = resample(weight, u, self.out.theta.shape[1])
        self.out.theta[rows] = np.take_along_axis(held["theta"], chosen[:, :, None], axis=1)
        self.out.redshift[rows] = np.take_along_axis(held["redshift"], chosen, axis=1)
        self.out.route[rows] = IMPORTANCE

    def _temper(self, rows):
        """Tempered particles for galaxies whose redshifts are all free, or all given."""
        out = self.out
        left_us = self.effort.budget_ms * 1e3 - out.n_proposals[rows] * PROPOSAL_US
        sweeps = (left_us / (N_PARTICLES * MOVE_US)).astype(int)
        can = (sweeps >= _MIN_SWEEPS) & (out.ess[rows] > 0.0)
        rows, sweeps = rows[can], sweeps[can]
        if len(rows) == 0:
            return
        some, ids = self.target[rows], self.object_id[rows]

        def log_ratio(x, at):
            part = some[at]
            return part.transform(x).log_weight

        found = temper(log_ratio, some.n_numbers, ids, self.seed, max_sweeps=sweeps)
        there = np.flatnonzero((found.beta >= 1.0) & (found.ess >= _TEMPERED_ESS))
        self._take(rows[there], some[there], ids[there], found.x[there])
        at = rows[there]
        out.log_evidence[at], out.ess[at], out.route[at] = found.log_evidence[there], found.ess[there], SMC

    def _take(self, rows, some: Target, ids, x):
        """Particles, evenly thinned, as draws."""
        if len(rows) == 0:
            return
        n, k, _ = x.shape
        draws = some.transform(x, rng.uniform(self.seed, _STREAM_MASS, ids, k))
        self.out.chi2_best[rows] = np.minimum(self.out.chi2_best[rows], draws.chi2.min(axis=1))
        u = rng.uniform(self.seed, _STREAM_THIN, ids, 1)[:, 0]
        chosen = resample(np.full((n, k), 1.0 / k), u, self.out.theta.shape[1])
        self.out.theta[rows] = np.take_along_axis(draws.theta, chosen[:, :, None], axis=1)
        self.out.redshift[rows] = np.take_along_axis(draws.redshift, chosen, axis=1)


def _round_seed(seed: int, number: int) -> int:
    """Rounds are other random numbers; the first has those of an uncertified run."""
    return seed + (number << 40)


def _empty(n: int, k: int, n_parameter: int) -> Certified:
    evidence, ess, efficiency, pareto_k, chi2 = (np.full(n, np.nan) for _ in range(5))
    return Certified(np.empty((n, k, n_parameter)), np.empty((n, k)), evidence, ess, efficiency, pareto_k, chi2,
                     np.zeros(n, dtype=np.int32), np.full(n, FAILED, dtype=object),
                     np.full(n, "", dtype=object))  # fmt: skip


def _view(out: Certified, part: slice) -> Certified:
    return Certified(*(values[part] for values in vars(out).values()))

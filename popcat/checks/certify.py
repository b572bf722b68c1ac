"""Amortized draws made exact: importance weights with the exact likelihood, and tempering where they say too little.

    w = p(x | theta, z) p(theta, z) / q(theta, z | x)

A first, small round of proposals tells how many a galaxy needs for the effective sample size (ESS) that is asked for,
and the next round makes them, until the ESS is there and the tail of the weights can be believed
(popcat.checks.weights); for a galaxy that would need too many, tempered sequential Monte Carlo makes the draws
(popcat.checks.smc), twice where the outcome is in doubt. They are equally weighted: resampled from the smoothed
weights, or particles. Where that fails, proposals can be fitted to the galaxy (popcat.posterior.per_galaxy) and
corrected in the flow's place.

A budget is counted in evaluations at their nominal cost, never by the clock, so that a catalogue does not depend on the
machine that made it.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from popcat import rng
from popcat.checks.smc import N_PARTICLES, Particles, temper
from popcat.checks.weights import Target, importance, reliable_k, resample
from popcat.errors import PopcatError
from popcat.forward.noise import Noise
from popcat.galaxies import CERTIFIED_ESS, Observation, chi2_limit, observed
from popcat.galaxy_model import GalaxyModel
from popcat.posterior.draws import Draws
from popcat.posterior.from_prior import prior_posterior
from popcat.posterior.posterior import Posterior
from popcat.survey import Survey

FLOW, IMPORTANCE, SMC, FAILED = "flow", "flow+is", "smc", "failed"
N_PROPOSALS = 256
"""Of a galaxy's first round, or as many as there shall be draws, of a flow."""
_TOTALS = (256, 320, 384, 448, 512, 576, 640, 704, 768, 896, 1024, 1152, 1280, 1536, 1792, 2048, 2560, 3072, 4096,
           5120, 6144, 7168, 8192, 10240, 12288, 14336, 16384, 20480, 24576, 28672, 32768)  # fmt: skip
"""Proposals after any later round: few enough sizes that galaxies go together."""
_MARGIN = 1.05
"""Proposals beyond those that the ESS so far asks for: it scatters."""
PROPOSAL_US = 18.0
"""Nominal cost, on one core of 2023, of a flow's proposal: the flow is nearly all of it."""
# Particles that fewer independent ones stand behind have not forgotten a start that missed most of the posterior: their
# evidences scatter by e or more from seed to seed.
_TEMPERED_ESS = 2.0 * CERTIFIED_ESS
# Evidences of two independent rescues differ by less, unless one of them has missed a part of the posterior.
_AGREEMENT = 0.7
_MIN_SWEEPS = 10
# Galaxies at a time: bounds memory, and makes the arrays of tempered particles large enough for numpy, or for a GPU.
_BATCH, _DEVICE_BATCH = 128, 4096
_MOST_DRAWS, _DEVICE_DRAWS = 2**18, 2**20
"""Of a round, at a time: a draw takes 0.6 kB."""
_MOST_PARTICLES = 8192
_STREAM_RESAMPLE, _STREAM_THIN, _STREAM_MASS = 8, 9, 12


@dataclass(frozen=True)
class _Costs:
    """Nominal microseconds of a proposal and of a move of a particle, proposals of the first round, and proposals for
    each particle that cost no more than tempering, which moves each of them more often than that. most_below : how far
    below the proposals' evidence, in ln, that of particles may be; those of a fit may all begin at one of its peaks."""

    proposal_us: float
    move_us: float
    n_first: int
    per_particle: int
    most_below: float


_OF_FLOW = _Costs(PROPOSAL_US, 20.0, N_PROPOSALS, 16, np.inf)
# Of proposals that were fitted to the galaxy: no flow is evaluated, and fewer of them are effective.
_OF_FITTED = _Costs(8.0, 8.0, 2048, 64, 2.0)


@dataclass(frozen=True)
class Effort:
    """What a galaxy may cost, and when it is done.

    target_ess : proposals are added, or particles tempered, below it. budget_ms : nominal milliseconds of one core.
    refit : where the flow's draws cannot be corrected, proposals are fitted to the galaxy, which takes about half a
    second of one core, and have the same budget.
    """

    target_ess: float = 2.0 * CERTIFIED_ESS
    budget_ms: float = 2000.0
    refit: bool = False

    @property
    def settings(self) -> dict[str, float]:
        """What is written down; without `refit` as before there was one."""
        return {name: value for name, value in vars(self).items() if value is not False}


def effort_for(
    certify: bool = False, budget_ms: float | None = None, target_ess: float | None = None, refit: bool = False
) -> Effort | None:
    """What a user's choice comes to; None is no correction.

    Raises PopcatError for a limit without `certify`, and for one that pays for no round of proposals.

    >>> effort_for(), effort_for(True).budget_ms, effort_for(True, 50.0).target_ess
    (None, 2000.0, 200.0)
    """
    given = {name: float(value) for name, value in {"budget_ms": budget_ms, "target_ess": target_ess}.items()
             if value is not None}  # fmt: skip
    if not certify:
        if idle := [*given, *(["refit"] if refit else [])]:
            raise PopcatError(f"{' and '.join(idle)} did nothing: expected it with certify=True (--certify), got it "
                              "without; add that, or leave it out")
        return None
    effort, least = Effort(**given, refit=refit), N_PROPOSALS * PROPOSAL_US / 1e3
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
    there), "disagreement" (of the evidences of two sets of particles, or of theirs and that of proposals fitted to the
    galaxy) or "no_fit" (no proposal has a likelihood above zero). With `Effort.refit` the proposals may be those that
    were fitted to the galaxy.
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
    size = _BATCH if posterior.device == "cpu" else _DEVICE_BATCH
    for start in range(0, len(target), size):
        part = slice(start, start + size)
        _Batch(target[part], seed, effort or Effort(), _view(out, part)).run()
    if effort is not None and effort.refit and posterior.flows:
        _refit(target, n_draws, seed, effort, out)
    return out


def _refit(target: Target, n_draws: int, seed: int, effort: Effort, out: Certified) -> None:
    """Proposals that are fitted to each galaxy where those of the flow failed; in place."""
    rows = np.flatnonzero(out.route == FAILED)
    if len(rows) == 0:
        return
    again = certify(_without_flow(target.posterior), target.data[rows], n_draws, seed,
                    effort=replace(effort, refit=False))  # fmt: skip
    good = again.route != FAILED
    chi2 = np.minimum(out.chi2_best[rows], again.chi2_best)
    for name, values in vars(out).items():
        values[rows[good]] = vars(again)[name][good]
    out.chi2_best[rows] = chi2


def _without_flow(posterior: Posterior) -> Posterior:
    """A posterior of the same survey, galaxy model, noise and prior whose proposals are fitted."""
    made = (one.model_dump_json() for one in (posterior.survey, posterior.galaxy_model, posterior.noise))
    return _flowless(*made, posterior.prior_name)


@lru_cache(maxsize=4)
def _flowless(survey: str, galaxy_model: str, noise: str, prior: str) -> Posterior:
    """Made once a process, of settings as JSON."""
    return prior_posterior(Survey.model_validate_json(survey), GalaxyModel.model_validate_json(galaxy_model),
                           prior=prior, noise=Noise.model_validate_json(noise))  # fmt: skip


class _Batch:
    """Galaxies that go through the rounds together; `out` is written in place."""

    def __init__(self, target: Target, seed: int, effort: Effort, out: Certified):
        self.target, self.object_id = target, target.data.object_id
        self.seed, self.effort, self.out = seed, effort, out
        self._at_once = _MOST_DRAWS if target.posterior.device == "cpu" else _DEVICE_DRAWS
        self._costs = _OF_FLOW if target.posterior.flows else _OF_FITTED

    def run(self):
        short = self._weigh()
        is_free = self.target.data.is_free[short]
        for rows in (short[~is_free], short[is_free]):
            self._temper(rows)
        failed = self.out.route == FAILED
        self.out.log_evidence[failed] = np.nan
        why = self.out.route_why
        why[failed & (self.out.chi2_best < np.inf) & (why != "disagreement")] = "budget"
        why[self.out.route == IMPORTANCE] = ""

    def _weigh(self) -> np.ndarray:
        """Rounds of proposals; rows that fall short of the target."""
        short = [np.zeros(0, dtype=int)]
        first = max(N_PROPOSALS, min(max(self._costs.n_first, self.out.theta.shape[1]), int(self._most())))
        waiting: list[tuple] = [(np.arange(len(self.target)), first, 0, None)] if len(self.target) else []
        while waiting:
            rows, total, number, held = waiting.pop()
            held = self._propose(rows, total, number, held)
            is_done, wanted = self._settle(rows, held)
            short.append(rows[~is_done & (wanted == 0)])
            for size in map(int, np.unique(wanted[wanted > 0])):
                here = np.flatnonzero(wanted == size)
                for some in np.array_split(here, -(-len(here) * size // self._at_once)):
                    waiting.append((rows[some], size, number + 1, {key: of[some] for key, of in held.items()}))
        return np.sort(np.concatenate(short))

    def _settle(self, rows, held) -> tuple[np.ndarray, np.ndarray]:
        """Which galaxies have enough, and how many proposals in all the others want, 0 for none; what is enough becomes
        draws."""
        found, n = importance(held["log_weight"]), held["log_weight"].shape[1]
        self._note(rows, found, held, n)
        is_tail = found.pareto_k > reliable_k(n)
        is_done = (found.ess >= self.effort.target_ess) & ~is_tail
        needed = np.maximum(_MARGIN * n * self.effort.target_ess / np.maximum(found.ess, 1e-9), n + 1)
        needed = np.where(is_tail, np.maximum(needed, 2 * n), needed)
        sizes = np.array([*_TOTALS, 0])
        wanted = sizes[np.searchsorted(sizes[:-1], needed)]
        wanted[is_done | (wanted > self._most()) | ~(found.pareto_k < 1.0)] = 0
        # what is short of the target is good enough, unless tempering makes it better
        is_good = is_done | ((wanted == 0) & (found.ess >= CERTIFIED_ESS) & ~is_tail)
        self._resample(rows[is_good], found.smoothed[is_good], {key: values[is_good] for key, values in held.items()})
        self.out.route_why[rows] = np.where(found.ess == 0.0, "no_fit", np.where(is_tail, "pareto_k", "ess"))
        return is_done, wanted

    def _most(self) -> float:
        """Proposals that cost no more than tempering would, or the budget."""
        costs = self._costs
        return min(self.effort.budget_ms * 1e3 / costs.proposal_us, costs.per_particle * self._n_particles(),
                   _TOTALS[-1])  # fmt: skip

    def _propose(self, rows, total: int, number: int, held):
        """Proposals of a round, weighed, after those of the rounds before: so many in all."""
        some, n = self.target[rows], total - (0 if held is None else held["chi2"].shape[1])
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
        left_us = self.effort.budget_ms * 1e3 - out.n_proposals[rows] * self._costs.proposal_us
        rows, left_us = rows[out.ess[rows] > 0.0], left_us[out.ess[rows] > 0.0]
        of_proposals = out.log_evidence[rows]
        at, found, left_us = self._particles(rows, left_us, self.seed)
        if len(at) == 0:
            return
        some, ids = self.target[rows[at]], self.object_id[rows[at]]
        draws = some.transform(found.x, rng.uniform(self.seed, _STREAM_MASS, ids, found.x.shape[1]))
        chi2 = np.minimum(out.chi2_best[rows[at]], draws.chi2.min(axis=1))
        limit = chi2_limit(observed(some.data.flux, some.data.flux_err).sum(axis=1))
        doubted = np.flatnonzero((chi2 > limit) | (found.log_evidence < of_proposals[at] - _AGREEMENT))
        again, second, _ = self._particles(rows[at[doubted]], left_us[doubted], self.seed + 1)
        agrees = np.ones(len(at), dtype=bool)
        agrees[doubted] = False
        twice = doubted[again]
        apart = np.abs(second.log_evidence - found.log_evidence[twice])
        is_below = found.log_evidence[twice] < of_proposals[at[twice]] - self._costs.most_below
        agrees[twice] = (apart < _AGREEMENT) & ~is_below
        out.route_why[rows[at[twice[~agrees[twice]]]]] = "disagreement"
        good = np.flatnonzero(agrees)
        self._take(rows[at[good]], ids[good], draws, good)
        done = rows[at[good]]
        out.chi2_best[rows[at]] = chi2
        out.log_evidence[done], out.ess[done], out.route[done] = found.log_evidence[good], found.ess[good], SMC

    def _particles(self, rows, left_us, seed) -> tuple[np.ndarray, Particles, np.ndarray]:
        """Particles at the posterior: of which of the rows, themselves, and the microseconds that are left of these."""
        k, move_us = self._n_particles(), self._costs.move_us
        sweeps = (left_us / (k * move_us)).astype(int)
        can = np.flatnonzero(sweeps >= _MIN_SWEEPS)
        some, ids = self.target[rows[can]], self.object_id[rows[can]]

        def log_ratio(x, at):
            return some[at].transform(x).log_weight

        found = temper(log_ratio, some.n_numbers, ids, seed, max_sweeps=sweeps[can], n_particles=k)
        there = np.flatnonzero((found.beta >= 1.0) & (found.ess >= _TEMPERED_ESS))
        left_us = left_us[can] - found.sweeps * (k * move_us)
        return can[there], found[there], left_us[there]

    def _n_particles(self) -> int:
        """Of a galaxy: for more effective draws than usual, more."""
        wanted = min(1.25 * self.effort.target_ess, _MOST_PARTICLES)
        return max(N_PARTICLES, 16 * int(np.ceil(wanted / 16)))

    def _take(self, rows, ids, draws: Draws, good):
        """Particles, evenly thinned, as draws."""
        n, k = len(rows), draws.redshift.shape[1]
        u = rng.uniform(self.seed, _STREAM_THIN, ids, 1)[:, 0]
        chosen = resample(np.full((n, k), 1.0 / k), u, self.out.theta.shape[1])
        self.out.theta[rows] = np.take_along_axis(draws.theta[good], chosen[:, :, None], axis=1)
        self.out.redshift[rows] = np.take_along_axis(draws.redshift[good], chosen, axis=1)


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

"""Independent samplers with the exact likelihood, one galaxy at a time, and how their posteriors compare with ours.

They share nothing with popcat's inference but the forward model and the prior: no flow, no weights of it. "prior"
accepts draws of the prior: for a few bands it is the quickest, and cannot fail to converge unnoticed, because it has no
chain and no mode that could be missed. "emcee" and "nautilus" are for many or precise bands, where it accepts too few.

Photometry in a few bands says little about most parameters, and a million prior draws cost a second or two. Only the
mass would waste nearly all of them, so it is drawn where the photometry is probable: fluxes are proportional to
s = 10^(change of log_mstar_formed), so over s the likelihood is a Gaussian of mean a and precision S,

    a = sum(f d / err^2) / S,  S = sum(f^2 / err^2)

of the model's fluxes f and the data d. With the prior p of log_mstar_formed and s from that Gaussian the weight is
L(s = a) sqrt(2 pi / S) p / (s ln 10). Draws are accepted with their weight over the largest: independent draws of the
exact posterior. Mean weight: the evidence. A measured redshift is drawn from its own Gaussian times its prior.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import ndtr, ndtri

from popcat.distributions import Law, tabulated_quantile
from popcat.errors import PopcatError
from popcat.forward.flux_errors import FluxErrors
from popcat.galaxies import MIN_REDSHIFT_ERR, observed
from popcat.physical.prior import JointPrior, redshift_law_of
from popcat.prior import Prior
from popcat.units import LN_2PI

SAMPLERS = ("prior", "emcee", "nautilus")
N_WALKERS, _BLOCK, MAX_STEPS = 64, 1000, 60_000
"""Walkers; steps between estimates of the autocorrelation time; steps at most."""
# Of the sampler "prior": draws of the prior that stand for a step; accepted ones with which it has converged.
_PER_STEP, _ENOUGH = 256, 1000
LONG_ENOUGH = 25.0
"""A chain has converged when it is so many autocorrelation times long: 64 walkers then hold 1,300 independent draws."""
_EDGE = 1e-9
_MASS = "log_mstar_formed"
# A measured redshift: so many errors to each side, at so many nodes.
_REACH, _N_REDSHIFT = 6.0, 2001
_MIN_C2ST = 40
# Under the physical prior: the mean optical depth of what is drawn, but for this part of the draws.
_LITTLE_DUST, _ANY_DUST = 0.25, 0.2


@dataclass(frozen=True)
class Galaxy:
    """One galaxy's photometry and redshift, and the forward model and prior it is compared with.

    flux, flux_err : (n_band,), NaN where not observed. forward, prior, redshift_range : as elsewhere. physical : the
    physical prior, where the posterior is under that; it counts as part of the likelihood, but for the redshift's.
    flux_errors : of the survey, where its errors depend on the redshift.
    """

    forward: Callable
    prior: Prior
    redshift_range: tuple[float, float]
    flux: np.ndarray
    flux_err: np.ndarray
    redshift: float
    redshift_err: float
    physical: JointPrior | None = None
    flux_errors: FluxErrors | None = None

    def err_at(self, redshift: np.ndarray) -> np.ndarray:
        """Errors of the observed bands at redshift (n,): (n, n_seen), or (1, n_seen)."""
        seen = observed(self.flux, self.flux_err)
        if self.flux_errors is None or self.flux_errors.law is None:
            return self.flux_err[None, seen]
        return self.flux_errors.total(self.flux, self.flux_err, redshift)[:, seen]

    @property
    def redshift_law(self) -> Law:
        """The prior of a free redshift."""
        return redshift_law_of(self.prior, self.redshift_range, self.physical)

    @property
    def is_free(self) -> bool:
        """Whether the redshift is a parameter."""
        return bool(np.isnan(self.redshift) or self.redshift_err > MIN_REDSHIFT_ERR)

    @property
    def n_dim(self) -> int:
        """Coordinates: of the unconstrained parameters, standard normal under the prior; then a free redshift's."""
        return self.prior.n_unconstrained + self.is_free

    def to_theta(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """theta (n, n_parameter) and redshift (n,) of w (n, n_dim)."""
        if not self.is_free:
            return self.prior.from_unconstrained(w), np.full(len(w), self.redshift)
        law = self.redshift_law
        return self.prior.from_unconstrained(w[:, :-1]), law.inside(law.from_unit(ndtr(w[:, -1])))

    def to_w(self, theta: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """w (n, n_dim) of theta (n, n_parameter) and redshift (n,)."""
        w = ndtri(np.clip(self.prior.to_unit(theta), _EDGE, 1.0 - _EDGE))
        if not self.is_free:
            return w
        u = self.redshift_law.to_unit(redshift)
        return np.column_stack([w, ndtri(np.clip(u, _EDGE, 1.0 - _EDGE))])

    def draw_prior(self, random: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        """theta (n, n_parameter) and redshift (n,) of the prior; a measured redshift is of prior times Gaussian.

        Under the physical prior they are those of the galaxy model's own, most of them with little dust (`log_ratio`).
        """
        theta, redshift = self.to_theta(random.standard_normal((n, self.n_dim)))
        if self.is_free and not np.isnan(self.redshift):
            redshift = tabulated_quantile(random.uniform(size=n), *self.measured_redshift[:2])
        for law, column in self._dust:
            little = law.low - _LITTLE_DUST * np.log1p(-random.uniform(size=n) * _within(law))
            theta[:, column] = np.where(random.uniform(size=n) < _ANY_DUST, theta[:, column], little)
        return theta, redshift

    def log_ratio(self, theta: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """ln of the prior over what `draw_prior` draws from, (n,): 0 but for the physical prior."""
        if self.physical is None:
            return np.zeros(len(theta))
        found = self.physical.log_ratio(theta, redshift)
        for law, column in self._dust:
            x = theta[:, column]
            little = np.exp(-(x - law.low) / _LITTLE_DUST) / (_LITTLE_DUST * _within(law))
            found -= np.log(_ANY_DUST + (1.0 - _ANY_DUST) * little * np.exp(-law.log_density(x)))
        return found

    @property
    def _dust(self) -> list[tuple[Law, int]]:
        """Law and column of optical depths that most galaxies of the physical prior have little of."""
        free = [name for name in ("tau_ism", "tau_bc") if self.physical is not None and name in self.prior.laws]
        return [(self.prior.laws[name], self.prior.names.index(name)) for name in free]

    @cached_property
    def measured_redshift(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Redshifts; prior times Gaussian there, in units of the largest; ln of the integral of that product."""
        law, reach = self.redshift_law, _REACH * self.redshift_err
        z = np.linspace(max(law.low, self.redshift - reach), min(law.high, self.redshift + reach), _N_REDSHIFT)
        log_value = law.log_density(z) - 0.5 * ((z - self.redshift) / self.redshift_err) ** 2
        value = np.exp(log_value - log_value.max())
        norm = log_value.max() + np.log(np.trapezoid(value, z)) - np.log(self.redshift_err) - 0.5 * np.log(2.0 * np.pi)
        return z, value, float(norm)

    def log_likelihood(self, w: np.ndarray) -> np.ndarray:
        """ln p(photometry, measured redshift | w), (n,), times the physical prior over the model's own."""
        theta, redshift = self.to_theta(w)
        seen = observed(self.flux, self.flux_err)
        err = self.err_at(redshift)
        residual = (self.forward(theta, redshift)[:, seen] - self.flux[seen]) / err
        result = -0.5 * np.sum(residual**2, axis=1) - np.sum(np.log(err) + 0.5 * np.log(2.0 * np.pi), axis=1)
        if self.physical is not None:
            result += self.physical.log_ratio(theta, redshift)
        if self.is_free and not np.isnan(self.redshift):
            pull = (redshift - self.redshift) / self.redshift_err
            result += -0.5 * pull**2 - np.log(self.redshift_err) - 0.5 * np.log(2.0 * np.pi)
        return result

    def log_posterior(self, w: np.ndarray) -> np.ndarray:
        """ln p(photometry, w), (n,), but for the prior's constant."""
        return self.log_likelihood(w) - 0.5 * np.sum(w**2, axis=1)


@dataclass(frozen=True)
class Chain:
    """Draws w (n, n_dim) of a galaxy's posterior and whether they can be believed.

    n_effective : independent draws among them. steps, autocorrelation : of emcee. log_evidence : not of emcee.
    """

    w: np.ndarray
    converged: bool
    n_effective: float
    steps: int = 0
    autocorrelation: float = np.nan
    log_evidence: float = np.nan


def _within(law: Law) -> float:
    """The part of an exponential law of little dust that is inside a range."""
    return float(-np.expm1(-(law.high - law.low) / _LITTLE_DUST))


def sample_galaxy(galaxy: Galaxy, start: np.ndarray, seed: int, *, sampler: str, max_steps: int = MAX_STEPS) -> Chain:
    """The posterior of one galaxy. start (n, n_dim) is where emcee's walkers may begin; others begin with the prior.

    Raises PopcatError if the sampler is not installed or unknown.
    """
    if sampler not in SAMPLERS:
        raise PopcatError(f'no sampler "{sampler}": expected {", ".join(SAMPLERS[:-1])} or {SAMPLERS[-1]}')
    return {"prior": _prior, "emcee": _emcee, "nautilus": _nautilus}[sampler](galaxy, start, seed, max_steps)


def _prior(galaxy: Galaxy, start, seed: int, max_steps: int) -> Chain:
    """Accepted draws of the prior; converged if they are _ENOUGH."""
    seen, prior = observed(galaxy.flux, galaxy.flux_err), galaxy.prior
    if _MASS not in prior.laws:
        raise PopcatError(f'the sampler "prior" draws the mass by itself: expected {_MASS} to be free')
    theta, redshift, log_evidence = accept_from_prior(
        lambda theta, redshift: galaxy.forward(theta, redshift)[:, seen], prior.laws[_MASS], galaxy.draw_prior,
        galaxy.flux[seen], galaxy.err_at, seed, max_evaluations=_PER_STEP * max_steps, log_ratio=galaxy.log_ratio,
    )  # fmt: skip
    if galaxy.is_free and not np.isnan(galaxy.redshift):
        log_evidence += galaxy.measured_redshift[2]
    return Chain(galaxy.to_w(theta, redshift), len(theta) >= _ENOUGH, float(len(theta)), log_evidence=log_evidence)


def _emcee(galaxy: Galaxy, start, seed: int, max_steps: int) -> Chain:
    """Affine-invariant and differential-evolution moves, until the chain is LONG_ENOUGH; a fifth of it is discarded."""
    emcee = _import("emcee")
    random = np.random.RandomState(seed % 2**32)
    moves = [(emcee.moves.DEMove(), 0.6), (emcee.moves.DESnookerMove(), 0.1), (emcee.moves.StretchMove(), 0.3)]
    sampler = emcee.EnsembleSampler(N_WALKERS, galaxy.n_dim, galaxy.log_posterior, vectorize=True, moves=moves)
    begin = start[random.randint(len(start), size=N_WALKERS)]
    state = emcee.State(begin + 1e-3 * random.normal(size=begin.shape), random_state=random.get_state())
    steps, tau = 0, np.inf
    while steps < max_steps and not steps > LONG_ENOUGH * tau:
        state = sampler.run_mcmc(state, min(_BLOCK, max_steps - steps), skip_initial_state_check=True)
        steps = sampler.iteration
        found = float(np.max(sampler.get_autocorr_time(discard=steps // 5, tol=0)))
        tau = found if np.isfinite(found) else np.inf
    thin = max(int(min(tau, steps / 20) / 2), 1)
    w = sampler.get_chain(discard=steps // 5, thin=thin, flat=True)
    return Chain(w, steps > LONG_ENOUGH * tau, N_WALKERS * 0.8 * steps / tau, steps, tau)


def _nautilus(galaxy: Galaxy, start, seed: int, max_steps: int) -> Chain:
    """Nested importance sampling (Lange 2023) of the prior's unit cube."""
    nautilus = _import("nautilus")

    def log_likelihood(u):
        return galaxy.log_likelihood(ndtri(np.clip(np.atleast_2d(u), _EDGE, 1.0 - _EDGE)))

    sampler = nautilus.Sampler(lambda u: u, log_likelihood, n_dim=galaxy.n_dim, n_live=1000, vectorized=True, seed=seed,
                               pass_dict=False)  # fmt: skip
    done = sampler.run(n_eff=4000, verbose=False)
    points, log_weight, _ = sampler.posterior()
    weight = np.exp(log_weight - log_weight.max())
    random = np.random.default_rng(seed)
    chosen = random.choice(len(points), size=4000, p=weight / weight.sum())
    w = ndtri(np.clip(points[chosen], _EDGE, 1.0 - _EDGE))
    return Chain(w, bool(done), float(sampler.n_eff), log_evidence=float(sampler.log_z))


def quantile_shifts(ours: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Differences of the quantiles p16, p50, p84 of two samples, in the reference's sigma, (p84 - p16) / 2.

    >>> quantile_shifts(np.arange(101.0) + 1, np.arange(101.0))["p50"].__round__(3)
    0.029
    """
    a, b = (np.percentile(values, (16, 50, 84)) for values in (ours, reference))
    sigma = max(0.5 * (b[2] - b[0]), 1e-12)
    return dict(zip(("p16", "p50", "p84"), ((a - b) / sigma).tolist(), strict=True))


def c2st(ours: np.ndarray, reference: np.ndarray, seed: int = 0) -> float:
    """Classifier two-sample test: accuracy, cross-validated five-fold, of a network that is to tell two samples (n, d)
    apart; 0.5 if it cannot (Lopez-Paz & Oquab 2017). NaN with too few distinct draws.

    Draws that resampling repeated count once: a copy in another fold would give its origin away.
    """
    _import("sklearn", "scikit-learn")
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    random = np.random.default_rng(seed)
    ours, reference = np.unique(ours, axis=0), np.unique(reference, axis=0)
    n = min(len(ours), len(reference))
    if n < _MIN_C2ST:
        return np.nan
    parts = [random.permutation(values)[:n] for values in (ours, reference)]
    width = 10 * ours.shape[1]
    network = MLPClassifier((width, width), alpha=1e-2, early_stopping=True, n_iter_no_change=20, max_iter=400,
                            random_state=seed)  # fmt: skip
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    labels = np.repeat([0, 1], n)
    scores = cross_val_score(make_pipeline(StandardScaler(), network), np.concatenate(parts), labels, cv=folds)
    return float(scores.mean())


def _import(module: str, package: str | None = None):
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = {"nautilus": "nautilus-sampler"}.get(module, package or module)
        raise PopcatError(f'{name} is not installed: pip install {name}, or pip install "popcat[bench]"') from error


N_DRAWS = 2000
"""Accepted draws that are enough."""
_BATCH = 50_000


def accept_from_prior(
    forward: Callable, mass: Law, draw: Callable, flux: np.ndarray, err_at: Callable, seed: int, *,
    max_evaluations: int, log_ratio: Callable = lambda theta, redshift: np.zeros(len(theta)),
) -> tuple[np.ndarray, np.ndarray, float]:  # fmt: skip
    """theta (n, d) and redshift (n,) of the exact posterior, and ln of the evidence of the fluxes.

    forward : theta (m, d), redshift (m,) -> fluxes (m, n_band), theta's first column log10 of the mass, whose prior is
    `mass`, times exp(log_ratio(theta, redshift)). draw : (random, m) -> theta, redshift from the prior.
    flux : (n_band,), all observed. err_at : redshift (m,) -> errors (m, n_band) or (1, n_band).
    """
    random = np.random.default_rng(seed)
    kept: list[tuple] = []
    top, log_sum, n = -np.inf, -np.inf, 0
    while n < max_evaluations and len(_accepted(kept, top)[0]) < N_DRAWS:
        theta, redshift = draw(random, _BATCH)
        err = err_at(redshift)
        log_weight = _weigh(theta, forward(theta, redshift) / err, flux / err, mass, random)
        log_weight -= np.sum(np.log(err), axis=1)
        there = np.flatnonzero(log_weight > -np.inf)
        log_weight[there] += log_ratio(theta[there], redshift[there])
        log_uniform = np.log(random.uniform(size=_BATCH))
        top = max(top, float(log_weight.max()))
        log_sum = float(np.logaddexp(log_sum, np.logaddexp.reduce(log_weight)))
        good = (log_weight > -np.inf) & (log_uniform + top < log_weight)
        kept.append((theta[good], redshift[good], log_weight[good], log_uniform[good]))
        n += _BATCH
    theta, redshift = _accepted(kept, top)
    return theta, redshift, log_sum - np.log(n)


def _weigh(theta, model, data, mass, random) -> np.ndarray:
    """ln of the weights (n,), fluxes in units of their errors, (n, n_band); the mass of theta is set in place."""
    precision = np.sum(model**2, axis=1)
    best = np.sum(model * data, axis=1) / precision
    s = best + random.standard_normal(len(best)) / np.sqrt(precision)
    chi2 = np.sum((data - best[:, None] * model) ** 2, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # a negative mass has no weight
        theta[:, 0] += np.log10(s)
        log_weight = -0.5 * (chi2 + data.shape[1] * LN_2PI) + 0.5 * (LN_2PI - np.log(precision)) - np.log(s)
    # no number, of a negative mass, is outside the prior
    return np.where(s > 0.0, log_weight, -np.inf) + mass.log_density(theta[:, 0]) - np.log(np.log(10.0))


def _accepted(kept, top) -> tuple[np.ndarray, np.ndarray]:
    """theta and redshift of draws that are accepted, now that the largest weight is known."""
    if not kept:
        return np.empty((0, 0)), np.empty(0)
    theta, redshift, log_weight, log_uniform = (np.concatenate(values) for values in zip(*kept, strict=True))
    good = log_uniform + top < log_weight
    return theta[good], redshift[good]

"""Draws of a posterior without a flow: proposals are fitted to each galaxy by adaptive importance sampling.

In coordinates x the prior is N(x; 0, 1), and the posterior N(x; 0, 1) L(x): L is the likelihood, averaged over the
mass, times the physical prior over the galaxy model's own where draws are under that. A redshift that is not given is
the last coordinate: its prior, times the Gaussian of one that was measured.

The first points are of the prior. From the best of them, and from some that stand for all, the highest points of the
posterior are sought (popcat.posterior.modes), and the next points are of the Gaussians there. Then, round by round: all
points so far weigh

    (N(x; 0, 1) L(x) / g(x))^b,    g = sum of the densities that points were drawn from, in proportion to their numbers

(the deterministic mixture of Veach & Guibas 1995; Cornuet et al. 2012, arXiv 0907.1254), with the largest b <= 1 at
which enough of them are effective (weights are flattened so by Koblents & Miguez 2015, arXiv 1208.5600); a mixture of
Gaussians is fitted to them (popcat.posterior.gaussians), and the next points are drawn from that, until b is 1. The
mixture is what draws are proposed from. It is a function of the galaxy's photometry and object_id alone, so that draws
and their weights are independent of it.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from scipy.special import logsumexp, ndtr, ndtri, softmax

from popcat import rng
from popcat.galaxies import Observation, observed
from popcat.posterior.draws import Draws
from popcat.posterior.gaussians import DEFENSIVE, WIDEN, Gaussians, fit_gaussians, log_standard, moments
from popcat.posterior.modes import climb
from popcat.posterior.on_cpu import OnCPU

N_FIRST, N_ROUND, MAX_ROUNDS = 8192, 2048, 40
"""Points of the prior, points of each later round, and rounds at most."""
N_CLIMBS, N_STEPS = 16, 12
"""Points from which the highest points are sought, half of them the best of the prior's; steps of each. As many of the
physical prior's, where draws are under that."""
N_PHYSICAL, LEAST_MASS = 4096, 9.0
"""Points of the physical prior; log10 of the masses of half of them at least."""
EFFECTIVE, ENOUGH, LAST_ROUNDS = 400.0, 1500.0, 4
"""Effective points that a mixture is fitted to, at least; how many there shall be for the last; rounds for that."""
PER_COMPONENT, MAX_COMPONENTS = 150.0, 12
"""Effective points for each component, and components at most."""
ALIKE = 6
"""Of galaxies that are alike, every so manieth has its own fit."""
_SEED = 1
_STREAM_POINTS, _STREAM_COMPONENT, _STREAM_FIT = 32, 33, 34
_MAX_FITS = 2048
_HALVINGS = 40
# Of the first Gaussians: their covariance over the posterior's own there; how far below the highest density, in ln, one
# may be; and ln of the least part that it has, over that of the largest.
_WIDER, _FAR, _LEAST_PART = 1.5, 15.0, -3.0
# Of the ratio of the posterior to the prior: where it is zero.
_NOTHING = -1e12
_EDGE = 2.0**-53


@dataclass(frozen=True)
class Proposals:
    """Of one galaxy: the mixture; mean (d,) and lower factor (d, d) of one Gaussian in its place, a map of standard
    normal numbers; the last b of the rounds, which is 1 where the mixture is of the posterior, and their number."""

    mixture: Gaussians
    mean: np.ndarray
    factor: np.ndarray
    exponent: float
    n_rounds: int


class PerGalaxy(OnCPU):
    """What a posterior without a flow samples with."""

    def __init__(self, posterior):
        super().__init__(posterior)
        self._fits: OrderedDict[tuple, Proposals] = OrderedDict()
        self._lock = threading.Lock()

    @cached_property
    def _physical(self) -> np.ndarray:
        """Coordinates (n, n_coordinates) of galaxies of the physical prior at all redshifts: none without it. What is
        common there, such as a burst of the last 50 Myr, may be too rare in the galaxy model's own prior."""
        physical, prior = self.posterior.physical, self.posterior.prior
        if physical is None:
            return np.empty((0, self.posterior.n_coordinates))
        random = np.random.default_rng(_SEED)
        drawn = [physical.sample(N_PHYSICAL // 2, random, least=least).theta for least in (None, _massive)]
        return prior.to_unconstrained(np.concatenate(drawn))[:, prior.n_unconstrained - self.posterior.n_coordinates :]

    def sample(self, data: Observation, n_draws: int, seed: int) -> Draws:
        """`Posterior.sample`: draws of each galaxy's mixture."""
        found = [self._sample_one(data[i : i + 1], n_draws, seed) for i in range(len(data))]
        width = len(self.posterior.prior.names)
        empty = Draws(np.empty((0, n_draws, width)), *(np.empty((0, n_draws)) for _ in range(5)))
        return Draws(*(np.concatenate(parts) for parts in zip(*(vars(one).values() for one in [empty, *found]),
                                                              strict=True)))  # fmt: skip

    def sample_alike(self, data: Observation, n_draws: int, seed: int, like: Observation | None = None) -> Draws:
        """`Posterior.sample` of galaxies that are alike, all redshifts given or none: the same draws for all, of the
        mixtures of the galaxies `like` in equal parts; by default every ALIKE-th of the galaxies, which are then in an
        order in which the next is like the one before."""
        like = data[::ALIKE] if like is None else like
        mixtures = [self.proposals(like[i : i + 1]).mixture for i in range(len(like))]
        d, n_each = mixtures[0].mean.shape[1], -(-n_draws // len(mixtures))
        normals, uniforms = (of(seed, stream, np.arange(len(mixtures)), n * n_each) for of, stream, n in
                             ((rng.normal, rng.STREAM_FLOW, d), (rng.uniform, rng.STREAM_MEMBER, 1)))  # fmt: skip
        x = np.concatenate([one.draw(normal.reshape(n_each, d), uniform)
                            for one, normal, uniform in zip(mixtures, normals, uniforms, strict=True)])  # fmt: skip
        log_density = logsumexp([one.log_density(x) for one in mixtures], axis=0) - np.log(len(mixtures))
        n = len(data)
        return self._at(data, np.repeat(x[None], n, axis=0), np.repeat(log_density[None], n, axis=0), None)

    def of_numbers(
        self, data: Observation, normals: np.ndarray, uniforms: np.ndarray, masses: np.ndarray | None = None,
        member: torch.Tensor | None = None,
    ) -> Draws:  # fmt: skip
        """`Posterior.transform`: numbers through each galaxy's one Gaussian."""
        is_free, parts, order = data.is_free, [], []
        for rows in (np.flatnonzero(~is_free), np.flatnonzero(is_free)):
            if len(rows) == 0:
                continue
            x = normals[rows]
            if is_free[rows[0]]:
                x = np.concatenate([x, ndtri(np.clip(uniforms[rows], _EDGE, 1.0 - _EDGE))[..., None]], axis=2)
            fits = [self.proposals(data[i : i + 1]) for i in rows]
            y = np.stack([fit.mean + of_one @ fit.factor.T for fit, of_one in zip(fits, x, strict=True)])
            log_volume = np.array([np.sum(np.log(np.diag(fit.factor))) for fit in fits])
            some = None if masses is None else masses[rows]
            parts.append(self._at(data[rows], y, log_standard(x) - log_volume[:, None], some))
            order.append(rows)
        if len(parts) == 1:
            return parts[0]
        back = np.argsort(np.concatenate(order))
        out = [np.concatenate(values)[back] for values in zip(*(vars(one).values() for one in parts), strict=True)]
        return Draws(*out)

    def proposals(self, data: Observation) -> Proposals:
        """What the draws of one galaxy are proposed from; remembered."""
        key = tuple(np.asarray(values, dtype=float).tobytes() for values in vars(data).values())
        with self._lock:
            found = self._fits.get(key)
        if found is None:
            found = self._fit(data)
            with self._lock:
                self._fits[key] = found
                if len(self._fits) > _MAX_FITS:
                    self._fits.popitem(last=False)
        return found

    def _sample_one(self, data: Observation, n_draws: int, seed: int) -> Draws:
        mixture, ids = self.proposals(data).mixture, np.asarray(data.object_id)
        d = mixture.mean.shape[1]
        normals = rng.normal(seed, rng.STREAM_FLOW, ids, n_draws * d).reshape(n_draws, d)
        x = mixture.draw(normals, rng.uniform(seed, rng.STREAM_MEMBER, ids, n_draws)[0])
        masses = rng.uniform(seed, rng.STREAM_MASS, ids, n_draws) if self.posterior.draws_mass else None
        return self._at(data, x[None], mixture.log_density(x)[None], masses)

    def _at(self, data: Observation, x: np.ndarray, log_density: np.ndarray, masses: np.ndarray | None) -> Draws:
        """The draws at coordinates x (n, k, d) that are proposed with a density (n, k); all redshifts free, or none."""
        width = self.posterior.n_coordinates
        found = super().of_numbers(data, x[..., :width], np.clip(ndtr(x[..., -1]), _EDGE, 1.0 - _EDGE), masses)
        return replace(found, log_q=found.log_q + log_density - log_standard(x))

    def _conditioned(self, data: Observation, z, noise, member):
        """The coordinates are the numbers themselves: those of the prior."""
        return noise, torch.from_numpy(log_standard(noise.double().numpy()))

    def _fit(self, data: Observation) -> Proposals:
        ids = np.asarray(data.object_id)
        d = self.posterior.n_coordinates + int(data.is_free[0])
        x = rng.normal(_SEED, _STREAM_POINTS, ids, N_FIRST * d).reshape(-1, d)
        log_ratio = self._log_ratio(data, x)
        mixtures, left = [self._first_mixture(data, x, log_ratio)], LAST_ROUNDS
        log_prior = log_standard(x)
        log_total = np.log(N_FIRST) + log_prior  # of the densities that points were drawn from, times their numbers
        for number in range(1, MAX_ROUNDS):
            seed = _SEED + (number << 40)
            normals = rng.normal(seed, _STREAM_POINTS, ids, N_ROUND * d).reshape(-1, d)
            new = mixtures[-1].draw(normals, rng.uniform(seed, _STREAM_COMPONENT, ids, N_ROUND)[0])
            of_new = [np.log(N_FIRST) + log_standard(new)]
            of_new += [np.log(N_ROUND) + mixture.log_density(new) for mixture in mixtures]
            log_total = np.logaddexp(log_total, np.log(N_ROUND) + mixtures[-1].log_density(x))
            log_total = np.concatenate([log_total, logsumexp(of_new, axis=0)])
            x, log_prior = np.concatenate([x, new]), np.concatenate([log_prior, of_new[0] - np.log(N_FIRST)])
            log_ratio = np.concatenate([log_ratio, self._log_ratio(data, new)])
            exponent, effective, weight = _flatten(log_prior + log_ratio - log_total)
            k = int(np.clip(effective / PER_COMPONENT, 1, MAX_COMPONENTS))
            mixtures.append(fit_gaussians(x, weight, k, rng.uniform(seed, _STREAM_FIT, ids, k + len(x))[0]))
            left -= exponent >= 1.0
            if left < 0 or (exponent >= 1.0 and effective >= ENOUGH):
                break
        mean, covariance = moments(x, weight)
        return Proposals(mixtures[-1], mean, np.linalg.cholesky(WIDEN * covariance), exponent, number + 1)

    def _first_mixture(self, data: Observation, x: np.ndarray, log_ratio: np.ndarray) -> Gaussians:
        """Gaussians at the highest points that are reached from points of the prior (n, d) with ln ratios (n,)."""
        if log_ratio.max() <= _NOTHING:  # nowhere is a likelihood above zero: that of the prior
            d = x.shape[1]
            return Gaussians(np.log([1.0 - DEFENSIVE]), np.zeros((1, d)), np.eye(d)[None])
        start = _starts(log_ratio)
        x, log_ratio = x[start], log_ratio[start]
        if len(y := self._physical):
            y = np.column_stack([y, rng.normal(_SEED, _STREAM_POINTS, np.arange(1), len(y))[0]])[:, : x.shape[1]]
            start = _starts(of_y := self._log_ratio(data, y))
            x, log_ratio = np.concatenate([x, y[start]]), np.concatenate([log_ratio, of_y[start]])
        at, log_density, precision = climb(lambda y: self._near(data, y), x, log_ratio, N_STEPS)
        near = log_density > log_density.max() - _FAR
        log_part = log_density[near] - 0.5 * np.linalg.slogdet(precision[near])[1]
        part = softmax(np.maximum(log_part - log_part.max(), _LEAST_PART))
        factor = np.linalg.cholesky(_WIDER * np.linalg.inv(precision[near]))
        return Gaussians(np.log((1.0 - DEFENSIVE) * part), at[near], factor)

    def _near(self, data: Observation, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ln of the posterior over the prior at x (n, d), but for a constant, (n,), and the residuals in units of the
        errors (n, n_band), zero in bands that are not observed."""
        draws = self._at(data, x[None], log_standard(x)[None], None)
        flux = self.posterior.forward.flux(draws.theta[0], draws.redshift[0])
        seen = observed(data.flux, data.flux_err)
        err = np.where(seen, self.flux_errors(data, draws.redshift)[0], 1.0)
        model, given = np.where(seen, flux, 0.0) / err, np.where(seen, data.flux, 0.0) / err
        if self.posterior.draws_mass:  # the mass of the largest likelihood, which the others' derivatives are without
            best = np.sum(model * given, axis=1) / np.maximum(np.sum(model**2, axis=1), _EDGE)
            model *= np.maximum(best, 0.0)[:, None]
        return _bounded(draws.log_weight[0]), given - model

    def _log_ratio(self, data: Observation, x: np.ndarray) -> np.ndarray:
        """ln of the posterior over the prior at x (n, d), but for a constant: (n,)."""
        return _bounded(self._at(data, x[None], log_standard(x)[None], None).log_weight[0])


def _massive(theta: np.ndarray, redshift: np.ndarray) -> np.ndarray:
    return np.full(len(theta), LEAST_MASS)


def _starts(log_ratio: np.ndarray) -> np.ndarray:
    """Rows of N_CLIMBS points: the best, and some that stand for all."""
    best = np.argsort(-log_ratio, kind="stable")[: N_CLIMBS // 2]
    n_others = N_CLIMBS - len(best)
    below = np.cumsum(_flatten(log_ratio)[2])
    return np.concatenate([best, np.searchsorted(below, (np.arange(n_others) + 0.5) / n_others * below[-1])])


def _bounded(log_ratio: np.ndarray) -> np.ndarray:
    return np.maximum(np.nan_to_num(log_ratio, nan=_NOTHING, neginf=_NOTHING), _NOTHING)


def _flatten(log_weight: np.ndarray) -> tuple[float, float, np.ndarray]:
    """The largest exponent b up to 1 with which weights exp(b log_weight) are EFFECTIVE, the effective number, and
    these weights, normalised, (n,)."""

    def weigh(exponent: float) -> tuple[float, np.ndarray]:
        weight = np.exp(exponent * (log_weight - log_weight.max()))
        return weight.sum() ** 2 / np.sum(weight**2), weight / weight.sum()

    low, high = 0.0, 1.0
    effective, weight = weigh(1.0)
    if effective >= EFFECTIVE:
        return 1.0, effective, weight
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if weigh(middle)[0] < EFFECTIVE else (middle, high)
    return low, *weigh(low)

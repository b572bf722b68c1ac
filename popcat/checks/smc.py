"""Tempered sequential Monte Carlo, for galaxies whose importance weights say too little (Del Moral et al. 2006).

The flow is a map from standard normal x to draws of q, and in x the posterior p is N(x; 0, 1) times the importance
weight p / q. Particles follow N(x; 0, 1) (p / q)^beta from beta = 0, the flow's own draws, to the posterior at 1: where
the flow is nearly right they have little to do, and where it is wrong its map still straightens what is bent.

Each temperature is the largest at which half of the particles' weight is kept; then they are resampled and moved by
Metropolis-Hastings, a random walk and an independent Student t in turn, both of the particles' covariance, until they
have forgotten where they were. The product of the mean weights is an unbiased evidence.

Many galaxies advance together, one sweep of moves at a time, each at its own temperature; every random number is a
function of (seed, object_id, sweep), so a galaxy's result is its own.

What tempered sequential Monte Carlo does to the particles of each galaxy; compiled, and the same in any batch.

Arrays are (galaxy, particle, coordinate). Everything is a loop over galaxies that touches one at a time, so a galaxy's
particles do not depend on its neighbours.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np

from popcat import rng
from popcat.checks import smc as kernels
from popcat.checks.weights import resample

N_PARTICLES = 512
"""A multiple of 16: then float32 products of the flow do not depend on the batch."""
_STREAM = 1 << 16
_KEEP = 0.5
# Particles have forgotten where they were when no coordinate correlates more with it; at the end they must do better.
FORGOTTEN, FORGOTTEN_LAST = 0.7, 0.4
_MAX_SWEEPS = 20
_WALK, _WALK_ACCEPTED, _T_ACCEPTED = 2.38, 0.25, 0.08


@dataclass(frozen=True)
class Particles:
    """Equally weighted particles of n galaxies at the posterior, or where the budget ended.

    x : (n, k, d). log_evidence, ess, beta : (n,); beta is 1 at the posterior. sweeps : (n,) moves of every particle.
    ess : k, less what resampling duplicated and the moves since then have not yet made independent.
    """

    x: np.ndarray
    log_evidence: np.ndarray
    ess: np.ndarray
    beta: np.ndarray
    sweeps: np.ndarray

    def __getitem__(self, rows) -> "Particles":
        return Particles(*(values[rows] for values in vars(self).values()))


def temper(
    log_ratio: Callable, d: int, object_id: np.ndarray, seed: int, *, max_sweeps: np.ndarray,
    n_particles: int = N_PARTICLES,
) -> Particles:  # fmt: skip
    """Particles of N(x; 0, 1) exp(log_ratio) in d dimensions, for n galaxies at once.

    log_ratio : (x (m, k, d), rows (m,)) -> (m, k) of those galaxies. max_sweeps : (n,) budget of moves.
    """
    run = _Run(log_ratio, d, np.asarray(object_id), seed, n_particles, np.asarray(max_sweeps))
    while len(run.rows):
        run.step()
    return run.out


class _Run:
    """The state of all galaxies; `rows` are those still at work, and every array of _STATE holds just them."""

    _STATE = ("rows", "ids", "max_sweeps", "mean", "factor", "x", "u", "before", "beta", "log_evidence", "carried",
              "moves", "scale", "t_accepted", "ess")  # fmt: skip

    def __init__(self, log_ratio, d, object_id, seed, k, max_sweeps):
        n = len(object_id)
        self.log_ratio, self.seed, self.shape, self.sweep = log_ratio, seed, (k, d), 0
        self.rows, self.ids, self.max_sweeps = np.arange(n), object_id, max_sweeps
        self.out = Particles(np.empty((n, k, d)), np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n, dtype=int))
        self.mean, self.factor = np.empty((n, d)), np.empty((n, d, d))
        self.x = rng.normal(seed, _STREAM, object_id, k * d).reshape(n, k, d)
        self.before = self.x.copy()
        self.beta, self.log_evidence, self.t_accepted = np.zeros(n), np.zeros(n), np.ones(n)
        self.scale, self.moves = np.full(n, _WALK / np.sqrt(d)), np.zeros(n, dtype=int)
        self.ess, self.carried = np.full(n, float(k)), np.full(n, float(k))
        if n:
            self.u = _finite(log_ratio(self.x, self.rows))
            self._cool(np.arange(n))

    def step(self):
        """A move of every particle; then, where they have forgotten where they were, the next temperature."""
        self._move()
        rho = self._effective()
        is_last = self.beta >= 1.0
        stop = (is_last & (rho < FORGOTTEN_LAST)) | (self.sweep >= self.max_sweeps)
        ready = ~stop & ~is_last & ((rho < FORGOTTEN) | (self.moves >= _MAX_SWEEPS))
        self._cool(np.flatnonzero(ready))
        self._leave(stop)

    def _cool(self, at):
        """The next temperature for some of the galaxies: weights, evidence, covariance, resampling."""
        if len(at) == 0:
            return
        k, _ = self.shape
        beta, weight = self.beta[at], np.empty((len(at), k))
        log_mean, ess, mean, factor = np.empty(len(at)), np.empty(len(at)), self.mean[at], self.factor[at]
        kernels.advance(self.u[at], beta, _KEEP, weight, log_mean, ess)
        kernels.fit(self.x[at], weight, mean, factor)
        self.beta[at], self.mean[at], self.factor[at] = beta, mean, factor
        self.log_evidence[at] += log_mean
        self.carried[at] = self.ess[at] * ess / k
        chosen = resample(weight, rng.uniform(self.seed, self._stream(2), self.ids[at], 1)[:, 0], k)
        self.x[at] = np.take_along_axis(self.x[at], chosen[:, :, None], axis=1)
        self.u[at] = np.take_along_axis(self.u[at], chosen, axis=1)
        self.before[at], self.moves[at], self.t_accepted[at] = self.x[at], 0, 1.0

    def _move(self):
        """One Metropolis-Hastings step of every particle; the Student t has its turn where it is of use."""
        self.sweep += 1
        n, (k, d) = len(self.rows), self.shape
        is_walk = (self.moves % 2 == 1) | (self.t_accepted < _T_ACCEPTED)
        normals = rng.normal(self.seed, self._stream(0), self.ids, k * d).reshape(n, k, d)
        uniforms = rng.uniform(self.seed, self._stream(1), self.ids, k * 3).reshape(n, k, 3)
        y, log_ratio, accepted = np.empty_like(self.x), np.empty((n, k)), np.empty(n)
        kernels.propose(self.x, self.mean, self.factor, self.scale, normals, uniforms, is_walk, y, log_ratio)
        u = _finite(self.log_ratio(y, self.rows))
        kernels.accept(self.x, self.u, y, u, self.beta, log_ratio, uniforms, accepted)
        self.moves += 1
        self.scale *= np.where(is_walk, np.exp(accepted - _WALK_ACCEPTED), 1.0)
        self.t_accepted = np.where(is_walk, self.t_accepted, accepted)

    def _effective(self) -> np.ndarray:
        """Largest correlation of each galaxy's particles with where they were resampled; updates the effective size.

        Two offspring of one particle share what the moves left of it: 1 / ess = 1 / k + rho^2 (1 / carried - 1 / k).
        """
        rho = np.empty(len(self.rows))
        kernels.correlation(self.x, self.before, rho)
        k = self.shape[0]
        self.ess = 1.0 / (1.0 / k + rho**2 * np.maximum(1.0 / self.carried - 1.0 / k, 0.0))
        return rho

    def _leave(self, stop):
        """Galaxies that are done, into the result."""
        if not stop.any():
            return
        done, out = self.rows[stop], self.out
        out.x[done], out.log_evidence[done], out.ess[done] = self.x[stop], self.log_evidence[stop], self.ess[stop]
        out.beta[done], out.sweeps[done] = self.beta[stop], self.sweep
        for name in self._STATE:
            setattr(self, name, getattr(self, name)[~stop])

    def _stream(self, kind: int) -> int:
        return _STREAM + 4 * (self.sweep + 1) + kind


def _finite(log_ratio):
    """A ratio of zero as a very small one, so that differences stay numbers."""
    return np.maximum(np.nan_to_num(log_ratio, nan=-1e12, neginf=-1e12), -1e12)


_T_DEGREES = 4.0


@numba.njit(nogil=True, cache=True)
def fit(x, weight, mean, factor):
    """Weighted mean (n, d) and lower Cholesky factor (n, d, d) of the covariance of particles; weights sum to 1."""
    n, k, d = x.shape
    for g in range(n):
        mean[g] = 0.0
        factor[g] = 0.0
        for i in range(k):
            for a in range(d):
                mean[g, a] += weight[g, i] * x[g, i, a]
        for i in range(k):
            for a in range(d):
                left = weight[g, i] * (x[g, i, a] - mean[g, a])
                for b in range(a + 1):
                    factor[g, a, b] += left * (x[g, i, b] - mean[g, b])
        _cholesky(factor[g])


@numba.njit(nogil=True, cache=True)
def _cholesky(m):
    """Lower triangle of a covariance into its factor, in place; no variance falls below 1e-8 of its own."""
    d = len(m)
    for a in range(d):
        own = m[a, a] + 1e-12
        for b in range(a + 1):
            total = m[a, b]
            for c in range(b):
                total -= m[a, c] * m[b, c]
            m[a, b] = np.sqrt(max(total, 1e-8 * own) + 1e-12) if a == b else total / m[b, b]


@numba.njit(nogil=True, cache=True)
def _ess(u, step):
    """Kish's effective size of the weights exp(step u), and ln of their mean."""
    top = np.max(u)
    total, squares = 0.0, 0.0
    for i in range(len(u)):
        w = np.exp(step * (u[i] - top))
        total += w
        squares += w * w
    return total * total / squares, step * top + np.log(total / len(u))


@numba.njit(nogil=True, cache=True)
def advance(u, beta, keep, weight, log_mean, ess):
    """The next temperature of each galaxy: the largest at which the weights keep this share of the particles.

    u is ln target - ln start (n, k). In place: beta (n,); weight (n, k) normalised; log_mean, ess (n,) of the weights.
    """
    n, k = u.shape
    for g in range(n):
        rest = 1.0 - beta[g]
        low, high = 0.0, rest
        if _ess(u[g], rest)[0] < keep * k:
            for _ in range(60):
                middle = 0.5 * (low + high)
                if _ess(u[g], middle)[0] < keep * k:
                    high = middle
                else:
                    low = middle
        step = rest if high == rest else low
        beta[g] = 1.0 if step == rest else beta[g] + step
        ess[g], log_mean[g] = _ess(u[g], step)
        top = np.max(u[g])
        for i in range(k):
            weight[g, i] = np.exp(step * (u[g, i] - top))
        weight[g] /= np.sum(weight[g])


@numba.njit(nogil=True, cache=True)
def propose(x, mean, factor, scale, normals, uniforms, is_walk, y, log_ratio):
    """Proposals y, and ln q(x | y) - ln q(y | x): of a random walk, or of a Student t about the particles' mean.

    uniforms is (n, k, 3): the last two make the t's chi2 with four degrees of freedom. is_walk is (n,).
    """
    n, k, d = x.shape
    white = np.empty(d)
    for g in range(n):
        for i in range(k):
            stretch = scale[g]
            if not is_walk[g]:
                chi2 = -2.0 * (np.log(uniforms[g, i, 1]) + np.log(uniforms[g, i, 2]))
                stretch = np.sqrt(_T_DEGREES / chi2)
            for a in range(d):
                value = x[g, i, a] if is_walk[g] else mean[g, a]
                for b in range(a + 1):
                    value += stretch * factor[g, a, b] * normals[g, i, b]
                y[g, i, a] = value
            log_ratio[g, i] = 0.0
            if not is_walk[g]:
                new, old = _log_t(y[g, i], mean[g], factor[g], white), _log_t(x[g, i], mean[g], factor[g], white)
                log_ratio[g, i] = old - new


@numba.njit(nogil=True, cache=True)
def _log_t(x, mean, factor, white):
    """ln density of the Student t, but for a constant."""
    distance, d = 0.0, len(x)
    for a in range(d):
        value = x[a] - mean[a]
        for b in range(a):
            value -= factor[a, b] * white[b]
        white[a] = value / factor[a, a]
        distance += white[a] ** 2
    return -0.5 * (_T_DEGREES + d) * np.log1p(distance / _T_DEGREES)


@numba.njit(nogil=True, cache=True)
def accept(x, u, y, u_y, beta, log_ratio, uniforms, accepted):
    """Metropolis-Hastings on N(x; 0, 1) exp(beta u(x)), in place; accepted (n,) is the share that moved."""
    n, k, d = x.shape
    for g in range(n):
        moved = 0
        for i in range(k):
            change = beta[g] * (u_y[g, i] - u[g, i]) + log_ratio[g, i]
            for a in range(d):
                change += 0.5 * (x[g, i, a] ** 2 - y[g, i, a] ** 2)
            if np.log(uniforms[g, i, 0]) < change:
                x[g, i] = y[g, i]
                u[g, i] = u_y[g, i]
                moved += 1
        accepted[g] = moved / k


@numba.njit(nogil=True, cache=True)
def correlation(x, before, out):
    """Largest correlation over the coordinates between particles now and before, (n,); 0 at least."""
    n, k, d = x.shape
    for g in range(n):
        out[g] = 0.0
        for a in range(d):
            m, b = np.mean(x[g, :, a]), np.mean(before[g, :, a])
            xx, yy, xy = 1e-300, 1e-300, 0.0
            for i in range(k):
                p, q = x[g, i, a] - m, before[g, i, a] - b
                xx += p * p
                yy += q * q
                xy += p * q
            out[g] = max(out[g], xy / np.sqrt(xx * yy))

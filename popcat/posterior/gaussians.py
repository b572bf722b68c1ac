"""Mixtures of Gaussians, fitted to weighted points: proposals for the posterior of one galaxy.

    g(x) = (1 - s) sum_k a_k N(x; m_k, f C_k) + s N(x; 0, 1)

The a_k, m_k and C_k come from expectation and maximisation with a weight on each point. f widens every component, and a
share s is of the standard normal distribution: g then has the tails of the prior, and no importance weight is large.
"""

from dataclasses import dataclass

import numba
import numpy as np

from popcat.forward.quadrature import fast_exp
from popcat.units import LN_2PI

WIDEN, DEFENSIVE = 1.2, 0.1
"""f, and s."""
_ITERATIONS = 12
_HEAVY = 1.0 / 2000
"""Of the weight of all points: lighter ones are thinned to this weight, so that at most about 1 / _HEAVY remain."""
# Variance added to each covariance; effective points, for each dimension, with the covariance of all that each
# component has beside its own.
_FLOOR, _SHRINK = 1e-8, 2.0
# A component holds less of a point, whose part in its covariance is then nothing.
_UNHELD = 1e-6


@dataclass(frozen=True)
class Gaussians:
    """The mixture in d dimensions: log_share (k,) of a_k (1 - s), mean (k, d), lower factor (k, d, d) of f C_k.

    >>> x = np.random.default_rng(0).normal(3.0, 0.1, size=(1000, 2))
    >>> found = fit_gaussians(x, np.full(1000, 1e-3), 1, np.full(1001, 0.5))
    >>> found.mean.round(1).tolist(), found.log_density(np.array([[3.0, 3.0]])).round(1).tolist()
    ([[3.0, 3.0]], [2.5])
    """

    log_share: np.ndarray
    mean: np.ndarray
    factor: np.ndarray

    def draw(self, normals: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Draws (n, d) that standard normal numbers (n, d) and uniform ones (n,), which choose a component, make."""
        edges = np.cumsum(np.exp(self.log_share))
        which = np.searchsorted(edges, uniform)
        out = normals.copy()
        for k in range(len(edges)):
            rows = which == k
            out[rows] = self.mean[k] + normals[rows] @ self.factor[k].T
        return out

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """ln g at x (n, d): (n,)."""
        out = np.empty(len(x))
        _log_density(np.ascontiguousarray(x), self.log_share, self.mean, self.factor, np.log(DEFENSIVE), out)
        return out


def log_standard(x: np.ndarray) -> np.ndarray:
    """ln of the standard normal density at x (..., d): (...)."""
    return -0.5 * np.sum(x**2, axis=-1) - 0.5 * x.shape[-1] * LN_2PI


def moments(x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and covariance (d, d) of points (n, d) with normalised weights (n,)."""
    mean = weight @ x
    away = x - mean
    return mean, away.T @ (away * weight[:, None]) + _FLOOR * np.eye(x.shape[1])


def fit_gaussians(x: np.ndarray, weight: np.ndarray, k: int, uniform: np.ndarray) -> Gaussians:
    """The mixture of k Gaussians of points (n, d) with normalised weights (n,). uniform : (k + n,) numbers. The first
    choose the points at which components begin, far from each other as in k-means++; the others which of many points
    of little weight stand for all of them.
    """
    weight = np.where(uniform[k:] * _HEAVY < weight, np.maximum(weight, _HEAVY), 0.0)
    some = weight > 0.0
    x, weight = np.ascontiguousarray(x[some]), weight[some] / weight[some].sum()
    centre, total = moments(x, weight)
    white = np.linalg.solve(np.linalg.cholesky(total), (x - centre).T).T
    mean, covariance = np.empty((k, len(centre))), np.repeat((total if k == 1 else 0.5 * total)[None], k, axis=0)
    nearest = np.ones(len(x))
    for j in range(k):
        chance = np.cumsum(nearest * weight)
        at = min(int(np.searchsorted(chance, uniform[j] * chance[-1])), len(x) - 1)
        away = np.sum((white - white[at]) ** 2, axis=1)
        mean[j], nearest = x[at], away if j == 0 else np.minimum(nearest, away)
    share, shrink = np.full(k, 1.0 / k), _SHRINK * len(centre) * np.sum(weight**2)
    _improve(x, weight, share, mean, covariance, total, shrink)
    return Gaussians(np.log((1.0 - DEFENSIVE) * share), mean, np.linalg.cholesky(WIDEN * covariance))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _log_parts(x, log_share, mean, factor, log_norm, white, out):
    """ln a_k N(x; m_k, L_k L_k^T) of each component k, but for -d / 2 ln 2 pi. factor : (k, d, d) L_k, its diagonal
    inverted. log_norm : (k,) -ln of the determinant."""
    d = len(x)
    for j in range(len(log_share)):
        distance = 0.0
        for a in range(d):
            away = x[a] - mean[j, a]
            for b in range(a):
                away -= factor[j, a, b] * white[b]
            away *= factor[j, a, a]
            white[a] = away
            distance += away * away
        out[j] = log_share[j] + log_norm[j] - 0.5 * distance


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _invert_diagonals(factor, log_norm):
    """What `_log_parts` wants of lower factors (k, d, d), in place."""
    for j in range(len(factor)):
        log_norm[j] = 0.0
        for a in range(factor.shape[1]):
            factor[j, a, a] = 1.0 / factor[j, a, a]
            log_norm[j] += np.log(factor[j, a, a])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _log_density(x, log_share, mean, factor, log_rest, out):
    n, d = x.shape
    k = len(log_share)
    part, white, log_norm, inverted = np.empty(k), np.empty(d), np.empty(k), factor.copy()
    _invert_diagonals(inverted, log_norm)
    for i in range(n):
        rest = log_rest
        for a in range(d):
            rest -= 0.5 * x[i, a] * x[i, a]
        _log_parts(x[i], log_share, mean, inverted, log_norm, white, part)
        top = max(np.max(part), rest)
        total = fast_exp(rest - top)
        for j in range(k):
            total += fast_exp(part[j] - top)
        out[i] = top + np.log(total) - 0.5 * d * LN_2PI


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _improve(x, weight, share, mean, covariance, total, shrink):
    """Expectation and maximisation, in place; each component has `shrink` of the points' weight with the covariance
    `total` beside its own."""
    n, d = x.shape
    k = len(share)
    factor, log_norm, white = np.empty((k, d, d)), np.empty(k), np.empty(d)
    held, log_share, away = np.empty((n, k)), np.empty(k), np.empty(d)
    for _ in range(_ITERATIONS):
        for j in range(k):
            factor[j] = np.linalg.cholesky(covariance[j])
            log_share[j] = np.log(share[j])
        _invert_diagonals(factor, log_norm)
        for i in range(n):
            _log_parts(x[i], log_share, mean, factor, log_norm, white, held[i])
            top, norm = np.max(held[i]), 0.0
            for j in range(k):
                held[i, j] = fast_exp(held[i, j] - top)
                norm += held[i, j]
            for j in range(k):
                held[i, j] *= weight[i] / norm
        for j in range(k):
            share[j] = 1e-9
            mean[j], covariance[j] = 0.0, shrink * total
        for i in range(n):
            for j in range(k):
                share[j] += held[i, j]
                for a in range(d):
                    mean[j, a] += held[i, j] * x[i, a]
        for j in range(k):
            for a in range(d):
                mean[j, a] /= share[j]
        for i in range(n):
            for j in range(k):
                if held[i, j] < _UNHELD * weight[i]:
                    continue
                for a in range(d):
                    away[a] = x[i, a] - mean[j, a]
                for a in range(d):
                    left = held[i, j] * away[a]
                    for b in range(a + 1):
                        covariance[j, a, b] += left * away[b]
        for j in range(k):
            for a in range(d):
                for b in range(a + 1):
                    value = covariance[j, a, b] / (share[j] + shrink)
                    covariance[j, a, b], covariance[j, b, a] = value, value
                covariance[j, a, a] += _FLOOR
        share /= np.sum(share)

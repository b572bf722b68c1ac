"""Mixtures of Gaussians, fitted to weighted points: proposals for the posterior of one galaxy.

    g(x) = (1 - s) sum_k a_k N(x; m_k, f C_k) + s N(x; 0, 1)

The a_k, m_k and C_k come from expectation and maximisation with a weight on each point. f widens every component, and a
share s is of the standard normal distribution: g then has the tails of the prior, and no importance weight is large.
"""

from dataclasses import dataclass

import numba
import numpy as np

from popcat.units import LN_2PI

WIDEN, DEFENSIVE = 1.2, 0.1
"""f, and s."""
_ITERATIONS = 12
# Points of less weight, over the largest, are left out of a fit.
_NEGLIGIBLE = 1e-5
# Variance added to each covariance; prior points that each component holds for each dimension, of the covariance of all.
_FLOOR, _SHRINK = 1e-8, 2.0


@dataclass(frozen=True)
class Gaussians:
    """The mixture in d dimensions: log_share (k,) of a_k (1 - s), mean (k, d), lower factor (k, d, d) of f C_k.

    >>> x = np.random.default_rng(0).normal(3.0, 0.1, size=(1000, 2))
    >>> found = fit_gaussians(x, np.full(1000, 1e-3), 1, np.full(1, 0.5))
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
    """The mixture of k Gaussians of points (n, d) with weights (n,). uniform : (k,) numbers that choose the points at
    which components begin, far from each other as in k-means++.
    """
    some = weight > _NEGLIGIBLE * weight.max()
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


@numba.njit(nogil=True, cache=True)
def _log_normal(x, mean, factor, white):
    """ln N(x; mean, factor factor^T), but for -d / 2 ln 2 pi."""
    value = 0.0
    for a in range(len(x)):
        away = x[a] - mean[a]
        for b in range(a):
            away -= factor[a, b] * white[b]
        white[a] = away / factor[a, a]
        value -= 0.5 * white[a] ** 2 + np.log(factor[a, a])
    return value


@numba.njit(nogil=True, cache=True)
def _log_density(x, log_share, mean, factor, log_rest, out):
    n, d = x.shape
    k = len(log_share)
    part, white = np.empty(k + 1), np.empty(d)
    for i in range(n):
        part[k] = log_rest - 0.5 * np.sum(x[i] ** 2)
        for j in range(k):
            part[j] = log_share[j] + _log_normal(x[i], mean[j], factor[j], white)
        top = np.max(part)
        out[i] = top + np.log(np.sum(np.exp(part - top))) - 0.5 * d * LN_2PI


@numba.njit(nogil=True, cache=True)
def _improve(x, weight, share, mean, covariance, total, shrink):
    """Expectation and maximisation, in place; each component has `shrink` of the points' weight with the covariance
    `total` beside its own."""
    n, d = x.shape
    k = len(share)
    factor, white, held = np.empty((k, d, d)), np.empty(d), np.empty((n, k))
    for _ in range(_ITERATIONS):
        for j in range(k):
            factor[j] = np.linalg.cholesky(covariance[j])
        for i in range(n):
            for j in range(k):
                held[i, j] = np.log(share[j]) + _log_normal(x[i], mean[j], factor[j], white)
            top = np.max(held[i])
            held[i] = np.exp(held[i] - top)
            held[i] *= weight[i] / np.sum(held[i])
        for j in range(k):
            share[j] = max(np.sum(held[:, j]), 1e-9)
            mean[j] = 0.0
            for i in range(n):
                mean[j] += held[i, j] / share[j] * x[i]
            covariance[j] = shrink * total
            for i in range(n):
                if held[i, j] < 1e-12:
                    continue
                for a in range(d):
                    left = held[i, j] * (x[i, a] - mean[j, a])
                    for b in range(a + 1):
                        covariance[j, a, b] += left * (x[i, b] - mean[j, b])
            for a in range(d):
                for b in range(a + 1):
                    value = covariance[j, a, b] / (share[j] + shrink)
                    covariance[j, a, b], covariance[j, b, a] = value, value
                covariance[j, a, a] += 1e-8
        share /= np.sum(share)

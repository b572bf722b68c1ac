"""What tempered sequential Monte Carlo does to the particles of each galaxy; compiled, and the same in any batch.

Arrays are (galaxy, particle, coordinate). Everything is a loop over galaxies that touches one at a time, so a galaxy's
particles do not depend on its neighbours.
"""

import numba
import numpy as np

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

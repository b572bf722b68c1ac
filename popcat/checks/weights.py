"""Importance weights of each galaxy's draws: evidence, effective sample size, Pareto-smoothing, resampling.

With ln w = ln p(x, theta) - ln q(theta | x) of k draws from q, the evidence is the mean weight, the effective sample
size Kish's (sum w)^2 / sum w^2, and the tail is tested and smoothed as in PSIS (Vehtari et al. 2024, arXiv
1507.02646): a generalised Pareto distribution fitted to the largest min(k / 5, 3 sqrt(k)) weights (Zhang & Stephens
2009).

The exact likelihood of galaxies, and their importance weights as a function of a flow's own random numbers.

    ln L = -chi2 / 2 - sum ln err - n / 2 ln 2 pi

over the n observed bands, with the errors as fitted (floor included). The flow's map takes standard normal numbers x to
draws of q, so the posterior in x is N(x; 0, 1) w(x), with w = p(photometry, theta, z) / q(theta, z | photometry). A
redshift that is not given exactly has a number of its own, the last.
"""

from dataclasses import dataclass

import numba
import numpy as np
from scipy.special import ndtr

from popcat.galaxies import Observation
from popcat.posterior.posterior import Draws, Posterior

MIN_TAIL = 5
"""With fewer weights in the tail its shape is unknown, and k-hat infinite."""


@dataclass(frozen=True)
class Weights:
    """What the weights of n galaxies say, each (n,), and the weights themselves.

    log_evidence : ln of the mean weight; -inf where every weight is zero. ess : of the raw weights. pareto_k : shape of
    their tail: above `reliable_k` neither the evidence nor the ESS can be believed.
    smoothed : (n, k) normalised, the tail replaced by the expected order statistics of its fit, none above the largest
    raw weight. Draws are resampled by these; evidence and ESS are of the raw ones.
    """

    log_evidence: np.ndarray
    ess: np.ndarray
    pareto_k: np.ndarray
    smoothed: np.ndarray


def importance(log_weight: np.ndarray) -> Weights:
    """`Weights` of log weights (n, k); -inf is a weight of zero, and so is NaN.

    >>> found = importance(np.zeros((1, 100)))
    >>> float(found.log_evidence[0]), float(found.ess[0])
    (0.0, 100.0)
    """
    log_weight = np.ascontiguousarray(np.where(np.isnan(log_weight), -np.inf, log_weight), dtype=np.float64)
    n, k = log_weight.shape
    evidence, ess, shape = np.empty(n), np.empty(n), np.empty(n)
    smoothed = np.empty((n, k))
    _importance(log_weight, evidence, ess, shape, smoothed)
    return Weights(evidence, ess, shape, smoothed)


def reliable_k(n_draws: int) -> float:
    """Largest k-hat with which n_draws weights can be believed: min(1 - 1 / log10(n), 0.7) (Vehtari et al. 2024).

    >>> round(reliable_k(1000), 3), reliable_k(100_000)
    (0.667, 0.7)
    """
    return float(min(1.0 - 1.0 / np.log10(max(n_draws, 11)), 0.7))


def resample(weight: np.ndarray, uniform: np.ndarray, n_out: int) -> np.ndarray:
    """Indices (n, n_out) of a systematic resample of normalised weights (n, k) with one uniform number a row, (n,).

    Draw i comes floor(n_out w_i) times or once more.

    >>> resample(np.array([[0.5, 0.0, 0.5]]), np.array([0.5]), 4).tolist()
    [[0, 0, 2, 2]]
    """
    out = np.empty((len(weight), n_out), dtype=np.int64)
    _resample(np.ascontiguousarray(weight), uniform, out)
    return out


@numba.njit(nogil=True, cache=True)
def _resample(weight, uniform, out):
    k, n_out = weight.shape[1], out.shape[1]
    for i in range(len(out)):
        at, total = 0, weight[i, 0]
        for j in range(n_out):
            while total < (j + uniform[i]) / n_out and at < k - 1:
                at += 1
                total += weight[i, at]
            out[i, j] = at


@numba.njit(nogil=True, cache=True)
def _importance(log_weight, evidence, ess, shape, smoothed):
    n, k = log_weight.shape
    for i in range(n):
        top = np.max(log_weight[i])
        if top == -np.inf:
            evidence[i], ess[i], shape[i] = -np.inf, 0.0, np.inf
            smoothed[i] = 1.0 / k
            continue
        total, squares = 0.0, 0.0
        for j in range(k):
            w = np.exp(log_weight[i, j] - top)
            smoothed[i, j] = w
            total += w
            squares += w * w
        evidence[i], ess[i] = top + np.log(total / k), total * total / squares
        shape[i] = _smooth_tail(smoothed[i])
        smoothed[i] /= np.sum(smoothed[i])


@numba.njit(nogil=True, cache=True)
def _smooth_tail(w):
    """k-hat of weights whose largest is 1; the tail is smoothed in place."""
    k = len(w)
    n_tail = int(min(0.2 * k, 3.0 * np.sqrt(k)))
    if n_tail < MIN_TAIL:
        return np.inf
    order = np.argsort(w)
    cut = w[order[k - n_tail - 1]]
    excess = np.empty(n_tail)
    for j in range(n_tail):
        excess[j] = w[order[k - n_tail + j]] - cut
    if not excess[-1] > 1e-12:  # all alike
        return -np.inf
    shape, scale = _fit_pareto(np.maximum(excess, 1e-300))
    for j in range(n_tail):
        p = (j + 0.5) / n_tail
        stretch = -np.log1p(-p) if abs(shape) < 1e-12 else np.expm1(-shape * np.log1p(-p)) / shape
        w[order[k - n_tail + j]] = min(cut + scale * stretch, 1.0)
    return shape


@numba.njit(nogil=True, cache=True)
def _fit_pareto(x):
    """Shape and scale of a generalised Pareto distribution for ascending x > 0: Zhang & Stephens (2009).

    The shape is drawn a little towards 1/2, by ten observations' worth, as PSIS does.
    """
    n = len(x)
    m = 30 + int(np.sqrt(n))
    quartile = x[int(n / 4 + 0.5) - 1]
    b, score = np.empty(m), np.empty(m)
    for j in range(m):
        b[j] = 1.0 / x[-1] + (1.0 - np.sqrt(m / (j + 0.5))) / (3.0 * quartile)
        shape = np.mean(np.log1p(-b[j] * x))
        score[j] = n * (np.log(-b[j] / shape) - shape - 1.0)
    weight = np.exp(score - np.max(score))
    best = np.sum(weight * b) / np.sum(weight)
    shape = np.mean(np.log1p(-best * x))
    scale = -shape / best
    return (n * shape + 5.0) / (n + 10.0), scale


# Uniform numbers stay this far from 0 and 1, as those of popcat.rng do.
_EDGE = 2.0**-53


@dataclass(frozen=True)
class Target:
    """Photometry of n galaxies, and the posterior whose forward model and prior it is compared with."""

    posterior: Posterior
    data: Observation

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, rows) -> "Target":
        return Target(self.posterior, self.data[rows])

    @property
    def n_numbers(self) -> int:
        """Numbers behind a draw but for its mass: the flow's coordinates, and a free redshift's."""
        return self.posterior.n_coordinates + bool(self.data.is_free.any())

    def transform(self, x: np.ndarray, masses: np.ndarray | None = None) -> Draws:
        """The draws that numbers x (n, k, n_numbers) make; all galaxies must have free redshifts, or none.

        masses : (n, k) uniform numbers that become masses where those are drawn from their own law; the weights do not
        depend on them.
        """
        uniforms = np.clip(ndtr(x[:, :, -1]), _EDGE, 1.0 - _EDGE)
        return self.posterior.transform(self.data, x[:, :, : self.posterior.n_coordinates], uniforms, masses)

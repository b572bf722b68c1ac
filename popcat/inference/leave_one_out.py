"""How probable is each band, given the others? Under a Gaussian mixture the answer is in closed form.

Of a Gaussian with precision P = C^-1 and deviation e = x - mean, coordinate b given the others has the standard score

    t_b = (P e)_b / sqrt(P_bb)

so ln p(x) = ln p(x_b | others) + ln p(others) gives each component's weight given the others, and the probability below
x_b is the mean of Phi(t_b) with these weights.
"""

import numpy as np
from scipy.special import logsumexp, ndtr

MIN_BANDS = 3
"""With fewer, which of them is off is not to be said."""
_BATCH = 4096
_LN_2PI = float(np.log(2.0 * np.pi))


def two_sided(deviation: np.ndarray, precision: np.ndarray, log_weight: np.ndarray) -> np.ndarray:
    """Probability (n, d) of a value further out, on either side, than each coordinate given all others of its row.

    deviation : (k, n, d) from the mean of each of k components. precision : (k, n, d, d), or (k, 1, d, d) if rows
    share it. log_weight : (k,).

    >>> at = np.array([[[0.0, 0.0], [0.0, 1.96]]])
    >>> two_sided(at, np.eye(2)[None, None], np.zeros(1)).round(3).tolist()
    [[1.0, 1.0], [1.0, 0.05]]
    """
    n = deviation.shape[1]
    parts = [slice(start, start + _BATCH) for start in range(0, n, _BATCH)] or [slice(0, 0)]
    is_shared = precision.shape[1] == 1
    return np.concatenate([
        _two_sided(deviation[:, part], precision if is_shared else precision[:, part], log_weight) for part in parts
    ])  # fmt: skip


def _two_sided(deviation, precision, log_weight) -> np.ndarray:
    pull = (precision @ deviation[..., None])[..., 0]
    own = np.diagonal(precision, axis1=2, axis2=3)
    score = pull / np.sqrt(own)
    log_all = 0.5 * (np.linalg.slogdet(precision)[1] - np.sum(pull * deviation, axis=2)) + log_weight[:, None]
    log_others = log_all[:, :, None] + 0.5 * (score**2 - np.log(own))
    share = np.exp(log_others - logsumexp(log_others, axis=0))
    below, above = np.sum(share * ndtr(score), axis=0), np.sum(share * ndtr(-score), axis=0)
    return np.minimum(2.0 * np.minimum(below, above), 1.0)


def least(probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest of a row's probabilities (n, d), NaN aside, times their number, and where it is: each (n,).

    The product, Bonferroni's, is the probability of one so small among so many; NaN and -1 with fewer than MIN_BANDS.

    >>> least(np.array([[0.5, 0.01, 0.2], [0.5, np.nan, 0.2]]))
    (array([0.03,  nan]), array([ 1, -1]))
    """
    seen = ~np.isnan(probability)
    enough = seen.sum(axis=1) >= MIN_BANDS
    found = np.where(seen, probability, np.inf)
    smallest = np.minimum(found.min(axis=1) * seen.sum(axis=1), 1.0)
    return np.where(enough, smallest, np.nan), np.where(enough, found.argmin(axis=1), -1)

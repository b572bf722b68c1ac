"""q(redshift | photometry), and with a measured redshift of Gaussian error: drawn exactly, whatever the modes.

The network gives q(z | fluxes) under a prior uniform in the survey's range, linear between nodes. A redshift measured
with an error is independent information: q(z | fluxes, z_obs, sigma) is proportional to q(z | fluxes)
N(z_obs; z, sigma), so one network serves both, and no error is too small or too large for its training.
"""

import numba
import numpy as np

# Nodes on which q times the Gaussian is tabulated, over this many standard deviations to each side.
_FINE, _REACH = 512, 6.0


def draw_redshift(
    log_nodes: np.ndarray, bounds: tuple[float, float], z_obs: np.ndarray, sigma: np.ndarray, uniform: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Redshifts (n, k) and their log densities (n, k) for uniform numbers (n, k).

    log_nodes is (n, n_bins + 1): ln of the density in u = (z - low) / (high - low) at equidistant nodes. z_obs and
    sigma are (n,): NaN where no redshift was measured; the galaxy's z_obs must be within 6 sigma of the bounds.

    >>> unknown = np.array([np.nan])
    >>> z, log_q = draw_redshift(np.zeros((1, 3)), (0.0, 2.0), unknown, unknown, np.array([[0.5]]))
    >>> z.tolist(), np.exp(log_q).round(6).tolist()
    ([[1.0]], [[0.5]])
    """
    z, log_q = np.empty_like(uniform), np.empty_like(uniform)
    _draw(np.exp(log_nodes.astype(np.float64)), *bounds, z_obs, sigma, uniform, z, log_q)
    return z, log_q


@numba.njit(nogil=True, cache=True)
def _draw(density, low, high, z_obs, sigma, uniform, z, log_q):
    n_bins = density.shape[1] - 1
    width = (high - low) / n_bins
    value, below = np.empty(max(n_bins, _FINE) + 1), np.empty(max(n_bins, _FINE) + 1)
    for i in range(len(density)):
        if np.isnan(z_obs[i]):
            start, step, n = low, width, n_bins
            for j in range(n + 1):
                value[j] = density[i, j]
        else:
            start = max(low, z_obs[i] - _REACH * sigma[i])
            stop = max(min(high, z_obs[i] + _REACH * sigma[i]), start)
            n, step = _FINE, (stop - start) / _FINE
            for j in range(n + 1):
                at = start + j * step
                x = min(max((at - low) / width, 0.0), n_bins - 1e-9)
                k = int(x)
                q = density[i, k] + (x - k) * (density[i, k + 1] - density[i, k])
                value[j] = q * np.exp(-0.5 * ((at - z_obs[i]) / sigma[i]) ** 2)
        below[0] = 0.0
        for j in range(n):
            below[j + 1] = below[j] + 0.5 * step * (value[j] + value[j + 1])
        for m in range(uniform.shape[1]):
            z[i, m], log_q[i, m] = _invert(value, below, n, start, step, uniform[i, m])


@numba.njit(nogil=True, cache=True)
def _invert(value, below, n, start, step, u):
    """Where a piecewise linear density has this fraction of its mass below, and its logarithm there."""
    mass = u * below[n]
    j = min(max(np.searchsorted(below[: n + 1], mass, side="right") - 1, 0), n - 1)
    a, b = value[j], value[j + 1]
    rest = mass - below[j]
    # a x + (b - a) x^2 / (2 step) = rest, in the form that does not cancel
    root = np.sqrt(max(a * a + 2.0 * (b - a) * rest / step, 0.0)) if step > 0.0 else a
    x = min(2.0 * rest / (a + root), step) if a + root > 0.0 else 0.5 * step
    here = a + (b - a) * x / step if step > 0.0 else a
    return start + j * step + x, np.log(max(here, 1e-300)) - np.log(max(below[n], 1e-300))

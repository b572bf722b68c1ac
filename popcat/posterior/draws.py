"""Draws of a posterior, with the likelihood of each.

The mass is drawn from its own law: fluxes are linear in it, so that given all else its posterior is known exactly.

Let m be the fluxes of a galaxy per unit of mass, f the photometry with errors s, all other parameters and the redshift
given. Then

    p(M | f) is in proportion to p(M) exp(-(M - M0)^2 P / 2),    P = sum m^2 / s^2,    M0 = sum(f m / s^2) / P

and the likelihood averaged over the mass, which is what weighs the other parameters, is

    ln L = -chi2(M0) / 2 - sum ln s - n / 2 ln 2 pi + ln of the integral of p(M) exp(-(M - M0)^2 P / 2) dM

for any prior p, for M0 below zero, and where the prior's ends cut. Both come from one tabulated density of each draw. A
prior of the mass may depend on all else: it is p times a factor of each draw's own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np

from popcat.distributions import Law
from popcat.forward.quadrature import fast_exp, fast_log
from popcat.galaxies import Observation, log_norm, observed
from popcat.posterior.features import invert_density

_N_PRIOR = 1024
# Nodes of a draw's density: equidistant in ln M below one standard error, where the likelihood is flat, and in M above.
N_FLAT, N_PEAK = 24, 56
# A factor of the prior is evaluated at each node of the first kind and at each so manieth of the second; in between its
# logarithm is linear.
N_FACTOR_STEP = 7
_N_FACTOR = N_FLAT + 1 + N_PEAK // N_FACTOR_STEP + 1
_FACTORS = 1 << 16
"""Draws whose factors are evaluated at a time."""
# The density is followed down to exp(-DEPTH) of its maximum.
DEPTH = 16.0
_LN_10 = float(np.log(10.0))


@dataclass(frozen=True)
class Draws:
    """Posterior draws of n galaxies, and what importance weights need.

    theta : (n, k, n_parameter) float64, inside the prior. redshift : (n, k).
    chi2 : (n, k) over the observed bands.
    log_q : (n, k) ln q(w, z | photometry) of the flow's coordinates w and, where it is not given, the redshift.
    log_prior : (n, k) ln p(w, z), times the likelihood of a measured redshift.
    log_likelihood : (n, k) of the photometry; averaged over the mass where the flow leaves that to its own law.
    """

    theta: np.ndarray
    redshift: np.ndarray
    chi2: np.ndarray
    log_q: np.ndarray
    log_prior: np.ndarray
    log_likelihood: np.ndarray

    @property
    def log_weight(self) -> np.ndarray:
        """ln of the importance weights, (n, k)."""
        return self.log_likelihood + self.log_prior - self.log_q


def prior_nodes(law: Law) -> np.ndarray:
    """The density of a law of log10 M at equidistant nodes from its low to its high end."""
    return np.exp(law.log_density(np.linspace(law.low, law.high, 2 if law.is_uniform else _N_PRIOR)))


LogFactor = Callable[[slice, np.ndarray], np.ndarray]
"""ln of a factor on the prior of galaxies (slice), (n k, m), at log10 masses (n k, m)."""


def draw_mass(
    flux: np.ndarray, log_mass: float, data: Observation, law: Law, uniform: np.ndarray,
    log_factor: LogFactor | None = None, err: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """log10 M, ln L averaged over the prior of the mass, and chi2 of the mass that was drawn, each (n, k).

    flux : (n, k, n_band) of draws if the mass were `log_mass`; it becomes that of the mass drawn, in place.
    law : the prior of log10 M, times the factor that `log_factor` gives. uniform : (n, k) numbers that become masses,
    in ascending order. err : (n, 1, n_band) or (n, k, n_band), by default the catalogue's errors.

    >>> from popcat.distributions import Uniform
    >>> law, number = Law(Uniform(), 7.0, 12.5), np.array([[0.5]])
    >>> data = Observation(np.full((1, 3), 2.0), np.full((1, 3), 0.02), *np.full((3, 1), np.nan))
    >>> mass, log_l, chi2 = draw_mass(np.ones((1, 1, 3)), 10.0, data, law, number)
    >>> mass.round(3).tolist(), chi2.round(2).tolist()
    ([[10.301]], [[0.0]])
    """
    n, k, _ = flux.shape
    out = np.empty((3, n, k))
    seen = observed(data.flux, data.flux_err)
    err = data.flux_err[:, None] if err is None else err
    given = np.where(seen, data.flux, 0.0), np.where(seen[:, None], err, 1.0), seen
    step = n if log_factor is None else _FACTORS // max(k, 1)
    for start in range(0, n, max(step, 1)):
        part = slice(start, start + max(step, 1))
        f, e, s = (one[part] for one in given)
        factor = np.zeros((0, 0, 0))
        if log_factor is not None:
            nodes = np.empty((*flux[part].shape[:2], _N_FACTOR))
            _factor_nodes(flux[part], log_mass, f, e, s, law.low, law.high, nodes)
            factor = log_factor(part, nodes.reshape(-1, _N_FACTOR)).reshape(nodes.shape)
        _draw_masses(flux[part], log_mass, f, e, s, law.low, law.high, prior_nodes(law), factor, uniform[part],
                     *out[:, part])  # fmt: skip
    return out[0], out[1] - log_norm(data, err), out[2]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _span(model, flux, err, seen, least, most):
    """Of one draw: precision and best mass; the mass of the largest likelihood within the prior; where the density
    starts, where its nodes turn from equidistant in ln M to equidistant in M, and where it ends. An infinite precision
    is an absurdly small error."""
    precision, fit = 0.0, 0.0
    for b in range(len(model)):
        if seen[b]:
            m = model[b] / err[b]
            precision += m * m
            fit += m * (flux[b] / err[b])
    best = fit / precision if precision > 0.0 else least
    top = min(max(best, least), most)
    # where the density has fallen to exp(-depth) of its maximum on either side
    reach = np.inf
    if precision > 0.0:
        away = abs(top - best)
        reach = 2.0 * DEPTH / precision / (away + np.sqrt(away * away + 2.0 * DEPTH / precision))
    start, stop = max(least, top - reach), min(most, top + reach)
    knee = stop
    if precision > 0.0:
        knee = min(max(min(1.0 / np.sqrt(precision), 0.2 * stop), start), stop)
    return precision, best, top, start, knee, stop


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _factor_nodes(model, log_mass, flux, err, seen, low, high, nodes):
    """log10 of the masses at which the factor is evaluated."""
    least, most = 10.0 ** (low - log_mass), 10.0 ** (high - log_mass)
    for i in range(nodes.shape[0]):
        for j in range(nodes.shape[1]):
            own = err[i, min(j, err.shape[1] - 1)]
            precision, _, _, start, knee, stop = _span(model[i, j], flux[i], own, seen[i], least, most)
            if not precision < np.inf:
                nodes[i, j] = low
                continue
            rise = np.log10(knee / start) / N_FLAT
            for s in range(N_FLAT + 1):
                nodes[i, j, s] = min(max(log_mass + np.log10(start) + s * rise, low), high)
            for s in range(_N_FACTOR - N_FLAT - 1):
                mass = knee + s * N_FACTOR_STEP / N_PEAK * (stop - knee)
                nodes[i, j, N_FLAT + 1 + s] = min(max(log_mass + np.log10(mass), low), high)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _draw_masses(model, log_mass, flux, err, seen, low, high, prior, factor, uniform, out, log_l, chi2):
    """Masses are in units of 10^log_mass within. factor : (n, k, _N_FACTOR), of no galaxy where there is none."""
    n, k, n_band = model.shape
    low_part, high_part, at = np.empty(N_PEAK + 1), np.empty(N_PEAK + 1), np.empty(N_PEAK + 1)
    below = np.empty((2, N_PEAK + 1))
    is_uniform, has_factor = len(prior) == 2, len(factor) > 0
    density = (prior[0] if is_uniform else 1.0) / _LN_10
    least, most = 10.0 ** (low - log_mass), 10.0 ** (high - log_mass)
    for i in range(n):
        for j in range(k):
            own = err[i, min(j, err.shape[1] - 1)]
            precision, best, top, start, knee, stop = _span(model[i, j], flux[i], own, seen[i], least, most)
            if not precision < np.inf:
                out[i, j], log_l[i, j], chi2[i, j] = 0.5 * (low + high), -np.inf, np.inf
                continue
            n_flat, n_peak = (N_FLAT if knee > start else 0), (N_PEAK if stop > knee else 0)
            flat = np.log(knee / start) / max(n_flat, 1)
            peak = (stop - knee) / max(n_peak, 1)
            for s in range(n_flat + 1):
                at[s] = start * fast_exp(s * flat)
                low_part[s] = _likelihood(at[s], best, top, precision) * density
            if not is_uniform:
                _times_prior(low_part, at, n_flat + 1, log_mass, low, high, prior)
            for s in range(n_peak + 1):
                at[s] = knee + s * peak
                high_part[s] = _likelihood(at[s], best, top, precision) * density / at[s]
            if not is_uniform:
                _times_prior(high_part, at, n_peak + 1, log_mass, low, high, prior)
            most_factor = 0.0
            if has_factor:
                most_factor = np.max(factor[i, j])
                _times_factor(low_part, high_part, n_flat, n_peak, factor[i, j], most_factor)
            _integrate(low_part, n_flat, flat, below[0])
            _integrate(high_part, n_peak, peak, below[1])
            total = below[0, n_flat] + below[1, n_peak]
            u = uniform[i, j] * total
            if u < below[0, n_flat]:
                x, _ = invert_density(low_part, below[0], n_flat, 0.0, flat, u / below[0, n_flat])
                mass = start * np.exp(x)
            elif total > 0.0:
                rest = (u - below[0, n_flat]) / below[1, n_peak]
                mass, _ = invert_density(high_part, below[1], n_peak, knee, peak, min(rest, 1.0))
            else:  # the prior has no mass there
                mass = start + uniform[i, j] * (stop - start)
            mass = min(max(mass, least), most)
            out[i, j] = min(max(log_mass + np.log10(mass), low), high)
            drawn, fitted = 0.0, 0.0
            for b in range(n_band):
                m = model[i, j, b]
                model[i, j, b] = mass * m
                if seen[i, b]:
                    drawn += ((flux[i, b] - mass * m) / own[b]) ** 2
                    fitted += ((flux[i, b] - top * m) / own[b]) ** 2
            chi2[i, j] = drawn
            log_l[i, j] = -0.5 * fitted + np.log(total) + most_factor if total > 0.0 else -np.inf


@numba.njit(nogil=True, cache=True)
def _times_factor(low_part, high_part, n_flat, n_peak, log_factor, top):
    """Multiply both parts by exp(log_factor - top)."""
    for s in range(n_flat + 1):
        low_part[s] *= fast_exp(log_factor[s] - top)
    for s in range(n_peak + 1):
        k = min(s // N_FACTOR_STEP, N_PEAK // N_FACTOR_STEP - 1)
        f, node = s / N_FACTOR_STEP - k, N_FLAT + 1 + k
        high_part[s] *= fast_exp(log_factor[node] * (1.0 - f) + log_factor[node + 1] * f - top)


@numba.njit(nogil=True, cache=True)
def _likelihood(mass, best, top, precision):
    """1 at `top`."""
    # (M - M0)^2 - (top - M0)^2, in the form that does not cancel
    return fast_exp(-0.5 * precision * (mass - top) * (mass + top - 2.0 * best))


@numba.njit(nogil=True, cache=True)
def _times_prior(value, mass, n, log_mass, low, high, prior):
    """Multiply the first n values by the prior of log10 M at as many masses."""
    last = len(prior) - 1
    for s in range(n):
        x = min(max((log_mass + fast_log(mass[s]) / _LN_10 - low) / (high - low) * last, 0.0), last - 1e-9)
        k = int(x)
        value[s] *= prior[k] + (x - k) * (prior[k + 1] - prior[k])


@numba.njit(nogil=True, cache=True)
def _integrate(value, n, step, below):
    """Integrals of the straight lines between n + 1 nodes, up to each of them."""
    below[0] = 0.0
    for s in range(n):
        below[s + 1] = below[s] + 0.5 * step * (value[s] + value[s + 1])

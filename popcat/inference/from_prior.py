"""The posterior of a galaxy by drawing from the prior: no chain, no start, no mode that could be missed.

Photometry in a few bands says little about most parameters, and a million prior draws cost a second or two. Only the
mass would waste nearly all of them, so it is drawn where the photometry wants it: fluxes are proportional to
s = 10^(change of log_mstar_formed), so over s the likelihood is a Gaussian of mean a and precision S,

    a = sum(f d / err^2) / S,  S = sum(f^2 / err^2)

of the model's fluxes f and the data d. With log_mstar_formed uniform in (low, high) and s from that Gaussian the weight
is L(s = a) sqrt(2 pi / S) / (s ln 10 (high - low)). Draws are accepted with their weight over the largest: independent
draws of the exact posterior. Mean weight: the evidence. A measured redshift is drawn from its own Gaussian.
"""

from collections.abc import Callable

import numpy as np

N_DRAWS = 2000
"""Accepted draws that are enough."""
_BATCH = 50_000
_LN_2PI = float(np.log(2.0 * np.pi))


def accept_from_prior(
    forward: Callable, mass_range: tuple[float, float], draw: Callable, flux: np.ndarray, flux_err: np.ndarray,
    seed: int, *, max_evaluations: int,
) -> tuple[np.ndarray, np.ndarray, float]:  # fmt: skip
    """theta (n, d) and redshift (n,) of the exact posterior, and ln of the evidence of the fluxes.

    forward : theta (m, d), redshift (m,) -> fluxes (m, n_band), theta's first column log10 of the mass, uniform in
    mass_range. draw : (random, m) -> theta, redshift from the prior. flux, flux_err : (n_band,), all observed.
    """
    random = np.random.default_rng(seed)
    kept, top, log_sum, n = [], -np.inf, -np.inf, 0
    while n < max_evaluations and len(_accepted(kept, top)[0]) < N_DRAWS:
        theta, redshift = draw(random, _BATCH)
        log_weight = _weigh(theta, forward(theta, redshift) / flux_err, flux / flux_err, mass_range, random)
        log_uniform = np.log(random.uniform(size=_BATCH))
        top = max(top, float(log_weight.max()))
        log_sum = float(np.logaddexp(log_sum, np.logaddexp.reduce(log_weight)))
        good = (log_weight > -np.inf) & (log_uniform + top < log_weight)
        kept.append((theta[good], redshift[good], log_weight[good], log_uniform[good]))
        n += _BATCH
    theta, redshift = _accepted(kept, top)
    return theta, redshift, log_sum - np.log(n) - float(np.sum(np.log(flux_err)))


def _weigh(theta, model, data, mass_range, random) -> np.ndarray:
    """ln of the weights (n,), fluxes in units of their errors; the mass of theta is set in place."""
    precision = np.sum(model**2, axis=1)
    best = model @ data / precision
    s = best + random.standard_normal(len(best)) / np.sqrt(precision)
    chi2 = np.sum((data - best[:, None] * model) ** 2, axis=1)
    low, high = mass_range
    with np.errstate(invalid="ignore", divide="ignore"):  # a negative mass has no weight
        theta[:, 0] += np.log10(s)
        log_weight = -0.5 * (chi2 + len(data) * _LN_2PI) + 0.5 * (_LN_2PI - np.log(precision)) - np.log(s)
    is_inside = (s > 0.0) & (theta[:, 0] >= low) & (theta[:, 0] <= high)
    return np.where(is_inside, log_weight, -np.inf) - np.log(np.log(10.0) * (high - low))


def _accepted(kept, top) -> tuple[np.ndarray, np.ndarray]:
    """theta and redshift of draws that are accepted, now that the largest weight is known."""
    if not kept:
        return np.empty((0, 0)), np.empty(0)
    theta, redshift, log_weight, log_uniform = (np.concatenate(values) for values in zip(*kept, strict=True))
    good = log_uniform + top < log_weight
    return theta[good], redshift[good]

"""Kernels of parametric star-formation histories: the primitive of the rate in cosmic time, and its derivatives.

T is cosmic time over the age of the universe, p what `prepare` makes of the history's columns of theta. G(T) is the
mass formed by then, up to a constant chosen so that differences keep their digits where star formation has faded.
Formulae and sources are in popcat.forward.sfh, to which tests hold this.
"""

import math
from typing import NamedTuple

import numpy as np

from popcat.forward.quadrature import fast_exp, kernel, kernel_overload

_LN_10 = float(np.log(10.0))
_WIDTH = float(np.sqrt(2.0 * np.log(2.0)))
_N_TERM = 16
ENDS = 1.01
"""A double power law that falls faster than this has formed a finite mass by the end of time, and not a huge one."""


class DelayedTauLaw(NamedTuple):
    """T e^(-T / tau) since the onset."""


class LognormalLaw(NamedTuple):
    """Gaussian in ln T."""


class DoublePowerLawLaw(NamedTuple):
    """1 / ((T / tau)^alpha + (T / tau)^-beta)."""

    coefficient: np.ndarray
    """(n_term,): 1 / (1 + x) = sum_k coefficient_k x^k for 0 <= x <= 1 (Cohen, Rodriguez Villegas & Zagier 2000)."""


def double_power_law() -> DoublePowerLawLaw:
    """The law with its coefficients, good to 5.8^-n_term."""
    d = (3.0 + np.sqrt(8.0)) ** _N_TERM
    d = 0.5 * (d + 1.0 / d)
    b, c, found = -1.0, -d, []
    for k in range(_N_TERM):
        c = b - c
        found.append(c / d)
        b *= (k + _N_TERM) * (k - _N_TERM) / ((k + 0.5) * (k + 1.0))
    return DoublePowerLawLaw(np.array(found))


def prepare(law, beta):
    """p of the history's columns of theta."""


def primitive(law, p, time):
    """G(T)."""


def slopes(law, p, time):
    """Derivatives of G: in T, and in the history's columns of theta."""


def _delayed_prepare(law, beta):
    return beta[0], fast_exp(-_LN_10 * beta[1])


def _delayed_primitive(law, p, time):
    x = max(time - 1.0 + p[0], 0.0) * p[1]
    return -(1.0 + x) * fast_exp(-x)


def _delayed_slopes(law, p, time):
    x = max(time - 1.0 + p[0], 0.0) * p[1]
    rate = x * fast_exp(-x)
    return rate * p[1], rate * p[1], -_LN_10 * rate * x


@kernel(inline="always")
def _normal(z):
    """Density of the standard normal distribution."""
    return fast_exp(-0.5 * z * z) * (1.0 / math.sqrt(2.0 * math.pi))


def _lognormal_prepare(law, beta):
    ratio = beta[1] / beta[0]
    sigma = math.asinh(0.5 * ratio) / _WIDTH
    mean = math.log(beta[0]) + sigma * sigma
    return beta[0], ratio, sigma, mean, 1.0 if mean < 0.0 else 0.0


def _lognormal_primitive(law, p, time):
    # counted from the end of time if half of the stars have formed, else from the beginning
    if time <= 0.0:
        return -p[4]
    z = (math.log(time) - p[3]) / p[2]
    tail = 0.5 * math.erfc(abs(z) * math.sqrt(0.5))
    return -tail if z > 0.0 else tail - p[4]


@kernel(inline="always")
def _lognormal_by_column(p):
    """Derivatives of sigma and of the mean of ln T in the columns."""
    by_ratio = 1.0 / (_WIDTH * math.sqrt(4.0 + p[1] * p[1]))
    s_peak, s_width = -by_ratio * p[1] / p[0], by_ratio / p[0]
    return s_peak, s_width, 1.0 / p[0] + 2.0 * p[2] * s_peak, 2.0 * p[2] * s_width


def _lognormal_slopes(law, p, time):
    if time <= 0.0:
        return 0.0, 0.0, 0.0
    z = (math.log(time) - p[3]) / p[2]
    s_peak, s_width, m_peak, m_width = _lognormal_by_column(p)
    density = _normal(z) / p[2]
    return density / time, -density * (m_peak + z * s_peak), -density * (m_width + z * s_width)


# With q = (alpha + beta) ln(T / tau) and a = (beta + 1) / (alpha + beta), dG / dq = e^(a q) / (1 + e^q), whose
# denominator is expanded in powers of e^q before the peak and of e^-q after it. After the peak G counts from the end of
# time if star formation has one (a < 1), else from the peak.


def _double_prepare(law, beta):
    falling, rising, tau = fast_exp(_LN_10 * beta[0]), fast_exp(_LN_10 * beta[1]), beta[2]
    both = falling + rising
    a = (rising + 1.0) / both
    whole, by_a = _double_early(law.coefficient, a, 0.0)
    if falling > ENDS:
        sine, cosine = math.sin(math.pi * a), math.cos(math.pi * a)
        whole, by_a = math.pi / sine, -((math.pi / sine) ** 2) * cosine
    return falling, rising, tau, both, a, whole, by_a


@kernel(inline="always")
def _double_early(coefficient, a, q):
    """int_-inf^q for q <= 0, and its derivative in a."""
    power, step, total, by_a = fast_exp(a * q), fast_exp(q), 0.0, 0.0
    for k in range(len(coefficient)):
        term = coefficient[k] * power / (a + k)
        total += term
        by_a += term * (q - 1.0 / (a + k))
        power *= step
    return total, by_a


@kernel(inline="always")
def _double_late(coefficient, a, q):
    """int_0^q for q >= 0, and its derivative in a."""
    power, step, total, by_a = fast_exp((a - 1.0) * q), fast_exp(-q), 0.0, 0.0
    for k in range(len(coefficient)):
        y = a - 1.0 - k
        if abs(y * q) < 1e-3:
            u = y * q
            whole = q * (1.0 + u * (0.5 + u * (1.0 / 6.0 + u * (1.0 / 24.0))))
            slope = q * q * (0.5 + u * (1.0 / 3.0 + u * (0.125 + u * (1.0 / 30.0))))
        else:
            whole = (power - 1.0) / y
            slope = (q * power - whole) / y
        total += coefficient[k] * whole
        by_a += coefficient[k] * slope
        power *= step
    return total, by_a


@kernel(inline="always")
def _double_primitive_and_slope(coefficient, p, time):
    """G, its derivative in a, that in q, and ln(T / tau)."""
    a, ends, whole, whole_by_a = p[4], p[0] > ENDS, p[5], p[6]
    before, before_by_a = (whole, whole_by_a) if ends else (0.0, 0.0)
    if time <= 0.0:
        return -before, -before_by_a, 0.0, 0.0
    x = math.log(time / p[2])
    q = p[3] * x
    if q <= 0.0:
        formed, by_a = _double_early(coefficient, a, q)
        return formed - before, by_a - before_by_a, fast_exp(a * q) / (1.0 + fast_exp(q)), x
    rate = fast_exp((a - 1.0) * q) / (1.0 + fast_exp(-q))
    if ends:
        # int_q^inf is that of the mirrored law from -inf to -q
        left, by_mirrored = _double_early(coefficient, 1.0 - a, -q)
        return -left, by_mirrored, rate, x
    late, by_a = _double_late(coefficient, a, q)
    return whole + late, whole_by_a + by_a, rate, x


def _double_primitive(law, p, time):
    return _double_primitive_and_slope(law.coefficient, p, time)[0]


def _double_slopes(law, p, time):
    _, by_a, rate, x = _double_primitive_and_slope(law.coefficient, p, time)
    falling, rising, tau, both, a, _, _ = p
    by_falling = _LN_10 * falling * (rate * x - by_a * a / both)
    by_rising = _LN_10 * rising * (rate * x + by_a * (1.0 - a) / both)
    return (rate * both / time if time > 0.0 else 0.0), by_falling, by_rising, -rate * both / tau


_KERNELS = {
    DelayedTauLaw: (_delayed_prepare, _delayed_primitive, _delayed_slopes),
    LognormalLaw: (_lognormal_prepare, _lognormal_primitive, _lognormal_slopes),
    DoublePowerLawLaw: (_double_prepare, _double_primitive, _double_slopes),
}
PARAMETRIC = tuple(_KERNELS)


@kernel_overload(prepare)
def _prepare(law, beta):
    return _KERNELS[law.instance_class][0]


@kernel_overload(primitive)
def _primitive(law, p, time):
    return _KERNELS[law.instance_class][1]


@kernel_overload(slopes)
def _slopes(law, p, time):
    return _KERNELS[law.instance_class][2]


def parametric_masses(law, beta, t_age, edges, last, mass):
    p, total = prepare(law, beta), 0.0
    above = primitive(law, p, 1.0)
    for j in range(last + 1):
        below = primitive(law, p, 1.0 - edges[j + 1] / t_age if j < last else 0.0)
        mass[j] = max(above - below, 0.0)
        total += mass[j]
        above = below
    return total


def parametric_gradient(law, beta, t_age, edges, last, d_mass, grad):
    p, d_t_age = prepare(law, beta), 0.0
    for j in range(last + 2):
        since = edges[j] / t_age if j <= last else 1.0
        d_primitive = (d_mass[j] if j <= last else 0.0) - (d_mass[j - 1] if j > 0 else 0.0)
        slope = slopes(law, p, 1.0 - since)
        for k in range(len(beta)):
            grad[1 + k] += d_primitive * slope[1 + k]
        if j <= last:
            d_t_age += d_primitive * slope[0] * since / t_age
    return d_t_age

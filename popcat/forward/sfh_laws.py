"""Kernels of star-formation histories that move with the age of the universe: mass in time bins, and its gradient.

Each history is a named tuple, by whose type kernels are compiled. `beta` is a tuple of the history's columns of theta.
A kernel fills `mass` with what formed in the time bins 0 to `last`, the last cut at the age of the universe, in any
unit; its gradient takes dL / dmass, adds to the gradient in beta, from grad[1] on, and returns dL / dt_age.

Held to popcat.forward.sfh by tests.
"""

from typing import NamedTuple

import numpy as np
from numba import types

from popcat.forward.quadrature import fast_exp, kernel, kernel_overload
from popcat.forward.sfh import (
    FIRST_STEPS_GYR,
    LAST_STEP,
    DelayedTau,
    DoublePowerLaw,
    Fractional,
    History,
    Lognormal,
    Steps,
)
from popcat.forward.sfh_parametric import (
    PARAMETRIC,
    DelayedTauLaw,
    DoublePowerLawLaw,
    LognormalLaw,
    double_power_law,
    parametric_gradient,
    parametric_masses,
)

_FIRST, _SECOND = FIRST_STEPS_GYR


class FractionalLaw(NamedTuple):
    """Bases in lookback time over the age of the universe: in cell i, total + x (value + x slope / 2) formed so far."""

    node: np.ndarray
    total: np.ndarray
    value: np.ndarray
    slope: np.ndarray
    """(n_node - 1, n_sfh) each."""


class StepsLaw(NamedTuple):
    """Steps in lookback time."""

    by_mass: bool
    """Whether beta are fractions of the mass; else star-formation rates."""


Law = FractionalLaw | StepsLaw | DelayedTauLaw | LognormalLaw | DoublePowerLawLaw


def make_law(history: History | None) -> Law | None:
    """A history that moves as kernels read it."""
    if isinstance(history, Fractional):
        bases = history.bases
        formed = bases.cumulative_sfh(bases.lookback_gyr)[:, :-1]
        tables = formed, bases.sfh[:, :-1], np.diff(bases.sfh, axis=1) / np.diff(bases.lookback_gyr)
        return FractionalLaw(bases.lookback_gyr, *(np.ascontiguousarray(table.T) for table in tables))
    if isinstance(history, Steps):
        return StepsLaw(history.by_mass)
    if isinstance(history, DoublePowerLaw):
        return double_power_law()
    if isinstance(history, DelayedTau):
        return DelayedTauLaw()
    return LognormalLaw() if isinstance(history, Lognormal) else None


def is_law(law: types.Type, *kinds: type) -> bool:
    """Whether a law's type, as numba has it, is one of these."""
    return getattr(law, "instance_class", None) in kinds


def mixture(weights, bases):
    """sum_k weights[k] bases[k] over a tuple of weights: no loop, so that a loop around it can be vectorised."""
    return sum(w * basis for w, basis in zip(weights, bases, strict=True))


@kernel_overload(mixture)
def _mixture(weights, bases):
    if len(weights) == 1:
        return lambda weights, bases: weights[0] * bases[0]
    return lambda weights, bases: mixture(weights[:-1], bases) + weights[-1] * bases[len(weights) - 1]


def column_mixture(weights, table, j):
    """sum_k weights[k] table[k, j] over a tuple of weights."""
    return sum(w * table[k, j] for k, w in enumerate(weights))


@kernel_overload(column_mixture)
def _column_mixture(weights, table, j):
    if len(weights) == 1:
        return lambda weights, table, j: weights[0] * table[0, j]
    return lambda weights, table, j: column_mixture(weights[:-1], table, j) + weights[-1] * table[len(weights) - 1, j]


def masses(law, beta, t_age, edges, last, mass):
    """Fill mass[0] to mass[last]; return their sum."""


def masses_gradient(law, beta, t_age, edges, last, d_mass, grad):
    """Gradient of `masses`: added to grad[1:]; that in t_age is returned."""


def _fractional_masses(law, beta, t_age, edges, last, mass):
    node, i, below = law.node, 0, 0.0
    for j in range(last + 1):
        u = edges[j + 1] / t_age if j < last else 1.0
        while i < len(node) - 2 and node[i + 1] <= u:
            i += 1
        x = u - node[i]
        above = mixture(beta, law.total[i]) + x * (mixture(beta, law.value[i]) + 0.5 * x * mixture(beta, law.slope[i]))
        mass[j] = above - below
        below = above
    return below


def _fractional_gradient(law, beta, t_age, edges, last, d_mass, grad):
    node, i, d_t_age = law.node, 0, 0.0
    for j in range(last + 1):
        u, d_above = 1.0, d_mass[last]
        if j < last:
            u, d_above = edges[j + 1] / t_age, d_mass[j] - d_mass[j + 1]
        while i < len(node) - 2 and node[i + 1] <= u:
            i += 1
        x = u - node[i]
        for k in range(len(beta)):
            grad[1 + k] += d_above * (law.total[i, k] + x * (law.value[i, k] + 0.5 * x * law.slope[i, k]))
        if j < last:
            d_t_age -= d_above * (mixture(beta, law.value[i]) + x * mixture(beta, law.slope[i])) * u / t_age
    return d_t_age


@kernel(inline="always")
def _step_edge(k, n, previous, ratio, t_age):
    """Edge k > 0 of n steps, and its derivative in t_age; `previous` is edge k - 1."""
    last = LAST_STEP * t_age
    if k == n:
        return t_age, 1.0
    fixed = _FIRST if k == 1 else _SECOND
    if k <= 2 and fixed < last:
        return fixed, 0.0
    if k <= 2 or k == n - 1 or last <= _SECOND:
        return last, LAST_STEP
    edge = previous * ratio
    return edge, edge * (k - 2) / ((n - 3) * t_age)


@kernel(inline="always")
def _step_ratio(n, t_age):
    """Of the ends of the logarithmic steps."""
    return fast_exp(np.log(max(LAST_STEP * t_age / _SECOND, 1.0)) / (n - 3))


@kernel(inline="always")
def _step_rate(by_mass, weight, width):
    """Star-formation rate of a step; none in one of no width."""
    if not by_mass:
        return weight
    return weight / width if width > 0.0 else 0.0


def _steps_masses(law, beta, t_age, edges, last, mass):
    n, ratio = len(beta), _step_ratio(len(beta), t_age)
    k, total, position = 0, 0.0, 0.0
    end, _ = _step_edge(1, n, 0.0, ratio, t_age)
    rate = _step_rate(law.by_mass, beta[0], end)
    for j in range(last + 1):
        upper = edges[j + 1] if j < last else t_age
        formed = 0.0
        while k < n - 1 and end < upper:
            formed += rate * (end - position)
            position = end
            k += 1
            end, _ = _step_edge(k + 1, n, position, ratio, t_age)
            rate = _step_rate(law.by_mass, beta[k], end - position)
        formed += rate * (upper - position)
        position = upper
        mass[j] = formed
        total += formed
    return total


def _steps_gradient(law, beta, t_age, edges, last, d_mass, grad):
    n, ratio = len(beta), _step_ratio(len(beta), t_age)
    k, position, d_t_age, d_rate, start, moves = 0, 0.0, 0.0, 0.0, 0.0, 0.0
    end, end_moves = _step_edge(1, n, 0.0, ratio, t_age)
    rate = _step_rate(law.by_mass, beta[0], end)
    for j in range(last + 1):
        upper = edges[j + 1] if j < last else t_age
        while k < n - 1 and end < upper:
            d_rate += d_mass[j] * (end - position)
            d_t_age += d_mass[j] * rate * end_moves + _leave_step(law, k, rate, d_rate, end - start,
                                                                 end_moves - moves, grad)
            position, start, moves, d_rate = end, end, end_moves, 0.0
            k += 1
            end, end_moves = _step_edge(k + 1, n, start, ratio, t_age)
            rate = _step_rate(law.by_mass, beta[k], end - start)
            d_t_age -= d_mass[j] * rate * moves
        d_rate += d_mass[j] * (upper - position)
        position = upper
    return d_t_age + d_mass[last] * rate + _leave_step(law, k, rate, d_rate, end - start, end_moves - moves, grad)


@kernel(inline="always")
def _leave_step(law, k, rate, d_rate, width, widens, grad):
    """Add the gradient in the weight of step k to grad; return that in t_age through the step's width."""
    if not law.by_mass:
        grad[1 + k] += d_rate
        return 0.0
    if not width > 0.0:
        return 0.0
    grad[1 + k] += d_rate / width
    return -d_rate * rate / width * widens


_KERNELS = {
    FractionalLaw: (_fractional_masses, _fractional_gradient),
    StepsLaw: (_steps_masses, _steps_gradient),
} | dict.fromkeys(PARAMETRIC, (parametric_masses, parametric_gradient))


def _kernel_of(law, which: int):
    return _KERNELS[law.instance_class][which] if is_law(law, *_KERNELS) else None


@kernel_overload(masses)
def _masses(law, beta, t_age, edges, last, mass):
    return _kernel_of(law, 0)


@kernel_overload(masses_gradient)
def _masses_gradient(law, beta, t_age, edges, last, d_mass, grad):
    return _kernel_of(law, 1)

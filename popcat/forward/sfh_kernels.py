"""What kernels do one way for bases in lookback time, whose masses are tables, and another for histories that move.

`law` is None for the former, as in popcat.forward.lookups.Histories; `beta` is a tuple, the history's columns of theta.
For a history that moves with the age of the universe `all_formed` fills `formed`, which the others read.
"""

from numba import types

from popcat.forward.quadrature import kernel_overload
from popcat.forward.sfh_laws import column_mixture, masses, masses_gradient, mixture


def all_formed(law, beta, x, at_age, t_age, edges, last, formed):
    """Mass formed by t_age. A history that moves also fills `formed`, the mass in the time bins 0 to `last`.

    x is the position in the cosmology's tables, at_age (n, n_sfh) the integral of bases in lookback time there.
    """


@kernel_overload(all_formed)
def _all_formed(law, beta, x, at_age, t_age, edges, last, formed):
    if not isinstance(law, types.NoneType):
        return lambda law, beta, x, at_age, t_age, edges, last, formed: masses(law, beta, t_age, edges, last, formed)

    def function(law, beta, x, at_age, t_age, edges, last, formed):
        i = min(max(int(x), 0), len(at_age) - 2)
        f = x - i
        total = 0.0
        for k in range(len(beta)):
            total += beta[k] * (at_age[i, k] * (1.0 - f) + at_age[i + 1, k] * f)
        return total

    return function


def bin_formed(law, beta, by_basis, j, formed):
    """Mass formed in a whole time bin."""


@kernel_overload(bin_formed)
def _bin_formed(law, beta, by_basis, j, formed):
    if isinstance(law, types.NoneType):
        return lambda law, beta, by_basis, j, formed: column_mixture(beta, by_basis, j)
    return lambda law, beta, by_basis, j, formed: formed[j]


def cut_formed(law, beta, cumulative, last, total, formed):
    """Mass formed in the time bin that the age of the universe cuts."""


@kernel_overload(cut_formed)
def _cut_formed(law, beta, cumulative, last, total, formed):
    if isinstance(law, types.NoneType):
        return lambda law, beta, cumulative, last, total, formed: total - mixture(beta, cumulative[last])
    return lambda law, beta, cumulative, last, total, formed: formed[last]


def formed_so_far(law, beta, x, at_age, last, formed):
    """What `all_formed` returned, from the `formed` that it filled."""


@kernel_overload(formed_so_far)
def _formed_so_far(law, beta, x, at_age, last, formed):
    if isinstance(law, types.NoneType):
        return lambda law, beta, x, at_age, last, formed: all_formed(law, beta, x, at_age, 0.0, formed, last, formed)

    def function(law, beta, x, at_age, last, formed):
        total = 0.0
        for j in range(last + 1):
            total += formed[j]
        return total

    return function


def formed_by_end(law, beta, cumulative, j, below, formed):
    """Mass formed by the end of a whole time bin, `below` by its beginning."""


@kernel_overload(formed_by_end)
def _formed_by_end(law, beta, cumulative, j, below, formed):
    if isinstance(law, types.NoneType):
        return lambda law, beta, cumulative, j, below, formed: mixture(beta, cumulative[j + 1])
    return lambda law, beta, cumulative, j, below, formed: below + formed[j]


def window_masses(law, beta, t_age, windows, ends, formed):
    """Fill formed[1:] with the mass formed since each of the lookback times ends[1:], of which ends[0] is 0.

    windows (n, n_sfh) is the integral of bases in lookback time up to them.
    """


@kernel_overload(window_masses)
def _window_masses(law, beta, t_age, windows, ends, formed):
    def fixed(law, beta, t_age, windows, ends, formed):
        for w in range(len(windows)):
            formed[1 + w] = mixture(beta, windows[w])

    def moving(law, beta, t_age, windows, ends, formed):
        last = 0
        while last < len(windows) and ends[last + 1] < t_age:
            last += 1
        formed[:] = 0.0
        masses(law, beta, t_age, ends, last, formed)
        for w in range(len(windows), 0, -1):
            formed[w] = formed[w - 1]
        for w in range(1, len(windows)):
            formed[w + 1] += formed[w]

    return fixed if isinstance(law, types.NoneType) else moving


def add_bin_gradient(law, beta, d_mass, by_basis, j, d_formed, grad):
    """Take in the gradient in the mass of a whole time bin."""


@kernel_overload(add_bin_gradient)
def _add_bin_gradient(law, beta, d_mass, by_basis, j, d_formed, grad):
    def fixed(law, beta, d_mass, by_basis, j, d_formed, grad):
        for k in range(len(beta)):
            grad[1 + k] += d_mass * by_basis[k, j]

    def moving(law, beta, d_mass, by_basis, j, d_formed, grad):
        d_formed[j] = d_mass

    return fixed if isinstance(law, types.NoneType) else moving


def history_gradient(law, beta, x, h, t_age, age_slope, last, d_cut, d_all, d_formed, d_ln1pz, grad):
    """Add to grad the gradients d_cut in the mass of the cut bin and -d_all in the total; return d_ln1pz with theirs.

    age_slope is the derivative of t_age in ln(1 + z).
    """


@kernel_overload(history_gradient)
def _history_gradient(law, beta, x, h, t_age, age_slope, last, d_cut, d_all, d_formed, d_ln1pz, grad):
    def fixed(law, beta, x, h, t_age, age_slope, last, d_cut, d_all, d_formed, d_ln1pz, grad):
        at_age, cumulative = h.cumulative_at_age, h.cumulative
        per_ln1pz = (len(h.age) - 1) / h.ln1pz_max
        for k in range(len(beta)):
            grad[1 + k] -= d_cut * cumulative[last, k]
        d_total = d_cut - d_all
        i = min(max(int(x), 0), len(h.age) - 2)
        for k in range(len(beta)):
            low, high = at_age[i, k], at_age[i + 1, k]
            grad[1 + k] += d_total * (low + (high - low) * (x - i))
            d_ln1pz += d_total * beta[k] * (high - low) * per_ln1pz
        return d_ln1pz

    def moving(law, beta, x, h, t_age, age_slope, last, d_cut, d_all, d_formed, d_ln1pz, grad):
        d_formed[last] = d_cut
        for j in range(last + 1):
            d_formed[j] -= d_all
        return d_ln1pz + masses_gradient(law, beta, t_age, h.edges, last, d_formed, grad) * age_slope

    return fixed if isinstance(law, types.NoneType) else moving


def recent_rate(law, beta, sfh_line, moments, mid, formed):
    """Value and slope of the star-formation rate while gas shines: mass of `all_formed` per Gyr, and per Gyr^2.

    Of a history that moves, those of the straight line with the mass and the mean time of what formed in the bins of
    `moments` (popcat.forward.table_arrays.Moments).
    """


@kernel_overload(recent_rate)
def _recent_rate(law, beta, sfh_line, moments, mid, formed):
    def fixed(law, beta, sfh_line, moments, mid, formed):
        return mixture(beta, sfh_line[0]), mixture(beta, sfh_line[1])

    def moving(law, beta, sfh_line, moments, mid, formed):
        mass, times = 0.0, 0.0
        for j in range(moments.n_bin):
            mass += formed[j]
            times += formed[j] * mid[j]
        return moments.a * mass + moments.b * times, moments.b * mass + moments.c * times

    return fixed if isinstance(law, types.NoneType) else moving


def recent_share(law, d_gas, moments, mid, j):
    """Gradient, in the mass of time bin j, of d_gas in `recent_rate`, both before the scale."""


@kernel_overload(recent_share)
def _recent_share(law, d_gas, moments, mid, j):
    def moving(law, d_gas, moments, mid, j):
        if j >= moments.n_bin:
            return 0.0
        per_mass, per_time = moments.a * d_gas[0] + moments.b * d_gas[1], moments.b * d_gas[0] + moments.c * d_gas[1]
        return per_mass + per_time * mid[j]

    return (lambda law, d_gas, moments, mid, j: 0.0) if isinstance(law, types.NoneType) else moving


def recent_gradient(law, beta, scale, d_gas, sfh_line, grad):
    """Add to grad that of d_gas in `recent_rate`, as far as `recent_share` has none; return that in the scale."""


@kernel_overload(recent_gradient)
def _recent_gradient(law, beta, scale, d_gas, sfh_line, grad):
    def fixed(law, beta, scale, d_gas, sfh_line, grad):
        for k in range(len(beta)):
            grad[1 + k] += scale * (d_gas[0] * sfh_line[0, k] + d_gas[1] * sfh_line[1, k])
        return d_gas[0] * mixture(beta, sfh_line[0]) + d_gas[1] * mixture(beta, sfh_line[1])

    return fixed if isinstance(law, types.NoneType) else (lambda law, beta, scale, d_gas, sfh_line, grad: 0.0)

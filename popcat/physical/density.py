"""ln of the physical prior over a galaxy model's own, from tables: the kernel."""

from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from popcat.forward.quadrature import fast_exp, fast_log, kernel
from popcat.physical.laws import (
    QUENCHED_BELOW,
    QUENCHED_EDGE,
    QUENCHED_FROM,
    QUENCHED_WIDTH,
    SIGMA_AGE,
    SIGMA_SEQUENCE,
    TAU_QUENCHED,
)

FLOOR = 0.03
"""The part of each factor that is the model's own prior; not of the mass, whose law has a tail of its own."""
N_FACTORS, N_LAWS = 7, 10
_ROOT_2_PI = float(np.sqrt(2.0 * np.pi))
_TOP = QUENCHED_FROM + QUENCHED_WIDTH


Values = TypeVar("Values")
"""Arrays, or torch's tensors."""


class Known(NamedTuple, Generic[Values]):
    """All that the factors are about but the mass, each (n,)."""

    ln1pz: Values
    log_survived: Values
    s: Values
    a: Values
    z: Values
    tau_ism: Values
    tau_bc: Values
    n_dust: Values


class Factors(NamedTuple):
    """Tables at equidistant nodes. Densities of the model's own prior hold what keeps weights bounded (`q_0`).

    has : (N_FACTORS,) 1 for each quantity that has a factor.
    laws : (n_z, n_mass, N_LAWS) by surviving mass: density of the mass; sequence; the parts of galaxies on it and
        quenched, each over its c of s; mean of a; mean and width of Z; scale and c of tau_ism where stars form.
    of_formed : (n,) the model's own density of the mass formed.
    of_s (n_z, n_s), of_a (n_z, n_given, n_a), of_z (n_z, n_given, n_Z) : of the model's own prior.
    c_a, c_z : (n_z, n_given, n_mass).
    of_tau : (n_tau,). c_quenched : c of tau_ism of quenched galaxies.
    clouds, slope : (n_tau, n) the factors of tau_bc and n_dust.
    norm : (n_z, n_mass) one over the mean of R at that surviving mass.
    """

    has: np.ndarray
    z_low: float
    z_high: float
    mass_low: float
    mass_high: float
    formed_low: float
    formed_high: float
    of_formed: np.ndarray
    laws: np.ndarray
    s_low: float
    s_high: float
    of_s: np.ndarray
    given_s: int
    of_a: np.ndarray
    c_a: np.ndarray
    z_metal_low: float
    z_metal_high: float
    of_z: np.ndarray
    c_z: np.ndarray
    tau_low: float
    tau_high: float
    of_tau: np.ndarray
    c_quenched: float
    clouds_low: float
    clouds_high: float
    clouds: np.ndarray
    slope_low: float
    slope_high: float
    slope: np.ndarray
    norm: np.ndarray


def pack(factors: Factors) -> np.ndarray:
    """All tables as one array: of each its number of axes, their lengths, and its values."""
    parts = [np.asarray(one, dtype=float) for one in factors]
    return np.concatenate([np.concatenate([[one.ndim], one.shape, one.ravel()]) for one in parts])


def unpack(packed: np.ndarray) -> Factors:
    """The inverse of `pack`."""
    found: list[Any] = []
    at = 0
    for _ in Factors._fields:
        n_axis = int(packed[at])
        shape = tuple(packed[at + 1 : at + 1 + n_axis].astype(int))
        at += 1 + n_axis
        values = packed[at : at + int(np.prod(shape))].reshape(shape)
        at += values.size
        found.append(np.array(values) if n_axis else float(values))
    factors = Factors(*found)
    return factors._replace(has=factors.has.astype(np.int64), given_s=int(factors.given_s))


@kernel(inline="always")
def _place(x, low, high, n):
    """Node below, and fraction of a step, of n equidistant nodes."""
    at = min(max((x - low) / (high - low) * (n - 1), 0.0), n - 1 - 1e-9)
    return int(at), at - int(at)


@kernel(inline="always")
def _linear(table, i, f):
    return table[i] * (1.0 - f) + table[i + 1] * f


@kernel(inline="always")
def _bilinear(table, i, f, j, g):
    return (table[i, j] * (1.0 - g) + table[i, j + 1] * g) * (1.0 - f) + (
        table[i + 1, j] * (1.0 - g) + table[i + 1, j + 1] * g
    ) * f


@kernel(inline="always")
def _trilinear(table, i, f, j, g, k, h):
    low = (table[i, j, k] * (1.0 - h) + table[i, j, k + 1] * h) * (1.0 - g) + (
        table[i, j + 1, k] * (1.0 - h) + table[i, j + 1, k + 1] * h
    ) * g
    high = (table[i + 1, j, k] * (1.0 - h) + table[i + 1, j, k + 1] * h) * (1.0 - g) + (
        table[i + 1, j + 1, k] * (1.0 - h) + table[i + 1, j + 1, k + 1] * h
    ) * g
    return low * (1.0 - f) + high * f


@kernel(inline="always")
def _normal(x, mean, sigma):
    return fast_exp(-0.5 * ((x - mean) / sigma) ** 2) / (sigma * _ROOT_2_PI)


@kernel(inline="always")
def _quenched(s, sequence):
    """Of the specific star-formation rate of quenched galaxies: uniform up to below the sequence."""
    top = max(sequence - QUENCHED_BELOW, _TOP)
    return 1.0 / ((top - QUENCHED_FROM) * (1.0 + fast_exp(min((s - top) / QUENCHED_EDGE, 300.0))))


@kernel(inline="always")
def _forming(s, sequence):
    """Of that of galaxies on the sequence."""
    return _normal(s, sequence, SIGMA_SEQUENCE)


def specific_rates(s: np.ndarray, sequence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Densities at s (n_s,) of galaxies on such a sequence (n_mass,) and of quenched ones, (n_mass, n_s) each."""
    out = np.empty((2, len(sequence), len(s)))
    _fill(s, sequence, *out)
    return out[0], out[1]


@kernel()
def _fill(s, sequence, forming, quenched):
    for i in range(len(sequence)):
        for j in range(len(s)):
            forming[i, j], quenched[i, j] = _forming(s[j], sequence[i]), _quenched(s[j], sequence[i])


@kernel()
def log_ratio_kernel(t, known, log_mass, out):
    """ln R (n, k) of masses formed (n, k)."""
    n_z, n_mass = t.laws.shape[0], t.laws.shape[1]
    weight = 1.0 - FLOOR
    for n in range(log_mass.shape[0]):
        i, f = _place(known.ln1pz[n], t.z_low, t.z_high, n_z)
        s, a, z, tau = known.s[n], known.a[n], known.z[n], known.tau_ism[n]
        js, gs = _place(s, t.s_low, t.s_high, t.of_s.shape[1])
        of_s = _bilinear(t.of_s, i, f, js, gs)
        jg, gg = _place(s, t.s_low, t.s_high, t.given_s)
        ja, ga = _place(a, 0.0, 1.0, t.of_a.shape[2])
        of_a = _trilinear(t.of_a, i, f, jg, gg, ja, ga)
        jn, gn = _place(a, 0.0, 1.0, t.of_z.shape[1])
        jz, gz = _place(z, t.z_metal_low, t.z_metal_high, t.of_z.shape[2])
        of_z = _trilinear(t.of_z, i, f, jn, gn, jz, gz)
        jt, gt = _place(tau, t.tau_low, t.tau_high, t.of_tau.shape[0])
        of_tau = _linear(t.of_tau, jt, gt)
        tau_quenched = fast_exp(-tau / TAU_QUENCHED) / (of_tau * t.c_quenched)
        fixed = 1.0
        if t.has[5]:
            jc, gc = _place(known.tau_bc[n], t.clouds_low, t.clouds_high, t.clouds.shape[1])
            fixed *= weight * _bilinear(t.clouds, jt, gt, jc, gc) + FLOOR
        if t.has[6]:
            jc, gc = _place(known.n_dust[n], t.slope_low, t.slope_high, t.slope.shape[1])
            fixed *= weight * _bilinear(t.slope, jt, gt, jc, gc) + FLOOR
        for k in range(log_mass.shape[1]):
            if k > 0 and log_mass[n, k] == log_mass[n, k - 1]:
                out[n, k] = out[n, k - 1]
                continue
            j, g = _place(log_mass[n, k] + known.log_survived[n], t.mass_low, t.mass_high, n_mass)
            w00, w01, w10, w11 = (1.0 - f) * (1.0 - g), (1.0 - f) * g, f * (1.0 - g), f * g
            low, high = t.laws[i], t.laws[i + 1]
            value = fixed * _bilinear(t.norm, i, f, j, g)
            if t.has[0]:
                jf, gf = _place(log_mass[n, k], t.formed_low, t.formed_high, t.of_formed.shape[0])
                density = w00 * low[j, 0] + w01 * low[j + 1, 0] + w10 * high[j, 0] + w11 * high[j + 1, 0]
                value *= density / _linear(t.of_formed, jf, gf)
            sequence = w00 * low[j, 1] + w01 * low[j + 1, 1] + w10 * high[j, 1] + w11 * high[j + 1, 1]
            on = w00 * low[j, 2] + w01 * low[j + 1, 2] + w10 * high[j, 2] + w11 * high[j + 1, 2]
            off = w00 * low[j, 3] + w01 * low[j + 1, 3] + w10 * high[j, 3] + w11 * high[j + 1, 3]
            forming, quenched = on * _forming(s, sequence), off * _quenched(s, sequence)
            if t.has[1]:
                value *= weight * (forming + quenched) / of_s + FLOOR
            if t.has[2]:
                mean = w00 * low[j, 4] + w01 * low[j + 1, 4] + w10 * high[j, 4] + w11 * high[j + 1, 4]
                c = _trilinear(t.c_a, i, f, jg, gg, j, g)
                value *= weight * _normal(a, mean, SIGMA_AGE) / (of_a * c) + FLOOR
            if t.has[3]:
                mean = w00 * low[j, 5] + w01 * low[j + 1, 5] + w10 * high[j, 5] + w11 * high[j + 1, 5]
                sigma = w00 * low[j, 6] + w01 * low[j + 1, 6] + w10 * high[j, 6] + w11 * high[j + 1, 6]
                value *= weight * _normal(z, mean, sigma) / (of_z * _trilinear(t.c_z, i, f, jn, gn, j, g)) + FLOOR
            if t.has[4]:
                scale = w00 * low[j, 7] + w01 * low[j + 1, 7] + w10 * high[j, 7] + w11 * high[j + 1, 7]
                c = w00 * low[j, 8] + w01 * low[j + 1, 8] + w10 * high[j, 8] + w11 * high[j + 1, 8]
                of_forming = tau * fast_exp(-tau / scale) / (of_tau * c)
                chance = forming / (forming + quenched + 1e-300)
                value *= weight * (chance * of_forming + (1.0 - chance) * tau_quenched) + FLOOR
            out[n, k] = fast_log(max(value, 1e-300))

"""Tables of the physical prior's factors, with the constants that make each 1 in the mean over the model's own prior.

The constants are means over the draws themselves, not over the smoothed densities that factors are divided by:
smoothing widens the steep ends of a density, which draws do not share.
"""

import numpy as np

from popcat.forward.cosmology import CosmologyTable
from popcat.galaxy_model import LAW_PARAMETERS
from popcat.physical import laws
from popcat.physical.density import N_LAWS, Factors, specific_rates
from popcat.physical.induced import Axis, Induced, density_of
from popcat.prior import MASS, Prior

_STEP_MASS = 0.05
_BELOW = 0.6
"""The surviving mass is at most this many dex below the mass formed."""
_BOUND = 0.05
"""q_0 over the mean density in the range."""
_BOUND_S = 0.005
"""q_0 of s, per dex: of it the model's own prior may have few where the sequence is, or where galaxies are quenched."""
_LEAST = 0.05
"""Less than this part of a law of s within reach of the model's own prior counts as this part: a few draws do not stand
for all galaxies that are quenched, or all that are not."""
_N_FORMED, _N_TAU, _N_OTHER, _N_FINE = 221, 61, 61, 1201


def make_factors(prior: Prior, dust_law: str, induced: Induced, cosmology: CosmologyTable) -> Factors:
    """All but the mean of R, which is 1 here."""
    low, high = _ends(prior, MASS)
    formed = Axis(low, high, _N_FORMED)
    mass = Axis(low - _BELOW, high, int(np.ceil((high - low + _BELOW) / _STEP_MASS)) + 1)
    redshifts = np.expm1(induced.redshift.nodes)
    of_s = density_of(induced.s, induced.count_s) + _BOUND_S
    of_a = density_of(induced.a, induced.count_a) + _BOUND
    of_z = density_of(induced.z, induced.count_z) + _BOUND / (induced.z.high - induced.z.low)
    tables = np.zeros((len(redshifts), mass.n, N_LAWS))
    c_a = np.zeros((len(redshifts), induced.given_s.n, mass.n))
    c_z = np.zeros((len(redshifts), induced.given_a.n, mass.n))
    tau = Axis(*_ends(prior, "tau_ism"), _N_TAU)
    of_tau, fine = _own(prior, "tau_ism", tau), Axis(tau.low, tau.high, _N_FINE)
    for k, z in enumerate(redshifts):
        at, m = tables[k], mass.nodes
        at[:, 0] = _mass_density(prior, mass, z, induced.draws[k].log_survived)
        t_age = float(cosmology.age(z))
        at[:, 1] = laws.star_forming_sequence(m, t_age)
        quenched, ratio = laws.quenched_fraction(m, z), induced.count_s[k] / of_s[k]
        c_forming, c_quenched = (np.maximum(one @ ratio, _LEAST) for one in specific_rates(induced.s.nodes, at[:, 1]))
        at[:, 2], at[:, 3] = (1.0 - quenched) / c_forming, quenched / c_quenched
        at[:, 4] = laws.age_fraction(m, t_age, cosmology)
        at[:, 5], at[:, 6] = laws.metallicity(m)
        at[:, 7] = 0.5 * laws.tau_forming(m)
        at[:, 8] = [(fine.nodes * np.exp(-fine.nodes / scale)) @ fine.widths for scale in at[:, 7]]
        c_a[k] = _constants(induced.count_a[k] / of_a[k], induced.a, at[:, 4], np.full(mass.n, laws.SIGMA_AGE))
        c_z[k] = _constants(induced.count_z[k] / of_z[k], induced.z, at[:, 5], at[:, 6])
    clouds, slope = Axis(*_ends(prior, "tau_bc"), _N_OTHER), Axis(*_ends(prior, "n_dust"), _N_OTHER)
    has_slope = "n_dust" in LAW_PARAMETERS[dust_law] and "n_dust" in prior.laws
    steep, sigma = laws.slope(tau.nodes, dust_law) if has_slope else (np.zeros(tau.n), 1.0)
    given = prior.tied["tau_ism"].to if "tau_ism" in prior.tied else ""  # which has no law given tau_ism then
    has = [MASS in prior.laws, *induced.is_free.values(), "tau_ism" in prior.laws,
           "tau_bc" in prior.laws and given != "tau_bc", has_slope and given != "n_dust"]  # fmt: skip
    return Factors(
        has=np.array(has, dtype=np.int64), z_low=induced.redshift.low, z_high=induced.redshift.high,
        mass_low=mass.low, mass_high=mass.high, formed_low=low, formed_high=high,
        of_formed=_own(prior, MASS, formed), laws=tables,
        s_low=induced.s.low, s_high=induced.s.high, of_s=of_s, given_s=induced.given_s.n, of_a=of_a, c_a=c_a,
        z_metal_low=induced.z.low, z_metal_high=induced.z.high, of_z=of_z, c_z=c_z,
        tau_low=tau.low, tau_high=tau.high, of_tau=of_tau,
        c_quenched=float(np.exp(-fine.nodes / laws.TAU_QUENCHED) @ fine.widths),
        clouds_low=clouds.low, clouds_high=clouds.high,
        clouds=_rows(prior, "tau_bc", clouds, tau.nodes, laws.clouds_width(tau.nodes)),
        slope_low=slope.low, slope_high=slope.high,
        slope=_rows(prior, "n_dust", slope, steep, np.full(tau.n, sigma)),
        norm=np.ones((len(redshifts), mass.n)),
    )  # fmt: skip


def _mass_density(prior: Prior, mass: Axis, redshift: float, log_survived: np.ndarray) -> np.ndarray:
    """At the nodes of the surviving mass, normalised over all within the range of the mass formed."""
    if MASS not in prior.laws:
        return np.ones(mass.n)
    low, high = prior.bounds(MASS)
    wanted = laws.log_mass_function(mass.nodes, redshift)
    wanted = np.exp(wanted - wanted.max())
    below = np.concatenate([[0.0], np.cumsum(0.5 * mass.step * (wanted[1:] + wanted[:-1]))])
    inside = np.interp(high + log_survived, mass.nodes, below) - np.interp(low + log_survived, mass.nodes, below)
    return wanted / inside.mean()


def _constants(ratio: np.ndarray, axis: Axis, mean: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """c (n_given, n_mass) of a normal law whose mean and width depend on the mass.

    ratio (n_given, n) is the part of the draws at each node over the density there.
    """
    x = (axis.nodes - mean[:, None]) / sigma[:, None]
    return ratio @ (np.exp(-0.5 * x**2) / (sigma[:, None] * np.sqrt(2.0 * np.pi))).T


def _ends(prior: Prior, name: str) -> tuple[float, float]:
    low, high = prior.bounds(name) if name in prior.names else (0.0, 1.0)
    return (low, high) if high > low else (low, low + 1.0)


def _own(prior: Prior, name: str, axis: Axis) -> np.ndarray:
    """The model's own density of a parameter at the nodes: 1 where it is not free; nowhere 0."""
    if name not in prior.laws:
        return np.ones(axis.n)
    return np.exp(prior.laws[name].log_density(axis.nodes)) + 1e-6 / (axis.high - axis.low)


def _rows(prior: Prior, name: str, axis: Axis, mean: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """A normal law over the model's own density, (n_tau, n), 1 in the mean of each row; mean and width are (n_tau,)."""
    own = _own(prior, name, axis)
    law = np.exp(-0.5 * ((axis.nodes - mean[:, None]) / sigma[:, None]) ** 2)
    return law / ((law @ axis.widths)[:, None] * own)

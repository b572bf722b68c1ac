"""The fast path: theta, z -> band fluxes from band tables, about a microsecond a galaxy.

flux_b = M (10 pc / d_L)^2 / (1 + z) sum_k a_ism(w_k) [old_k + exp(-tau_bc 5500 / w_k) young_k], with old_k and young_k
the table's light of the stars outside and inside birth clouds. Held to popcat.sps.spectrum by tests.
"""

from typing import NamedTuple

import numba
import numpy as np

from popcat.errors import PopcatError
from popcat.settings import Model, Survey
from popcat.sps.dust import (
    BUMP_CENTRE_AA,
    BUMP_WIDTH_AA,
    STEP_HIGH_AA,
    bump,
    calzetti_smooth,
)
from popcat.sps.model import GalaxyModel
from popcat.sps.tables import STEP_NODES_AA, BandTables, load_tables

N_THETA = 12
_RV = 4.05


class Histories(NamedTuple):
    """What kernels need of bases, bins, cosmology and metallicity grid (all float64, C order)."""

    edges: np.ndarray
    cumulative: np.ndarray
    """(n_edge, n_sfh): int_0^edge of each SFH basis."""
    zh_mid: np.ndarray
    """(n_bin, n_zh): metallicity bases at the bins' midpoints."""
    zh_time: np.ndarray
    zh_value: np.ndarray
    n_young: int
    birth_cloud_age: float
    ln_z: np.ndarray
    ln1pz_max: float
    age: np.ndarray
    dist_ratio_mpc: np.ndarray
    """d_L / ln(1 + z) at the cosmology's redshift nodes."""
    cumulative_at_age: np.ndarray
    """(n_cosmology, n_sfh): int_0^t_age of each SFH basis at the cosmology's redshift nodes."""


class _Tables(NamedTuple):
    ln1pz0: float
    step: float
    light: np.ndarray
    burst: np.ndarray
    burst_ln_age: np.ndarray
    first_cut: int
    ln_node: np.ndarray
    node_band: np.ndarray
    step_band: np.ndarray
    ln_step: np.ndarray
    step_curve: np.ndarray
    """(n_step_node, 2): smooth diffuse curve and bump at the step's nodes."""


def make_histories(model: GalaxyModel) -> Histories:
    """Arrays for the kernels from a galaxy model."""
    edges, bases, cosmology = model.bins.edges_gyr, model.bases, model.cosmology
    mid = model.bins.mid_gyr
    return Histories(
        edges=edges,
        cumulative=np.ascontiguousarray(bases.cumulative_sfh(edges).T),
        zh_mid=np.stack([np.interp(mid, bases.lookback_gyr, z) for z in bases.zh], axis=1),
        zh_time=bases.lookback_gyr,
        zh_value=np.ascontiguousarray(bases.zh.T),
        n_young=model.bins.n_young,
        birth_cloud_age=model.birth_cloud_age_gyr,
        ln_z=model.grid.log_z_abs * np.log(10.0),
        ln1pz_max=cosmology.ln1pz_max,
        age=cosmology.age_gyr,
        dist_ratio_mpc=cosmology.dist_ratio_mpc,
        cumulative_at_age=np.ascontiguousarray(bases.cumulative_sfh(cosmology.age_gyr).T),
    )


def _kernel_tables(tables: BandTables) -> _Tables:
    nodes = STEP_NODES_AA
    return _Tables(
        ln1pz0=float(tables.ln1pz[0]),
        step=float(tables.ln1pz[1] - tables.ln1pz[0]),
        light=tables.light,
        burst=tables.burst,
        burst_ln_age=tables.burst_ln_age,
        first_cut=tables.first_cut,
        ln_node=np.log(tables.node_aa),
        node_band=tables.node_band,
        step_band=tables.step_band,
        ln_step=np.log(nodes),
        step_curve=np.stack([calzetti_smooth(nodes), bump(nodes)], axis=1),
    )


class Photometry:
    """Band fluxes of one survey under one galaxy model.

    >>> from popcat.settings import Model, load_survey
    >>> photometry = Photometry(load_survey("sdss"), Model())
    >>> theta = np.array([[10.5, 0.25, 0.25, 0.25, 0.25, 0.1, 1.0, -2.0, -2.0, 0.5, 0.3, -0.5]])
    >>> photometry.flux(theta, np.array([0.1])).shape
    (1, 5)
    """

    def __init__(self, survey: Survey, settings: Model):
        self.tables, self.model = load_tables(survey, settings)
        self.survey = survey
        self.histories = make_histories(self.model)
        self._kernel_tables = _kernel_tables(self.tables)

    def flux(self, theta: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """Fluxes in nMgy, (n, n_band) float64, of theta (n, 12) at redshift (n,).

        Raises PopcatError if a redshift is outside the survey's range or the shapes disagree.
        """
        theta, redshift = check_theta(theta, redshift, self.survey.redshift_range)
        order = np.argsort(redshift, kind="stable")
        out = np.zeros((len(theta), self.tables.n_band))
        _flux_kernel(theta, redshift, order, self.histories, self._kernel_tables, out)
        return out


def check_theta(theta, redshift, z_range) -> tuple[np.ndarray, np.ndarray]:
    """theta and redshift as contiguous float64 arrays; PopcatError says what is wrong with them."""
    theta = np.ascontiguousarray(theta, dtype=np.float64)
    redshift = np.ascontiguousarray(redshift, dtype=np.float64)
    if theta.ndim != 2 or theta.shape[1] != N_THETA or redshift.shape != theta.shape[:1]:
        raise PopcatError(f"expected theta (n, {N_THETA}) and redshift (n,), got {theta.shape} and {redshift.shape}")
    outside = ~((redshift >= z_range[0]) & (redshift <= z_range[1]))
    if outside.any():
        raise PopcatError(f"{outside.sum()} redshifts outside the survey's range {z_range[0]:g} to {z_range[1]:g}, "
                          f"the first {redshift[outside][0]:g}")
    return theta, redshift


@numba.njit(nogil=True, cache=True, inline="always")
def lookup(x, table):
    """Linear interpolation in a table with unit spacing from 0."""
    i = min(max(int(x), 0), len(table) - 2)
    f = x - i
    return table[i] * (1.0 - f) + table[i + 1] * f


@numba.njit(nogil=True, cache=True, inline="always")
def time_metallicity(gamma1, gamma2, zh_time, zh_value, t):
    """sum_k gamma_k z_k(t)."""
    i = min(max(np.searchsorted(zh_time, t, side="right") - 1, 0), len(zh_time) - 2)
    f = (t - zh_time[i]) / (zh_time[i + 1] - zh_time[i])
    low = gamma1 * zh_value[i, 0] + gamma2 * zh_value[i, 1]
    high = gamma1 * zh_value[i + 1, 0] + gamma2 * zh_value[i + 1, 1]
    return low * (1.0 - f) + high * f


@numba.njit(nogil=True, cache=True, inline="always")
def clip_ln_z(z, ln_z):
    """ln z within the grid's range."""
    if z <= 0.0:
        return ln_z[0]
    return min(max(np.log(z), ln_z[0]), ln_z[-1])


@numba.njit(nogil=True, cache=True, inline="always")
def cell(x, nodes):
    """Index and fraction of x between ascending nodes."""
    i = 0
    while i < len(nodes) - 2 and nodes[i + 1] <= x:
        i += 1
    return i, (x - nodes[i]) / (nodes[i + 1] - nodes[i])


# Unsigned indices: a signed one may be negative, which numba wraps around, and that keeps loops from being vectorised.
_U = np.uint64


@numba.njit(nogil=True, cache=True, inline="always")
def _add_light(target, table, iz, fz, iq, fq, row, mass):
    """Add mass times the table's row, linear in redshift and in ln Z."""
    a = np.float32(mass * (1.0 - fz) * (1.0 - fq))
    b = np.float32(mass * (1.0 - fz) * fq)
    c = np.float32(mass * fz * (1.0 - fq))
    d = np.float32(mass * fz * fq)
    z0, q0, r = _U(iz), _U(iq), _U(row)
    z1, q1 = z0 + _U(1), q0 + _U(1)
    for k in range(_U(target.shape[0])):
        near = a * table[z0, q0, r, k] + b * table[z0, q1, r, k]
        target[k] += near + (c * table[z1, q0, r, k] + d * table[z1, q1, r, k])


@numba.njit(nogil=True, cache=True)
def _diffuse(wave, e_bump):
    """Smooth diffuse curve without its tilt: calzetti_smooth + E_b bump (popcat.sps.dust)."""
    x = 1e4 / wave
    if wave <= STEP_HIGH_AA:
        k = 1.17 * (-2.156 + x * (1.509 + x * (-0.198 + x * 0.011))) + 1.78
    else:
        k = 1.17 * (-1.857 + 1.04 * x) + 1.78
    k = max(k / (0.44 * _RV), 0.0)
    width = (BUMP_WIDTH_AA * wave) ** 2
    return k + e_bump * width / ((wave**2 - BUMP_CENTRE_AA**2) ** 2 + width) / _RV


@numba.njit(nogil=True, cache=True)
def _gather(theta, ln1pz, h, t, old, young):
    """Light of one galaxy in every column, per Msun formed: old and young are overwritten."""
    old[:] = 0.0
    young[:] = 0.0
    x = (ln1pz - t.ln1pz0) / t.step
    iz = min(max(int(x), 0), t.light.shape[0] - 2)
    fz = x - iz
    xc = ln1pz / h.ln1pz_max * (len(h.age) - 1)
    t_age = lookup(xc, h.age)
    edges, cumulative, at_age, ln_z_nodes = h.edges, h.cumulative, h.cumulative_at_age, h.ln_z
    zh_mid, zh_time, zh_value, n_young = h.zh_mid, h.zh_time, h.zh_value, h.n_young
    light = t.light
    b1, b2, b3, b4 = theta[1], theta[2], theta[3], theta[4]
    g1, g2 = 10.0 ** theta[7], 10.0 ** theta[8]
    t_burst = theta[6]
    f_burst = theta[5] if t_burst <= t_age else 0.0
    ic = min(max(int(xc), 0), at_age.shape[0] - 2)
    fc = xc - ic
    low = b1 * at_age[ic, 0] + b2 * at_age[ic, 1] + b3 * at_age[ic, 2] + b4 * at_age[ic, 3]
    ic += 1
    high = b1 * at_age[ic, 0] + b2 * at_age[ic, 1] + b3 * at_age[ic, 2] + b4 * at_age[ic, 3]
    total = low * (1.0 - fc) + high * fc
    scale = (1.0 - f_burst) / total
    below = 0.0
    last = 0
    while edges[last + 1] < t_age:
        last += 1
    for j in range(last):
        k = j + 1
        above = b1 * cumulative[k, 0] + b2 * cumulative[k, 1] + b3 * cumulative[k, 2] + b4 * cumulative[k, 3]
        ln_z = clip_ln_z(g1 * zh_mid[j, 0] + g2 * zh_mid[j, 1], ln_z_nodes)
        iq, fq = cell(ln_z, ln_z_nodes)
        if j < n_young:
            _add_light(young, light, iz, fz, iq, fq, j, scale * (above - below))
        else:
            _add_light(old, light, iz, fz, iq, fq, j, scale * (above - below))
        below = above
    mid = 0.5 * (edges[last] + t_age)
    iq, fq = cell(clip_ln_z(time_metallicity(g1, g2, zh_time, zh_value, mid), ln_z_nodes), ln_z_nodes)
    cut_row = light.shape[2] - (light.shape[2] - t.first_cut + 1) // 2 + last - t.first_cut
    _add_light(old, light, iz, fz, iq, fq, cut_row, scale * (total - below))
    if f_burst > 0.0:
        iq, fq = cell(clip_ln_z(time_metallicity(g1, g2, zh_time, zh_value, t_burst), ln_z_nodes), ln_z_nodes)
        ages = t.burst_ln_age
        ln_t = min(max(np.log(t_burst), ages[0]), ages[-1])
        ia = min(max(np.searchsorted(ages, ln_t, side="right") - 1, 0), len(ages) - 2)
        fa = (ln_t - ages[ia]) / (ages[ia + 1] - ages[ia])
        target = young if t_burst < h.birth_cloud_age else old
        _add_light(target, t.burst, iz, fz, iq, fq, ia, f_burst * (1.0 - fa))
        _add_light(target, t.burst, iz, fz, iq, fq, ia + 1, f_burst * fa)


@numba.njit(nogil=True, cache=True)
def _attenuate(theta, ln1pz, t, old, young, flux):
    """Sum the columns into bands through the dust; flux is overwritten."""
    flux[:] = 0.0
    tau_bc, tau_ism, n_dust = theta[9], theta[10], theta[11]
    e_bump = 0.85 - 1.9 * n_dust
    for k in range(len(t.ln_node)):
        ln_w = t.ln_node[k] - ln1pz
        wave = np.exp(ln_w)
        tau = tau_ism * _diffuse(wave, e_bump) * np.exp(n_dust * (ln_w - _LN_5500))
        flux[t.node_band[k]] += np.exp(-tau) * (old[k] + np.exp(-tau_bc * 5500.0 / wave) * young[k])
    first = len(t.ln_node)
    n = len(t.ln_step)
    for m in range(n):
        tilt = np.exp(n_dust * (t.ln_step[m] - _LN_5500))
        seen = np.exp(-tau_ism * tilt * (t.step_curve[m, 0] + e_bump * t.step_curve[m, 1]))
        clouds = np.exp(-tau_bc * 5500.0 / np.exp(t.ln_step[m]))
        for s in range(len(t.step_band)):
            c = first + s * n + m
            flux[t.step_band[s]] -= tau_ism * tilt * seen * (old[c] + clouds * young[c])


_LN_5500 = np.log(5500.0)


@numba.njit(nogil=True, cache=True)
def _flux_kernel(theta, redshift, order, h, t, out):
    """Fluxes in nMgy for all rows, visited in ascending redshift so that the tables stay in cache."""
    old = np.zeros(t.light.shape[3], dtype=np.float32)
    young = np.zeros(t.light.shape[3], dtype=np.float32)
    for i in order:
        ln1pz = np.log1p(redshift[i])
        _gather(theta[i], ln1pz, h, t, old, young)
        _attenuate(theta[i], ln1pz, t, old, young, out[i])
        dist_mpc = ln1pz * lookup(ln1pz / h.ln1pz_max * (len(h.age) - 1), h.dist_ratio_mpc)
        factor = 10.0 ** theta[i, 0] * (1e-5 / dist_mpc) ** 2 / (1.0 + redshift[i])
        for b in range(out.shape[1]):
            out[i, b] *= factor
